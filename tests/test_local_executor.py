"""The local executor with real processes: what ends how, what is enforced, and what survives which death."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from socm_like.errors import ExecutorError
from socm_like.executors.base import Attempt, Launch
from socm_like.executors.launcher_log import observe, read_launcher, translate
from socm_like.executors.launcher_processes import end_survivors
from socm_like.executors.local import LocalExecutor
from socm_like.journal import Event, TaskState
from socm_like.resources import Machine, Resources
from socm_like.store import RunDirectory, process_started

CORES = tuple(sorted(os.sched_getaffinity(0)))
MEBIBYTE = 1 << 20
PATIENCE = 60.0


class Bench:
    """One run directory, an executor on it, and short ways to launch things and to wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = RunDirectory(folder / "campaigns" / "test-01234567")
        self.run.path.mkdir(parents=True)
        self.machine = Machine(name="bench", cores=CORES[:2], memory=4 << 30)
        self.executor = LocalExecutor(self.run, self.machine)
        self.events: list[Event] = []
        self.attempts: list[Attempt] = []

    def use(self, **changes: Any) -> LocalExecutor:
        """Make another executor on the same run, like another process would."""
        self.executor.close()
        machine = self.machine.model_copy(update={k: v for k, v in changes.items() if k in Machine.model_fields})
        others = {name: value for name, value in changes.items() if name not in Machine.model_fields}
        self.executor = LocalExecutor(self.run, machine, **others)
        return self.executor

    def launch(self, *argv: str, name: str = "task", number: int = 1, **more: Any) -> Launch:
        """Describe an attempt; keywords are fields of Resources and Launch."""
        directory = self.folder / "work" / name
        directory.mkdir(parents=True, exist_ok=True)
        resources = {key: more.pop(key) for key in list(more) if key in Resources.model_fields}
        self.attempts.append(Attempt(name, number))
        return Launch(
            attempt=Attempt(name, number),
            argv=argv or None,
            directory=directory,
            stdout=directory / f"{number}.out",
            stderr=directory / f"{number}.err",
            resources=Resources(**resources),
            **{"grace": 0.3, **more},
        )

    def shell(self, script: str, **more: Any) -> Launch:
        return self.launch("/bin/sh", "-c", script, **more)

    def python(self, script: str, **more: Any) -> Launch:
        return self.launch(sys.executable, "-I", "-S", "-c", script, **more)

    def wait(self, predicate: Callable[[], Any]) -> Any:
        """Take in events until something holds."""
        deadline = time.monotonic() + PATIENCE
        while not (found := predicate()):
            assert time.monotonic() < deadline, f"never came true; events: {self.events}"
            self.events.extend(self.executor.poll(0.02))
        return found

    def ends(self) -> Mapping[Attempt, Event]:
        return {Attempt(event.task, event.attempt): event for event in self.events if event.state.is_final}

    def run_to_end(self, *launches: Launch) -> list[Event]:
        """Submit, wait for all, and return the final events in the order of the launches."""
        self.executor.submit(launches)
        self.wait(lambda: all(launch.attempt in self.ends() for launch in launches))
        return [self.ends()[launch.attempt] for launch in launches]

    def submit_and_wait_for(self, launch: Launch, text: str) -> None:
        """Submit, and wait until the task has written a word to its output."""
        self.executor.submit([launch])
        self.wait(lambda: launch.stdout.exists() and text in launch.stdout.read_text())

    def pid_of(self, name: str = "task") -> int:
        return int(
            self.wait(
                lambda: next((e.detail["pid"] for e in self.events if e.task == name and "pid" in e.detail), None)
            )
        )

    def end(self) -> None:
        """End the launcher and whatever it runs."""
        self.executor.close()
        kill_launcher(self.run)
        end_survivors(str(self.run.path), dict.fromkeys(self.attempts))


