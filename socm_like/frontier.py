"""Which tasks may start next: those whose dependencies have succeeded, the most urgent first.

What is more urgent is decided by priority, then by the longest chain behind a task, then by the order of the plan.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence

from socm_like.journal import Record, TaskState
from socm_like.plan import upward_ranks
from socm_like.sizes import runtime_of
from socm_like.task import Task

PRIORITY = 1e10
"""Seconds of a chain that one step of priority outweighs: no campaign takes 300 years."""

_Place = tuple[float, int, str]
"""Where a ready task stands: by its urgency, then by the order of the plan."""


class Frontier:
    """The tasks of a run between ``planned`` and ``queued``."""

    def __init__(self, tasks: Sequence[Task], priority_of: Callable[[str], int] = lambda _: 0) -> None:
        """Take the tasks, each after those it depends on, and the priority of a workflow."""
        self._priority_of = priority_of
        self._children: dict[str, list[str]] = {}
        self._parents: dict[str, Sequence[str]] = {}
        self._missing: dict[str, int] = {}
        self._urgency: dict[str, float] = {}
        self._order: dict[str, int] = {}
        self._batch: dict[str, str] = {}
        self._ready: list[_Place] = []
        self._alike: dict[str, set[_Place]] = {}
        """Of those in the heap that can share a process, by batch: those that have not been taken out of turn."""
        for task in tasks:
            self._enter(task)
        self._urgency = self._urgencies(tasks, runtime_of)

    def add(self, task: Task) -> None:
        """Take in a task that turned up while the run goes on, all of whose dependencies have succeeded."""
        self._enter(task)
        self._urgency[task.name] = PRIORITY * self._priority_of(task.workflow) + runtime_of(task)
        self._missing[task.name] = 0

    def _enter(self, task: Task) -> None:
        self._order[task.name] = len(self._order)
        self._children[task.name] = []
        self._parents[task.name] = task.dependencies
        for parent in task.dependencies:
            self._children[parent].append(task.name)
        if task.batch:
            self._batch[task.name] = task.batch

    def children(self, name: str) -> Sequence[str]:
        """Return the tasks that wait for this one."""
        return self._children[name]

    def below(self, name: str) -> Iterator[str]:
        """Yield the task and all that depend on it, each once, before those that depend on it."""
        seen = {name}
        stack = [name]
        while stack:
            found = stack.pop()
            yield found
            for child in self._children[found]:
                if child not in seen:
                    seen.add(child)
                    stack.append(child)

    def blame(self, name: str, records: Mapping[str, Record]) -> str:
        """Return the ancestor whose failure keeps a task from running."""
        while True:
            ended = [p for p in self._parents[name] if records[p].state.is_final and not records[p].state.is_success]
            failed = [parent for parent in ended if records[parent].state is not TaskState.SKIPPED]
            if failed:
                return failed[0]
            name = ended[0]

    def urgency(self, name: str) -> float:
        """Return how urgent a task is: the seconds of the longest chain from its start on, and its priority in them."""
        return self._urgency[name]

    def rerank(self, tasks: Sequence[Task], seconds_of: Callable[[Task], float]) -> None:
        """Order the tasks anew, by how long each is expected to take now; ``tasks`` are all, parents first."""
        self._urgency = self._urgencies(tasks, seconds_of)
        names = [name for _, _, name in self._ready]
        self._ready, alike = [], self._alike
        kept = {batch: {name for _, _, name in places} for batch, places in alike.items()}
        self._alike = {}
        for name in names:
            batch = self._batch.get(name)
            if batch is None or name in kept.get(batch, ()):
                self.push(name)

    def _urgencies(self, tasks: Sequence[Task], seconds_of: Callable[[Task], float]) -> dict[str, float]:
        """Return the urgency of each task; what a task waits for is at least as urgent as it is."""
        ranks = upward_ranks(tasks, seconds_of)
        highest: dict[str, int] = {}
        for task in reversed(tasks):
            own = max(self._priority_of(task.workflow), highest.get(task.name, -(10**9)))
            ranks[task.name] += PRIORITY * own
            for parent in task.dependencies:
                highest[parent] = max(highest.get(parent, own), own)
        return ranks

    def count_missing(self, task: Task, records: Mapping[str, Record]) -> int:
        """Take note of how many dependencies have not succeeded; return it."""
        missing = sum(not records[parent].state.is_success for parent in task.dependencies)
        self._missing[task.name] = missing
        return missing

    def satisfy(self, name: str) -> bool:
        """Note that one dependency of a task has succeeded; return whether it was the last."""
        self._missing[name] -= 1
        return self._missing[name] == 0

    def push(self, name: str) -> None:
        """Let a task start when its turn comes."""
        place = (-self._urgency[name], self._order[name], name)
        heapq.heappush(self._ready, place)
        if name in self._batch:
            self._alike.setdefault(self._batch[name], set()).add(place)

    def pop(self) -> str | None:
        """Return the task whose turn it is, or None when none is ready."""
        while self._ready:
            place = heapq.heappop(self._ready)
            batch = self._batch.get(place[2])
            if batch is None:
                return place[2]
            if place in self._alike.get(batch, ()):
                self._alike[batch].discard(place)
                return place[2]
        return None

    def take(self, batch: str, admits: Callable[[str], bool]) -> list[str]:
        """Take away all ready tasks that may share a process with others of this batch; return those admitted."""
        return [name for _, _, name in sorted(self._alike.pop(batch, ())) if admits(name)]
