"""The simulated executor: attempts take room on nodes and virtual time, and nothing else."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count

from socm_like.clock import Clock
from socm_like.errors import ExecutorError
from socm_like.executors.base import Attempt, Executor, Launch
from socm_like.executors.behaviour import Behaviour, Work
from socm_like.executors.simulated_queue import NEVER, Asked, Queue, Turn
from socm_like.journal import Event, TaskState
from socm_like.schedule.load import Demand, demand_of, refusals
from socm_like.schedule.model import Job, Node, Share
from socm_like.schedule.pool import Pool
from socm_like.units import format_instant, format_size, format_span

TRIED = 8
"""Waiting attempts of several nodes that are tried whenever something has ended."""
FEW = 32
"""Nodes with news up to which each is looked at by itself for an attempt that waits."""


LAST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
"""Where the calendar ends, with room for time zones."""


class VirtualClock(Clock):
    """Time that passes only when nobody has anything to do."""

    longest_wait: float = math.inf

    def __init__(self, start: float) -> None:
        """Begin at a time in seconds since the epoch."""
        self._now = start

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let time pass at once. Raises ExecutorError where it would be for ever."""
        if seconds == math.inf:
            raise ExecutorError("the simulation waits for something that will never happen")
        self.reach(self._now + seconds)

    def reach(self, at: float) -> None:
        """Let it be no earlier than this. Raises ExecutorError beyond the end of the calendar."""
        if at > LAST:
            raise ExecutorError("the simulation goes beyond the year 9999; state shorter runtimes or less noise")
        self._now = max(self._now, at)


@dataclass(frozen=True, slots=True)
class Stretch:
    """One attempt on its nodes, from its start to its end."""

    attempt: Attempt
    start: float
    """Seconds since the epoch."""
    end: float
    state: TaskState
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class _Stay:
    """One attempt that runs."""

    start: float
    end: float
    state: TaskState
    """What it ends as if nothing comes in between."""
    detail: dict[str, object]
    shares: tuple[Share, ...]