def kill_launcher(run: RunDirectory) -> None:
    launcher = read_launcher(run)
    if launcher is not None:
        os.kill(launcher.pid, signal.SIGKILL)
        wait_until(lambda: process_started(launcher.pid) is None)


def wait_until(predicate: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not predicate():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    return process_started(pid) is not None


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.end()


# how tasks end


def test_exit_status_0_is_done(bench: Bench) -> None:
    (end,) = bench.run_to_end(bench.launch("/bin/true"))
    running = bench.events[0]
    assert [event.state for event in bench.events] == [TaskState.RUNNING, TaskState.DONE]
    assert running.detail.keys() == {"pid"}
    assert running.at < end.at
    assert end.detail.keys() == {"exit_code", "peak_memory", "cpu"}
    assert end.detail["exit_code"] == 0


def test_other_exit_status_is_failed(bench: Bench) -> None:
    (end,) = bench.run_to_end(bench.shell("exit 3"))
    assert (end.state, end.detail["reason"], end.detail["exit_code"]) == (TaskState.FAILED, "exit status 3", 3)


def test_signal_is_failed_and_named(bench: Bench) -> None:
    ends = bench.run_to_end(bench.shell("kill -9 $$", name="nine"), bench.shell("kill -SEGV $$", name="eleven"))
    assert [(end.state, end.detail["reason"], end.detail["signal"]) for end in ends] == [
        (TaskState.FAILED, "signal 9 (SIGKILL)", 9),
        (TaskState.FAILED, "signal 11 (SIGSEGV)", 11),
    ]


def test_task_killed_by_somebody_is_failed(bench: Bench) -> None:
    launch = bench.shell("exec sleep 1000")
    bench.executor.submit([launch])
    os.kill(bench.pid_of(), signal.SIGKILL)
    bench.wait(bench.ends)
    end = bench.ends()[launch.attempt]
    assert (end.state, end.detail["reason"]) == (TaskState.FAILED, "signal 9 (SIGKILL)")


def test_program_that_cannot_be_started_is_failed_with_the_reason(bench: Bench) -> None:
    def script(name: str, text: str, mode: int) -> str:
        path = bench.folder / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    forbidden = script("forbidden", "#!/bin/sh\n", 0o644)
    orphan = script("orphan", "#!/no/such/interpreter\n", 0o755)
    bare = script("bare", "true\n", 0o755)
    launches = {
        "program not found: 'no-such-program'": bench.launch("no-such-program", name="a"),
        "program not found: './no/such program'": bench.launch("./no/such program", name="b"),
        f"permission denied: {forbidden!r}": bench.launch(forbidden, name="c"),
        "permission denied: 'forbidden'": bench.launch("forbidden", name="d", environment={"PATH": str(bench.folder)}),
        f"the interpreter of {orphan!r} is not there": bench.launch(orphan, name="e"),
        f"not a program: {bare!r} has no #! line": bench.launch(bare, name="f"),
        f"permission denied: {str(bench.folder)!r}": bench.launch(str(bench.folder), name="g"),
        "embedded null byte": bench.launch("true", "a\0b", name="h"),
        "asks 1000 cores, the machine has 2": bench.launch("true", name="i", threads=1000),
    }
    ends = bench.run_to_end(*launches.values())
    assert [end.detail["reason"] for end in ends] == [f"not started: {reason}" for reason in launches]
    assert {end.state for end in ends} == {TaskState.FAILED}
    assert not any(event.state is TaskState.RUNNING for event in bench.events)


def test_missing_directory_or_log_folder_is_named(bench: Bench) -> None:
    no_directory, no_logs = bench.launch("true", name="a"), bench.launch("true", name="b")
    no_directory.directory.rmdir()
    no_logs = Launch(no_logs.attempt, no_logs.argv, no_logs.directory, Path("/no/out"), Path("/no/err"), Resources())
    ends = bench.run_to_end(no_directory, no_logs)
    assert [end.detail["reason"] for end in ends] == [
        f"not started: cannot enter the directory {str(no_directory.directory)!r}: No such file or directory",
        "not started: cannot write the log '/no/out'",
    ]


def test_program_that_appears_later_is_found_then(bench: Bench) -> None:
    (bench.folder / "bin").mkdir()
    program = bench.folder / "bin" / "tool"
    path = {"PATH": f"{bench.folder}/bin:{bench.folder}"}
    states = []
    for number in (1, 2, 3):
        launch = bench.launch("tool", number=number, environment=path)
        states.append(bench.run_to_end(launch)[0].state)
        if number == 1:
            program.symlink_to("/bin/true")
        elif number == 2:
            program.rename(bench.folder / "tool")
    assert states == [TaskState.FAILED, TaskState.DONE, TaskState.DONE]


# what a task finds


def test_task_has_its_directory_logs_and_no_input(bench: Bench) -> None:
    leak = os.dup(0)
    os.set_inheritable(leak, True)
    launch = bench.shell("pwd; cat; echo wrong >&2; ls -l /proc/self/fd | wc -l")
    bench.run_to_end(launch)
    os.close(leak)
    # the heading of ls, 0, 1, 2 and the folder that ls reads: nothing else is left open
    assert launch.stdout.read_text().splitlines() == [str(launch.directory), "5"]
    assert launch.stderr.read_text() == "wrong\n"


def test_both_streams_may_go_to_one_file(bench: Bench) -> None:
    launch = bench.shell("echo one; echo two >&2; echo three")
    launch = Launch(launch.attempt, launch.argv, launch.directory, launch.stdout, launch.stdout, Resources())
    bench.run_to_end(launch)
    assert launch.stdout.read_text() == "one\ntwo\nthree\n"


def test_environment_is_the_submitters_and_the_tasks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "from the shell")
    monkeypatch.setenv("SOCM_TASK", "an outer one")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    plain = bench.launch("env", name="a (ü) [0]")
    own = bench.launch("env", name="b", number=2, environment={"MINE": "ö'\n$x", "OMP_NUM_THREADS": "7"}, threads=2)
    bench.run_to_end(plain, own)
    lines = plain.stdout.read_text().splitlines()
    assert "MINE=from the shell" in lines
    assert {line for line in lines if line.startswith(("SOCM", "OMP", "CUDA"))} == {
        f"SOCM_RUN={bench.run.path}",
        "SOCM_TASK=a (ü) [0]",
        "SOCM_ATTEMPT=1",
        "OMP_NUM_THREADS=1",
    }
    text = own.stdout.read_text()
    assert "MINE=ö'\n$x\n" in text
    assert "OMP_NUM_THREADS=7\n" in text
    assert "SOCM_ATTEMPT=2\n" in text


