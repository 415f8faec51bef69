"""Other runs of the same store that are at work: what one of them computes, this run waits for.

Of two runs the one that began to work first computes what both want; the other waits until the result is there, or
until that run has given up on it. Nothing is written per task, so a task costs nothing, and a run that dies holds up
nobody.

Who was first is told as in Lamport's bakery (Communications of the ACM 17 (1974) 453): a run makes itself visible by
its lock, writes its plan and what it will try again, notes the time on the lock, and only then looks for others. If
it finds one that has not noted its time yet, it waits until that one has. So of two runs that start at the same
moment the later one always sees the earlier one. Where the clocks of hosts differ so much that each of two runs takes
itself for the first, both compute: that costs time, never a wrong result.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from socm_like.errors import StoreError
from socm_like.journal import TaskState, read_events_from
from socm_like.store import Holder, RunDirectory, read_holder

LOOK = 0.5
"""Seconds between two looks at the neighbours."""
PATIENCE = 5.0
"""Longest wait in seconds for runs that are just starting; whoever takes longer is not waited for later either."""


@dataclass
class _Neighbour:
    run: RunDirectory
    holder: Holder
    wanted: dict[str, set[str]]
    """Identity -> the tasks of that run with it that have not ended."""
    identities: dict[str, str]
    """Task -> identity."""
    position: int = 0
    """Bytes of its journal that have been read."""

    def is_worth_waiting_for(self) -> bool:
        """Read the news of its journal; return whether the same process still works on the run."""
        if _holder(self.run) != self.holder:
            return False
        try:
            self._catch_up()
        except StoreError:  # nobody can tell what it does
            return False
        return True

    def _catch_up(self) -> None:
        events, self.position = read_events_from(self.run.journal, self.position)
        for event in events:
            identity = self.identities.get(event.task)
            if identity is None:
                continue
            if event.state.is_final:
                self.wanted[identity].discard(event.task)
            elif event.state is TaskState.PLANNED:  # it is tried again
                self.wanted[identity].add(event.task)


@dataclass
class Neighbours:
    """The runs that were at work in this store before this one."""

    run: RunDirectory
    mine: Holder
    _neighbours: list[_Neighbour] = field(default_factory=list)
    _looked: float = 0.0

    def __post_init__(self) -> None:
        deadline = time.monotonic() + PATIENCE
        for run in _held_runs(self.run):
            holder = _holder(run)
            while holder is not None and holder.since == 0 and time.monotonic() < deadline:
                time.sleep(0.005)
                holder = _holder(run)
            if holder is None or holder.since == 0 or not holder.is_before(self.mine):
                continue
            try:
                identities = {task["name"]: task["id"] for task in run.read_plan()["tasks"]}
            except (StoreError, LookupError, TypeError):  # it is damaged; it cannot be waited for
                continue
            wanted: dict[str, set[str]] = {}
            for name, identity in identities.items():
                wanted.setdefault(identity, set()).add(name)
            self._neighbours.append(_Neighbour(run, holder, wanted, identities))
        self._look()

    def computes(self, identity: str) -> str:
        """Return the run that computes this now or soon, or an empty string."""
        if time.monotonic() - self._looked >= LOOK:
            self._look()
        found = (neighbour.run.name for neighbour in self._neighbours if neighbour.wanted.get(identity))
        return next(found, "")

    def _look(self) -> None:
        self._looked = time.monotonic()
        self._neighbours = [neighbour for neighbour in self._neighbours if neighbour.is_worth_waiting_for()]


def _held_runs(mine: RunDirectory) -> list[RunDirectory]:
    """Return the other runs of the store that have a lock; one that is just starting has no plan yet."""
    folders = mine.path.parent.iterdir()
    return [run for run in map(RunDirectory, folders) if run.name != mine.name and run.lock.exists()]


def _holder(run: RunDirectory) -> Holder | None:
    """Return the live process that works on a run; one whose lock is damaged is nobody's to wait for."""
    try:
        return read_holder(run)
    except StoreError:
        return None
