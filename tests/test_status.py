"""How a run stands: replayed from plan and journal, with its holder alive, dead, or never there."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.campaign import load_campaign
from socm_like.cli.status import screen
from socm_like.errors import StoreError, UsageError
from socm_like.executors.launcher_log import log_path
from socm_like.forecast import Forecast, forecast, time_left
from socm_like.identity import FileDigests
from socm_like.journal import Event, Journal, TaskState, event_at
from socm_like.plan import make_plan
from socm_like.resources import Machine
from socm_like.status import RunState, RunStatus, find_task, finite_json, read_status
from socm_like.store import RunDirectory, RunLock
from socm_like.units import format_instant

NOON = 1_800_000_000.0
MACHINE = Machine(name="here", cores=(0, 1), memory=8 * 2**30)
CHAIN = """
[campaign]
name = "chain"
[campaign.first]
kind = "command"
command = ["true"]
[campaign.second]
kind = "command"
command = ["cat", "output://first/made.txt"]
[campaign.third]
kind = "command"
command = ["true"]
depends_on = ["first", "second"]
"""


def made_run(folder: Path, events: Sequence[Event] = (), text: str = CHAIN) -> RunDirectory:
    """A run as submit leaves it, with these events in its journal."""
    (folder / "campaign.toml").write_text(text)
    plan = make_plan(load_campaign(folder / "campaign.toml"), folder / "runs", MACHINE, FileDigests())
    run = RunDirectory(plan.store / "campaigns" / plan.run_name)
    run.path.mkdir(parents=True)
    run.plan.write_text(plan.to_json())
    journal = Journal(run.journal)
    journal.append(events)
    journal.close()
    return run


def ran(task: str, state: TaskState, at: float = NOON, seconds: float = 2.0, **detail: object) -> list[Event]:
    """The events of an attempt that ended."""
    return [
        event_at(at, task, 1, TaskState.QUEUED),
        event_at(at, task, 1, TaskState.RUNNING),
        event_at(at + seconds, task, 1, state, **detail),
    ]


def states(status: RunStatus) -> dict[str, str]:
    return {task.task: task.state.value for task in status.tasks}


@contextmanager
def held(run: RunDirectory) -> Iterator[None]:
    lock = RunLock(run)
    lock.acquire()
    yield
    lock.release()


def test_json_is_the_promised_shape(tmp_path: Path) -> None:
    run = made_run(tmp_path, ran("first", TaskState.FAILED, reason="exit status 3"))
    answer = read_status(run).to_json()
    ids = [task.pop("id") for task in answer["tasks"]]

    assert all(len(identity) == 64 for identity in ids)
    assert answer == {
        "campaign": "chain",
        "run": run.name,
        "state": "interrupted",
        "counts": {"blocked": 2, "failed": 1},
        "tasks": [
            {
                "task": "first", "workflow": "first", "kind": "command",
                "state": "failed", "attempts": 1, "reason": "exit status 3",
            },
            {
                "task": "second", "workflow": "second", "kind": "command",
                "state": "blocked", "attempts": 0, "reason": "waits for first",
            },
            {
                "task": "third", "workflow": "third", "kind": "command",
                "state": "blocked", "attempts": 0, "reason": "waits for first and 1 more",
            },
        ],
    }  # fmt: skip


def test_task_whose_parents_all_succeeded_is_planned_not_blocked(tmp_path: Path) -> None:
    events = [*ran("first", TaskState.DONE), event_at(NOON, "second", 1, TaskState.CACHED)]
    assert states(read_status(made_run(tmp_path, events))) == {"first": "done", "second": "cached", "third": "planned"}


def test_run_without_a_journal_is_all_planned(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    run.journal.unlink()
    status = read_status(run)
    assert states(status) == {"first": "planned", "second": "blocked", "third": "blocked"}
    assert (status.state, status.started) == (RunState.INTERRUPTED, None)


def test_attempts_are_those_that_were_launched(tmp_path: Path) -> None:
    events = [
        *ran("first", TaskState.FAILED),
        event_at(NOON + 3, "first", 2, TaskState.PLANNED),
        event_at(NOON + 4, "first", 2, TaskState.QUEUED),
        event_at(NOON + 5, "first", 2, TaskState.CANCELLED),
        event_at(NOON + 6, "first", 3, TaskState.PLANNED),
    ]
    task = read_status(made_run(tmp_path, events)).tasks[0]
    assert (task.state, task.attempts, task.attempt) == (TaskState.PLANNED, 2, 2)


def test_run_with_a_live_holder_is_running(tmp_path: Path) -> None:
    run = made_run(tmp_path, [event for name in ("first", "second", "third") for event in ran(name, TaskState.DONE)])
    with held(run):
        status = read_status(run)
        assert (status.state, status.holder is not None) == (RunState.RUNNING, True)
    assert read_status(run).state is RunState.DONE


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (("done", "cached", "done"), RunState.DONE),
        (("failed", "skipped", "skipped"), RunState.FAILED),
        (("done", "invalid", "skipped"), RunState.FAILED),
        (("failed", "cancelled", "cancelled"), RunState.FAILED),
        (("cancelled", "skipped", "skipped"), RunState.CANCELLED),
        (("done", "cancelled", "cancelled"), RunState.CANCELLED),
        (("done", "done", "planned"), RunState.INTERRUPTED),
        (("done", "failed", "planned"), RunState.INTERRUPTED),
    ],
)
def test_state_of_the_run_follows_from_its_tasks(tmp_path: Path, ends: tuple[str, ...], expected: RunState) -> None:
    events = []
    for name, end in zip(("first", "second", "third"), ends, strict=True):
        state = TaskState(end)
        events += [event_at(NOON, name, 1, state)] if end in ("cached", "skipped", "planned") else ran(name, state)
    assert read_status(made_run(tmp_path, events)).state is expected


def launcher_says(run: RunDirectory, task: str, code: int) -> None:
    """The launcher's records of an attempt that ended while nobody watched."""
    end = {"code": code, "signal": None, "reason": None, "why": None, "peak_memory": 1, "cpu": 0.1, "leftover": 0}
    records = [
        {"event": "start", "at": NOON, "task": task, "attempt": 1, "pid": 4},
        {"event": "end", "at": NOON + 7, "task": task, "attempt": 1, **end},
    ]
    log_path(run).write_text("".join(json.dumps(record) + "\n" for record in records))


