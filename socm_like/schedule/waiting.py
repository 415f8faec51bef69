"""Ready jobs that found no room, in buckets of like demands: only the head of each bucket is looked at."""

from __future__ import annotations

import math
import sys
from bisect import insort
from collections.abc import Sequence
from heapq import heappop, heappush
from operator import attrgetter

from socm_like.schedule.load import Demand

NONE = sys.maxsize
"""No job: a turn later than any."""
CLASSES = 64
"""Steps of memory, from nothing to all that a node has."""
DEPTH = 4
"""Jobs of one bucket that are looked at where not every job of it may start."""


class Bucket:
    """Waiting jobs with the same cores and GPUs, a heap of turns for each class of memory."""

    __slots__ = ("barred", "cores", "gpu_memory", "gpus", "heaps", "top")

    def __init__(self, demand: Demand) -> None:
        self.cores, self.gpus, self.gpu_memory = demand.cores, demand.gpus, demand.gpu_memory
        self.heaps: dict[int, list[int]] = {}
        self.top = NONE
        self.barred = NONE
        """Memory from which on no job finds room until something ends."""


class Waiting:
    """The single-node jobs that wait; a job is its turn, 0 the first."""

    def __init__(self, demands: Sequence[Demand], seconds: Sequence[float], largest: int) -> None:
        """Take what each turn asks and how long it takes, and the most memory of a node."""
        self._demands, self._seconds = demands, seconds
        self._step = max(largest // CLASSES, 1)
        self._buckets: dict[tuple[int, int, int], Bucket] = {}
        self._sorted: list[Bucket] = []
        self._barred: list[Bucket] = []
        self.count = 0

    def bucket(self, turn: int) -> Bucket:
        """Return the bucket that a job belongs to."""
        demand = self._demands[turn]
        key = (demand.cores, demand.gpus, demand.gpu_memory)
        found = self._buckets.get(key)
        if found is None:
            found = self._buckets[key] = Bucket(demand)
            insort(self._sorted, found, key=attrgetter("cores"))
        return found

    def add(self, turn: int) -> None:
        """Let a job wait."""
        bucket = self.bucket(turn)
        heappush(bucket.heaps.setdefault(-(-self._demands[turn].memory // self._step), []), turn)
        bucket.top = min(bucket.top, turn)
        self.count += 1

    def remove(self, turn: int) -> None:
        """Let a job wait no more."""
        bucket = self.bucket(turn)
        key = -(-self._demands[turn].memory // self._step)
        heap = bucket.heaps[key]
        if heap[0] == turn:
            heappop(heap)
        else:
            heap.remove(turn)
            heap.sort()
        if not heap:
            del bucket.heaps[key]
        bucket.top = min((heap[0] for heap in bucket.heaps.values()), default=NONE)
        self.count -= 1

    def bar(self, turn: int) -> None:
        """Note that this job found no room; until something ends none like it with as much memory does."""
        bucket = self.bucket(turn)
        if bucket.barred == NONE:
            self._barred.append(bucket)
        bucket.barred = min(bucket.barred, self._demands[turn].memory)

    def is_barred(self, turn: int) -> bool:
        """Whether a job like this one, with no more memory, found no room."""
        return self.bucket(turn).barred <= self._demands[turn].memory

    def unbar(self) -> None:
        """Forget who found no room."""
        for bucket in self._barred:
            bucket.barred = NONE
        self._barred.clear()

    def first(self, room: tuple[int, int, int, int], now: float = 0.0, by: float = math.inf) -> int:
        """Return the first turn that fits into cores, memory, GPUs and memory of each GPU; NONE when none does.

        :param by: when it is to have ended if it starts now.
        """
        cores, memory, gpus, gpu_memory = room
        demands, best = self._demands, NONE
        for bucket in self._sorted:
            if bucket.cores > cores:
                break
            if bucket.top >= best or bucket.gpus > gpus or bucket.gpu_memory > gpu_memory:
                continue
            most = min(memory, bucket.barred - 1)
            if by < math.inf:
                best = min(best, self._short(bucket, most, now, by))
            elif demands[bucket.top].memory <= most:
                best = bucket.top
            else:
                for heap in bucket.heaps.values():
                    if heap[0] < best and demands[heap[0]].memory <= most:
                        best = heap[0]
        return best

    def _short(self, bucket: Bucket, most: int, now: float, by: float) -> int:
        """Return the first turn of a bucket with so much memory at most that ends in time.

        Ends are compared as a start computes them, not spans: a job as long as a walltime fits into one at any second.
        """
        demands, seconds, best = self._demands, self._seconds, NONE
        for step, heap in bucket.heaps.items():
            if heap[0] >= best or (step - 1) * self._step > most:
                continue
            for turn in heap[:DEPTH]:
                if turn < best and now + seconds[turn] <= by and demands[turn].memory <= most:
                    best = turn
        return best
