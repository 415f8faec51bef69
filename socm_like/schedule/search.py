"""Jobs + nodes -> Schedule: a few priority rules, the best of them improved from both ends, and how good it is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from socm_like.schedule.bound import Bound, Chains, chains_of, critical_path, demands_over_capacity, lower_bound
from socm_like.schedule.dispatch import Timetable, dispatch, large_on
from socm_like.schedule.explain import why_above
from socm_like.schedule.load import Load, make_load
from socm_like.schedule.model import Job, Limits, Node, Placement, Schedule

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


def make_schedule(jobs: Sequence[Job], nodes: Sequence[Node], limits: Limits | None = None) -> Schedule:
    """Return where and when each job runs, the same for the same arguments.

    Raises PlacementError naming every job that can never run and why, or what makes the dependencies no graph.
    """
    limits = limits or Limits()
    load = make_load(jobs, nodes, limits)
    chains = chains_of(load)
    bound = lower_bound(load, nodes, limits, chains)
    table = _best(load, nodes, limits, chains, bound)
    return _described(load, nodes, chains, bound, table)


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


def _best(load: Load, nodes: Sequence[Node], limits: Limits, chains: Chains, bound: Bound) -> Timetable:
    """Return the best of the rules, improved from both ends while there are passes left."""
    left = _passes(len(load.names))
    found: list[tuple[float, int, Timetable, bool]] = []
    for order in islice(first_turns(load, nodes, chains), min(RULES, max(left - 2, 2))):
        table = dispatch(load, nodes, limits, order)
        found.append((table.makespan, len(found), table, True))
        left -= 1
        if table.makespan <= ENOUGH * bound.seconds:
            return table
    found.sort()
    if left > RULES and any(map(large_on(nodes), set(load.demands))):
        order = sorted(range(len(load.names)), key=found[0][2].starts.__getitem__)
        table = dispatch(load, nodes, limits, order, promises=False)
        found.append((table.makespan, len(found), table, False))
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
            table = dispatch(load, nodes, limits, order, promises=promises)
            left -= 1
        while left >= 2:
            left -= 2
            better = _justified(load, nodes, limits, table, promises=promises)
            found.append((better.makespan, len(found), better, promises))
            if better.makespan <= ENOUGH * bound.seconds:
                return better
            if better.makespan >= table.makespan:
                break
            table = better
    return min(found)[2]


def _justified(load: Load, nodes: Sequence[Node], limits: Limits, table: Timetable, *, promises: bool) -> Timetable:
    """Return a timetable planned from the end, the latest end first, and then again from the start in that order.

    Source: Valls, Ballestin & Quintanilla (2005), Justification and RCPSP, EJOR 165(2), pp. 375-386.
    """
    jobs = range(len(load.names))
    latest = sorted(jobs, key=lambda job: (-table.ends[job], -table.starts[job], job))
    late = dispatch(load.reversed(), nodes, replace(limits, walltime=None), latest, promises=promises)
    return dispatch(load, nodes, limits, sorted(jobs, key=lambda job: (-late.ends[job], job)), promises=promises)


def _described(load: Load, nodes: Sequence[Node], chains: Chains, bound: Bound, table: Timetable) -> Schedule:
    path = critical_path(load, chains.ranks)
    needed = demands_over_capacity(load, nodes)
    bottleneck = max(needed, key=lambda name: needed[name])
    makespan = table.makespan
    jobs = sorted(range(len(load.names)), key=lambda job: (table.starts[job], job))
    return Schedule(
        placements=tuple(
            Placement(load.names[job], table.starts[job], table.ends[job], table.shares[job]) for job in jobs
        ),
        makespan=makespan,
        critical_path=tuple(load.names[job] for job in path),
        critical_path_seconds=sum(load.seconds[job] for job in path),
        lower_bound=bound.seconds,
        bound=bound.cause,
        bottleneck=bottleneck,
        utilisation=needed[bottleneck] / makespan if makespan else 0.0,
        node_hours=len(nodes) * makespan / 3600,
        pilots=table.pilots,
        reason=why_above(load, nodes, table, bottleneck) if makespan > TOLERATED * bound.seconds else "",
    )
