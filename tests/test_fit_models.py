"""The shipped models that are more than a line, and the example campaigns that fit them to data of a known truth."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import spherical_jn
from socm_workflows.fit import models
from socm_workflows.fit.loading import load_model
from socm_workflows.fit.workflow import FitWorkflow

CAMPAIGNS = Path(__file__).parents[1] / "campaigns"

TRUTHS = {
    "kinetics/saturation": {"vmax": 4.2, "km": 7.5},
    "kinetics/relaxation": {"initial": 1.8, "final": 0.3, "rate": 0.085},
    "kinetics/burst": {"amplitude1": 1.2, "rate1": 2.4, "amplitude2": 0.6, "rate2": 0.15},
    "saxs/sphere": {"scale": 120, "radius": 42, "background": 0.3},
    "saxs/core-shell": {"scale": 80, "radius": 30, "thickness": 12, "contrast": -0.6, "background": 0.2},
    "xpcs/q1": {"baseline": 1, "contrast": 0.18, "time": 4, "exponent": 0.9},
    "xpcs/q2": {"baseline": 1, "contrast": 0.18, "time": 1, "exponent": 0.9},
    "xpcs/q3": {"baseline": 1, "contrast": 0.18, "time": 0.25, "exponent": 0.9},
}
"""Those of the README files."""


def fit_of(place: str, **values: Any) -> FitWorkflow:
    """Return a fit of an example campaign, without a plot."""
    folder, _, name = place.partition("/")
    tables = tomllib.loads((CAMPAIGNS / folder / "campaign.toml").read_text())["campaign"]
    (group,) = (table for table in tables.values() if isinstance(table, dict))
    members = {key for key, value in group.items() if isinstance(value, dict) and "data" in value}
    shared = {key: value for key, value in group.items() if key not in {"kind", *members}}
    own = group.get(name, {"data": f"data/{name}.csv"})
    made = {**shared, **own, "plot": False, **values}
    return FitWorkflow.model_validate({**made, "data": CAMPAIGNS / folder / str(own["data"])})


@pytest.mark.parametrize("place", TRUTHS)
def test_an_example_finds_the_truth_and_its_errors_are_believable(place: str, tmp_path: Path) -> None:
    metrics = fit_of(place).run(tmp_path).metrics
    assert metrics["converged"], metrics["reason"]
    for name, truth in TRUTHS[place].items():
        assert abs(metrics["parameters"][name] - truth) < 4 * metrics["standard_errors"][name], name
    spread = np.sqrt(2 / metrics["degrees_of_freedom"])
    assert abs(metrics["reduced_chi2"] - 1) < 4 * spread


def test_a_form_factor_needs_more_than_one_start(tmp_path: Path) -> None:
    alone = fit_of("saxs/sphere", multistart=False).run(tmp_path).metrics
    assert alone["reduced_chi2"] > 100
    assert (alone["starts"], fit_of("saxs/sphere").starts) == (1, 10)


@given(u=st.floats(0, 200))
def test_the_amplitude_of_a_sphere_is_a_spherical_bessel_function(u: float) -> None:
    """``3 j1(u) / u`` (DLMF 10.49.3)."""
    exact = 3 * spherical_jn(1, u) / u if u > 1e-3 else 1 - u**2 / 10
    np.testing.assert_allclose(float(models.sphere_amplitude(jnp.asarray(u))), exact, rtol=2e-13, atol=2e-15)


def test_form_factors_are_one_at_zero_with_finite_derivatives() -> None:
    q = jnp.array([0.0, 1e-9, 1e-5, 1e-3])
    truths: dict[str, tuple[float, ...]] = {"sphere": (1.0, 42.0, 0.0), "core-shell": (1.0, 30.0, 12.0, -0.6, 0.0)}
    for name, truth in truths.items():
        model, _ = load_model(name)
        np.testing.assert_allclose(model(q[:3], *truth), 1.0, rtol=1e-6)
        rows = jax.jacfwd(lambda theta, model=model: model(q, *theta))(jnp.array(truth))
        assert np.all(np.isfinite(rows))


def test_a_core_like_its_shell_is_a_sphere_and_without_contrast_a_hollow_one() -> None:
    q = jnp.linspace(0, 0.4, 50)
    (core_shell, _), (sphere, _) = load_model("core-shell"), load_model("sphere")
    np.testing.assert_allclose(core_shell(q, 5, 30, 12, 1.0, 0.1), sphere(q, 5, 42, 0.1), rtol=1e-12)
    hollow = 42**3 * models.sphere_amplitude(q * 42) - 30**3 * models.sphere_amplitude(q * 30)
    expected = 5 * (hollow / (42**3 - 30**3)) ** 2 + 0.1
    np.testing.assert_allclose(core_shell(q, 5, 30, 12, 0.0, 0.1), expected, rtol=1e-12)


@pytest.mark.parametrize(("name", "truth"), [("xpcs", (1, 0.2, 2.0, 0.7)), ("stretched-exponential", (1, 2.0, 0.7))])
def test_a_stretched_exponential_has_finite_derivatives_at_zero(name: str, truth: tuple[float, ...]) -> None:
    model, _ = load_model(name)
    x = jnp.array([0.0, 0.1, 2.0])
    rows = jax.jacfwd(lambda theta: model(x, *theta))(jnp.array(truth))
    assert np.all(np.isfinite(rows))
    assert np.isnan(model(-x, *truth)[1:]).all()
