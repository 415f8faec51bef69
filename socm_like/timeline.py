"""Plan -> Schedule: the tasks as the planner sees them, on this machine or on the nodes of a machine file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from socm_like.machine_file import MachineFile, Nodes, Partition
from socm_like.openings import Openings
from socm_like.plan import Plan
from socm_like.policy import Policy
from socm_like.resources import UNSTATED_RUNTIME, Machine
from socm_like.schedule import (
    Allocation,
    Job,
    Limits,
    Node,
    PlacementError,
    Recommendation,
    Schedule,
    allocations,
    check_jobs,
    make_schedule,
    recommend,
)
from socm_like.sizes import gpu_memory_of, memory_of, runtime_of
from socm_like.task import Task


def jobs_of(tasks: Sequence[Task], policy: Policy | None = None) -> list[Job]:
    """Return the tasks as jobs; what a task does not state it does not take, an unstated runtime has its weight."""
    policy = policy or Policy()
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
            priority=policy.priority(task.workflow),
            caps=policy.caps(task.workflow),
            limit=(task.resources.runtime or UNSTATED_RUNTIME).total_seconds(),
            splits=task.restartable,
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


def schedule_of(plan: Plan, now: datetime) -> Schedule:
    """Return who runs where and when on the machine of the plan, in seconds from now. Raises PlacementError."""
    jobs, nodes, limits = jobs_of(plan.tasks, plan.policy), nodes_of(plan.machine), Limits(caps=plan.policy.concurrency)
    if plan.window is None:
        return make_schedule(jobs, nodes, limits)
    openings = Openings(plan.window, now)
    return make_schedule(jobs, nodes, limits, release=openings.release, split=openings.split)


def closed_hours(plan: Plan, schedule: Schedule, now: datetime) -> tuple[tuple[float, float], ...]:
    """Return the spans of a schedule outside the preferred hours, in seconds from now; none without a window."""
    return () if plan.window is None else Openings(plan.window, now).closed(schedule.makespan)


def refusals_of(plan: Plan, schedule: Schedule, now: datetime) -> Iterator[str]:
    """Yield for each task that no window will hold why that is; the runner will say the same."""
    limits = {job.name: job.limit or job.seconds for job in jobs_of(plan.tasks)} if schedule.refused else {}
    for name, ready in schedule.refused:
        assert plan.window is not None
        yield f"{name}: {Openings(plan.window, now).problem(ready, limits[name])}"


def remaining(plan: Plan, cached: Collection[str]) -> Plan:
    """Return the plan of what is left to run: without the tasks that are cached, and without waiting for them."""
    if not cached:
        return plan
    left = [task for task in plan.tasks if task.name not in cached]
    kept = {task.name: tuple(name for name in task.dependencies if name not in cached) for task in left}
    return replace(plan, tasks=tuple(replace(task, dependencies=kept[task.name]) for task in left))


def core_hours_of(plan: Plan) -> float:
    """Return cores x hours of all tasks, each attempted once."""
    return sum(runtime_of(task) * task.resources.cores for task in plan.tasks) / 3600


@dataclass(frozen=True, slots=True)
class Offer:
    """What one partition of a machine can do for a plan."""

    name: str
    node: Node
    least: int
    """Nodes that one allocation must have."""
    most: int
    """Nodes that one allocation may have."""
    walltime: float | None
    """Of one allocation; None where there is no limit."""
    cost_per_node_hour: float | None
    choices: tuple[Allocation, ...] = ()
    recommendation: Recommendation | None = None
    """The smallest allocation that keeps the deadline, where there is one."""
    faults: tuple[str, ...] = ()
    """Why the plan cannot run here at all: a line for each task, or one for all."""

    def cost(self, allocation: Allocation) -> float:
        """Return what an allocation costs, in node-hours where the site states no price."""
        price = 1.0 if self.cost_per_node_hour is None else self.cost_per_node_hour
        return allocation.node_hours * price


def offers(plan: Plan, machine: MachineFile) -> Iterator[Offer]:
    """Yield what each partition offers, in the order of the file; of several node types each by itself.

    A machine without partitions, as a laptop has none, offers its nodes. Tasks run in allocations of many nodes, one
    after the other, so ``max_jobs`` of a partition sets no limit. Allocations start when they start: windows are not
    counted in, priorities and caps are.
    """
    jobs = jobs_of(plan.tasks, plan.policy)
    deadline = None if plan.deadline is None else plan.deadline.total_seconds()
    limits = Limits(caps=plan.policy.concurrency)
    for offer in _offers(machine):
        yield offer if offer.faults else _filled(offer, jobs, deadline, limits)


def refusing(plan: Plan, machine: MachineFile) -> Iterator[Offer]:
    """Yield what each partition cannot run, without looking for what it would take."""
    jobs = jobs_of(plan.tasks, plan.policy)
    for offer in _offers(machine):
        limits = Limits(caps=plan.policy.concurrency, walltime=offer.walltime)
        try:
            check_jobs(jobs, offer.node, offer.most, limits)
        except PlacementError as error:
            offer = replace(offer, faults=(*offer.faults, *error.faults))  # noqa: PLW2901
        yield offer


def cheapest(found: Sequence[Offer]) -> tuple[Offer, Allocation] | None:
    """Return the offer that keeps the deadline for the least, of equals in the fewest allocations, or None."""
    kept = [
        (offer, offer.recommendation.allocation)
        for offer in found
        if offer.recommendation is not None and offer.recommendation.allocation is not None
    ]
    return min(kept, key=lambda pair: (pair[0].cost(pair[1]), pair[1].pilots), default=None)


def _offers(machine: MachineFile) -> Iterator[Offer]:
    if not machine.partitions:
        for kind, nodes in machine.nodes.items():
            yield Offer(kind, _node(kind, nodes, nodes.cores), 1, nodes.count, None, None)
    for name, partition in machine.partitions.items():
        for kind in partition.nodes:
            label = name if len(partition.nodes) == 1 else f"{name} ({kind})"
            yield _offer(label, partition, kind, machine.nodes[kind])


def _offer(name: str, partition: Partition, kind: str, nodes: Nodes) -> Offer:
    cores = min(nodes.cores, partition.max_cores or nodes.cores)
    least, most = partition.min_nodes or 1, min(nodes.count, partition.max_nodes or nodes.count)
    if partition.max_cores is not None:
        most = min(most, partition.max_cores // cores)
    faults: tuple[str, ...] = ()
    if least > most:
        limit = f"max_cores {partition.max_cores}" if partition.max_cores is not None else f"{kind}"
        faults = (f"an allocation has {least} nodes or more here, {limit} allows {most}",)
    walltime, price = partition.walltime.total_seconds(), partition.cost_per_node_hour
    return Offer(name, _node(kind, nodes, cores), least, most, walltime, price, faults=faults)


def _node(kind: str, nodes: Nodes, cores: int) -> Node:
    """Return a node, or the part of one with so many of its cores and as large a part of its memory."""
    memory = nodes.memory * cores // nodes.cores
    return Node(kind, cores, memory, nodes.gpus, nodes.gpu_memory or 0, kind=kind)


def _filled(offer: Offer, jobs: Sequence[Job], deadline: float | None, limits: Limits) -> Offer:
    limits, bounds = replace(limits, walltime=offer.walltime), (offer.least, offer.most)
    try:
        choices = allocations(jobs, offer.node, bounds, limits)
        found = None if deadline is None else recommend(jobs, offer.node, bounds, deadline, limits)
    except PlacementError as error:
        return replace(offer, faults=error.faults)
    return replace(offer, choices=choices, recommendation=found)
