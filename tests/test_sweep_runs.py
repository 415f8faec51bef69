"""Whole sweeps, run: what fails fails alone, what is there is not computed again, and the tables say it."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path

from real_runs import campaign, reasons, states, status

PLUGIN = '''
import os
from pathlib import Path

from socm_like import Result, Workflow


class Probe(Workflow):
    """Does what it is told to."""

    x: int
    deed: str = "work"

    def run(self, directory: Path) -> Result:
        with open(Path(__file__).parent / "executions", "a") as file:
            file.write(f"{self.x} {self.deed}\\n")
        if self.deed == "raise" and not (Path(__file__).parent / "mended").exists():
            raise ValueError(f"no value for x = {self.x}")
        if self.deed == "nan":
            return Result(metrics={"loss": float("nan")})
        if self.deed == "segv":
            os.abort()
        return Result(metrics={"loss": self.x**2})
'''

CAMPAIGN = """
[campaign]
name = "probes"
plugins = ["probe.py"]

[campaign.probe.sweep]
x = [1, 2, 3]
deed = ["work", "raise", "nan", "segv"]
where = "deed == 'work' or x == 2"

[campaign.after]
kind = "command"
for_each = "probe"
command = ["echo", "{x}", "{deed}", "output://probe/result.json"]
"""


def probes(folder: Path, text: str = CAMPAIGN) -> Path:
    (folder / "probe.py").write_text(PLUGIN)
    (folder / "campaign.toml").write_text(text)
    return folder


def executions(folder: Path) -> list[str]:
    return sorted((folder / "executions").read_text().splitlines())


def test_what_fails_in_a_sweep_fails_alone_and_retry_runs_just_that(tmp_path: Path) -> None:
    answer = campaign(probes(tmp_path), "submit")
    assert answer.returncode == 1
    assert ": 6 done, 2 failed, 1 invalid, 3 skipped" in answer.stdout
    assert {task: state for task, state in states(tmp_path).items() if task.startswith("probe")} == {
        "probe[x=1,deed=work]": "done",
        "probe[x=2,deed=work]": "done",
        "probe[x=3,deed=work]": "done",
        "probe[x=2,deed=raise]": "failed",
        "probe[x=2,deed=nan]": "invalid",
        "probe[x=2,deed=segv]": "failed",
    }
    why = reasons(tmp_path)
    assert why["probe[x=2,deed=raise]"] == "ValueError: no value for x = 2"
    assert why["probe[x=2,deed=nan]"] == "metric loss is nan"
    assert why["probe[x=2,deed=segv]"] == "signal 6 (SIGABRT)"
    assert why["after[x=2,deed=nan]"] == "needs probe[x=2,deed=nan], which is invalid"
    assert executions(tmp_path) == ["1 work", "2 nan", "2 raise", "2 segv", "2 work", "3 work"]

    (tmp_path / "mended").touch()
    (tmp_path / "executions").unlink()
    answer = campaign(tmp_path, "retry")
    assert answer.returncode == 1
    assert executions(tmp_path) == ["2 nan", "2 raise", "2 segv"]
    assert status(tmp_path)["counts"] == {"done": 8, "failed": 1, "invalid": 1, "skipped": 2}
    assert states(tmp_path)["after[x=2,deed=raise]"] == "done"


def test_values_of_ancestors_reach_descendants_in_words_and_in_tables(tmp_path: Path) -> None:
    probes(tmp_path, CAMPAIGN.replace('deed = ["work", "raise", "nan", "segv"]', 'deed = ["work"]'))
    assert campaign(tmp_path, "submit").returncode == 0
    assert campaign(tmp_path, "logs", "after[x=3,deed=work]", "--out").stdout.startswith("3 work /")
    rows = {row["task"]: row for row in csv.DictReader(io.StringIO(campaign(tmp_path, "results", "--csv").stdout))}
    assert rows["after[x=3,deed=work]"]["probe.x"] == "3"
    assert rows["probe[x=3,deed=work]"]["loss"] == "9"
    shown = campaign(tmp_path, "results", "--workflow", "probe", "--markdown").stdout
    assert shown.splitlines()[0].startswith("| task | x |")


def test_a_value_more_computes_its_own_tasks_only_and_a_file_with_the_same_tasks_none(tmp_path: Path) -> None:
    text = CAMPAIGN.replace('deed = ["work", "raise", "nan", "segv"]', 'deed = ["work"]').replace(
        "\n[campaign.after]", "\n[campaign.other]\nkind = 'probe'\nx = 2\n[campaign.after]"
    )
    assert campaign(probes(tmp_path, text), "submit").returncode == 0
    assert executions(tmp_path) == ["1 work", "2 work", "3 work"]  # `other` wants what the sweep computes

    more = "campaign.probe.sweep.x=[7, 3, 2, 1]"
    assert campaign(tmp_path, "submit", "--set", more).returncode == 0
    assert executions(tmp_path) == ["1 work", "2 work", "3 work", "7 work"]
    assert status(tmp_path)["counts"] == {"cached": 7, "done": 2}

    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in ("probe.py", "campaign.toml"):
        shutil.move(tmp_path / file, moved / file)
    answer = campaign(moved, "submit", "--store", str(tmp_path / "runs"), "--set", 'campaign.name="another"')
    assert answer.returncode == 0
    assert not (moved / "executions").exists()
    assert ": 7 cached" in answer.stdout


def test_tasks_that_differ_only_in_a_parameter_below_equal_bytes_stay_apart(tmp_path: Path) -> None:
    text = f"""
[campaign]
name = "apart"
[campaign.same]
kind = "command"
command = ["{sys.executable}", "-c", "open('out', 'w').write('equal')", "{{seed}}"]
sweep.seed = [1, 2]
[campaign.next]
kind = "command"
for_each = "same"
command = ["cat", "output://same/out"]
"""
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    tasks = {task["task"]: task["id"] for task in status(tmp_path)["tasks"]}
    assert set(states(tmp_path).values()) == {"done"}
    assert len(set(tasks.values())) == 4


def test_a_thousand_finished_tasks_are_found_from_a_new_file_and_nothing_is_run(tmp_path: Path) -> None:
    text = """
[campaign]
name = "many"
[campaign.many]
kind = "command"
command = "/bin/true {a}"
sweep.a = { min = 1, max = 1000, n = 1000 }
"""
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    launched = (tmp_path / "runs" / "campaigns").glob("*/launcher.jsonl")
    assert sum(file.read_text().count('"start"') for file in launched) == 1000
    again = campaign(tmp_path, "submit")
    assert again.stdout.startswith("many-") and "nothing to do; 1000 tasks: 1000 done" in again.stdout
    other = campaign(tmp_path, "submit", text=text.replace("campaign.many]", "campaign.few]").replace('"many"', '"x"'))
    assert ": 1000 cached" in other.stdout
    rows = json.loads(campaign(tmp_path, "status", "--json").stdout)["tasks"]
    assert {row["state"] for row in rows} == {"cached"}
