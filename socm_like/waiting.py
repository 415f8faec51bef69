"""Why a task that is ready does not start: another run computes the same, or the schedule window is closed."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from socm_like.growth import request_of
from socm_like.journal import Record, TaskState
from socm_like.neighbours import Neighbours
from socm_like.resources import UNSTATED_RUNTIME, Resources
from socm_like.task import Task
from socm_like.units import format_instant, parse_instant
from socm_like.window import NoWindowError, WindowTable, choose_start, held_text

SHORTEST = 60.0
"""Seconds that a piece lasts at the least, though it may begin late."""


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
    _soon: list[tuple[float, str]] = field(default_factory=list)
    """A heap of those, with some that wait no longer."""

    def __bool__(self) -> bool:
        return bool(self._elsewhere or self._held)

    def pause(self) -> float:
        """Return the seconds until the next task may start for which that is known."""
        return max(0.0, self._opens() - self.clock())

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
            return self._decide(task, record, self.window) if not pieces_of(record) else self._go_on(task, record)
        if parse_instant(held["until"]) > self.clock():
            self._hold(task.name, parse_instant(held["until"]))
            return Reason(TaskState.HELD, held)
        return None

    def _decide(self, task: Task, record: Record, window: WindowTable) -> Reason | None:
        now = datetime.fromtimestamp(self.clock(), UTC)
        runtime: timedelta = request_of(task, record).runtime or UNSTATED_RUNTIME
        try:
            decision = choose_start(now, runtime, window, restartable=task.restartable)
        except NoWindowError as error:
            return Reason(TaskState.FAILED, {"reason": str(error)})
        if decision.start <= now and not decision.is_degraded:
            return None
        told = held_text(window, now, decision.start) if decision.start > now else ""
        text = "; ".join(part for part in (told, decision.reason if decision.is_degraded else "") if part)
        self._hold(task.name, decision.start.timestamp())
        detail: dict[str, Any] = {"until": format_instant(decision.start.timestamp()), "reason": text}
        if len(decision.pieces) > 1:
            detail["pieces"] = [[piece.start.timestamp(), piece.length.total_seconds()] for piece in decision.pieces]
        if decision.is_degraded:
            detail["on_peak"] = decision.on_peak.total_seconds()
        return Reason(TaskState.HELD, detail)

    def _go_on(self, task: Task, record: Record) -> Reason:
        """Hold a task that was stopped at the end of a window until the next that was decided on."""
        pieces = pieces_of(record)
        start = max(pieces[0][0], self.clock())
        assert self.window is not None
        now, opens = (datetime.fromtimestamp(at, UTC) for at in (self.clock(), start))
        self._hold(task.name, start)
        told = f"{held_text(self.window, now, opens)}; goes on from where it was stopped, {len(pieces)} to go"
        return Reason(TaskState.HELD, {"until": format_instant(start), "reason": told, "pieces": pieces})

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
        while self._opens() <= now:
            free.append(heapq.heappop(self._soon)[1])
            del self._held[free[-1]]
        for name in free:
            self.forget(name)
            yield name

    def _hold(self, name: str, until: float) -> None:
        self._held[name] = until
        heapq.heappush(self._soon, (until, name))

    def _opens(self) -> float:
        """Return when the next task may start for which that is known; infinity for none."""
        while self._soon and self._held.get(self._soon[0][1]) != self._soon[0][0]:
            heapq.heappop(self._soon)
        return self._soon[0][0] if self._soon else math.inf


def pieces_of(record: Record) -> list[list[float]]:
    """Return the pieces that the present attempt and those after it run in: start, seconds since the epoch; seconds."""
    for state in (TaskState.HELD, TaskState.PLANNED):
        if pieces := record.details.get(state, {}).get("pieces"):
            return list(pieces)
    return []


def request_now(task: Task, record: Record, now: float) -> Resources:
    """Return what an attempt that is launched now asks for: no longer than its piece, where it is one of several."""
    asked, pieces = request_of(task, record), pieces_of(record)
    if not pieces:
        return asked
    start, seconds = pieces[0]
    left = timedelta(seconds=max(start + seconds - now, SHORTEST))
    return asked.model_copy(update={"runtime": min(left, asked.runtime or left)})


def next_pieces(record: Record, state: TaskState) -> Mapping[str, Any] | None:
    """Return what goes on record for the next attempt of a task that the end of a window has stopped, else None."""
    pieces = pieces_of(record)
    if state is not TaskState.TIMEOUT or len(pieces) < 2:
        return None
    return {**record.details.get(TaskState.PLANNED, {}), "pieces": pieces[1:]}
