"""When a run will end, by what has ended so far and what was planned, and whether its deadline will hold.

Standard library only, so that ``campaign status`` starts at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from socm_like.journal import TaskState
from socm_like.status import RunState, RunStatus, TaskStatus
from socm_like.units import parse_instant


@dataclass(frozen=True, slots=True)
class Forecast:
    """What can be said of the end of a run."""

    left: float | None
    """Seconds until all is done, 0 when it is; None where nobody knows how long a remaining task takes, and where a
    task has failed or was cancelled."""
    deadline: float | None
    """Seconds until its deadline, negative when that is over; None where there is none, or it has not begun."""

    @property
    def margin(self) -> float | None:
        """Seconds between the end and the deadline, negative when it will be missed; None when nobody knows."""
        return None if self.deadline is None or self.left is None else self.deadline - self.left

    def to_json(self) -> dict[str, Any]:
        """Return what ``campaign status --json`` says of it."""
        holds = None if self.margin is None else self.margin >= 0
        return {"time_left_seconds": self.left, "deadline_in_seconds": self.deadline, "deadline_holds": holds}


def forecast(status: RunStatus, now: float) -> Forecast:
    """Return when a run ends and whether that is in time; of one that is done, how it was."""
    if status.started is None or status.last_news is None:
        return Forecast(time_left(status, now), None)
    if status.state in (RunState.FAILED, RunState.CANCELLED):
        left, at = None, now
    elif status.state is RunState.DONE:
        left, at = 0.0, parse_instant(status.last_news)
    else:
        left, at = time_left(status, now), now
    deadline = None if status.deadline is None else parse_instant(status.started) + status.deadline - at
    return Forecast(left, deadline)


def time_left(status: RunStatus, now: float) -> float | None:
    """Return an estimate of the seconds until a run ends, or None where nothing is known of a remaining task.

    A task takes as long as the finished ones of its workflow, or else of its group, did on average, or else as long
    as was planned. No run ends before its longest chain of remaining tasks, nor before all cores, all memory and all
    GPUs have done their share, nor before a held task may start; the largest of these is the estimate.
    """
    mean = _mean_runtimes(status, now)
    shares, longest = [0.0, 0.0, 0.0], 0.0
    after: dict[str, float] = {}
    for task in reversed(status.tasks):
        if task.state.is_final:
            continue
        expected = mean.get(task.workflow, mean.get(_group(task.workflow), task.expected))
        if expected is None:
            return None
        seconds = max(0.0, expected - (task.runtime(now) or 0.0))
        for index, (asked, there) in enumerate(zip(_asked(task), status.capacity, strict=True)):
            shares[index] += seconds * min(asked, there) / max(1, there)
        held = max(0.0, task.held_until - now) if task.held_until is not None else 0.0
        chain = held + seconds + after.get(task.task, 0.0)
        longest = max(longest, chain)
        for parent in task.dependencies:
            after[parent] = max(after.get(parent, 0.0), chain)
    return max(longest, *shares)


def _asked(task: TaskStatus) -> tuple[int, int, int]:
    return task.cores, task.memory, task.gpus


def _mean_runtimes(status: RunStatus, now: float) -> dict[str, float]:
    """Return the mean runtime of the finished tasks of each workflow and each group."""
    spent: dict[str, list[float]] = {}
    for task in status.tasks:
        seconds = task.runtime(now) if task.state is TaskState.DONE else None
        if seconds is not None:
            for name in {task.workflow, _group(task.workflow)}:
                spent.setdefault(name, []).append(seconds)
    return {name: math.fsum(seconds) / len(seconds) for name, seconds in spent.items()}


def _group(workflow: str) -> str:
    """Return the group a workflow is in, ``maps.`` for ``maps.f090``, or its own name where it is in none."""
    group, dot, _ = workflow.rpartition(".")
    return group + dot or workflow
