"""Tasks that share a process: each has its own result or failure, and whoever kills the process takes nobody along."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from real_runs import campaign, reasons, start, states, status, wait_until

from socm_like.frontier import Frontier
from socm_like.resources import Resources
from socm_like.task import Task

PLUGIN = '''
import os, signal, sys, time
from typing import ClassVar
from socm_like import Resources, Result, Workflow

GIB = 1 << 30


def note(root, name, text):
    with open(root / name, "a") as file:
        file.write(f"{text}\\n")


class Member(Workflow):
    """Does what the words after the comma of its ``x`` say; ``root`` is where tests look."""

    batch_over: ClassVar = ("x",)
    x: str
    group: str = ""

    def estimate(self, context):
        return Resources(threads=2 if "wide" in self.x else 1)

    @classmethod
    def estimate_batch(cls, workflows, context):
        group = workflows[0].group
        if group == "unsure":
            raise RuntimeError("no idea")
        if group == "large":  # at most ten of them in a process
            return Resources(memory=len(workflows) * context.machine.memory // 10)
        return super().estimate_batch(workflows, context)

    def run(self, directory):
        root = directory.parents[2]
        note(root, "processes", self.x)
        for result in self.work(root, directory, directory, 1):
            if isinstance(result, Exception):
                raise result
            return result

    @classmethod
    def run_batch(cls, workflows, directories):
        root = directories[0].parents[2]
        note(root, "processes", ";".join(workflow.x for workflow in workflows))
        following = [*directories[1:], directories[0]]
        for workflow, directory, neighbour in zip(workflows, directories, following):
            yield from workflow.work(root, directory, neighbour, len(workflows))
            if "ends" in workflow.x:
                return

    def work(self, root, directory, neighbour, company):
        note(root, "work", self.x)
        print(f"this is {self.x}", flush=True)
        (directory / "out.txt").write_text(self.x)
        if "raises" in self.x:
            raise RuntimeError(f"{self.x} went wrong")
        if "kills" in self.x and (company > 1 or "always" in self.x):
            os.kill(os.getpid(), signal.SIGKILL)
        if "aborts" in self.x:
            os.abort()
        if "exits" in self.x and company > 1:
            sys.exit(0)
        if "eats" in self.x:
            hoard = bytearray(700 << 20)
            time.sleep(60)
        if "waits" in self.x:
            while not (root / "go").exists():
                time.sleep(0.02)
        if "meddles" in self.x:
            (neighbour / "out.txt").write_text("not its own")
            (neighbour / "extra").touch()
        if "forgets" in self.x:
            (directory / "out.txt").unlink()
        if "removes" in self.x:
            (directory / "out.txt").unlink()
            (directory / "task.json").unlink()
            directory.rmdir()
        if "silent" in self.x:
            return
        if "diverges" in self.x:
            yield ArithmeticError(f"{self.x}: no convergence")
        elif "nan" in self.x:
            yield Result(metrics={"value": float("nan")})
        elif "text" in self.x:
            yield "a result"
        else:
            yield Result(metrics={"value": self.x, "company": company})
        if "twice" in self.x:
            yield Result(metrics={"value": "of whom?"})


class Lasting(Member):
    """Goes on from what an earlier attempt left."""

    restartable: ClassVar = True
'''


def write(folder: Path, *members: str, execution: str = "", table: str = "", more: str = "", name: str = "m") -> None:
    """Write a campaign of one batch: one task for each ``x``, in this order."""
    (folder / "kinds.py").write_text(PLUGIN)
    (folder / "campaign.toml").write_text(
        f"""
