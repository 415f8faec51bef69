"""What an attempt asks for: what the plan says, or more after an attempt for which that was too little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from socm_like.journal import Event, Record, TaskState
from socm_like.resources import Machine, Resources
from socm_like.settings import Execution
from socm_like.task import Task

FACTOR = 1.5
_GROWING = ("memory", "gpu_memory", "runtime")


def request_of(task: Task, record: Record) -> Resources:
    """Return what the present attempt at a task asks for."""
    granted = _granted(record)
    if not granted:
        return task.resources
    more = {key: timedelta(seconds=value) if key == "runtime" else value for key, value in granted.items()}
    return task.resources.model_copy(update=more)


def larger_request(
    task: Task, record: Record, state: TaskState, machine: Machine, exceeded: str = "memory"
) -> Mapping[str, int | float] | None:
    """Return what the next attempt is to ask for, or None where more of it cannot be had or would not help.

    After ``oom`` it is half as much again of the memory that was ``exceeded``, ``memory`` or ``gpu_memory``, or as
    much as tasks like it are known to need, whichever is more, and no more than the machine has; after ``timeout`` half
    as much time again, if the kind goes on from where it was. What an earlier attempt was given stays.
    """
    asked = request_of(task, record)
    granted = _granted(record)
    if state is TaskState.OOM:
        most = machine.gpu_memory if exceeded == "gpu_memory" else machine.memory
        given = asked.gpu_memory if exceeded == "gpu_memory" else asked.memory
        if given is None or (most is not None and given >= most):
            return None
        learned = 0 if task.predicted is None else getattr(task.predicted, exceeded) or 0
        more = max(int(given * FACTOR), learned)
        return {**granted, exceeded: more if most is None else min(more, most)}
    if state is TaskState.TIMEOUT and asked.runtime is not None and task.restartable:
        return {**granted, "runtime": asked.runtime.total_seconds() * FACTOR}
    return None if state is TaskState.TIMEOUT else granted


def _granted(record: Record) -> dict[str, int | float]:
    """Return what the present attempt was granted beyond the plan: bytes, seconds."""
    return {key: value for key, value in record.details.get(TaskState.PLANNED, {}).items() if key in _GROWING}


class Retries:
    """Which attempts that went wrong are followed by another, and what that one asks for."""

    def __init__(self, execution: Execution, machine: Machine) -> None:
        self._execution = execution
        self._machine = machine
        self._failures: Counter[tuple[str, TaskState]] = Counter()
        """Task and end -> how often, in this session."""

    def on_request(self, task: Task, record: Record) -> Mapping[str, int | float]:
        """Return what an attempt asks for that somebody wants, however the last one ended."""
        larger = larger_request(task, record, record.state, self._machine, _exceeded(record.detail))
        return _granted(record) if larger is None else larger

    def after(self, task: Task, record: Record, event: Event) -> Mapping[str, int | float] | None:
        """Return what the next attempt asks for beside what the plan says, or None where there is to be none.

        ``record`` is the task's before the event that ended it.
        """
        state = event.state
        self._failures[task.name, state] += 1
        if self._failures[task.name, state] > self._execution.retries_after(state):
            return None
        return larger_request(task, record, state, self._machine, _exceeded(event.detail))


def _exceeded(detail: Mapping[str, Any]) -> str:
    """Return of which memory an attempt that ended as ``oom`` used too much."""
    return "gpu_memory" if detail.get("exceeded") == "gpu_memory" else "memory"