def test_signals_are_as_in_a_login_shell(bench: Bench) -> None:
    launch = bench.shell("grep -E 'Sig(Blk|Ign)' /proc/self/status")
    bench.run_to_end(launch)
    masks = [int(line.split()[1], 16) & 0x7FFFFFFF for line in launch.stdout.read_text().splitlines()]
    assert masks == [0, 0]


def test_names_of_any_kind(bench: Bench) -> None:
    names = ["with space", "brackets[0].x", "käse ☃ 名", "quote'\"$HOME`x`", "tab\tand\nline", "x" * 150, "-rf", "%s{}"]
    launches = [bench.shell('printf %s "$SOCM_TASK"', name=name) for name in names]
    ends = bench.run_to_end(*launches)
    assert {end.state for end in ends} == {TaskState.DONE}
    assert [launch.stdout.read_bytes().decode() for launch in launches] == names


def test_output_of_100_megabytes_is_kept_whole(bench: Bench) -> None:
    launch = bench.shell("head -c 120000000 /dev/zero; head -c 1000000 /dev/zero >&2")
    (end,) = bench.run_to_end(launch)
    assert (end.state, launch.stdout.stat().st_size, launch.stderr.stat().st_size) == (
        TaskState.DONE,
        120000000,
        1000000,
    )


