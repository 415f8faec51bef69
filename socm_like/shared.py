"""Which ready tasks share a process, and what such a process needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Self

from socm_like.registry import Registry
from socm_like.resources import Machine, ResourcePatch, Resources
from socm_like.task import Task
from socm_like.workflow import EstimateContext

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks that run in one process; the first is the leader, whose attempt the process is."""

    tasks: tuple[Task, ...]
    resources: Resources

    @classmethod
    def of(cls, task: Task) -> Self:
        """Return the batch of a task that has its process for itself."""
        return cls((task,), task.resources)


def batches(tasks: Sequence[Task], registry: Registry, machine: Machine, largest: int) -> list[Batch]:
    """Return tasks that may share processes in as many of them as keep all cores busy and fit the memory.

    No batch has more than ``largest`` tasks, and none has tasks that ask for other cores or GPUs than its first.

    A class that cannot say what several of its tasks need costs them a process each.
    """
    alike: dict[tuple[int, int, int, int | None], list[Task]] = {}
    for task in tasks:
        asked = task.resources
        alike.setdefault((asked.ranks, asked.threads, asked.gpus, asked.gpu_memory), []).append(task)
    try:
        return [batch for group in alike.values() for batch in _batches(group, registry, machine, largest)]
    except Exception as error:  # noqa: BLE001 - a kind may raise anything
        logger.warning("%s.estimate_batch: %s: %s", tasks[0].kind, type(error).__name__, error)
        return [Batch.of(task) for task in tasks]


def _batches(tasks: Sequence[Task], registry: Registry, machine: Machine, largest: int) -> Iterator[Batch]:
    slots = max(1, len(machine.cores) // tasks[0].resources.cores)
    size = min(largest, ceil(len(tasks) / slots))
    while size > 1 and not _fits(_estimate(tasks[:size], registry, machine), slots, machine):
        size = ceil(size / 2)
    for first in range(0, len(tasks), size):
        members = tuple(tasks[first : first + size])
        is_shared = len(members) > 1
        yield (
            Batch(members, _limits(members, _estimate(members, registry, machine)))
            if is_shared
            else Batch.of(members[0])
        )


def _estimate(tasks: Sequence[Task], registry: Registry, machine: Machine) -> Resources:
    """Return what their class says one process needs for the tasks."""
    kind = registry[tasks[0].kind]
    workflows = []
    for task in tasks:
        asked = {"resources": ResourcePatch(**task.resources.model_dump(exclude_none=True))}  # estimated and overridden
        workflows.append(kind.model_validate(task.fields).model_copy(update=asked))
    return kind.estimate_batch(workflows, EstimateContext(machine=machine))


def _limits(tasks: Sequence[Task], estimate: Resources) -> Resources:
    """Return what the process gets: no less than any of the tasks asks, and no limit where one of them has none."""
    memories = [task.resources.memory for task in tasks]
    runtimes = [task.resources.runtime for task in tasks]
    return tasks[0].resources.model_copy(
        update={
            "memory": None if None in memories else max([*filter(None, memories), *filter(None, [estimate.memory])]),
            "runtime": None if None in runtimes else max([*filter(None, runtimes), *filter(None, [estimate.runtime])]),
        }
    )


def _fits(resources: Resources, slots: int, machine: Machine) -> bool:
    return resources.memory is None or resources.memory * slots <= machine.memory
