"""How many nodes to ask for: what more of them save in time and cost in node-hours, and the fewest for a deadline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from socm_like.schedule.bound import chains_of, critical_path, lower_bound
from socm_like.schedule.load import Load, make_load, refusals
from socm_like.schedule.model import Job, Limits, Node
from socm_like.schedule.search import make_schedule
from socm_like.units import format_span

SATISFIED = 1.01
"""More nodes are not tried once the makespan is this close to what the most of them allow."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """One choice of nodes."""

    nodes: int
    makespan: float
    node_hours: float
    ratio: float
    """Makespan over the lower bound for so many nodes."""
    pilots: int
    """Consecutive allocations of one walltime each."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The smallest allocation found that keeps a deadline, or None and why there is none."""

    allocation: Allocation | None
    reason: str


def allocations(
    jobs: Sequence[Job], node: Node, bounds: tuple[int, int], limits: Limits | None = None, counts: Sequence[int] = ()
) -> tuple[Allocation, ...]:
    """Return a row for each number of nodes: ``counts``, or doublings up to the number that is of any use.

    :param bounds: the fewest and the most nodes that an allocation may have.

    Raises PlacementError when a job fits on no allocation of the most nodes.
    """
    limits, most = limits or Limits(), bounds[1]
    load = make_load(jobs, _alike(node, most), limits)
    least = lower_bound(load, _alike(node, most), limits, chains_of(load)).seconds
    rows = []
    for count in counts or _doublings(_fewest(jobs, node, bounds, limits), most):
        rows.append(_allocation(jobs, node, count, limits))
        if not counts and rows[-1].makespan <= SATISFIED * least:
            break
    return tuple(rows)


def check_jobs(jobs: Sequence[Job], node: Node, most: int, limits: Limits) -> None:
    """Raise PlacementError with every job that fits on no allocation of the most nodes, and why."""
    make_load(jobs, _alike(node, most), limits)


def recommend(
    jobs: Sequence[Job], node: Node, bounds: tuple[int, int], deadline: float, limits: Limits | None = None
) -> Recommendation:
    """Return the smallest allocation whose schedule ends within ``deadline`` seconds.

    Numbers of nodes that the lower bound rules out are not tried; from there upwards in growing steps, then between
    the last that failed and the first that did not. The makespan need not fall with every node, so smallest means
    smallest of those tried.

    :param bounds: the fewest and the most nodes that an allocation may have.

    Raises PlacementError when a job fits on no allocation of the most nodes.
    """
    limits, most = limits or Limits(), bounds[1]
    load = make_load(jobs, _alike(node, most), limits)
    chains = chains_of(load)
    if chains.longest > deadline:
        path = [load.names[job] for job in critical_path(load, chains.ranks)]
        shown = " -> ".join(path if len(path) <= 4 else [path[0], "...", path[-1]])
        return Recommendation(
            None,
            f"the chain {shown} alone takes {format_span(chains.longest)}, the deadline is {format_span(deadline)}",
        )
    fewest = _bounded(load, node, (_fewest(jobs, node, bounds, limits), most), deadline, limits)
    if fewest is None:
        seconds = lower_bound(load, _alike(node, most), limits, chains)
        span = format_span(seconds.seconds)
        return Recommendation(None, f"{most} nodes take at least {span} ({seconds.cause}), more are not offered")
    return _smallest(jobs, node, (fewest, most), deadline, limits)


def _smallest(
    jobs: Sequence[Job], node: Node, bounds: tuple[int, int], deadline: float, limits: Limits
) -> Recommendation:
    fewest, most = bounds
    failed, kept, best, step = fewest - 1, None, None, 1
    count = fewest
    while kept is None:
        row = _allocation(jobs, node, count, limits)
        best = row if best is None or row.makespan < best.makespan else best
        if row.makespan <= deadline:
            kept = row
        elif count == most:
            span = format_span(best.makespan)
            return Recommendation(None, f"the best schedule found takes {span}, on {best.nodes} nodes of {most}")
        else:
            failed, count, step = count, min(count + step, most), 2 * step
    while kept.nodes - failed > 1:
        row = _allocation(jobs, node, (kept.nodes + failed) // 2, limits)
        if row.makespan <= deadline:
            kept = row
        else:
            failed = row.nodes
    pilots = f" in {kept.pilots} allocations, one after the other," if kept.pilots > 1 else ""
    return Recommendation(
        kept, f"{kept.nodes} nodes{pilots} take {format_span(kept.makespan)}, {kept.node_hours:.3g} node-hours"
    )


def _alike(node: Node, count: int) -> list[Node]:
    return [replace(node, name=f"{node.name}{number}") for number in range(count)]


def _allocation(jobs: Sequence[Job], node: Node, count: int, limits: Limits) -> Allocation:
    plan = make_schedule(jobs, _alike(node, count), limits)
    return Allocation(count, plan.makespan, plan.node_hours, plan.ratio, len(plan.pilots))


def _fewest(jobs: Sequence[Job], node: Node, bounds: tuple[int, int], limits: Limits) -> int:
    """Return the smallest number of nodes within bounds on which every job fits; on the most of them they all do."""
    known = {replace(job, name="", dependencies=(), seconds=0.0, earliest=0.0) for job in jobs}
    low, high = bounds[0] - 1, bounds[1]
    while high - low > 1:
        count = (low + high) // 2
        if any(refusals(job, [node] * count, limits) for job in known):
            low = count
        else:
            high = count
    return high


def _doublings(first: int, most: int) -> Iterator[int]:
    count = first
    while count < most:
        yield count
        count *= 2
    yield most


def _bounded(load: Load, node: Node, bounds: tuple[int, int], deadline: float, limits: Limits) -> int | None:
    """Return the smallest number of nodes that the lower bound does not rule out."""
    chains = chains_of(load)
    fewest, most = bounds

    def keeps(count: int) -> bool:
        return lower_bound(load, [node] * count, limits, chains).seconds <= deadline

    if not keeps(most):
        return None
    low, high = fewest - 1, most
    while high - low > 1:
        count = (low + high) // 2
        low, high = (low, count) if keeps(count) else (count, high)
    return high
