"""Rows from results: what is shown, what is missing, and how numbers look."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from socm_like.campaign import load_campaign
from socm_like.identity import FileDigests
from socm_like.journal import Journal, TaskState, event_at
from socm_like.plan import make_plan
from socm_like.resources import Machine
from socm_like.results.table import Row, columns_of, read_results, readable, to_csv
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
    leave_result(status, 0)

    results = read_results(status)

    assert results.problems == ()
    assert [row.to_json() for row in results.rows] == [
        {
            "task": "a", "workflow": "a", "kind": "command", "id": status.tasks[0].id, "state": "done",
            "parameters": {"command": ["true"], "inputs": [], "noise": 0.5}, "metrics": {"chi2": 1.5},
            "started": AT_NOON, "ended": TWO_LATER,
        },
        {
            "task": "b", "workflow": "b", "kind": "command", "id": status.tasks[1].id, "state": "planned",
            "parameters": {"command": ["cat", f"{tmp_path}/runs/{status.tasks[0].folder}/x.txt"], "inputs": []},
            "metrics": {}, "started": None, "ended": None,
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


def test_csv_has_dotted_names_exact_numbers_and_json_for_what_is_deeper() -> None:
    rows = [
        row("a[1]", {"seed": 7, "words": ["x", "y"]}, {"fit": {"chi2": 0.1 + 0.2, "deep": {"p": 1}}, "ok": True}),
        row("b", {"seed": 8}, {"note": 'say "hi",\nplease', "ok": None}, state=TaskState.CACHED, started=AT_NOON),
    ]
    assert to_csv(rows) == (
        "task,workflow,kind,state,seed,words,fit.chi2,fit.deep,ok,note,started,ended\n"
        'a[1],w,k,done,7,"[""x"", ""y""]",0.30000000000000004,"{""p"": 1}",true,,,\n'
        f'b,w,k,cached,8,,,,,"say ""hi"",\nplease",{AT_NOON},\n'
    )


def test_columns_that_would_share_a_name_are_told_apart() -> None:
    columns = columns_of([row("a", {"x": 1, "state": 2}, {"x": 3, "task": 4, "t.u": 5, "t": {"u": 6}})])
    assert columns.parameters == ("parameters.x", "parameters.state")
    assert columns.metrics == ("metrics.x", "metrics.task", "t.u", "t")
    assert columns.values == (
        {"parameters.x": 1, "parameters.state": 2, "metrics.x": 3, "metrics.task": 4, "t.u": 5, "t": {"u": 6}},
    )
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


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_TABLES = st.dictionaries(st.text(min_size=1), _SCALARS | st.lists(_SCALARS, max_size=2), max_size=4)


@given(st.lists(st.tuples(_TABLES, _TABLES), min_size=1, max_size=4))
def test_csv_loses_nothing(tables: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    rows = [row(f"t{index}", *pair) for index, pair in enumerate(tables)]
    header, *lines = csv.reader(io.StringIO(to_csv(rows), newline=""))
    columns = columns_of(rows)

    assert len(set(header)) == len(header) == 6 + len(columns.parameters) + len(columns.metrics)
    for line, values in zip(lines, columns.values, strict=True):
        cells = dict(zip(header, line, strict=True))
        for name, value in values.items():
            assert cells[name] == ("" if value is None else value if isinstance(value, str) else cells[name])
            if not isinstance(value, str | None):
                assert json.loads(cells[name]) == value
