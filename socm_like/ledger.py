"""What the runner knows of its tasks, and the journal that it writes all news to first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from socm_like.journal import Event, Journal, Record, TaskState, event_at, replay
from socm_like.task import Task

COMMIT = 0.5
"""Longest time in seconds that news waits to be synced; launches wait for the sync of their intent."""


class Watcher(Protocol):
    """Whoever wants to see the run go by."""

    def saw(self, event: Event, record: Record) -> None:
        """Take note of an event that was journalled and of what its task now amounts to."""

    def tick(self) -> None:
        """Use the chance to draw; called four times a second."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run stands when the runner leaves it."""

    records: Mapping[str, Record]
    trials: Mapping[str, Task]
    """The tasks that searches asked for; how they end is for their search to judge."""
    interrupted: bool

    @property
    def counts(self) -> Counter[TaskState]:
        """How many tasks are in each state."""
        return Counter(record.state for record in self.records.values())

    @property
    def succeeded(self) -> bool:
        """Whether every task of the plan is done or cached."""
        return all(record.state.is_success for name, record in self.records.items() if name not in self.trials)


class Ledger:
    """The records of a run's tasks; whatever changes one of them goes to the journal."""

    def __init__(self, journal: Journal, watcher: Watcher, clock: Callable[[], float], tasks: Iterable[str]) -> None:
        replayed = replay(journal.events)
        self.records: dict[str, Record] = {name: replayed.pop(name, Record()) for name in tasks}
        self._former = replayed
        """Records of trials that a fresh start has set aside."""
        self.renewed: set[str] = set()
        """Identities that fresh attempts have computed: none need do it again."""
        self._journal = journal
        self._watcher = watcher
        self._clock = clock
        self._unwritten: list[Event] = []
        self._uncommitted = False
        self._committed = 0.0

    def begin(self, name: str) -> bool:
        """Open the record of a task that has turned up; return whether there was one before."""
        former = self._former.pop(name, None)
        self.records[name] = former or Record()
        return former is not None

    def set_aside(self, kept: Container[str]) -> None:
        """Take away the records of all other tasks, until they turn up again."""
        for name in [name for name in self.records if name not in kept]:
            self._former[name] = self.records.pop(name)

    def is_fresh(self, task: Task) -> bool:
        """Whether the present attempt does without earlier results: of a trial, its search decides."""
        return self.records[task.trial_of or task.name].wishes("fresh")

    def takes_results(self, task: Task) -> bool:
        """Whether a result that is there already will do for the present attempt."""
        return task.id in self.renewed or not self.is_fresh(task)

    def begin_again(
        self, name: str, *, fresh: bool = False, alone: bool = False, more: Mapping[str, Any] | None = None
    ) -> None:
        """Begin a new attempt at a task; what it is to be like stays on record: ``more`` is what it asks for."""
        detail = {**({"fresh": True} if fresh else {}), **({"alone": True} if alone else {}), **(more or {})}
        self.note(name, TaskState.PLANNED, next_attempt=True, **detail)

    def note(self, name: str, state: TaskState, *, next_attempt: bool = False, **detail: Any) -> None:
        """Give a task a state now."""
        number = self.records[name].attempt + next_attempt
        self.record(event_at(self._clock(), name, number, state, **detail))

    def record(self, event: Event) -> None:
        """Take in an event of a task."""
        self.records[event.task].apply(event)
        self._unwritten.append(event)
        self._watcher.saw(event, self.records[event.task])

    def write(self, *, commit: bool = False) -> None:
        """Write the news; sync when asked to or when the last time is a while ago, and there is something to sync."""
        if self._unwritten:
            self._journal.append(self._unwritten)
            self._unwritten.clear()
            self._uncommitted = True
        if self._uncommitted and (commit or time.monotonic() - self._committed > COMMIT):
            self._journal.commit()
            self._uncommitted = False
            self._committed = time.monotonic()