[campaign]
name = "shared"
plugins = ["kinds.py"]
[execution]
cores = 1
{execution}
[campaign.{name}]
kind = "member"
outputs = {{ out = "out.txt" }}
{table}
[campaign.{name}.sweep]
x = {json.dumps(members)}
{more}
"""
    )


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def submit(folder: Path, *members: str, status: int = 0, **options: str) -> subprocess.CompletedProcess[str]:
    write(folder, *members, **options)
    answer = campaign(folder, "submit")
    assert answer.returncode == status, answer.stdout + answer.stderr
    return answer


def by_member(folder: Path, key: str) -> dict[str, Any]:
    """Return something of what ``status`` says, by the first word of each member."""
    plan = {task["name"]: task for task in plan_of(folder)["tasks"]}
    return {
        plan[task["task"]]["fields"]["x"].split(",")[0]: task[key]
        for task in status(folder)["tasks"]
        if "x" in plan[task["task"]]["fields"]
    }


def plan_of(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("runs/campaigns/*/plan.json")
    plan: dict[str, Any] = json.loads(file.read_text())
    return plan


def name_of(folder: Path, member: str) -> str:
    (name,) = (t["name"] for t in plan_of(folder)["tasks"] if t["fields"].get("x", "").split(",")[0] == member)
    return str(name)


def events(folder: Path, member: str) -> list[dict[str, Any]]:
    """Return the journal of one member."""
    (file,) = folder.glob("runs/campaigns/*/journal.jsonl")
    name = name_of(folder, member)
    records = [json.loads(line) for line in lines(file)[1:]]
    return [record for record in records if record["task"] == name]


def history(folder: Path, member: str) -> list[str]:
    return [record["state"] for record in events(folder, member)]


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the result of each member that has one, as it is in the store."""
    places = [path for path in folder.glob("runs/member/*/result.json") if ".partial" not in path.parent.name]
    found = [json.loads(path.read_text()) for path in places]
    return {result["parameters"]["x"].split(",")[0]: result for result in found}


def launcher_of(folder: Path) -> int:
    (record,) = folder.glob("runs/campaigns/*/launcher.pid")
    return int(json.loads(record.read_text())["pid"])


def process_of(folder: Path) -> int:
    """Return the pid of the shared process, as the launcher wrote it down."""
    (log,) = folder.glob("runs/campaigns/*/launcher.jsonl")
    return int([record for line in lines(log) if (record := json.loads(line))["event"] == "start"][-1]["pid"])


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


# one process, many tasks


def test_each_member_has_its_own_identity_directory_result_and_share_of_the_time(tmp_path: Path) -> None:
    submit(tmp_path, "a", "b", "c")

    assert lines(tmp_path / "processes") == ["a;b;c"]
    found = results(tmp_path)
    assert {member: result["metrics"] for member, result in found.items()} == {
        member: {"value": member, "company": 3} for member in "abc"
    }
    assert {member: result["outputs"] for member, result in found.items()} == {m: {"out": "out.txt"} for m in "abc"}
    assert len({result["id"] for result in found.values()}) == 3
    assert by_member(tmp_path, "id") == {member: result["id"] for member, result in found.items()}
    for member, result in found.items():
        (folder,) = tmp_path.glob(f"runs/member/{result['id'][:12]}*")
        assert (folder / "out.txt").read_text() == member
        assert sorted(path.name for path in folder.iterdir()) == ["out.txt", "result.json", "task.json"]
    assert len({result["cpu"] for result in found.values()}) == 1
    (log,) = tmp_path.glob("runs/campaigns/*/launcher.jsonl")
    (whole,) = (json.loads(line)["cpu"] for line in lines(log) if json.loads(line)["event"] == "end")
    assert sum(result["cpu"] for result in found.values()) == pytest.approx(whole)


def test_members_fill_as_many_processes_as_there_are_cores(tmp_path: Path) -> None:
    submit(tmp_path, *"abcdefg", execution="", table="")
    assert lines(tmp_path / "processes") == ["a;b;c;d;e;f;g"]
    campaign(tmp_path, "submit", "--fresh", "--set", "execution.cores=2")
    assert sorted(lines(tmp_path / "processes")[1:]) == ["a;b;c;d", "e;f;g"]