def launched(task: str) -> list[Event]:
    return [event_at(NOON, task, 1, TaskState.QUEUED), event_at(NOON, task, 1, TaskState.RUNNING)]


def test_end_that_only_the_launcher_saw_is_told(tmp_path: Path) -> None:
    run = made_run(tmp_path, launched("first"))
    launcher_says(run, "first", 3)

    task = read_status(run).tasks[0]

    assert (task.state, task.reason, task.runtime(time.time())) == (TaskState.FAILED, "exit status 3", 7.0)


def test_exit_status_0_without_the_declared_output_is_invalid_not_done(tmp_path: Path) -> None:
    run = made_run(tmp_path, launched("first"))  # second refers to made.txt, so first must leave it
    launcher_says(run, "first", 0)
    Path(run.partial(read_status(run).tasks[0].folder)).mkdir(parents=True)

    task = read_status(run).tasks[0]

    assert (task.state, task.reason) == (TaskState.INVALID, "the declared output made.txt is missing")


def test_exit_status_0_and_no_directory_left_is_invalid(tmp_path: Path) -> None:
    run = made_run(tmp_path, launched("first"))
    launcher_says(run, "first", 0)

    task = read_status(run).tasks[0]

    reason = "its directory has gone: the task, or somebody, removed it"
    assert (task.state, task.reason) == (TaskState.INVALID, reason)


