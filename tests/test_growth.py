"""More after too little: memory after ``oom``, time after ``timeout``, recorded on the attempt."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from real_runs import campaign, status

HUNGRY = f"""
[campaign]
name = "hungry"
[campaign.hungry]
kind = "command"
command = ["{sys.executable}", "-c", "import time; x = bytearray(88 * 2**20); time.sleep(0.5)"]
resources = {{ memory = "50 MiB" }}
"""

PATIENT = f"""
[campaign]
name = "patient"
[kind.steps]
restartable = true
command = ["{sys.executable}", "-c", '''
import pathlib, time
done = pathlib.Path("done")
for step in range(len(done.read_text()) if done.exists() else 0, 12):
    time.sleep(0.1)
    done.open("a").write("x")
''']
outputs = {{ done = "done" }}
resources = {{ runtime = "0.7 s" }}
[campaign.steps]
"""


def events(folder: Path) -> list[dict[str, Any]]:
    (journal,) = (folder / "runs" / "campaigns").glob("*/journal.jsonl")
    return [json.loads(line) for line in journal.read_text().splitlines()[1:]]


def ends(folder: Path) -> list[str]:
    return [event["state"] for event in events(folder) if event["state"] in ("done", "oom", "timeout", "failed")]


def asked(folder: Path, key: str) -> list[Any]:
    return [event[key] for event in events(folder) if event["state"] == "planned"]


def test_a_task_that_ran_out_of_memory_gets_half_as_much_again_until_it_fits(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "submit", text=HUNGRY)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert ends(tmp_path) == ["oom", "oom", "done"]
    assert asked(tmp_path, "memory") == [75 * 2**20, 112.5 * 2**20]
    (task,) = status(tmp_path)["tasks"]
    assert (task["state"], task["attempts"]) == ("done", 3)


def test_memory_does_not_grow_beyond_the_machine_nor_more_often_than_allowed(tmp_path: Path) -> None:
    limited = f'{HUNGRY}\n[execution]\nmemory = "60 MiB"\n'
    assert campaign(tmp_path, "submit", text=limited).returncode == 1
    assert ends(tmp_path) == ["oom", "oom"]
    assert asked(tmp_path, "memory") == [60 * 2**20]

    other = tmp_path / "other"
    other.mkdir()
    assert campaign(other, "submit", text=f"{HUNGRY}\n[execution]\noom_retries = 1\n").returncode == 1
    assert ends(other) == ["oom", "oom"]


def test_a_kind_that_goes_on_from_where_it_was_gets_more_time(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "submit", text=PATIENT)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = ends(tmp_path)
    assert found[-1] == "done"
    assert set(found[:-1]) == {"timeout"}
    assert asked(tmp_path, "runtime")[0] == 0.7 * 1.5


def test_a_kind_that_begins_anew_is_not_run_again_after_a_timeout(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "submit", text=PATIENT.replace("restartable = true\n", ""))
    assert answer.returncode == 1
    assert ends(tmp_path) == ["timeout"]


def test_what_an_attempt_was_granted_outlives_the_runner(tmp_path: Path) -> None:
    once = f"{HUNGRY}\n[execution]\noom_retries = 1\n"
    assert campaign(tmp_path, "submit", text=once).returncode == 1
    assert campaign(tmp_path, "retry").returncode == 0
    assert ends(tmp_path) == ["oom", "oom", "done"]
    assert asked(tmp_path, "memory") == [75 * 2**20, 112.5 * 2**20]
