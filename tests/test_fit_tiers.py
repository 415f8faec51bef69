"""Tiers and goals: the tables of the pages."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from socm_workflows.fit.strategy.memory import available_memory
from socm_workflows.fit.strategy.tiers import (
    GOALS,
    DatasetSizeTier,
    GoalEffect,
    MemoryTier,
    OptimizationGoal,
    WorkflowTier,
    calculate_adaptive_tolerances,
    get_memory_tier,
    get_total_available_memory_gb,
    read_goal,
)

FAST, ROBUST, GLOBAL, MEMORY_EFFICIENT, QUALITY = OptimizationGoal


@pytest.mark.parametrize(
    ("n_points", "tier", "tolerance"),
    [
        (1, "TINY", 1e-12),
        (999, "TINY", 1e-12),
        (1_000, "SMALL", 1e-10),
        (9_999, "SMALL", 1e-10),
        (10_000, "MEDIUM", 1e-8),
        (100_000, "LARGE", 1e-7),
        (999_999, "LARGE", 1e-7),
        (1_000_000, "VERY_LARGE", 1e-6),
        (10_000_000, "MASSIVE", 1e-5),
        (10**12, "MASSIVE", 1e-5),
    ],
)
def test_tolerances_are_those_of_the_page(n_points: int, tier: str, tolerance: float) -> None:
    # seeds/001*.txt, "Adaptive Tolerance Values"
    assert DatasetSizeTier.of(n_points).name == tier
    assert calculate_adaptive_tolerances(n_points) == (tolerance, tolerance, tolerance)


@pytest.mark.parametrize(
    ("n_points", "goal", "tolerance"),
    [
        (5_000_000, QUALITY, 1e-7),
        (5_000_000, FAST, 1e-5),
        (500, QUALITY, 1e-12),
        (500, FAST, 1e-10),
        (2 * 10**8, FAST, 1e-5),
        (50_000, "quality", 1e-10),
        (50_000, "Fast", 1e-7),
    ],
)
def test_quality_is_one_tier_tighter_and_fast_one_looser(n_points: int, goal: str, tolerance: float) -> None:
    assert calculate_adaptive_tolerances(n_points, goal).gtol == tolerance


@given(st.integers(1, 10**12))
def test_the_other_goals_keep_the_tolerances(n_points: int) -> None:
    base = calculate_adaptive_tolerances(n_points)
    for goal in (ROBUST, GLOBAL, MEMORY_EFFICIENT):
        assert calculate_adaptive_tolerances(n_points, goal) == base


def test_each_goal_changes_what_it_says() -> None:
    assert dict(GOALS) == {
        None: GoalEffect(looser=0, n_starts=1, confirms=False, spares_memory=False),
        FAST: GoalEffect(looser=1),
        ROBUST: GoalEffect(n_starts=5),
        GLOBAL: GoalEffect(n_starts=20),
        MEMORY_EFFICIENT: GoalEffect(spares_memory=True),
        QUALITY: GoalEffect(looser=-1, n_starts=10, confirms=True),
    }
    assert len({repr(effect) for effect in GOALS.values()}) == len(GOALS)


def test_normalize_finds_the_goal_of_the_same_tolerances() -> None:
    assert OptimizationGoal.normalize(GLOBAL) is ROBUST
    assert [OptimizationGoal.normalize(goal) for goal in OptimizationGoal if goal is not GLOBAL] == [
        FAST, ROBUST, MEMORY_EFFICIENT, QUALITY,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("memory", "tier"),
    [(0, "LOW"), (15.9, "LOW"), (16, "MEDIUM"), (63, "MEDIUM"), (64, "HIGH"), (128, "VERY_HIGH")],
)  # fmt: skip
def test_memory_tiers_begin_at_16_64_and_128_gb(memory: float, tier: str) -> None:
    assert get_memory_tier(memory) is MemoryTier[tier]


@pytest.mark.parametrize("memory", [-1.0, math.nan])
def test_memory_that_is_none_is_refused(memory: float) -> None:
    with pytest.raises(ValueError, match=r"^available_memory_gb is .*: write a number of GB, 0 or more$"):
        get_memory_tier(memory)


def test_the_memory_available_is_what_the_budget_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLSQ_MEMORY_LIMIT_GB", "0.25")
    assert get_total_available_memory_gb() == 0.25 == available_memory().gb


def test_a_wrong_goal_is_named_with_the_near_one() -> None:
    with pytest.raises(ValueError) as caught:
        read_goal("qualty", "goal")
    assert str(caught.value) == (
        "goal is 'qualty'; did you mean 'quality'? (one of fast, robust, global, memory_efficient, quality)"
    )


def test_strategies_print_as_words() -> None:
    assert [f"{tier}" for tier in WorkflowTier] == ["standard", "chunked", "streaming", "streaming_checkpoint"]
