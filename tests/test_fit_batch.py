"""Many fits in one process: they are the single fits, whatever stands beside them, and they end one by one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from numpy.typing import NDArray
from pydantic import ValidationError
from socm_workflows.fit.data import make_sample, read_table
from socm_workflows.fit.library import LIBRARY
from socm_workflows.fit.loading import load_model
from socm_workflows.fit.solver import batch, lanes
from socm_workflows.fit.solver.batch import BatchSolver, Outcome
from socm_workflows.fit.solver.least_squares import Tolerances
from socm_workflows.fit.solver.pointwise import is_pointwise
from socm_workflows.fit.solver.solution import DEFAULTS, Case, Solution, make_case, solve_case
from socm_workflows.fit.solver.trust_region import ModelFunction
from socm_workflows.fit.workflow import BLOCK_BYTES, BLOCK_FITS, FitWorkflow, blocks_of

from socm_like.resources import Machine
from socm_like.workflow import EstimateContext, Result

NIST = Path(__file__).parents[1] / "campaigns" / "nist"
RANDOM = np.random.default_rng(20260102)


def kind_of(reason: str) -> str:
    """Return a reason without its numbers."""
    return re.sub(r"\d[\d.e+-]*", "#", reason)


def assert_same(found: Outcome, alone: Outcome, rtol: float = 1e-9) -> None:
    if isinstance(alone, Exception) or isinstance(found, Exception):
        assert (type(found), str(found)) == (type(alone), str(alone))
        return
    assert found.converged == alone.converged
    if not alone.converged:  # which of several tests is met first may hang on the last bit
        assert kind_of(found.reason) == kind_of(alone.reason)
    assert (found.degrees_of_freedom, found.at_bound) == (alone.degrees_of_freedom, alone.at_bound)
    assert found.fitted.shape == alone.fitted.shape
    if alone.converged:
        np.testing.assert_allclose(found.parameters, alone.parameters, rtol=rtol)
        np.testing.assert_allclose(found.rss, alone.rss, rtol=rtol)
        np.testing.assert_allclose(found.fitted, alone.fitted, rtol=rtol, atol=1e-12)
    assert (found.covariance is None) == (alone.covariance is None)
    if found.covariance is not None and alone.covariance is not None:
        scale = np.sqrt(np.outer(np.diag(alone.covariance), np.diag(alone.covariance)))
        scale = np.where(scale > 0, scale, 1.0)
        np.testing.assert_allclose(found.covariance / scale, alone.covariance / scale, rtol=rtol, atol=rtol)


def assert_as_alone(
    model: ModelFunction, names: Sequence[str], cases: Sequence[Case], tolerances: Tolerances = DEFAULTS
) -> list[Outcome]:
    """Solve cases together and one by one, and return the outcomes of the batch."""
    outcomes = BatchSolver(model, names, tolerances).solve(cases)
    for case, outcome in zip(cases, outcomes, strict=True):
        assert_same(outcome, batch.attempt(solve_case, model, case, names=names, tolerances=tolerances))
    return outcomes


TRUTH = {
    "exponential": ([3.0, 0.7], [1.0, 1.0]),
    "exponential-offset": ([3.0, 0.7, 0.5], [1.0, 1.0, 0.0]),
    "gaussian-offset": ([2.0, 2.5, 0.8, 0.3], [1.0, 2.0, 1.0, 0.0]),
    "power-law": ([2.0, 0.6], [1.0, 1.0]),
}


def case_of(name: str, size: int, *, sigma: bool = False, **options: Any) -> Case:
    """Return a case of a library model with noise; every one has other data."""
    truth, start = TRUTH[name]
    x = np.linspace(0.1, 6.0, size)
    spread = np.where(np.arange(size) % 2, 0.1, 0.03)
    y = np.asarray(load_model(name)[0](x, *truth)) * RANDOM.uniform(0.5, 2.0) + spread * RANDOM.normal(size=size)
    return make_case(x, y, **{"start": start, "sigma": spread if sigma else None, **options})


@pytest.mark.parametrize("name", TRUTH)
def test_fits_of_different_lengths_and_weights_are_those_made_alone(name: str) -> None:
    lengths = [40, 23, 40, 23, 40]
    cases = [case_of(name, size, sigma=bool(i % 2), absolute_sigma=i == 3) for i, size in enumerate(lengths)]
    outcomes = assert_as_alone(*load_model(name), cases)
    assert all(isinstance(outcome, Solution) and outcome.converged for outcome in outcomes)


def test_bounds_that_bind_are_those_of_each_fit() -> None:
    cases = [
        case_of("exponential-offset", 30),
        case_of("exponential-offset", 30, lower=[-np.inf, -np.inf, 2.0], start=[1.0, 1.0, 3.0]),
        case_of("exponential-offset", 27, upper=[0.5, np.inf, np.inf], start=[0.2, 1.0, 0.0]),
    ]
    outcomes = assert_as_alone(*load_model("exponential-offset"), cases)
    bound = [outcome.at_bound for outcome in outcomes if isinstance(outcome, Solution)]
    assert bound == [(), ("offset",), ("amplitude",)]


def root(x: Array, a: Array, b: Array) -> Array:
    return jnp.sqrt(b - x) * a


def test_a_fit_that_fails_or_diverges_harms_no_other() -> None:
    x = np.linspace(0.1, 6.0, 40)
    y = 2 * np.sqrt(6.5 - x) + 0.01 * RANDOM.normal(size=40)
    start = [1.0, 30.0]
    cases = [
        make_case(x, y, start),
        make_case(x[:31], y[:31], [1.0, 3.0]),
        make_case(x[:1], y[:1], start),
        make_case(x[:31], y[:31], start, upper=[0.5, 40.0]),
        make_case(x[:31], RANDOM.normal(size=31), [0.0, 1e9]),
        make_case(x[:31], y[:31], start),
    ]
    outcomes = assert_as_alone(root, ("a", "b"), cases)
    assert [str(outcome) if isinstance(outcome, Exception) else outcome.converged for outcome in outcomes] == [
        True,
        "the model is not finite at 11 of 31 points at the start (a = 1, b = 3); choose another p0",
        "1 points cannot determine 2 parameters (a, b)",
        "the start of a is outside the bounds",
        False,
        True,
    ]


def test_fits_of_many_iterations_end_beside_quick_ones_in_few_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_LANES", 8)
    monkeypatch.setattr(lanes, "PATIENCE", 2)
    monkeypatch.setattr(lanes, "NARROWING", 2)
    function, names = load_model("gaussian-offset")
    starts = ([1.0, 9.0, 0.5, 0.0], [1.0, 2.0, 1.0, 0.0])
    cases = [case_of("gaussian-offset", 30, start=starts[i % 4 > 0]) for i in range(15)]
    outcomes = assert_as_alone(function, names, cases)
    iterations = [outcome.iterations for outcome in outcomes if isinstance(outcome, Solution)]
    assert min(iterations) < 2 * lanes.TURNS < max(iterations)
    few = assert_as_alone(function, names, cases, Tolerances(max_iterations=lanes.TURNS))
    assert any(isinstance(outcome, Solution) and not outcome.converged for outcome in few)


@pytest.mark.parametrize("name", LIBRARY)
def test_shipped_models_treat_each_point_by_itself(name: str) -> None:
    function, names = load_model(name)
    assert is_pointwise(function, 1, len(names))


def split_rows(x: Array, a: Array, b: Array) -> Array:
    u, v = x
    return jnp.where(u > a, jnp.exp(-u), b * jnp.sum(x, axis=0)) + jnp.stack([a, b]) @ jnp.stack([u, v])


def looped(x: Array, a: Array, b: Array) -> Array:
    value: Array = jax.lax.fori_loop(0, 3, lambda _, value: value * a + b, x)
    return value


def in_steps(x: Array, a: Array, b: Array) -> Array:
    return jax.lax.scan(lambda value, xi: (value * a + xi, value), b, x)[1]


@pytest.mark.parametrize(
    ("model", "rows"), [(root, 1), (split_rows, 2), (looped, 1), (lambda x, a, b: a + b * x[1], 2)]
)
def test_models_of_ones_own_that_treat_each_point_by_itself_are_known(model: ModelFunction, rows: int) -> None:
    assert is_pointwise(model, rows, 2)


MIXING: list[Callable[..., Array]] = [
    lambda x, a, b: a * (x - jnp.mean(x)) + b,
    lambda x, a, b: a * x + b * jnp.arange(x.size),
    lambda x, a, b: a * x / x.size + b,
    lambda x, a, b: a * jnp.cumsum(x) + b,
    lambda x, a, b: a * x[::-1] + b,
    lambda x, a, b: a * jnp.sort(x) + b,
    lambda x, a, b: a * x + b * x[0],
    lambda x, a, b: a * jnp.where(x.size > 30, x, -x) + b,
    lambda x, a, b: a * jnp.interp(x, x[:3], jnp.ones(3)) + b * x,
    lambda x, a, b: a * x + b * jnp.roll(x, 1),
    lambda x, a, b: a * jnp.diff(x, append=0.0) + b,
    lambda x, a, b: a * x + b * (x @ x),
    in_steps,
]


@pytest.mark.parametrize("model", MIXING)
def test_models_that_mix_points_are_known_and_not_padded(model: ModelFunction) -> None:
    assert not is_pointwise(model, 1, 2)


def test_a_model_that_mixes_points_gets_the_data_as_they_are() -> None:
    x = np.geomspace(1, 9, 24)
    cases = [make_case(x[:size], RANDOM.normal(size=size), [1.0, 1.0]) for size in (24, 20, 24, 13)]
    assert_as_alone(MIXING[0], ("a", "b"), cases)


def test_a_model_that_bears_no_lanes_is_fitted_one_by_one() -> None:
    def brittle(x: Array, a: Array, b: Array) -> Array:
        if "Batch" in type(x).__name__:
            raise TypeError("one at a time")
        return a * x + b

    x = np.linspace(0, 1, 9)
    outcomes = assert_as_alone(brittle, ("a", "b"), [make_case(x, 2 * x + 1, [0.0, 0.0]), make_case(x, x, [1.0, 2.0])])
    assert all(isinstance(outcome, Solution) and outcome.converged for outcome in outcomes)


def test_programs_are_few_and_forgotten_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_PROGRAMS", 1)
    solver = BatchSolver(*load_model("exponential"), DEFAULTS)
    blocks = [[case_of("exponential", size) for size in sizes] for sizes in ((33, 20, 12), (40, 35, 33))]
    outcomes = [outcome for block in blocks for outcome in solver.solve(block)]
    assert all(isinstance(outcome, Solution) and outcome.converged for outcome in outcomes)
    assert [(form.points, form.lanes) for form in solver._forms] == [(33, 4), (16, 4), (64, 4)]


GROUPS: dict[str, Any] = {
    name: table
    for name, table in tomllib.loads((NIST / "campaign.toml").read_text())["campaign"].items()
    if isinstance(table, dict) and "data" in table
}
QUICK = ("Misra1a", "BoxBOD", "Rat42")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in GROUPS]
)
def test_nist_fits_from_both_starts_are_those_made_alone(name: str) -> None:
    group = GROUPS[name]
    model, names = load_model(str(NIST / group["model"].removeprefix("file://")))
    table = read_table(NIST / group["data"], (*group["x"], group["y"]), skip=group["skip"])
    sample = make_sample(table, predictors=len(group["x"]), response=group.get("response", "identity"))
    starts = [[group[start]["p0"][parameter] for parameter in names] for start in ("start1", "start2")]
    cases = [make_case(sample.x, sample.y, start) for start in starts]
    x, y = (np.concatenate([values, values[..., :3]], -1) for values in (sample.x, sample.y))
    longer = make_case(x, y, starts[1])  # so that the others are padded
    outcomes = BatchSolver(model, names, Tolerances()).solve([*cases, longer])
    for case, outcome in zip(cases, outcomes, strict=False):
        alone = solve_case(model, case, names=names, tolerances=Tolerances())
        assert_same(outcome, alone, rtol=1e-8)


def line_fit(folder: Path, number: int, *, size: int = 12, **values: Any) -> FitWorkflow:
    """Return the fit of a line to a new file."""
    x = np.linspace(0, 3, size)
    path = folder / f"data{number}.txt"
    np.savetxt(path, np.stack([x, number * x + 1 + 0.1 * np.cos(17 * x)], 1))
    return FitWorkflow.model_validate({"model": "line", "p0": [0.0, 0.0], "data": path, "plot": False, **values})


Ends = tuple[Result | Exception, Result | Exception, Path, Path]


def run_both(folder: Path, fits: Sequence[FitWorkflow]) -> list[Ends]:
    """Return for each fit what a batch and what a single run gives, and their directories."""
    together = [folder / "together" / str(number) for number in range(len(fits))]
    alone = [folder / "alone" / str(number) for number in range(len(fits))]
    for directory in (*together, *alone):
        directory.mkdir(parents=True)
    found = list(FitWorkflow.run_batch(fits, together))
    expected = [batch.attempt(fit.run, directory) for fit, directory in zip(fits, alone, strict=True)]
    return list(zip(found, expected, together, alone, strict=True))


def numbers_of(path: Path) -> NDArray[np.float64]:
    return np.genfromtxt(path, delimiter=",", skip_header=1)[:, 1:]


def test_a_batch_leaves_what_single_runs_leave(tmp_path: Path) -> None:
    fits = [
        line_fit(tmp_path, 1),
        line_fit(tmp_path, 2, size=9, bounds={"slope": (None, 1.0)}),
        line_fit(tmp_path, 3, plot=True, outputs={"plot": "figures/line.png"}),
        line_fit(tmp_path, 4, outputs={"parameters": "tables/p.csv"}, p0={"intercept": 3.0, "slope": 1.0}),
    ]
    for found, expected, together, alone in run_both(tmp_path, fits):
        assert isinstance(found, Result)
        assert isinstance(expected, Result)
        assert list(found.metrics) == list(expected.metrics)
        for name in ("n_points", "degrees_of_freedom", "converged", "at_bound"):
            assert found.metrics[name] == expected.metrics[name]
        np.testing.assert_allclose(found.metrics["rss"], expected.metrics["rss"], rtol=1e-9)
        files = sorted(path.relative_to(alone) for path in alone.rglob("*"))
        assert sorted(path.relative_to(together) for path in together.rglob("*")) == files
        for file in files:
            if file.suffix == ".csv":
                assert (together / file).read_text().partition("\n")[0] == (alone / file).read_text().partition("\n")[0]
                np.testing.assert_allclose(numbers_of(together / file), numbers_of(alone / file), rtol=1e-9)
            elif file.suffix == ".png":
                assert (together / file).read_bytes()[:4] == b"\x89PNG"


def test_what_fails_in_a_batch_says_what_it_would_say_alone(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("0 1\n1 x\n2 3\n")
    (tmp_path / "short.txt").write_text("0 1\n")
    (tmp_path / "file").write_text("in the way")
    model = f"{tmp_path}/models.py:bent"
    (tmp_path / "models.py").write_text("import jax.numpy as jnp\ndef bent(x, a, b): return a * jnp.log(x + b)\n")
    shared: dict[str, Any] = {"model": model, "p0": [1.0, 1.0]}
    fits = [
        line_fit(tmp_path, 1, **shared),
        line_fit(tmp_path, 2, **shared).model_copy(update={"data": tmp_path / "bad.txt"}),
        line_fit(tmp_path, 3, **shared).model_copy(update={"data": tmp_path / "none.txt"}),
        line_fit(tmp_path, 4, **shared).model_copy(update={"data": tmp_path / "short.txt"}),
        line_fit(tmp_path, 5, model=model, p0={"a": 1.0}),
        line_fit(tmp_path, 6, model=model, p0=[1.0, -1.0]),
        line_fit(tmp_path, 7, **shared, outputs={"parameters": f"{tmp_path}/file/p.csv"}),
        line_fit(tmp_path, 8, **shared),
    ]
    both = run_both(tmp_path, fits)
    words = [[str(end) for end in ends[:2] if isinstance(end, Exception)] for ends in both]
    assert all(len(set(pair)) <= 1 for pair in words)
    assert [type(ends[1]) for ends in both] == [type(ends[0]) for ends in both]
    kinds = [Result, ValueError, FileNotFoundError, ValueError, ValueError, ValueError, FileExistsError, Result]
    assert [type(found) for found, *_ in both] == kinds


def test_a_model_that_cannot_be_had_fails_every_fit_of_the_batch(tmp_path: Path) -> None:
    fits = [line_fit(tmp_path, number, model="/nowhere/models.py:f") for number in (1, 2)]
    outcomes = map(str, FitWorkflow.run_batch(fits, [tmp_path, tmp_path]))
    assert list(outcomes) == ["no file /nowhere/models.py to take the model from"] * 2
    assert list(FitWorkflow.run_batch([], [])) == []


def test_a_block_is_yielded_before_the_next_is_read(tmp_path: Path) -> None:
    fits = [line_fit(tmp_path, number, outputs={}) for number in range(3)]
    late = fits[2].model_copy(update={"data": tmp_path / "late.txt"})
    outcomes = FitWorkflow.run_batch([*[fits[0]] * (BLOCK_FITS - 1), fits[1], late], [tmp_path] * (BLOCK_FITS + 1))
    slopes = [next(outcomes) for _ in range(BLOCK_FITS)]
    fits[2].data.rename(late.data)
    slopes.append(next(outcomes))
    found = [round(result.metrics["parameters"]["slope"]) for result in slopes if isinstance(result, Result)]
    assert found == [*[0] * (BLOCK_FITS - 1), 1, 2]


def test_what_is_yielded_is_written_and_the_rest_is_not(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    outcomes = FitWorkflow.run_batch([line_fit(tmp_path, 1), line_fit(tmp_path, 2)], folders)
    assert isinstance(next(outcomes), Result)
    assert [folder.exists() for folder in folders] == [True, False]
    assert numbers_of(folders[0] / "parameters.csv").shape == (2, 2)


def test_blocks_end_with_many_fits_or_large_files() -> None:
    assert list(blocks_of([1, 2, 3])) == [slice(0, 3)]
    assert list(blocks_of([0] * (BLOCK_FITS + 1))) == [slice(0, BLOCK_FITS), slice(BLOCK_FITS, BLOCK_FITS + 1)]
    assert list(blocks_of([1, BLOCK_BYTES, 1, 1])) == [slice(0, 2), slice(2, 4)]


def test_a_batch_needs_one_process_the_largest_block_and_a_little_time_for_each(tmp_path: Path) -> None:
    context = EstimateContext(machine=Machine(name="m", cores=(0,), memory=2**34))
    fits = [line_fit(tmp_path, number) for number in range(3)]
    for fit, size in zip(fits, (10, BLOCK_BYTES + 1, 10**6), strict=True):
        fit.data.write_bytes(b" " * size)
    small, batched = fits[0].estimate(context), FitWorkflow.estimate_batch(fits, context)
    assert small.memory is not None
    assert batched.memory == small.memory - 400 + 300 * 2**20 + 40 * (10 + BLOCK_BYTES + 1)
    seconds = 2e-6 * (10 + BLOCK_BYTES + 1 + 10**6) + 2 * 0.03
    assert batched.runtime == timedelta(minutes=10, seconds=seconds)
    asked = [fit.model_copy(update={"plot": True, "outputs": {"plot": "p.png"}}) for fit in fits]
    assert FitWorkflow.estimate_batch(asked, context).runtime == timedelta(minutes=10, seconds=seconds + 2)
    stated = line_fit(tmp_path, 9, resources={"runtime": timedelta(minutes=1)})
    longer = timedelta(minutes=1, seconds=4e-6 * stated.size() + 0.03)
    assert FitWorkflow.estimate_batch([stated, stated], context).runtime == longer


def test_members_share_the_model_and_when_to_stop() -> None:
    shared = set(FitWorkflow.own_field_names()) - set(FitWorkflow.batch_over)
    assert shared == {"model", "max_iterations", "gtol", "ftol", "xtol"}
    assert set(FitWorkflow.batch_over) <= set(FitWorkflow.model_fields)


def test_without_a_plot_none_is_declared_or_drawn(tmp_path: Path) -> None:
    fit = line_fit(tmp_path, 1)
    assert fit.outputs == {"parameters": "parameters.csv", "covariance": "covariance.csv"}
    fit.run(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["covariance.csv", "parameters.csv"]
    assert FitWorkflow.model_validate(fit.model_dump(mode="json")) == fit
    merged = line_fit(tmp_path, 1, outputs={"parameters": "p.csv", "plot": "fit.png"})  # as a campaign merges defaults
    assert merged.outputs == {"parameters": "p.csv"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"outputs": {"plot": "line.png"}},
         "Value error, outputs: plot is to be line.png, but plot = false says not to draw it"),
        ({"plot": "no"}, "Input should be a valid boolean"),
    ],
)  # fmt: skip
def test_a_plot_that_is_both_wanted_and_not_is_refused(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError) as error:
        line_fit(tmp_path, 1, **values)
    assert [fault["msg"] for fault in error.value.errors()] == [message]
