"""From points to the triangle: sums against QR, weights of every kind, given derivatives, units, bounds, gaps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import Array
from numpy.typing import NDArray
from scipy.optimize import curve_fit, lsq_linear
from socm_workflows.fit.solver.accumulation import (
    Linearisation,
    by_qr,
    inverse_of,
    reduce_sums,
    sums_at_once,
    sums_in_lanes,
)
from socm_workflows.fit.solver.formula import Formula, Points
from socm_workflows.fit.solver.loss import huber
from socm_workflows.fit.solver.passes import ArraySource
from socm_workflows.fit.solver.solution import Solution, solve

Floats = NDArray[np.float64]

NAMES = ("amplitude", "rate", "offset")
START = (2.0, 1.0, 0.3)
RANDOM = np.random.default_rng(20261121)


def decay(x: Array, amplitude: Array, rate: Array, offset: Array) -> Array:
    return amplitude * jnp.exp(-rate * x) + offset


def decay_of_numpy(x: Floats, amplitude: float, rate: float, offset: float) -> Floats:
    values: Floats = amplitude * np.exp(-rate * x) + offset
    return values


def data_of(count: int, noise: float = 0.05) -> tuple[Floats, Floats]:
    x = np.linspace(0, 5, count)
    return x, decay_of_numpy(x, 2.5, 1.3, 0.5) + noise * np.random.default_rng(5).normal(size=count)


def points_of(count: int, length: int, *, sigma: bool) -> Points:
    """Return points of which the first ``count`` count; the others are no numbers."""
    x, y = data_of(count)
    spread = np.where(np.arange(count) % 2, 0.1, 0.3)
    arrays = [np.concatenate([values, np.full(length - count, np.nan)]) for values in (x, y, spread)]
    return Points(jnp.asarray(arrays[0]), jnp.asarray(arrays[1]), jnp.asarray(arrays[2]) if sigma else None)


def assert_same(found: Linearisation, qr: Linearisation, rtol: float) -> None:
    """Compare what does not depend on the signs of the rows of R."""
    gram = np.asarray(qr.triangle.T @ qr.triangle)
    norms = np.sqrt(np.diag(gram))
    np.testing.assert_allclose(
        found.triangle.T @ found.triangle / np.outer(norms, norms), gram / np.outer(norms, norms), rtol=0, atol=rtol
    )
    gradient = np.asarray(qr.triangle.T @ qr.projection)
    scale = norms * np.sqrt(float(qr.square))
    np.testing.assert_allclose(found.triangle.T @ found.projection / scale, gradient / scale, rtol=0, atol=rtol)
    for name in ("rss", "square", "size"):
        np.testing.assert_allclose(getattr(found, name), getattr(qr, name), rtol=1e-12)


@pytest.mark.parametrize("loss", [None, huber])
@pytest.mark.parametrize("sigma", [False, True])
@settings(max_examples=10, deadline=None)
@given(count=st.integers(4, 4096))
def test_sums_in_lanes_are_those_of_qr_for_any_number_of_points(loss: Any, sigma: bool, count: int) -> None:
    formula, theta, scale = Formula(decay, loss=loss), jnp.array(START), jnp.asarray(0.3)
    points = points_of(count, 4096, sigma=sigma)
    sums = jax.jit(lambda count: sums_in_lanes(formula, theta, points, scale, count=count))(count)
    qr = by_qr(formula, theta, jax.tree.map(lambda values: values[:count], points), scale)
    assert_same(reduce_sums(sums), qr, 1e-13)


def test_sums_at_once_are_those_in_lanes() -> None:
    formula, theta, scale = Formula(decay), jnp.array(START), jnp.ones(())
    points = points_of(1024, 1024, sigma=True)
    at_once = sums_at_once(formula, theta, points, scale)
    in_lanes = sums_in_lanes(formula, theta, points, scale, count=jnp.asarray(1024))
    np.testing.assert_allclose(at_once, in_lanes, rtol=1e-13)


def polynomial(x: Array, *coefficients: Array) -> Array:
    return sum((c * x**power for power, c in enumerate(coefficients)), jnp.zeros_like(x))


@pytest.mark.parametrize("terms", [4, 8, 12])
def test_refined_sums_have_the_singular_values_of_qr_where_squares_have_lost_them(terms: int) -> None:
    x = np.linspace(10, 11, 4096)
    points = Points(jnp.asarray(x), jnp.sin(x), None)
    formula, theta, scale = Formula(polynomial), jnp.ones(terms), jnp.ones(())
    here = reduce_sums(sums_in_lanes(formula, theta, points, scale, count=jnp.asarray(4096)))
    assert here.condition > 500
    for _ in range(4):
        sums = sums_in_lanes(formula, theta, points, scale, count=jnp.asarray(4096), basis=inverse_of(here.triangle))
        here = reduce_sums(sums, here.triangle)
    assert here.condition < 500

    def singular(point: Linearisation) -> Floats:
        triangle = np.asarray(point.triangle)
        return np.linalg.svd(triangle / np.linalg.norm(triangle, axis=0), compute_uv=False)

    expected = singular(by_qr(formula, theta, points, scale))
    np.testing.assert_allclose(singular(here), expected, rtol=0.0, atol=20 * terms * 2.0**-52 * expected[0])


def covariance_of(solution: Solution) -> Floats:
    assert solution.covariance is not None
    return solution.covariance


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("count", [60, 700])
def test_a_diagonal_covariance_of_the_data_is_a_sigma_for_each(count: int, absolute: bool) -> None:
    x, y = data_of(count)
    sigma = np.where(np.arange(count) % 2, 0.1, 0.3)
    each = solve(decay, x, y, START, names=NAMES, sigma=sigma, absolute_sigma=absolute)
    whole = solve(decay, x, y, START, names=NAMES, sigma=np.diag(sigma**2), absolute_sigma=absolute)
    assert whole.accumulation == "qr"
    np.testing.assert_allclose(whole.parameters, each.parameters, rtol=1e-10)
    np.testing.assert_allclose(covariance_of(whole), covariance_of(each), rtol=1e-8)


def test_a_full_covariance_of_the_data_gives_the_numbers_of_scipy() -> None:
    x, y = data_of(80)
    covariance = 0.05**2 * np.exp(-np.abs(x[:, None] - x) / 0.2)
    found = solve(decay, x, y, START, names=NAMES, sigma=covariance, absolute_sigma=True)
    parameters, expected = curve_fit(
        decay_of_numpy, x, y, START, sigma=covariance, absolute_sigma=True, xtol=1e-14, ftol=1e-14, gtol=1e-14,
        jac=lambda x, *theta: np.asarray(derivative(x, *theta)),
    )  # fmt: skip
    np.testing.assert_allclose(found.parameters, parameters, rtol=1e-8)
    np.testing.assert_allclose(covariance_of(found), expected, rtol=1e-6)


def test_a_matrix_that_is_no_covariance_is_refused() -> None:
    x, y = data_of(10)
    with pytest.raises(ValueError) as error:
        solve(decay, x, y, START, names=NAMES, sigma=-np.eye(10))
    assert str(error.value) == "sigma, a covariance of the data, is not positive definite"


def derivative(x: Array, amplitude: Array, rate: Array, offset: Array) -> Array:
    e = jnp.exp(-rate * x)
    return jnp.stack([e, -amplitude * x * e, jnp.ones_like(x)], axis=1)


def transposed(x: Array, amplitude: Array, rate: Array, offset: Array) -> Array:
    return derivative(x, amplitude, rate, offset).T


@pytest.mark.parametrize("jac", [derivative, transposed])
@pytest.mark.parametrize(("count", "strategy"), [(100, "standard"), (1000, "standard"), (1000, "chunked")])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_derivative_of_ones_own_is_used_as_it_is(jac: Any, count: int, strategy: Any, weighted: bool) -> None:
    x, y = data_of(count)
    sigma = np.where(np.arange(count) % 2, 0.1, 0.3) if weighted else None
    plain = solve(decay, x, y, START, names=NAMES, sigma=sigma)
    found = solve(decay, x, y, START, names=NAMES, sigma=sigma, jac=jac, strategy=strategy)
    np.testing.assert_allclose(found.parameters, plain.parameters, rtol=1e-9)
    np.testing.assert_allclose(covariance_of(found), covariance_of(plain), rtol=1e-8)
    with pytest.raises(ValueError, match=r"^jac gives an array of shape"):
        solve(decay, x, y, START, names=NAMES, jac=lambda x, *_: jnp.stack([x, x], axis=1), strategy=strategy)


@pytest.mark.parametrize("count", [1000, 20000])
@pytest.mark.parametrize("exponent", [-12, -9, -6, -3, 3, 6, 9, 12])
def test_the_unit_of_y_does_not_matter(exponent: int, count: int) -> None:
    x, y = data_of(count)
    unit = np.array([10.0**exponent, 1.0, 10.0**exponent])
    plain = solve(decay, x, y, START, names=NAMES)
    scaled = solve(decay, x, y * 10.0**exponent, START * unit, names=NAMES)
    assert scaled.converged
    assert scaled.accumulation == "gram"
    np.testing.assert_allclose(scaled.parameters / unit, plain.parameters, rtol=1e-10)
    np.testing.assert_allclose(covariance_of(scaled) / np.outer(unit, unit), covariance_of(plain), rtol=1e-8)


@pytest.mark.parametrize("strategy", ["standard", "chunked"])
def test_parameters_may_be_twenty_decades_apart(strategy: Any) -> None:
    x, y = data_of(3000)

    def stretched(x: Array, amplitude: Array, rate: Array, offset: Array) -> Array:
        return decay(x, amplitude * 1e-10, rate * 1e10, offset)

    unit = np.array([1e10, 1e-10, 1.0])
    plain = solve(decay, x, y, START, names=NAMES)
    found = solve(stretched, x, y, START * unit, names=NAMES, strategy=strategy)
    assert found.converged
    np.testing.assert_allclose(found.parameters / unit, plain.parameters, rtol=1e-10)
    np.testing.assert_allclose(covariance_of(found) / np.outer(unit, unit), covariance_of(plain), rtol=1e-8)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("strategy", ["standard", "chunked"])
def test_bounded_linear_problems_have_the_answer_of_their_own_method(strategy: Any, seed: int) -> None:
    """Coefficients of cosines within [-0.5, 0.5], by the active-set method BVLS (Stark & Parker 1995)."""

    def cosines(x: Array, a: Array, b: Array, c: Array, d: Array) -> Array:
        return a * jnp.cos(x) + b * jnp.cos(2 * x + a * 0) + c * jnp.cos(3.1 * x) + d

    random = np.random.default_rng(seed)
    x = np.linspace(0, 3, 400)
    matrix = np.stack([np.cos(x), np.cos(2 * x), np.cos(3.1 * x), np.ones_like(x)], axis=1)
    y = matrix @ random.normal(size=4) + 0.1 * random.normal(size=400)
    found = solve(
        cosines, x, y, np.zeros(4), names=("a", "b", "c", "d"), lower=np.full(4, -0.5), upper=np.full(4, 0.5),
        strategy=strategy,
    )  # fmt: skip
    expected = lsq_linear(matrix, y, (-0.5, 0.5), method="bvls", tol=1e-15)
    assert found.converged
    np.testing.assert_allclose(found.parameters, expected.x, rtol=0, atol=1e-9)
    residuals = matrix @ found.parameters - y
    pull = matrix.T @ residuals
    on_low, on_high = found.parameters == -0.5, found.parameters == 0.5
    slack = 1e-8 * np.linalg.norm(matrix, axis=0) * np.linalg.norm(residuals)
    assert np.all(np.abs(pull) <= slack, where=~(on_low | on_high))
    assert np.all(pull >= -slack, where=on_low)
    assert np.all(pull <= slack, where=on_high)


def test_points_with_gaps_are_refused_or_left_out_but_never_filled() -> None:
    x, y = data_of(400)
    gaps = y.copy()
    gaps[[7, 9]] = np.nan
    with pytest.raises(ValueError) as error:
        solve(decay, x, gaps, START, names=NAMES)
    assert str(error.value) == (
        'y[7] is nan, and 2 of 400 are not finite; remove them, or leave such points out with nan_policy = "omit"'
    )
    kept = np.isfinite(gaps)
    expected = solve(decay, x[kept], y[kept], START, names=NAMES)
    for options in (
        {"x": x, "y": gaps},
        {"x": None, "y": None, "source": ArraySource(x, gaps)},
    ):
        found = solve(decay, start=START, names=NAMES, nan_policy="omit", **options)
        assert (found.points, found.degrees_of_freedom) == (398, 395)
        np.testing.assert_allclose(found.parameters, expected.parameters, rtol=1e-10)
    with pytest.raises(ValueError, match=r"^the data, the model or its derivative are not finite at the start"):
        solve(decay, None, None, START, names=NAMES, source=ArraySource(x, gaps))


def test_the_phases_of_a_fit_are_timed_and_its_passes_counted() -> None:
    x, y = data_of(1000)
    found = solve(decay, x, y, START, names=NAMES, covariance="sandwich")
    assert set(found.seconds) == {"prepare", "iterate", "conclude"}
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert found.passes == found.evaluations + 2
    assert found.evaluations == found.iterations + 1
