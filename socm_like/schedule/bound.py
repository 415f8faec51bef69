"""How early any schedule can end: the longest chain, and for each resource what is asked over what there is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from socm_like.schedule.load import Demand, Load
from socm_like.schedule.model import Limits, Node

STEPS = (1, 2, 3, 4)
"""Parameters k of the dual feasible functions."""


@dataclass(frozen=True, slots=True)
class Bound:
    """No schedule ends before ``seconds``, and what forbids it."""

    seconds: float
    cause: str


@dataclass(frozen=True, slots=True)
class Chains:
    """For each job the seconds that must pass before it and, from its start, until the end of what depends on it."""

    heads: list[float]
    ranks: list[float]

    @property
    def longest(self) -> float:
        """The critical path in seconds, with the waiting for ``earliest``."""
        return max(map(float.__add__, self.heads, self.ranks), default=0.0)


def chains_of(load: Load) -> Chains:
    """Return heads and upward ranks.

    Source: rank_u(i) = w_i + max over successors rank_u, without communication cost; Topcuoglu, Hariri & Wu (2002),
    IEEE TPDS 13(3), eq. 3, p. 264.
    """
    heads, ranks = list(load.earliest), list(load.seconds)
    for job in load.order:
        for parent in load.parents[job]:
            heads[job] = max(heads[job], heads[parent] + load.seconds[parent])
    for job in reversed(load.order):
        ranks[job] += max([ranks[child] for child in load.children[job]], default=0.0)
    return Chains(heads, ranks)


def critical_path(load: Load, ranks: Sequence[float]) -> list[int]:
    """Return the chain of jobs that takes longest, first to last."""
    path = []
    choice = [job for job in load.order if not load.parents[job]]
    while choice:
        path.append(max(choice, key=lambda job: ranks[job]))
        choice = load.children[path[-1]]
    return path


def demands_over_capacity(load: Load, nodes: Sequence[Node]) -> dict[str, float]:
    """Return for cores, memory and GPUs the seconds that all jobs need if every node were full all the time."""
    capacity = {
        "cores": sum(node.cores for node in nodes),
        "memory": sum(node.memory for node in nodes),
        "gpus": sum(node.gpus for node in nodes),
    }
    weights = {demand: _held(demand, nodes) for demand in set(load.demands)}
    totals = [0.0, 0.0, 0.0]
    for seconds, demand in zip(load.seconds, load.demands, strict=True):
        for axis, held in enumerate(weights[demand]):
            totals[axis] += seconds * held
    return {
        name: total / capacity[name] if capacity[name] else 0.0 for name, total in zip(capacity, totals, strict=True)
    }


def _held(demand: Demand, nodes: Sequence[Node]) -> tuple[int, int, int]:
    """What a job holds at least of cores, memory and GPUs."""
    if not demand.whole:
        return demand.pieces * demand.cores, demand.pieces * demand.memory, demand.pieces * demand.gpus
    hosts = [node for node in nodes if demand.fits(node)]
    least = (min(n.cores for n in hosts), min(n.memory for n in hosts), min(n.gpus for n in hosts))
    return demand.pieces * least[0], demand.pieces * least[1], demand.pieces * least[2]


def lower_bound(load: Load, nodes: Sequence[Node], limits: Limits, chains: Chains) -> Bound:
    """Return the best of the chain bound and, for every measure of work, the energetic bounds.

    For jobs with heads of at least h the bound is h + work / capacity + their least tail; and the same from the end.
    Costs one sort and two passes over the jobs for each measure.
    """
    best = Bound(chains.longest, "critical path")
    if not load.names:
        return best
    tails = [rank - seconds for rank, seconds in zip(chains.ranks, load.seconds, strict=True)]
    jobs = range(len(load.names))
    by_head = sorted(jobs, key=chains.heads.__getitem__, reverse=True)
    by_tail = sorted(jobs, key=tails.__getitem__, reverse=True)
    for cause, work in _works(load, nodes, limits):
        if not any(work):
            continue
        seconds = max(_energetic(work, by_head, chains.heads, tails), _energetic(work, by_tail, tails, chains.heads))
        if seconds > best.seconds * (1 + 1e-9):
            best = Bound(seconds, cause)
    return best


def _works(load: Load, nodes: Sequence[Node], limits: Limits) -> Iterator[tuple[str, list[float]]]:
    """Yield what each job takes of all there is, in seconds of the whole; jobs of a cap take a part of that cap."""
    for cause, weights in _measures(set(load.demands), nodes, limits):
        yield cause, [seconds * weights[demand] for seconds, demand in zip(load.seconds, load.demands, strict=True)]
    for number, (name, most) in enumerate(limits.caps.items()):
        members = [number in caps for caps in load.caps]
        yield (
            f"concurrency of {name}",
            [seconds / most if member else 0.0 for seconds, member in zip(load.seconds, members, strict=True)],
        )


def _energetic(work: Sequence[float], order: Sequence[int], near: Sequence[float], far: Sequence[float]) -> float:
    best, total, least = 0.0, 0.0, math.inf
    for job in order:
        if work[job]:
            total += work[job]
            least = min(least, far[job])
            best = max(best, near[job] + total + least)
    return best


def _measures(
    demands: set[Demand], nodes: Sequence[Node], limits: Limits
) -> Iterator[tuple[str, Mapping[Demand, float]]]:
    """Yield measures of work: what a second of a job takes of everything there is, as a fraction.

    Besides the plain sums, dual feasible functions of the share of a node, u_k(x) = x where (k + 1) x is whole, else
    floor((k + 1) x) / k: shares that fit on one node have images that do too. u_1 counts jobs of more than half a node.
    Source: Fekete & Schepers (2001), Math. Programming 91, theorem 2 (after Lueker 1983).
    """
    held = {demand: _held(demand, nodes) for demand in demands}
    tops = [max(node.cores for node in nodes), max(node.memory for node in nodes), max(node.gpus for node in nodes)]
    totals = [sum(node.cores for node in nodes), sum(node.memory for node in nodes), sum(node.gpus for node in nodes)]
    for axis, name in enumerate(("cores", "memory", "gpus")):
        if not any(share[axis] for share in held.values()):
            continue
        yield name, {demand: held[demand][axis] / totals[axis] for demand in demands}
        for k in STEPS:
            weights = {d: d.pieces * _image(d, axis, tops[axis], k) / len(nodes) for d in demands}
            yield f"wide jobs ({name})", weights
    for each in sorted({node.gpu_memory for node in nodes if node.gpus})[1:]:
        hosts = sum(node.gpus for node in nodes if node.gpu_memory >= each)
        below = max(node.gpu_memory for node in nodes if node.gpus and node.gpu_memory < each)
        yield "large GPUs", {d: held[d][2] / hosts if d.gpu_memory > below else 0.0 for d in demands}
    if limits.max_cores is not None:
        yield "max_cores", {demand: held[demand][0] / limits.max_cores for demand in demands}
    if limits.max_jobs is not None:
        yield "max_jobs", dict.fromkeys(demands, 1 / limits.max_jobs)


def _image(demand: Demand, axis: int, top: int, k: int) -> float:
    if demand.whole:
        return 1.0
    share = (k + 1) * (demand.cores, demand.memory, demand.gpus)[axis]
    return share / top / (k + 1) if share % top == 0 else (share // top) / k
