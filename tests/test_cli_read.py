"""The commands that look: status, logs, results, graph, kinds, init; the real program on real files."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from socm_like.campaign import load_campaign
from socm_like.identity import FileDigests
from socm_like.journal import Event, Journal, TaskState, event_at
from socm_like.plan import make_plan
from socm_like.resources import Machine
from socm_like.store import RunDirectory, RunLock

CAMPAIGN = [sys.executable, "-m", "socm_like.cli"]
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
depends_on = ["second"]
"""
MANY = '[campaign]\nname = "many"\n' + "".join(
    f'[campaign.{group}.n{index}]\nkind = "command"\ncommand = ["echo", "{group}", "{index}"]\n'
    for group in ("maps", "sims")
    for index in range(25)
)


def campaign(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if key not in ("SOCM_STORE", "NO_COLOR")}
    return subprocess.run(
        [*CAMPAIGN, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False, env=variables
    )


def made_run(folder: Path, events: Sequence[Event] = (), text: str = CHAIN) -> RunDirectory:
    (folder / "campaign.toml").write_text(text)
    plan = make_plan(load_campaign(folder / "campaign.toml"), folder / "runs", MACHINE, FileDigests())
    run = RunDirectory(plan.store / "campaigns" / plan.run_name)
    run.path.mkdir(parents=True)
    run.plan.write_text(plan.to_json())
    journal = Journal(run.journal)
    journal.append(events)
    journal.close()
    return run


def ran(task: str, state: TaskState, attempt: int = 1, **detail: object) -> list[Event]:
    return [
        event_at(NOON, task, attempt, TaskState.QUEUED),
        event_at(NOON, task, attempt, TaskState.RUNNING),
        event_at(NOON + 65, task, attempt, state, **detail),
    ]


def log(run: RunDirectory, task: str, stream: str, content: bytes, attempt: int = 1) -> Path:
    path = run.log(task, task, attempt, stream)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@contextmanager
def held(run: RunDirectory) -> Iterator[None]:
    lock = RunLock(run)
    lock.acquire()
    yield
    lock.release()


# status


FAILED = [
    *ran("first", TaskState.DONE),
    *ran("second", TaskState.FAILED, reason="exit status 3"),
    event_at(NOON + 65, "third", 1, TaskState.SKIPPED, reason="needs second, which is failed"),
]


def test_status_lists_tasks_and_tells_failures_with_their_log(tmp_path: Path) -> None:
    run = made_run(tmp_path, FAILED)
    answer = campaign(tmp_path, "status")

    lines = answer.stdout.splitlines()
    assert lines[0] == f"{run.name}  failed"
    assert lines[1].startswith("campaign chain, took 1 min 05 s, ended ")
    assert lines[3:] == [
        "3 of 3 finished: 1 done, 1 failed, 1 skipped",
        "",
        "task    state    attempts     runtime  reason",
        "first   done            1  1 min 05 s",
        "second  failed          1  1 min 05 s  exit status 3",
        "third   skipped         -           -  needs second, which is failed",
        "",
        "went wrong",
        "  failed second: exit status 3",
        f"    runs/campaigns/{run.name}/logs/second/second.1.err",
    ]
    assert answer.stderr == (
        f"\nlook closer: campaign logs TASK --run {run.name}\nrun again what failed: campaign retry {run.name}\n"
    )
    assert answer.returncode == 1


def test_status_names_the_log_that_holds_something(tmp_path: Path) -> None:
    run = made_run(tmp_path, FAILED)
    log(run, "second", "err", b"")
    out = log(run, "second", "out", b"why\n")
    assert campaign(tmp_path, "status").stdout.splitlines()[-1] == f"    {out.relative_to(tmp_path)}"


def test_status_failed_lists_failures_only(tmp_path: Path) -> None:
    run = made_run(tmp_path, FAILED)
    answer = campaign(tmp_path, "status", "--failed")
    assert answer.stdout == (
        f"  failed second: exit status 3\n    runs/campaigns/{run.name}/logs/second/second.1.err\n"
    )
    tasks = json.loads(campaign(tmp_path, "status", "--failed", "--json").stdout)["tasks"]
    assert [task["task"] for task in tasks] == ["second"]


def test_status_of_an_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    run = made_run(tmp_path, ran("first", TaskState.DONE))
    answer = campaign(tmp_path, "status", run.name)
    assert answer.stdout.startswith(f"{run.name}  interrupted\ncampaign chain, nobody works on it, last news ")
    assert answer.stderr == "\ngo on: campaign submit campaign.toml\n"
    assert answer.returncode == 0


def test_status_of_a_live_run_says_who_holds_it(tmp_path: Path) -> None:
    run = made_run(tmp_path, ran("first", TaskState.DONE))
    with held(run):
        answer = campaign(tmp_path, "status")
    assert f"held by process {os.getpid()} on " in answer.stdout.splitlines()[1]
    assert answer.returncode == 0


def test_status_of_many_workflows_counts_them_by_group(tmp_path: Path) -> None:
    events = [
        *ran("maps.n3", TaskState.DONE),
        *ran("maps.n4", TaskState.FAILED),
        event_at(NOON, "maps.n5", 1, TaskState.QUEUED),
    ]
    run = made_run(tmp_path, [*events, event_at(NOON, "maps.n5", 1, TaskState.RUNNING)], MANY)
    with held(run):
        lines = campaign(tmp_path, "status").stdout.splitlines()
    assert lines[5:12] == [
        "workflow  tasks  planned  running  done  failed  mean runtime",
        "maps.*       25       22        1     1       1    1 min 05 s",
        "sims.*       25       25        -     -       -             -",
        "",
        "running",
        "task     state    attempts  runtime  reason",
        lines[11],
    ]
    assert lines[11].startswith("maps.n5  running")


def test_wrong_run_is_exit_status_2_and_names_the_runs(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    answer = campaign(tmp_path, "status", "chian")
    assert answer.returncode == 2
    assert answer.stderr == f"'chian' is no run of {tmp_path}/runs; there are: {run.name}\n"


def test_damaged_journal_is_exit_status_1_and_one_message(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    run.journal.write_bytes(run.journal.read_bytes() + b"garbage\n" * 2)
    answer = campaign(tmp_path, "status")
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"{run.journal}:2: damaged journal line")
    assert answer.stderr.count("\n") == 1


def test_watch_without_a_terminal_prints_a_line_when_counts_change(tmp_path: Path) -> None:
    run = made_run(tmp_path, ran("first", TaskState.DONE))
    with held(run):
        process = subprocess.Popen([*CAMPAIGN, "status", "--watch"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first = process.stdout.readline()
        journal = Journal(run.journal)
        journal.append([event for task in ("second", "third") for event in ran(task, TaskState.DONE)])
        journal.close()
        second = process.stdout.readline()
    rest = process.communicate(timeout=60)[0]
    assert [line.partition(" ")[2] for line in (first, second, rest)] == [
        "running: 1 done, 1 planned, 1 blocked\n",
        "running: 3 done\n",
        "done: 3 done\n",
    ]
    assert process.returncode == 0


ENTER, LEAVE = b"\x1b[?1049h\x1b[?25l\x1b[?7l", b"\x1b[?7h\x1b[?25h\x1b[?1049l"


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.master, child = pty.openpty()
        self.attributes = termios.tcgetattr(self.master)
        variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        self.process = subprocess.Popen(
            [*CAMPAIGN, *words], cwd=folder, stdin=child, stdout=child, stderr=child, env=variables,
            start_new_session=True,
        )  # fmt: skip
        os.close(child)
        self.seen = b""

    def read_until(self, text: bytes) -> None:
        while text not in self.seen:
            self.seen += os.read(self.master, 1 << 16)

    def read_to_end(self) -> int:
        try:
            while data := os.read(self.master, 1 << 16):
                self.seen += data
        except OSError:  # EIO: the other side is closed
            pass
        return self.process.wait(60)


def test_watch_redraws_on_the_other_screen_and_ends_with_the_run(tmp_path: Path) -> None:
    run = made_run(tmp_path, ran("first", TaskState.DONE))
    with held(run):
        terminal = Terminal(tmp_path, "status", "--watch")
        terminal.read_until(b"Ctrl-C stops watching")
        journal = Journal(run.journal)
        journal.append([event for task in ("second", "third") for event in ran(task, TaskState.DONE)])
        journal.close()
    assert terminal.read_to_end() == 0
    assert terminal.seen.startswith(ENTER)
    watched, _, after = terminal.seen.partition(LEAVE)
    assert b"\x1b[2J" not in watched
    assert b"3 of 3 finished" in after
    assert b"\x1b[?" not in after


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_watch_leaves_the_terminal_as_it_was(tmp_path: Path, number: signal.Signals, status: int) -> None:
    run = made_run(tmp_path, ran("first", TaskState.DONE))
    with held(run):
        terminal = Terminal(tmp_path, "status", "--watch")
        terminal.read_until(b"Ctrl-C stops watching")
        terminal.process.send_signal(number)
        assert terminal.read_to_end() == status
    assert terminal.seen.count(ENTER) == terminal.seen.count(LEAVE) == 1
    assert termios.tcgetattr(terminal.master) == terminal.attributes


def test_no_color_prints_no_colours_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_run(tmp_path, FAILED)
    coloured = Terminal(tmp_path, "status")
    coloured.read_to_end()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal(tmp_path, "status")
    plain.read_to_end()
    assert b"\x1b[31mfailed" in coloured.seen
    assert b"\x1b[" not in plain.seen


def test_json_of_one_moment_cannot_be_watched(tmp_path: Path) -> None:
    made_run(tmp_path)
    answer = campaign(tmp_path, "status", "--watch", "--json")
    assert (answer.returncode, answer.stderr) == (2, "--json shows one moment; leave --watch out\n")


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["logs", "first"], ["results"], ["--help"]])
def test_looking_loads_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    log(made_run(tmp_path, ran("first", TaskState.DONE)), "first", "out", b"x\n")
    heavy = ("pydantic", "rich", "numpy", "networkx", "matplotlib", "jax", "h5py")
    program = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print(*[name for name in {heavy} if name in sys.modules], file=sys.stderr))\n"
        "from socm_like.cli import main\nmain()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.stderr.splitlines()[-1] == ""


# logs


def test_logs_show_both_streams_under_their_names(tmp_path: Path) -> None:
    run = made_run(tmp_path, ran("first", TaskState.DONE))
    out, err = log(run, "first", "out", b"hello\n"), log(run, "first", "err", b"no newline")
    answer = campaign(tmp_path, "logs", "first")
    assert answer.stdout == (
        f"==> {out.relative_to(tmp_path)} <==\nhello\n\n==> {err.relative_to(tmp_path)} <==\nno newline"
    )
    assert campaign(tmp_path, "logs", "first", "--out").stdout == "hello\n"
    assert campaign(tmp_path, "logs", "first", "--err").stdout == "no newline"
    assert campaign(tmp_path, "logs", "first", "--path").stdout == f"{out}\n{err}\n"


def test_logs_escape_what_could_disturb_a_terminal(tmp_path: Path) -> None:
    run = made_run(tmp_path, ran("first", TaskState.DONE))
    log(run, "first", "out", b"tab\there\r\n10%\r20%\n\x1b[31mred\x00\x9b\xff\xfe caf\xc3\xa9\n\x07")
    shown = "tab\there\n10%\\r20%\n\\x1b[31mred\\x00\ufffd\ufffd\ufffd café\n\\x07"
    assert campaign(tmp_path, "logs", "first", "--out").stdout == shown


@pytest.mark.parametrize(
    ("content", "lines", "expected"),
    [
        (b"a\nb\nc\n", 2, "b\nc\n"),
        (b"a\nb\nc", 2, "b\nc"),
        (b"a\nb\nc\n", 9, "a\nb\nc\n"),
        (b"a\n\n\n", 2, "\n\n"),
        (b"a\nb\n", 0, ""),
        (b"", 3, ""),
        (b"\n", 1, "\n"),
        (b"start\n" + b"x" * 200_000 + b"\nend\n", 2, "x" * 200_000 + "\nend\n"),
        (b"1234567\n" * 30_000, 20_000, "1234567\n" * 20_000),
    ],
)
def test_tail_shows_the_last_lines(tmp_path: Path, content: bytes, lines: int, expected: str) -> None:
    log(made_run(tmp_path, ran("first", TaskState.DONE)), "first", "out", content)
    assert campaign(tmp_path, "logs", "first", "--out", "--tail", str(lines)).stdout == expected


def test_tail_reads_only_the_end_of_a_huge_log(tmp_path: Path) -> None:
    path = log(made_run(tmp_path, ran("first", TaskState.DONE)), "first", "out", b"")
    with path.open("r+b") as file:  # 8 GB, all but the end a hole
        file.seek(8_000_000_000)
        file.write(b"\nlast\n")
    program = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_CPU, (5, 5))\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))\n"
        "from socm_like.cli import main\nmain()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, "logs", "first", "--out", "--tail", "1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (answer.stdout, answer.returncode) == ("last\n", 0)


