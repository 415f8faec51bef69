"""``campaign plan`` as a schedule: on this machine, and on the partitions of a machine file."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from real_runs import campaign

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
    ("deadline", "status", "verdict"), [("3 h", 0, "met"), ("1 h", 1, "cannot be met"), ("80 min", 1, "cannot be met")]
)
def test_a_deadline_that_no_schedule_keeps_is_exit_status_1(
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
    ]
    thin, wide = json.loads(campaign(tmp_path, *words, "--json").stdout)
    assert (thin["problem"], wide["recommended_nodes"]) == ("last: asks 2 cores on one node, cpu has 1", 2)


def test_a_deadline_shorter_than_the_critical_path_names_the_chain(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(MACHINE)
    answer = campaign(tmp_path, "plan", "--machine", "./small.toml", "--set", 'campaign.deadline="1 h"', text=FOUR)
    assert answer.returncode == 1
    said = "the chain first[n=1] -> last alone takes 1 h 30 min, the deadline is 1 h 00 min"
    assert shown(answer.stdout)[-1] == f"deadline cannot be kept 1 h 00 min: {said}"


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
        "--figure draws the plan for this machine; leave --machine out",
    )
