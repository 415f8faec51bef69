"""When and where a job that needs much at once will find room, and what others may take there until then."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from socm_like.schedule.load import Demand
from socm_like.schedule.model import Share
from socm_like.schedule.pool import Pool, shares_of, slots_in


@dataclass(slots=True)
class Reservation:
    """EASY backfilling: one waiting job is promised a start, others may run before or beside it.

    Source: Lifka (1995), The ANL/IBM SP scheduling system, JSSPP, LNCS 949, p. 295.
    """

    turn: int
    start: float
    spare: dict[int, list[int]]
    """Node -> cores, memory and GPUs that are left beside the promised job at its start."""

    def admits(self, demand: Demand, node: int, end: float) -> bool:
        """Whether a part may start on a node now and end then."""
        if end <= self.start or node not in self.spare:
            return True
        cores, memory, gpus = self.spare[node]
        return not demand.whole and demand.cores <= cores and demand.memory <= memory and demand.gpus <= gpus

    def charge(self, share: Share, end: float) -> None:
        """Count what a job holds beyond the promised start."""
        if end > self.start and share.node in self.spare:
            left = self.spare[share.node]
            left[0] -= share.cores
            left[1] -= share.memory
            left[2] -= share.gpus


Running = Sequence[Mapping[int, tuple[float, Share]]]
"""For each node the jobs there, by index: when they are expected to end and what they hold."""


def reserve(turn: int, demand: Demand, pool: Pool, running: Running) -> Reservation:
    """Return the earliest promise for a job, by the expected ends of what runs; one pass over the running jobs."""
    single = demand.pieces == 1 and not demand.whole
    chances = [_soonest(demand, pool, running)] if single else _chances(demand, pool, running)
    start = chances[-1][0]
    counts: dict[int, int] = {}
    for _, node in chances:
        counts[node] = counts.get(node, 0) + 1
    spare = {}
    for share in shares_of(demand, [(count, node) for node, count in counts.items()], pool.nodes):
        freed = [other for end, other in running[share.node].values() if end <= start]
        spare[share.node] = [
            pool.cores[share.node] + sum(other.cores for other in freed) - share.cores,
            pool.memory[share.node] + sum(other.memory for other in freed) - share.memory,
            pool.gpus[share.node] + sum(other.gpus for other in freed) - share.gpus,
        ]
    return Reservation(turn, start, spare)


def _soonest(demand: Demand, pool: Pool, running: Running) -> tuple[float, int]:
    """Return when and on which node a job of one part finds room first."""
    soonest, found = math.inf, -1
    for node, offered in enumerate(pool.nodes):
        if not demand.fits(offered):
            continue
        cores = demand.cores - pool.cores[node]
        memory = demand.memory - pool.memory[node]
        gpus = demand.gpus - pool.gpus[node]
        reached = 0.0
        for end, share in sorted(running[node].values(), key=itemgetter(0)):
            if (cores <= 0 and memory <= 0 and gpus <= 0) or end >= soonest:
                break
            cores, memory, gpus, reached = cores - share.cores, memory - share.memory, gpus - share.gpus, end
        if cores <= 0 and memory <= 0 and gpus <= 0 and reached < soonest:
            soonest, found = reached, node
    return soonest, found


def _chances(demand: Demand, pool: Pool, running: Running) -> list[tuple[float, int]]:
    """Return when and on which node each part of a job finds room first, all at once, in the order of time."""
    chances: list[tuple[float, int]] = []
    for node in range(len(pool.nodes)):
        if not demand.fits(pool.nodes[node]):
            continue
        held = pool.slots(demand, node)
        chances += [(0.0, node)] * min(held, demand.pieces)
        cores, memory, gpus = pool.cores[node], pool.memory[node], pool.gpus[node]
        ends = sorted(running[node].values(), key=itemgetter(0))
        for number, (end, share) in enumerate(ends, start=1):
            cores, memory, gpus = cores + share.cores, memory + share.memory, gpus + share.gpus
            room = int(number == len(ends)) if demand.whole else slots_in(demand, cores, memory, gpus)
            chances += [(end, node)] * (min(room, demand.pieces) - held)
            held = max(held, room)
            if held >= demand.pieces:
                break
    return sorted(chances)[: demand.pieces]