def test_tail_of_one_endless_line_is_its_end_and_says_so(tmp_path: Path) -> None:
    path = log(made_run(tmp_path, ran("first", TaskState.DONE)), "first", "out", b"x" * 20_000_000)
    answer = campaign(tmp_path, "logs", "first", "--out", "--tail", "1")
    assert answer.stdout == "x" * 2**24
    assert answer.stderr == f"{path.relative_to(tmp_path)}: 1 lines are more than 16 MiB; this is their end\n"


def test_logs_are_of_the_last_attempt_or_the_one_asked_for(tmp_path: Path) -> None:
    run = made_run(tmp_path, [*ran("first", TaskState.FAILED), *ran("first", TaskState.DONE, attempt=2)])
    log(run, "first", "out", b"one\n")
    log(run, "first", "out", b"two\n", attempt=2)
    assert campaign(tmp_path, "logs", "first").stdout == "two\n"
    assert campaign(tmp_path, "logs", "first", "--attempt", "1").stdout == "one\n"
    answer = campaign(tmp_path, "logs", "first", "--attempt", "3")
    assert (answer.returncode, answer.stderr) == (2, "first has no attempt 3; the last is 2\n")


def test_logs_of_what_was_not_launched_say_why(tmp_path: Path) -> None:
    run = made_run(tmp_path, [event_at(NOON, "first", 1, TaskState.CACHED)])
    cached, blocked = campaign(tmp_path, "logs", "first"), campaign(tmp_path, "logs", "third")
    kept = f"an earlier run left its result in {tmp_path}/runs/command/"
    assert cached.stderr.startswith(f"first has no logs: it is cached and was not launched in this run; {kept}")
    assert blocked.stderr == (
        "third has no logs: it is blocked and was not launched in this run: it waits for second\n"
    )
    unknown = campaign(tmp_path, "logs", "frist")
    there = "there are: first, second, third"
    assert unknown.stderr == f"'frist' is no task of {run.name}; {there}; did you mean 'first'?\n"
    assert (cached.returncode, blocked.returncode, unknown.returncode) == (2, 2, 2)