# time and cancelling

IGNORING = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
print(os.getpid(), flush=True)
time.sleep(1000)
"""


def test_runtime_limit_ends_a_task_that_ignores_it_and_its_children(bench: Bench) -> None:
    launch = bench.python(IGNORING, runtime=timedelta(seconds=0.5))
    (end,) = bench.run_to_end(launch)
    assert (end.state, end.detail["reason"], end.detail["signal"]) == (
        TaskState.TIMEOUT,
        "ran longer than its limit of 0.5 s",
        9,
    )
    pids = [int(line) for line in launch.stdout.read_text().split()]
    assert len(pids) == 2
    assert not any(is_running(pid) for pid in pids)


def test_task_that_leaves_cleanly_at_its_limit_is_still_a_timeout(bench: Bench) -> None:
    launch = bench.shell("trap 'exit 0' TERM; while :; do sleep 0.05; done", runtime=timedelta(seconds=0.3))
    (end,) = bench.run_to_end(launch)
    assert (end.state, end.detail["exit_code"]) == (TaskState.TIMEOUT, 0)


def test_stopped_task_is_ended_at_its_limit(bench: Bench) -> None:
    (end,) = bench.run_to_end(bench.shell("kill -STOP $$", runtime=timedelta(seconds=0.3), grace=1000.0))
    assert (end.state, end.detail["signal"]) == (TaskState.TIMEOUT, 15)


def test_cancelling_what_runs_waits_and_is_over(bench: Bench) -> None:
    bench.use(cores=CORES[:1])
    over, runs, waits = (bench.shell(script, name=script) for script in ("true", "sleep 1000", "echo never"))
    bench.run_to_end(over)
    bench.executor.submit([runs, waits])
    bench.pid_of("sleep 1000")
    bench.executor.cancel([over.attempt, runs.attempt, waits.attempt, Attempt("unknown", 1)])
    bench.wait(lambda: len(bench.ends()) == 3)
    assert [bench.ends()[launch.attempt].state for launch in (over, runs, waits)] == [
        TaskState.DONE,
        TaskState.CANCELLED,
        TaskState.CANCELLED,
    ]
    assert bench.ends()[runs.attempt].detail["signal"] == 15
    assert not waits.stdout.exists()


# memory

HOG = "import time; x = bytearray({size}); print('full', flush=True); time.sleep(1000)"


def test_task_over_its_memory_limit_is_oom(bench: Bench) -> None:
    (end,) = bench.run_to_end(bench.python(HOG.format(size=300 * MEBIBYTE), memory=100 * MEBIBYTE))
    assert end.state is TaskState.OOM
    assert end.detail["reason"].endswith("MiB of memory, the limit is 100 MiB")
    assert end.detail["peak_memory"] > 100 * MEBIBYTE


def test_memory_of_children_counts(bench: Bench) -> None:
    hog = HOG.format(size=80 * MEBIBYTE)
    script = f"import os; os.fork(); os.setsid() if os.fork() == 0 else None; {hog}"
    (end,) = bench.run_to_end(bench.python(script, memory=200 * MEBIBYTE))
    assert end.state is TaskState.OOM
    assert end.detail["peak_memory"] > 200 * MEBIBYTE


def test_shared_memory_counts_once(bench: Bench) -> None:
    script = "import os; x = bytearray(100 << 20); [os.fork() for _ in range(2)]; import time; time.sleep(1)"
    (end,) = bench.run_to_end(bench.python(script, memory=200 * MEBIBYTE))
    assert end.state is TaskState.DONE
    assert 100 * MEBIBYTE < end.detail["peak_memory"] < 200 * MEBIBYTE


def test_task_without_a_limit_has_the_machine(bench: Bench) -> None:
    bench.use(memory=150 * MEBIBYTE)
    (end,) = bench.run_to_end(bench.python(HOG.format(size=300 * MEBIBYTE)))
    assert (end.state, end.detail["reason"].rpartition(", ")[2]) == (TaskState.OOM, "the limit is 150 MiB")


def test_largest_task_goes_when_all_together_use_too_much(bench: Bench) -> None:
    bench.use(memory=500 * MEBIBYTE)
    small = bench.python(HOG.format(size=200 * MEBIBYTE), name="small")
    large = bench.python(HOG.format(size=350 * MEBIBYTE), name="large")
    bench.executor.submit([small, large])
    bench.wait(bench.ends)
    assert list(bench.ends()) == [large.attempt]
    assert bench.ends()[large.attempt].state is TaskState.OOM
    assert bench.ends()[large.attempt].detail["reason"].startswith("machine out of memory")


def test_tasks_start_only_where_their_memory_fits(bench: Bench) -> None:
    launches = [bench.shell("sleep 0.1", name=f"t{i}", memory=3 << 30) for i in range(4)]
    bench.run_to_end(*launches)
    assert most_at_once(bench.events) == 1


# leftovers


def test_background_child_is_ended_with_its_task(bench: Bench) -> None:
    launch = bench.shell("sleep 1000 & echo $!")
    (end,) = bench.run_to_end(launch)
    assert (end.state, end.detail["leftover"]) == (TaskState.DONE, 1)
    assert not is_running(int(launch.stdout.read_text()))


def test_daemon_is_ended_with_its_task(bench: Bench) -> None:
    script = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(1000)
    os._exit(0)
time.sleep(0.5)
"""
    launch = bench.python(script)
    (end,) = bench.run_to_end(launch)
    assert (end.state, end.detail["leftover"]) == (TaskState.DONE, 1)
    assert not is_running(int(launch.stdout.read_text()))


