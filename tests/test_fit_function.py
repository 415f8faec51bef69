"""``fit`` and ``curve_fit``: SciPy's conventions, SciPy's answers, one result whatever is asked for, clear refusals."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import Bounds, OptimizeWarning
from socm_workflows.fit import (
    EarlyStopping,
    FitResult,
    HybridStreamingConfig,
    StopOptimization,
    WorkflowConfig,
    curve_fit,
    fit,
)
from socm_workflows.fit.solver.passes import Block

Floats = NDArray[np.float64]


def power(x: Any, b: Any, a: Any) -> Any:
    return b * x**a


def line(x: Any, a: Any, b: Any) -> Any:
    return a * x + b


def exponential(x: Any, a: Any, b: Any) -> Any:
    return a * jnp.exp(-b * x)


def decay(x: Any, a: Any, b: Any, c: Any) -> Any:
    return a * jnp.exp(-b * x) + c


def decay_of_numpy(x: Floats, a: float, b: float, c: float) -> Floats:
    return np.asarray(a * np.exp(-b * x) + c)


def shifted_sine(x: Any, a: Any) -> Any:
    return jnp.sin(x + a)


def proportional(x: Any, p: Any) -> Any:
    return p * x


def data_of(count: int = 400, noise: float = 0.05) -> tuple[Floats, Floats]:
    x = np.linspace(0, 5, count)
    return x, decay_of_numpy(x, 2.5, 1.3, 0.5) + noise * np.random.default_rng(5).normal(size=count)


class Scaled:
    """A model that is a method."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def power(self, x: Any, b: Any, a: Any) -> Any:
        return self.factor * b * x**a


# scipy/optimize/tests/test_minpack.py, class TestCurveFit (v1.17); the numbers are in its asserts

POWERS = ([1.0, 2.0, 3.0, 4.0], [1.0, 3.2, 9.5, 13.7])


@pytest.mark.parametrize("check_finite", [True, False])
def test_one_parameter_without_a_start_is_that_of_the_scipy_suite(check_finite: bool) -> None:
    result = fit(lambda x, a: x**a, *POWERS, check_finite=check_finite)
    np.testing.assert_allclose(result.popt, [1.9149], atol=5e-5)
    np.testing.assert_allclose(result.pcov, [[0.0016]], atol=5e-5)


@pytest.mark.parametrize("model", [power, Scaled(1.0).power], ids=["function", "method"])
def test_two_parameters_are_those_of_the_scipy_suite(model: Callable[..., Any]) -> None:
    popt, pcov = fit(model, *POWERS)
    np.testing.assert_allclose(popt, [1.1642, 1.7989], atol=5e-5)
    np.testing.assert_allclose(pcov, [[0.1912, -0.1260], [-0.1260, 0.0852]], atol=5e-5)


@pytest.mark.parametrize(
    ("factor", "is_absolute", "expected"),
    [
        (1, False, [0.20659803, 0.57204404]),
        (3, False, [0.20659803, 0.57204404]),
        (1, True, [0.30714756, 0.85045308]),
        (3, True, [3 * 0.30714756, 3 * 0.85045308]),
    ],
)
def test_sigma_weighs_and_only_the_absolute_one_sets_the_scale(
    factor: float, is_absolute: bool, expected: list[float]
) -> None:
    sigma = factor * np.array([1.0, 2, 1, 2, 1, 2])
    y = np.array([1.0, 1, 5, 7, 8, 12])
    result = fit(line, np.arange(6), y, p0=[2, 0], sigma=sigma, absolute_sigma=is_absolute)
    np.testing.assert_allclose(result.perr, expected, rtol=1e-7)


def test_lists_are_data() -> None:
    np.testing.assert_allclose(fit(line, [1, 2, 3, 4], [3, 5, 7, 9]).popt, [2, 1], atol=1e-10)


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), ([0, 0], [10, 10])], ids=["free", "bounded"])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1.0, 2, np.nan, 4], [3.0, 5, 7, 9], r"x\[2\] is nan, and 1 of 4 are not finite"),
        ([1.0, 2, 3, 4], [3.0, 5, np.nan, 9], r"y\[2\] is nan"),
        ([], [], "there are no data: x and y are empty"),
        ([1.0, 2, 3], [3.0, 5, 7, 9], r"x is \(3,\) and y \(4,\)"),
    ],
)
def test_data_that_cannot_be_fitted_are_refused(x: Any, y: Any, message: str, bounds: Any) -> None:
    with pytest.raises(ValueError, match=message):
        fit(line, x, y, p0=[1, 1], bounds=bounds)


