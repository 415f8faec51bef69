"""What a result says: SciPy's names, formulas with known answers, intervals that cover, text that can be read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from socm_workflows.fit import FitResult, fit

Floats = NDArray[np.float64]


def line(x: Any, a: Any, b: Any) -> Any:
    return a * x + b


def decay(x: Any, a: Any, b: Any, c: Any) -> Any:
    return a * jnp.exp(-b * x) + c


X = np.linspace(0, 5, 60)
Y = 2.5 * np.exp(-1.3 * X) + 0.5 + 0.05 * np.random.default_rng(5).normal(size=60)


def decay_fit(**more: Any) -> FitResult:
    return fit(decay, X, Y, p0=[2, 1, 0.3], **more)


def test_a_result_unpacks_and_has_the_names_of_scipy() -> None:
    result = decay_fit()
    popt, pcov = result
    assert popt is result.popt
    assert pcov is result.pcov
    assert (len(result), result[0] is popt, result["x"] is popt) == (2, True, True)
    assert (result.success, result.status in (1, 2, 3), result.nfev == result.njev) == (True, True, True)
    assert result.message.startswith("converged: ")
    assert result.parameters == dict(zip("abc", popt, strict=True))
    np.testing.assert_allclose(result.perr, np.sqrt(np.diag(pcov)))
    np.testing.assert_allclose(result.residuals, Y - result.predict(), atol=1e-15)
    np.testing.assert_allclose(np.sum(result.fun**2) / 2, result.cost, rtol=1e-12)
    with pytest.raises(AttributeError):
        result.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_quality_is_that_of_the_formulas() -> None:
    result = fit(line, X, Y)
    truth = scipy.stats.linregress(X, Y)
    assert result.r_squared == pytest.approx(truth.rvalue**2, rel=1e-10)
    assert result.adj_r_squared == pytest.approx(1 - (1 - truth.rvalue**2) * 59 / 58, rel=1e-10)
    np.testing.assert_allclose(result.perr, [truth.stderr, truth.intercept_stderr], rtol=1e-8)
    apart = Y - (truth.slope * X + truth.intercept)
    assert result.rmse == pytest.approx(math.sqrt(np.mean(apart**2)), rel=1e-10)
    assert result.mae == pytest.approx(np.mean(np.abs(apart)), rel=1e-10)
    assert result.mae < result.rmse
    assert result.aic == pytest.approx(60 * math.log(np.mean(apart**2)) + 4, rel=1e-10)
    assert result.bic == pytest.approx(60 * math.log(np.mean(apart**2)) + 2 * math.log(60), rel=1e-10)


def test_intervals_are_those_of_students_t() -> None:
    result = fit(line, X, Y)
    truth = scipy.stats.linregress(X, Y)
    quantile = scipy.stats.t.ppf(0.975, 58)
    low_high = result.confidence_intervals()
    assert low_high.shape == (2, 2)
    np.testing.assert_allclose(low_high[0], truth.slope + quantile * truth.stderr * np.array([-1, 1]), rtol=1e-8)
    assert np.all(np.diff(result.confidence_intervals(0.99)) > np.diff(low_high))
    with pytest.raises(ValueError, match="the level is 95: write a number between 0 and 1"):
        result.confidence_intervals(95)


def test_band_and_prediction_of_a_line_are_those_of_the_textbook() -> None:
    """Draper and Smith 1998, section 3.1."""
    result = fit(line, X, Y)
    at = np.array([-1.0, 2.5, 7.0])
    apart = Y - result.predict()
    spread = math.sqrt(apart @ apart / 58)
    lever = 1 / 60 + (at - X.mean()) ** 2 / np.sum((X - X.mean()) ** 2)
    quantile = scipy.stats.t.ppf(0.975, 58)
    band, prediction = result.confidence_band(at), result.prediction_interval(at)
    np.testing.assert_allclose(np.diff(band)[:, 0] / 2, quantile * spread * np.sqrt(lever), rtol=1e-8)
    np.testing.assert_allclose(np.diff(prediction)[:, 0] / 2, quantile * spread * np.sqrt(1 + lever), rtol=1e-8)
    np.testing.assert_allclose(band.mean(axis=1), result.predict(at), rtol=1e-12)
    assert result.confidence_band().shape == (60, 2)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(300):
        y = line(X, 2.0, -1.0) + 0.3 * rng.normal(size=60)
        low_high = fit(line, X, y).confidence_intervals(0.9)
        covered.append((low_high[:, 0] <= [2, -1]) & (low_high[:, 1] >= [2, -1]))
    assert np.all(np.abs(np.mean(covered, axis=0) - 0.9) < 4 * math.sqrt(0.09 / 300))


def test_a_known_sigma_gives_normal_intervals() -> None:
    result = fit(line, X, Y, sigma=0.05, absolute_sigma=True)
    width = np.diff(result.confidence_intervals())[:, 0] / 2
    np.testing.assert_allclose(width, scipy.stats.norm.ppf(0.975) * result.perr, rtol=1e-10)
    new = np.diff(result.prediction_interval(np.array([100.0]), sigma=0.05))[0, 0] / 2
    error = math.sqrt(np.array([100, 1]) @ result.pcov @ np.array([100, 1]))
    assert new == pytest.approx(scipy.stats.norm.ppf(0.975) * math.hypot(0.05, error), rel=1e-9)


def test_diagnostics_say_what_is_remarkable() -> None:
    found = decay_fit().diagnostics()
    assert (found.rank, found.undetermined, found.at_bound, found.warnings) == (3, (), (), ())
    np.testing.assert_allclose(np.diag(found.correlations), 1)
    assert 1 < found.condition < 100
    far = fit(line, X + 1000, Y).diagnostics()
    assert far.warnings[0].startswith("a and b are correlated by -")
    bound = decay_fit(bounds=([0, 0, 0], [10, 1.2, 10])).diagnostics()
    assert bound.at_bound == ("b",)
    assert bound.warnings[0].startswith("on a bound")


def test_a_fit_without_degrees_of_freedom_has_no_errors() -> None:
    from scipy.optimize import OptimizeWarning  # noqa: PLC0415

    with pytest.warns(OptimizeWarning, match="no degrees of freedom"):
        result = fit(line, [1.0, 2], [3.0, 5])
    assert result.converged
    assert np.all(np.isinf(result.pcov))
    np.testing.assert_allclose(result.popt, [2, 1], rtol=1e-12)


def test_text_and_picture_are_for_people(tmp_path: Path) -> None:
    result = decay_fit()
    assert repr(result).splitlines()[0].startswith("FitResult: converged: ")
    assert len(repr(result).splitlines()) == 4
    text = result.summary()
    for word in ("parameter", "95 % confidence", "points     60", "fitted by  standard (", "R2 0.99", "time "):
        assert word in text
    path = result.plot(tmp_path / "fit.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_result_says_which_strategy_was_taken_and_why() -> None:
    result = decay_fit(workflow="chunked")
    assert (result.strategy, result.strategy_reason) == ("chunked", "chunked was asked for")
    assert result.accumulation in ("gram", "refined", "qr")
    assert result.passes >= result.nfev
    assert set(result.seconds) == {"prepare", "iterate", "conclude", "total"}
