"""Jobs + nodes -> Schedule: a few priority rules, the best of them improved from both ends, and how good it is."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from socm_like.schedule.bound import Bound, Chains, chains_of, critical_path, demands_over_capacity, lower_bound
from socm_like.schedule.dispatch import dispatch, large_on
from socm_like.schedule.explain import why_above
from socm_like.schedule.load import Load, make_load
from socm_like.schedule.model import Gate, Job, Limits, Node, Placement, Schedule
from socm_like.schedule.timetable import Timetable

ENOUGH = 1.002
"""A makespan this close to the bound is not improved further."""
RULES = 4
"""Rules that are tried; fewer for more jobs than one has time for."""
STARTS = 3
"""Timetables that are improved, the best first."""
SPREAD = (0.7, 1.4)
"""Factors on the ranks once the rules are used up; drawn with a fixed seed."""
TOLERATED = 1.05
"""Up to here a makespan needs no explanation."""


def make_schedule(
    jobs: Sequence[Job],
    nodes: Sequence[Node],
    limits: Limits | None = None,
    *,
    release: Callable[[float, float], float] | None = None,
    split: Callable[[float, float], tuple[float, float]] | None = None,
) -> Schedule:
    """Return where and when each job runs, the same for the same arguments.

    ``release`` and ``split`` are the windows of a policy, as :class:`Gate` says. Jobs that no window will hold, and
    what depends on them, are left out of the schedule and named in it.

    Raises PlacementError naming every job that can never run and why, or what makes the dependencies no graph.
    """
    limits = limits or Limits()
    gate = None if release is None else Gate(release, split)
    refused: list[tuple[str, float]] = []
    rest = list(jobs)
    while True:
        case = _case(make_load(rest, nodes, limits), nodes, limits, gate)
        table = _best(case)
        if not table.refused:
            names = {job.name for job in rest} | {name for name, _ in refused}
            skipped = tuple(job.name for job in jobs if job.name not in names)
            return replace(_described(case, table), refused=tuple(refused), skipped=skipped)
        refused += [(case.load.names[job], ready) for job, ready in table.refused]
        rest = _without(rest, case.load, [job for job, _ in table.refused])


@dataclass(frozen=True, slots=True)
class _Case:
    """What is to be planned, and what is known of it before."""

    load: Load
    nodes: Sequence[Node]
    limits: Limits
    gate: Gate | None
    chains: Chains
    bound: Bound

    def dispatch(self, order: Sequence[int], *, promises: bool = True) -> Timetable:
        """Return the timetable of an order, after the priorities."""
        urgent = sorted(order, key=lambda job: -self.load.priorities[job])
        return dispatch(self.load, self.nodes, self.limits, urgent, promises=promises, gate=self.gate)


def _case(load: Load, nodes: Sequence[Node], limits: Limits, gate: Gate | None) -> _Case:
    """Return a case with its bound.

    A job without parents is ready at a second that no schedule changes, so the bound may count from its release. One
    with parents may be released earlier when it is ready later, where that decides for another window: there the
    bound counts from the ends of its parents.
    """
    bounded = (
        load if gate is None else replace(load, earliest=[_known(load, gate, job) for job in range(len(load.names))])
    )
    chains = chains_of(bounded)
    return _Case(load, nodes, limits, gate, chains_of(load), lower_bound(bounded, nodes, limits, chains))


def _known(load: Load, gate: Gate, job: int) -> float:
    earliest, held = load.earliest[job], max(load.limits[job], load.seconds[job])
    if load.parents[job]:
        return earliest
    splits = gate.split is not None and job in load.splits
    start = gate.split(earliest, held)[0] if gate.split is not None and splits else gate.release(earliest, held)
    return max(earliest, start) if start < math.inf else earliest


def _without(jobs: Sequence[Job], load: Load, refused: Sequence[int]) -> list[Job]:
    """Return the jobs without those that are refused and what depends on them."""
    gone = set(refused)
    for job in load.order:
        if not gone.isdisjoint(load.parents[job]):
            gone.add(job)
    return [job for number, job in enumerate(jobs) if number not in gone]


def _passes(count: int) -> int:
    """How many passes so many jobs may cost: about a quarter of a second up to 1,000 jobs, 2 s for 10,000."""
    if count > 5_000:
        return 2 if count > 20_000 else 4
    return min(max(5_000 // max(count, 1), 5), 60)


def first_turns(load: Load, nodes: Sequence[Node], chains: Chains) -> Iterator[list[int]]:
    """Yield orders of turns: by rank and area, by rank, by rank x share, by area; ties by the order of the jobs.

    The area of a job is its duration x its dominant share of all nodes. The first rule adds to the upward
    rank twice the duration x the share of one node, so that among chains of like length the large jobs come first.
    """
    totals = (sum(n.cores for n in nodes), sum(n.memory for n in nodes), sum(n.gpus for n in nodes))
    dominant = {
        d: d.pieces * max(
            asked / total if total else 0.0
            for asked, total in zip((d.cores, d.memory, d.gpus), totals, strict=True)
        )
        for d in set(load.demands)
    }  # fmt: skip
    areas = [seconds * dominant[demand] for seconds, demand in zip(load.seconds, load.demands, strict=True)]
    jobs, ranks = range(len(load.names)), chains.ranks
    yield sorted(jobs, key=lambda job: (-(ranks[job] + 2 * len(nodes) * areas[job]), job))
    yield sorted(jobs, key=lambda job: (-ranks[job], -areas[job], job))
    yield sorted(jobs, key=lambda job: (-ranks[job] * (0.3 + len(nodes) * dominant[load.demands[job]]), job))
    yield sorted(jobs, key=lambda job: (-areas[job], -ranks[job], job))


def _best(case: _Case) -> Timetable:
    """Return the best of the rules, improved from both ends while there are passes left."""
    load, nodes, chains, enough = case.load, case.nodes, case.chains, (0, ENOUGH * case.bound.seconds)
    left = _passes(len(load.names))
    found: list[tuple[tuple[int, float], int, Timetable, bool]] = []
    for order in islice(first_turns(load, nodes, chains), min(RULES, max(left - 2, 2))):
        table = case.dispatch(order)
        found.append((table.badness, len(found), table, True))
        left -= 1
        if table.badness <= enough:
            return table
    found.sort()
    if left > RULES and any(map(large_on(nodes), set(load.demands))):
        order = sorted(range(len(load.names)), key=found[0][2].starts.__getitem__)
        table = case.dispatch(order, promises=False)
        found.append((table.badness, len(found), table, False))
        left -= 1
        found.sort()
    starts = iter([(table, promises) for _, _, table, promises in found[:STARTS]])
    source = random.Random(len(load.names))
    while left >= 2:
        started = next(starts, None)
        if started is not None:
            table, promises = started
        else:
            promises = found[0][3]
            ranks = [rank * source.uniform(*SPREAD) for rank in chains.ranks]
            order = sorted(range(len(ranks)), key=ranks.__getitem__, reverse=True)
            table = case.dispatch(order, promises=promises)
            left -= 1
        while left >= 2:
            left -= 2
            better = _justified(case, table, promises=promises)
            found.append((better.badness, len(found), better, promises))
            if better.badness <= enough:
                return better
            if better.badness >= table.badness:
                break
            table = better
    return min(found)[2]


def _justified(case: _Case, table: Timetable, *, promises: bool) -> Timetable:
    """Return a timetable planned from the end, the latest end first, and then again from the start in that order.

    Planning from the end knows no windows and no allocations, and gives only an order: the least urgent end last.
    Source: Valls, Ballestin & Quintanilla (2005), Justification and RCPSP, EJOR 165(2), pp. 375-386.
    """
    jobs, urgent = range(len(case.load.names)), case.load.priorities
    latest = sorted(jobs, key=lambda job: (urgent[job], -table.ends[job], -table.starts[job], job))
    limits = replace(case.limits, walltime=None)
    late = dispatch(case.load.reversed(), case.nodes, limits, latest, promises=promises)
    return case.dispatch(sorted(jobs, key=lambda job: (-late.ends[job], job)), promises=promises)


def _described(case: _Case, table: Timetable) -> Schedule:
    load, nodes, chains, bound = case.load, case.nodes, case.chains, case.bound
    path = critical_path(load, chains.ranks)
    needed = demands_over_capacity(load, nodes)
    bottleneck = max(needed, key=lambda name: needed[name])
    makespan = table.makespan
    runs = sorted(table.runs(), key=lambda run: (run[1][0], run[0]))
    return Schedule(
        placements=tuple(Placement(load.names[job], start, end, shares) for job, (start, end, shares) in runs),
        makespan=makespan,
        critical_path=tuple(load.names[job] for job in path),
        critical_path_seconds=sum(load.seconds[job] for job in path),
        lower_bound=bound.seconds,
        bound=bound.cause,
        bottleneck=bottleneck,
        utilisation=needed[bottleneck] / makespan if makespan else 0.0,
        node_hours=len(nodes) * makespan / 3600,
        pilots=table.pilots,
        reason=why_above(load, nodes, case.limits, table, bottleneck) if makespan > TOLERATED * bound.seconds else "",
    )
