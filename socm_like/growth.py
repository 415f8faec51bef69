"""What an attempt asks for: what the plan says, or more after an attempt for which that was too little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

from socm_like.journal import Record, TaskState
from socm_like.resources import Machine, Resources
from socm_like.settings import Execution
from socm_like.task import Task

FACTOR = 1.5
_GROWING = ("memory", "runtime")


def request_of(task: Task, record: Record) -> Resources:
    """Return what the present attempt at a task asks for."""
    granted = _granted(record)
    if not granted:
        return task.resources
    more = {key: timedelta(seconds=value) if key == "runtime" else value for key, value in granted.items()}
    return task.resources.model_copy(update=more)


def larger_request(task: Task, record: Record, state: TaskState, machine: Machine) -> Mapping[str, int | float] | None:
    """Return what the next attempt is to ask for, or None where more of it cannot be had or would not help.

    After ``oom`` it is half as much memory again, no more than the machine has; after ``timeout`` half as much time
    again, if the kind goes on from where it was. What an earlier attempt was given stays.
    """
    asked = request_of(task, record)
    granted = _granted(record)
    if state is TaskState.OOM and asked.memory is not None and asked.memory < machine.memory:
        return {**granted, "memory": min(int(asked.memory * FACTOR), machine.memory)}
    if state is TaskState.TIMEOUT and asked.runtime is not None and task.restartable:
        return {**granted, "runtime": asked.runtime.total_seconds() * FACTOR}
    return None if state in (TaskState.OOM, TaskState.TIMEOUT) else granted


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
        larger = larger_request(task, record, record.state, self._machine)
        return _granted(record) if larger is None else larger

    def after(self, task: Task, record: Record, state: TaskState) -> Mapping[str, int | float] | None:
        """Return what the next attempt asks for beside what the plan says, or None where there is to be none."""
        self._failures[task.name, state] += 1
        if self._failures[task.name, state] > self._execution.retries_after(state):
            return None
        return larger_request(task, record, state, self._machine)