# shares of the machine


def most_at_once(events: Sequence[Event]) -> int:
    """Return how many tasks ran together at most, by the times on record; ends come before starts."""
    changes = sorted((event.at, -1 if event.state.is_final else 1) for event in events)
    total = most = 0
    for _, change in changes:
        total += change
        most = max(most, total)
    return most


AFFINITY = "import os; print(sorted(os.sched_getaffinity(0))); import time; time.sleep(0.2)"


def test_each_task_is_bound_to_cores_of_its_own(bench: Bench) -> None:
    singles = [bench.python(AFFINITY, name=f"t{i}") for i in range(6)]
    double = bench.python(AFFINITY, name="double", threads=2)
    bench.run_to_end(*singles, double)
    cores = [json.loads(launch.stdout.read_text()) for launch in singles]
    assert sorted({tuple(core) for core in cores}) == [(core,) for core in CORES[:2]]
    assert json.loads(double.stdout.read_text()) == list(CORES[:2])
    assert most_at_once(bench.events) == 2


def test_more_cores_than_there_are_may_be_declared(bench: Bench) -> None:
    bench.use(cores=tuple(range(1000, 1004)))
    launches = [bench.python(AFFINITY, name=f"t{i}") for i in range(4)]
    bench.run_to_end(*launches)
    assert most_at_once(bench.events) == 4


def test_the_urgent_go_first_and_equals_as_they_came(bench: Bench) -> None:
    bench.use(cores=CORES[:1])
    priorities = [0.0, 5.0, -1.0, 5.0, 2.0]
    blocker = bench.shell("sleep 0.3", name="blocker", priority=100)
    launches = [bench.launch("true", name=f"{i}", priority=p) for i, p in enumerate(priorities)]
    bench.run_to_end(blocker, *launches)
    order = [event.task for event in bench.events if event.state is TaskState.RUNNING]
    assert order == ["blocker", "1", "3", "4", "0", "2"]