def test_logs_that_were_deleted_are_missed(tmp_path: Path) -> None:
    made_run(tmp_path, ran("first", TaskState.DONE))
    answer = campaign(tmp_path, "logs", "first", "--err")
    assert answer.returncode == 1
    assert answer.stderr.startswith("no log: runs/campaigns/chain-")


def test_follow_prints_what_comes_until_the_attempt_ends(tmp_path: Path) -> None:
    run = made_run(
        tmp_path, [event_at(NOON, "first", 1, TaskState.QUEUED), event_at(NOON, "first", 1, TaskState.RUNNING)]
    )
    path = log(run, "first", "out", b"one\n")
    with held(run):
        process = subprocess.Popen(
            [*CAMPAIGN, "logs", "first", "--follow", "--out"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "one\n"
        with path.open("ab") as file:
            file.write("zwei é\n".encode()[:6])
            file.flush()
            time.sleep(0.3)  # a character torn by two writes is the point
            file.write("zwei é\n".encode()[6:])
        assert process.stdout.readline() == "zwei é\n"
        journal = Journal(run.journal)
        journal.append([event_at(NOON + 1, "first", 1, TaskState.DONE)])
        journal.close()
        assert process.communicate(timeout=60)[0] == ""
    assert process.returncode == 0


def test_follow_ends_on_ctrl_c(tmp_path: Path) -> None:
    run = made_run(tmp_path, [event_at(NOON, "first", 1, TaskState.QUEUED)])
    log(run, "first", "out", b"one\n")
    with held(run):
        process = subprocess.Popen(
            [*CAMPAIGN, "logs", "first", "-f", "--out"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


# results


def test_results_are_one_table_per_workflow_with_what_differs(tmp_path: Path) -> None:
    run = made_run(tmp_path, [*ran("maps.n0", TaskState.DONE), *ran("maps.n1", TaskState.DONE)], MANY)
    tasks = json.loads(run.plan.read_text())["tasks"]
    for index, chi2 in ((0, 1.25), (1, 10.5)):
        folder = tmp_path / "runs" / tasks[index]["folder"]
        folder.mkdir(parents=True)
        metrics = {"chi2": chi2, "dof": 8, "covariance": [[1.0] * 9] * 9}
        (folder / "result.json").write_text(json.dumps({"id": tasks[index]["id"], "metrics": metrics}))

    answer = campaign(tmp_path, "results", "--workflow", "maps")

    lines = answer.stdout.splitlines()
    assert lines[:5] == [
        "maps.*  command, 25 tasks",
        "task      state     chi2",
        "maps.n0   done      1.25",
        "maps.n1   done     10.50",
        "maps.n2   planned",
    ]
    assert lines[-1] == "the same in all: dof = 8"
    assert answer.returncode == 0
    header, *rows = campaign(tmp_path, "results", "--csv").stdout.splitlines()
    names = "command,inputs,chi2,dof,covariance,attempts,started,ended,wall_seconds,cpu_seconds,peak_memory_bytes"
    assert header == f"task,workflow,kind,state,{names},peak_gpu_memory_bytes"
    assert len(rows) == 50
    found = json.loads(campaign(tmp_path, "results", "--json").stdout)
    assert [row["metrics"].get("chi2") for row in found[:3]] == [1.25, 10.5, None]


def test_result_that_should_be_there_and_is_not_is_exit_status_1(tmp_path: Path) -> None:
    made_run(tmp_path, ran("first", TaskState.DONE))
    answer = campaign(tmp_path, "results", "--json")
    assert answer.returncode == 1
    assert answer.stderr.startswith("first is done, but ")
    assert json.loads(answer.stdout)[0]["metrics"] == {}


def test_unknown_workflow_names_those_there_are(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    answer = campaign(tmp_path, "results", "--workflow", "frist")
    there = "there are: first, second, third"
    assert answer.stderr == f"'frist' is no workflow of {run.name}; {there}; did you mean 'first'?\n"


# graph


def test_graph_of_a_campaign_is_dot_and_of_a_run_is_coloured(tmp_path: Path) -> None:
    run = made_run(tmp_path, FAILED)
    plan, of_run = campaign(tmp_path, "graph", "campaign.toml").stdout, campaign(tmp_path, "graph").stdout
    assert plan.startswith('digraph "chain" {\n')
    assert '  "first" -> "second";\n  "second" -> "third";\n}\n' in plan
    assert f'digraph "{run.name}: failed"' in of_run
    assert '"second" [label="second\\nfailed", fillcolor="#fde3e1"];' in of_run


def test_graph_writes_a_picture_and_refuses_other_formats(tmp_path: Path) -> None:
    made_run(tmp_path, FAILED)
    answer = campaign(tmp_path, "graph", "-o", "deep/graph.svg")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "wrote deep/graph.svg\n")
    assert (tmp_path / "deep/graph.svg").read_text().startswith("<svg ")
    answer = campaign(tmp_path, "graph", "-o", "graph.png")
    assert (answer.returncode, answer.stderr) == (2, "--output graph.png: the name must end in .svg or .dot\n")


def test_graph_of_a_missing_campaign_says_so(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "graph", "no.toml")
    assert (answer.returncode, answer.stderr) == (2, "no.toml: no such file; write a starter with: campaign init\n")


def test_graph_of_many_tasks_shows_workflows(tmp_path: Path) -> None:
    table = '[campaign.each]\nkind = "command"\ncommand = ["true"]\nfor_each = "sims.n0"\n'
    (tmp_path / "campaign.toml").write_text(MANY + table)
    by_workflow = json.loads(campaign(tmp_path, "graph", "campaign.toml", "--json", "--by", "workflow").stdout)
    assert by_workflow["nodes"][-1]["label"] == "1 task"
    assert by_workflow["edges"] == [["sims.n0", "each"]]


# kinds


PLUGIN = '''
from __future__ import annotations
from typing import Annotated, Literal
from pathlib import Path
from pydantic import Field
from socm_like import Bytes, Duration, NotIdentity, Workflow


class Base(Workflow):
    """Not described further."""

    size: Bytes = 8 * 2**30
    """How large.

    In the second paragraph: why.
    """


class SkyMap(Base):
    """Make a map.

    Of the sky.
    """

    data: Path
    """The data."""
    limit: Annotated[float, Field(gt=0, le=1, json_schema_extra={"unit": "arcmin"})] = 0.5
    mode: Literal["fast", "right"] = Field("right", description="How.")
    """Not this."""
    patience: Duration | None = None
    ranges: tuple[tuple[float, float], ...] = ()
    verbose: Annotated[bool, NotIdentity()] = False
    """Talk."""
'''


def test_kinds_lists_installed_kinds_and_those_of_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text(PLUGIN)
    (tmp_path / "tools.toml").write_text(
        '[kind.tool]\ndoc = "Run a tool."\ncommand = ["tool", "{n}"]\n'
        '[kind.tool.fields.n]\ntype = "int"\nunit = "pixel"\ndoc = "How many."\ndefault = 3\n'
    )
    answer = campaign(tmp_path, "kinds", "--plugin", "plug.py", "--plugin", "tools.toml", "--json")
    found = {kind["kind"]: kind for kind in json.loads(answer.stdout)}
    assert {"command", "fit", "base", "sky-map", "tool"} <= set(found)
    assert found["sky-map"] == {
        "kind": "sky-map", "doc": "Make a map.", "from": f"{tmp_path}/plug.py", "version": "1",
    }  # fmt: skip
    tool = campaign(tmp_path, "kinds", "tool", "--plugin", "tools.toml").stdout
    assert tool.splitlines()[:6] == [
        "tool  version 1, runs a program, from the table [kind.tool]",
        "",
        "Run a tool.",
        "",
        "[campaign.tool]",
        "  n: integer, in pixel; default 3",
    ]


def test_kind_is_described_field_by_field(tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text(PLUGIN)
    answer = campaign(tmp_path, "kinds", "sky-map", "--plugin", "plug.py")
    described = answer.stdout.partition("\n\nevery workflow has")[0]
    assert (
        described
        == f"""\
sky-map  version 1, runs a program, from {tmp_path}/plug.py

Make a map.

Of the sky.

[campaign.sky-map]
  size: size ("8 GiB"); default "8 GiB"
      How large.

      In the second paragraph: why.
  data: path; required
      The data.
  limit: number, in arcmin, > 0, <= 1; default 0.5
  mode: one of "fast", "right"; default "right"
      How.
  patience: time span ("20 min"); default none
  ranges: list of [number, number]; default []
  verbose: true or false; default false
      Talk. Does not count for the identity."""
    )


def test_schema_of_a_kind_has_its_texts(tmp_path: Path) -> None:
    schema = json.loads(campaign(tmp_path, "kinds", "command", "--json").stdout)
    assert (schema["kind"], schema["version"], schema["additionalProperties"]) == ("command", "1", False)
    assert schema["properties"]["inputs"]["description"].startswith("Further files the program reads")


def test_kinds_of_a_campaign_file_include_its_own(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text(
        '[campaign]\nname = "x"\n[campaign.a]\nkind = "tool"\n[kind.tool]\ncommand = ["true"]\n'
    )
    answer = campaign(tmp_path, "kinds", "--campaign", "campaign.toml")
    assert "tool      Run true." in answer.stdout


def test_unknown_kind_is_exit_status_2_with_a_guess(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "kinds", "comand")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.endswith("did you mean 'command'?\n")


# init


def test_starter_runs_as_it_stands(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "init", "mine")
    assert answer.returncode == 0
    assert "  cd mine\n  campaign check" in answer.stdout
    folder = tmp_path / "mine"

    submitted = campaign(folder, "submit")

    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    (fit,) = [row for row in json.loads(campaign(folder, "results", "--json").stdout) if row["task"] == "fit"]
    assert abs(fit["metrics"]["slope"] - 2) < 4 * fit["metrics"]["slope_error"]
    assert "standard errors from the true value 2" in campaign(folder, "logs", "summary").stdout


def test_starter_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "fit.py").write_text("mine")
    answer = campaign(tmp_path, "init")
    assert answer.returncode == 2
    assert answer.stderr == (
        "fit.py exists, and nothing was written; name another directory: campaign init DIRECTORY\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["fit.py"]