def test_points_that_are_not_finite_are_left_out_on_request_and_never_filled_in() -> None:
    x, y = data_of()
    gap = y.copy()
    gap[7], gap[200] = np.nan, np.inf
    with_gap = fit(decay, x, gap, p0=[2, 1, 0.3], nan_policy="omit")
    kept = np.isfinite(gap)
    without = fit(decay, x[kept], y[kept], p0=[2, 1, 0.3])
    np.testing.assert_array_equal(with_gap.popt, without.popt)
    assert with_gap.points == 398


@pytest.mark.parametrize(
    ("bounds", "index", "value"),
    [(([1.0, 0], [1.5, 3]), 0, 1.5), (([0.0, 0], [0.6, np.inf]), 0, 0.6), (Bounds([1.0, 0], [1.5, 3]), 0, 1.5)],
)
def test_a_minimum_beyond_a_bound_is_found_on_it_and_said_to_be_there(bounds: Any, index: int, value: float) -> None:
    x = np.linspace(0, 1, 11)
    result = fit(exponential, x, 2 * np.exp(-2 * x), bounds=bounds)
    assert result.popt[index] == value
    assert result.at_bound == ("a",)
    assert np.isnan(result.perr[0])
    assert result.perr[1] > 0
    assert "a = " in repr(result)
    assert "on a bound" in repr(result)


def test_bounds_that_do_not_matter_change_nothing() -> None:
    x = np.linspace(-2 * np.pi, 2 * np.pi, 40)
    y = np.sin(x)
    free = fit(shifted_sine, x, y, p0=[2.1 * np.pi])
    bounded = fit(shifted_sine, x, y, p0=[2.1 * np.pi], bounds=(-3 * np.pi, 3 * np.pi))
    np.testing.assert_allclose(free.popt, [2 * np.pi], rtol=1e-9)
    np.testing.assert_allclose(bounded.popt, free.popt, rtol=1e-7)


@pytest.mark.parametrize("is_transposed", [False, True])
def test_a_jacobian_may_be_given_in_either_orientation(is_transposed: bool) -> None:
    def jacobian(x: Any, a: Any, b: Any) -> Any:
        rows = jnp.stack([jnp.exp(-b * x), -a * x * jnp.exp(-b * x)])
        return rows if is_transposed else rows.T

    x = np.linspace(0, 1, 11)
    y = 2 * np.exp(-2 * x)
    for jac in (jacobian, None, "2-point"):
        np.testing.assert_allclose(fit(exponential, x, y, jac=jac).popt, [2, 2], rtol=1e-9)
    y[5] = 100
    sigma = np.ones(11)
    sigma[5] = 200
    np.testing.assert_allclose(fit(exponential, x, y, jac=jacobian, sigma=sigma).popt, [2, 2], rtol=1e-3)


@pytest.mark.parametrize("limit", [{"max_nfev": 100}, {"maxfev": 100}, {}])
def test_maxfev_is_another_name_of_max_nfev(limit: dict[str, int]) -> None:
    x = np.linspace(0.1, 1, 10)
    result = fit(proportional, x, 2 * x, bounds=(0, 3), **limit)  # type: ignore[arg-type]
    np.testing.assert_allclose(result.popt, [2], atol=1e-14)


def test_evaluations_that_run_out_are_no_convergence() -> None:
    x, y = data_of()
    with pytest.warns(OptimizeWarning, match="could not be estimated: not converged: stopped after 1 iterations"):
        result = fit(decay, x, y, p0=[20, 0.1, 5], max_nfev=2)
    assert (result.converged, result.success, result.status, result.nfev) == (False, False, 0, 2)
    assert np.all(np.isinf(result.pcov))
    assert np.all(np.isfinite(result.popt))
    with pytest.raises(RuntimeError, match="Optimal parameters not found: not converged"):
        curve_fit(decay, x, y, p0=[20, 0.1, 5], maxfev=2)


