"""What is free on the nodes right now, and which of them suit a job best."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence

from socm_like.schedule.load import Demand
from socm_like.schedule.model import Node, Share

COMPARED = 32
"""Nodes that are compared for one placement, those with the fewest free cores first."""


class Pool:
    """The nodes while jobs come and go; never gives what it does not have."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.cores = [node.cores for node in nodes]
        self.memory = [node.memory for node in nodes]
        self.gpus = [node.gpus for node in nodes]
        self.gpu_memory = [node.gpu_memory for node in nodes]
        self.free_cores, self.free_memory, self.free_gpus = sum(self.cores), sum(self.memory), sum(self.gpus)
        self._levels = sorted((cores, index) for index, cores in enumerate(self.cores))
        self._weights = [
            (1 / max(node.cores, 1), 1 / max(node.memory, 1), 1 / max(node.gpus, 1)) for node in nodes
        ]  # fmt: skip

    def is_empty(self, index: int) -> bool:
        """Whether nothing runs on a node."""
        node = self.nodes[index]
        return self.cores[index] == node.cores and self.memory[index] == node.memory and self.gpus[index] == node.gpus

    def best_node(self, demand: Demand, admits: Callable[[int], bool] | None = None) -> int:
        """Return the node that one part leaves fullest, -1 when it fits on none.

        Fullest: the sum of the free fractions of cores, memory and GPUs that remain is least. So jobs without GPUs
        go where the GPUs are taken already, and a part that exactly fills a hole gets it.
        """
        cores, memory, gpus = demand.cores, demand.memory, demand.gpus
        gpu_memory = demand.gpu_memory if gpus else 0
        best, least, seen = -1, 4.0, 0
        levels = self._levels
        for place in range(bisect_left(levels, (cores, -1)), len(levels)):
            free, index = levels[place]
            spare, idle = self.memory[index] - memory, self.gpus[index] - gpus
            if spare < 0 or idle < 0 or gpu_memory > self.gpu_memory[index] or (admits and not admits(index)):
                continue
            per_core, per_byte, per_gpu = self._weights[index]
            rest = (free - cores) * per_core + spare * per_byte + idle * per_gpu
            if rest < least:
                best, least = index, rest
            seen += 1
            if seen == COMPARED:
                break
        return best

    def slots(self, demand: Demand, index: int) -> int:
        """Return how many parts a node holds beside what runs there."""
        if demand.whole:
            return int(self.is_empty(index) and demand.fits(self.nodes[index]))
        if demand.gpus and demand.gpu_memory > self.gpu_memory[index]:
            return 0
        return slots_in(demand, self.cores[index], self.memory[index], self.gpus[index])

    def spread(self, demand: Demand, admits: Callable[[int], bool] | None = None) -> tuple[Share, ...]:
        """Return the shares of a job of several parts on as few nodes as possible, or none when it does not fit."""
        if not demand.whole and not self._holds(demand):
            return ()
        counts = [
            (count, index)
            for index in range(len(self.cores))
            if (count := self.slots(demand, index)) and (admits is None or admits(index))
        ]
        if sum(count for count, _ in counts) < demand.pieces:
            return ()
        counts.sort(key=lambda pair: (-pair[0], self.nodes[pair[1]].cores, pair[1]))
        return shares_of(demand, counts, self.nodes)

    def _holds(self, demand: Demand) -> bool:
        return (
            demand.pieces * demand.cores <= self.free_cores
            and demand.pieces * demand.memory <= self.free_memory
            and demand.pieces * demand.gpus <= self.free_gpus
        )

    def take(self, share: Share) -> None:
        """Give a job its share."""
        self._change(share.node, -share.cores, -share.memory, -share.gpus)

    def give_back(self, share: Share) -> None:
        """Take a share back."""
        self._change(share.node, share.cores, share.memory, share.gpus)

    def _change(self, index: int, cores: int, memory: int, gpus: int) -> None:
        levels, before = self._levels, self.cores[index]
        del levels[bisect_left(levels, (before, index))]
        self.cores[index] = before + cores
        self.memory[index] += memory
        self.gpus[index] += gpus
        self.free_cores += cores
        self.free_memory += memory
        self.free_gpus += gpus
        insort(levels, (before + cores, index))


def slots_in(demand: Demand, cores: int, memory: int, gpus: int) -> int:
    """Return how many parts fit into so many cores, bytes and GPUs."""
    count = cores // demand.cores
    if demand.memory:
        count = min(count, memory // demand.memory)
    if demand.gpus:
        count = min(count, gpus // demand.gpus)
    return max(count, 0)


def shares_of(demand: Demand, counts: Sequence[tuple[int, int]], nodes: Sequence[Node]) -> tuple[Share, ...]:
    """Return the shares of a job on nodes that hold so many of its parts each, from the first on."""
    shares, left = [], demand.pieces
    for count, index in counts:
        parts = min(count, left)
        if demand.whole:
            shares.append(Share(index, nodes[index].cores, nodes[index].memory, nodes[index].gpus))
        else:
            shares.append(Share(index, parts * demand.cores, parts * demand.memory, parts * demand.gpus))
        left -= parts
        if not left:
            break
    return tuple(shares)
