"""What ``[schedule]`` allows beyond what the machine holds: tasks at once, core-hours in all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice

from socm_like.growth import request_of
from socm_like.journal import Event, Record, TaskState
from socm_like.policy import Policy
from socm_like.resources import UNSTATED_RUNTIME
from socm_like.sizes import runtime_of
from socm_like.task import Task
from socm_like.units import format_span, parse_instant
from socm_like.waiting import pieces_of

ROUNDING = 1e-3
"""Core-seconds by which a running sum may be off."""


class Quota:
    """Who may start by the caps and the budget of a policy, and what has been used up.

    An attempt counts against the budget with its cores x the time it ran; while it runs, with the time that it may
    take. So a budget is never exceeded by tasks that state a runtime, and by others no more than they were misjudged.
    """

    def __init__(self, policy: Policy, tasks: Mapping[str, Task], events: Iterable[Event] = ()) -> None:
        """Begin with what the attempts in a journal have used; ``tasks`` may grow while the run goes on."""
        self._policy = policy
        self._tasks = tasks
        self._running: Counter[str] = Counter()
        """Cap -> tasks that count."""
        self._promised: dict[str, float] = {}
        """Task under way -> core-seconds that it may take."""
        self._reserved = 0.0
        """The sum of those."""
        self._spent = 0.0
        """Core-seconds that attempts have used."""
        self._began: dict[tuple[str, int], str] = {}
        self._parked: dict[str, dict[str, Task]] = {}
        """Cap that has no room -> the tasks that wait for it, in the order of their turns."""
        self._unpaid: dict[float, dict[str, Task]] = {}
        """Core-seconds that the budget has not left -> the tasks that want so many, in the order of their turns."""
        for event in events:
            self.saw(event)

    def saw(self, event: Event) -> None:
        """Count what an attempt that has ended used, by when the journal says that it ran."""
        if self._policy.core_hours is None:
            return
        key = (event.task, event.attempt)
        if event.state is TaskState.RUNNING:
            self._began.setdefault(key, event.at)
        elif event.state.is_final and (began := self._began.pop(key, None)) is not None:
            task = self._tasks.get(event.task)
            cores = 1 if task is None else task.resources.cores
            seconds = max(0.0, parse_instant(event.at) - parse_instant(began))
            self._spent += seconds * cores / event.detail.get("shared_by", 1)

    def __bool__(self) -> bool:
        return any(self._parked.values()) or any(self._unpaid.values())

    def start(self, task: Task, record: Record) -> bool:
        """Count a task that is about to be launched, or put it aside where that would be too much."""
        if not self._policy:
            return True
        wanted = self._wanted(task, record)
        full = next((cap for cap in self._policy.caps(task.workflow) if self._room(cap) <= 0), None)
        if full is not None:
            self._parked.setdefault(full, {})[task.name] = task
        elif wanted > self._left():
            self._unpaid.setdefault(wanted, {})[task.name] = task
        else:
            self._count(task, wanted)
            return True
        return False

    def go_on(self, task: Task, record: Record) -> None:
        """Count a task that an earlier session launched."""
        if self._policy:
            self._count(task, self._wanted(task, record))

    def end(self, task: Task) -> None:
        """Count a task no more; others may have its room."""
        promised = self._promised.pop(task.name, None)
        if promised is None:
            return
        self._reserved = self._reserved - promised if self._promised else 0.0
        self._running.subtract(self._policy.caps(task.workflow))

    def released(self) -> list[str]:
        """Return the tasks that were put aside and may be looked at again: as many as there is room for.

        What one of them leaves, because it need not run after all, is for the next when this is asked again.
        """
        free = []
        for cap, waiting in self._parked.items():
            free += _first(waiting, self._room(cap))
        left = self._left()
        for wanted, waiting in self._unpaid.items():
            paid = _first(waiting, int(left // wanted) if left < math.inf else len(waiting))
            left -= wanted * len(paid)
            free += paid
        return free

    def forget(self, name: str) -> None:
        """Let a task that was put aside not be looked at again."""
        for waiting in (*self._parked.values(), *self._unpaid.values()):
            waiting.pop(name, None)

    def refused(self) -> list[tuple[str, str]]:
        """Return the tasks that were put aside and will not start, because nothing runs any more; and why."""
        left = self._left()
        if any(self._parked.values()) or any(tasks and wanted <= left for wanted, tasks in self._unpaid.items()):
            return []  # room for some of them: these first
        unpaid, self._unpaid = self._unpaid, {}
        return [(name, self._why(task, wanted)) for wanted, tasks in unpaid.items() for name, task in tasks.items()]

    def _why(self, task: Task, wanted: float) -> str:
        hours = f"{self._spent / 3600:.3g} of {self._policy.core_hours:g} core-hours are used"
        cores = task.resources.cores
        asked = f"it may take {cores} core{'s'[: cores != 1]} for {format_span(wanted / cores)}"
        return f"{hours}, and {asked}; raise [schedule] core_hours and submit again"

    def _wanted(self, task: Task, record: Record) -> float:
        """Return the core-seconds that a task may take from now on, in all of the pieces it still runs in."""
        stated = request_of(task, record).runtime
        seconds = stated.total_seconds() if stated is not None else runtime_of(task)
        if pieces := pieces_of(record):
            seconds = sum(length for _, length in pieces)
        return task.resources.cores * (seconds or UNSTATED_RUNTIME.total_seconds())

    def _room(self, cap: str) -> int:
        return self._policy.concurrency[cap] - self._running[cap]

    def _left(self) -> float:
        if self._policy.core_hours is None:
            return math.inf
        return self._policy.core_hours * 3600 - self._spent - self._reserved + ROUNDING

    def _count(self, task: Task, wanted: float) -> None:
        self._running.update(self._policy.caps(task.workflow))
        self._reserved += wanted - self._promised.get(task.name, 0.0)
        self._promised[task.name] = wanted


def _first(waiting: dict[str, Task], number: int) -> list[str]:
    """Take out and return the first so many names."""
    names = list(islice(waiting, max(number, 0)))
    for name in names:
        del waiting[name]
    return names
