"""HybridStreamingConfig: NLSQ's defaults and profiles; what has no effect is said, once."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import pytest
from socm_workflows.fit.strategy.streaming_config import HybridStreamingConfig, NoEffectWarning


def test_defaults_are_those_of_nlsq() -> None:
    # reference/nlsq.md, check 22
    config = HybridStreamingConfig()
    assert (config.warmup_iterations, config.max_warmup_iterations) == (200, 500)
    assert (config.loss_plateau_threshold, config.gradient_norm_threshold) == (1e-4, 1e-3)
    assert (config.gauss_newton_max_iterations, config.gauss_newton_tol) == (100, 1e-8)
    assert (config.chunk_size, config.checkpoint_frequency) == (10_000, 100)
    assert config.without_effect == ()


def test_profiles_are_those_of_nlsq_and_are_silent() -> None:
    # reference/nlsq.md, check 23; warnings are errors here
    strict, relaxed = HybridStreamingConfig.defense_strict(), HybridStreamingConfig.defense_relaxed()
    names = ("warm_start_threshold", "cost_increase_tolerance", "max_warmup_step_size")
    assert [getattr(strict, name) for name in names] == [0.01, 0.05, 0.05]
    assert [getattr(relaxed, name) for name in names] == [0.5, 0.5, 0.5]
    assert (relaxed.warmup_learning_rate, strict.warmup_iterations, strict.max_warmup_iterations) == (0.003, 25, 60)
    scientific = HybridStreamingConfig.scientific_default()
    assert [getattr(scientific, name) for name in names] == [0.05, 0.2, 0.1]
    assert (scientific.gauss_newton_tol, scientific.gauss_newton_max_iterations) == (1e-10, 200)
    disabled = HybridStreamingConfig.defense_disabled()
    assert disabled.without_effect == (
        "enable_warm_start_detection", "enable_adaptive_warmup_lr", "enable_cost_guard", "enable_step_clipping",
    )  # fmt: skip


def test_a_profile_may_be_changed_where_it_has_an_effect() -> None:
    changed = dataclasses.replace(HybridStreamingConfig.defense_strict(), chunk_size=500)
    assert (changed.chunk_size, changed.warm_start_threshold) == (500, 0.01)


def test_a_field_without_effect_that_is_set_by_hand_is_reported() -> None:
    with pytest.warns(NoEffectWarning) as caught:
        config = HybridStreamingConfig(normalize=False, precision="float32", chunk_size=7)
    assert [str(warning.message) for warning in caught] == [
        "without effect on the result, which is exact without: normalize, precision"
    ]
    assert caught[0].filename == __file__
    assert config.without_effect == ("normalize", "precision")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert config.effective() == HybridStreamingConfig(chunk_size=7)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("chunk_size", 0, "chunk_size is 0: write a whole number of at least 1"),
        ("chunk_size", 1.5, "chunk_size is 1.5: write a whole number of at least 1"),
        ("warmup_iterations", -1, "warmup_iterations is -1: write a whole number of at least 0"),
        ("warmup_iterations", 501, "warmup_iterations is 501, more than max_warmup_iterations, 500"),
        ("gauss_newton_tol", 0.0, "gauss_newton_tol is 0.0: write a positive number"),
        ("loss_plateau_threshold", -1.0, "loss_plateau_threshold is -1.0: write a positive number"),
        ("gradient_norm_threshold", float("nan"), "gradient_norm_threshold is nan: write a positive number"),
        ("normalization_strategy", "max", "normalization_strategy is 'max' (one of auto, bounds, p0, none)"),
        ("multistart_sampler", "random", "multistart_sampler is 'random' (one of lhs, sobol, halton)"),
        ("precision", "float16", "precision is 'float16' (one of auto, float32, float64)"),
        ("enable_checkpoints", 1, "enable_checkpoints is 1: write True or False"),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        HybridStreamingConfig(**{field: value})
    assert str(caught.value) == message


def test_all_faults_are_told_at_once_and_it_cannot_be_changed() -> None:
    with pytest.raises(ValueError) as caught:
        HybridStreamingConfig(chunk_size=0, n_starts=0)
    assert len(str(caught.value).splitlines()) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        HybridStreamingConfig().chunk_size = 3  # type: ignore[misc]
