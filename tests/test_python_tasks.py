"""Python tasks with real processes: forked from the warm process, or in an interpreter of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from socm_like.executors.base import Attempt, Launch
from socm_like.executors.launcher_log import read_launcher
from socm_like.executors.launcher_processes import end_survivors
from socm_like.executors.local import LocalExecutor
from socm_like.executors.python_task import NotFiniteError, as_json
from socm_like.journal import Event, TaskState
from socm_like.resources import Machine, Resources
from socm_like.store import RunDirectory, process_started

CORES = tuple(sorted(os.sched_getaffinity(0)))

PLUGIN = '''
import os, sys, time
from pathlib import Path
import numpy
from socm_like import Result, Workflow

LOADED_BY = os.getpid()


class Echo(Workflow):
    value: float = 1.0

    def run(self, directory):
        print("out", flush=True)
        print("err", file=sys.stderr)
        (directory / "here").write_text(str(Path.cwd() == directory))
        return Result(metrics={"value": self.value, "forked": os.getpid() != LOADED_BY, "parent": os.getppid()})


class Numbers(Workflow):
    def run(self, directory):
        return Result(metrics={"draw": numpy.random.random(), "array": numpy.arange(3.0), "cores": numpy.int64(2)})


class About(Workflow):
    def run(self, directory):
        numpy.ones((300, 300)) @ numpy.ones((300, 300))
        return Result(metrics={
            "cores": sorted(os.sched_getaffinity(0)),
            "threads": len(os.listdir("/proc/self/task")),
            "environment": {name: value for name, value in os.environ.items() if name.startswith(("SOCM_", "OMP"))},
            "files": sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)),
            "open": len(os.listdir("/proc/self/fd")) - 1,
            "is_leader": os.getsid(0) == os.getpid(),
        })


class Bad(Workflow):
    how: str

    def run(self, directory):
        if self.how == "nan":
            return Result(metrics={"fine": 1, "deep": {"list": [0.0, float("nan")]}})
        if self.how == "infinite array":
            return Result(metrics={"rss": numpy.array([1.0, -numpy.inf])})
        if self.how == "object":
            return Result(metrics={"x": object()})
        if self.how == "none":
            return None
        if self.how == "exit":
            sys.exit(0)
        if self.how == "abort":
            os.abort()
        raise ValueError("wrong\\nsize")


class Wait(Workflow):
    def run(self, directory):
        print("waiting", flush=True)
        while not (directory / "go").exists():
            time.sleep(0.02)
        return Result(metrics={"parent": os.getppid()})


class Late(Workflow):
    """Leaves work to exit handlers, threads and C libraries."""

    def run(self, directory):
        import atexit, threading, h5py
        atexit.register(lambda: (directory / "handler").touch())
        threading.Thread(target=lambda: (time.sleep(0.2), (directory / "thread").touch())).start()
        file = h5py.File(directory / "data.h5", "w")
        file["x"] = numpy.arange(1000)
        sys.kept = file
        return Result()
'''


class Python:
    """A run directory with a plug-in, and short ways to run its kinds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_directory = RunDirectory(folder / "campaigns" / "test-01234567")
        self.run_directory.path.mkdir(parents=True)
        self.plugin = folder / "my kinds.py"
        self.plugin.write_text(PLUGIN)
        self.attempts: list[Attempt] = []
        self.events: list[Event] = []
        self.executor = self.open()

    def open(self, *preload: str) -> LocalExecutor:
        machine = Machine(name="bench", cores=CORES[:2], memory=4 << 30)
        return LocalExecutor(self.run_directory, machine, plugins=[self.plugin], preload=preload)

    def launch(
        self, name: str, kind: str, *, environment: Mapping[str, str] | None = None, threads: int = 1, **fields: Any
    ) -> Launch:
        directory = self.folder / "work" / name
        directory.mkdir(parents=True, exist_ok=True)
        task = {
            "schema": 1,
            "task": name,
            "workflow": "w",
            "kind": kind,
            "id": "0123",
            "plugins": [str(self.plugin)],
            "fields": fields,
        }
        (directory / "task.json").write_text(json.dumps(task))
        attempt = Attempt(name, 1 + sum(known.task == name for known in self.attempts))
        self.attempts.append(attempt)
        logs = (directory / "out", directory / "err")
        resources = Resources(threads=threads)
        return Launch(attempt, None, directory, *logs, resources, environment=environment or {}, grace=0.3)

    def wait(self, predicate: Callable[[], Any]) -> None:
        for _ in range(6000):
            if predicate():
                return
            self.events.extend(self.executor.poll(0.01))
        raise AssertionError(f"never came true; events: {self.events}")

    def end_of(self, launch: Launch) -> Event | None:
        return next(
            (event for event in self.events if event.state.is_final and (event.task, event.attempt) == launch.attempt),
            None,
        )

    def run(self, *launches: Launch) -> list[Event]:
        self.executor.submit(launches)
        self.wait(lambda: all(self.end_of(launch) for launch in launches))
        return [end for launch in launches if (end := self.end_of(launch))]

    def metrics(self, launch: Launch) -> dict[str, Any]:
        result = json.loads((launch.directory / "result.json").read_bytes())
        assert {key: result[key] for key in ("schema", "task", "id")} == {
            "schema": 1,
            "task": launch.attempt.task,
            "id": "0123",
        }
        metrics: dict[str, Any] = result["metrics"]
        return metrics

    def warm_pid(self) -> int:
        """Return the warm process, the parent of whatever is forked."""
        launch = self.launch(f"probe {len(self.attempts)}", "echo")
        self.run(launch)
        return int(self.metrics(launch)["parent"])


