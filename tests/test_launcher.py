"""The launcher's parts: what is taken from the queue, what the log keeps, whose processes are whose."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.executors.launcher import Log
from socm_like.executors.launcher_processes import (
    ProcessTable,
    end_survivors,
    environ_of,
    has_group,
    is_alive,
    memory_of,
    read_process,
)
from socm_like.executors.launcher_spawn import rebind
from socm_like.executors.launcher_tasks import Queue, Shares, Task
from socm_like.store import process_started

GIBIBYTE = 1 << 30


def make_task(number: int = 1, **asked: Any) -> Task:
    request = {
        "task": f"t{number}",
        "attempt": 1,
        "argv": ["true"],
        "cwd": "/",
        "env": {},
        "out": "/dev/null",
        "err": "/dev/null",
        "cores": 1,
        "threads": 1,
        "memory": None,
        "gpus": 0,
        "gpu_memory": None,
        "reserved_memory": None,
        "runtime": None,
        "grace": 10.0,
        "priority": 0.0,
    }
    return Task({**request, **asked}, {}, number)


def make_shares(cores: int = 4, memory: int = 16 * GIBIBYTE, gpus: int = 2) -> Shares:
    shares = Shares()
    shares.reset(list(range(cores)), memory, [str(gpu) for gpu in range(gpus)], [])
    return shares


# queue and shares

demands = st.fixed_dictionaries(
    {
        "cores": st.integers(1, 4),
        "gpus": st.integers(0, 2),
        "memory": st.none() | st.integers(1, 16 * GIBIBYTE) | st.sampled_from([GIBIBYTE, GIBIBYTE + 1]),
        "reserved_memory": st.none() | st.integers(0, 20 * GIBIBYTE) | st.sampled_from([GIBIBYTE, GIBIBYTE + 1]),
        "priority": st.sampled_from([0.0, 1.0, 2.5]),
    }
)


@given(
    asked=st.lists(demands, max_size=30),
    withdrawn=st.sets(st.integers(0, 29)),
    free=st.tuples(st.integers(0, 4), st.integers(0, 16 * GIBIBYTE), st.integers(0, 2)),
)
def test_the_most_urgent_that_fits_is_taken_until_none_fits(
    asked: list[dict[str, Any]], withdrawn: set[int], free: tuple[int, int, int]
) -> None:
    tasks = [make_task(number, **demand) for number, demand in enumerate(asked)]
    queue, shares = Queue(), make_shares(*free)
    for task in tasks:
        queue.put(task)
    for number in withdrawn & set(range(len(tasks))):
        assert queue.remove(tasks[number].key) is tasks[number]
        assert queue.remove(tasks[number].key) is None
    waiting = [task for task in tasks if task.number not in withdrawn]
    while True:
        fitting = [
            task
            for task in waiting
            if task.cores <= shares.cores and task.gpus <= shares.gpus and min(task.reserved, free[1]) <= shares.memory
        ]
        expected = min(fitting, key=lambda task: (-task.priority, task.number), default=None)
        taken = queue.take(shares)
        assert taken is expected
        if taken is None:
            break
        waiting.remove(taken)
        shares.take(taken)
    assert sorted(queue.keys()) == sorted(task.key for task in waiting)


def test_task_that_is_put_back_is_taken_once() -> None:
    queue, shares, task = Queue(), make_shares(), make_task()
    for _ in range(3):
        queue.put(task)
        assert queue.take(shares) is task
    assert queue.take(shares) is None
    assert len(queue) == 0


@given(asked=st.lists(demands, max_size=12), order=st.randoms(use_true_random=False))
def test_what_is_taken_is_distinct_and_comes_back(asked: list[dict[str, Any]], order: Any) -> None:
    shares, held = make_shares(), []
    for number, demand in enumerate(asked):
        task = make_task(number, **demand)
        kept = min(task.reserved, 16 * GIBIBYTE)
        if task.cores <= shares.cores and task.gpus <= shares.gpus and kept <= shares.memory:
            shares.take(task)
            held.append(task)
    cores = [core for task in held for core in task.bound]
    gpus = [gpu for task in held for gpu in task.devices]
    assert len(set(cores)) == len(cores) == sum(task.cores for task in held)
    assert len(set(gpus)) == len(gpus) == sum(task.gpus for task in held)
    order.shuffle(held)
    for task in held:
        shares.give_back(task)
    assert (shares.cores, shares.memory, shares.gpus) == (4, 16 * GIBIBYTE, 2)


def test_machine_that_shrinks_takes_back_only_what_it_still_has() -> None:
    shares = make_shares(cores=4)
    tasks = [make_task(number, memory=5 * GIBIBYTE, gpus=1) for number in range(2)]
    for task in tasks:
        shares.take(task)
    shares.reset([1, 2], 8 * GIBIBYTE, ["1"], tasks)
    assert (shares.cores, shares.memory, shares.gpus) == (1, -2 * GIBIBYTE, 0)
    assert shares.refusal(make_task(cores=3)) == "asks 3 cores, the machine has 2"
    for task in tasks:
        shares.give_back(task)
    assert (shares.cores, shares.memory, shares.gpus) == (2, 8 * GIBIBYTE, 1)


# the log


def test_log_that_cannot_be_written_keeps_its_lines() -> None:
    log = Log("/dev/full")
    assert log.append(b"one\n") is False
    assert log.append(b"two\n") is False
    log.sync()


def test_log_ends_a_torn_line_before_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"a":1}\n{"b"')
    assert Log(str(path)).append(b"{}\n")
    assert path.read_bytes() == b'{"a":1}\n{"b"\n{}\n'


# processes


@pytest.fixture
def family(tmp_path: Path) -> Iterator[tuple[int, int, int]]:
    """A session leader, a child in its session, and a daemon of a session of its own; their pids."""
    script = """
