"""The time, as the runner sees it: of the world, or of a simulation."""

from __future__ import annotations

import time

LONGEST_WAIT = 0.25
"""Longest wait for news, in seconds; requests and interrupts are looked at in between."""


class Clock:
    """The time of the world."""

    longest_wait: float = LONGEST_WAIT
    """Seconds that one wait may last; nobody asks anything of a simulation meanwhile."""

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)