def error_of(launch: Launch) -> tuple[str, str]:
    error = json.loads((launch.directory / "error.json").read_bytes())
    return error["state"], error["reason"]


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Python]:
    python = Python(tmp_path)
    yield python
    python.executor.close()
    launcher = read_launcher(python.run_directory)
    if launcher is not None:
        os.kill(launcher.pid, signal.SIGKILL)
        python.wait(lambda: process_started(launcher.pid) is None)
    end_survivors(str(python.run_directory.path), dict.fromkeys(python.attempts))


def test_python_task_writes_its_result(python: Python) -> None:
    launch = python.launch("a (ü) [0]", "echo", value=2.5)
    (end,) = python.run(launch)
    assert (end.state, end.detail["exit_code"]) == (TaskState.DONE, 0)
    metrics = python.metrics(launch)
    assert (metrics["value"], metrics["forked"]) == (2.5, True)
    assert (launch.directory / "here").read_text() == "True"
    assert (launch.stdout.read_text(), launch.stderr.read_text()) == ("out\n", "err\n")


@pytest.mark.parametrize("threads", [1, len(CORES[:2])])
def test_fork_is_set_up_like_a_program(python: Python, threads: int) -> None:
    launch = python.launch("about", "about", threads=threads)
    python.run(launch)
    metrics = python.metrics(launch)
    assert metrics == {
        "cores": list(CORES[:threads]),
        "threads": threads,
        "environment": {
            "SOCM_RUN": str(python.run_directory.path),
            "SOCM_TASK": "about",
            "SOCM_ATTEMPT": "1",
            "OMP_NUM_THREADS": str(threads),
        },
        "files": sorted(["/dev/null", str(launch.stdout), str(launch.stderr)]),
        "open": 3,
        "is_leader": True,
    }


def test_arrays_become_lists_and_forks_draw_different_numbers(python: Python) -> None:
    launches = [python.launch(name, "numbers") for name in ("a", "b")]
    python.run(*launches)
    first, second = map(python.metrics, launches)
    assert (first["array"], first["cores"]) == ([0.0, 1.0, 2.0], 2)
    assert first["draw"] != second["draw"]