import os, time
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    daemon = os.fork()
    if daemon == 0:
        os.setsid()
        os.write(writer, b"x")
    time.sleep(1000)
os.read(reader, 1)
print(child, flush=True)
time.sleep(1000)
"""
    environment = {**os.environ, "SOCM_RUN": str(tmp_path), "SOCM_TASK": "käse", "SOCM_ATTEMPT": "2"}
    leader = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", script],
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    assert leader.stdout is not None
    child = int(leader.stdout.readline())
    daemon = next(pid for pid in all_pids() if (process := read_process(pid)) is not None and process.parent == child)
    yield leader.pid, child, daemon
    for pid in (leader.pid, child, daemon):
        if process_started(pid) is not None:
            os.kill(pid, signal.SIGKILL)
    leader.stdout.close()
    leader.wait()


def all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def test_processes_of_a_task_are_found_by_session_and_descent(tmp_path: Path, family: tuple[int, int, int]) -> None:
    task, other = make_task(1), make_task(2)
    task.pid = family[0]
    table = ProcessTable(str(tmp_path))
    for _ in range(3):
        owned, _ = table.scan([task, other])
        assert sorted(process.pid for process in owned[task.key]) == sorted(family)
        assert owned[other.key] == []
    memory = memory_of(owned[task.key], limit=1 << 40)
    assert memory == sum(process.memory for process in owned[task.key]) > 0
    assert memory_of(owned[task.key], limit=0) < memory


def test_survivors_are_ended_and_nobody_else(tmp_path: Path, family: tuple[int, int, int]) -> None:
    run = str(tmp_path)
    others = {("käse", 1): None, ("brot", 2): (family[0], time.time() - 1000)}
    assert end_survivors(run, others) == 0
    assert end_survivors(f"{run}x", {("käse", 2): None}) == 0
    assert all(is_alive(pid) for pid in family)
    assert end_survivors(run, {("käse", 2): None}) == 3
    assert not any(is_alive(pid) for pid in family)


def test_survivor_is_known_by_pid_and_start_too() -> None:
    with subprocess.Popen(["sleep", "1000"], env={}) as process:
        started = time.time()
        assert end_survivors("/no/run", {("a", 1): (process.pid, started - 60)}) == 0
        assert end_survivors("/no/run", {("a", 1): (process.pid, started)}) == 1
        assert process.wait() == -signal.SIGKILL


def test_what_is_gone_has_no_traces() -> None:
    with subprocess.Popen(["true"], start_new_session=True) as process:
        process.wait()
    assert read_process(process.pid) is None
    assert environ_of(process.pid) == {}
    assert not has_group(process.pid)


def test_threads_that_began_unbound_are_bound_and_others_left_alone() -> None:
    cores = os.sched_getaffinity(0)
    one = {min(cores)}
    script = "import os, sys; os.sched_setaffinity(0, {int(c) for c in sys.argv[1:]}); print(flush=True); input()"
    for own, expected in ((cores, one), ({max(cores)}, {max(cores)} if len(cores) > 1 else one)):
        argv = [sys.executable, "-I", "-S", "-c", script, *map(str, own)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            rebind([process.pid], one)
            assert os.sched_getaffinity(process.pid) == expected
            process.kill()


# the process as a whole


def test_launcher_loads_nothing_heavy() -> None:
    program = (
        "import sys; sys.path.append(sys.argv[1]); import executors.launcher; "
        "print(sorted({'typing', 'pathlib', 'socm_like', 'inspect', 'subprocess', 'logging'} & sys.modules.keys()))"
    )
    package = Path(__file__).parent.parent / "socm_like"
    argv = [sys.executable, "-I", "-S", "-c", program, str(package)]
    assert subprocess.run(argv, capture_output=True, text=True).stdout == "[]\n"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[socket.socket]:
    """A connection to a launcher that nobody has greeted yet."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as connection:
        listener.bind(f"\0test-{os.getpid()}-{time.monotonic_ns()}")
        listener.listen()
        connection.settimeout(30)
        connection.connect(listener.getsockname())
        boot = "import sys; sys.path.append(sys.argv[1]); from executors.launcher import main; main()"
        package = Path(__file__).parent.parent / "socm_like"
        argv = [sys.executable, "-I", "-S", "-c", boot, str(package), str(tmp_path)]
        with subprocess.Popen(argv, stdin=listener.fileno(), start_new_session=True) as launcher:
            yield connection
            launcher.kill()