@pytest.mark.parametrize("is_moved", [False, True])
def test_exit_status_0_with_the_declared_output_is_done(tmp_path: Path, is_moved: bool) -> None:
    run = made_run(tmp_path, launched("first"))
    launcher_says(run, "first", 0)
    task = read_status(run).tasks[0]
    folder = run.store / task.folder if is_moved else Path(run.partial(task.folder))
    folder.mkdir(parents=True)
    (folder / "made.txt").touch()
    if is_moved:
        (folder / "result.json").touch()

    assert states(read_status(run)) == {"first": "done", "second": "planned", "third": "blocked"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1}', None),
        ('{"a": NaN}', "the metric a is not a finite number"),
        ("[1]", "m.json holds list, not a table of metrics"),
        (None, "the declared metrics file m.json is missing"),
    ],
)
def test_metrics_count_for_what_is_told_done(tmp_path: Path, text: str | None, reason: str | None) -> None:
    campaign = '[campaign]\nname = "m"\n[campaign.a]\nkind = "command"\ncommand = ["true"]\nmetrics = "m.json"\n'
    run = made_run(tmp_path, launched("a"), campaign)
    launcher_says(run, "a", 0)
    folder = Path(run.partial(read_status(run).tasks[0].folder))
    folder.mkdir(parents=True)
    if text is not None:
        (folder / "m.json").write_text(text)

    task = read_status(run).tasks[0]

    assert (task.state, task.reason) == (TaskState.DONE if reason is None else TaskState.INVALID, reason)


def test_task_nobody_knows_is_lost_and_the_run_interrupted_not_failed(tmp_path: Path) -> None:
    text = '[campaign]\nname = "m"\n[campaign.a]\nkind = "command"\ncommand = ["true"]\n'
    status = read_status(made_run(tmp_path, launched("a"), text))
    assert (states(status), status.state) == ({"a": "lost"}, RunState.INTERRUPTED)
    assert status.last_news == "2027-01-15T08:00:00.000000Z"


def test_launcher_is_not_asked_while_the_holder_lives(tmp_path: Path) -> None:
    run = made_run(tmp_path, launched("first"))
    with held(run):
        assert states(read_status(run))["first"] == "running"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "damaged (KeyError: 'schema'); submit the campaign again to write it anew"),
        ('{"schema": 1}', "damaged (KeyError: 'tasks'); submit the campaign again to write it anew"),
        ('{"schema": 2}', "plan schema 2, this program reads 1"),
    ],
)
def test_damaged_plan_is_named(tmp_path: Path, text: str, message: str) -> None:
    run = made_run(tmp_path)
    run.plan.write_text(text)
    with pytest.raises(StoreError) as raised:
        read_status(run)
    assert str(raised.value) == f"{run.plan}: {message}"


def test_task_is_found_by_its_name_or_by_its_workflows(tmp_path: Path) -> None:
    text = CHAIN + '[campaign.each]\nkind = "command"\ncommand = ["true"]\nfor_each = "first"\n'
    status = read_status(made_run(tmp_path, text=text))
    assert find_task(status, "each").task == "each"
    with pytest.raises(UsageError) as raised:
        find_task(status, "thrid")
    there = "each, first, second, third"
    assert str(raised.value) == f"'thrid' is no task of {status.run}; there are: {there}; did you mean 'third'?"


PARTS = "".join(f'[campaign.part.{name}]\nkind = "command"\ncommand = ["echo", "{name}"]\n' for name in "abcd")


def test_time_left_is_the_remaining_work_over_the_cores(tmp_path: Path) -> None:
    events = ran("part.a", TaskState.DONE, seconds=10.0)
    status = read_status(made_run(tmp_path, events, f'[campaign]\nname = "parts"\n{PARTS}'))
    assert time_left(status, NOON + 10) == 3 * 10.0 / 2


def test_time_left_is_no_shorter_than_the_longest_chain(tmp_path: Path) -> None:
    last = '[campaign.part.e]\nkind = "command"\ncommand = ["true"]\ndepends_on = ["part.b"]\n'
    events = [
        *ran("part.a", TaskState.DONE, seconds=10.0),
        *ran("part.c", TaskState.DONE, seconds=10.0),
        *ran("part.d", TaskState.DONE, seconds=10.0),
        *launched("part.b"),
    ]
    run = made_run(tmp_path, events, f'[campaign]\nname = "parts"\n{PARTS}{last}')
    with held(run):
        assert time_left(read_status(run), NOON + 4) == 6.0 + 10.0


SIZED = """
[campaign]
name = "sized"
deadline = "1 h"
[campaign.wide]
kind = "command"
command = ["true"]
resources = { runtime = "30 min", memory = "6 GiB" }
[campaign.other]
kind = "command"
command = ["true", "other"]
resources = { runtime = "30 min", memory = "6 GiB" }
[campaign.last]
kind = "command"
command = ["true", "last"]
resources = { runtime = "10 min" }
depends_on = ["wide"]
"""


