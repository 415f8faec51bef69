"""What one pass of the list scheduler decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from socm_like.schedule.model import Share

Run = tuple[float, float, tuple[Share, ...]]
"""Start, end and place of a part of a job."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """What one pass decided, by index of the job."""

    starts: list[float]
    ends: list[float]
    shares: list[tuple[Share, ...]]
    pilots: tuple[float, ...]
    released: list[float]
    """From when each may start, by its parents and its gate."""
    parts: dict[int, list[Run]] = field(default_factory=dict)
    """Of each job that was split its parts, by which it neither starts nor ends alone."""
    refused: tuple[tuple[int, float], ...] = ()
    """Jobs that no window will hold, and when they were ready; they and what depends on them do not run."""

    @property
    def makespan(self) -> float:
        """The last end."""
        return max(self.ends, default=0.0)

    @property
    def badness(self) -> tuple[int, float]:
        """What the best timetable has least of: jobs that are refused, and time."""
        return len(self.refused), self.makespan

    def runs(self) -> Iterator[tuple[int, Run]]:
        """Yield each part of each job that runs."""
        for job, start in enumerate(self.starts):
            for run in self.parts.get(job, ((start, self.ends[job], self.shares[job]),) if start >= 0 else ()):
                yield job, run
