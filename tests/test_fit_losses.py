"""Robust losses and covariances: SciPy's numbers, and the sandwich against its formula and against simulation."""

from __future__ import annotations

from typing import Any, get_args

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from numpy.typing import NDArray
from scipy.optimize import curve_fit, least_squares
from socm_workflows.fit.solver.least_squares import Tolerances
from socm_workflows.fit.solver.loss import LOSSES
from socm_workflows.fit.solver.options import Strategy
from socm_workflows.fit.solver.solution import Solution, solve

Floats = NDArray[np.float64]

NAMES = ("amplitude", "rate", "offset")
TRUTH = (2.5, 1.3, 0.5)
START = (2.0, 1.0, 0.3)
TIGHT = Tolerances(gtol=1e-13)
STRATEGIES = get_args(Strategy)


def decay(x: Array, amplitude: Array, rate: Array, offset: Array) -> Array:
    return amplitude * jnp.exp(-rate * x) + offset


def with_outliers(count: int = 1000, seed: int = 31) -> tuple[Floats, Floats]:
    """Return the data of check 31: a decay with noise, every 37th point raised by 3."""
    x = np.linspace(0, 5, count)
    y = TRUTH[0] * np.exp(-TRUTH[1] * x) + TRUTH[2] + 0.05 * np.random.default_rng(seed).normal(size=count)
    y[::37] += 3
    return x, y


def errors_of(solution: Solution) -> Floats:
    assert solution.standard_errors is not None
    return solution.standard_errors


def residuals(theta: Floats, x: Floats, y: Floats) -> Floats:
    values: Floats = theta[0] * np.exp(-theta[1] * x) + theta[2] - y
    return values


def jacobian(theta: Floats, x: Floats, y: Floats) -> Floats:
    e = np.exp(-theta[1] * x)
    return np.stack([e, -theta[0] * x * e, np.ones_like(x)], axis=1)


def pseudo_huber(z: Any) -> Any:
    """Return soft_l1 once more, as a user would write it."""
    t = 1 + z
    return jnp.stack([2 * (jnp.sqrt(t) - 1), t**-0.5, -0.5 * t**-1.5])


def pseudo_huber_of_scipy(z: Floats) -> Floats:
    return np.array(pseudo_huber(z))  # SciPy writes into it


def fitted(loss: Any, f_scale: float = 0.1, count: int = 1000, **options: Any) -> Solution:
    x, y = with_outliers(count)
    return solve(decay, x, y, START, names=NAMES, loss=loss, f_scale=f_scale, tolerances=TIGHT, **options)


def expected(loss: Any, f_scale: float = 0.1, count: int = 1000) -> Any:
    x, y = with_outliers(count)
    return least_squares(
        residuals, START, jacobian, args=(x, y), loss=loss, f_scale=f_scale, xtol=1e-15, ftol=1e-15, gtol=1e-15
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("loss", [*LOSSES, pseudo_huber])
def test_parameters_and_cost_are_those_of_scipy(loss: Any, strategy: Strategy) -> None:
    found, theirs = fitted(loss, strategy=strategy), expected(pseudo_huber_of_scipy if callable(loss) else loss)
    assert found.converged
    np.testing.assert_allclose(found.parameters, theirs.x, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.cost, theirs.cost, rtol=1e-8)


@pytest.mark.parametrize("count", [120, 1000])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_naive_covariance_is_that_of_scipy(loss: str, count: int) -> None:
    x, y = with_outliers(count)

    def model(x: Floats, *theta: float) -> Floats:
        return residuals(np.array(theta), x, np.zeros_like(x))

    options = {} if loss == "linear" else {"loss": loss, "f_scale": 0.1}
    _, covariance = curve_fit(
        model, x, y, START, method="trf", jac=lambda x, *theta: jacobian(np.array(theta), x, y),
        xtol=1e-15, ftol=1e-15, gtol=1e-15, **options,
    )  # fmt: skip
    found = fitted(loss, count=count)
    assert found.accumulation == ("qr" if count == 120 else "gram")
    assert found.covariance is not None
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("loss", ["linear", "soft_l1", "huber"])
def test_the_sandwich_is_what_its_formula_says(loss: str, strategy: Strategy) -> None:
    found = fitted(loss, covariance="sandwich", strategy=strategy)
    x, y = with_outliers()
    r, columns, scale = residuals(found.parameters, x, y), jacobian(found.parameters, x, y), 0.1
    z = (r / scale) ** 2
    slope, curvature = {
        "linear": (np.ones_like(z), np.ones_like(z)),
        "soft_l1": ((1 + z) ** -0.5, (1 + z) ** -1.5),
        "huber": (np.where(z > 1, z**-0.5, 1.0), np.where(z > 1, 0.0, 1.0)),
    }[loss]
    bread = np.linalg.inv(columns.T @ (np.maximum(curvature, 2.0**-52)[:, None] * columns))
    middle = bread @ (columns.T @ (((slope * r) ** 2)[:, None] * columns)) @ bread
    assert found.covariance is not None
    np.testing.assert_allclose(found.covariance, middle, rtol=1e-8)


def test_the_sandwich_gives_the_spread_that_repeated_fits_have_where_the_noise_grows() -> None:
    x = np.linspace(0, 5, 400)
    truth = residuals(np.array(TRUTH), x, np.zeros_like(x))
    random = np.random.default_rng(7)
    fits = [
        solve(
            decay, x, truth + 0.01 * (1 + x) ** 2 * random.normal(size=x.size), START, names=NAMES, covariance=kind
        )
        for kind in ("naive", "sandwich")
        for _ in range(300)
    ]  # fmt: skip
    naive, sandwich = fits[:300], fits[300:]
    spread = np.std([fit.parameters for fit in fits], axis=0, ddof=3)
    said = [np.mean([errors_of(fit) for fit in kind], axis=0) for kind in (naive, sandwich)]
    np.testing.assert_allclose(said[1], spread, rtol=0.1)  # 600 fits know a spread to 3 %
    assert np.max(np.abs(said[0] / spread - 1)) > 0.3


@pytest.mark.parametrize("factor", [1e-12, 1e-6, 1e6, 1e12])
def test_the_unit_of_y_does_not_matter_to_a_loss(factor: float) -> None:
    x, y = with_outliers()
    unit = np.array([factor, 1.0, factor])
    plain = fitted("cauchy")
    scaled = solve(
        decay, x, y * factor, START * unit, names=NAMES, loss="cauchy", f_scale=0.1 * factor, tolerances=TIGHT
    )
    np.testing.assert_allclose(scaled.parameters / unit, plain.parameters, rtol=1e-9)


def test_a_loss_of_another_name_is_refused() -> None:
    with pytest.raises(ValueError) as error:
        fitted("hubber")
    assert str(error.value) == (
        "loss: there is no 'hubber'; there are linear, soft_l1, huber, cauchy, arctan, and functions rho(z) -> (3, m)"
    )
