"""``[schedule]``: priorities, tasks at once, core-hours; what the user reads when it is too much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from real_runs import campaign, reasons, states

from socm_like.journal import Event, Record, TaskState, event_at
from socm_like.policy import Policy
from socm_like.quota import Quota
from socm_like.resources import Resources
from socm_like.task import Task
from socm_like.units import parse_instant


def journal(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob("runs/campaigns/*/journal.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


def started(folder: Path) -> list[str]:
    """Return the names of the tasks in the order in which they began."""
    return [event["task"] for event in journal(folder) if event["state"] == "running"]


def most_at_once(folder: Path, prefix: str) -> int:
    """Return how many tasks of a workflow ran at the same time at the most."""
    changes = []
    for event in journal(folder):
        if event["task"].startswith(prefix) and event["state"] in ("running", "done"):
            changes.append((parse_instant(event["at"]), 1 if event["state"] == "running" else -1))
    most = running = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


THREE = """
[campaign]
[execution]
cores = {cores}
batch_size = 1
[campaign.slow]
kind = "command"
command = "sleep 0.05 {{note}}"
[campaign.slow.sweep]
note = ["0", "0.01", "0.02", "0.03", "0.04", "0.05"]
[campaign.urgent]
kind = "command"
command = "sleep 0.3"
[campaign.before]
kind = "command"
command = "true before"
[campaign.after]
kind = "command"
command = "true after"
depends_on = ["before"]
[schedule]
"""


def test_what_has_priority_and_what_it_waits_for_start_first(tmp_path: Path) -> None:
    text = THREE.format(cores=1) + "priorities = { urgent = 2, after = 3 }\n"
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    order = started(tmp_path)
    assert order[0] == "before"
    assert set(order[:3]) == {"before", "after", "urgent"}  # the next starts before the runner knows who is free now


@pytest.mark.parametrize("cap", [1, 2])
def test_no_more_tasks_of_a_workflow_run_at_once_than_its_cap(tmp_path: Path, cap: int) -> None:
    text = THREE.format(cores=2) + f"concurrency = {{ slow = {cap} }}\n"
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    assert most_at_once(tmp_path, "slow") == cap
    assert set(states(tmp_path).values()) == {"done"}


def test_tasks_beyond_the_budget_are_cancelled_with_what_to_do_and_run_once_it_is_raised(tmp_path: Path) -> None:
    text = """
[campaign]
[campaign.first]
kind = "command"
command = "true"
resources = { runtime = "30 min" }
[campaign.second]
kind = "command"
command = "true"
depends_on = ["first"]
resources = { runtime = "2 h" }
[campaign.third]
kind = "command"
command = "true"
depends_on = ["second"]
[schedule]
core_hours = 1
"""
    answer = campaign(tmp_path, "submit", text=text)
    assert answer.returncode == 1
    assert states(tmp_path) == {"first": "done", "second": "cancelled", "third": "skipped"}
    reason = reasons(tmp_path)["second"]
    assert "of 1 core-hours are used, and it may take 1 core for 2 h" in reason
    assert reason.endswith("raise [schedule] core_hours and submit again")
    assert campaign(tmp_path, "submit", text=text.replace("core_hours = 1", "core_hours = 3")).returncode == 0
    assert set(states(tmp_path).values()) == {"done"}


def test_faults_of_the_table_are_told_with_what_is_meant(tmp_path: Path) -> None:
    text = """
[campaign]
[campaign.maps]
kind = "command"
command = "true"
[schedule]
prioritys = { maps = 1 }
priorities = { maps = 1.5 }
concurrency = { map = 2 }
core_hours = 0
"""
    answer = campaign(tmp_path, "check", text=text)
    assert answer.returncode == 2
    assert answer.stderr.splitlines() == [
        "campaign.toml:7: schedule: unknown key 'prioritys'; allowed: concurrency, core_hours, holidays, max_wait, "
        "on_unsatisfied, preferred_hours, priorities, timezone, weekends; did you mean 'priorities'?",
        "campaign.toml:8: schedule: priorities.maps: write a whole number, got 1.5",
        "campaign.toml:9: schedule: concurrency: no workflow or group 'map'; there are: maps; did you mean 'maps'?",
        "campaign.toml:10: schedule: core_hours: input should be greater than 0, got 0",
    ]


def test_priorities_without_hours_do_not_wait_for_the_night(tmp_path: Path) -> None:
    text = THREE.format(cores=2) + "priorities = { slow = 1 }\n"
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    assert not [event for event in journal(tmp_path) if event["state"] == "held"]


def test_room_under_a_cap_is_passed_on_by_a_task_that_need_not_run(tmp_path: Path) -> None:
    text = """