@pytest.mark.slow
def test_batch_size_limits_a_process_and_one_means_none_is_shared(tmp_path: Path) -> None:
    submit(tmp_path, *"abcde", execution="batch_size = 2")
    assert lines(tmp_path / "processes") == ["a;b", "c;d", "e"]
    campaign(tmp_path, "submit", "--fresh", "--set", "execution.batch_size=1")
    assert lines(tmp_path / "processes")[3:] == ["a", "b", "c", "d", "e"]


def test_member_alone_in_its_failure(tmp_path: Path) -> None:
    submit(
        tmp_path,
        *("a", "b,diverges", "c,nan", "d,text", "e,forgets", "f"),
        status=1,
    )

    assert lines(tmp_path / "processes") == ["a;b,diverges;c,nan;d,text;e,forgets;f"]
    assert by_member(tmp_path, "state") == {
        "a": "done", "b": "failed", "c": "invalid", "d": "failed", "e": "invalid", "f": "done",
    }  # fmt: skip
    assert by_member(tmp_path, "reason") == {
        "a": None,
        "b": "ArithmeticError: b,diverges: no convergence",
        "c": "metric value is nan",
        "d": "TypeError: Member.run_batch yielded str, not a Result",
        "e": "the declared output out.txt (out) is missing",
        "f": None,
    }
    assert set(by_member(tmp_path, "attempts").values()) == {1}
    assert results(tmp_path).keys() == {"a", "f"}


def test_retry_runs_only_the_member_that_failed(tmp_path: Path) -> None:
    submit(tmp_path, "a", "b,diverges", "c", status=1)

    assert campaign(tmp_path, "retry").returncode == 1

    assert lines(tmp_path / "processes") == ["a;b,diverges;c", "b,diverges"]
    assert by_member(tmp_path, "attempts") == {"a": 1, "b": 2, "c": 1}


@pytest.mark.slow
def test_failed_member_is_tried_again_as_often_as_the_campaign_says(tmp_path: Path) -> None:
    submit(tmp_path, "a", "b,diverges", "c,diverges", execution="retries = 1", status=1)
    assert lines(tmp_path / "processes") == ["a;b,diverges;c,diverges", "b,diverges;c,diverges"]
    assert by_member(tmp_path, "attempts") == {"a": 1, "b": 2, "c": 2}


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("c,silent", "Member.run_batch yielded 3 results for 4 tasks; whose they are cannot be told"),
        ("c,ends", "Member.run_batch yielded 3 results for 4 tasks; whose they are cannot be told"),
        ("c,twice", "Member.run_batch yielded more than 4 results for 4 tasks; whose they are cannot be told"),
    ],
)
def test_kind_that_yields_too_few_or_too_many_results_fails_all_rather_than_mix_them_up(
    tmp_path: Path, member: str, why: str
) -> None:
    submit(tmp_path, "a", "b", member, "d", status=1)
    assert by_member(tmp_path, "reason") == dict.fromkeys("abcd", why)
    assert set(by_member(tmp_path, "state").values()) == {"failed"}
    assert results(tmp_path) == {}


def test_members_have_one_log_which_each_of_them_shows(tmp_path: Path) -> None:
    submit(tmp_path, "a", "b", "c,diverges", status=1)
    said = "this is a\nthis is b\nthis is c,diverges\n"
    for member in "abc":
        assert campaign(tmp_path, "logs", name_of(tmp_path, member), "--out").stdout == said
    err = campaign(tmp_path, "logs", name_of(tmp_path, "a"), "--err").stdout
    assert err.endswith("ArithmeticError: c,diverges: no convergence\n")


def test_same_task_wanted_twice_is_done_once(tmp_path: Path) -> None:
    twin = f'[campaign.n]\nkind = "member"\noutputs = {{ out = "out.txt" }}\nsweep.x = {json.dumps(["b", "d"])}'
    submit(tmp_path, "a", "b", "c", more=twin)
    assert lines(tmp_path / "processes") == ["a;b;c;d"]
    assert Counter(states(tmp_path).values()) == {"done": 4, "cached": 1}


