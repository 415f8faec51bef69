"""The ``optimize`` kind, driven by a small runner that is honest about what it knows: histories in, trials out."""

from __future__ import annotations

import csv
import json
import logging
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.optimize import approx_fprime
from scipy.stats import norm
from socm_workflows.command import CommandWorkflow
from socm_workflows.optimize import gp
from socm_workflows.optimize.space import count_points, every_point, read_space
from socm_workflows.optimize.workflow import OptimizeWorkflow

from socm_like.fields import Duration, Model
from socm_like.journal import TaskState
from socm_like.workflow import History, Trial, Workflow

DONE, RUNNING, FAILED = TaskState.DONE, TaskState.RUNNING, TaskState.FAILED
X_AND_Y = {"x": {"min": -5.0, "max": 10.0}, "y": {"min": 0.0, "max": 15.0}}
SEARCH = {"workflow": "bowl", "metric": "loss", "space": X_AND_Y, "trials": 6}


class Inner(Model):
    rate: float = 0.1


class BowlWorkflow(Workflow):
    x: float = 0.0
    y: float = 0.0
    n: int = 1
    color: str = "red"
    limit: Duration = timedelta(minutes=1)
    inner: Inner = Inner()


def make(parameters: Mapping[str, Any]) -> Workflow:
    values: dict[str, Any] = {}
    for name, value in parameters.items():
        outer, _, inner = name.partition(".")
        values[outer] = {inner: value} if inner else value
    return BowlWorkflow.model_validate(values)


def bowl(trial: Workflow) -> dict[str, Any]:
    fields = trial.own_fields()
    return {"loss": (fields["x"] - 1) ** 2 + (fields["y"] - 2) ** 2, "nested": {"gain": -fields["x"]}}


