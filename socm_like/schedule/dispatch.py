"""One pass of the list scheduler: at every end, what fits starts, in the order of its turns."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from socm_like.schedule.caps import Caps
from socm_like.schedule.load import Demand, Load
from socm_like.schedule.model import Gate, Limits, Node, PlacementError, Share
from socm_like.schedule.pool import Pool
from socm_like.schedule.reservation import Reservation, reserve
from socm_like.schedule.timetable import Run, Timetable
from socm_like.schedule.waiting import NONE, Waiting

TRIED = 8
"""Waiting jobs of several nodes that are tried at each event."""
EXACT = 4
"""Nodes with news of which the room is looked at anew after each start."""


def dispatch(
    load: Load,
    nodes: Sequence[Node],
    limits: Limits,
    order: Sequence[int],
    *,
    actual: Sequence[float] | None = None,
    promises: bool = True,
    gate: Gate | None = None,
) -> Timetable:
    """Return when and where each job runs if the first of ``order`` that is ready and fits always starts first.

    :param actual: how long the jobs really take; ``load.seconds`` are then what is expected of them.
    :param promises: whether a job that needs several nodes, or more than half of one, is promised a start.
    :param gate: when jobs that are ready may start.

    A job starts only when none of higher priority that is ready, and that no cap keeps back, would find room, except
    before or beside a promised job of at least that priority. Of jobs of several nodes only the first few that wait are
    tried, and shortly before a walltime ends only the first few of like demands.

    At each event only the nodes where something ended are offered to jobs that waited before; jobs that became ready
    look at all nodes. Costs about O(n (b + log n)), with b buckets of like demands.
    """
    return _Pass(load, nodes, limits, order, actual=actual or load.seconds, promises=promises, gate=gate).run()


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
        gate: Gate | None,
    ) -> None:
        count = len(order)
        self.turn_of = [0] * count
        for turn, job in enumerate(order):
            self.turn_of[job] = turn
        self.load, self.order, self.promises, self.gate = load, order, promises, gate
        self.actual = list(actual)
        """What is left of each job."""
        self.seconds = [load.seconds[job] for job in order]
        """What is thought to be left of each turn."""
        self.levels = [load.priorities[job] for job in order]
        self.caps = Caps(list(limits.caps.values()), [load.caps[job] for job in order])
        self.stops: dict[int, float] = {}
        """Turns that are stopped at the end of a window, and when."""
        self.held: set[int] = set()
        """Turns that wait for their second."""
        self.ran: dict[int, float] = {}
        """Seconds of a job that is split which have passed."""
        self.parts: dict[int, list[Run]] = {}
        self.refused: list[tuple[int, float]] = []
        self.released = [-1.0] * count
        self.shortest = min(self.seconds, default=0.0)
        self.demands = [load.demands[job] for job in order]
        self.pool = Pool(nodes)
        self.running: list[dict[int, tuple[float, Share]]] = [{} for _ in nodes]
        self.max_jobs = count if limits.max_jobs is None else limits.max_jobs
        self.max_cores = sum(self.pool.cores) if limits.max_cores is None else limits.max_cores
        self.walltime = limits.walltime
        self.pilots, self.closes = [0.0], math.inf if limits.walltime is None else limits.walltime
        self.now, self.active, self.in_use, self.renewed = 0.0, 0, 0, -1.0
        self.waiting = Waiting(self.demands, self.seconds, max((node.memory for node in nodes), default=0))
        self._begin(nodes, count)

    def _begin(self, nodes: Sequence[Node], count: int) -> None:
        self.several: list[int] = []
        """Turns that wait for several nodes, sorted."""
        self.large: list[int] = []
        """Turns that waited and need much at once; a heap, with some that have started."""
        self.promise: Reservation | None = None
        self.room = (0, 0, 0, 0)
        """What :meth:`_room` returned last."""
        self.fresh: list[int] = []
        """Turns that no node was offered yet; a heap."""
        self.ends: list[tuple[float, int]] = []
        self.arrivals: list[tuple[float, int]] = []
        self.news: set[int] = set()
        """Nodes where something ended since they were offered to the waiting."""
        self.missing = [len(parents) for parents in self.load.parents]
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
                starts, pilots, refused = self.starts, tuple(self.pilots), tuple(self.refused)
                return Timetable(starts, self.finishes, self.shares, pilots, self.released, self.parts, refused)

    def _arrive(self, job: int) -> None:
        """Let a job that waits for no other start as soon as its gate opens, or never."""
        ready = max(self.load.earliest[job], self.now)
        start = ready if self.gate is None else self._opening(self.gate, job, ready)
        if start == math.inf:
            self.refused.append((job, ready))
            return
        if self.released[job] < 0:
            self.released[job] = start
        if start > self.now:
            heappush(self.arrivals, (start, job))
            self.held.add(self.turn_of[job])
        else:
            heappush(self.fresh, self.turn_of[job])

    def _opening(self, gate: Gate, job: int, ready: float) -> float:
        held = max(self.load.limits[job] - self.ran.get(job, 0.0), self.seconds[self.turn_of[job]])
        if gate.split is None or job not in self.load.splits:
            return max(ready, gate.release(ready, held))
        start, stop = gate.split(ready, held)
        self.stops[self.turn_of[job]] = stop
        return max(ready, start) if stop > max(ready, start) else math.inf

    def _advance(self) -> None:
        """Go to the next event: ends first, then jobs that may start only now."""
        self.now = min(queue[0][0] for queue in (self.ends, self.arrivals) if queue)
        while self.ends and self.ends[0][0] <= self.now:
            job = heappop(self.ends)[1]
            self.active -= 1
            for turn in self.caps.give_back(self.turn_of[job]) if self.load.caps[job] else ():
                heappush(self.fresh, turn)
            for share in self.shares[job]:
                self.pool.give_back(share)
                self.in_use -= share.cores
                self.news.add(share.node)
                del self.running[share.node][job]
            if self.actual[job] > 0:
                self._arrive(job)
                continue
            for child in self.load.children[job]:
                self.missing[child] -= 1
                if not self.missing[child]:
                    self._arrive(child)
        while self.arrivals and self.arrivals[0][0] <= self.now:
            turn = self.turn_of[heappop(self.arrivals)[1]]
            self.held.discard(turn)
            heappush(self.fresh, turn)

    def _renew(self) -> None:
        """Nothing runs, so what waits waits for another allocation."""
        if self.renewed == self.now:
            stuck = [job for job, missing in enumerate(self.missing) if not missing and self.actual[job] > 0]
            raise PlacementError(f"{self.load.names[job]}: fits on the empty nodes and is not started" for job in stuck)
        self.promise, self.renewed = None, self.now
        if self.walltime is not None and self.pilots[-1] != self.now:
            self.pilots.append(self.now)
            self.closes = self.now + self.walltime
        self.news = set(range(len(self.running)))

    def _start_all(self) -> None:
        """Start what fits, first turns first, until nothing does or a limit is reached."""
        self.waiting.unbar()
        tried = iter(self.several[:TRIED])
        several, waiting = next(tried, NONE), -1
        self.room = self._room()
        while self.active < self.max_jobs:
            if waiting < 0:
                waiting = self._first_waiting(self.room)
            fresh = self.fresh[0] if self.fresh else NONE
            turn = min(fresh, waiting, several)
            if turn == NONE:
                if self.in_use + self.room[0] <= self.max_cores:
                    self.news.clear()
                return
            gone, promise = self._leaves(turn), self.promise
            if not gone:
                self._promise(turn)
            started = not gone and self._try(turn)
            if turn == fresh:
                heappop(self.fresh)
                if not started and not gone:
                    self._wait(turn)
            elif turn == several:
                several = next(tried, NONE)
                if started or gone:
                    self.several.remove(turn)
            elif started or gone:
                self.waiting.remove(turn)
            else:
                self.waiting.bar(turn)
                self.room = self._room()
                waiting = -1
            if gone:
                self._come_back(turn)
            if started or turn != fresh or promise is not self.promise:
                waiting = -1
            if started and len(self.news) <= EXACT:
                self.room = self._room()

    def _leaves(self, turn: int) -> bool:
        """Whether a job that is ready is not to start now after all: a cap is full, or its window is over."""
        return self.caps.full(turn) >= 0 or self.stops.get(turn, math.inf) <= self.now

    def _is_gone(self, turn: int) -> bool:
        """Whether a job that waited has started, or waits for a cap or a window: no promise is for it."""
        return self.starts[self.order[turn]] >= 0 or self.caps.is_parked(turn) or turn in self.held

    def _come_back(self, turn: int) -> None:
        """Let a job that leaves the queue wait for its cap, or for another window."""
        if self.promise is not None and self.promise.turn == turn:
            self._forget(self.promise)
        cap = self.caps.full(turn)
        if cap >= 0:
            self.caps.park(turn, cap)
        else:
            self._arrive(self.order[turn])

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
        promise, now, closes = self.promise, self.now, self.closes
        if promise is None or not self.news <= promise.spare.keys():
            return self.waiting.first(room, now, closes)
        if self.levels[0] > self.levels[promise.turn]:
            first = self.waiting.first(room, now, closes)
            if first != NONE and self.levels[first] > self.levels[promise.turn]:
                return first
        spare = [max(held) for held in zip(*(promise.spare[node] for node in self.news), strict=True)]
        rest = (min(room[0], spare[0]), min(memory, spare[1]), min(gpus, spare[2]), each)
        beside = self.waiting.first(rest, now, closes)
        until = min(closes, promise.start)
        before = self.waiting.first(room, now, until) if now + self.shortest <= until else NONE
        return min(beside, before, self._promised(promise.turn, room))

    def _promised(self, turn: int, room: tuple[int, int, int, int]) -> int:
        """Return a promised turn if it may fit by now; one of several nodes is tried at each event anyway."""
        demand = self.demands[turn]
        if demand.pieces > 1 or demand.whole or self.waiting.is_barred(turn):
            return NONE
        fits = demand.cores <= room[0] and demand.memory <= room[1] and demand.gpus <= room[2]
        return turn if fits and self.now + self.seconds[turn] <= self.closes else NONE

    def _promise(self, turn: int) -> None:
        """Before a later turn starts, promise a start to the first that needs much at once and did not find it."""
        while self.large and self._is_gone(self.large[0]):
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
        demand, promise = self.demands[turn], self.promise
        end = min(self.now + self.seconds[turn], self.stops.get(turn, math.inf))
        if end > self.closes or self.in_use + demand.pieces * demand.cores > self.max_cores:
            return False
        several = demand.pieces > 1 or demand.whole
        if not several and self.waiting.is_barred(turn):
            return False
        admits = None
        if promise is not None and promise.turn != turn and self.levels[turn] > self.levels[promise.turn]:
            promise = None
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
        if self.starts[job] < 0:
            self.starts[job] = self.now
        self.finishes[job] = self._run_until(turn, self.now + self.actual[job], shares)
        self.shares[job] = shares
        self.active, self.renewed = self.active + 1, -1.0
        self.caps.take(turn)
        heappush(self.ends, (self.finishes[job], job))
        if self.promise is not None and (
            self.promise.turn == turn or self.levels[turn] > self.levels[self.promise.turn]
        ):
            self._forget(self.promise)
        for share in shares:
            self.pool.take(share)
            self.in_use += share.cores
            self.running[share.node][job] = (end, share)
            if self.promise is not None:
                self.promise.charge(share, end)

    def _forget(self, promise: Reservation) -> None:
        """Offer the nodes of a promise to those that it kept away."""
        self.promise = None
        self.news.update(promise.spare)
        self.waiting.unbar()
        self.room = self._room()

    def _run_until(self, turn: int, end: float, shares: tuple[Share, ...]) -> float:
        """Return when a job that starts now ends or is stopped, and note what is left of it then."""
        job, stop = self.order[turn], self.stops.pop(turn, math.inf)
        if stop >= end and job not in self.parts:
            self.actual[job] = 0.0
            return end
        stop = min(stop, end)
        self.actual[job] = end - stop
        self.ran[job] = self.ran.get(job, 0.0) + stop - self.now
        self.seconds[turn] = max(self.seconds[turn] - (stop - self.now), 0.0)
        self.parts.setdefault(job, []).append((self.now, stop, shares))
        return stop


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
