"""Jobs as parallel lists of numbers, the graph as indices; and why a job can never run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from socm_like.schedule.model import Job, Limits, Node, PlacementError
from socm_like.units import format_size, format_span


@dataclass(frozen=True, slots=True)
class Demand:
    """A job as ``pieces`` equal parts, each of which stays on one node."""

    pieces: int
    cores: int
    memory: int
    gpus: int
    gpu_memory: int
    whole: bool
    """Each piece takes a node with all it has."""

    def fits(self, node: Node) -> bool:
        """Whether one piece fits on this node when it is empty."""
        return (
            self.cores <= node.cores
            and self.memory <= node.memory
            and self.gpus <= node.gpus
            and (not self.gpus or self.gpu_memory <= node.gpu_memory)
        )

    def slots(self, node: Node) -> int:
        """Return how many pieces an empty node holds."""
        if not self.fits(node):
            return 0
        if self.whole:
            return 1
        counts = [node.cores // self.cores]
        counts += [node.memory // self.memory] if self.memory else []
        counts += [node.gpus // self.gpus] if self.gpus else []
        return min(counts)


@dataclass(frozen=True, slots=True)
class Load:
    """All jobs by index; ``order`` holds each index after those it depends on."""

    names: list[str]
    seconds: list[float]
    earliest: list[float]
    demands: list[Demand]
    parents: list[list[int]]
    children: list[list[int]]
    order: list[int]
    priorities: list[int]
    """Of each job the highest of its own and of those that depend on it."""
    caps: list[tuple[int, ...]]
    """Of each job the indices of its caps among those of the limits."""
    limits: list[float]
    """Seconds that a window must hold."""
    splits: frozenset[int]

    def reversed(self) -> Load:
        """Return the same jobs with every edge turned round, for planning from the end."""
        return replace(
            self,
            parents=self.children,
            children=self.parents,
            order=self.order[::-1],
            earliest=[0.0] * len(self.names),
            priorities=[-priority for priority in self.priorities],
        )


def demand_of(job: Job, nodes: Iterable[Node]) -> Demand:
    """Return the parts of a job.

    A job whose ranks fit on one node, on at least half of the nodes that take one of its parts, stays on one node: its
    messages stay there too. Ranks that share GPUs are one part: the greatest common divisor of both numbers of them.
    """
    gpu_memory = job.gpu_memory if job.gpus else 0
    if job.exclusive_nodes:
        count = job.exclusive_nodes
        cores = -(-job.ranks // count) * job.threads
        return Demand(count, cores, -(-job.memory // count), -(-job.gpus // count), gpu_memory, True)
    together = Demand(1, job.ranks * job.threads, job.memory, job.gpus, gpu_memory, False)
    pieces = math.gcd(job.ranks, job.gpus) if job.gpus else job.ranks
    if pieces == 1:
        return together
    piece = Demand(pieces, together.cores // pieces, -(-job.memory // pieces), job.gpus // pieces, gpu_memory, False)
    hosts = [node for node in nodes if piece.fits(node)]
    on_one = sum(together.fits(node) for node in hosts)
    return together if on_one and 2 * on_one >= len(hosts) else piece


def refusals(job: Job, nodes: Sequence[Node], limits: Limits | None = None) -> tuple[str, ...]:
    """Return every reason why a job can never run on these nodes; empty when it can."""
    invalid = tuple(_invalid(job))
    return invalid or _refusals(job, demand_of(job, nodes), nodes, limits or Limits())


def _refusals(job: Job, demand: Demand, nodes: Sequence[Node], limits: Limits) -> tuple[str, ...]:
    reasons = list(_invalid(job))
    if reasons:
        return tuple(reasons)
    if limits.walltime is not None and job.seconds > limits.walltime:
        reasons.append(f"takes {format_span(job.seconds)}, the walltime is {format_span(limits.walltime)}")
    if limits.max_jobs is not None and limits.max_jobs < 1:
        reasons.append(f"at most {limits.max_jobs} jobs may run at once")
    for name in job.caps:
        if name not in limits.caps:
            reasons.append(f"counts for {name!r}, which is no cap")
        elif limits.caps[name] < 1:
            reasons.append(f"at most {limits.caps[name]} jobs of {name!r} may run at once")
    if not nodes:
        reasons.append("there are no nodes")
    elif not _holds(demand, nodes):
        reasons += _short(demand, nodes)
    elif limits.max_cores is not None and (cores := _cores_held(demand, nodes)) > limits.max_cores:
        reasons.append(f"holds {cores} cores, at most {limits.max_cores} may be in use at once")
    return tuple(reasons)


def _holds(demand: Demand, nodes: Iterable[Node]) -> bool:
    """Whether all parts of a job fit on the empty nodes at once."""
    held = 0
    for node in nodes:
        held += demand.slots(node)
        if held >= demand.pieces:
            return True
    return False


def _invalid(job: Job) -> Iterable[str]:
    for field in ("seconds", "earliest"):
        value = getattr(job, field)
        if not 0 <= value < math.inf:
            yield f"{field} must be 0 or more and finite, got {value!r}"
    for field, least in (("ranks", 1), ("threads", 1), ("memory", 0), ("gpus", 0), ("exclusive_nodes", 0)):
        if getattr(job, field) < least:
            yield f"{field} must be {least} or more, got {getattr(job, field)}"


def _cores_held(demand: Demand, nodes: Sequence[Node]) -> int:
    """Cores in use while the job runs, on the largest nodes where it takes whole ones."""
    if not demand.whole:
        return demand.pieces * demand.cores
    return sum(sorted((node.cores for node in nodes if demand.fits(node)), reverse=True)[: demand.pieces])


def _short(demand: Demand, nodes: Sequence[Node]) -> Iterable[str]:
    """Say for each node type what a part of the job lacks there, or that all nodes together hold too few parts."""
    kinds = Counter(replace(node, name="") for node in nodes)
    held = sum(demand.slots(kind) * count for kind, count in kinds.items())
    if held:
        unit = "whole nodes" if demand.whole else f"parts of {demand.cores} cores"
        yield f"asks {demand.pieces} {unit} at once, {sum(kinds.values())} nodes hold {held} of them"
        return
    for kind in kinds:
        where = f"on one node, {kind.kind} has"
        if demand.cores > kind.cores:
            yield f"asks {demand.cores} cores {where} {kind.cores}"
        if demand.memory > kind.memory:
            yield f"asks {format_size(demand.memory)} of memory {where} {format_size(kind.memory)}"
        if demand.gpus > kind.gpus:
            yield f"asks {demand.gpus} GPUs {where} {kind.gpus}"
        elif demand.gpus and demand.gpu_memory > kind.gpu_memory:
            asked, offered = format_size(demand.gpu_memory), format_size(kind.gpu_memory)
            yield f"asks {asked} on each GPU, {kind.kind} has {offered}"


def make_load(jobs: Sequence[Job], nodes: Sequence[Node], limits: Limits) -> Load:
    """Return the jobs as lists of numbers.

    Raises PlacementError with every job that can never run and why, or with what makes the dependencies no graph.
    """
    index = {job.name: number for number, job in enumerate(jobs)}
    faults = [f"{name}: there are {count} jobs of this name" for name, count in _repeated(jobs).items()]
    faults += [
        f"{job.name}: depends on {name!r}, which is no job"
        for job in jobs
        for name in dict.fromkeys(job.dependencies)
        if name not in index
    ]
    if faults:
        raise PlacementError(faults)
    parents = [[index[name] for name in dict.fromkeys(job.dependencies)] for job in jobs]
    children: list[list[int]] = [[] for _ in jobs]
    for number, above in enumerate(parents):
        for parent in above:
            children[parent].append(number)
    demands = _demands(jobs, nodes, limits)
    order = _sorted(jobs, parents, children)
    numbers = {name: number for number, name in enumerate(limits.caps)}
    return Load(
        names=[job.name for job in jobs],
        seconds=[float(job.seconds) for job in jobs],
        earliest=[float(job.earliest) for job in jobs],
        demands=demands,
        parents=parents,
        children=children,
        order=order,
        priorities=_priorities(jobs, children, order),
        caps=[tuple(numbers[name] for name in dict.fromkeys(job.caps)) for job in jobs],
        limits=[float(job.seconds if job.limit is None else job.limit) for job in jobs],
        splits=frozenset(number for number, job in enumerate(jobs) if job.splits),
    )


def _priorities(jobs: Sequence[Job], children: list[list[int]], order: list[int]) -> list[int]:
    """Return for each job the highest priority of itself and of what depends on it."""
    found = [job.priority for job in jobs]
    if any(found):
        for number in reversed(order):
            found[number] = max([found[number], *(found[child] for child in children[number])])
    return found


def _repeated(jobs: Sequence[Job]) -> dict[str, int]:
    return {name: count for name, count in Counter(job.name for job in jobs).items() if count > 1}


def _demands(jobs: Sequence[Job], nodes: Sequence[Node], limits: Limits) -> list[Demand]:
    """Return the parts of every job; what many jobs ask alike is looked at once."""
    known: dict[tuple[object, ...], tuple[Demand, bool]] = {}
    demands, faults = [], []
    longest = math.inf if limits.walltime is None else limits.walltime
    for job in jobs:
        key = (job.ranks, job.threads, job.memory, job.gpus, job.gpu_memory, job.exclusive_nodes, job.caps)
        if key not in known:
            plain = replace(job, seconds=0.0, earliest=0.0)
            invalid = any(True for _ in _invalid(plain))
            demand = Demand(1, 1, 0, 0, 0, False) if invalid else demand_of(plain, nodes)
            known[key] = demand, not (invalid or _refusals(plain, demand, nodes, limits))
        demand, runs = known[key]
        if not (runs and 0 <= job.seconds <= longest and job.seconds < math.inf and 0 <= job.earliest < math.inf):
            faults.append(f"{job.name}: {'; '.join(_refusals(job, demand, nodes, limits))}")
        demands.append(demand)
    if faults:
        raise PlacementError(faults)
    return demands


def _sorted(jobs: Sequence[Job], parents: list[list[int]], children: list[list[int]]) -> list[int]:
    """Return every index after those it depends on (Kahn's algorithm), or name a circle."""
    missing = [len(above) for above in parents]
    order = [number for number, count in enumerate(missing) if not count]
    for number in order:
        for child in children[number]:
            missing[child] -= 1
            if not missing[child]:
                order.append(child)
    if len(order) == len(jobs):
        return order
    stuck = next(number for number, count in enumerate(missing) if count)
    walk: dict[int, None] = {}
    while stuck not in walk:
        walk[stuck] = None
        stuck = next(parent for parent in parents[stuck] if missing[parent])
    circle = list(walk)[list(walk).index(stuck) :]
    chain = " -> ".join(jobs[number].name for number in [*circle, stuck])
    raise PlacementError([f"{jobs[stuck].name}: depends on itself: {chain}"])