@pytest.mark.parametrize("is_absolute", [True, False])
def test_a_diagonal_covariance_is_a_sigma_per_point(is_absolute: bool) -> None:
    x = np.linspace(0, 1, 20)
    y = 2 * np.exp(-2 * x) + 0.05 * np.random.default_rng(0).normal(size=20)
    one = fit(exponential, x, y, sigma=np.full(20, 0.2), absolute_sigma=is_absolute)
    two = fit(exponential, x, y, sigma=np.diag(np.full(20, 0.04)), absolute_sigma=is_absolute)
    np.testing.assert_allclose(two.popt, one.popt, rtol=1e-12)
    np.testing.assert_allclose(two.pcov, one.pcov, rtol=1e-10)


def test_rotated_data_with_their_covariance_have_the_same_fit() -> None:
    rng = np.random.default_rng(3)
    x = np.arange(1.0, 8)
    y = line(x, 2.0, -3.0) + rng.normal(size=7)
    rotation = np.linalg.qr(rng.normal(size=(7, 7)))[0]
    covariance = rotation @ np.diag(np.linspace(0.5, 2, 7)) @ rotation.T
    matrix = jnp.asarray(rotation.T)
    plain = fit(lambda x, a, b: matrix @ (a * x + b), x, rotation.T @ y, sigma=np.sqrt(np.linspace(0.5, 2, 7)))
    rotated = fit(line, x, y, sigma=covariance)
    np.testing.assert_allclose(rotated.popt, plain.popt, rtol=1.2e-7)
    np.testing.assert_allclose(rotated.pcov, plain.pcov, rtol=1.2e-7)


# known truths without noise, and units


@pytest.mark.parametrize(
    ("model", "truth", "start", "rtol"),
    [
        (line, (2.5, -1.3), None, 1e-8),
        (line, (1e-6, 1e-5), None, 1e-6),
        (line, (1e-3, 1e3), None, 1e-6),
        (decay, (10.0, 0.5, 2.0), (5.0, 1.0, 1.0), 1e-6),
        (exponential, (5.0, -0.3), (1.0, -0.1), 1e-5),
    ],
)
def test_data_without_noise_give_back_the_truth(model: Any, truth: Any, start: Any, rtol: float) -> None:
    x = np.linspace(0, 5, 50)
    np.testing.assert_allclose(fit(model, x, np.asarray(model(x, *truth)), start).popt, truth, rtol=rtol)


