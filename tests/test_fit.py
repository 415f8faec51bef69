"""The numerics of the ``fit`` kind: known answers, agreement with SciPy, bounds, honesty, independence of units."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import Array
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from socm_workflows.fit import models
from socm_workflows.fit.library import LIBRARY
from socm_workflows.fit.loading import load_model
from socm_workflows.fit.solver.least_squares import Tolerances
from socm_workflows.fit.solver.solution import Solution, solve

Floats = NDArray[np.float64]

N = 60
X = np.linspace(0.1, 6.0, N)
NOISE = np.random.default_rng(20260101).normal(size=N)


def fit(name: str, x: Any, y: Any, start: Any, **options: Any) -> Solution:
    function, names = load_model(name)
    return solve(function, x, y, start, names=names, **options)


def errors_of(solution: Solution) -> Floats:
    assert solution.standard_errors is not None
    return solution.standard_errors


def covariance_of(solution: Solution) -> Floats:
    assert solution.covariance is not None
    return solution.covariance


# scipy/optimize/tests/test_minpack.py, class TestCurveFit (v1.17): test_two_argument, test_pcov, test_bounds


def test_two_parameters_and_covariance_are_those_of_the_scipy_suite() -> None:
    solution = fit("power-law", [1.0, 2, 3, 4], [1.0, 3.2, 9.5, 13.7], [1.0, 1.0])
    np.testing.assert_allclose(solution.parameters, [1.1642, 1.7989], atol=5e-5)
    np.testing.assert_allclose(covariance_of(solution), [[0.1912, -0.1260], [-0.1260, 0.0852]], atol=5e-5)


@pytest.mark.parametrize(
    ("factor", "absolute", "expected"),
    [
        (1.0, False, [0.20659803, 0.57204404]),
        (3.0, False, [0.20659803, 0.57204404]),
        (1.0, True, [0.30714756, 0.85045308]),
        (3.0, True, [3 * 0.30714756, 3 * 0.85045308]),
    ],
)
def test_standard_errors_with_sigma_are_those_of_the_scipy_suite(
    factor: float, absolute: bool, expected: list[float]
) -> None:
    sigma = factor * np.array([1.0, 2, 1, 2, 1, 2])
    solution = fit("line", np.arange(6.0), [1.0, 1, 5, 7, 8, 12], [2, 0], sigma=sigma, absolute_sigma=absolute)
    np.testing.assert_allclose(errors_of(solution), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("lower", "upper", "bound", "value"), [([1, 0], [1.5, 3], "amplitude", 1.5), ([0, 0], [np.inf, 0.6], "rate", 0.6)]
)
def test_a_parameter_beyond_its_bound_ends_on_it(
    lower: list[float], upper: list[float], bound: str, value: float
) -> None:
    x = np.linspace(0, 1, 11)
    solution = fit("exponential", x, 2 * np.exp(-2 * x), [1.2, 0.5], lower=lower, upper=upper)
    free = 1 - ["amplitude", "rate"].index(bound)
    expected, _ = curve_fit(
        (lambda x, rate: value * np.exp(-rate * x)) if bound == "amplitude" else lambda x, a: a * np.exp(-value * x),
        x, 2 * np.exp(-2 * x), [1.0], xtol=1e-14, ftol=1e-14,
    )  # fmt: skip
    assert solution.parameters[1 - free] == value
    np.testing.assert_allclose(solution.parameters[free], expected[0], rtol=1e-7)
    assert solution.converged
    assert solution.at_bound == (bound,)
    assert solution.reason.endswith(f"; on a bound: {bound}")


def test_covariance_on_a_bound_is_that_of_the_fit_without_the_parameter() -> None:
    y = models.exponential_offset(X, 3.0, 0.7, -0.5) + 0.05 * NOISE  # type: ignore[arg-type]
    bounded = fit("exponential-offset", X, y, [1.0, 1.0, 0.5], lower=[-np.inf, -np.inf, 0.0])
    without = fit("exponential", X, y, [1.0, 1.0])
    assert bounded.at_bound == ("offset",)
    assert bounded.degrees_of_freedom == without.degrees_of_freedom == N - 2
    np.testing.assert_allclose(covariance_of(bounded)[:2, :2], covariance_of(without), rtol=1e-7)
    assert np.all(np.isnan(covariance_of(bounded)[2]))


def test_bounds_that_do_not_bind_change_nothing() -> None:
    y = models.exponential_offset(X, 3.0, 0.7, 0.5) + 0.05 * NOISE  # type: ignore[arg-type]
    bounded = fit("exponential-offset", X, y, [1.0, 1.0, 0.0], lower=[0.0, 0.0, -10.0], upper=[10.0, 10.0, 10.0])
    free = fit("exponential-offset", X, y, [1.0, 1.0, 0.0])
    np.testing.assert_allclose(bounded.parameters, free.parameters, rtol=1e-9)
    np.testing.assert_allclose(covariance_of(bounded), covariance_of(free), rtol=1e-8)


CASES = {
    "exponential-offset": ([3.0, 0.7, 0.5], [1.0, 1.0, 0.0]),
    "gaussian": ([2.0, 2.5, 0.8], [1.0, 2.0, 1.0]),
    "logistic": ([5.0, 2.0, 2.5], [3.0, 1.0, 2.0]),
    "michaelis-menten": ([4.0, 1.5], [1.0, 1.0]),
    "hill": ([4.0, 2.0, 3.0], [3.0, 1.0, 2.0]),
    "damped-sine": ([3.0, 0.3, 0.5, 0.2, 1.0], [2.0, 0.2, 0.48, 0.0, 0.5]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_parameters_and_covariance_agree_with_scipy(name: str, weighted: bool) -> None:
    truth, start = CASES[name]
    function, _ = load_model(name)

    def model(x: Any, *parameters: float) -> Any:
        return np.asarray(function(x, *parameters))

    sigma = np.where(np.arange(N) % 2, 0.1, 0.03) if weighted else None
    y = model(X, *truth) + NOISE * (0.05 if sigma is None else sigma)
    solution = fit(name, X, y, start, sigma=sigma, absolute_sigma=weighted)
    parameters, covariance = curve_fit(
        model, X, y, start, sigma=sigma, absolute_sigma=weighted, ftol=1e-14, xtol=1e-14, gtol=1e-14
    )
    assert solution.converged
    np.testing.assert_allclose(solution.parameters, parameters, rtol=2e-6)
    np.testing.assert_allclose(covariance_of(solution), covariance, rtol=2e-4)


@settings(max_examples=40)
@given(exponent_y=st.integers(-12, 12), exponent_x=st.integers(-12, 12))
def test_units_of_data_and_parameters_do_not_matter(exponent_y: int, exponent_x: int) -> None:
    unit_y, unit_x = 10.0**exponent_y, 10.0**exponent_x
    truth, start = (np.array(values) for values in CASES["gaussian"])
    units = np.array([unit_y, unit_x, unit_x])
    y = np.asarray(models.gaussian(X, *truth)) + 0.05 * NOISE  # type: ignore[arg-type]
    plain = fit("gaussian", X, y, start)
    scaled = fit("gaussian", X * unit_x, y * unit_y, start * units)
    assert scaled.converged
    np.testing.assert_allclose(scaled.parameters / units, plain.parameters, rtol=1e-9)
    np.testing.assert_allclose(errors_of(scaled) / units, errors_of(plain), rtol=1e-7)


@settings(max_examples=30)
@given(slope=st.floats(-1e3, 1e3), intercept=st.floats(-1e3, 1e3), start=st.tuples(*[st.floats(-1e4, 1e4)] * 2))
@example(slope=0.0, intercept=0.0, start=(0.0, 3.6e-94))
def test_a_line_is_found_from_anywhere(slope: float, intercept: float, start: tuple[float, float]) -> None:
    y = slope * X + intercept + NOISE
    solution = fit("line", X, y, start)
    assert solution.converged
    np.testing.assert_allclose(solution.parameters, np.polyfit(X, y, 1), rtol=1e-8, atol=1e-8)


def test_several_predictors_reach_the_model_as_rows() -> None:
    def plane(x: Array, a: Array, b: Array) -> Array:
        return a * x[0] + b * x[1]

    x = np.stack([X, X**2])
    solution = solve(plane, x, 2 * X - 3 * X**2, [0.0, 0.0], names=("a", "b"))
    np.testing.assert_allclose(solution.parameters, [2.0, -3.0], rtol=1e-12)


def test_exact_data_converge_at_the_rounding_error() -> None:
    solution = fit("exponential", X, 2 * np.exp(-0.3 * X), [1.0, 1.0])
    np.testing.assert_allclose(solution.parameters, [2.0, 0.3], rtol=1e-13)
    assert solution.converged
    assert "within the rounding error of the model" in solution.reason


def test_a_product_of_parameters_is_called_undetermined() -> None:
    def product(x: Array, a: Array, b: Array, c: Array) -> Array:
        return a * b * x + c

    solution = solve(product, X, 2 * X + 1 + 0.1 * NOISE, [1.0, 1.0, 0.0], names=("a", "b", "c"))
    assert not solution.converged
    assert solution.reason == "not converged: the data do not determine a, b here"
    assert solution.standard_errors is None


def test_a_parameter_without_influence_is_called_undetermined() -> None:
    solution = fit("gaussian", X, 0.1 * NOISE, [1.0, 1e4, 1.0])
    assert not solution.converged
    assert solution.reason == "not converged: the data do not determine amplitude, center, width here"
    assert solution.standard_errors is None


def test_a_maximum_is_not_called_a_minimum() -> None:
    def circle(x: Array, angle: Array) -> Array:
        return jnp.where(x == 0, jnp.cos(angle), jnp.sin(angle))

    solution = solve(circle, [0.0, 1.0], [-2.0, 0.0], [0.0], names=("angle",))
    assert not solution.converged
    assert solution.reason == ("not converged: a stationary point but no minimum, the sum of squares falls along angle")
    assert solve(circle, [0.0, 1.0], [-2.0, 0.0], [3.0], names=("angle",)).converged


def test_running_out_of_iterations_is_not_convergence() -> None:
    truth, start = CASES["exponential-offset"]
    y = models.exponential_offset(X, *truth) + 0.05 * NOISE  # type: ignore[arg-type]
    solution = fit("exponential-offset", X, y, start, tolerances=Tolerances(max_iterations=2))
    assert not solution.converged
    assert solution.reason.startswith("not converged: stopped after 2 iterations at relative offset ")
    assert (solution.iterations, solution.evaluations) == (2, 3)
    assert solution.standard_errors is None


def test_looser_tolerances_stop_earlier_and_say_by_which_test() -> None:
    truth, start = CASES["exponential-offset"]
    y = models.exponential_offset(X, *truth) + 0.05 * NOISE  # type: ignore[arg-type]
    tight = fit("exponential-offset", X, y, start)
    loosened = {
        "gtol": Tolerances(gtol=1e-2),
        "ftol": Tolerances(ftol=1e-4, gtol=0),
        "xtol": Tolerances(xtol=1e-2, gtol=0),
    }
    for word, tolerances in loosened.items():
        loose = fit("exponential-offset", X, y, start, tolerances=tolerances)
        assert loose.converged
        assert word in loose.reason
        assert loose.iterations < tight.iterations


def test_as_many_points_as_parameters_give_no_standard_errors() -> None:
    solution = fit("line", [0.0, 1.0], [1.0, 3.0], [0.0, 0.0])
    np.testing.assert_allclose(solution.parameters, [2.0, 1.0], rtol=1e-12)
    assert solution.converged
    assert solution.reason.endswith("; no degrees of freedom, so no standard errors")
    assert solution.standard_errors is None


def test_a_step_to_where_the_model_is_not_finite_is_taken_back() -> None:
    def root(x: Array, a: Array, b: Array) -> Array:
        return a * jnp.sqrt(b - x)

    y = 2 * np.sqrt(6.5 - X) + 0.01 * NOISE
    solution = solve(root, X, y, [1.0, 30.0], names=("a", "b"))
    assert solution.converged
    np.testing.assert_allclose(solution.parameters, [2.0, 6.5], rtol=0.02)


def scalar_model(x: Array, a: Array) -> Array:
    return a


def numpy_model(x: Array, a: Array) -> Any:
    return np.asarray(x) * a


def branching_model(x: Array, a: Array) -> Array:
    return x if a > 0 else -x


def logarithm(x: Array, a: Array) -> Array:
    return jnp.log(x - a)


@pytest.mark.parametrize(
    ("model", "start", "message"),
    [
        (models.line, [1.0, 1.0], "1 points cannot determine 2 parameters (a, b)"),
        (scalar_model, [1.0], "the model gives an array of shape () for x of shape (1,); it must be (1,)"),
        (
            numpy_model,
            [1.0],
            "the model cannot be differentiated: write jax.numpy instead of numpy and math, jnp.where instead of if",
        ),
        (
            branching_model,
            [1.0],
            "the model cannot be differentiated: write jax.numpy instead of numpy and math, jnp.where instead of if",
        ),
        (logarithm, [9.0], "the model is not finite at 1 of 1 points at the start (a = 9); choose another p0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(model: Any, start: list[float], message: str) -> None:
    with pytest.raises(ValueError) as error:
        solve(model, [1.0], [2.0], start, names=("a", "b")[: len(start)])
    assert str(error.value) == message


def test_a_start_outside_the_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the start of slope is outside the bounds$"):
        fit("line", X, X, [2.0, 0.0], upper=[1.0, 1.0])


@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_table_matches_the_functions(name: str) -> None:
    function, parameters = load_model(f"socm_workflows.fit.models:{name.replace('-', '_')}")
    assert parameters == LIBRARY[name].parameters
    assert function.__doc__ is not None
    assert " ".join(function.__doc__.replace("`", "").split()).startswith(LIBRARY[name].formula)
