"""Plan -> Schedule: the tasks as the planner sees them, on this machine or on the nodes of a machine file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from socm_like.machine_file import MachineFile, Nodes, Partition
from socm_like.plan import Plan
from socm_like.resources import Machine
from socm_like.schedule import (
    Allocation,
    Job,
    Limits,
    Node,
    PlacementError,
    Recommendation,
    Schedule,
    allocations,
    make_schedule,
    recommend,
)
from socm_like.sizes import gpu_memory_of, memory_of, runtime_of
from socm_like.task import Task


def jobs_of(tasks: Sequence[Task]) -> list[Job]:
    """Return the tasks as jobs; what a task does not state it does not take, an unstated runtime has its weight."""
    return [
        Job(
            name=task.name,
            seconds=runtime_of(task),
            dependencies=task.dependencies,
            ranks=task.resources.ranks,
            threads=task.resources.threads,
            memory=memory_of(task) or 0,
            gpus=task.resources.gpus,
            gpu_memory=gpu_memory_of(task) or 0,
        )
        for task in tasks
    ]


def nodes_of(machine: Machine) -> list[Node]:
    """Return this machine as the one node that it is."""
    return [
        Node(
            machine.name,
            len(machine.cores),
            machine.memory,
            len(machine.gpus),
            machine.gpu_memory or 0,
            kind=machine.name,
        )
    ]


def schedule_of(plan: Plan) -> Schedule:
    """Return who runs where and when on the machine of the plan. Raises PlacementError."""
    return make_schedule(jobs_of(plan.tasks), nodes_of(plan.machine))


@dataclass(frozen=True, slots=True)
class Offer:
    """What one partition of a machine can do for a plan."""

    name: str
    node: Node
    most: int
    """Nodes that one allocation may have."""
    walltime: float
    cost_per_node_hour: float | None
    choices: tuple[Allocation, ...] = ()
    recommendation: Recommendation | None = None
    """The smallest allocation that keeps the deadline, where there is one."""
    problem: str = ""
    """Why the plan cannot run here at all."""


def offers(plan: Plan, machine: MachineFile) -> Iterator[Offer]:
    """Yield what each partition offers, in the order of the file; of several node types each by itself."""
    jobs = jobs_of(plan.tasks)
    deadline = None if plan.deadline is None else plan.deadline.total_seconds()
    for name, partition in machine.partitions.items():
        for kind in partition.nodes:
            label = name if len(partition.nodes) == 1 else f"{name} ({kind})"
            yield _filled(_offer(label, partition, kind, machine.nodes[kind]), jobs, deadline)


def _offer(name: str, partition: Partition, kind: str, nodes: Nodes) -> Offer:
    most = min(nodes.count, partition.max_nodes or nodes.count)
    if partition.max_cores is not None:
        most = max(1, min(most, partition.max_cores // nodes.cores))
    node = Node(kind, nodes.cores, nodes.memory, nodes.gpus, nodes.gpu_memory or 0, kind=kind)
    return Offer(name, node, most, partition.walltime.total_seconds(), partition.cost_per_node_hour)


def _filled(offer: Offer, jobs: Sequence[Job], deadline: float | None) -> Offer:
    limits = Limits(walltime=offer.walltime)
    try:
        choices = allocations(jobs, offer.node, offer.most, limits)
        found = None if deadline is None else recommend(jobs, offer.node, offer.most, deadline, limits)
    except PlacementError as error:
        return replace(offer, problem=str(error))
    return replace(offer, choices=choices, recommendation=found)