@pytest.mark.parametrize("start", [(25, 39, 41.5, 39), (0.25, 0.39, 0.415, 0.39)])
def test_default_settings_give_six_digits_of_the_hardest_certified_set(start: tuple[float, ...]) -> None:
    """MGH09 of NIST StRD, itl.nist.gov/div898/strd/nls/data/mgh09.shtml."""
    x = [4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625]
    y = [0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
    result = fit(lambda x, b1, b2, b3, b4: b1 * (x**2 + x * b2) / (x**2 + x * b3 + b4), x, y, p0=start)
    certified = [1.9280693458e-01, 1.9128232873e-01, 1.2305650693e-01, 1.3606233068e-01]
    np.testing.assert_allclose(result.popt, certified, rtol=1e-6)
    np.testing.assert_allclose(result.perr[0], 1.1435312227e-02, rtol=1e-4)


@pytest.mark.parametrize("count", [1_000, 20_000])
def test_the_answer_does_not_depend_on_the_unit_of_y(count: int) -> None:
    x, y = data_of(count)
    plain = fit(decay, x, y, p0=[2, 1, 0.3])
    for scale in (1e-12, 1e-6, 1e12):
        scaled = fit(decay, x, scale * y, p0=[2 * scale, 1, 0.3 * scale])
        np.testing.assert_allclose(scaled.popt / [scale, 1, scale], plain.popt, rtol=1e-8)


def test_the_same_call_gives_the_same_bits_and_a_symmetric_covariance() -> None:
    x, y = data_of()
    results = [fit(decay, x, y, p0=[2, 1, 0.3], **more) for more in ({}, {}, {"method": "trf"})]  # type: ignore[arg-type]
    for result in results[1:]:
        np.testing.assert_array_equal(result.popt, results[0].popt)
        np.testing.assert_array_equal(result.pcov, results[0].pcov)
    np.testing.assert_allclose(results[0].pcov, results[0].pcov.T, rtol=1e-12)
    assert np.all(np.diag(results[0].pcov) > 0)


def test_any_number_of_points_gives_the_answer_of_scipy() -> None:
    for count in range(4, 12):
        x, y = data_of(count)
        popt, pcov = scipy.optimize.curve_fit(line, x, y)
        result = fit(line, x, y)
        np.testing.assert_allclose(result.popt, popt, rtol=1e-6)
        np.testing.assert_allclose(result.pcov, pcov, rtol=1e-6)


@pytest.mark.parametrize("loss", ["linear", "soft_l1", "huber", "cauchy", "arctan"])
def test_robust_losses_are_those_of_scipy(loss: str) -> None:
    x, y = data_of(370)
    y[::37] += 3
    truth = scipy.optimize.least_squares(
        lambda p: decay_of_numpy(x, *p) - y, [2, 1, 0.3], loss=loss, f_scale=0.1, xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    result = fit(decay, x, y, p0=[2, 1, 0.3], loss=loss, f_scale=0.1)
    np.testing.assert_allclose(result.popt, truth.x, atol=1e-8)
    np.testing.assert_allclose(result.cost, truth.cost, rtol=1e-10)


# against scipy.optimize.curve_fit


@settings(deadline=None, max_examples=25)
@given(
    truth=st.tuples(st.floats(1.5, 5), st.floats(0.6, 2), st.floats(-2, 2)),  # where the data determine all three
    seed=st.integers(0, 2**31),
    has_sigma=st.booleans(),
    is_absolute=st.booleans(),
    has_bounds=st.booleans(),
)
def test_curve_fit_is_that_of_scipy(
    truth: tuple[float, float, float], seed: int, has_sigma: bool, is_absolute: bool, has_bounds: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 5, 40)
    sigma = rng.uniform(0.02, 0.1, 40)
    y = decay_of_numpy(x, *truth) + sigma * rng.normal(size=40)
    more: dict[str, Any] = {"bounds": ([0, 0, -10], [10, 5, 10])} if has_bounds else {}
    more |= {"sigma": sigma, "absolute_sigma": is_absolute} if has_sigma else {}
    tight = {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}  # at 1e-14 SciPy may go on to its limit of calls
    popt, pcov = scipy.optimize.curve_fit(decay_of_numpy, x, y, (1, 1, 0), **more, **tight)
    ours, covariance = curve_fit(decay, x, y, (1, 1, 0), **more)
    np.testing.assert_allclose(ours, popt, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(covariance, pcov, rtol=1e-3, atol=1e-9)


def test_curve_fit_gives_the_five_values_of_scipy_on_request() -> None:
    x, y = data_of()
    popt, pcov, information, message, number = curve_fit(decay, x, y, full_output=True)
    assert popt.shape == (3,)
    assert pcov.shape == (3, 3)
    np.testing.assert_allclose(information["fvec"], decay_of_numpy(x, *popt) - y, atol=1e-12)
    assert information["nfev"] > 1
    assert message.startswith("converged")
    assert number in (1, 2, 3, 4)


def test_several_predictors_are_rows_of_x() -> None:
    def plane(x: Any, a: Any, b: Any, c: Any) -> Any:
        return a * x[0] + b * x[1] + c

    x = np.random.default_rng(0).normal(size=(2, 30))
    y = plane(x, 1.0, 2.0, 3.0)
    np.testing.assert_allclose(fit(plane, x, y).popt, [1, 2, 3], rtol=1e-10)
    with pytest.raises(ValueError, match=r"x is \(30, 2\), one row per point; .* x\.T"):
        fit(plane, x.T, y)


def test_what_the_data_do_not_determine_is_not_given_an_error() -> None:
    x, y = data_of()
    with pytest.warns(OptimizeWarning, match="the data do not determine b, c"):
        result = fit(lambda x, a, b, c: a * jnp.exp(-(b + c) * x), x, y, p0=[2, 0.5, 0.5])
    assert np.all(np.isinf(result.perr))
    assert result.diagnostics().undetermined == ("b", "c")
    assert result.diagnostics().rank == 2


# refusals


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"gtoll": 1e-3}, "fit() got an unexpected keyword argument 'gtoll'; did you mean 'gtol'?"),
        ({"x_scale": "jac"}, "fit() got an unexpected keyword argument 'x_scale' (columns are scaled by the solver"),
        ({"banana": 7}, "fit() got an unexpected keyword argument 'banana'"),
    ],
)
def test_an_unknown_keyword_is_an_error(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        fit(line, [1, 2, 3], [1, 2, 3], **keywords)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"args": (1,)}, "args: there is no such keyword"),
        ({"method": "lm", "bounds": (0, 5)}, 'method="lm" is for problems without bounds'),
        ({"method": "lm", "loss": "huber"}, 'method="lm" has the linear loss only'),
        ({"method": "trff"}, "method is 'trff'; did you mean 'trf'?"),
        ({"loss": "hubber"}, "loss: there is no 'hubber'"),
        ({"workflow": "qualty"}, "workflow is 'qualty'; did you mean 'quality'?"),
        ({"preset": "robst"}, "preset is 'robst'; did you mean 'robust'?"),
        ({"multistart": False, "n_starts": 5}, "multistart=False contradicts n_starts=5"),
        ({"method": "global", "n_starts": 5}, "method='global' draws its own population"),
        ({"max_nfev": 5, "maxfev": 6}, "max_nfev is 5 and maxfev 6"),
        ({"max_nfev": 0}, "max_nfev is 0"),
        ({"nan_policy": "propagate"}, "nan_policy is 'propagate'"),
        ({"f_scale": -1}, "f_scale is -1"),
        ({"gtol": -1}, "gtol is -1"),
        ({"bounds": (0,)}, "bounds has 1 entries"),
        ({"bounds": (5, 0)}, "bounds of parameter 0 are 5 and 0"),
        ({"bounds": ([0, 0, 0], 5)}, "bounds: the lower ones are"),
        ({"p0": [1, 2, 3]}, "p0 has 3 numbers, and line has 2 parameters: a, b"),
        ({"p0": [9, 9], "bounds": (0, 5)}, "the start of a, b is outside the bounds"),
        ({"sigma": [1, 1]}, r"sigma is (2,); for 4 points"),
        ({"sigma": [1, 1, 0, 1]}, "sigma has numbers that are not positive"),
        ({"names": ["a"]}, "names has 1 entries"),
        ({"workflow": "streaming", "strategy": "chunked"}, "contradict each other"),
    ],
)
def test_what_is_wrong_or_contradicts_is_refused_in_words(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        fit(line, [1, 2, 3, 4], [1, 2, 3, 5], **keywords)
    assert message in str(caught.value)


def test_a_model_that_has_no_parameters_or_hides_them_is_refused() -> None:
    with pytest.raises(ValueError, match="has no parameters to fit"):
        fit(lambda x: x, [1, 2], [1, 2])
    with pytest.raises(ValueError, match="cannot be told from its signature: give p0"):
        fit(lambda x, *p: p[0] * x, [1, 2], [1, 2])
    assert fit(lambda x, *p: p[0] * x, [1, 2, 3], [2, 4, 6], p0=[1]).parameters == pytest.approx({"p0": 2})


def test_a_model_of_numpy_is_told_what_to_write() -> None:
    x, y = data_of()
    with pytest.raises(ValueError, match=r"write jax\.numpy instead of numpy and math"):
        fit(decay_of_numpy, x, y)


# strategies, presets, goals, configurations

EVERY_WAY: list[dict[str, Any]] = [
    {"workflow": "chunked", "chunk_size": 1000},
    {"workflow": "streaming"},
    {"workflow": "streaming_checkpoint"},
    {"strategy": "chunked"},
    {"preset": "memory_efficient"},
    {"workflow": "fast", "gtol": 1e-12},
    {"workflow": "hpc_distributed"},
    {"workflow": "large_robust"},
    {"workflow": "quality"},
    {"workflow": "auto_global"},
    {"goal": "robust"},
    {"config": WorkflowConfig(goal="quality", tier="streaming")},
    {"config": HybridStreamingConfig.scientific_default()},
    {"method": "global"},
]


def test_every_workflow_gives_the_same_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = data_of(5_000)
    bounds = ([0, 0, -1], [5, 1.25, 2])
    plain = fit(decay, x, y, p0=[2, 1, 0.3], bounds=bounds)
    assert plain.at_bound == ("b",)
    for way in EVERY_WAY:
        result = fit(decay, x, y, p0=[2, 1, 0.3], bounds=bounds, **way)
        apart = np.abs(result.popt - plain.popt)[[0, 2]] / plain.perr[[0, 2]]
        assert np.all(apart < 1e-6), way
        np.testing.assert_allclose(result.pcov, plain.pcov, rtol=1e-6, err_msg=str(way))


@pytest.mark.parametrize(
    ("way", "n_starts"),
    [
        ({"workflow": "auto_global"}, 20),
        ({"workflow": "hpc"}, 10),
        ({"workflow": "quality"}, 10),
        ({"multistart": True}, 10),
        ({"multistart": True, "n_starts": 20}, 20),
        ({"global_search": True}, 20),
        ({"goal": "robust"}, 5),
        ({"workflow": "quality", "multistart": False}, 1),
        ({}, 1),
    ],
)
def test_starts_that_are_promised_are_made(
    way: dict[str, Any], n_starts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = data_of(200)
    result = fit(decay, x, y, p0=[2, 1, 0.3], **way)
    assert result.multistart_diagnostics["n_starts_evaluated"] == n_starts
    assert (result.multistart is None) == (n_starts == 1)
    assert result.multistart is None or len(result.multistart.costs) == n_starts


def test_quality_confirms_by_a_second_fit_from_elsewhere() -> None:
    x, y = data_of(200)
    result = fit(decay, x, y, p0=[2, 1, 0.3], goal="quality")
    assert result.confirmed is True
    assert result.total_nfev > result.nfev
    assert fit(decay, x, y, p0=[2, 1, 0.3]).confirmed is None


# sources


class Blocks:
    """A source: blocks of 1000 points, made when asked for."""

    def __init__(self, count: int) -> None:
        self.x, self.y = data_of(count)

    @property
    def n(self) -> int | None:
        return None

    @property
    def k(self) -> int:
        return 1

    def blocks(self) -> Iterator[Block]:
        for begin in range(0, self.y.size, 1000):
            yield self.x[begin : begin + 1000], self.y[begin : begin + 1000], None


@pytest.mark.parametrize("way", [{}, {"workflow": "streaming"}, {"workflow": "streaming", "n_starts": 5}])
def test_a_source_is_data(way: dict[str, Any]) -> None:
    source = Blocks(12_345)
    plain = fit(decay, source.x, source.y, p0=[2, 1, 0.3])
    result = fit(decay, source, p0=[2, 1, 0.3], **way)
    np.testing.assert_allclose(result.popt, plain.popt, rtol=1e-9)
    assert (result.points, result.strategy) == (12_345, way.get("workflow", "standard"))
    assert result.r_squared == pytest.approx(plain.r_squared, rel=1e-9)
    assert result.residuals.shape == (12_345,)


def test_a_file_is_data(tmp_path: Path) -> None:
    x, y = data_of()
    np.savez(tmp_path / "data.npz", x=x, y=y, s=np.full(400, 0.05))
    np.savetxt(tmp_path / "data.csv", np.column_stack([x, y]), delimiter=",")
    plain = fit(decay, x, y, p0=[2, 1, 0.3], sigma=0.05, absolute_sigma=True)
    named = fit(decay, tmp_path / "data.npz", p0=[2, 1, 0.3], sigma="s", absolute_sigma=True)
    np.testing.assert_allclose(named.popt, plain.popt, rtol=1e-9)
    np.testing.assert_allclose(named.pcov, plain.pcov, rtol=1e-9)
    text = fit(decay, str(tmp_path / "data.csv"), p0=[2, 1, 0.3], columns=[0, 1], workflow="streaming")
    np.testing.assert_allclose(text.popt, plain.popt, rtol=1e-9)


# callbacks


def test_a_callback_sees_every_iteration() -> None:
    x, y = data_of()
    seen: list[tuple[int, float, int]] = []

    def callback(iteration: int, cost: float, parameters: Any, info: Any) -> None:
        assert {"gradient_norm", "nfev", "step_norm"} <= set(info)
        seen.append((iteration, cost, len(parameters)))

    result = fit(decay, x, y, p0=[2, 1, 0.3], callback=callback)
    assert [number for number, _, _ in seen] == list(range(result.nit + 1))
    assert {size for _, _, size in seen} == {3}
    assert seen[-1][1] == pytest.approx(result.cost, rel=1e-12)
    np.testing.assert_allclose(result.popt, fit(decay, x, y, p0=[2, 1, 0.3]).popt, rtol=1e-12)


def test_a_callback_that_stops_a_fit_leaves_it_not_converged_with_its_words() -> None:
    x, y = data_of()

    def stop(iteration: int, cost: float, parameters: Any, info: Any) -> None:
        if iteration == 2:
            raise StopOptimization("enough")

    with pytest.warns(OptimizeWarning, match="enough"):
        result = fit(decay, x, y, p0=[20, 0.1, 5], callback=stop)
    assert (result.converged, result.status, result.nit, result.message) == (False, -2, 2, "not converged: enough")
    with pytest.warns(OptimizeWarning, match="has not fallen"):
        fit(decay, x, y, p0=[20, 0.1, 5], callback=EarlyStopping(patience=1, min_delta=1e9))


def test_a_callback_that_fails_costs_a_warning_only() -> None:
    x, y = data_of()

    def fail(iteration: int, cost: float, parameters: Any, info: Any) -> None:
        raise OSError("disk full")

    with pytest.warns(RuntimeWarning, match="Callback raised exception: OSError: disk full"):
        result = fit(decay, x, y, p0=[2, 1, 0.3], callback=fail)
    assert result.converged


# checkpoints: the child kills itself with SIGKILL in the middle of a pass, at the one that its argument says

PROGRAM = """
import json, os, signal, sys
import jax.numpy as jnp, numpy as np
from socm_workflows.fit import fit

directory, last = sys.argv[1], int(sys.argv[2])
x = np.linspace(0, 5, 30_000)
y = 2.5 * np.exp(-1.3 * x) + 0.5 + 0.05 * np.random.default_rng(5).normal(size=x.size)
passes = 0

class Blocks:
    n, k = x.size, 1
    def blocks(self):
        global passes
        passes += 1
        for begin in range(0, x.size, 10_000):
            if passes == last and begin:
                os.kill(os.getpid(), signal.SIGKILL)
            yield x[begin:begin + 10_000], y[begin:begin + 10_000], None

def model(x, a, b, c):
    return a * jnp.exp(-b * x) + c

result = fit(model, Blocks(), p0=[20, 0.1, 5], workflow="streaming_checkpoint", checkpoint_dir=directory,
             checkpoint_frequency=1)
print(json.dumps([[v.hex() for v in [*result.popt, *result.pcov.ravel()]], passes, result.converged]))
"""


@pytest.mark.slow
def test_a_fit_that_was_killed_goes_on_and_ends_with_the_same_bits(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    whole = run_python(PROGRAM, str(tmp_path / "whole"), "0")
    killed = run_python(PROGRAM, str(tmp_path / "killed"), "8")
    assert (whole.returncode, killed.returncode) == (0, -9), whole.stderr
    assert [path.name[:4] for path in (tmp_path / "killed").iterdir()] == ["fit-"]
    again = run_python(PROGRAM, str(tmp_path / "killed"), "0")
    bits, passes, has_converged = json.loads(whole.stdout)
    same_bits, fewer, _ = json.loads(again.stdout)
    assert has_converged
    assert same_bits == bits
    assert fewer < passes - 3


def test_a_state_of_another_fit_is_left_alone(tmp_path: Path) -> None:
    x, y = data_of()
    for shift in (0.0, 1.0):
        fit(decay, x, y + shift, p0=[2, 1, 0.3], checkpoint_dir=tmp_path, checkpoint_frequency=1)
    assert len(list(tmp_path.iterdir())) == 2


def test_every_public_name_is_there_and_sorted(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    program = """
import sys
import socm_workflows.fit as face
order = sorted(face.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name))
print('jax' in sys.modules, face.__all__ == order, set(face.__all__) <= set(dir(face)))
print([name for name in face.__all__ if getattr(face, name) is None])
"""
    child = run_python(program)
    assert (child.stdout, child.stderr) == ("False True True\n[]\n", "")


def test_the_result_is_of_one_type_whatever_is_asked_for() -> None:
    x, y = data_of()
    assert {type(fit(decay, x, y, p0=[2, 1, 0.3], **way)) for way in ({}, {"n_starts": 3})} == {FitResult}  # type: ignore[arg-type]