def test_conversation_with_the_launcher(connection: socket.socket, tmp_path: Path) -> None:
    stream = connection.makefile("rwb")

    def ask(**message: Any) -> None:
        stream.write(json.dumps(message).encode() + b"\n")
        stream.flush()

    def answer() -> dict[str, Any]:
        message: dict[str, Any] = json.loads(stream.readline())
        return message

    machine = {"cores": [0], "memory": GIBIBYTE, "gpus": []}
    ask(op="hello", environ=dict(os.environ), machine=machine, orders={})
    assert answer().keys() == {"op", "pid", "protocol"}
    common = {
        "attempt": 1, "cwd": str(tmp_path), "env": {}, "out": f"{tmp_path}/out", "err": f"{tmp_path}/err", "cores": 1,
        "threads": 1, "memory": None, "reserved_memory": None, "gpus": 0, "gpu_memory": None, "runtime": None,
        "grace": 1, "priority": 0,
    }  # fmt: skip
    tasks = [{"task": name, "argv": ["sleep", "1000"], **common} for name in ("a", "b")]
    ask(op="run", tasks=tasks)
    start = answer()
    assert start == {"task": "a", "attempt": 1, "event": "start", "pid": start["pid"], "at": start["at"]}
    ask(op="run", tasks=tasks)  # what is known is not taken twice
    ask(op="list")
    assert answer() == {"op": "list", "queued": [["b", 1]], "running": [["a", 1, start["pid"], start["at"]]]}
    ask(op="cancel", attempts=[["b", 1], ["a", 1]])
    ends = [answer(), answer()]
    assert [(end["task"], end["reason"], end["signal"]) for end in ends] == [
        ("b", "cancelled", None),
        ("a", "cancelled", 15),
    ]
    log = [json.loads(line) for line in (tmp_path / "launcher.jsonl").read_text().splitlines()]
    assert sorted([start, *ends], key=str) == sorted(log, key=str)
    ask(op="sing")
    assert answer() == {"op": "error", "message": "unknown operation 'sing'"}
    stream.close()
