"""The words of a strategy: tiers of data and of memory, goals, and what each of them changes.

All tables of that kind stand here. Names are those of NLSQ's pages. Where its code disagreed with its pages, the pages
hold: tolerances by number of points, and GLOBAL, which its code made another word for ROBUST.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from math import inf
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from socm_like.errors import suggest
from socm_workflows.fit.strategy.memory import available_memory

Word = TypeVar("Word", bound=StrEnum)


class WorkflowTier(StrEnum):
    """A strategy: where the data are while they are fitted. The answer is the same for all."""

    STANDARD = "standard"
    """All data in memory and on the device; fastest."""
    CHUNKED = "chunked"
    """All data in memory, on the device a chunk at a time."""
    STREAMING = "streaming"
    """Data read a chunk at a time, once per iteration."""
    STREAMING_CHECKPOINT = "streaming_checkpoint"
    """As STREAMING, and the state of the fit is written so that it can go on after a crash."""


class OptimizationGoal(StrEnum):
    """What matters most; :data:`GOALS` says what each changes."""

    FAST = "fast"
    """Tolerances one tier looser, one start."""
    ROBUST = "robust"
    """5 starts."""
    GLOBAL = "global"
    """20 starts."""
    MEMORY_EFFICIENT = "memory_efficient"
    """As little memory as on the smallest machine: data go through in chunks as soon as that saves something."""
    QUALITY = "quality"
    """Tolerances one tier tighter, 10 starts, and the fit is repeated from its solution to confirm it."""

    @staticmethod
    def normalize(goal: OptimizationGoal | str) -> OptimizationGoal:
        """Return the goal with the same tolerances that NLSQ reduces this one to: ROBUST for GLOBAL, else itself.

        Kept for its name; the number of starts of GLOBAL is its own, 20.
        """
        goal = read_goal(goal, "goal")
        return OptimizationGoal.ROBUST if goal is OptimizationGoal.GLOBAL else goal


class MemoryTier(Enum):
    """A class of machine, by the memory it offers."""

    LOW = 16.0
    """Below 16 GB."""
    MEDIUM = 64.0
    """16 to 64 GB."""
    HIGH = 128.0
    """64 to 128 GB."""
    VERY_HIGH = inf
    """128 GB or more."""

    @property
    def max_memory_gb(self) -> float:
        """The memory where the next tier begins."""
        return float(self.value)


class DatasetSizeTier(Enum):
    """A class of data set, by its number of points; the value is (points where the next begins, tolerance)."""

    TINY = (1_000, 1e-12)
    SMALL = (10_000, 1e-10)
    MEDIUM = (100_000, 1e-8)
    LARGE = (1_000_000, 1e-7)
    VERY_LARGE = (10_000_000, 1e-6)
    MASSIVE = (inf, 1e-5)

    @property
    def max_points(self) -> float:
        """The number of points where the next tier begins."""
        return float(self.value[0])

    @property
    def tolerance(self) -> float:
        """The tolerance of a fit of that many points, for gtol, ftol and xtol."""
        return float(self.value[1])

    @classmethod
    def of(cls, n_points: int) -> DatasetSizeTier:
        """Return the tier of a number of points."""
        return next((tier for tier in cls if n_points < tier.max_points), cls.MASSIVE)


@dataclass(frozen=True, slots=True)
class GoalEffect:
    """What a goal changes."""

    looser: int = 0
    """Tiers of the table of tolerances: 1 is the next looser, -1 the next tighter."""
    n_starts: int = 1
    """Starts, the user's own among them."""
    confirms: bool = False
    """Whether the fit is repeated from its solution."""
    spares_memory: bool = False
    """Whether :data:`SPARING` holds on every machine."""


GOALS: Mapping[OptimizationGoal | None, GoalEffect] = MappingProxyType(
    {
        None: GoalEffect(),
        OptimizationGoal.FAST: GoalEffect(looser=1),
        OptimizationGoal.ROBUST: GoalEffect(n_starts=5),
        OptimizationGoal.GLOBAL: GoalEffect(n_starts=20),
        OptimizationGoal.MEMORY_EFFICIENT: GoalEffect(spares_memory=True),
        OptimizationGoal.QUALITY: GoalEffect(looser=-1, n_starts=10, confirms=True),
    }
)
"""What each goal changes, and no goal: nothing."""

SPARING: tuple[tuple[float, WorkflowTier], ...] = (
    (10_000, WorkflowTier.STANDARD),
    (1_000_000, WorkflowTier.CHUNKED),
    (inf, WorkflowTier.STREAMING),
)
"""Points below which a strategy is frugal enough for MEMORY_EFFICIENT: NLSQ's column of its lowest memory tier, without
the checkpoints, which save no memory."""


class AdaptiveTolerances(NamedTuple):
    """When a fit has converged; see scipy.optimize.least_squares."""

    gtol: float
    ftol: float
    xtol: float


def calculate_adaptive_tolerances(n_points: int, goal: OptimizationGoal | str | None = None) -> AdaptiveTolerances:
    """Return the tolerances of a fit of that many points: 1e-12 below a thousand, 1e-5 from ten millions on.

    FAST takes those of the next larger tier, QUALITY those of the next smaller. NLSQ's code has 1e-9, 1e-8, 1e-7, 1e-6
    from MEDIUM on, and applies them only where a goal is stated; this table is the one of its pages, and always holds.

    They are relative, and a standard error shrinks with the root of the number of points: what stops a fit of many
    points must also be small against the standard errors, which the solver has to see to.
    """
    tiers = list(DatasetSizeTier)
    effect = GOALS[None if goal is None else read_goal(goal, "goal")]
    place = tiers.index(DatasetSizeTier.of(n_points)) + effect.looser
    tolerance = tiers[min(max(place, 0), len(tiers) - 1)].tolerance
    return AdaptiveTolerances(tolerance, tolerance, tolerance)


def get_memory_tier(available_memory_gb: float) -> MemoryTier:
    """Return the tier of that much memory.

    Raises ValueError: negative, or not a number.
    """
    if not available_memory_gb >= 0:
        raise ValueError(f"available_memory_gb is {available_memory_gb!r}: write a number of GB, 0 or more")
    return next((tier for tier in MemoryTier if available_memory_gb < tier.max_memory_gb), MemoryTier.VERY_HIGH)


def get_total_available_memory_gb() -> float:
    """Return the GB (of 2^30 bytes) that a fit may use now; see :mod:`socm_workflows.fit.strategy.memory`.

    NLSQ adds the memory of the GPUs to that of the host. One fit needs its data in both, so that the smaller counts.
    """
    return available_memory().gb


def read_goal(word: OptimizationGoal | str, where: str) -> OptimizationGoal:
    """Return the goal of that name, in any case. Raises ValueError, naming ``where`` it stands."""
    return read_word(OptimizationGoal, word, where)


def read_tier(word: WorkflowTier | str, where: str) -> WorkflowTier:
    """Return the strategy of that name, in any case. Raises ValueError, naming ``where`` it stands."""
    return read_word(WorkflowTier, word, where)


def read_word(kind: type[Word], word: Word | str, where: str) -> Word:
    """Return the member of that name, in any case. Raises ValueError, naming ``where`` it stands."""
    names = [member.value for member in kind]
    name = word.strip().lower() if isinstance(word, str) else word
    if name not in names:
        near = suggest(name, names) if isinstance(name, str) else ""
        raise ValueError(f"{where} is {word!r}{near} (one of {', '.join(names)})")
    return kind(name)