@pytest.mark.parametrize(
    ("how", "state", "reason"),
    [
        ("nan", "invalid", "metric deep.list[1] is nan"),
        ("infinite array", "invalid", "metric rss[1] is -inf"),
        ("object", "failed", "TypeError: metric x is a object; a metric is a number, text, list or table"),
        ("none", "failed", "TypeError: Bad.run returned NoneType, not a Result"),
        ("exit", "failed", "SystemExit: 0"),
        ("raise", "failed", "ValueError: wrong\nsize"),
    ],
)
def test_task_without_a_valid_result_says_why(python: Python, how: str, state: str, reason: str) -> None:
    launch = python.launch("bad", "bad", how=how)
    (launch.directory / "result.json").write_text("of an earlier attempt")
    (end,) = python.run(launch)
    assert (end.state, end.detail["reason"]) == (TaskState.FAILED, "exit status 1")
    assert error_of(launch) == (state, reason)
    assert launch.stderr.read_text().endswith(reason + "\n")
    assert not (launch.directory / "result.json").exists()


def test_unknown_kind_and_wrong_field_are_failures_with_a_reason(python: Python) -> None:
    unknown, wrong = python.launch("unknown", "ecko"), python.launch("wrong", "echo", value="x")
    python.run(unknown, wrong)
    assert error_of(unknown)[1].endswith("did you mean 'echo'?")
    assert error_of(wrong)[1].startswith("ValidationError: 1 validation error for Echo\nvalue\n")


def test_abort_of_a_fork_harms_nobody_else(python: Python) -> None:
    bad, good = python.launch("bad", "bad", how="abort"), python.launch("good", "echo")
    ends = python.run(bad, good)
    assert [end.state for end in ends] == [TaskState.FAILED, TaskState.DONE]
    assert ends[0].detail["reason"] == "signal 6 (SIGABRT)"


def test_task_with_variables_of_its_own_has_its_own_interpreter(python: Python) -> None:
    launch = python.launch("own", "echo", environment={"PYTHONHASHSEED": "7"})
    python.run(launch)
    assert python.metrics(launch)["forked"] is False


def test_exit_handlers_threads_and_libraries_finish_their_work(python: Python) -> None:
    launch = python.launch("late", "late")
    (end,) = python.run(launch)
    assert end.state is TaskState.DONE
    assert {"handler", "thread"} <= {path.name for path in launch.directory.iterdir()}
    check = f"import h5py; print(h5py.File({str(launch.directory / 'data.h5')!r})['x'][-1])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout == "999\n"


def test_cancel_and_timeout_reach_forks(python: Python) -> None:
    launch = python.launch("wait", "wait")
    python.executor.submit([launch])
    python.wait(lambda: launch.stdout.exists() and "waiting" in launch.stdout.read_text())
    python.executor.cancel([launch.attempt])
    python.wait(lambda: python.end_of(launch))
    assert [event.state for event in python.events] == [TaskState.RUNNING, TaskState.CANCELLED]


def test_cancel_before_the_warm_process_is_ready(python: Python) -> None:
    launches = [python.launch(name, "wait") for name in ("a", "b", "c")]
    python.executor.submit(launches)
    python.executor.cancel([launch.attempt for launch in launches])
    python.wait(lambda: all(python.end_of(launch) for launch in launches))
    assert {event.state for event in python.events} == {TaskState.CANCELLED}


def test_plug_in_that_cannot_be_imported_fails_its_tasks_with_the_reason(python: Python) -> None:
    python.plugin.write_text("import no_such_module\n")
    launches = [python.launch(f"t{i}", "echo") for i in range(5)]
    ends = python.run(*launches)
    assert {end.detail["reason"] for end in ends} == {
        "not started: the warm Python process ended with exit status 1: "
        f"plug-in {python.plugin} cannot be imported: ModuleNotFoundError: No module named 'no_such_module' (line 1)"
    }


def test_edited_plug_in_is_read_again_by_the_next_submission(python: Python) -> None:
    first = python.launch("first", "echo")
    python.run(first)
    python.plugin.write_text(PLUGIN.replace('"value": self.value', '"value": -self.value'))
    python.executor.close()
    python.executor = python.open()
    second = python.launch("second", "echo")
    python.run(second)
    assert [python.metrics(launch)["value"] for launch in (first, second)] == [1.0, -1.0]


