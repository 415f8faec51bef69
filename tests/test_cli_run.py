"""The running half of the command line as a person meets it: on a terminal, in a shell, half way through."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from real_runs import CAMPAIGN, campaign, start, states, wait_until


def on_a_terminal(folder: Path, *words: str) -> tuple[int, str]:
    """Run a command with a terminal of 100 columns; return its exit status and all it drew."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        os.execve(CAMPAIGN[0], [*CAMPAIGN, *words], environment)
    drawn = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says EIO when the last process has closed its end
            break
        if not piece:
            break
        drawn += piece
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), drawn.decode()


LIVE = """
[campaign]
name = "live"
[execution]
cores = 1
[campaign.slow]
kind = "command"
command = ["sleep", "1"]
resources = { runtime = "1 h" }
[campaign.bad]
kind = "command"
command = ["sh", "-c", "sleep 0.3; echo '[red]not markup[/red]' >&2; exit 7"]
"""


def test_terminal_shows_a_bar_running_tasks_and_failures_and_is_left_sane(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text(LIVE)

    code, drawn = on_a_terminal(tmp_path, "submit")

    assert code == 1
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    assert re.search(r"live-[0-9a-f]{8}  ━+  0/2", shown)
    assert "  running  slow  " in shown
    assert "failed bad: exit status 7" in shown
    assert "    | [red]not markup[/red]" in shown
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")  # the cursor is back


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(tmp_path: Path, shell: str) -> None:
    assert "_CAMPAIGN_COMPLETE" in campaign(tmp_path, "completion", shell).stdout


def test_mistyped_command_is_suggested(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "statsu")
    assert answer.returncode == 2
    assert "no command 'statsu'; did you mean 'status'?" in answer.stderr


def test_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert campaign(tmp_path, "--version").stdout == "campaign 0.1.0\n"


TWO = """
[campaign]
name = "two"
[campaign.a]
kind = "command"
command = ["sh", "-c", "touch ../../../on; sleep 600"]
[campaign.b]
kind = "command"
command = ["sh", "-c", "until [ -e ../../../go ]; do sleep 0.05; done"]
[campaign.c]
kind = "command"
command = ["true"]
depends_on = ["a"]
"""


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    (folder / "campaign.toml").write_text(TWO)
    process = start(folder)
    try:
        wait_until((folder / "on").exists)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def test_one_task_of_a_live_run_is_cancelled_and_the_rest_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        answer = campaign(tmp_path, "cancel", "--task", "a")
        assert answer.returncode == 0, answer.stderr
        assert states(tmp_path)["a"] == "cancelled"
        (tmp_path / "go").touch()
        assert process.wait(60) == 1
    assert states(tmp_path) == {"a": "cancelled", "b": "done", "c": "skipped"}


def test_run_whose_runner_is_dead_can_be_cancelled(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        process.kill()
        process.wait(60)
        answer = campaign(tmp_path, "cancel")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert states(tmp_path) == {"a": "cancelled", "b": "cancelled", "c": "cancelled"}


@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_unknown_task_is_named_with_a_suggestion(tmp_path: Path, command: str) -> None:
    (tmp_path / "campaign.toml").write_text(LIVE)
    campaign(tmp_path, "submit")
    answer = campaign(tmp_path, command, "--task", "slwo")
    assert answer.returncode == 2
    assert "has no task 'slwo'; did you mean 'slow'?" in answer.stderr


def test_plan_tells_sizes_order_and_critical_path(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text(
        """
[campaign]
name = "sized"
deadline = "30 min"
[campaign.short]
kind = "command"
command = ["true"]
resources = { runtime = "1 min", memory = "100 MiB" }
[campaign.long]
kind = "command"
command = ["true"]
resources = { runtime = "1 h" }
[campaign.end]
kind = "command"
command = ["true"]
depends_on = ["short", "long"]
"""
    )
    lines = campaign(tmp_path, "plan").stdout.splitlines()
    order = [line.split()[0] for line in lines if " command " in line]
    assert order == ["long", "short", "end"]
    assert "critical path  1 h 01 min: long -> end" in lines
    assert "deadline       30 min 00 s: cannot be met" in lines
    data = json.loads(campaign(tmp_path, "plan", "--json").stdout)
    assert (data["critical_path"], data["critical_path_seconds"]) == (["long", "end"], 3660.0)
    assert not (tmp_path / "runs").exists()


def test_large_plan_is_shown_by_workflow(tmp_path: Path) -> None:
    tables = "".join(f'[campaign.t{i}]\nkind = "command"\ncommand = ["echo", "{i}"]\n' for i in range(70))
    (tmp_path / "campaign.toml").write_text(f'[campaign]\nname = "many"\n{tables}')
    assert campaign(tmp_path, "plan").stdout.splitlines()[2].split() == [
        "workflow", "kind", "tasks", "cores", "memory", "gpus", "time",
    ]  # fmt: skip


def test_detached_submit_of_a_held_run_says_who_holds_it(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        answer = campaign(tmp_path, "submit", "--detach")
    assert answer.returncode == 2
    assert f"is held by process {process.pid} on " in answer.stderr
