"""Rows from results: what is shown, what is missing, and how numbers look."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from socm_like.campaign import load_campaign
from socm_like.errors import StoreError, UsageError
from socm_like.identity import FileDigests
from socm_like.journal import Journal, TaskState, event_at
from socm_like.plan import make_plan
from socm_like.resources import Machine
from socm_like.results.columns import columns_of, in_order_of, readable, tables_of
from socm_like.results.table import Ancestor, Row, read_results
from socm_like.status import RunStatus, read_status
from socm_like.store import RunDirectory

MACHINE = Machine(name="here", cores=(0, 1), memory=8 * 2**30)
NOON = 1_800_000_000.0
AT_NOON = "2027-01-15T08:00:00.000000Z"
TWO_LATER = "2027-01-15T08:00:02.000000Z"
LONG_AGO = "2026-01-01T00:00:00.000000Z"
TWO = """
[campaign]
name = "two"
[campaign.a]
kind = "command"
command = ["true"]
parameters = { noise = 0.5 }
[campaign.b]
kind = "command"
command = ["cat", "output://a/x.txt"]
"""


def made_status(folder: Path, states: Mapping[str, TaskState], text: str = TWO) -> RunStatus:
    (folder / "campaign.toml").write_text(text)
    plan = make_plan(load_campaign(folder / "campaign.toml"), folder / "runs", MACHINE, FileDigests())
    run = RunDirectory(plan.store / "campaigns" / plan.run_name)
    run.path.mkdir(parents=True)
    run.plan.write_text(plan.to_json())
    journal = Journal(run.journal)
    for task, state in states.items():
        if state is not TaskState.CACHED:
            journal.append([event_at(NOON, task, 1, TaskState.QUEUED), event_at(NOON, task, 1, TaskState.RUNNING)])
        journal.append([event_at(NOON + 2, task, 1, state)])
    journal.close()
    return read_status(run)


def leave_result(status: RunStatus, index: int, **changes: Any) -> Path:
    """Write the result of a task, as the runner does."""
    task = status.tasks[index]
    folder = status.directory.store / task.folder
    folder.mkdir(parents=True)
    content = {"id": task.id, "metrics": {"chi2": 1.5}, "started": LONG_AGO, "ended": LONG_AGO, **changes}
    (folder / "result.json").write_text(json.dumps(content))
    return folder / "result.json"


def row(task: str, parameters: Mapping[str, Any], metrics: Mapping[str, Any], **changes: Any) -> Row:
    facts = {"workflow": "w", "kind": "k", "id": "0" * 64, "state": TaskState.DONE, "started": None, "ended": None}
    return Row(task=task, parameters=parameters, metrics=metrics, **{**facts, **changes})


def test_row_is_the_promised_shape(tmp_path: Path) -> None:
    status = made_status(tmp_path, {"a": TaskState.DONE})
    leave_result(status, 0, cpu=1.75, peak_memory=4096, peak_gpu_memory=2**33)

    results = read_results(status)

    assert results.problems == ()
    assert [row.to_json() for row in results.rows] == [
        {
            "task": "a", "workflow": "a", "kind": "command", "id": status.tasks[0].id, "state": "done",
            "ancestors": {}, "parameters": {"command": ["true"], "inputs": [], "noise": 0.5}, "metrics": {"chi2": 1.5},
            "attempts": 1, "started": AT_NOON, "ended": TWO_LATER,
            "wall_seconds": 2.0, "cpu_seconds": 1.75, "peak_memory_bytes": 4096, "peak_gpu_memory_bytes": 2**33,
        },
        {
            "task": "b", "workflow": "b", "kind": "command", "id": status.tasks[1].id, "state": "planned",
            "ancestors": {},
            "parameters": {"command": ["cat", f"{tmp_path}/runs/{status.tasks[0].folder}/x.txt"], "inputs": []},
            "metrics": {}, "attempts": 0, "started": None, "ended": None,
            "wall_seconds": None, "cpu_seconds": None, "peak_memory_bytes": None, "peak_gpu_memory_bytes": None,
        },
    ]  # fmt: skip


def test_cached_task_has_the_times_of_its_result(tmp_path: Path) -> None:
    status = made_status(tmp_path, {"a": TaskState.CACHED})
    leave_result(status, 0)
    (cached, _) = read_results(status).rows
    assert (cached.state, cached.started, cached.ended) == (TaskState.CACHED, LONG_AGO, LONG_AGO)


def test_failed_task_has_no_metrics_though_an_old_result_lies_there(tmp_path: Path) -> None:
    status = made_status(tmp_path, {"a": TaskState.FAILED})
    leave_result(status, 0)
    results = read_results(status)
    assert (results.rows[0].metrics, results.problems) == ({}, ())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": "f" * 64}, "it belongs to the identity ffffffffffff"),
        ({"metrics": [1]}, "it holds no table of metrics"),
        ({"started": 5}, "started is no instant: 5"),
        ({"ended": "yesterday"}, "Invalid isoformat string: 'yesterday'"),
        ({"metrics": {"a": math.nan}}, "NaN is not a finite number"),
        (None, "No such file or directory"),
    ],
)
def test_success_without_a_readable_result_is_told(
    tmp_path: Path, changes: dict[str, Any] | None, problem: str
) -> None:
    status = made_status(tmp_path, {"a": TaskState.DONE})
    path = leave_result(status, 0, **(changes or {}))
    if changes is None:
        path.unlink()

    results = read_results(status)

    assert results.problems == (f"a is done, but {path} cannot be read: {problem}; submit the campaign again",)
    assert results.rows[0].metrics == {}


def free_values(rows: list[Row]) -> list[dict[str, Any]]:
    """Return the values of the columns that are no facts."""
    columns = columns_of(rows)
    names = {*columns.ancestors, *columns.parameters, *columns.metrics}
    return [{name: value for name, value in values.items() if name in names} for values in columns.values]


def test_columns_that_would_share_a_name_are_told_apart() -> None:
    rows = [row("a", {"x": 1, "state": 2}, {"x": 3, "task": 4, "t.u": 5, "t": {"u": 6}})]
    columns = columns_of(rows)
    assert columns.parameters == ("parameters.x", "parameters.state")
    assert columns.metrics == ("metrics.x", "metrics.task", "t.u", "t")
    assert free_values(rows) == [
        {"parameters.x": 1, "parameters.state": 2, "metrics.x": 3, "metrics.task": 4, "t.u": 5, "t": {"u": 6}},
    ]
    nested = columns_of([row("a", {"x": 1, "parameters.x": 2}, {"x": 3, "parameters": {"b": 4}})])
    assert nested.parameters == ("parameters.parameters.x", "parameters.x")
    assert nested.metrics == ("metrics.x", "parameters.b")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.5, 10.0], ["1.0", "2.5", "10.0"]),
        ([2.006561647826956], ["2.0066"]),
        ([0.01221998865124237], ["0.01222"]),
        ([1234.5678, 0.001], ["1234.5678", "0.0010"]),
        ([1e-12, 3.0], ["1e-12", "3"]),
        ([6.02214076e23], ["6.0221e+23"]),
        ([0.0, -0.5], ["0.0", "-0.5"]),
        ([3, 12345678901, None, True, "text"], ["3", "12345678901", "", "true", "text"]),
        ([1.5, 2, None], ["1.5", "2", ""]),
        ([[1, 2.5], {"a": None}], ["[1, 2.5]", '{"a": null}']),
        (["/data/nist/a.dat", "/data/nist/sub/b.dat"], ["a.dat", "sub/b.dat"]),
        (["/data/a.dat"], ["/data/a.dat"]),
        (["/a", "/b"], ["a", "b"]),
    ],
)
def test_numbers_have_sensible_digits(values: list[Any], expected: list[str]) -> None:
    assert readable(values) == expected


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=6))
@example([5e-324, 1e300])
@example([999999.96, 0.5])
def test_readable_numbers_are_right_to_three_digits(values: list[float]) -> None:
    for value, text in zip(values, readable(values), strict=True):
        assert float(text) == pytest.approx(value, rel=5.1e-3, abs=0)


# ancestors and sweeps


def of_sweep(noise: float, seed: int, **changes: Any) -> Row:
    """Return a task of ``maps``, swept over seed, for each task of ``simulate``, swept over noise."""
    above = Ancestor(f"simulate[{noise:g}]", {"noise": noise, "box": "large"}, ("noise",), f"/runs/sim/{noise:g}")
    facts = {"workflow": "maps", "swept": ("data", "seed"), "ancestors": {"simulate": above}}
    parameters = {"nside": 64, "seed": seed, "data": f"/runs/sim/{noise:g}/tod.h5"}
    metrics = {"loss": noise * seed, "dof": 8}
    return row(f"maps[{noise:g},{seed}]", parameters, metrics, **{**facts, **changes})


def test_ancestors_of_the_plan_are_read_with_their_parameters(tmp_path: Path) -> None:
    status = made_status(tmp_path, {})
    plan = json.loads(status.directory.plan.read_text())
    plan["tasks"][0]["swept"] = ["noise"]
    plan["tasks"][1].update(ancestors={"a": "a"}, swept=[])
    status.directory.plan.write_text(json.dumps(plan))

    status = read_status(status.directory)
    first, second = read_results(status).rows

    above = {"command": ["true"], "inputs": [], "noise": 0.5}
    folder = f"{tmp_path}/runs/{status.tasks[0].folder}"
    assert (first.ancestors, first.swept) == ({}, ("noise",))
    assert (second.ancestors, second.swept) == ({"a": Ancestor("a", above, ("noise",), folder)}, ())
    assert second.to_json()["ancestors"] == {"a": {"task": "a", "parameters": above}}


def test_ancestor_that_is_not_in_the_plan_is_told(tmp_path: Path) -> None:
    status = made_status(tmp_path, {})
    plan = json.loads(status.directory.plan.read_text())
    plan["tasks"][1]["ancestors"] = {"a": "nobody"}
    status.directory.plan.write_text(json.dumps(plan))
    with pytest.raises(StoreError) as caught:
        read_results(read_status(status.directory))
    remedy = "submit the campaign again to write it anew"
    assert str(caught.value) == f"the plan has no task 'nobody', which led to b; {remedy}"


def test_plan_that_says_nothing_of_sweeps_has_no_ancestors(tmp_path: Path) -> None:
    status = made_status(tmp_path, {})
    plan = json.loads(status.directory.plan.read_text())
    for task in plan["tasks"]:
        task.pop("ancestors", None)
        task.pop("swept", None)
    status.directory.plan.write_text(json.dumps(plan))
    assert [(row.ancestors, row.swept) for row in read_results(read_status(status.directory)).rows] == [({}, None)] * 2


def test_failed_task_has_what_was_measured_of_it(tmp_path: Path) -> None:
    status = made_status(tmp_path, {})
    journal = Journal(status.directory.journal)
    journal.append(
        [
            event_at(NOON, "a", 1, TaskState.RUNNING),
            event_at(NOON + 2, "a", 1, TaskState.FAILED),
            event_at(NOON + 3, "a", 2, TaskState.RUNNING),
            event_at(NOON + 3.5, "a", 2, TaskState.OOM, cpu=0.25, peak_memory=2**30, peak_gpu_memory=2**31),
        ]
    )
    journal.close()
    (failed, _) = read_results(read_status(status.directory)).rows
    assert (failed.attempts, failed.wall, failed.cpu) == (2, 0.5, 0.25)
    assert (failed.peak_memory, failed.peak_gpu_memory) == (2**30, 2**31)


def test_time_over_which_a_clock_went_backwards_is_zero() -> None:
    assert row("a", {}, {}, started=TWO_LATER, ended=AT_NOON).wall == 0.0


def test_wall_time_is_right_to_the_microsecond() -> None:
    ended = "2027-01-15T08:00:00.041329Z"
    assert row("a", {}, {}, started=AT_NOON, ended=ended).wall == 0.041329


def test_tidy_table_has_all_parameters_of_ancestors_behind_their_workflow() -> None:
    columns = columns_of([of_sweep(0.5, 1)])
    assert columns.names == (
        "task", "workflow", "kind", "state", "simulate.noise", "simulate.box", "nside", "seed", "data", "loss", "dof",
        "attempts", "started", "ended", "wall_seconds", "cpu_seconds", "peak_memory_bytes", "peak_gpu_memory_bytes",
    )  # fmt: skip
    assert free_values([of_sweep(0.5, 1)]) == [
        {
            "simulate.noise": 0.5, "simulate.box": "large",
            "nside": 64, "seed": 1, "data": "/runs/sim/0.5/tod.h5", "loss": 0.5, "dof": 8,
        }
    ]  # fmt: skip


def test_swept_parameters_tell_rows_apart_though_they_are_the_same_in_all() -> None:
    columns = columns_of([of_sweep(0.5, 1), of_sweep(0.5, 2)])
    assert columns.telling() == ["simulate.noise", "seed"]
    assert columns_of([of_sweep(0.5, 1)]).telling() == ["simulate.noise", "seed"]


def test_parameters_that_differ_come_after_those_that_were_swept() -> None:
    rows = [row("a", {"first": 1, "swept": 2}, {}, swept=("swept",)), row("b", {"first": 2, "swept": 3}, {}, swept=())]
    assert columns_of(rows).telling() == ["swept", "first"]


def test_part_of_a_swept_table_and_a_table_with_a_swept_part_are_swept() -> None:
    parameters = {"step": {"size": 1, "count": 2}, "deep": {"a": {"b": 3}}, "stepper": 4}
    columns = columns_of([row("a", parameters, {}, swept=("deep.a.b", "step"))])
    assert columns.telling() == ["deep.a", "step.size", "step.count"]


def test_without_word_of_sweeps_what_differs_is_told() -> None:
    rows = [
        row(name, {"same": 1, "seed": seed}, {}, ancestors={"simulate": Ancestor(name, {"noise": seed, "box": 1})})
        for name, seed in (("a", 1), ("b", 2))
    ]
    assert columns_of(rows).telling() == ["simulate.noise", "seed"]


def test_paths_of_what_ancestors_left_are_not_told_and_other_paths_are() -> None:
    rows = [of_sweep(0.5, 1), of_sweep(1.0, 1)]
    assert columns_of(rows).telling() == ["simulate.noise", "seed"]
    others = [row("a", {"data": "/data/a"}, {}, swept=("data",)), row("b", {"data": "/data/b"}, {}, swept=("data",))]
    assert columns_of(others).telling() == ["data"]


@pytest.mark.parametrize(
    ("own", "above", "expected"),
    [
        ({}, {}, {"simulate.noise": "noise", "simulate.box": "box"}),
        ({"noise": 1}, {}, {"simulate.box": "box"}),
        ({"noise": {"level": 1}}, {}, {"simulate.noise": "noise", "simulate.box": "box"}),
        ({}, {"box": 1}, {"simulate.noise": "noise"}),
        ({"simulate": {"noise": 1}}, {}, {"ancestors.simulate.noise": "noise", "simulate.box": "box"}),
    ],
)
def test_parameter_of_an_ancestor_has_its_bare_name_where_nothing_else_is_called_so(
    own: dict[str, Any], above: dict[str, Any], expected: dict[str, str]
) -> None:
    ancestors = {"simulate": Ancestor("s", {"noise": 0.5, "box": 1}), "beam": Ancestor("b", above)}
    assert columns_of([row("a", own, {}, ancestors=ancestors)]).short == expected


def test_ancestors_of_one_dotted_name_are_told_apart() -> None:
    ancestors = {"a": Ancestor("a", {"b.c": 1}), "a.b": Ancestor("a.b", {"c": 2})}
    assert free_values([row("t", {}, {}, ancestors=ancestors)]) == [{"a.b.c": 1, "ancestors.a.b.c": 2}]


def test_facts_are_told_apart_from_parameters_of_their_names() -> None:
    assert columns_of([row("a", {"wall_seconds": 1}, {"attempts": 2})]).parameters == ("parameters.wall_seconds",)


# order


def order(rows: list[Row], by: str) -> list[str]:
    return [row.task for row in in_order_of(rows, by)]


MIXED = [
    row("none", {}, {}),
    row("text", {}, {"loss": "big"}),
    row("two", {}, {"loss": 2}),
    row("null", {}, {"loss": None}),
    row("half", {}, {"loss": 0.5}),
    row("also two", {}, {"loss": 2.0}),
    row("list", {}, {"loss": [1]}),
]


def test_rows_rise_by_a_column_and_those_without_a_value_come_last() -> None:
    assert order(MIXED, "loss") == ["half", "two", "also two", "text", "list", "none", "null"]


def test_rows_fall_with_equals_in_the_order_of_the_plan_and_missing_ones_last() -> None:
    assert order(MIXED, "-loss") == ["list", "text", "two", "also two", "half", "none", "null"]


def test_column_whose_name_begins_with_a_hyphen_is_no_falling_order() -> None:
    rows = [row("a", {}, {"-x": 2, "x": 1}), row("b", {}, {"-x": 1, "x": 2})]
    assert (order(rows, "-x"), order(rows, "--x"), order(rows, "x")) == (["b", "a"], ["a", "b"], ["a", "b"])


def test_column_has_the_name_that_the_table_of_a_workflow_gives_it() -> None:
    rows = [of_sweep(2.0, 1), row("simulate[2]", {"noise": 1.0}, {"seed": 5}, workflow="simulate"), of_sweep(0.5, 2)]
    expected = ["maps[0.5,2]", "simulate[2]", "maps[2,1]"]
    assert columns_of(rows).find("noise") == "noise"
    assert order(rows, "noise") == expected
    assert order(rows, "simulate.noise") == ["maps[0.5,2]", "maps[2,1]", "simulate[2]"]
    assert order(rows, "parameters.seed") == ["maps[2,1]", "maps[0.5,2]", "simulate[2]"]


@pytest.mark.parametrize(
    ("by", "near"), [("los", "; did you mean 'loss'?"), ("-los", "; did you mean 'loss'?"), ("x", "")]
)
def test_order_by_no_column_names_those_there_are(by: str, near: str) -> None:
    there = (
        "attempts, cpu_seconds, ended, kind, loss, peak_gpu_memory_bytes, peak_memory_bytes, started, state, task, "
        "wall_seconds, workflow"
    )
    with pytest.raises(UsageError) as caught:
        in_order_of(MIXED, by)
    assert str(caught.value) == f"no column is called {by.lstrip('-')!r}; there are: {there}{near}"


def test_name_that_a_parameter_and_a_metric_share_leads_to_either() -> None:
    with pytest.raises(UsageError, match=r"; did you mean 'metrics\.x'\?$"):
        in_order_of([row("a", {"x": 1}, {"x": 2})], "x")


def test_no_rows_are_in_any_order() -> None:
    assert in_order_of([], "anything") == ()


@given(st.lists(st.none() | st.integers() | st.floats(-1e9, 1e9) | st.booleans() | st.text(max_size=2), max_size=8))
def test_order_loses_no_row_and_falls_where_it_rises(values: list[Any]) -> None:
    rows = [row(f"t{index}", {"x": value}, {}) for index, value in enumerate(values)]
    up, down = order(rows, "x") if rows else [], order(rows, "-x") if rows else []
    assert sorted(up) == sorted(down) == sorted(row.task for row in rows)
    missing = [row.task for row in rows if row.parameters["x"] is None]
    for tasks in (up, down):
        assert tasks[len(tasks) - len(missing) :] == missing
    numbers = [row.parameters["x"] for row in in_order_of(rows, "x") if isinstance(row.parameters["x"], int | float)]
    assert numbers == sorted(numbers)


def test_tables_are_of_workflows_or_of_one_kind_in_a_group() -> None:
    rows = [
        row("a", {}, {}, workflow="a"),
        row("m.1", {}, {}, workflow="m.1"),
        row("m.2", {}, {}, workflow="m.2"),
        row("m.3", {}, {}, workflow="m.3", kind="other"),
        row("m.4", {}, {}, workflow="m.4", kind="other"),
    ]
    found = {title: [row.task for row in own] for title, own in tables_of(rows).items()}
    assert found == {"a": ["a"], "m.*": ["m.1", "m.2"], "m.* (other)": ["m.3", "m.4"]}
