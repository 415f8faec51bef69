"""What the planner takes and gives: values, all frozen. Sizes are bytes, times seconds from the start of the plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from socm_like.errors import SocmError

SHOWN = 20
"""Faults that a message lists; of the others it says how many there are."""


class PlacementError(SocmError):
    """Jobs that can never be placed, or whose dependencies make no graph; nothing has been planned."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        rest = [f"and {len(self.faults) - SHOWN} more"] if len(self.faults) > SHOWN else []
        super().__init__("\n".join([*self.faults[:SHOWN], *rest]))


@dataclass(frozen=True, slots=True)
class Job:
    """One task as the planner sees it."""

    name: str
    seconds: float
    dependencies: tuple[str, ...] = ()
    """Names of the jobs that must end first."""
    ranks: int = 1
    threads: int = 1
    """Cores per rank; a rank never spans nodes."""
    memory: int = 0
    """Of the whole job, shared equally by its ranks."""
    gpus: int = 0
    """Of the whole job, spread like its ranks; ranks that share GPUs stay on one node."""
    gpu_memory: int = 0
    """Needed on each GPU."""
    exclusive_nodes: int = 0
    """More than 0: so many whole nodes at once, whatever else it asks."""
    earliest: float = 0.0
    """Not before this second."""


@dataclass(frozen=True, slots=True)
class Node:
    """What one node offers to jobs."""

    name: str
    cores: int
    memory: int
    gpus: int = 0
    gpu_memory: int = 0
    """Of each GPU."""
    kind: str = "node"
    """The node type, as messages name it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a queue allows beyond what its nodes hold; None is no limit."""

    max_jobs: int | None = None
    """Jobs running at once."""
    max_cores: int | None = None
    """Cores in use at once."""
    walltime: float | None = None
    """Seconds of one allocation: no job crosses its end, and what does not fit waits for the next allocation."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a job holds on one node."""

    node: int
    """Index of the node."""
    cores: int
    memory: int
    gpus: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and when one job runs."""

    job: str
    start: float
    end: float
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A plan in time, and how far from the best possible it may be."""

    placements: tuple[Placement, ...]
    """In the order of their starts."""
    makespan: float
    critical_path: tuple[str, ...]
    """The chain of jobs that takes longest, first to last."""
    critical_path_seconds: float
    lower_bound: float
    """No schedule on these nodes ends earlier."""
    bound: str
    """What the lower bound rests on: ``critical path``, ``cores``, ``wide jobs (memory)``, ..."""
    bottleneck: str
    """The resource with the most demand for what there is of it: ``cores``, ``memory`` or ``gpus``."""
    utilisation: float
    """Of the bottleneck, from 0 to the makespan."""
    node_hours: float
    """Nodes x makespan: what an allocation held for the whole time costs."""
    pilots: tuple[float, ...] = (0.0,)
    """When each allocation starts; several only where the limits set a walltime."""
    reason: str = ""
    """Why the makespan is more than 5 % above the lower bound; empty when it is not."""

    @property
    def ratio(self) -> float:
        """Makespan / lower bound; 1 for nothing to do."""
        return self.makespan / self.lower_bound if self.lower_bound > 0 else 1.0
