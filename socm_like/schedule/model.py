"""What the planner takes and gives: values, all frozen. Sizes are bytes, times seconds from the start of the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

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
    priority: int = 0
    """Higher comes first; what it depends on is at least as urgent."""
    caps: tuple[str, ...] = ()
    """Names of the limits on jobs at once that it counts for."""
    limit: float | None = None
    """Seconds that a window must hold, its time limit; by default those that it takes."""
    splits: bool = False
    """Whether it can be stopped at the end of a window and go on in the next."""


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
class Gate:
    """When jobs that are ready may start: the windows of a policy. A job is asked for once, when it becomes ready."""

    release: Callable[[float, float], float]
    """Second it is ready, seconds to hold -> second from which it may start, infinity for never."""
    split: Callable[[float, float], tuple[float, float]] | None = None
    """The same for a job that splits -> also the second at which it is stopped, infinity where it is not. What is left
    of it is then ready again. A stop that is not after the start is a window that holds nothing: the job never runs."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a queue allows beyond what its nodes hold; None is no limit."""

    max_jobs: int | None = None
    """Jobs running at once."""
    max_cores: int | None = None
    """Cores in use at once."""
    caps: Mapping[str, int] = field(default_factory=dict)
    """Name -> jobs at once that count for it."""
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
    """Where and when one job runs; a job that is split has one for each part."""

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
    refused: tuple[tuple[str, float], ...] = ()
    """Jobs that no window will hold, and the second at which they are ready; they never run."""
    skipped: tuple[str, ...] = ()
    """Jobs that depend on those."""
    reason: str = ""
    """Why the makespan is more than 5 % above the lower bound; empty when it is not."""

    @property
    def ratio(self) -> float:
        """Makespan / lower bound; 1 for nothing to do."""
        return self.makespan / self.lower_bound if self.lower_bound > 0 else 1.0
