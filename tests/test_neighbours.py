"""Runs of one store at the same moment: what several want is computed once, and nobody waits for the dead."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from real_runs import CAMPAIGN, campaign, wait_until

from socm_like.journal import Event, Journal, TaskState
from socm_like.neighbours import Neighbours
from socm_like.store import STALE_AFTER, Holder, RunDirectory, RunLock, process_started

WORK = 'echo $SOCM_TASK >> ../../../ledger; echo "$SOCM_RUN" >> ../../../who; '
WAIT = "while [ ! -e ../../../go ]; do sleep 0.02; done"


def write(folder: Path, name: str, tasks: int = 1, script: str = WAIT, more: str = "") -> None:
    """Write ``<name>.toml``: tasks which every campaign written here shares, and ``more``."""
    tables = [
        f'[campaign.t{index}]\nkind = "command"\ncommand = {json.dumps(["sh", "-c", f"{WORK}: {index}; {script}"])}\n'
        for index in range(tasks)
    ]
    (folder / f"{name}.toml").write_text(f'[campaign]\nname = "{name}"\n' + "".join(tables) + more)


def start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    words = [*CAMPAIGN, "submit", f"{name}.toml"]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def told(folder: Path, name: str) -> dict[str, tuple[str, str | None]]:
    """Return the state of each task of a run and its reason."""
    tasks = json.loads(campaign(folder, "status", "--json", name).stdout or '{"tasks": []}')["tasks"]
    return {task["task"]: (task["state"], task["reason"]) for task in tasks}


def executed(folder: Path) -> Counter[str]:
    return Counter((folder / "ledger").read_text().split())


def run_of(folder: Path, name: str) -> Path:
    (path,) = folder.glob(f"runs/campaigns/{name}-*")
    return path


def one_runs_and_one_waits(folder: Path, script: str = WAIT) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    """Start two campaigns with one task, and return when the second says that it waits for the first."""
    for name in ("first", "second"):
        write(folder, name, script=script)
    first = start(folder, "first")
    wait_until((folder / "ledger").exists)
    second = start(folder, "second")
    wait_until(lambda: list(folder.glob("runs/campaigns/second-*/plan.json")))
    why = f"{run_of(folder, 'first').name} computes the same"
    wait_until(lambda: told(folder, "second") == {"t0": ("blocked", why)})
    return first, second


# two real runs


def test_waiting_run_says_for_whom_it_waits_and_gets_the_result(tmp_path: Path) -> None:
    first, second = one_runs_and_one_waits(tmp_path)
    (tmp_path / "go").touch()

    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert (told(tmp_path, "first"), told(tmp_path, "second")) == ({"t0": ("done", None)}, {"t0": ("cached", None)})
    assert executed(tmp_path) == {"t0": 1}


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_campaigns_that_start_at_the_same_moment_do_each_task_once(tmp_path: Path, count: int) -> None:
    names = [f"c{index}" for index in range(count)]
    for name in names:
        own = f'[campaign.own]\nkind = "command"\ncommand = ["sh", "-c", "echo {name} >> ../../../ledger"]\n'
        write(tmp_path, name, tasks=5, script="sleep 0.05", more=own)
    runs = [start(tmp_path, name) for name in names]

    assert [run.wait(60) for run in runs] == [0] * count
    assert executed(tmp_path) == {**{f"t{index}": 1 for index in range(5)}, **dict.fromkeys(names, 1)}
    for task in range(5):
        states = Counter(told(tmp_path, name)[f"t{task}"][0] for name in names)
        assert states == {"done": 1, "cached": count - 1}


@pytest.mark.slow
def test_ten_campaigns_that_start_at_the_same_moment_neither_repeat_anything_nor_wait_for_ever(tmp_path: Path) -> None:
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        names = [f"c{index}" for index in range(10)]
        for name in names:
            write(folder, name, tasks=4, script="sleep 0.05")
        runs = [start(folder, name) for name in names]
        assert [run.wait(120) for run in runs] == [0] * 10
        assert executed(folder) == {f"t{index}": 1 for index in range(4)}


@pytest.mark.parametrize("who", ["runner", pytest.param("runner and launcher", marks=pytest.mark.slow)])
def test_killed_run_is_not_waited_for(tmp_path: Path, who: str) -> None:
    first, second = one_runs_and_one_waits(tmp_path)
    launcher = json.loads((run_of(tmp_path, "first") / "launcher.pid").read_text())["pid"]
    first.kill()
    first.wait()
    if who != "runner":
        os.kill(launcher, signal.SIGKILL)
    wait_until(lambda: executed(tmp_path) == {"t0": 2})
    (tmp_path / "go").touch()

    assert second.wait(60) == 0
    assert told(tmp_path, "second") == {"t0": ("done", None)}
    assert campaign(tmp_path, "submit", "first.toml").returncode == 0
    assert executed(tmp_path) == {"t0": 2}


def test_task_that_failed_elsewhere_is_tried_here(tmp_path: Path) -> None:
    first, second = one_runs_and_one_waits(tmp_path, f"{WAIT}; [ $(wc -l < ../../../ledger) -gt 1 ]")
    (tmp_path / "go").touch()

    assert (first.wait(60), second.wait(60)) == (1, 0)
    assert told(tmp_path, "first") == {"t0": ("failed", "exit status 1")}
    assert told(tmp_path, "second") == {"t0": ("done", None)}


def test_task_that_was_cancelled_elsewhere_is_done_here(tmp_path: Path) -> None:
    first, second = one_runs_and_one_waits(tmp_path)
    assert campaign(tmp_path, "cancel", "first").returncode == 0
    wait_until(lambda: executed(tmp_path) == {"t0": 2})
    (tmp_path / "go").touch()

    assert (first.wait(60), second.wait(60)) == (1, 0)
    assert told(tmp_path, "first") == {"t0": ("cancelled", "cancelled on request")}
    assert told(tmp_path, "second") == {"t0": ("done", None)}


def test_interrupted_run_stops_waiting_and_does_the_other_no_harm(tmp_path: Path) -> None:
    first, second = one_runs_and_one_waits(tmp_path)
    second.send_signal(signal.SIGINT)

    assert second.wait(60) == 1
    assert told(tmp_path, "second") == {"t0": ("cancelled", "interrupted")}
    (tmp_path / "go").touch()
    assert first.wait(60) == 0
    assert executed(tmp_path) == {"t0": 1}


def test_run_that_was_killed_as_it_waited_goes_on_with_the_result(tmp_path: Path) -> None:
    first, second = one_runs_and_one_waits(tmp_path)
    second.kill()
    second.wait()
    assert told(tmp_path, "second") == {"t0": ("blocked", f"{run_of(tmp_path, 'first').name} computes the same")}
    (tmp_path / "go").touch()
    assert first.wait(60) == 0

    assert campaign(tmp_path, "submit", "second.toml").returncode == 0
    assert told(tmp_path, "second") == {"t0": ("cached", None)}
    assert executed(tmp_path) == {"t0": 1}


def test_task_that_a_run_tries_again_is_waited_for(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(tmp_path, name, script=f"[ $(wc -l < ../../../ledger) -gt 1 ] && {WAIT}")
    assert campaign(tmp_path, "submit", "first.toml").returncode == 1
    first = subprocess.Popen([*CAMPAIGN, "retry", "first"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    wait_until(lambda: executed(tmp_path) == {"t0": 2})
    second = start(tmp_path, "second")
    wait_until(lambda: list(tmp_path.glob("runs/campaigns/second-*/plan.json")))
    wait_until(lambda: told(tmp_path, "second").get("t0", ("", ""))[0] == "blocked")
    (tmp_path / "go").touch()

    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert executed(tmp_path) == {"t0": 2}


# what a neighbour may be like

MINE = Holder("here", 1, "", "mine", since=1000)
ME = Holder(socket.gethostname(), os.getpid(), process_started(os.getpid()) or "", "other", since=999)
"""This very process, as the holder of another run."""
PLAN = json.dumps({"tasks": [{"name": "a", "id": "0a"}, {"name": "b", "id": "0b"}, {"name": "twin", "id": "0a"}]})


@pytest.fixture
def mine(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "campaigns" / "mine-00000000")
    run.path.mkdir(parents=True)
    return run


def neighbour(mine: RunDirectory, holder: Holder, plan: str = PLAN, name: str = "other-11111111") -> RunDirectory:
    run = RunDirectory(mine.path.with_name(name))
    run.path.mkdir()
    run.plan.write_text(plan)
    write_lock(run, holder)
    return run


def write_lock(run: RunDirectory, holder: Holder | dict[str, Any]) -> None:
    temporary = run.path / "new"
    temporary.write_text(json.dumps(holder if isinstance(holder, dict) else asdict(holder)))
    temporary.replace(run.lock)


def news(run: RunDirectory, task: str, state: TaskState, attempt: int = 1) -> None:
    journal = Journal(run.journal)
    journal.append([Event("2026-11-21T00:00:00Z", task, attempt, state)])
    journal.close()


def test_neighbour_computes_what_has_not_ended_in_its_run(mine: RunDirectory) -> None:
    other = neighbour(mine, ME)
    news(other, "b", TaskState.FAILED)
    news(other, "unknown", TaskState.QUEUED)
    neighbours = Neighbours(mine, MINE)
    assert [neighbours.computes(identity) for identity in ("0a", "0b", "0c")] == [other.name, "", ""]

    news(other, "b", TaskState.PLANNED, attempt=2)
    wait_until(lambda: neighbours.computes("0b") == other.name)
    news(other, "a", TaskState.DONE)
    news(other, "twin", TaskState.CACHED)
    wait_until(lambda: not neighbours.computes("0a"))
    other.lock.unlink()
    wait_until(lambda: not neighbours.computes("0b"))


def test_run_that_began_later_is_not_waited_for_also_with_a_clock_that_is_ahead(mine: RunDirectory) -> None:
    neighbour(mine, Holder(ME.host, ME.pid, ME.started, "other", since=1001))
    neighbour(mine, Holder(ME.host, ME.pid, ME.started, "ahead", since=10**20), name="ahead-22222222")
    assert Neighbours(mine, MINE).computes("0a") == ""


def test_of_two_runs_that_began_at_the_same_moment_one_waits(mine: RunDirectory) -> None:
    same = [Holder("here", 1, "", token, since=1000) for token in ("x", "y")]
    assert [same[0].is_before(same[1]), same[1].is_before(same[0])] == [True, False]


def test_run_that_is_just_starting_is_waited_for_until_it_says_when_it_began(mine: RunDirectory) -> None:
    other = neighbour(mine, Holder(ME.host, ME.pid, ME.started, "other", since=0))
    other.plan.unlink()
    found: list[str] = []
    looking = threading.Thread(target=lambda: found.append(Neighbours(mine, MINE).computes("0a")))
    looking.start()
    other.plan.write_text(PLAN)
    write_lock(other, ME)
    looking.join(60)
    assert found == [other.name]


def test_process_that_takes_its_turn_keeps_its_lock(mine: RunDirectory) -> None:
    lock = RunLock(mine)
    lock.acquire()
    assert lock.holder.since == 0
    before = time.time_ns()
    holder = lock.take_turn()
    assert before <= holder.since <= time.time_ns()
    assert json.loads(mine.lock.read_text()) == asdict(holder) == asdict(lock.holder)
    lock.sign()
    lock.release()
    assert list(mine.path.iterdir()) == []


def test_run_on_another_host_is_waited_for_until_it_gives_no_sign_of_life(mine: RunDirectory) -> None:
    other = neighbour(mine, Holder("far-away", 1, "1@elsewhere", "other", since=999))
    neighbours = Neighbours(mine, MINE)
    assert neighbours.computes("0a") == other.name
    os.utime(other.lock, (time.time() - STALE_AFTER - 1,) * 2)
    wait_until(lambda: not neighbours.computes("0a"))
    assert Neighbours(mine, MINE).computes("0a") == ""


@pytest.mark.parametrize("plan", ["{", "[]", "3", '{"tasks": 3}', '{"tasks": [{"name": "a"}]}', '{"tasks": [3]}'])
def test_neighbour_with_a_damaged_plan_is_not_waited_for(mine: RunDirectory, plan: str) -> None:
    neighbour(mine, ME, plan)
    assert Neighbours(mine, MINE).computes("0a") == ""


@pytest.mark.parametrize("journal", ["no journal\n", '{"schema": 1}\ngarbage\n', '{"schema": 99}\n'])
def test_neighbour_with_a_damaged_journal_is_not_waited_for(mine: RunDirectory, journal: str) -> None:
    neighbour(mine, ME).journal.write_text(journal)
    assert Neighbours(mine, MINE).computes("0a") == ""


def test_neighbour_whose_journal_is_damaged_later_is_not_waited_for_any_more(mine: RunDirectory) -> None:
    other = neighbour(mine, ME)
    news(other, "b", TaskState.QUEUED)
    neighbours = Neighbours(mine, MINE)
    assert neighbours.computes("0a") == other.name
    with other.journal.open("a") as journal:
        journal.write("garbage\n")
    wait_until(lambda: not neighbours.computes("0a"))


@pytest.mark.parametrize(
    "lock",
    [{}, {"host": 3}, {**asdict(ME), "since": "yesterday"}, {**asdict(ME), "since": None}],
    ids=("empty", "host", "text", "none"),
)
def test_neighbour_with_a_damaged_lock_is_not_waited_for(mine: RunDirectory, lock: dict[str, Any]) -> None:
    write_lock(neighbour(mine, ME), lock)
    assert Neighbours(mine, MINE).computes("0a") == ""


def test_damaged_neighbour_stops_no_run(tmp_path: Path) -> None:
    damaged = RunDirectory(tmp_path / "runs" / "campaigns" / "damaged-33333333")
    damaged.path.mkdir(parents=True)
    damaged.plan.write_text(PLAN)
    damaged.journal.write_text("no journal\n")
    write_lock(damaged, ME)
    write(tmp_path, "mine", script="true")
    assert campaign(tmp_path, "submit", "mine.toml").returncode == 0
    assert told(tmp_path, "mine") == {"t0": ("done", None)}