def test_members_that_are_there_already_are_not_computed_again(tmp_path: Path) -> None:
    submit(tmp_path, "b", "d")
    write(tmp_path, "a", "b", "c", "d", "e")
    assert campaign(tmp_path, "submit").returncode == 0
    assert lines(tmp_path / "processes") == ["b;d", "a;c;e"]


def test_members_that_differ_in_anything_else_are_never_together(tmp_path: Path) -> None:
    tables = "".join(
        f'[campaign.{name}]\nkind = "member"\n{line}\n{more}sweep.x = {json.dumps([f"{name}1", f"{name}2"])}\n'
        for name, line, more in (
            ("g", 'group = "other"', ""),
            ("v", 'environment.COLOUR = "red"', ""),
            ("r", 'resources.memory = "1 GiB"', ""),
        )
    )
    submit(tmp_path, "a", "b", more=tables)
    assert sorted(lines(tmp_path / "processes")) == ["a;b", "g1;g2", "r1;r2", "v1;v2"]


def test_members_whose_estimates_ask_other_cores_are_never_together(tmp_path: Path) -> None:
    write(tmp_path, "a", "b,wide", "c", "d,wide")
    assert campaign(tmp_path, "submit", "--set", "execution.cores=2").returncode == 0
    assert sorted(lines(tmp_path / "processes")) == ["a", "b,wide;d,wide", "c"]


def test_too_large_an_estimate_makes_smaller_batches(tmp_path: Path) -> None:
    submit(tmp_path, *"abcdefgh", *"ijklmnop", table='group = "large"')
    assert [len(line.split(";")) for line in lines(tmp_path / "processes")] == [8, 8]
    assert set(by_member(tmp_path, "state").values()) == {"done"}


def test_estimate_that_raises_costs_each_member_a_process(tmp_path: Path) -> None:
    submit(tmp_path, "a", "b", "c", table='group = "unsure"')
    assert lines(tmp_path / "processes") == ["a", "b", "c"]


def test_batch_forms_among_those_whose_parents_are_done(tmp_path: Path) -> None:
    children = """
[campaign.child]
kind = "member"
group = "children"
for_each = "m"
x = "child"
depends_on = ["gate"]
[campaign.gate]
kind = "command"
command = ["true"]
"""
    submit(tmp_path, "a", "b", "c,diverges", more=children, status=1)
    assert lines(tmp_path / "processes") == ["a;b;c,diverges", "child;child"]
    assert Counter(states(tmp_path).values()) == {"done": 5, "failed": 1, "skipped": 1}


def test_task_that_was_taken_into_a_batch_does_not_have_its_turn_again_unless_it_is_ready_again() -> None:
    tasks = [
        Task(
            name=name, workflow="w", kind="k", id=name, folder=name, dependencies=(), resources=Resources(), argv=None,
            environment={}, outputs={}, metrics="", restartable=False, parameters={}, fields={},
            batch=name[0].strip("-"),
        )
        for name in ("x1", "-", "y1", "x2", "y2")
    ]  # fmt: skip
    frontier = Frontier(tasks)
    for task in tasks:
        frontier.push(task.name)
    assert frontier.pop() == "x1"
    assert frontier.take("x", lambda name: True) == ["x2"]
    frontier.push("x2")
    assert frontier.take("y", lambda name: name == "y2") == ["y2"]
    assert [frontier.pop() for _ in range(3)] == ["-", "x2", None]


# the process dies


