"""Which ready tasks share a process, and what such a process needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Self

from socm_like.registry import Registry
from socm_like.resources import Machine, Resources
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

    No batch has more than ``largest`` tasks.

    A class that cannot say what several of its tasks need costs them a process each.
    """
    try:
        return list(_batches(tasks, registry, machine, largest))
    except Exception as error:  # noqa: BLE001 - a kind may raise anything
        logger.warning("%s.estimate_batch: %s: %s", tasks[0].kind, type(error).__name__, error)
        return [Batch.of(task) for task in tasks]


def _batches(tasks: Sequence[Task], registry: Registry, machine: Machine, largest: int) -> Iterator[Batch]:
    leader = tasks[0]
    slots = max(1, len(machine.cores) // leader.resources.cores)
    size = min(largest, ceil(len(tasks) / slots))
    while size > 1 and not _fits(_resources(tasks[:size], registry, machine), slots, machine):
        size = ceil(size / 2)
    for first in range(0, len(tasks), size):
        members = tuple(tasks[first : first + size])
        yield Batch(members, members[0].resources if len(members) == 1 else _resources(members, registry, machine))


def _resources(tasks: Sequence[Task], registry: Registry, machine: Machine) -> Resources:
    """Return what one process needs for the tasks: what their class says, and what any of them asks at the least."""
    kind = registry[tasks[0].kind]
    workflows = [kind.model_validate(task.fields) for task in tasks]
    estimate = kind.estimate_batch(workflows, EstimateContext(machine=machine))
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