class SimulatedExecutor(Executor):
    """Places attempts on nodes, the most urgent that fits first; time is the clock's, their behaviour is told.

    It starts nothing by itself between two polls: what the runner hands over when something has ended takes part in
    the choice of what starts then. An attempt of several nodes, or of a whole one, starts when all of it finds room.
    """

    def __init__(
        self, nodes: Sequence[Node], clock: VirtualClock, behaviour: Behaviour, work_of: Callable[[Launch], Work]
    ) -> None:
        self.stretches: list[Stretch] = []
        """What has run, in the order of the ends."""
        self._nodes, self._clock, self._behaviour, self._work_of = nodes, clock, behaviour, work_of
        self._pool = Pool(nodes)
        self._queue = Queue(max((node.memory for node in nodes), default=0))
        self._demands: dict[tuple[int, ...], tuple[Demand, tuple[str, ...]]] = {}
        self._numbers: dict[Attempt, int] = {}
        """Attempts that wait -> their numbers in the queue."""
        self._number = count()
        self._fresh: list[Turn] = []
        """Attempts that no node was offered yet; a heap."""
        self._several: list[Turn] = []
        """Attempts that wait for several nodes, sorted."""
        self._freed: set[int] = set()
        """Nodes where something has ended since they were last offered."""
        self._running: dict[Attempt, _Stay] = {}
        self._tenants: list[dict[Attempt, None]] = [{} for _ in nodes]
        self._ends: list[tuple[float, Attempt]] = []
        """A heap; also of attempts that have ended before their time."""
        self._gaps = [behaviour.gaps(node) for node in range(len(nodes))]
        self._turns: list[tuple[float, int, bool]] = []
        """When which node fails, or else is back; a heap."""
        for node in range(len(nodes)):
            self._let_fail(node, clock.time())
        self._ended: dict[Attempt, Event] = {}
        self._news: list[Event] = []
        self._has_end = False
        """Whether there is an end among the news."""
        self._instant = (math.nan, "")

    # the contract

    def submit(self, launches: Sequence[Launch]) -> None:
        """Take attempts over; one that fits on no node fails at once."""
        for launch in launches:
            demand, refused = self._demand(launch)
            if refused:
                self._tell(launch.attempt, TaskState.FAILED, reason="; ".join(refused))
                continue
            number = next(self._number)
            self._queue.asked[number] = Asked(launch, demand)
            self._numbers[launch.attempt] = number
            heappush(self._fresh, (-launch.priority, number))

    def poll(self, wait: float) -> Sequence[Event]:
        """Let what fits start and time pass to the next end, ``wait`` seconds at the most; return what happened.

        Raises ExecutorError when it is to wait for ever and nothing can happen.
        """
        until = self._clock.time() + wait
        self._start_all()
        while not self._has_end:
            at = self._next()
            if at > until or at == math.inf:
                self._clock.sleep(until - self._clock.time())
                break
            self._clock.reach(at)
            self._happen(at)
            if not self._has_end:  # a node came back
                self._start_all()
        news, self._news, self._has_end = self._news, [], False
        return news

    def cancel(self, attempts: Sequence[Attempt]) -> None:
        """End attempts now, whether they run or wait."""
        for attempt in attempts:
            if attempt in self._running:
                self._end(attempt, TaskState.CANCELLED)
            elif (number := self._numbers.pop(attempt, None)) is not None:
                self._queue.withdraw(number)
                self._tell(attempt, TaskState.CANCELLED)

    def recover(self, attempts: Sequence[Attempt]) -> Sequence[Event]:
        """Return what became of attempts that were submitted to this very executor."""
        return [event for attempt in attempts if (event := self._known(attempt)) is not None]

    def render(self, launch: Launch) -> str:
        """Return a script that does as much as a simulation: it waits."""
        seconds = self._work_of(launch).seconds
        return f"#!/bin/sh\n# {launch.attempt.task}, attempt {launch.attempt.number}: simulated\nsleep {seconds:g}\n"

    def close(self) -> None:
        """Let go; time stands still for what still runs."""

    # where

    def _demand(self, launch: Launch) -> tuple[Demand, tuple[str, ...]]:
        """Return the room an attempt takes, and why there is none even on empty nodes."""
        asked, memory = launch.resources, _kept(launch)
        key = (asked.ranks, asked.threads, memory, asked.gpus, asked.gpu_memory or 0)
        if key not in self._demands:
            job = Job(
                launch.attempt.task, 0.0, ranks=asked.ranks, threads=asked.threads, memory=memory,
                gpus=asked.gpus, gpu_memory=asked.gpu_memory or 0,
            )  # fmt: skip
            demand = demand_of(job, self._nodes)
            is_easy = demand.pieces == 1 and any(demand.fits(node) for node in self._nodes)
            self._demands[key] = demand, () if is_easy else refusals(job, self._nodes)
        return self._demands[key]

    def _start_all(self) -> None:
        """Start what fits, the most urgent first, until nothing does."""
        if not (self._fresh or self._freed):
            return
        self._queue.unbar()
        tried = iter(self._several[:TRIED])
        several, room, waiting = next(tried, NEVER), self._room(), None
        while True:
            waiting = self._queue.first(room) if waiting is None else waiting
            fresh = self._fresh[0] if self._fresh else NEVER
            turn = min(fresh, waiting, several)
            if turn == NEVER:
                break
            asked = self._queue.asked.get(turn[1])
            shares = () if asked is None else self._room_for(asked, is_fresh=turn == fresh)
            self._decide(turn, asked, has_room=bool(shares), is_fresh=turn == fresh, is_several=turn == several)
            if turn == several:
                several = next(tried, NEVER)
            elif turn == waiting:
                waiting = None
            if asked is not None and shares:
                self._start(turn, asked, shares)
                if len(self._freed) == 1:
                    room, waiting = self._room(), None
        self._freed.clear()

    def _decide(self, turn: Turn, asked: Asked | None, *, has_room: bool, is_fresh: bool, is_several: bool) -> None:
        """Take an attempt out of where it waits if it has room or was withdrawn, else let it wait on."""
        if is_fresh:
            heappop(self._fresh)
        if asked is None or has_room:
            if is_several:
                del self._several[bisect_left(self._several, turn)]
            elif asked is not None and not is_fresh:
                self._queue.take(turn)
        elif is_fresh and asked.several:
            insort(self._several, turn)
        elif not asked.several:
            self._queue.bar(asked.demand)
            if is_fresh:
                self._queue.put(turn)

    def _room(self) -> tuple[int, int, int, int]:
        """Return the most of each resource that a node with news has free: what fits there is no more than this."""
        pool, freed = self._pool, self._freed
        return (
            max([pool.cores[node] for node in freed], default=0), max([pool.memory[node] for node in freed], default=0),
            max([pool.gpus[node] for node in freed], default=0),
            max([pool.gpu_memory[node] for node in freed], default=0),
        )  # fmt: skip

    def _room_for(self, asked: Asked, *, is_fresh: bool) -> tuple[Share, ...]:
        """Return where an attempt finds room now, or nothing; one that has waited only where something has ended."""
        demand = asked.demand
        if asked.several:
            return self._pool.spread(demand)
        if self._queue.is_barred(demand):
            return ()
        if is_fresh or len(self._freed) > FEW:
            node = self._pool.best_node(demand)
        else:
            fitting = [node for node in self._freed if self._pool.slots(demand, node)]
            node = min(fitting, key=lambda node: (self._pool.cores[node], node), default=-1)
        return (Share(node, demand.cores, demand.memory, demand.gpus),) if node >= 0 else ()

    # what happens

    def _start(self, turn: Turn, asked: Asked, shares: tuple[Share, ...]) -> None:
        del self._queue.asked[turn[1]]
        attempt, now = asked.launch.attempt, self._clock.time()
        del self._numbers[attempt]
        seconds, state, detail = _fate(asked.launch, self._work_of(asked.launch))
        self._running[attempt] = _Stay(now, now + seconds, state, detail, shares)
        heappush(self._ends, (now + seconds, attempt))
        for share in shares:
            self._pool.take(share)
            self._tenants[share.node][attempt] = None
        self._tell(attempt, TaskState.RUNNING)

    def _next(self) -> float:
        """Return when something happens next; infinity for never."""
        while self._ends and self._has_ended(*self._ends[0]):
            heappop(self._ends)
        if not self._ends and not self._queue.asked:
            return math.inf
        return min([queue[0][0] for queue in (self._ends, self._turns) if queue], default=math.inf)

    def _has_ended(self, end: float, attempt: Attempt) -> bool:
        stay = self._running.get(attempt)
        return stay is None or stay.end != end

    def _happen(self, at: float) -> None:
        """Let everything happen that is due: ends first."""
        while self._ends and self._ends[0][0] <= at:
            end, attempt = heappop(self._ends)
            if not self._has_ended(end, attempt):
                stay = self._running[attempt]
                self._end(attempt, stay.state, **stay.detail)
        while self._turns and self._turns[0][0] <= at:
            moment, node, fails = heappop(self._turns)
            whole = Share(node, self._nodes[node].cores, self._nodes[node].memory, self._nodes[node].gpus)
            if fails:
                for attempt in list(self._tenants[node]):
                    self._end(attempt, TaskState.NODE_FAIL, reason=f"node {self._nodes[node].name} failed")
                self._pool.take(whole)
                heappush(self._turns, (moment + self._behaviour.repair, node, False))
            else:
                self._pool.give_back(whole)
                self._freed.add(node)
                self._let_fail(node, moment)

    def _let_fail(self, node: int, now: float) -> None:
        gap = next(self._gaps[node], None)
        if gap is not None:
            heappush(self._turns, (now + gap, node, True))

    def _end(self, attempt: Attempt, state: TaskState, **detail: object) -> None:
        stay = self._running.pop(attempt)
        for share in stay.shares:
            self._pool.give_back(share)
            del self._tenants[share.node][attempt]
            self._freed.add(share.node)
        self.stretches.append(Stretch(attempt, stay.start, self._clock.time(), state, stay.shares))
        self._tell(attempt, state, **detail)

    def _tell(self, attempt: Attempt, state: TaskState, **detail: object) -> None:
        if self._clock.time() != self._instant[0]:
            self._instant = (self._clock.time(), format_instant(self._clock.time()))
        event = Event(self._instant[1], *attempt, state, detail)
        if state.is_final:
            self._ended[attempt] = event
            self._has_end = True
        self._news.append(event)

    def _known(self, attempt: Attempt) -> Event | None:
        if attempt in self._numbers:
            return None
        at = format_instant(self._clock.time())
        if attempt in self._running:
            return Event(format_instant(self._running[attempt].start), *attempt, TaskState.RUNNING)
        return self._ended.get(attempt) or Event(at, *attempt, TaskState.LOST, {"reason": "nobody submitted it here"})