[campaign]
[schedule.concurrency]
g = 1
[campaign.g]
kind = "command"
a.command = "true a"
b.command = "true b"
b2.command = "true b"
c.command = "true c"
"""
    answer = campaign(tmp_path, "submit", text=text)
    assert answer.returncode == 0
    assert states(tmp_path) == {"g.a": "done", "g.b": "done", "g.b2": "cached", "g.c": "done"}


# the quota by itself


def task(name: str, workflow: str = "w", *, cores: int = 1, seconds: float | None = None) -> Task:
    asked = {"threads": cores, **({} if seconds is None else {"runtime": f"{seconds} s"})}
    return Task(
        name=name, workflow=workflow, kind="command", id=name, folder=name, dependencies=(), argv=(), environment={},
        resources=Resources.model_validate(asked), outputs={}, metrics="", restartable=False, parameters={}, fields={},
    )  # fmt: skip


def ran(name: str, seconds: float, **detail: Any) -> list[Event]:
    return [event_at(0.0, name, 1, TaskState.RUNNING), event_at(seconds, name, 1, TaskState.DONE, **detail)]


def test_cores_times_the_time_that_attempts_ran_count_against_the_budget() -> None:
    tasks = {name: task(name, cores=2, seconds=1800) for name in "ab"}
    enough = Quota(Policy(core_hours=2.0), tasks, ran("a", 1800))
    assert enough.start(tasks["b"], Record())
    short = Quota(Policy(core_hours=1.9), tasks, ran("a", 1800))
    assert not short.start(tasks["b"], Record())
    ((name, why),) = short.refused()
    assert name == "b"
    assert why.startswith("1 of 1.9 core-hours are used, and it may take 2 cores for 30 min")


def test_tasks_that_shared_a_process_share_its_hours() -> None:
    tasks = {name: task(name, seconds=1800) for name in "abc"}
    events = [*ran("a", 3600, shared_by=2), *ran("b", 3600, shared_by=2)]
    assert Quota(Policy(core_hours=1.5), tasks, events).start(tasks["c"], Record())
    assert not Quota(Policy(core_hours=1.4), tasks, events).start(tasks["c"], Record())


def test_room_that_a_task_under_two_caps_cannot_use_goes_to_the_next() -> None:
    policy = Policy(concurrency={"g": 2, "g.a": 1})
    tasks = {name: task(name, workflow) for name, workflow in (("a1", "g.a"), ("a2", "g.a"), ("b1", "g.b"))}
    tasks["b2"] = task("b2", "g.b")
    quota = Quota(policy, tasks)
    assert quota.start(tasks["a1"], Record())
    assert quota.start(tasks["b1"], Record())
    assert not quota.start(tasks["a2"], Record())  # a1 has the one place of g.a, and g is full
    assert not quota.start(tasks["b2"], Record())
    quota.end(tasks["b1"])
    free = quota.released()
    while free:
        for name in free:
            quota.start(tasks[name], Record())
        free = quota.released()
    quota.end(tasks["a1"])
    assert quota.released() == ["a2"]
    assert quota.refused() == []  # b2 runs: the place that a2 could not take was its


def test_a_task_in_pieces_wants_no_more_of_the_budget_than_the_pieces_that_are_left() -> None:
    tasks = {"a": task("a", seconds=7200)}
    record = Record()
    record.apply(event_at(3600.0, "a", 2, TaskState.PLANNED, pieces=[[7200.0, 3600.0]]))
    first = [event_at(0.0, "a", 1, TaskState.RUNNING), event_at(3600.0, "a", 1, TaskState.TIMEOUT)]
    assert Quota(Policy(core_hours=2.0), tasks, first).start(tasks["a"], record)
    assert not Quota(Policy(core_hours=1.9), tasks, first).start(tasks["a"], record)


def test_of_tasks_beyond_the_budget_only_those_are_looked_at_again_that_it_has_room_for() -> None:
    tasks = {name: task(name, seconds=3600) for name in "abcde"}
    quota = Quota(Policy(core_hours=2.0), tasks)
    assert [quota.start(each, Record()) for each in tasks.values()] == [True, True, False, False, False]
    assert quota.released() == []
    quota.end(tasks["a"])
    assert quota.released() == ["c"]


def test_the_caps_of_a_workflow_are_its_own_and_those_of_its_groups() -> None:
    policy = Policy(priorities={"g": 3, "g.a": 1}, concurrency={"g": 2, "g.a.b": 1})
    assert (policy.priority("g.a.b"), policy.priority("g.c"), policy.priority("h")) == (1, 3, 0)
    assert policy.caps("g.a.b") == ("g.a.b", "g")
    assert not Policy()