def test_small_task_goes_ahead_of_an_urgent_one_that_does_not_fit(bench: Bench) -> None:
    blocker = bench.shell("until [ -e go ]; do sleep 0.02; done", name="blocker", priority=9)
    wide = bench.launch("true", name="wide", threads=2, priority=5)
    small = bench.shell("touch ../blocker/go", name="small", priority=0)
    bench.run_to_end(blocker, wide, small)
    order = [event.task for event in bench.events if event.state is TaskState.RUNNING]
    assert order == ["blocker", "small", "wide"]


def test_gpus_are_given_out_once(bench: Bench) -> None:
    bench.use(cores=tuple(range(4)), gpus=("0", "3", "GPU-abc"))
    script = 'echo "[$CUDA_VISIBLE_DEVICES]"; until [ -e ../go ]; do sleep 0.02; done'
    one, two, none = (bench.shell(script, name=f"{n}", gpus=n) for n in (1, 2, 0))
    more = bench.shell(script, name="more", gpus=1)
    bench.executor.submit([one, two, none, more])
    bench.wait(lambda: sum(event.state is TaskState.RUNNING for event in bench.events) == 3)
    (bench.folder / "work" / "go").touch()
    bench.wait(lambda: len(bench.ends()) == 4)
    assert [launch.stdout.read_text() for launch in (one, two, none)] == ["[0]\n", "[3,GPU-abc]\n", "[]\n"]
    assert more.stdout.read_text() in ("[0]\n", "[3]\n")


def test_500_tasks(bench: Bench) -> None:
    launches = [bench.launch("/bin/true", name=f"t{i}") for i in range(500)]
    ends = bench.run_to_end(*launches)
    assert {end.state for end in ends} == {TaskState.DONE}
    assert len(bench.events) == 1000
    assert most_at_once(bench.events) <= 2


# deaths

SUBMITTER = """
import sys
from pathlib import Path
from socm_like.executors.base import Attempt, Launch
from socm_like.executors.launcher_processes import end_survivors
from socm_like.executors.local import LocalExecutor
from socm_like.resources import Machine, Resources
from socm_like.store import RunDirectory
run, work = RunDirectory(Path(sys.argv[1])), Path(sys.argv[2])
executor = LocalExecutor(run, Machine(name="m", cores=(0,), memory=1 << 30))
scripts = {"first": "until [ -e go ]; do sleep 0.02; done; exit 4", "second": "echo done", "third": "sleep 1000"}
executor.submit(
    [
        Launch(Attempt(name, 1), ("sh", "-c", script), work, work / f"{name}.out", work / f"{name}.err", Resources())
        for name, script in scripts.items()
    ]
)
print("submitted", flush=True)
sys.stdin.read()
"""


