"""The ``fit`` kind as a campaign sees it: what is refused before it runs, what it leaves, what it imports."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from socm_workflows.fit.loading import load_model
from socm_workflows.fit.workflow import FitWorkflow

from socm_like.resources import Machine
from socm_like.workflow import EstimateContext

LINE = {"data": "data.txt", "model": "line", "p0": [0.0, 0.0]}


def faults(**values: Any) -> list[str]:
    with pytest.raises(ValidationError) as error:
        FitWorkflow.model_validate({**LINE, **values}, context={"from_file": True})
    return [fault["msg"].removeprefix("Value error, ") for fault in error.value.errors()]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"p0": {"slop": 1.0, "intercept": 0.0}},
         "unknown parameter 'slop'; did you mean 'slope'?; no start for 'slope'; the model has: slope, intercept"),
        ({"p0": {"slope": 1.0}}, "no start for 'intercept'; the model has: slope, intercept"),
        ({"p0": [1.0]}, "1 values for 2 parameters; the model has: slope, intercept"),
        ({"p0": 3.0}, "write a table of parameters or a list of numbers, got 3.0"),
        ({"p0": {"slope": "1", "intercept": 0}}, "slope: write a finite number, got '1'"),
        ({"p0": [float("nan"), 0.0]}, "0: write a finite number, got nan"),
        ({"bounds": {"slope": [1.0, 1.0]}}, "slope: the low bound 1 is not below the high bound 1"),
        ({"bounds": {"slope": [1.0, float("inf")]}}, "slope: p0 0 is below the low bound 1"),
        ({"bounds": {"slope": [None, -1.0], "x": [0, 1]}},
         "slope: p0 0 is above the high bound -1; unknown parameter 'x'; the model has: slope, intercept"),
        ({"x": "t", "y": "t"}, "column 't' stands twice among x, y and sigma"),
        ({"x": True}, "a column is a number from 0 or a name, got True"),
        ({"y": -1}, "a column is a number from 0 or a name, got -1"),
        ({"absolute_sigma": True}, "absolute_sigma needs the column sigma"),
        ({"data": "a.npz"}, "datasets of .npz files have names: write names for x, y and sigma"),
        ({"data": "a.h5", "x": "x", "y": "y", "skip": 2}, "skip and delimiter are for files of text, not .h5"),
        ({"outputs": {"plots": "a.png"}},
         "a fit does not write 'plots'; did you mean 'plot'?; it writes: covariance, parameters, plot"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_before_it_runs(values: dict[str, Any], message: str) -> None:
    assert faults(**values) == [message]


def test_an_unknown_library_model_is_refused_with_a_suggestion() -> None:
    (message,) = faults(model="gausian")
    assert message.startswith("no model 'gausian'; did you mean 'gaussian'? (models: line, quadratic, ")
    assert message.endswith('; your own: "file://models.py:function" or "package.module:function")')


def test_every_fault_is_reported_at_once() -> None:
    assert len(faults(model="lin", p0="x", gtol=2.0, x=[])) == 4


def test_a_fit_survives_json() -> None:
    fit = FitWorkflow.model_validate({**LINE, "bounds": {"slope": [float("-inf"), 5.0]}, "x": "time", "y": 3})
    dump = json.loads(json.dumps(fit.model_dump(mode="json")))
    assert dump["bounds"] == {"slope": [None, 5.0]}
    assert FitWorkflow.model_validate(dump) == fit


def test_every_field_is_described_and_the_models_are_listed() -> None:
    undescribed = [name for name in FitWorkflow.own_field_names() if not FitWorkflow.model_fields[name].description]
    assert undescribed == []
    assert "michaelis-menten(vmax, km) = vmax x / (km + x), saturation" in str(
        FitWorkflow.model_fields["model"].description
    )


def test_memory_and_time_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    context = EstimateContext(machine=Machine(name="m", cores=(0,), memory=2**34))
    empty = FitWorkflow.model_validate({**LINE, "data": str(path)}).estimate(context)
    path.write_bytes(b" " * 10**7)
    full = FitWorkflow.model_validate({**LINE, "data": str(path)}).estimate(context)
    assert empty.memory is not None
    assert empty.runtime is not None
    assert full.memory == empty.memory + 40 * 10**7
    assert full.runtime == empty.runtime + timedelta(seconds=20)
    assert full.cores == 1


def write_line(folder: Path) -> Path:
    x = np.linspace(0, 3, 12)
    y = 2 * x + 1 + 0.1 * np.cos(17 * x)
    np.savetxt(folder / "data.csv", np.stack([x, y], 1), delimiter=",", header="time,flux", comments="")
    return folder / "data.csv"


def test_a_fit_leaves_metrics_tables_and_a_plot(tmp_path: Path) -> None:
    data = write_line(tmp_path)
    fit = FitWorkflow.model_validate({**LINE, "data": data, "x": "time", "y": "flux"})
    metrics = fit.run(tmp_path).metrics
    assert metrics == json.loads(json.dumps(metrics, allow_nan=False))
    assert list(metrics) == [
        "parameters", "standard_errors", "covariance", "rss", "n_points", "degrees_of_freedom", "converged", "reason",
        "at_bound", "iterations", "evaluations",
    ]  # fmt: skip
    assert metrics["converged"] is True
    x, y = np.loadtxt(data, delimiter=",", skiprows=1).T
    parameters, covariance = np.polyfit(x, y, 1, cov=True)
    np.testing.assert_allclose(list(metrics["parameters"].values()), parameters, rtol=1e-9)
    np.testing.assert_allclose(metrics["covariance"], covariance, rtol=1e-9)
    rows = list(csv.DictReader((tmp_path / "parameters.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["slope", "intercept"]
    assert [float(row["standard_error"]) for row in rows] == list(metrics["standard_errors"].values())
    header, *matrix = list(csv.reader((tmp_path / "covariance.csv").read_text().splitlines()))
    assert header == ["", "slope", "intercept"]
    assert [[float(cell) for cell in row[1:]] for row in matrix] == metrics["covariance"]
    assert (tmp_path / "fit.png").read_bytes()[:4] == b"\x89PNG"


def test_only_the_wanted_outputs_are_written_and_where(tmp_path: Path) -> None:
    outputs = {"parameters": "tables/p.csv"}
    FitWorkflow.model_validate({**LINE, "data": write_line(tmp_path), "outputs": outputs}).run(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["p.csv"]


def test_a_fit_that_does_not_converge_has_a_result_without_errors(tmp_path: Path) -> None:
    values = {**LINE, "data": write_line(tmp_path), "model": "gaussian", "p0": [1.0, 1e5, 1.0]}
    metrics = FitWorkflow.model_validate(values).run(tmp_path).metrics
    assert metrics["converged"] is False
    assert metrics["standard_errors"] == {"amplitude": None, "center": None, "width": None}
    assert metrics["covariance"] is None
    assert (tmp_path / "parameters.csv").read_text().splitlines() == [
        "name,value,standard_error", "amplitude,1.0,", "center,100000.0,", "width,1.0,"
    ]  # fmt: skip
    assert (tmp_path / "fit.png").exists()


MODEL_FILE = """
import jax.numpy as jnp
LIMIT = 3
def plane(x, a, b): return a * x[0] + b * x[1]
def loose(x, *parameters): return x
def shifted(x, a): return x + a * jnp.arange(12.0)
"""


def test_a_model_of_ones_own_with_two_predictors_is_fitted_and_drawn(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODEL_FILE)
    u, v = np.arange(20.0), np.sin(np.arange(20.0))
    np.savez(tmp_path / "data.npz", u=u, v=v, z=3 * u - v, s=np.full(20, 0.5))
    fit = FitWorkflow.model_validate({
        "data": tmp_path / "data.npz", "model": f"file://{tmp_path}/models.py:plane", "x": ["u", "v"], "y": "z",
        "sigma": "s", "absolute_sigma": True, "p0": {"b": 0, "a": 0},
    })  # fmt: skip
    metrics = fit.run(tmp_path).metrics
    np.testing.assert_allclose([metrics["parameters"]["a"], metrics["parameters"]["b"]], [3, -1], rtol=1e-12)
    design = np.stack([u, v], 1) / 0.5
    np.testing.assert_allclose(metrics["covariance"], np.linalg.inv(design.T @ design), rtol=1e-9)
    assert (tmp_path / "fit.png").exists()


def test_a_model_that_holds_arrays_and_labels_with_dollars_are_drawn(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODEL_FILE)
    text = write_line(tmp_path).read_text().replace("time,flux", "$t_$,$flux{$")
    (tmp_path / "$d$.csv").write_text(text)
    fit = FitWorkflow.model_validate(
        {"data": tmp_path / "$d$.csv", "model": f"{tmp_path}/models.py:shifted", "p0": [0.0]}
    )
    assert fit.run(tmp_path).metrics["converged"]
    assert (tmp_path / "fit.png").exists()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("FILE:plan", "FILE has no function 'plan'; did you mean 'plane'?"),
        ("FILE:LIMIT", "FILE has no function 'LIMIT'"),
        (
            "FILE:loose",
            "loose(x, *parameters) is not a model: write f(x, a, b, ...), x first, one argument per parameter",
        ),
        ("/nowhere/models.py:f", "no file /nowhere/models.py to take the model from"),
        ("no_such_package:f", "no module 'no_such_package' to take the model from: No module named 'no_such_package'"),
    ],
)
def test_a_model_that_cannot_be_had_is_named(reference: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "models.py"
    path.write_text(MODEL_FILE)
    with pytest.raises(ValueError) as error:
        load_model(reference.replace("FILE", str(path)))
    assert str(error.value).replace(str(path), "FILE") == message


def test_names_of_ones_own_model_are_checked_when_it_runs(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODEL_FILE)
    values = {**LINE, "data": write_line(tmp_path), "model": f"{tmp_path}/models.py:plane"}
    with pytest.raises(ValueError, match=r"^p0: no start for 'b'; the model has: a, b$"):
        FitWorkflow.model_validate({**values, "p0": {"a": 1.0}}).run(tmp_path)
    with pytest.raises(ValueError, match=r"^bounds: unknown parameter 'c'; the model has: a, b$"):
        FitWorkflow.model_validate({**values, "bounds": {"c": [0, 1]}}).run(tmp_path)


def test_checking_a_fit_imports_no_jax(run_python: Callable[..., Any]) -> None:
    program = (
        "import sys, socm_workflows.fit.workflow; print([m for m in ('jax', 'numpy', 'h5py') if m in sys.modules])"
    )
    assert run_python(program).stdout == "[]\n"


def test_preloading_starts_no_device(run_python: Callable[..., Any]) -> None:
    program = (
        "import importlib, threading; from socm_workflows.fit.workflow import FitWorkflow\n"
        "for module in FitWorkflow.preload: importlib.import_module(module)\n"
        "from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized(), threading.active_count())"
    )
    assert run_python(program).stdout == "False 1\n"