def test_missing_preload_is_no_fault(python: Python) -> None:
    python.executor = python.open("no_such_module", "fractions")
    (end,) = python.run(python.launch("a", "echo"))
    assert end.state is TaskState.DONE


def test_killing_the_warm_process_spares_the_tasks_that_run(python: Python) -> None:
    warm = python.warm_pid()
    launch = python.launch("wait", "wait")
    python.executor.submit([launch])
    python.wait(lambda: launch.stdout.exists() and "waiting" in launch.stdout.read_text())
    os.kill(warm, signal.SIGKILL)
    python.wait(lambda: process_started(warm) is None)
    assert python.warm_pid() != warm
    (launch.directory / "go").touch()
    python.wait(lambda: python.end_of(launch))
    end = python.end_of(launch)
    assert end is not None
    assert (end.state, end.detail["exit_code"]) == (TaskState.DONE, 0)
    launcher = read_launcher(python.run_directory)
    assert launcher is not None
    assert python.metrics(launch)["parent"] == launcher.pid


def test_warm_process_and_its_tasks_end_with_the_launcher(python: Python) -> None:
    warm = python.warm_pid()
    launch = python.launch("wait", "wait")
    python.executor.submit([launch])
    python.wait(lambda: launch.stdout.exists() and "waiting" in launch.stdout.read_text())
    pid = next(event.detail["pid"] for event in python.events if event.task == "wait")
    launcher = read_launcher(python.run_directory)
    assert launcher is not None
    os.kill(launcher.pid, signal.SIGKILL)
    python.wait(lambda: python.end_of(launch))
    end = python.end_of(launch)
    assert end is not None
    assert end.state is TaskState.LOST
    python.wait(lambda: process_started(warm) is None and process_started(pid) is None)


def test_100_forks(python: Python) -> None:
    launches = [python.launch(f"t{i}", "echo", value=i) for i in range(100)]
    ends = python.run(*launches)
    assert {end.state for end in ends} == {TaskState.DONE}
    assert [python.metrics(launch)["value"] for launch in launches] == [float(i) for i in range(100)]


@pytest.mark.slow
def test_jax_works_in_forks_of_a_process_that_imported_it(python: Python) -> None:
    python.plugin.write_text(
        """
import jax, jax.numpy
from socm_like import Result, Workflow
class Solve(Workflow):
    size: int
    def run(self, directory):
        matrix = 2 * jax.numpy.eye(self.size) + jax.numpy.ones((self.size, self.size))
        solve = jax.jit(lambda a: jax.scipy.linalg.solve(a, jax.numpy.ones(self.size), assume_a="pos").sum())
        return Result(metrics={"sum": solve(matrix)})
"""
    )
    python.executor = python.open("jax", "jax.scipy.linalg")
    launches = [python.launch(f"t{size}", "solve", size=size) for size in (4, 8, 32)]
    ends = python.run(*launches)
    assert {end.state for end in ends} == {TaskState.DONE}
    assert [python.metrics(launch)["sum"] for launch in launches] == pytest.approx([4 / 6, 8 / 10, 32 / 34], rel=1e-5)


def test_metrics_are_plain_json() -> None:
    assert as_json({"a": [1, 2.5, True, None, "x"], "b": {"c": ()}}, "") == {
        "a": [1, 2.5, True, None, "x"],
        "b": {"c": []},
    }
    with pytest.raises(NotFiniteError, match=r"^metric a\.b\[0\] is inf$"):
        as_json({"a": {"b": [float("inf")]}}, "")
    with pytest.raises(TypeError, match=r"^metric m has the key 1; keys are text$"):
        as_json({"m": {1: 2}}, "")
    with pytest.raises(TypeError, match=r"^metric m is a bytes; a metric is"):
        as_json({"m": b"x"}, "")
