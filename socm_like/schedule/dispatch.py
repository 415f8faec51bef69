"""One pass of the list scheduler: at every end, what fits starts, in the order of its turns."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from socm_like.schedule.load import Demand, Load
from socm_like.schedule.model import Limits, Node, Share
from socm_like.schedule.pool import Pool
from socm_like.schedule.reservation import Reservation, reserve
from socm_like.schedule.waiting import NONE, Waiting

TRIED = 8
"""Waiting jobs of several nodes that are tried at each event."""
EXACT = 4
"""Nodes with news of which the room is looked at anew after each start."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """What one pass decided, by index of the job."""

    starts: list[float]
    ends: list[float]
    shares: list[tuple[Share, ...]]
    pilots: tuple[float, ...]

    @property
    def makespan(self) -> float:
        """The last end."""
        return max(self.ends, default=0.0)


def dispatch(
    load: Load,
    nodes: Sequence[Node],
    limits: Limits,
    order: Sequence[int],
    *,
    actual: Sequence[float] | None = None,
    promises: bool = True,
) -> Timetable:
    """Return when and where each job runs if the first of ``order`` that is ready and fits always starts first.

    :param actual: how long the jobs really take; ``load.seconds`` are then what is expected of them.
    :param promises: whether a job that needs several nodes, or more than half of one, is promised a start.

    At each event only the nodes where something ended are offered to jobs that waited before; jobs that became ready
    look at all nodes. Costs about O(n (b + log n)), with b buckets of like demands.
    """
    return _Pass(load, nodes, limits, order, actual=actual or load.seconds, promises=promises).run()


class _Pass:
    def __init__(
        self,
        load: Load,
        nodes: Sequence[Node],
        limits: Limits,
        order: Sequence[int],
        *,
        actual: Sequence[float],
        promises: bool,
    ) -> None:
        count = len(order)
        self.turn_of = [0] * count
        for turn, job in enumerate(order):
            self.turn_of[job] = turn
        self.load, self.order, self.actual, self.promises = load, order, actual, promises
        self.seconds = [load.seconds[job] for job in order]
        self.shortest = min(self.seconds, default=0.0)
        self.demands = [load.demands[job] for job in order]
        self.pool = Pool(nodes)
        self.running: list[dict[int, tuple[float, Share]]] = [{} for _ in nodes]
        self.max_jobs = count if limits.max_jobs is None else limits.max_jobs
        self.max_cores = sum(self.pool.cores) if limits.max_cores is None else limits.max_cores
        self.walltime = limits.walltime
        self.pilots, self.closes = [0.0], math.inf if limits.walltime is None else limits.walltime
        self.now, self.active, self.in_use = 0.0, 0, 0
        self.waiting = Waiting(self.demands, self.seconds, max((node.memory for node in nodes), default=0))
        self.several: list[int] = []
        """Turns that wait for several nodes, sorted."""
        self.large: list[int] = []
        """Turns that waited and need much at once; a heap, with some that have started."""
        self.promise: Reservation | None = None
        self.fresh: list[int] = []
        """Turns that no node was offered yet; a heap."""
        self.ends: list[tuple[float, int]] = []
        self.arrivals: list[tuple[float, int]] = []
        self.news: set[int] = set()
        """Nodes where something ended since they were offered to the waiting."""
        self.missing = [len(parents) for parents in load.parents]
        self.starts = [-1.0] * count
        self.finishes = [0.0] * count
        self.shares: list[tuple[Share, ...]] = [()] * count
        is_large = large_on(nodes)
        known = {demand: is_large(demand) for demand in set(self.demands)}
        self.is_large = [known[demand] for demand in self.demands]

    def run(self) -> Timetable:
        for job, missing in enumerate(self.missing):
            if not missing:
                self._arrive(job)
        while True:
            self._start_all()
            if not self.ends and (self.waiting.count or self.several or self.fresh):
                self._renew()
            elif self.ends or self.arrivals:
                self._advance()
            else:
                return Timetable(self.starts, self.finishes, self.shares, tuple(self.pilots))

    def _arrive(self, job: int) -> None:
        if self.load.earliest[job] > self.now:
            heappush(self.arrivals, (self.load.earliest[job], job))
        else:
            heappush(self.fresh, self.turn_of[job])

    def _advance(self) -> None:
        """Go to the next event: ends first, then jobs that may start only now."""
        self.now = min(queue[0][0] for queue in (self.ends, self.arrivals) if queue)
        while self.ends and self.ends[0][0] <= self.now:
            job = heappop(self.ends)[1]
            self.active -= 1
            for share in self.shares[job]:
                self.pool.give_back(share)
                self.in_use -= share.cores
                self.news.add(share.node)
                del self.running[share.node][job]
            for child in self.load.children[job]:
                self.missing[child] -= 1
                if not self.missing[child]:
                    self._arrive(child)
        while self.arrivals and self.arrivals[0][0] <= self.now:
            heappush(self.fresh, self.turn_of[heappop(self.arrivals)[1]])

    def _renew(self) -> None:
        """Nothing runs, so what waits waits for another allocation."""
        if self.pilots[-1] == self.now and self.promise is None and len(self.news) == len(self.running):
            raise RuntimeError("a job that fits on the empty nodes does not start: a fault of the planner")
        self.promise = None
        if self.walltime is not None and self.pilots[-1] != self.now:
            self.pilots.append(self.now)
            self.closes = self.now + self.walltime
        self.news = set(range(len(self.running)))

    def _start_all(self) -> None:
        """Start what fits, first turns first, until nothing does or a limit is reached."""
        self.waiting.unbar()
        tried = iter(self.several[:TRIED])
        several, room, waiting = next(tried, NONE), self._room(), -1
        while self.active < self.max_jobs:
            if waiting < 0:
                waiting = self._first_waiting(room)
            fresh = self.fresh[0] if self.fresh else NONE
            turn = min(fresh, waiting, several)
            if turn == NONE:
                if self.in_use + room[0] <= self.max_cores:
                    self.news.clear()
                return
            self._promise(turn)
            started = self._try(turn)
            if turn == fresh:
                heappop(self.fresh)
                if not started:
                    self._wait(turn)
            elif turn == several:
                several = next(tried, NONE)
                if started:
                    self.several.remove(turn)
            elif started:
                self.waiting.remove(turn)
            else:
                self.waiting.bar(turn)
                room = self._room()
                waiting = -1
            if started:
                waiting = -1
                if len(self.news) <= EXACT:
                    room = self._room()

    def _room(self) -> tuple[int, int, int, int]:
        """Return the most of each resource that a node with news has free: what fits there is no more than this."""
        pool, news = self.pool, self.news
        if not news:
            return (0, 0, 0, 0)
        cores, memory, gpus, each = pool.cores, pool.memory, pool.gpus, pool.gpu_memory
        if len(news) == 1:
            (node,) = news
            return (cores[node], memory[node], gpus[node], each[node])
        return (
            max(cores[node] for node in news), max(memory[node] for node in news),
            max(gpus[node] for node in news), max(each[node] for node in news),
        )  # fmt: skip

    def _first_waiting(self, room: tuple[int, int, int, int]) -> int:
        if not self.news or not self.waiting.count:
            return NONE
        cores, memory, gpus, each = room
        room = (min(cores, self.max_cores - self.in_use), memory, gpus, each)
        promise, left = self.promise, self.closes - self.now
        if promise is None or not self.news <= promise.spare.keys():
            return self.waiting.first(room, left)
        spare = [max(held) for held in zip(*(promise.spare[node] for node in self.news), strict=True)]
        beside = self.waiting.first((min(room[0], spare[0]), min(memory, spare[1]), min(gpus, spare[2]), each), left)
        until = promise.start - self.now
        before = self.waiting.first(room, min(left, until)) if until >= self.shortest else NONE
        return min(beside, before, self._promised(promise.turn, room))

    def _promised(self, turn: int, room: tuple[int, int, int, int]) -> int:
        """Return a promised turn if it may fit by now; one of several nodes is tried at each event anyway."""
        demand = self.demands[turn]
        if demand.pieces > 1 or demand.whole or self.waiting.is_barred(turn):
            return NONE
        fits = demand.cores <= room[0] and demand.memory <= room[1] and demand.gpus <= room[2]
        return turn if fits and self.seconds[turn] <= self.closes - self.now else NONE

    def _promise(self, turn: int) -> None:
        """Before a later turn starts, promise a start to the first that needs much at once and did not find it."""
        while self.large and self.starts[self.order[self.large[0]]] >= 0:
            heappop(self.large)
        if self.promises and self.promise is None and self.large and self.large[0] < turn:
            first = self.large[0]
            self.promise = reserve(first, self.demands[first], self.pool, self.running)

    def _wait(self, turn: int) -> None:
        demand = self.demands[turn]
        if demand.pieces > 1 or demand.whole:
            insort(self.several, turn)
        else:
            self.waiting.add(turn)
            if demand.cores > self.max_cores - self.in_use:
                self.news.update(range(len(self.running)))
        if self.is_large[turn]:
            heappush(self.large, turn)

    def _try(self, turn: int) -> bool:
        """Start a job if it finds room now."""
        demand, end, promise = self.demands[turn], self.now + self.seconds[turn], self.promise
        if end > self.closes or self.in_use + demand.pieces * demand.cores > self.max_cores:
            return False
        several = demand.pieces > 1 or demand.whole
        if not several and self.waiting.is_barred(turn):
            return False
        admits = None
        if promise is not None and promise.turn != turn and end > promise.start:

            def admits(node: int) -> bool:
                return promise.admits(demand, node, end)

        if several:
            shares = self.pool.spread(demand, admits)
            if promise is not None and promise.turn != turn and not demand.whole and admits is not None:
                shares = () if any(_exceeds(promise, share) for share in shares) else shares
            if not shares or self.in_use + sum(share.cores for share in shares) > self.max_cores:
                return False
        else:
            node = self.pool.best_node(demand, admits)
            if node < 0:
                if admits is None:
                    self.waiting.bar(turn)
                return False
            shares = (Share(node, demand.cores, demand.memory, demand.gpus),)
        self._start(turn, shares, end)
        return True

    def _start(self, turn: int, shares: tuple[Share, ...], end: float) -> None:
        job = self.order[turn]
        self.starts[job] = self.now
        self.finishes[job] = self.now + self.actual[job]
        self.shares[job] = shares
        self.active += 1
        heappush(self.ends, (self.finishes[job], job))
        if self.promise is not None and self.promise.turn == turn:
            self.promise = None
        for share in shares:
            self.pool.take(share)
            self.in_use += share.cores
            self.running[share.node][job] = (end, share)
            if self.promise is not None:
                self.promise.charge(share, end)


def _exceeds(promise: Reservation, share: Share) -> bool:
    return share.node in promise.spare and (
        share.cores > promise.spare[share.node][0]
        or share.memory > promise.spare[share.node][1]
        or share.gpus > promise.spare[share.node][2]
    )


def large_on(nodes: Sequence[Node]) -> Callable[[Demand], bool]:
    """Return whether a demand is worth a promise: several nodes, or more than half of the smallest in some resource."""
    cores = min((node.cores for node in nodes), default=0) / 2
    memory = min((node.memory for node in nodes), default=0) / 2
    gpus = max(min((node.gpus for node in nodes if node.gpus), default=0) / 2, 1)

    def is_large(demand: Demand) -> bool:
        several = demand.pieces > 1 or demand.whole
        return several or demand.cores > cores or demand.memory > memory or demand.gpus > gpus

    return is_large
