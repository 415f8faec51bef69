"""How many jobs run at once of those that share a cap, and who waits for one of them to end."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

LOOKED = 4
"""Jobs that are looked at anew when one of a cap ends, beyond those that it has room for."""
MOVED = 64
"""Jobs that are handed on to another full cap at one end."""


class Caps:
    """The caps while jobs come and go; a job is its turn, 0 the first."""

    def __init__(self, most: Sequence[int], caps: Sequence[tuple[int, ...]]) -> None:
        """Take how many each cap allows at once, and the caps of each turn."""
        self._free = list(most)
        self._caps = caps
        self._parked: list[list[int]] = [[] for _ in most]
        self._away: set[int] = set()

    def full(self, turn: int) -> int:
        """Return the first cap of a job that has no room, -1 when all have."""
        for cap in self._caps[turn]:
            if not self._free[cap]:
                return cap
        return -1

    def is_parked(self, turn: int) -> bool:
        """Whether a job waits for a cap."""
        return turn in self._away

    def park(self, turn: int, cap: int) -> None:
        """Let a job wait until a job of this cap ends."""
        heappush(self._parked[cap], turn)
        self._away.add(turn)

    def take(self, turn: int) -> None:
        """Count a job that starts."""
        for cap in self._caps[turn]:
            self._free[cap] -= 1

    def give_back(self, turn: int) -> list[int]:
        """Count a job no more; return those to be looked at again.

        Of each of its caps those are as many as there is room for and a few more, the first turns first, so that small
        ones find their way past large ones. One that another cap keeps back waits there from now on: that cap is full,
        so a job of it will end. At least one of each cap is returned or handed on, so none waits for ever.
        """
        for cap in self._caps[turn]:
            self._free[cap] += 1
        found = []
        for cap in self._caps[turn]:
            parked, wanted, moved = self._parked[cap], self._free[cap] + LOOKED, 0
            while parked and wanted and moved < MOVED:
                first = heappop(parked)
                other = self.full(first)
                if other >= 0:
                    heappush(self._parked[other], first)
                    moved += 1
                else:
                    self._away.remove(first)
                    found.append(first)
                    wanted -= 1
        return found
