"""Many starts: the best minimum is found, by no more work than it takes, the same for the same seed."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from socm_workflows.fit import fit

Floats = NDArray[np.float64]
X = np.linspace(0, 10, 500)


def sine(x: Any, omega: Any) -> Any:
    return jnp.sin(omega * x)


def wave(x: Any, amplitude: Any, omega: Any, phase: Any) -> Any:
    return amplitude * jnp.sin(omega * x + phase)


def peaks(x: Any, a: Any, b: Any) -> Any:
    return jnp.exp(-((x - a) ** 2)) + 2 * jnp.exp(-((x - b) ** 2))


def root(x: Any, a: Any, b: Any) -> Any:
    return jnp.sqrt(a) * x + b


def noisy(values: Any, noise: float = 0.05) -> Floats:
    clean = np.asarray(values)
    return clean + noise * np.random.default_rng(0).normal(size=clean.size)


@pytest.mark.parametrize("way", [{"n_starts": 10}, {"n_starts": 10, "sampler": "sobol"}, {"method": "global"}])
def test_a_frequency_is_found_from_a_start_that_is_five_times_too_low(way: dict[str, Any]) -> None:
    y = noisy(np.sin(5 * X))
    alone = fit(sine, X, y, p0=[1.0])
    result = fit(sine, X, y, p0=[1.0], **way)
    assert alone.cost > 100
    assert result.converged
    np.testing.assert_allclose(result.popt, [5], atol=5 * result.perr[0])
    assert result.cost == pytest.approx(0.64, abs=0.05)


@settings(deadline=None, max_examples=15)
@given(omega=st.floats(0.5, 8), seed=st.integers(0, 100), sampler=st.sampled_from(["lhs", "sobol", "halton"]))
def test_any_frequency_within_reach_is_found_with_any_seed(omega: float, seed: int, sampler: str) -> None:
    y = noisy(np.sin(omega * X))
    result = fit(sine, X, y, p0=[1.0], n_starts=10, seed=seed, sampler=sampler)
    np.testing.assert_allclose(result.popt, [omega], atol=6 * result.perr[0])


def test_amplitude_frequency_and_phase_are_found_together_within_bounds() -> None:
    y = noisy(wave(X, 2.0, 5.0, 0.7))
    result = fit(wave, X, y, bounds=([0.1, 0.1, -np.pi], [10, 20, np.pi]), n_starts=20)
    np.testing.assert_allclose(result.popt, [2, 5, 0.7], atol=0.03)


def test_of_two_minima_the_better_one_is_taken_and_the_other_is_seen() -> None:
    y = noisy(peaks(X, 7.0, 3.0))
    result = fit(peaks, X, y, p0=[3.0, 7.0], bounds=(0, 10), n_starts=20)
    np.testing.assert_allclose(result.popt, [7, 3], atol=0.02)
    search = result.multistart
    assert search is not None
    assert search.costs.shape == (20,)
    assert np.all(search.starts[0] == [3.0, 7.0])
    assert np.max(search.costs[np.isfinite(search.costs)]) > 10 * result.cost
    assert 1 <= search.reached_best < 20


def test_the_same_seed_gives_the_same_bits_and_another_one_other_starts() -> None:
    y = noisy(np.sin(5 * X))
    first, second, third = (fit(sine, X, y, p0=[1.0], n_starts=10, seed=seed) for seed in (7, 7, 8))
    assert first.multistart is not None
    assert second.multistart is not None
    assert third.multistart is not None
    np.testing.assert_array_equal(first.popt, second.popt)
    np.testing.assert_array_equal(first.multistart.ends, second.multistart.ends)
    assert not np.array_equal(first.multistart.starts, third.multistart.starts)


def test_starts_are_compared_on_a_sample_of_many_points_and_the_answer_is_that_of_all() -> None:
    x = np.linspace(0, 10, 50_000)
    y = noisy(np.sin(5 * x))
    result = fit(sine, x, y, p0=[1.0], n_starts=10)
    near = fit(sine, x, y, p0=[5.0])
    assert result.multistart is not None
    assert result.multistart.points == 4096
    assert abs(result.popt[0] - near.popt[0]) < 1e-6 * near.perr[0]
    assert result.points == 50_000


def test_starts_where_the_model_is_not_finite_are_passed_over() -> None:
    y = noisy(3 * X + 1)
    result = fit(root, X, y, p0=[1.0, 0.0], n_starts=10)
    assert result.multistart is not None
    assert np.isinf(result.multistart.costs).sum() >= 0
    np.testing.assert_allclose(result.popt, [9, 1], atol=0.05)


def test_sigma_and_loss_count_in_the_search() -> None:
    y = noisy(np.sin(5 * X))
    y[::10] += 5
    sigma = np.full(500, 0.05)
    result = fit(sine, X, y, p0=[1.0], sigma=sigma, loss="cauchy", n_starts=10)
    near = fit(sine, X, y, p0=[5.0], sigma=sigma, loss="cauchy")
    np.testing.assert_allclose(result.popt, near.popt, rtol=1e-9)
    np.testing.assert_allclose(result.cost, near.cost, rtol=1e-9)


def test_a_model_that_looks_at_all_points_together_has_starts_too() -> None:
    def centred(x: Any, omega: Any) -> Any:
        values = jnp.sin(omega * x)
        return values - jnp.mean(values)

    y = noisy(np.sin(5 * X) - np.mean(np.sin(5 * X)))
    result = fit(centred, X, y, p0=[1.0], n_starts=10, sigma=np.diag(np.full(500, 0.0025)))
    np.testing.assert_allclose(result.popt, [5], atol=0.01)