def branin(x: float, y: float) -> float:
    a = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return float(a**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


@dataclass
class Runner:
    """Keeps the trials; a search is made anew for every call, as after a restart."""

    directory: Path
    values: Mapping[str, Any]
    evaluate: Callable[[Workflow], dict[str, Any]] = bowl
    make: Callable[[Mapping[str, Any]], Workflow] = make
    trials: list[Trial] = field(default_factory=list)

    @property
    def search(self) -> OptimizeWorkflow:
        return OptimizeWorkflow.model_validate({**SEARCH, **self.values}, context={"from_file": True})

    @property
    def history(self) -> History:
        return History(self.directory, tuple(self.trials), self.make)

    @property
    def in_flight(self) -> list[int]:
        return [index for index, trial in enumerate(self.trials) if not trial.state.is_final]

    def extend(self) -> int:
        asked = self.search.extend(self.history)
        start = len(self.trials)
        self.trials += [Trial(f"bowl-{start + k}", workflow, RUNNING) for k, workflow in enumerate(asked)]
        assert len(self.in_flight) <= self.search.in_flight
        return len(asked)

    def end(self, index: int, **changes: Any) -> None:
        workflow = self.trials[index].workflow
        known = changes or {"state": DONE, "metrics": self.evaluate(workflow)}
        self.trials[index] = replace(self.trials[index], **known)

    def play(self, ends: int | None = None, choose: Callable[[Sequence[int]], int] = min) -> Runner:
        self.extend()
        while self.in_flight and ends != 0:
            self.end(choose(self.in_flight))
            self.extend()
            ends = None if ends is None else ends - 1
        return self

    def run(self) -> dict[str, Any]:
        records = [
            {"task": t.task, "state": t.state.value, "parameters": t.parameters, "metrics": t.metrics,
             "steps": t.steps, "reason": t.reason, "folder": None, "started": "2026-01-01T00:00:00Z", "ended": None}
            for t in self.trials
        ]  # fmt: skip
        (self.directory / "trials.json").write_text(json.dumps({"trials": records}))
        return self.search.run(self.directory).metrics

    @property
    def study(self) -> optuna.Study:
        """What Optuna itself reads in the file."""
        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = JournalStorage(JournalFileBackend(str(self.directory / "study.journal")))
        study = optuna.load_study(study_name="search", storage=storage)
        optuna.logging.set_verbosity(level)
        return study

    def points(self, *names: str) -> list[tuple[Any, ...]]:
        return [tuple(trial.parameters[name] for name in names or ("x", "y")) for trial in self.trials]


def told(study: optuna.Study) -> list[tuple[Any, ...]]:
    return [(t.state.name, t.value, t.params, t.user_attrs, t.intermediate_values) for t in study.trials]


def faults(**values: Any) -> list[str]:
    with pytest.raises(ValidationError) as error:
        OptimizeWorkflow.model_validate({**SEARCH, **values}, context={"from_file": True})
    return [fault["msg"].removeprefix("Value error, ") for fault in error.value.errors()]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"space": {}}, "nothing to search: write parameter = {min = ..., max = ...} or a list of choices"),
        ({"space": {"x": 3}}, "x: write {min = ..., max = ...} or a list of choices, got 3"),
        ({"space": {"x": {"low": 0, "max": 1}}},
         "x: unknown key 'low'; a range has: max, min, scale, step, type"),
        ({"space": {"x": {"min": 0, "max": 1, "stp": 1}}},
         "x: unknown key 'stp'; did you mean 'step'?; a range has: max, min, scale, step, type"),
        ({"space": {"x": {"max": 1}}}, "x: a range needs min"),
        ({"space": {"x": {"min": 2, "max": 2}}}, "x: min 2 is not below max 2"),
        ({"space": {"x": {"min": 0, "max": 2, "scale": "log"}}},
         'x: min 0 is not positive; with scale = "log" it must be'),
        ({"space": {"x": {"min": 1, "max": 2, "scale": "linea"}}},
         "x: scale 'linea'; did you mean 'linear'?; write one of: linear, log"),
        ({"space": {"x": {"min": 1, "max": 2, "scale": "log", "step": 1}}},
         'x: a range with scale = "log" has no step; write a list of choices'),
        ({"space": {"x": {"min": 1, "max": 2, "step": 0}}}, "x: step 0 is not between 0 and max - min"),
        ({"space": {"x": {"min": 1, "max": 2.5, "type": "int"}}},
         'x: max 2.5 is not a whole number; with type = "int" it must be'),
        ({"space": {"x": {"min": "1", "max": float("inf")}}}, "x: min: write a finite number, got '1'"),
        ({"space": {"x": []}}, "x: the list of choices is empty"),
        ({"space": {"x": [1, 2, 1.0]}}, "x: choice 1.0 stands twice"),
        ({"space": {"x": [[1], [2]]}}, "x: a choice is a finite number, a text or a truth value, got [1]"),
        ({"space": {"a": {"b": [1, 1], "c": {"min": 1}}}}, "a.b: choice 1 stands twice; a.c: a range needs max"),
        ({"space": {"a": {"b": [1]}, "a.b": [2]}}, "a.b: stands twice, once with its dots in quotes"),
        ({"sampler": "grid"}, "a grid needs a finite space: give x, y a step, or a list of choices"),
        ({"sampler": "grid",
          "space": {"x": {"min": 0, "max": 1}, "y": [1, 2], "z": {"min": 1, "max": 6, "type": "int"}}},
         "a grid needs a finite space: give x a step, or a list of choices; the other parameters make 12 points"),
        ({"start": [{"x": 1, "yy": 2}]}, "table 0: unknown parameter 'yy'; did you mean 'y'?; the space has: x, y"),
        ({"start": [{"x": 1}, {"x": 11}, {"x": True}]},
         "table 1: x: 11 is not in -5.0 to 10.0; table 2: x: write a number, got True"),
        ({"space": {"n": {"min": 1, "max": 9, "type": "int", "step": 4}}, "start": [{"n": 4}, {"n": 2.5}]},
         "table 0: n: 4 is not 1 plus a multiple of 4; table 1: n: 2.5 is not a whole number"),
        ({"space": {"color": ["red", "blue"]}, "start": [{"color": "blu"}]},
         "table 0: color: 'blu' is no choice; did you mean 'blue'?; choices: 'red', 'blue'"),
        ({"start": [{"x": 1}, {"x": 1.0}]}, "table 1: the same as table 0"),
        ({"start": [{"x": 1}, {"x": 2}], "trials": 1}, "2 tables for 1 trials"),
        ({"outputs": {"plot": "a.svg"}},
         "a search does not write 'plot'; it writes: best, history, study, trials"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_before_it_runs(values: dict[str, Any], message: str) -> None:
    assert faults(**values) == [message]


def test_every_fault_is_reported_at_once() -> None:
    assert len(faults(space={"x": 1}, trials=0, sampler="tp", pruner="", direction="up", in_flight=0)) == 6


def test_a_search_without_optuna_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert faults() == ['optimize needs optuna: pip install "socm-like[optimize]"']


def test_a_search_survives_json_and_every_field_is_described() -> None:
    search = OptimizeWorkflow.model_validate({**SEARCH, "trial_runtime": "2 min", "start": [{"x": 1}]})
    assert OptimizeWorkflow.model_validate(json.loads(json.dumps(search.model_dump(mode="json")))) == search
    names = OptimizeWorkflow.own_field_names()
    assert [name for name in names if not OptimizeWorkflow.model_fields[name].description] == []


def test_checking_a_search_imports_neither_optuna_nor_numpy(run_python: Callable[..., Any]) -> None:
    program = (
        "import sys; from socm_workflows.optimize.workflow import OptimizeWorkflow\n"
        f"OptimizeWorkflow.model_validate({SEARCH!r})\n"
        "print([m for m in ('optuna', 'numpy', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    assert run_python(program).stdout == "[]\n"


def test_a_grid_goes_through_sorted_names_the_last_one_fastest() -> None:
    space = read_space({"n": {"min": 1, "max": 5, "type": "int", "step": 3}, "inner": {"rate": {"min": 0, "max": 0.3,
                        "step": 0.1}}, "color": ["red"]})  # fmt: skip
    assert count_points(space) == 8
    points = list(every_point(space))
    assert points[0] == {"color": "red", "inner.rate": 0.0, "n": 1}
    assert [(point["inner.rate"], point["n"]) for point in points] == [
        (rate, n) for rate in (0.0, 0.1, 0.2, 0.3) for n in (1, 4)
    ]


def test_a_search_comes_closer_than_chance(tmp_path: Path) -> None:
    (tmp_path / "tpe").mkdir()
    found = Runner(tmp_path / "tpe", {"trials": 40}).play().run()
    chance = Runner(tmp_path, {"trials": 40, "sampler": "random"}).play().run()
    assert found["best_value"] < 0.5 < chance["best_value"]


def test_a_search_leaves_its_trials_the_best_one_and_a_plot(tmp_path: Path) -> None:
    runner = Runner(tmp_path, {"trials": 4, "metric": "nested.gain", "direction": "maximize"})
    runner.play(ends=2)
    runner.end(2, state=FAILED, reason="exit status 1")
    runner.end(3, state=TaskState.PRUNED, steps=((0, 1.5),))
    assert runner.extend() == 0
    metrics = runner.run()
    best = max((0, 1), key=lambda index: runner.trials[index].metrics["nested"]["gain"])
    value, point = runner.trials[best].metrics["nested"]["gain"], dict(zip("xy", runner.points()[best], strict=True))
    assert metrics == {
        "best_value": value, "best_trial": best, "best": point, "completed": 2, "failed": 1, "pruned": 1,
    }  # fmt: skip
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "trial": best, "task": f"bowl-{best}", "metric": "nested.gain", "value": value, "parameters": point,
        "metrics": runner.trials[best].metrics, "folder": None,
    }  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert list(rows[0]) == ["trial", "task", "state", "value", "x", "y", "started", "ended", "reason"]
    assert [(row["state"], row["value"] != "", row["reason"]) for row in rows] == [
        ("done", True, ""), ("done", True, ""), ("failed", False, "failed: exit status 1"), ("pruned", False, ""),
    ]  # fmt: skip
    picture = (tmp_path / "history.svg").read_text()
    assert all(words in picture for words in ("2 complete", "1 failed", "1 pruned", "nested.gain"))
    runner.run()
    assert (tmp_path / "history.svg").read_text() == picture


def test_only_the_wanted_outputs_are_written_and_where(tmp_path: Path) -> None:
    Runner(tmp_path, {"outputs": {"best": "found/best.json", "study": "kept/study.log"}}).play().run()
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["found/best.json", "kept/study.log", "trials.json"]


def test_a_search_in_which_nothing_succeeded_fails_with_the_first_reasons(tmp_path: Path) -> None:
    runner = Runner(tmp_path, {"in_flight": 6})
    runner.extend()
    for index in range(5):
        runner.end(index, state=TaskState.OOM, reason="used more than 1 GiB")
    runner.end(5, state=DONE, metrics={"lss": 1.0})
    assert runner.extend() == 0
    with pytest.raises(ValueError) as error:
        runner.run()
    reasons = "; ".join(f"bowl-{index}: oom: used more than 1 GiB" for index in range(3))
    assert str(error.value) == f"none of 6 trials succeeded: 6 failed, 0 pruned; {reasons}; and 3 more"
    assert runner.study.trials[5].user_attrs == {"reason": "no metric 'loss'; did you mean 'lss'?; it has: lss"}


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_a_search_killed_after_four_of_six_ends_as_if_it_had_not_been(sampler: str, tmp_path: Path) -> None:
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    values = {"sampler": sampler, "in_flight": 1, "trials": 9}
    whole, killed = (Runner(folder, values) for folder in folders)
    whole.play()
    killed.play(ends=7)
    resumed = Runner(folders[1], values, trials=killed.trials[:7]).play()
    assert resumed.points() == whole.points()
    assert len(set(whole.points())) == 9
    assert told(resumed.study) == told(whole.study)


@pytest.mark.parametrize("known", [0, 1, 2, 3])
def test_trials_asked_for_before_a_crash_are_asked_for_again_in_order(known: int, tmp_path: Path) -> None:
    runner = Runner(tmp_path, {"in_flight": 3})
    runner.extend()
    asked, before = runner.points(), told(runner.study)
    runner.trials = runner.trials[:known]
    assert runner.extend() == 3 - known
    assert runner.points() == asked
    assert told(runner.study) == before


def test_trials_that_ended_unheard_are_told_once(tmp_path: Path) -> None:
    runner = Runner(tmp_path, {"in_flight": 2})
    runner.extend()
    runner.end(1)
    runner.end(0, state=TaskState.TIMEOUT, reason="ran for 1 min")
    runner.extend()
    before = told(runner.study)
    assert before[0][0] == "FAIL"
    assert before[0][3] == {"reason": "timeout: ran for 1 min"}
    assert before[1][:2] == ("COMPLETE", runner.trials[1].metrics["loss"])
    size = (tmp_path / "study.journal").stat().st_size
    assert runner.extend() == 0
    assert (tmp_path / "study.journal").stat().st_size == size


def test_a_trial_that_the_user_interrupted_is_neither_told_nor_replaced(tmp_path: Path) -> None:
    runner = Runner(tmp_path, {"in_flight": 2})
    runner.extend()
    runner.end(0, state=TaskState.CANCELLED)
    assert runner.search.extend(runner.history) == ()
    assert [trial.state for trial in runner.study.trials] == [TrialState.RUNNING] * 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": TaskState.LOST}, "lost"),
        ({"state": TaskState.INVALID, "reason": "no file a.txt"}, "invalid: no file a.txt"),
        ({"state": DONE, "metrics": {"loss": float("nan")}}, "metric 'loss' is nan, not a finite number"),
        ({"state": TaskState.CACHED, "metrics": {"loss": "low"}}, "metric 'loss' is 'low', not a finite number"),
        ({"state": DONE}, "no metric 'loss'; it has: none"),
    ],
)
def test_a_trial_without_a_value_is_a_failure_with_its_reason(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    runner = Runner(tmp_path, {"in_flight": 1})
    runner.extend()
    runner.end(0, **changes)
    runner.extend()
    assert told(runner.study)[0][0] == "FAIL"
    assert runner.study.trials[0].user_attrs == {"reason": reason}


def test_a_study_cut_anywhere_is_made_whole_again(tmp_path: Path) -> None:
    whole = Runner(tmp_path, {"sampler": "random"}).play(ends=3)
    path = tmp_path / "study.journal"
    content, expected = path.read_bytes(), told(whole.study)
    for end in (*range(0, len(content), 97), *range(len(content) - 200, len(content), 13)):
        for tail in (b"", b"\0\0\0\n", b'{"op_code": \n{}\n'):
            path.write_bytes(content[:end] + tail)
            assert whole.extend() == 0
            assert told(whole.study) == expected, end
    assert len(whole.play().trials) == 6


def test_a_deleted_or_foreign_study_is_rebuilt_from_the_history(tmp_path: Path) -> None:
    space = {"color": ["red", "blue"], "limit": ["1 min", "2 min"], "inner": {"rate": {"min": 1e-3, "max": 1,
             "scale": "log"}}}  # fmt: skip
    values = {"space": space, "seed": 3}
    runner = Runner(tmp_path, values, evaluate=lambda trial: {"loss": trial.own_fields()["limit"]}).play(ends=3)
    runner.end(3, state=FAILED, reason="exit status 2")
    runner.extend()
    expected = told(runner.study)
    assert {params["limit"] for _, _, params, *_ in expected} == {"1 min", "2 min"}
    (tmp_path / "study.journal").unlink()
    runner.extend()
    assert told(runner.study) == expected
    other = tmp_path / "other"
    other.mkdir()
    Runner(other, {**values, "seed": 4}).play()
    (tmp_path / "study.journal").write_bytes((other / "study.journal").read_bytes())
    runner.extend()
    assert told(runner.study) == expected


@pytest.mark.slow
def test_a_lock_left_by_a_process_that_was_killed_is_broken(tmp_path: Path) -> None:
    runner = Runner(tmp_path, {})
    (tmp_path / "study.journal.lock").touch()
    assert runner.extend() == 2
    assert [path.name for path in tmp_path.iterdir()] == ["study.journal"]


def test_a_search_is_silent_and_leaves_the_loggers_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = (logging.getLogger("optuna").level, logging.root.level, list(logging.root.handlers))
    Runner(tmp_path, {"in_flight": 1, "trials": 12}).play().run()
    assert capfd.readouterr() == ("", "")
    assert (logging.getLogger("optuna").level, logging.root.level, list(logging.root.handlers)) == before


def test_proposals_depend_on_the_seed_and_not_on_the_order_of_the_table(tmp_path: Path) -> None:
    def points(name: str, **values: Any) -> list[tuple[Any, ...]]:
        (tmp_path / name).mkdir()
        return Runner(tmp_path / name, {"in_flight": 1, "trials": 14, **values}).play().points()

    first = points("a")
    assert points("b", space=dict(reversed(X_AND_Y.items()))) == first
    assert set(points("c", seed=1)).isdisjoint(first)


def test_the_start_comes_first_and_the_sampler_fills_what_it_leaves_out(tmp_path: Path) -> None:
    runner = Runner(tmp_path, {"start": [{"x": 1, "y": 2}, {"y": 3}], "in_flight": 3}).play()
    assert runner.points()[0] == (1.0, 2.0)
    assert runner.points()[1][1] == 3.0
    assert runner.run()["best_trial"] == 0


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe", "gp"])
def test_a_finite_space_is_searched_without_repeats_and_to_its_end(sampler: str, tmp_path: Path) -> None:
    space = {"n": {"min": 1, "max": 4, "type": "int"}, "color": ["red", "blue", "green"]}
    runner = Runner(
        tmp_path, {"space": space, "sampler": sampler, "trials": 50, "in_flight": 3, "start": [{"n": 3}]},
        evaluate=lambda trial: {"loss": trial.own_fields()["n"]},
    ).play()  # fmt: skip
    points = runner.points("color", "n")
    assert points[0][1] == 3
    assert sorted(points) == sorted((color, n) for color in ("red", "blue", "green") for n in (1, 2, 3, 4))
    if sampler == "grid":
        assert points[:4] == [("red", 3), ("red", 1), ("red", 2), ("red", 4)]


def picky(parameters: Mapping[str, Any]) -> Workflow:
    if parameters["x"] > 0:
        raise ValueError("x must not be positive")
    return make(parameters)


def test_points_that_the_driven_workflow_refuses_are_not_asked_for(tmp_path: Path) -> None:
    runner = Runner(tmp_path, {"trials": 20}, make=picky).play()
    assert len(runner.trials) == len(runner.study.trials) == 20
    grid = Runner(tmp_path, {"space": {"x": [-1, 0, 1]}, "sampler": "grid"}, make=picky).play()
    assert grid.points("x") == [(-1.0,), (0.0,)]


@pytest.mark.parametrize(
    ("values", "point"),
    [
        ({"start": [{"x": 5, "y": 1}]}, "{'x': 5.0, 'y': 1.0}"),
        ({"space": {"x": [3]}}, "{'x': 3}"),
        ({"space": {"x": {"min": 1, "max": 2, "step": 1}}, "sampler": "grid"}, "{'x': 1.0}"),
    ],
)
def test_a_search_all_of_whose_points_are_refused_says_why(values: dict[str, Any], point: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        Runner(tmp_path, values, make=picky).extend()
    assert str(error.value) == f"the driven workflow refuses {point}: x must not be positive"
    assert Runner(tmp_path, {"sampler": "random"}).extend() == 2


def test_the_runtime_of_a_trial_only_ever_gets_shorter(tmp_path: Path) -> None:
    def limited(runtime: dict[str, Any]) -> list[Any]:
        def make_limited(parameters: Mapping[str, Any]) -> Workflow:
            return BowlWorkflow.model_validate({**parameters, "resources": {"memory": 2**30, **runtime}})

        runner = Runner(tmp_path, {"trial_runtime": "5 min"}, make=make_limited)
        trial = runner.search.extend(runner.history)[0]
        return [trial.resources.memory, trial.resources.runtime, sorted(trial.resources.model_fields_set)]

    def after(runtime: str) -> list[Any]:
        return limited({"runtime": runtime})

    known = ["memory", "runtime"]
    assert limited({}) == [2**30, timedelta(minutes=5), known]
    assert after("1 h") == [2**30, timedelta(minutes=5), known]
    assert after("1 min") == [2**30, timedelta(minutes=1), known]


def report(runner: Runner, index: int, *values: float) -> Sequence[int]:
    runner.trials[index] = replace(runner.trials[index], steps=tuple(enumerate(values, start=1)))
    return runner.search.stops(runner.history)


@pytest.mark.parametrize("pruner", ["median", "successive-halving"])
def test_a_trial_worse_than_the_others_is_given_up_until_it_ends(pruner: str, tmp_path: Path) -> None:
    runner = Runner(tmp_path, {"pruner": pruner, "warmup_trials": 2, "in_flight": 1, "trials": 4})
    runner.extend()
    for index, value in enumerate((3.0, 1.0)):
        assert report(runner, index, value, value / 2) == ()
        runner.end(index)
        runner.extend()
    assert report(runner, 2, 0.5) == ()
    size = (tmp_path / "study.journal").stat().st_size
    assert report(runner, 2, 0.5) == ()
    assert (tmp_path / "study.journal").stat().st_size == size
    runner.end(2)
    runner.extend()
    assert report(runner, 3, 9.0, 8.0) == (3,)
    assert report(runner, 3, 9.0, 8.0, 0.0) == (3,)
    runner.end(3, state=TaskState.PRUNED)
    assert runner.search.stops(runner.history) == ()
    assert runner.extend() == 0
    state, value, _, _, steps = told(runner.study)[3]
    assert (state, value, steps) == ("PRUNED", 0.0, {1: 9.0, 2: 8.0, 3: 0.0})
    assert runner.run()["pruned"] == 1


def test_a_trial_that_was_lost_and_turns_up_counts_after_all(tmp_path: Path) -> None:
    runner = Runner(tmp_path, {"in_flight": 1, "trials": 1})
    runner.extend()
    for state, metrics, expected in ((TaskState.LOST, {}, "FAIL"), (DONE, {"loss": 2.0}, "COMPLETE")):
        runner.end(0, state=state, metrics=metrics)
        assert runner.extend() == 0
        assert [trial.state.name for trial in runner.study.trials] == [expected]


def test_free_parameters_of_a_command_are_searched_by_their_full_names(tmp_path: Path) -> None:
    def make_command(parameters: Mapping[str, Any]) -> Workflow:
        free = {name.removeprefix("parameters."): value for name, value in parameters.items()}
        return CommandWorkflow.model_validate({"command": ["run", "{rate}"], "parameters": free})

    values = {"space": {"parameters": {"rate": [0.1, 0.2]}}, "sampler": "grid"}
    runner = Runner(tmp_path, values, lambda trial: {"loss": trial.own_fields()["rate"]}, make_command).play()
    assert runner.run()["best"] == {"parameters.rate": 0.1}
    (tmp_path / "study.journal").unlink()
    runner.extend()
    assert [trial.params for trial in runner.study.trials] == [{"parameters.rate": 0.1}, {"parameters.rate": 0.2}]


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
@pytest.mark.parametrize("wild", [lambda x: 1e300 * (x > 5) + (x - 1) ** 2, lambda x: -1e308 * x, lambda x: 0.0])
def test_no_finite_value_upsets_a_sampler(sampler: str, wild: Callable[[float], float], tmp_path: Path) -> None:
    values = {"sampler": sampler, "space": {"x": X_AND_Y["x"]}, "trials": 12}
    runner = Runner(tmp_path, values, evaluate=lambda trial: {"loss": max(wild(trial.own_fields()["x"]), -1e308)})
    assert len(set(runner.play().points("x"))) == 12


def test_without_a_pruner_nothing_is_given_up_or_read(tmp_path: Path) -> None:
    runner = Runner(tmp_path, {})
    runner.extend()
    (tmp_path / "study.journal").unlink()
    assert report(runner, 0, 1e9, float("nan")) == ()
    assert list(tmp_path.iterdir()) == []


@examples(max_examples=25)
@given(
    data=st.data(),
    sampler=st.sampled_from(["random", "tpe", "grid"]),
    in_flight=st.integers(1, 4),
    trials=st.integers(1, 9),
)
def test_no_order_of_ends_and_no_crash_breaks_the_bounds(
    data: st.DataObject, sampler: str, in_flight: int, trials: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    space = {"x": {"min": 0, "max": 2, "step": 1}, "n": [1, 2]}
    values = {"space": space, "sampler": sampler, "in_flight": in_flight, "trials": trials}
    runner = Runner(tmp_path_factory.mktemp("search"), values, evaluate=lambda t: {"loss": t.own_fields()["x"]})
    runner.extend()  # asserts that no more are in flight than may be
    while runner.in_flight:
        index = data.draw(st.sampled_from(runner.in_flight))
        event = data.draw(st.sampled_from(["done", "failed", "forgets", "deleted"]))
        if event == "forgets":  # the runner dies before what it was given is on record
            known = len(runner.trials)
            runner.end(index)
            runner.extend()
            runner.trials = runner.trials[:known]
        elif event == "deleted":
            (runner.directory / "study.journal").unlink()
        else:
            runner.end(index, **({} if event == "done" else {"state": FAILED}))
        runner.extend()
    points = runner.points("x", "n")
    assert len(points) == len(set(points)) == min(trials, 6)
    assert len(runner.study.trials) == len(points)


def test_the_search_of_the_docs_is_one() -> None:
    page = (Path(__file__).parents[1] / "docs/optimize.rst").read_text()
    block = page.partition(".. code-block:: toml\n\n")[2].partition("\n\nEvery trial")[0]
    tables = tomllib.loads(dedent(block))["campaign"]
    CommandWorkflow.model_validate({key: value for key, value in tables["train"].items() if key != "kind"})
    values = {key: value for key, value in tables["search"].items() if key != "kind"}
    search = OptimizeWorkflow.model_validate(values, context={"from_file": True})
    assert list(read_space(search.space)) == ["parameters.loss", "parameters.rate", "parameters.width"]


@pytest.mark.slow
def test_the_gaussian_process_finds_the_minimum_of_branin(tmp_path: Path) -> None:
    def gap(sampler: str, seed: int) -> float:
        folder = tmp_path / f"{sampler}-{seed}"
        folder.mkdir()
        values = {"sampler": sampler, "seed": seed, "trials": 40}
        return float(
            Runner(folder, values, evaluate=lambda t: {"loss": branin(t.own_fields()["x"], t.own_fields()["y"])})
            .play().run()["best_value"] - 0.397887
        )  # fmt: skip

    gaps, chance = ([gap(sampler, seed) for seed in range(5)] for sampler in ("gp", "random"))
    assert sum(value < 0.5 for value in gaps) >= 4, gaps
    assert np.median(gaps) < np.median(chance)


def test_log_expected_improvement_is_the_log_of_the_integral() -> None:
    z = np.array([-3.0, -1.001, -1.0, -0.999, 0.0, 2.0, 6.0])
    expected = [math.log(quad(lambda u, b=bound: (b - u) * norm.pdf(u), -40, bound, epsabs=0)[0]) for bound in z]
    np.testing.assert_allclose(gp.log_h(z), expected, rtol=1e-7)
    far = np.array([-50.0, -1e3, -9999.0, -10001.0, -1e6])  # log phi - 2 log |z| + log(1 - 3 / z^2 + ...)
    series = -0.5 * far**2 - 0.5 * math.log(2 * math.pi) - 2 * np.log(-far) + np.log1p(-3 / far**2 + 15 / far**4)
    np.testing.assert_allclose(gp.log_h(far), series, rtol=1e-9)


def test_the_gradient_of_the_likelihood_is_its_derivative() -> None:
    generator = np.random.default_rng(1)
    x, theta = generator.random((12, 3)), np.array([-1.0, 0.3, 0.8, 0.2, -3.0])
    y = np.sin(5 * x[:, 0]) + x[:, 1]
    value, gradient = gp.negative_log_posterior(theta, x, y)
    numeric = approx_fprime(theta, lambda t: gp.negative_log_posterior(t, x, y)[0], 1e-6)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-4)
    covariance = gp.kernel(x, x, theta) + (math.exp(-3.0) + gp.NOISE_FLOOR) * np.eye(12)
    likelihood = -0.5 * y @ np.linalg.solve(covariance, y) - 0.5 * np.linalg.slogdet(covariance)[1]
    means, spreads = zip(*[gp.PRIOR_LENGTH] * 3, (0.0, 1.0), gp.PRIOR_NOISE, strict=True)
    prior = 0.5 * float(np.sum(((theta - means) / spreads) ** 2))
    assert value == pytest.approx(prior - likelihood)


def test_a_process_passes_through_its_data_and_returns_to_the_prior() -> None:
    x = np.array([[0.1], [0.4], [0.5]])
    y = np.array([1.0, -1.0, 0.5])
    process = gp.condition(x, y, np.array([math.log(0.1), 0.0, math.log(1e-8)]))
    mean, deviation = process.predict(np.vstack([x, [[50.0]]]))
    np.testing.assert_allclose(mean, [*y, 0.0], atol=1e-4)
    np.testing.assert_allclose(deviation, [0.0, 0.0, 0.0, 1.0], atol=2e-3)