DEATHS = [
    pytest.param("b,kills,always", "signal 9 (SIGKILL)", "failed", "signal 9 (SIGKILL)", marks=pytest.mark.slow),
    ("b,aborts", "signal 6 (SIGABRT)", "failed", "signal 6 (SIGABRT)"),
    pytest.param("b,raises", "exit status 1", "failed", "RuntimeError: b,raises went wrong", marks=pytest.mark.slow),
    ("b,kills", "signal 9 (SIGKILL)", "done", None),
    pytest.param("b,exits", "exit status 1", "done", None, marks=pytest.mark.slow),
    pytest.param("b,removes", "exit status 1", "failed", "exit status 1", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("guilty", "end", "state", "reason"), DEATHS)
def test_whoever_ends_the_process_takes_nobody_along(
    tmp_path: Path, guilty: str, end: str, state: str, reason: str | None
) -> None:
    submit(tmp_path, "a", guilty, "c", "d", execution="lost_retries = 0", status=int(state != "done"))

    assert lines(tmp_path / "processes") == [f"a;{guilty};c;d", guilty, "c", "d"]
    assert by_member(tmp_path, "state") == {"a": "done", "b": state, "c": "done", "d": "done"}
    assert by_member(tmp_path, "attempts") == {"a": 1, "b": 2, "c": 2, "d": 2}
    assert by_member(tmp_path, "reason")["b"] == reason
    assert history(tmp_path, "a") == ["queued", "running", "done"]
    assert history(tmp_path, "c") == ["queued", "running", "lost", "planned", "queued", "running", "done"]
    (lost,) = (record for record in events(tmp_path, "c") if record["state"] == "lost")
    assert (lost["attempt"], lost["reason"]) == (1, f"it shared a process with 3 others, which ended: {end}")


@pytest.mark.slow
def test_plain_failure_alone_after_a_shared_death_has_all_its_retries(tmp_path: Path) -> None:
    submit(tmp_path, "a", "b,aborts", "c", execution="retries = 2\nlost_retries = 0", status=1)
    assert lines(tmp_path / "processes") == ["a;b,aborts;c", "b,aborts", "c", "b,aborts", "b,aborts"]
    assert by_member(tmp_path, "attempts") == {"a": 1, "b": 4, "c": 2}


@pytest.mark.slow
def test_member_that_waits_past_the_limit_ends_alone_as_timeout(tmp_path: Path) -> None:
    submit(tmp_path, "a", "b,waits", "c", table='resources.runtime = "0.4 s"', execution='grace = "0.1 s"', status=1)
    assert by_member(tmp_path, "state") == {"a": "done", "b": "timeout", "c": "done"}
    assert by_member(tmp_path, "reason")["b"] == "ran longer than its limit of 0.4 s"
    (lost,) = (record for record in events(tmp_path, "c") if record["state"] == "lost")
    assert lost["reason"] == "it shared a process with 2 others, which ended: ran longer than its limit of 1.2 s"


@pytest.mark.slow
def test_member_that_eats_the_memory_ends_alone_as_oom(tmp_path: Path) -> None:
    limit = 'resources.memory = "200 MiB"'
    submit(tmp_path, "a", "b,eats", "c", table=limit, execution="oom_retries = 0", status=1)
    assert by_member(tmp_path, "state") == {"a": "done", "b": "oom", "c": "done"}
    assert re.fullmatch(r"used \d+ MiB of memory, the limit is 200 MiB", str(by_member(tmp_path, "reason")["b"]))


def test_kind_that_goes_on_from_its_files_runs_alone_when_it_is_to(tmp_path: Path) -> None:
    write(tmp_path, "a,kills", "b", "c")
    file = tmp_path / "campaign.toml"
    file.write_text(file.read_text().replace('kind = "member"', 'kind = "lasting"'))
    assert campaign(tmp_path, "submit").returncode == 0
    assert lines(tmp_path / "processes") == ["a,kills;b;c", "a,kills", "b", "c"]
    assert Counter(lines(tmp_path / "work")) == {"a,kills": 2, "b": 1, "c": 1}


def test_member_may_call_its_output_as_our_own_files_are_called(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    file = tmp_path / "campaign.toml"
    file.write_text(file.read_text().replace('out = "out.txt"', 'out = "batch.json"'))
    assert campaign(tmp_path, "submit").returncode == 1
    assert by_member(tmp_path, "reason") == dict.fromkeys("ab", "the declared output batch.json (out) is missing")


# kills from outside


def waiting_batch(folder: Path, *members: str, **options: str) -> subprocess.Popen[bytes]:
    """Start a run of a batch, one member of which waits for the file ``go``, and return when it waits."""
    write(folder, *members, **options)
    runner = start(folder)
    wait_until(lambda: any("waits" in line for line in lines(folder / "work")))
    wait_until(lambda: "running" in states(folder).values())
    return runner


def test_cancelled_member_is_cancelled_and_the_others_complete(tmp_path: Path) -> None:
    runner = waiting_batch(tmp_path, "a", "b,waits", "c")
    answer = campaign(tmp_path, "cancel", "--task", name_of(tmp_path, "c"))
    assert answer.returncode == 0, answer.stderr
    (tmp_path / "go").touch()

    assert runner.wait(60) == 1
    assert by_member(tmp_path, "state") == {"a": "done", "b": "done", "c": "cancelled"}
    assert by_member(tmp_path, "reason")["c"] == "cancelled on request"
    assert lines(tmp_path / "processes") == ["a;b,waits;c", "b,waits"]
    assert campaign(tmp_path, "submit").returncode == 0
    assert by_member(tmp_path, "attempts") == {"a": 1, "b": 2, "c": 2}


def test_interrupt_keeps_what_is_done_and_cancels_the_rest(tmp_path: Path) -> None:
    runner = waiting_batch(tmp_path, "a", "b,waits", "c")
    runner.send_signal(signal.SIGINT)

    assert runner.wait(60) == 1
    assert by_member(tmp_path, "state") == {"a": "done", "b": "cancelled", "c": "cancelled"}
    assert by_member(tmp_path, "reason") == {"a": None, "b": "interrupted", "c": "interrupted"}
    (tmp_path / "go").touch()
    assert campaign(tmp_path, "submit").returncode == 0
    assert lines(tmp_path / "processes") == ["a;b,waits;c", "b,waits;c"]


def test_batch_goes_on_without_its_runner_and_status_is_right_all_along(tmp_path: Path) -> None:
    runner = waiting_batch(tmp_path, "a", "b,waits", "c,diverges", "d,nan", "e,forgets", "f")
    runner.kill()
    runner.wait()
    assert set(by_member(tmp_path, "state").values()) == {"running"}
    (tmp_path / "go").touch()
    wait_until(lambda: "running" not in states(tmp_path).values())
    before = by_member(tmp_path, "state"), by_member(tmp_path, "reason")
    assert before == (
        {"a": "done", "b": "done", "c": "failed", "d": "invalid", "e": "invalid", "f": "done"},
        {
            "a": None,
            "b": None,
            "c": "ArithmeticError: c,diverges: no convergence",
            "d": "metric value is nan",
            "e": "the declared output out.txt (out) is missing",
            "f": None,
        },
    )
    assert status(tmp_path)["state"] == "failed"

    assert campaign(tmp_path, "submit").returncode == 1
    assert (by_member(tmp_path, "state"), by_member(tmp_path, "reason")) == before
    assert lines(tmp_path / "processes") == ["a;b,waits;c,diverges;d,nan;e,forgets;f"]


@pytest.mark.slow
def test_batch_that_dies_while_nobody_watches_is_told_lost_and_completed_later(tmp_path: Path) -> None:
    runner = waiting_batch(tmp_path, "a", "b,waits", "c")
    runner.kill()
    runner.wait()
    os.kill(process_of(tmp_path), signal.SIGKILL)
    wait_until(lambda: "running" not in states(tmp_path).values())
    assert by_member(tmp_path, "state") == {"a": "done", "b": "lost", "c": "lost"}
    assert status(tmp_path)["state"] == "interrupted"
    (tmp_path / "go").touch()

    assert campaign(tmp_path, "submit").returncode == 0
    assert lines(tmp_path / "processes") == ["a;b,waits;c", "b,waits", "c"]
    assert Counter(lines(tmp_path / "work")) == {"a": 1, "b,waits": 2, "c": 1}


def test_runner_killed_between_moving_a_result_and_writing_so_loses_nothing(tmp_path: Path) -> None:
    runner = waiting_batch(tmp_path, "a", "b,waits", "c", execution="lost_retries = 0")
    runner.kill()
    runner.wait()
    (tmp_path / "go").touch()
    wait_until(lambda: set(states(tmp_path).values()) == {"done"})
    for partial_directory in tmp_path.glob("runs/member/*.partial"):  # as the runner does it
        if json.loads((partial_directory / "task.json").read_text())["fields"]["x"] != "c":
            partial_directory.rename(partial_directory.with_name(partial_directory.name.split(".")[0]))

    assert set(states(tmp_path).values()) == {"done"}
    assert campaign(tmp_path, "submit").returncode == 0
    assert by_member(tmp_path, "state") == {"a": "done", "b": "done", "c": "done"}
    assert history(tmp_path, "a") == ["queued", "running", "done"]
    assert lines(tmp_path / "processes") == ["a;b,waits;c"]


@pytest.mark.parametrize("who", ["launcher", pytest.param("both", marks=pytest.mark.slow)])
def test_launcher_killed_in_a_batch_costs_only_what_had_no_result(tmp_path: Path, who: str) -> None:
    runner = waiting_batch(tmp_path, "a", "b,waits", "c", execution="lost_retries = 1")
    launcher = launcher_of(tmp_path)
    if who == "both":
        runner.kill()
        runner.wait()
    os.kill(launcher, signal.SIGKILL)
    wait_until(partial(is_gone, launcher))
    (tmp_path / "go").touch()
    if who == "both":
        runner = start(tmp_path)

    assert runner.wait(60) == 0
    assert by_member(tmp_path, "state") == {"a": "done", "b": "done", "c": "done"}
    assert by_member(tmp_path, "attempts") == {"a": 1, "b": 2, "c": 2}
    assert history(tmp_path, "c")[-5:] == ["lost", "planned", "queued", "running", "done"]


@pytest.mark.slow
def test_restarted_kind_that_is_lost_before_it_begins_does_not_inherit_its_last_failure(tmp_path: Path) -> None:
    write(tmp_path, "a,diverges", "b,diverges", execution="lost_retries = 0")
    file = tmp_path / "campaign.toml"
    file.write_text(file.read_text().replace('kind = "member"', 'kind = "lasting"'))
    assert campaign(tmp_path, "submit").returncode == 1
    file = tmp_path / "kinds.py"
    file.write_text(PLUGIN + '\nif "SOCM_RUN" in os.environ:\n    raise OSError("not in a task")\n')

    assert campaign(tmp_path, "retry").returncode == 1

    line = len(file.read_text().splitlines())
    why = f"plug-in {file} cannot be imported: OSError: not in a task (line {line})"
    ended = f"not started: the warm Python process ended with exit status 1: {why}"
    assert by_member(tmp_path, "reason") == dict.fromkeys("ab", ended)


def test_meddling_with_the_directory_of_another_member_is_undone_by_its_own_work(tmp_path: Path) -> None:
    submit(tmp_path, "a,meddles", "b", "c")
    texts = {m: (tmp_path / "runs/member" / r["id"][:12] / "out.txt").read_text() for m, r in results(tmp_path).items()}
    assert texts == {"a": "a,meddles", "b": "b", "c": "c"}


@pytest.mark.slow
def test_thousand_members_are_done_one_by_one_in_two_processes(tmp_path: Path) -> None:
    members: Sequence[str] = [f"{index:04d}" for index in range(1000)]
    submit(tmp_path, *members, execution="").check_returncode()
    assert Counter(states(tmp_path).values()) == {"done": 1000}
    assert sorted(lines(tmp_path / "work")) == members
    assert {member: result["metrics"]["value"] for member, result in results(tmp_path).items()} == {
        member: member for member in members
    }
    assert set(reasons(tmp_path).values()) == {None}
