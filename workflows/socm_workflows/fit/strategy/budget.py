"""Which strategy fits into memory: MemoryBudget computes, MemoryBudgetSelector decides and says why.

``data_gb`` and ``jacobian_gb`` are NLSQ's formulas. ``peak_gb`` is not: NLSQ predicts ``data + 1.3 jacobian + 0.1`` and
needs three to four times that, because it keeps five Jacobians. Our solver keeps none; :mod:`memory_model` says what
it needs instead. GB is 2^30 bytes throughout, as on NLSQ's pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from socm_workflows.fit.strategy.memory import GIB, AvailableMemory, available_memory, checked_limit
from socm_workflows.fit.strategy.memory_model import FitSize, chunked_peak, standard_peak, streaming_peak
from socm_workflows.fit.strategy.streaming_config import HybridStreamingConfig
from socm_workflows.fit.strategy.tiers import (
    GOALS,
    SPARING,
    OptimizationGoal,
    WorkflowTier,
    calculate_adaptive_tolerances,
    read_goal,
)

SAFETY_FACTOR = 0.75
"""Part of the available memory that a fit is planned to take."""
SMALLEST_CHUNK, LARGEST_CHUNK = 1_000, 1_000_000
CHUNKED_SHARE, STREAMING_SHARE = 0.75, 0.5
"""Part of the threshold that the chunks in flight may take; the rest is for what else streams through."""
CHECKPOINT_FROM = 4
"""Data of more thresholds than this are checkpointed unasked: a fit of them takes long, and a state is small."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """What one fit needs and what there is, in GB (of 2^30 bytes)."""

    size: FitSize
    data_gb: float
    """The data as they are given, without ``sigma``."""
    jacobian_gb: float
    """What the Jacobian would take. It is never stored; the figure says how much that saves."""
    peak_gb: float
    """What a fit in memory takes at its peak beyond Python and JAX: the data, their copy on the device, the work."""
    available_gb: float
    threshold_gb: float
    """``safety_factor`` of what is available."""
    limited_by: str
    """What sets the memory available."""

    @property
    def fits_in_memory(self) -> bool:
        """Whether the peak stays within the threshold."""
        return self.peak_gb <= self.threshold_gb

    @property
    def data_fits(self) -> bool:
        """Whether the data stay within the threshold."""
        return self.data_gb <= self.threshold_gb

    @classmethod
    def compute(
        cls,
        n_points: int,
        n_params: int,
        n_features: int = 1,
        dtype: DTypeLike = np.float64,
        memory_limit_gb: float | None = None,
        *,
        safety_factor: float = SAFETY_FACTOR,
        sigma_dimensions: int = 0,
        available: AvailableMemory | float | None = None,
    ) -> MemoryBudget:
        """Return the budget of a fit.

        ``available`` counts on that memory (a number is of GB) instead of what is left here, to plan for elsewhere.

        ``sigma_dimensions`` is 1 with a sigma per point, 2 with a covariance.

        Raises ValueError: a number out of its range, with its name.
        """
        if not 0 < safety_factor <= 1:
            raise ValueError(f"safety_factor is {safety_factor!r}: write a number above 0, at most 1")
        if sigma_dimensions not in (0, 1, 2):
            raise ValueError(f"sigma_dimensions is {sigma_dimensions!r}: 0, 1 or 2")
        size = FitSize(
            points=_count("n_points", n_points),
            parameters=_count("n_params", n_params),
            features=_count("n_features", n_features),
            itemsize=np.dtype(dtype).itemsize,
            sigma_dimensions=sigma_dimensions,
        )
        return cls.of(size, memory_to_count_on(available, memory_limit_gb), safety_factor)

    @classmethod
    def of(cls, size: FitSize, memory: AvailableMemory, safety_factor: float = SAFETY_FACTOR) -> MemoryBudget:
        """Return the budget of a fit of that size, with that memory."""
        return cls(
            size=size,
            data_gb=size.points * (size.features + 1) * size.itemsize / GIB,
            jacobian_gb=size.points * size.parameters * size.itemsize / GIB,
            peak_gb=standard_peak(size) / GIB,
            available_gb=memory.gb,
            threshold_gb=memory.gb * safety_factor,
            limited_by=memory.source,
        )

    def peak_of(self, tier: WorkflowTier, chunk_size: int) -> float:
        """Return the GB that a fit takes at its peak with a strategy, and chunks of that many points."""
        if tier is WorkflowTier.STANDARD:
            return self.peak_gb
        if tier is WorkflowTier.CHUNKED:
            return chunked_peak(self.size) / GIB
        return streaming_peak(self.size, chunk_size) / GIB


def _count(name: str, number: float) -> int:
    if isinstance(number, bool) or not number > 0 or int(number) != number:
        raise ValueError(f"{name} is {number!r}: {name} must be positive, a whole number")
    return int(number)


def memory_to_count_on(available: AvailableMemory | float | None, limit: float | None) -> AvailableMemory:
    """Return the memory that is stated (a number is of GB), else what is left here; a limit holds for both.

    Raises ValueError: a number that is not positive.
    """
    if available is None:
        return available_memory(limit)
    if not isinstance(available, AvailableMemory):
        available = AvailableMemory(round(checked_limit(available, "available") * GIB), "available")
    if limit is None:
        return available
    stated = AvailableMemory(round(checked_limit(limit, "memory_limit_gb") * GIB), "memory_limit_gb")
    return min(available, stated, key=lambda memory: memory.bytes)


@dataclass(frozen=True, slots=True)
class ChunkedConfig:
    """How data in memory go to the device."""

    chunk_size: int
    """Points at a time."""


StrategyConfig = ChunkedConfig | HybridStreamingConfig | None


@dataclass(frozen=True, slots=True)
class Selection:
    """A strategy; unpacks to ``strategy, config``."""

    strategy: WorkflowTier
    """Also a word: ``standard``, ``chunked``, ``streaming`` or ``streaming_checkpoint``."""
    config: StrategyConfig
    """None for ``standard``."""
    why: str
    """One sentence."""
    budget: MemoryBudget

    def __iter__(self) -> Iterator[Any]:
        return iter((self.strategy, self.config))


@dataclass(frozen=True, slots=True)
class MemoryBudgetSelector:
    """Chooses a strategy by what fits into memory.

    ::

        1. data_gb > threshold -> streaming; streaming_checkpoint where checkpoints are asked for,
           or nobody refused them and data_gb > 4 x threshold
        2. peak_gb > threshold -> chunked
        3. else                -> standard
    """

    safety_factor: float = SAFETY_FACTOR

    def __post_init__(self) -> None:
        if not 0 < self.safety_factor <= 1:
            raise ValueError(f"safety_factor is {self.safety_factor!r}: write a number above 0, at most 1")

    def select(
        self,
        n_points: int,
        n_params: int,
        n_features: int = 1,
        dtype: DTypeLike = np.float64,
        memory_limit_gb: float | None = None,
        *,
        goal: OptimizationGoal | str | None = None,
        checkpoints: bool | None = None,
        sigma_dimensions: int = 0,
        available: AvailableMemory | float | None = None,
    ) -> Selection:
        """Return the strategy for a fit, how to follow it, and why it was chosen.

        ``checkpoints`` asks for them, or refuses them. Raises ValueError as :meth:`MemoryBudget.compute` does.
        """
        budget = MemoryBudget.compute(
            n_points, n_params, n_features, dtype, memory_limit_gb,
            safety_factor=self.safety_factor, sigma_dimensions=sigma_dimensions, available=available,
        )  # fmt: skip
        read = None if goal is None else read_goal(goal, "goal")
        return self.decide(budget, goal=read, checkpoints=checkpoints)

    def decide(
        self, budget: MemoryBudget, *, goal: OptimizationGoal | None = None, checkpoints: bool | None = None
    ) -> Selection:
        """Return the strategy for a budget."""
        tier, why = _by_memory(budget, checkpoints)
        if GOALS[goal].spares_memory:
            spared = next(tier for limit, tier in SPARING if budget.size.points < limit)
            if list(WorkflowTier).index(spared) > list(WorkflowTier).index(tier):
                tier, why = spared, f"the goal memory_efficient takes {spared} for {budget.size.points} points"
        return self.follow(budget, tier, why, goal=goal)

    def follow(
        self, budget: MemoryBudget, tier: WorkflowTier, why: str, *, goal: OptimizationGoal | None = None
    ) -> Selection:
        """Return a strategy that is already chosen, with its configuration for a budget."""
        config: StrategyConfig = None
        if tier is WorkflowTier.CHUNKED:
            config = ChunkedConfig(chunk_size(budget, CHUNKED_SHARE))
        elif tier is not WorkflowTier.STANDARD:
            config = HybridStreamingConfig(
                chunk_size=chunk_size(budget, STREAMING_SHARE),
                gauss_newton_tol=calculate_adaptive_tolerances(budget.size.points, goal).gtol,
                enable_checkpoints=tier is WorkflowTier.STREAMING_CHECKPOINT,
            )
        return Selection(tier, config, why, budget)


def _by_memory(budget: MemoryBudget, checkpoints: bool | None) -> tuple[WorkflowTier, str]:
    limit = f"the threshold of {budget.threshold_gb:.3g} GB ({budget.limited_by})"
    if not budget.data_fits:
        why = f"the data of {budget.data_gb:.3g} GB exceed {limit}"
        is_long = budget.data_gb > CHECKPOINT_FROM * budget.threshold_gb
        if checkpoints:
            return WorkflowTier.STREAMING_CHECKPOINT, f"{why}, and checkpoints are asked for"
        if is_long and checkpoints is None:
            return WorkflowTier.STREAMING_CHECKPOINT, f"{why} more than {CHECKPOINT_FROM} times over"
        return WorkflowTier.STREAMING, why
    if not budget.fits_in_memory:
        return WorkflowTier.CHUNKED, f"the data fit, but the peak of {budget.peak_gb:.3g} GB exceeds {limit}"
    return WorkflowTier.STANDARD, f"the peak of {budget.peak_gb:.3g} GB is within {limit}"


def chunk_size(budget: MemoryBudget, share: float) -> int:
    """Return the points of a chunk so that the chunks in flight take ``share`` of the threshold.

    Between 1,000 and 1,000,000: more memory never makes it smaller, more parameters never make it larger.
    """
    points = int(share * budget.threshold_gb * GIB / budget.size.chunk_bytes_per_point)
    return min(max(points, SMALLEST_CHUNK), LARGEST_CHUNK)