def test_time_left_of_what_has_not_run_is_what_was_planned_on_the_busiest_resource(tmp_path: Path) -> None:
    run = made_run(tmp_path, launched("wide"), SIZED)
    with held(run):
        status = read_status(run)
    memory = (30 + 25) * 60 * 6 / 8  # two tasks of 6 GiB each on 8 GiB, the one that runs 5 min old
    assert forecast(status, NOON + 300) == Forecast(left=memory, deadline=3300.0)
    assert memory > 25 * 60 + 10 * 60  # the longest chain


def test_a_deadline_that_will_be_missed_says_so(tmp_path: Path) -> None:
    run = made_run(tmp_path, launched("wide"), SIZED.replace("1 h", "20 min"))
    with held(run):
        found = forecast(read_status(run), NOON + 300)
    assert (found.deadline, found.margin) == (900.0, 900.0 - 2475.0)
    assert found.to_json() == {"time_left_seconds": 2475.0, "deadline_in_seconds": 900.0, "deadline_holds": False}


def test_a_run_that_ended_kept_its_deadline_or_did_not(tmp_path: Path) -> None:
    events = [event for name in ("wide", "other", "last") for event in ran(name, TaskState.DONE, seconds=600.0)]
    for name, text, deadline in (("kept", SIZED, 3000.0), ("missed", SIZED.replace("1 h", "5 min"), -300.0)):
        (tmp_path / name).mkdir()
        status = read_status(made_run(tmp_path / name, events, text))
        assert forecast(status, NOON + 10**6) == Forecast(left=0.0, deadline=deadline)


@pytest.mark.parametrize("end", [TaskState.FAILED, TaskState.CANCELLED])
def test_a_run_that_ended_without_its_results_has_kept_no_deadline(tmp_path: Path, end: TaskState) -> None:
    events = [*ran("wide", TaskState.DONE), *ran("other", end), *ran("last", TaskState.DONE)]
    status = read_status(made_run(tmp_path, events, SIZED))
    assert forecast(status, NOON + 600) == Forecast(left=None, deadline=3000.0)
    assert forecast(status, NOON + 600).to_json()["deadline_holds"] is None


@pytest.mark.parametrize(
    ("until", "told"),
    [
        ("2020-11-21T21:00:00.000000Z", "held until Sat 22:00 CET; degraded: no window .*"),
        ("9020-11-21T21:00:00.000000Z", r"held until Sat 22:00 CET \(in \d{7} d \d\d h\); degraded: no window .*"),
    ],
)
def test_how_long_a_task_is_held_is_told_from_now_on(tmp_path: Path, until: str, told: str) -> None:
    reason = "held until Sat 22:00 CET (in 12 h 00 min); degraded: no window (until Sunday) is long enough"
    run = made_run(tmp_path, [event_at(NOON, "wide", 1, TaskState.HELD, until=until, reason=reason)], SIZED)
    (line,) = (line for line in map(click.unstyle, screen(read_status(run))) if line.startswith("wide"))
    assert re.fullmatch(told, line.split(maxsplit=4)[4])


def test_a_task_that_is_held_is_not_expected_to_start_before(tmp_path: Path) -> None:
    until = format_instant(NOON + 7200)
    run = made_run(tmp_path, [event_at(NOON, "other", 1, TaskState.HELD, until=until)], SIZED)
    with held(run):
        found = forecast(read_status(run), NOON)
    assert found.left == 7200 + 1800
    assert found.margin == 3600 - 9000


def test_time_left_is_unknown_while_nothing_alike_has_finished(tmp_path: Path) -> None:
    status = read_status(made_run(tmp_path, ran("first", TaskState.DONE)))
    assert time_left(status, NOON + 2) is None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(), st.lists, max_leaves=8))
def test_finite_json_reads_what_is_finite_and_refuses_the_rest(value: object) -> None:
    text = json.dumps(value)
    if "NaN" in text or "Infinity" in text:
        with pytest.raises(ValueError, match="is not a finite number"):
            finite_json(text.encode())
    else:
        assert finite_json(text.encode()) == value


def test_number_too_large_for_a_double_is_not_finite() -> None:
    with pytest.raises(ValueError, match=r"^1e999 is not a finite number$"):
        finite_json(b"1e999")
