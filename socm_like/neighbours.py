"""Other runs of the same store that are at work: what one of them computes, this run waits for.

Of two runs the one that took its lock first computes what both want; the other waits until the result is there, or
until that run has given up on it. Nothing is written for it, so a task costs nothing, and a run that dies holds up
nobody. Where clocks of hosts differ so much that each of two runs takes itself for the first, both compute: that
costs time, never a wrong result.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from socm_like.errors import StoreError
from socm_like.journal import TaskState, read_events_from
from socm_like.store import Holder, RunDirectory, read_holder, runs_in

LOOK = 0.5
"""Seconds between two looks at the neighbours."""


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

    def is_there(self) -> bool:
        """Whether the same process still works on the run."""
        return _holder(self.run) == self.holder

    def catch_up(self) -> None:
        """Read the news of its journal."""
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
        for run in runs_in(self.run.store):
            holder = _holder(run) if run.name != self.run.name else None
            if holder is None or not holder.is_before(self.mine):
                continue
            try:
                tasks = run.read_plan()["tasks"]
                identities = {task["name"]: task["id"] for task in tasks}
            except (StoreError, KeyError, TypeError):  # it is damaged, or just being written; it cannot be waited for
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
        self._neighbours = [neighbour for neighbour in self._neighbours if neighbour.is_there()]
        for neighbour in self._neighbours:
            neighbour.catch_up()


def _holder(run: RunDirectory) -> Holder | None:
    """Return the live process that works on a run; one whose lock is damaged is nobody's to wait for."""
    try:
        return read_holder(run)
    except StoreError:
        return None
