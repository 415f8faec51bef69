"""Real kills of real processes: nothing is lost, nothing is run twice, status is right all along."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from real_runs import campaign, start, states, status, wait_until


def launcher_of(folder: Path) -> int:
    (record,) = folder.glob("runs/campaigns/*/launcher.pid")
    return int(json.loads(record.read_text())["pid"])


@pytest.mark.slow
def test_runner_killed_twenty_times_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    tables = [
        f'[campaign.t{index}]\nkind = "command"\n'
        f'command = ["sh", "-c", "sleep 0.05; echo done >> ../../../ledger/{index}"]\n'
        + (f'depends_on = ["t{index - 50}"]\n' if index >= 50 else "")
        for index in range(200)
    ]
    (tmp_path / "campaign.toml").write_text('[campaign]\nname = "kills"\n' + "".join(tables))
    chance = random.Random(20261121)
    for _ in range(20):
        runner = start(tmp_path)
        wait_until(lambda: list(tmp_path.glob("runs/campaigns/*/plan.json")))
        time.sleep(chance.uniform(0.2, 0.9))  # the moment of the kill is the point, not a synchronisation
        runner.kill()
        runner.wait()
        _check_status_while_dead(tmp_path)

    final = campaign(tmp_path, "submit")

    assert final.returncode == 0, final.stdout + final.stderr
    assert Counter(states(tmp_path).values()) == {"done": 200}
    assert {path.name: path.read_text() for path in (tmp_path / "ledger").iterdir()} == {
        str(index): "done\n" for index in range(200)
    }


def _check_status_while_dead(folder: Path) -> None:
    """What is called done has written its line; what has not been launched has written none."""
    reported = status(folder)
    assert reported["state"] in ("interrupted", "done")
    written = {path.name for path in (folder / "ledger").iterdir()}
    for task in reported["tasks"]:
        if task["state"] == "done":
            assert task["task"].removeprefix("t") in written
        assert task["state"] in ("done", "queued", "running", "planned", "blocked")


LONG = """
[campaign]
name = "long"
[execution]
lost_retries = 0
[campaign.a]
kind = "command"
command = ["sh", "-c", "echo $$ > ../../../pid; while [ ! -e ../../../go ]; do sleep 0.05; done"]
[campaign.b]
kind = "command"
command = ["true"]
depends_on = ["a"]
"""


def long_run(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    (folder / "campaign.toml").write_text(LONG)
    runner = start(folder)
    wait_until(lambda: (folder / "pid").exists() and (folder / "pid").read_text().strip())
    wait_until(lambda: states(folder)["a"] == "running")
    return runner, int((folder / "pid").read_text())


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def retry_succeeds(folder: Path) -> None:
    (folder / "go").touch()
    answer = campaign(folder, "retry")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert states(folder) == {"a": "done", "b": "done"}


def test_killed_task_failed_by_signal_9(tmp_path: Path) -> None:
    runner, task = long_run(tmp_path)
    os.kill(task, signal.SIGKILL)

    assert runner.wait(60) == 1
    assert states(tmp_path) == {"a": "failed", "b": "skipped"}
    assert status(tmp_path)["tasks"][0]["reason"] == "signal 9 (SIGKILL)"
    retry_succeeds(tmp_path)


def test_killed_launcher_makes_its_tasks_lost_and_ends_them(tmp_path: Path) -> None:
    runner, task = long_run(tmp_path)
    os.kill(launcher_of(tmp_path), signal.SIGKILL)

    assert runner.wait(60) == 1
    assert states(tmp_path) == {"a": "lost", "b": "skipped"}
    assert is_gone(task)
    retry_succeeds(tmp_path)


def test_killed_runner_and_launcher_leave_a_lost_task_that_status_tells(tmp_path: Path) -> None:
    runner, task = long_run(tmp_path)
    launcher = launcher_of(tmp_path)
    runner.kill()
    runner.wait()
    os.kill(launcher, signal.SIGKILL)
    wait_until(partial(is_gone, launcher))

    assert states(tmp_path) == {"a": "lost", "b": "blocked"}
    assert status(tmp_path)["state"] == "interrupted"
    (tmp_path / "go").touch()
    again = campaign(tmp_path, "submit")
    assert is_gone(task)
    assert again.returncode in (0, 1)
    retry_succeeds(tmp_path)


def test_task_that_ends_while_the_runner_is_dead_is_told_done_and_not_run_again(tmp_path: Path) -> None:
    runner, task = long_run(tmp_path)
    runner.kill()
    runner.wait()
    assert states(tmp_path) == {"a": "running", "b": "blocked"}
    (tmp_path / "go").touch()
    wait_until(partial(is_gone, task))
    wait_until(lambda: states(tmp_path)["a"] == "done")

    again = campaign(tmp_path, "submit")

    assert again.returncode == 0
    assert "is gone; going on with long-" in again.stderr
    assert {task["task"]: task["attempts"] for task in status(tmp_path)["tasks"]} == {"a": 1, "b": 1}


def test_lost_task_is_tried_again_by_itself(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text(LONG.replace("lost_retries = 0", "lost_retries = 1"))
    runner = start(tmp_path)
    wait_until((tmp_path / "pid").exists)
    wait_until(lambda: states(tmp_path)["a"] == "running")
    os.kill(launcher_of(tmp_path), signal.SIGKILL)
    (tmp_path / "go").touch()

    assert runner.wait(60) == 0
    assert {task["task"]: task["attempts"] for task in status(tmp_path)["tasks"]} == {"a": 2, "b": 1}