def test_killing_the_submitter_loses_nothing(bench: Bench) -> None:
    work = bench.folder / "work"
    work.mkdir()
    submitter = subprocess.Popen(
        [sys.executable, "-c", SUBMITTER, bench.run.path, work], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with submitter:
        assert submitter.stdout is not None
        assert submitter.stdout.readline() == b"submitted\n"
        submitter.kill()
    attempts = [Attempt(name, 1) for name in ("first", "second", "third")]
    wait_until(lambda: [event.task for event in observe(bench.run, attempts)] == ["first"])
    bench.events.extend(bench.use(cores=CORES[:1]).recover([*attempts, Attempt("unknown", 1)]))
    assert [(event.task, event.state) for event in bench.events] == [
        ("first", TaskState.RUNNING),
        ("unknown", TaskState.LOST),
    ]
    (work / "go").touch()
    bench.wait(lambda: any(e.task == "third" and e.state is TaskState.RUNNING for e in bench.events))
    bench.executor.cancel(attempts)
    bench.wait(lambda: len(bench.ends()) == 4)
    assert {attempt.task: event.state.value for attempt, event in bench.ends().items()} == {
        "unknown": "lost",
        "first": "failed",
        "second": "done",
        "third": "cancelled",
    }
    assert bench.ends()[attempts[0]].detail["reason"] == "exit status 4"


def test_what_ended_while_nobody_watched_is_recovered(bench: Bench) -> None:
    launch = bench.shell("exit 5")
    bench.executor.submit([launch])
    wait_until(lambda: len(observe(bench.run, [launch.attempt])) == 2)
    events = bench.use().recover([launch.attempt])
    assert [event.state for event in events] == [TaskState.RUNNING, TaskState.FAILED]
    assert bench.executor.poll(0.0) == []


def test_killing_the_launcher_loses_its_tasks_and_ends_them(bench: Bench) -> None:
    over = bench.launch("true", name="over")
    bench.run_to_end(over)
    runs = bench.python(IGNORING, name="runs")
    waits = bench.launch("true", name="waits", threads=2)
    bench.submit_and_wait_for(runs, "\n")
    bench.executor.submit([waits])
    pids = bench.wait(lambda: len(text := runs.stdout.read_text().split()) == 2 and [int(pid) for pid in text])
    kill_launcher(bench.run)
    bench.wait(lambda: len(bench.ends()) == 3)
    for launch in (runs, waits):
        end = bench.ends()[launch.attempt]
        assert (end.state, end.detail) == (TaskState.LOST, {"reason": "the launcher died"})
    assert bench.ends()[over.attempt].state is TaskState.DONE
    assert not any(is_running(pid) for pid in pids)
    (end,) = bench.run_to_end(bench.launch("true", name="runs", number=2))
    assert end.state is TaskState.DONE


def test_launcher_that_died_unseen_is_noticed_by_recovery(bench: Bench) -> None:
    launch = bench.shell("echo $$; exec sleep 1000")
    bench.submit_and_wait_for(launch, "\n")
    pid = int(launch.stdout.read_text())
    assert bench.pid_of(launch.attempt.task) == pid  # so the launcher has written down that it runs
    bench.executor.close()
    kill_launcher(bench.run)
    assert is_running(pid)
    states = [event.state for event in observe(bench.run, [launch.attempt])]
    assert states == [TaskState.RUNNING, TaskState.LOST]
    assert is_running(pid)
    states = [event.state for event in bench.use().recover([launch.attempt])]
    assert states == [TaskState.RUNNING, TaskState.LOST]
    assert not is_running(pid)


def test_torn_line_of_a_dead_launcher_is_skipped(bench: Bench) -> None:
    bench.run_to_end(bench.launch("true", name="a"))
    bench.executor.close()
    kill_launcher(bench.run)
    log = bench.run.path / "launcher.jsonl"
    with log.open("ab") as file:
        file.write(b'{"task":"a","att')
    bench.use()
    bench.run_to_end(bench.launch("true", name="b"))
    attempts = [Attempt("a", 1), Attempt("b", 1)]
    assert [event.state.value for event in observe(bench.run, attempts)] == ["running", "done"] * 2


def test_second_client_takes_over_and_the_first_is_told(bench: Bench) -> None:
    launch = bench.shell("until [ -e go ]; do sleep 0.02; done")
    bench.executor.submit([launch])
    bench.pid_of()
    first, bench.executor = bench.executor, LocalExecutor(bench.run, bench.machine)
    assert [event.state for event in bench.executor.recover([launch.attempt])] == [TaskState.RUNNING]
    with pytest.raises(ExecutorError, match=r"^test-01234567: another process has taken over the launcher"):
        first.poll(PATIENCE)
    first.close()
    (launch.directory / "go").touch()
    bench.wait(bench.ends)
    assert bench.ends()[launch.attempt].state is TaskState.DONE


def test_launcher_that_nobody_put_on_record_is_put_there(bench: Bench) -> None:
    bench.executor.submit([bench.shell("exec sleep 1000")])
    bench.pid_of()
    launcher = read_launcher(bench.run)
    (bench.run.path / "launcher.pid").unlink()
    assert read_launcher(bench.run) is None
    bench.use().recover(bench.attempts)
    assert launcher is not None
    assert read_launcher(bench.run) == launcher


def test_launcher_that_cannot_work_says_why(bench: Bench) -> None:
    (bench.run.path / "launcher.jsonl").mkdir()
    bench.executor.submit([bench.launch("true")])
    with pytest.raises(ExecutorError, match=r"^the launcher cannot work: .*Is a directory.*launcher\.log$"):
        bench.wait(bench.ends)


@pytest.mark.parametrize("here", [True, False])
def test_launcher_that_cannot_be_reached_is_left_alone(bench: Bench, here: bool) -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        holder = {"host": "elsewhere", "pid": other.pid, "started": "1@other"}
        if here:
            holder = {"host": socket.gethostname(), "pid": other.pid, "started": process_started(other.pid) or ""}
        (bench.run.path / "launcher.pid").write_text(json.dumps(holder))
        message = (
            rf"^test-01234567: its launcher runs on {holder['host']} \(process {other.pid}\) and cannot be reached"
        )
        launch = bench.launch("true")
        with pytest.raises(ExecutorError, match=message):
            bench.executor.submit([launch])
        with pytest.raises(ExecutorError, match=message):
            bench.executor.recover([launch.attempt])
        assert observe(bench.run, [launch.attempt]) == []
        other.kill()
    (bench.run.path / "launcher.pid").unlink()


@pytest.mark.slow
def test_launcher_leaves_when_nobody_needs_it(bench: Bench) -> None:
    bench.run_to_end(bench.launch("true"))
    bench.executor.close()
    launcher = read_launcher(bench.run)
    assert launcher is not None
    wait_until(lambda: not is_running(launcher.pid))
    assert not (bench.run.path / "launcher.pid").exists()
    assert (bench.run.path / "launcher.log").read_text() == ""
    (end,) = bench.run_to_end(bench.launch("true", number=2))
    assert end.state is TaskState.DONE


# the record


def test_unknown_reason_is_refused() -> None:
    record = {
        "task": "a", "attempt": 1, "event": "end", "at": 0.0, "code": None, "signal": None, "reason": "bored",
        "why": None, "peak_memory": None, "cpu": None, "leftover": 0,
    }  # fmt: skip
    with pytest.raises(ExecutorError, match=r"^launcher\.jsonl: unknown reason 'bored'; use the socm-like that wrote"):
        translate(record)
    with pytest.raises(ExecutorError, match=r"^launcher\.jsonl: unknown event 'pause'"):
        translate({**record, "event": "pause"})


def test_observing_needs_no_pydantic() -> None:
    program = "import sys, socm_like.executors.launcher_log; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_rendered_script_does_what_the_launcher_does(bench: Bench) -> None:
    script = 'echo "$1 $MINE $OMP_NUM_THREADS"; pwd; exit 7'
    launch = bench.launch(
        "sh", "-c", script, "sh", "it's", name="a b",
        environment={"MINE": "x 'y'"}, threads=2, memory=1 << 30, runtime=timedelta(minutes=90),
    )  # fmt: skip
    text = bench.executor.render(launch)
    assert text.splitlines()[1] == "# 'a b', attempt 1: 2 cores, memory 1 GiB, runtime 1 h 30 min"
    assert subprocess.run(["sh", "-c", text]).returncode == 7
    by_hand = launch.stdout.read_text()
    assert by_hand == f"it's x 'y' 2\n{launch.directory}\n"
    bench.run_to_end(launch)
    assert launch.stdout.read_text() == by_hand


def test_rendered_script_has_variables_that_a_shell_cannot_name(bench: Bench) -> None:
    launch = bench.launch("env", environment={"odd.name": "a b"}, gpus=2)
    text = bench.executor.render(launch)
    assert text.splitlines()[1] == "# 'task', attempt 1: 1 cores, 2 GPUs"
    assert subprocess.run(["sh", "-c", text]).returncode == 0
    assert "odd.name=a b" in launch.stdout.read_text().splitlines()
