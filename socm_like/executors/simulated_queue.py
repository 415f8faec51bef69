"""Simulated attempts that wait for room, in buckets of like demands: only the head of each bucket is looked at."""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from operator import attrgetter

from socm_like.executors.base import Launch
from socm_like.schedule.load import Demand

Turn = tuple[float, int]
"""Minus the priority, then the number of the attempt: the least comes first."""
NEVER: Turn = (math.inf, 0)
CLASSES = 64
"""Steps of memory, from nothing to all that a node has."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An attempt that was handed over, and the room it takes."""

    launch: Launch
    demand: Demand

    @property
    def several(self) -> bool:
        """Whether it needs more than one place, or a whole node."""
        return self.demand.pieces > 1 or self.demand.whole


class _Bucket:
    """Waiting attempts with the same cores and GPUs, a heap of turns for each class of memory."""

    __slots__ = ("barred", "cores", "gpu_memory", "gpus", "heaps", "top")

    def __init__(self, demand: Demand) -> None:
        self.cores, self.gpus, self.gpu_memory = demand.cores, demand.gpus, demand.gpu_memory
        self.heaps: dict[int, list[Turn]] = {}
        self.top = NEVER
        self.barred: float = math.inf
        """Memory from which on none finds room until something ends."""


class Queue:
    """The attempts of one part that wait."""

    def __init__(self, largest: int) -> None:
        """Take the most memory of a node."""
        self.asked: dict[int, Asked] = {}
        """Attempts by their number, also those that have not been offered a node yet."""
        self._step = max(largest // CLASSES, 1)
        self._buckets: dict[tuple[int, int, int], _Bucket] = {}
        self._sorted: list[_Bucket] = []
        self._is_clean = True

    def put(self, turn: Turn) -> None:
        """Let an attempt wait."""
        demand = self.asked[turn[1]].demand
        bucket = self._bucket(demand)
        heappush(bucket.heaps.setdefault(-(-demand.memory // self._step), []), turn)
        bucket.top = min(bucket.top, turn)

    def bar(self, demand: Demand) -> None:
        """Note that nothing like this finds room until something ends."""
        bucket = self._bucket(demand)
        bucket.barred = min(bucket.barred, demand.memory)

    def is_barred(self, demand: Demand) -> bool:
        """Whether something like this, with no more memory, found no room."""
        return self._bucket(demand).barred <= demand.memory

    def unbar(self) -> None:
        """Forget what found no room."""
        for bucket in self._sorted:
            bucket.barred = math.inf

    def first(self, room: tuple[int, int, int, int]) -> Turn:
        """Return the first turn that may fit into cores, memory, GPUs and memory of each GPU, else NEVER.

        Of the attempts whose memory differs by less than a step only the first is considered.
        """
        if not self._is_clean:
            self._clean()
        cores, memory, gpus, gpu_memory = room
        best = NEVER
        for bucket in self._sorted:
            if bucket.cores > cores:
                break
            if bucket.top >= best or bucket.gpus > gpus or bucket.gpu_memory > gpu_memory:
                continue
            most = min(memory, bucket.barred - 1)
            if bucket.top != NEVER and self.asked[bucket.top[1]].demand.memory <= most:
                best = min(best, bucket.top)
            else:
                heads = [heap[0] for step, heap in bucket.heaps.items() if (step - 1) * self._step <= most]
                fitting = [turn for turn in heads if turn < best and self.asked[turn[1]].demand.memory <= most]
                best = min(fitting, default=best)
        return best

    def take(self, turn: Turn) -> None:
        """Let the first of its kind wait no more."""
        demand = self.asked[turn[1]].demand
        bucket, step = self._bucket(demand), -(-demand.memory // self._step)
        heappop(bucket.heaps[step])
        if not bucket.heaps[step]:
            del bucket.heaps[step]
        bucket.top = min([heap[0] for heap in bucket.heaps.values()], default=NEVER)

    def withdraw(self, number: int) -> None:
        """Let an attempt wait no more, whenever its turn would have come."""
        del self.asked[number]
        self._is_clean = False

    def _clean(self) -> None:
        """Take out what was withdrawn."""
        for bucket in self._sorted:
            left = {step: [turn for turn in heap if turn[1] in self.asked] for step, heap in bucket.heaps.items()}
            bucket.heaps = {step: heap for step, heap in left.items() if heap}
            for heap in bucket.heaps.values():
                heapify(heap)
            bucket.top = min([heap[0] for heap in bucket.heaps.values()], default=NEVER)
        self._is_clean = True

    def _bucket(self, demand: Demand) -> _Bucket:
        key = (demand.cores, demand.gpus, demand.gpu_memory)
        found = self._buckets.get(key)
        if found is None:
            found = self._buckets[key] = _Bucket(demand)
            insort(self._sorted, found, key=attrgetter("cores"))
        return found
