"""Why a task that is ready does not start: another run computes the same, or the schedule window is closed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from socm_like.growth import request_of
from socm_like.journal import Record, TaskState
from socm_like.neighbours import Neighbours
from socm_like.resources import UNSTATED_RUNTIME
from socm_like.task import Task
from socm_like.units import format_instant, parse_instant
from socm_like.window import NoWindowError, WindowTable, choose_start, held_text


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a task waits, as the journal says it."""

    state: TaskState
    detail: Mapping[str, Any]


@dataclass
class Waiting:
    """The tasks of a run that are ready and wait for what is not in the run."""

    window: WindowTable | None
    clock: Callable[[], float]
    neighbours: Neighbours | None = None
    """The other runs, once this one has taken its turn among them."""
    _elsewhere: dict[str, str] = field(default_factory=dict)
    """Task -> its identity, which another run computes."""
    _held: dict[str, float] = field(default_factory=dict)
    """Task -> when it may start, seconds since the epoch."""

    def __bool__(self) -> bool:
        return bool(self._elsewhere or self._held)

    def pause(self) -> float:
        """Return the seconds until the next task may start for which that is known."""
        return max(0.0, min(self._held.values(), default=math.inf) - self.clock())

    def reason(self, task: Task, record: Record) -> Reason | None:
        """Return why a task is not to start now and keep it until it may, or None when it is to start.

        A decision of the schedule is made once for an attempt, when it is first ready: it stands in the journal, so
        that neither a restart nor time that passes moves it. A task that no window will ever hold has failed.
        """
        if other := self._computing(task.id):
            self._elsewhere[task.name] = task.id
            return Reason(TaskState.BLOCKED, {"reason": f"{other} computes the same"})
        if self.window is None:
            return None
        held = record.details.get(TaskState.HELD)
        if held is None:
            return self._decide(task, record, self.window)
        if parse_instant(held["until"]) > self.clock():
            self._held[task.name] = parse_instant(held["until"])
            return Reason(TaskState.HELD, held)
        return None

    def _decide(self, task: Task, record: Record, window: WindowTable) -> Reason | None:
        now = datetime.fromtimestamp(self.clock(), UTC)
        runtime: timedelta = request_of(task, record).runtime or UNSTATED_RUNTIME
        try:
            decision = choose_start(now, runtime, window, restartable=False)
        except NoWindowError as error:
            return Reason(TaskState.FAILED, {"reason": str(error)})
        if decision.start <= now and not decision.is_degraded:
            return None
        told = held_text(window, now, decision.start) if decision.start > now else ""
        text = "; ".join(part for part in (told, decision.reason if decision.is_degraded else "") if part)
        self._held[task.name] = decision.start.timestamp()
        detail: dict[str, str | float] = {"until": format_instant(decision.start.timestamp()), "reason": text}
        if decision.is_degraded:
            detail["on_peak"] = decision.on_peak.total_seconds()
        return Reason(TaskState.HELD, detail)

    def _computing(self, identity: str) -> str:
        return self.neighbours.computes(identity) if self.neighbours is not None else ""

    def forget(self, name: str) -> None:
        """Let a task wait no longer."""
        self._elsewhere.pop(name, None)
        self._held.pop(name, None)

    def released(self) -> Iterator[str]:
        """Yield the tasks that need wait no longer."""
        now = self.clock()
        free = [name for name, identity in self._elsewhere.items() if not self._computing(identity)]
        for name in (*free, *[name for name, until in self._held.items() if until <= now]):
            self.forget(name)
            yield name
