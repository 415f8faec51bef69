"""``campaign plan`` as a schedule: on this machine, and on the partitions of a machine file."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_runs import campaign

from socm_like.openings import Openings
from socm_like.window import NoWindowError, WindowTable, choose_start

FOUR = """
[campaign]
name = "four"
[execution]
cores = 2
[campaign.first]
kind = "command"
command = "true {n}"
sweep.n = [1, 2, 3]
resources = { runtime = "1 h" }
[campaign.last]
kind = "command"
command = "true"
depends_on = ["first"]
resources = { runtime = "30 min", threads = 2 }
"""

MACHINE = """
name = "small"
scheduler = "slurm"
[nodes.cpu]
count = 4
cores = 1
memory = "8 GiB"
[nodes.fat]
count = 2
cores = 2
memory = "64 GiB"
[partitions.thin]
nodes = "cpu"
walltime = "4 h"
[partitions.wide]
nodes = "fat"
walltime = "2 h"
cost_per_node_hour = 2.0
"""


def shown(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_a_plan_tells_the_schedule_its_bound_and_what_is_busy(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "plan", text=FOUR)
    assert answer.returncode == 0
    assert shown(answer.stdout)[-4:] == [
        "critical path 1 h 30 min: first[n=1] -> last",
        "at least 2 h 00 min on 2 cores (cores)",
        "planned 2 h 30 min, cores 80 % busy, 2.5 node-hours",
        "cores are idle 20% of the time: 20% while no ready job waited: from 1 h 00 min on only running jobs and what "
        "depends on them are left, 'last' ends last",
    ]
    data = json.loads(campaign(tmp_path, "plan", "--json").stdout)
    assert data["schedule"]["makespan_seconds"] == 9000
    assert data["schedule"]["lower_bound_seconds"] == 7200
    times = {task["task"]: (task["start"], task["end"]) for task in data["tasks"]}
    assert times["last"] == (7200, 9000)
    assert sorted(times[f"first[n={n}]"] for n in (1, 2, 3)) == [(0, 3600), (0, 3600), (3600, 7200)]


@pytest.mark.parametrize(
    ("deadline", "status", "verdict"),
    [
        ("3 h", 0, "met"),
        ("1 h", 1, "cannot be met"),
        ("80 min", 1, "cannot be met"),
        ("130 min", 1, "missed by this plan"),
    ],
)
def test_a_deadline_that_the_plan_does_not_keep_is_exit_status_1(
    tmp_path: Path, deadline: str, status: int, verdict: str
) -> None:
    answer = campaign(tmp_path, "plan", "--set", f'campaign.deadline="{deadline}"', text=FOUR)
    assert (answer.returncode, shown(answer.stdout)[-1].partition(": ")[2]) == (status, verdict)


def test_a_machine_file_is_planned_for_partition_by_partition(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(MACHINE)
    words = ("plan", "--machine", "./small.toml", "--set", 'campaign.deadline="2 h"')
    answer = campaign(tmp_path, *words, text=FOUR)
    assert answer.returncode == 0, answer.stderr
    assert shown(answer.stdout) == [
        "four on small: 4 tasks",
        "thin up to 4 nodes of 1 cores, 8 GiB, 4 h 00 min at a time",
        "cannot run it: last: asks 2 cores on one node, cpu has 1",
        "wide up to 2 nodes of 2 cores, 64 GiB, 2 h 00 min at a time",
        "nodes takes node-hours of the bound allocations cost",
        "1 2 h 30 min 2.5 1.25 2 5",
        "2 1 h 30 min 3 1.00 1 6",
        "deadline 2 h 00 min: 2 nodes take 1 h 30 min, 3 node-hours",
        "take wide, 2 nodes in 1 allocation of 1 h 30 min: 1 h 30 min of 2 h 00 min, 3 node-hours, cost 6",
    ]
    data = json.loads(campaign(tmp_path, *words, "--json").stdout)
    thin, wide = data["partitions"]
    assert (thin["problem"], wide["recommended_nodes"]) == ("last: asks 2 cores on one node, cpu has 1", 2)
    assert data["recommendation"] == {
        "partition": "wide", "nodes": 2, "allocations": 1, "walltime_seconds": 5400.0, "makespan_seconds": 5400.0,
        "node_hours": 3.0, "cost": 6.0,
    }  # fmt: skip


def test_a_deadline_shorter_than_the_critical_path_names_the_chain(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(MACHINE)
    answer = campaign(tmp_path, "plan", "--machine", "./small.toml", "--set", 'campaign.deadline="1 h"', text=FOUR)
    assert answer.returncode == 1
    said = "the chain first[n=1] -> last alone takes 1 h 30 min, the deadline is 1 h 00 min"
    assert shown(answer.stdout)[-2:] == [
        f"deadline cannot be kept 1 h 00 min: {said}",
        "no partition of small keeps the deadline of 1 h 00 min",
    ]


def test_a_machine_that_is_not_there_is_exit_status_2(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "plan", "--machine", "perlmuter", text=FOUR)
    assert answer.returncode == 2
    assert "did you mean 'perlmutter'?" in answer.stderr


def test_the_schedule_is_drawn_for_this_machine(tmp_path: Path) -> None:
    assert campaign(tmp_path, "plan", "--figure", "plan.svg", text=FOUR).returncode == 0
    root = ElementTree.fromstring((tmp_path / "plan.svg").read_text())
    titles = [title.text or "" for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sum(title.startswith("first[n=") for title in titles) == 3
    answer = campaign(tmp_path, "plan", "--figure", "plan.svg", "--machine", "laptop")
    assert (answer.returncode, answer.stderr.strip()) == (
        2,
        "--figure draws the plan for one node; with --simulate it draws laptop",
    )


LIMITED = """
name = "limited"
scheduler = "slurm"
[nodes.cpu]
count = 4
cores = 2
memory = "8 GiB"
[partitions.few]
nodes = "cpu"
walltime = "1 d"
min_nodes = 3
max_cores = 4
[partitions.part]
nodes = "cpu"
walltime = "1 d"
max_cores = 1
[partitions.short]
nodes = "cpu"
walltime = "90 min"
[partitions.dear]
nodes = "cpu"
walltime = "1 d"
cost_per_node_hour = 3.0
[partitions.large]
nodes = "cpu"
walltime = "1 d"
min_nodes = 3
"""


def test_every_limit_of_a_partition_is_kept_and_the_cheapest_is_taken(tmp_path: Path) -> None:
    (tmp_path / "limited.toml").write_text(LIMITED)
    words = ("plan", "--machine", "./limited.toml", "--set", 'campaign.deadline="3 h"')
    answer = campaign(tmp_path, *words, text=FOUR)
    assert answer.returncode == 0, answer.stderr
    assert shown(answer.stdout)[1:6] == [
        "few at least 3 nodes of 2 cores, 8 GiB, 1 d 00 h at a time",
        "cannot run it: an allocation has 3 nodes or more here, max_cores 4 allows 2",
        "part up to 1 node of 1 cores, 4 GiB, 1 d 00 h at a time",
        "cannot run it: last: asks 2 cores on one node, cpu has 1",
        "short up to 4 nodes of 2 cores, 8 GiB, 1 h 30 min at a time",
    ]
    data = json.loads(campaign(tmp_path, *words, "--json").stdout)
    assert {offer["partition"]: offer["recommended_nodes"] for offer in data["partitions"]} == {
        "few": None, "part": None, "short": 1, "dear": 1, "large": 3,
    }  # fmt: skip
    found = data["recommendation"]
    assert (found["partition"], found["nodes"], found["allocations"], found["node_hours"]) == ("short", 1, 2, 2.5)


def test_an_impossible_request_names_task_resource_and_reason_for_each_partition(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(MACHINE)
    text = FOUR.replace("threads = 2", 'threads = 64, memory = "100 GiB"').replace('"1 h"', '"3 h"')
    answer = campaign(tmp_path, "plan", "--machine", "./small.toml", text=text)
    assert (answer.returncode, answer.stderr) == (1, "")
    assert shown(answer.stdout) == [
        "four on small: 4 tasks",
        "thin up to 4 nodes of 1 cores, 8 GiB, 4 h 00 min at a time",
        "cannot run it: last: asks 64 cores on one node, cpu has 1; asks 100 GiB of memory on one node, cpu has 8 GiB",
        "wide up to 2 nodes of 2 cores, 64 GiB, 2 h 00 min at a time",
        "cannot run it: first[n=1] and 2 more tasks: takes 3 h 00 min, the walltime is 2 h 00 min",
        "last: asks 64 cores on one node, fat has 2; asks 100 GiB of memory on one node, fat has 64 GiB",
        "no partition of small can run it",
    ]


def test_a_machine_without_partitions_offers_its_nodes(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "plan", "--machine", "laptop", text=FOUR)
    assert answer.returncode == 0
    assert shown(answer.stdout)[1:] == [
        "laptop up to 1 node of 8 cores, 16 GiB",
        "nodes takes node-hours of the bound allocations cost",
        "1 1 h 30 min 1.5 1.00 1 -",
        'without a deadline nothing is recommended; write one, as deadline = "12 h"',
    ]


def test_a_budget_that_the_plan_exceeds_is_told_and_is_exit_status_1(tmp_path: Path) -> None:
    for hours, status in ((4, 0), (3.5, 1)):
        answer = campaign(tmp_path, "plan", text=FOUR + f"[schedule]\ncore_hours = {hours}\n")
        told = f"budget {hours:g} core-hours: this plan takes 4"
        assert (answer.returncode, shown(answer.stdout)[-1]) == (status, told)
    (tmp_path / "small.toml").write_text(MACHINE)
    answer = campaign(tmp_path, "plan", "--machine", "./small.toml")
    assert (answer.returncode, "budget 3.5 core-hours: this plan takes 4" in answer.stdout) == (1, True)


POLICY = """
[schedule]
priorities = { late = 3 }
concurrency = { first = 1 }
[campaign.late]
kind = "command"
command = "true"
resources = { runtime = "30 min", threads = 2 }
"""


def test_the_plan_keeps_priorities_and_caps(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "plan", text=FOUR + POLICY)
    assert answer.returncode == 0, answer.stderr
    assert "at least 3 h 30 min on 2 cores (concurrency of first)" in shown(answer.stdout)
    data = json.loads(campaign(tmp_path, "plan", "--json").stdout)
    times = {task["task"]: (task["start"], task["end"]) for task in data["tasks"]}
    assert times["late"] == (0, 1800)
    assert sorted(times[f"first[n={n}]"][0] for n in (1, 2, 3)) == [1800, 5400, 9000]


def test_a_task_that_no_window_will_hold_is_named_and_is_exit_status_1(tmp_path: Path) -> None:
    window = '[schedule]\npreferred_hours = "22:00-22:40"\ntimezone = "UTC"\non_unsatisfied = "fail"\n'
    answer = campaign(tmp_path, "plan", text=FOUR + window)
    lines = shown(answer.stdout)
    assert answer.returncode == 1
    assert "no window 3 tasks will fail; 1 that depend on them are skipped" in lines
    assert lines[-3].startswith("first[n=1]: no window until ")
    assert "holds 1 h 00 min (the longest is 40 min 00 s, from " in lines[-3]
    data = json.loads(campaign(tmp_path, "plan", "--json").stdout)
    assert len(data["no_window"]) == 3
    assert {task["start"] for task in data["tasks"]} == {None}


GERMAN = WindowTable(timezone="Europe/Berlin")
MONDAY = datetime(2026, 1, 5, 9, tzinfo=UTC)
HOUR = 3600.0


def test_the_plan_holds_tasks_as_the_runner_would() -> None:
    openings = Openings(GERMAN, MONDAY)
    assert openings.release(0, 9 * HOUR) == 12 * HOUR  # 22:00 in Berlin
    assert openings.release(21 * HOUR, 2 * HOUR) == 36 * HOUR  # one hour of the night is left
    assert openings.split(0, 12 * HOUR) == (12 * HOUR, 22 * HOUR)
    assert openings.split(22 * HOUR, 2 * HOUR) == (36 * HOUR, math.inf)


@given(
    st.sampled_from([
        GERMAN,
        WindowTable(timezone="Europe/Berlin", weekends=True, max_wait=timedelta(hours=48)),
        WindowTable(timezone="America/New_York", on_unsatisfied="fail", max_wait=timedelta(hours=5)),
        WindowTable(timezone="UTC", preferred_hours=("01:00-03:00", "12:00-12:30"), on_unsatisfied="wait"),
        WindowTable(timezone="UTC", preferred_hours=(), holidays=(date(2026, 3, 3),), on_unsatisfied="wait"),
    ]),
    st.floats(0, 40 * 24 * HOUR),
    st.one_of(st.floats(1, 15 * HOUR), st.sampled_from([2 * HOUR, 9 * HOUR, 10 * HOUR, 11 * HOUR])),
    st.booleans(),
)  # fmt: skip
def test_openings_agree_with_the_decisions_of_the_window(
    window: WindowTable, ready: float, seconds: float, restartable: bool
) -> None:
    now = datetime(2026, 2, 20, 7, 13, tzinfo=UTC)
    openings = Openings(window, now)
    openings.release(0.0, 60.0)  # it remembers what it has seen
    start, stop = openings.split(ready, seconds) if restartable else (openings.release(ready, seconds), math.inf)
    try:
        decision = choose_start(
            now + timedelta(seconds=ready), timedelta(seconds=seconds), window, restartable=restartable
        )
    except NoWindowError:
        assert (start, stop) == (math.inf, math.inf)
        return
    assert start == pytest.approx((decision.start - now).total_seconds(), abs=1e-5)
    if len(decision.pieces) > 1:
        assert stop == pytest.approx((decision.pieces[0].end - now).total_seconds(), abs=1e-5)
    else:
        assert stop == math.inf


def test_closed_hours_are_what_the_window_leaves_out() -> None:
    openings = Openings(GERMAN, MONDAY)
    assert openings.closed(23 * HOUR) == ((0.0, 12 * HOUR), (22 * HOUR, 23 * HOUR))
    assert openings.closed(20 * HOUR) == ((0.0, 12 * HOUR),)
    assert Openings(GERMAN, MONDAY + timedelta(hours=12)).closed(9 * HOUR) == ()


def test_a_plan_goes_on_from_what_is_cached(tmp_path: Path) -> None:
    budget = "[schedule]\ncore_hours = 3.0\n"
    assert campaign(tmp_path, "plan", text=FOUR + budget).returncode == 1
    assert campaign(tmp_path, "submit", text=FOUR.replace("1, 2, 3", "1, 2")).returncode == 0
    answer = campaign(tmp_path, "plan", text=FOUR + budget)
    lines = shown(answer.stdout)
    assert "cached 2 of 4 tasks are cached and take no time" in lines
    assert "critical path 1 h 30 min: first[n=3] -> last" in lines
    assert answer.returncode == 0
    data = json.loads(campaign(tmp_path, "plan", "--json").stdout)
    assert data["core_hours"] == 2.0
    assert data["schedule"]["makespan_seconds"] == 5400
    assert {task["task"]: task["cached"] for task in data["tasks"]} == {
        "first[n=1]": True, "first[n=2]": True, "first[n=3]": False, "last": False,
    }  # fmt: skip
