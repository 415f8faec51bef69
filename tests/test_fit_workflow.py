"""The ``fit`` kind as a campaign sees it: what is refused before it runs, what it leaves, what it imports."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from socm_workflows.fit.loading import load_model
from socm_workflows.fit.workflow import FitWorkflow

from socm_like.fields import NotIdentity
from socm_like.resources import Machine
from socm_like.workflow import EstimateContext, Result

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


def machine(memory: int) -> EstimateContext:
    return EstimateContext(machine=Machine(name="m", cores=(0,), memory=memory))


def test_memory_and_time_grow_with_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    context = machine(2**34)
    empty = FitWorkflow.model_validate({**LINE, "data": str(path)}).estimate(context)
    path.write_text("1 2\n" * 10**5)
    full = FitWorkflow.model_validate({**LINE, "data": str(path)}).estimate(context)
    assert empty.memory is not None
    assert empty.runtime is not None
    assert full.memory == empty.memory + 40 * 400_000
    assert full.runtime == empty.runtime + timedelta(seconds=0.8)
    assert full.cores == 1


def write_zeros(folder: Path, size: int) -> Path:
    """Write a small file of many points: only its head is looked at."""
    np.savez_compressed(folder / "data.npz", x=np.zeros(size), y=np.zeros(size))
    return folder / "data.npz"


def test_data_that_exceed_the_machine_are_streamed_instead_of_refused(tmp_path: Path) -> None:
    data = write_zeros(tmp_path, 8_000_000)
    fit = FitWorkflow.model_validate({**LINE, "data": data, "x": "x", "y": "y", "chunk_points": 2**17})
    roomy, tight = fit.needs(2**34), fit.needs(700 * 2**20)
    assert (roomy.strategy, tight.strategy) == ("standard", "streaming")
    assert roomy.why == "in memory it needs 0.86 GiB of 16 GiB"
    assert tight.memory < roomy.memory
    assert tight.runtime > roomy.runtime
    assert fit.estimate(machine(2**34)).memory == roomy.memory
    asked = fit.model_copy(update={"strategy": "standard"})
    assert asked.estimate(machine(700 * 2**20)).memory == roomy.memory  # which the planner refuses


def test_a_fit_on_a_gpu_asks_for_memory_on_it(tmp_path: Path) -> None:
    values = {**LINE, "data": write_line(tmp_path), "resources": {"gpus": 1}}
    assert (FitWorkflow.model_validate(values).estimate(machine(2**34)).gpu_memory or 0) > 2**28
    assert FitWorkflow.model_validate({**values, "resources": {}}).estimate(machine(2**34)).gpu_memory is None


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
        "parameters", "standard_errors", "covariance", "rss", "reduced_chi2", "r2", "aic", "bic", "n_points",
        "left_out", "degrees_of_freedom", "converged", "reason", "optimality", "at_bound", "undetermined", "condition",
        "iterations", "evaluations", "starts", "reached_best", "strategy", "why", "accumulation",
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


def write_decay(folder: Path, size: int = 3000, missing: Sequence[int] = ()) -> Path:
    """Write a decay with noise, sigma and outliers as x, y and s; the ``missing`` y are not finite."""
    random = np.random.default_rng(7)
    x = np.linspace(0, 5, size)
    y = 2.5 * np.exp(-1.3 * x) + 0.5 + 0.05 * random.normal(size=size)
    y[::37] += 3
    y[list(missing)] = np.nan
    np.savez(folder / "decay.npz", x=x, y=y, s=np.full(size, 0.05))
    return folder / "decay.npz"


DECAY = {
    "model": "exponential-offset", "p0": {"amplitude": 1.0, "rate": 1.0, "offset": 0.0}, "x": "x", "y": "y",
    "plot": False, "outputs": {},
}  # fmt: skip


def numbers(fit: FitWorkflow, folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], dict[str, Any]]:
    metrics = fit.run(folder).metrics
    values, errors = (list(metrics[name].values()) for name in ("parameters", "standard_errors"))
    return np.array(values, float), np.array(errors, float), metrics


@pytest.mark.parametrize(
    "keys",
    [
        {"sigma": "s", "absolute_sigma": True},
        {"loss": "soft_l1", "f_scale": 0.1, "covariance": "sandwich"},
        {"multistart": 8, "seed": 3, "bounds": {"rate": [0.0, 50.0]}, "goal": "fast"},
        {"response": "log", "nan_policy": "omit"},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_the_answer_does_not_depend_on_the_strategy(keys: dict[str, Any], tmp_path: Path) -> None:
    missing = [5, 6] if "nan_policy" in keys else []
    fit = FitWorkflow.model_validate({**DECAY, "data": write_decay(tmp_path, missing=missing), **keys})
    values, errors, standard = numbers(fit, tmp_path / "standard")
    assert standard["left_out"] == len(missing)
    for strategy, points in (("chunked", 700), ("streaming", 999)):
        update = {"strategy": strategy, "chunk_points": points}
        found, widths, metrics = numbers(fit.model_copy(update=update), tmp_path / strategy)
        assert metrics["strategy"] == strategy
        assert np.max(np.abs(found - values) / errors) < 1e-6
        np.testing.assert_allclose(widths, errors, rtol=1e-6)
        for name in ("rss", "r2", "aic", "bic", "n_points", "left_out", "starts", "reached_best"):
            expected = standard[name]
            assert metrics[name] == (expected if expected is None else pytest.approx(expected, rel=1e-8)), name


def test_keys_that_change_no_answer_are_no_part_of_the_identity() -> None:
    aside = {
        name
        for name, field in FitWorkflow.model_fields.items()
        if any(isinstance(marker, NotIdentity) for marker in field.metadata)
    }
    assert aside == {"plot", "preset", "strategy", "chunk_points", "checkpoint", "progress", "log"}


def test_a_preset_and_a_goal_are_written_out_and_what_is_stated_counts() -> None:
    fit = FitWorkflow.model_validate({**LINE, "preset": "kinetics", "gtol": 1e-6})
    assert (fit.gtol, fit.ftol, fit.multistart, fit.sampler) == (1e-6, 1e-8, 20, "lhs")
    fit = FitWorkflow.model_validate({**LINE, "goal": "robust", "xtol": 1e-3})
    assert (fit.gtol, fit.xtol, fit.starts) == (None, 1e-3, 5)
    assert FitWorkflow.model_validate(fit.model_dump(mode="json")) == fit
    assert FitWorkflow.model_validate({**LINE, "multistart": True}).starts == 10


def test_a_fit_reports_its_iterations_and_logs_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = FitWorkflow.model_validate({**DECAY, "data": write_decay(tmp_path), "progress": True, "log": True})
    metrics = fit.run(tmp_path / "out").metrics
    steps = [json.loads(line) for line in (tmp_path / "out" / "steps.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == list(range(metrics["iterations"] + 1))
    assert steps[-1]["value"] == pytest.approx(metrics["rss"] / 2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["iteration", str(step["step"])] for step in steps]


def test_a_fit_that_is_killed_goes_on_from_its_checkpoint_to_the_same_bits(
    tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    keys = {"checkpoint": True, "progress": True, "strategy": "streaming", "chunk_points": 1000}
    values = {**DECAY, **keys, "data": str(write_decay(tmp_path)), "p0": [30.0, 0.01, 5.0]}
    fit = FitWorkflow.model_validate(values)
    assert fit.restartable
    whole = fit.run(tmp_path / "whole").metrics
    program = (
        "import os, sys; from pathlib import Path; from socm_workflows.fit.checkpoint import Checkpoint\n"
        "from socm_workflows.fit.workflow import FitWorkflow\n"
        "write = Checkpoint.write\n"
        "def write_and_die(self, progress):\n"
        "    write(self, progress)\n"
        "    if progress.iteration >= 3: os.kill(os.getpid(), 9)\n"
        "Checkpoint.write = write_and_die\n"
        "FitWorkflow.model_validate_json(sys.argv[1]).run(Path(sys.argv[2]))"
    )
    child = run_python(program, json.dumps(fit.model_dump(mode="json")), tmp_path / "killed")
    assert child.returncode == -9, child.stderr
    assert (tmp_path / "killed" / "checkpoint-0.json").is_file()
    again = fit.run(tmp_path / "killed").metrics
    assert again == whole
    steps = [(tmp_path / name / "steps.jsonl").read_text() for name in ("whole", "killed")]
    assert steps[0] == steps[1]
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["steps.jsonl"]


def test_a_batch_makes_what_it_cannot_join_one_by_one(tmp_path: Path) -> None:
    base = FitWorkflow.model_validate({**DECAY, "data": write_decay(tmp_path, 300), "nan_policy": "omit"})
    fits = [base, base.model_copy(update={"multistart": 4}), base.model_copy(update={"strategy": "streaming"}), base]
    results = list(FitWorkflow.run_batch(fits, [tmp_path / str(number) for number in range(4)]))
    kinds = [(result.metrics["starts"], result.metrics["strategy"]) for result in results if isinstance(result, Result)]
    assert kinds == [(1, "standard"), (4, "standard"), (1, "streaming"), (1, "standard")]


def test_a_loss_and_a_derivative_of_ones_own_give_what_the_shipped_ones_give(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import jax.numpy as jnp\n"
        "def rho(z): return jnp.stack([jnp.log1p(z), 1 / (1 + z), -1 / (1 + z)**2])\n"
        "def slopes(x, a, b, c): return jnp.stack([jnp.exp(-b*x), -a*x*jnp.exp(-b*x), jnp.ones_like(x)], axis=1)\n"
    )
    values = {**DECAY, "data": write_decay(tmp_path, 300), "f_scale": 0.1}
    own = {"loss": f"file://{tmp_path}/own.py:rho", "jac": f"file://{tmp_path}/own.py:slopes"}
    found, _, _ = numbers(FitWorkflow.model_validate({**values, **own}), tmp_path)
    expected, errors, _ = numbers(FitWorkflow.model_validate({**values, "loss": "cauchy"}), tmp_path)
    assert np.max(np.abs(found - expected) / errors) < 1e-6


def test_more_points_than_can_be_drawn_are_thinned_and_the_rest_still_counts(tmp_path: Path) -> None:
    fit = FitWorkflow.model_validate({**DECAY, "data": write_decay(tmp_path, 220_000), "plot": True,
        "outputs": {"plot": "fit.png"}, "loss": "huber", "f_scale": 0.1})  # fmt: skip
    for strategy in ("standard", "streaming"):
        metrics = fit.model_copy(update={"strategy": strategy}).run(tmp_path / strategy).metrics
        assert metrics["n_points"] == 220_000
        assert (tmp_path / strategy / "fit.png").exists()