def _kept(launch: Launch) -> int:
    """Return the bytes that are kept free for an attempt."""
    limit, reserved = launch.resources.memory, launch.reserved_memory
    if reserved is None or limit is None:
        return reserved or limit or 0
    return min(reserved, limit)


def _fate(launch: Launch, work: Work) -> tuple[float, TaskState, dict[str, object]]:
    """Return the seconds after which an attempt ends, as what, and what is told of it.

    Memory is taken up evenly over the time, so an attempt that needs twice what it asks ends half way.
    """
    asked = launch.resources.memory
    used = {"peak_memory": work.memory} if work.memory else {}
    fates: list[tuple[float, TaskState, dict[str, object]]] = [(work.seconds, TaskState.DONE, {**used})]
    if asked is not None and work.memory > asked:
        why = f"used more than the {format_size(asked)} it asked for; it needs {format_size(work.memory)}"
        detail: dict[str, object] = {"reason": why, "exceeded": "memory", "peak_memory": asked}
        fates.append((work.seconds * asked / work.memory, TaskState.OOM, detail))
    if work.limit < work.seconds:
        fates.append((work.limit, TaskState.TIMEOUT, {"reason": f"exceeded its limit of {format_span(work.limit)}"}))
    if work.fails < work.seconds:
        fates.append((work.fails, TaskState.FAILED, {"reason": "failed, as the simulation would have it"}))
    return min(fates, key=lambda fate: fate[0])
