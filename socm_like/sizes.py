"""What a task counts for where tasks are ordered and placed: what was stated, else learned, else estimated."""

from __future__ import annotations

from socm_like.resources import UNSTATED_RUNTIME
from socm_like.task import Task


def runtime_of(task: Task) -> float:
    """Return the seconds a task is expected to take; one of which nobody knows anything has a weight instead."""
    learned = task.predicted.typical_runtime if task.predicted is not None and "runtime" not in task.stated else None
    return (learned or task.resources.runtime or UNSTATED_RUNTIME).total_seconds()


def memory_of(task: Task) -> int | None:
    """Return the bytes that are kept free for a task, or None when nobody knows."""
    learned = task.predicted.memory if task.predicted is not None and "memory" not in task.stated else None
    return learned or task.resources.memory


def gpu_memory_of(task: Task) -> int | None:
    """Return the bytes on each of its GPUs that are kept free for a task, or None when nobody knows."""
    learned = task.predicted.gpu_memory if task.predicted is not None and "gpu_memory" not in task.stated else None
    return learned or task.resources.gpu_memory


def has_runtime(task: Task) -> bool:
    """Whether anybody knows how long a task takes."""
    return task.resources.runtime is not None or is_learned(task, "runtime")


def is_learned(task: Task, name: str) -> bool:
    """Whether the ``memory``, ``gpu_memory`` or ``runtime`` that a task counts for was learned from finished tasks."""
    learned = getattr(task.predicted, "typical_runtime" if name == "runtime" else name, None)
    return learned is not None and name not in task.stated
