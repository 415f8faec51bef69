"""Memory kept free for tasks: what is reserved decides what starts beside it, the limit decides what is ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_launcher import GIBIBYTE, make_task
from test_local_executor import HOG, MEBIBYTE, Bench, most_at_once

from socm_like.errors import ExecutorError
from socm_like.executors.launcher_call import request
from socm_like.executors.launcher_tasks import PROTOCOL, Queue, Shares
from socm_like.journal import TaskState

UNTIL_GO = "until [ -e ../go ]; do sleep 0.02; done"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.end()


def go(bench: Bench) -> None:
    (bench.folder / "work" / "go").touch()


@pytest.mark.parametrize(
    ("limit", "reserved", "kept"),
    [(None, None, 0), (None, 7, 7), (5, None, 5), (5, 3, 3), (5, 0, 0), (None, 0, 0), (5, 7, 5)],
)
def test_reservation_stands_in_for_a_limit_and_never_above_one(
    limit: int | None, reserved: int | None, kept: int
) -> None:
    assert make_task(memory=limit, reserved_memory=reserved).reserved == kept


def test_request_of_a_client_that_knows_no_reservations_is_taken() -> None:
    task = make_task(memory=5)
    asked = {name: getattr(task, name) for name in ("argv", "cwd", "env", "out", "err", "cores", "threads", "memory")}
    rest = {"task": "a", "attempt": 1, "gpus": 0, "runtime": None, "grace": 1.0, "priority": 0.0}
    older = type(task)({**asked, **rest}, {}, 1)
    assert (older.reserved, older.gpu_memory) == (5, None)


def test_launch_says_what_to_reserve_beside_the_limits(bench: Bench) -> None:
    launch = bench.launch("true", reserved_memory=3, memory=5, gpus=1, gpu_memory=7)
    asked = request(launch)
    assert (asked["reserved_memory"], asked["memory"], asked["gpu_memory"]) == (3, 5, 7)
    assert request(bench.launch("true"))["reserved_memory"] is None


reservations = st.lists(st.integers(0, 24) | st.none(), max_size=8)


@given(asked=reservations, machines=st.lists(st.integers(1, 32), min_size=1, max_size=4))
def test_what_is_free_and_what_is_kept_make_up_the_machine_after_any_new_client(
    asked: list[int | None], machines: list[int]
) -> None:
    shares, held = Shares(), []
    shares.reset(list(range(8)), machines[0], [], [])
    for number, reserved in enumerate(asked):
        task = make_task(number, reserved_memory=reserved)
        if min(task.reserved, machines[0]) <= shares.memory:
            shares.take(task)
            held.append(task)
    for memory in machines:
        shares.reset(list(range(8)), memory, [], held)
        assert shares.memory == memory - sum(min(task.reserved, memory) for task in held)
        if held:
            shares.give_back(held.pop())
    for task in held:
        shares.give_back(task)
    assert (shares.cores, shares.memory) == (8, machines[-1])


@given(asked=st.lists(st.integers(0, 40), min_size=1, max_size=12), memory=st.integers(1, 20))
def test_every_reservation_is_met_sooner_or_later(asked: list[int], memory: int) -> None:
    shares, queue, started = Shares(), Queue(), 0
    shares.reset([0, 1], memory, [], [])
    for number, reserved in enumerate(asked):
        queue.put(make_task(number, reserved_memory=reserved))
    while len(queue):
        held = []
        while (task := queue.take(shares)) is not None:
            shares.take(task)
            held.append(task)
            assert shares.memory >= 0
        assert held, "something waits, and nothing runs"
        started += len(held)
        for task in held:
            shares.give_back(task)
    assert started == len(asked)


def test_tasks_without_limits_start_only_where_what_is_reserved_fits(bench: Bench) -> None:
    bench.run_to_end(*(bench.shell("sleep 0.1", name=f"t{i}", reserved_memory=3 * GIBIBYTE) for i in range(4)))
    assert most_at_once(bench.events) == 1


def test_less_than_the_limit_can_be_reserved(bench: Bench) -> None:
    """Each waits for the other, so both end only if both run at once, with limits that do not fit together."""
    meet = "touch ../{0}; until [ -e ../{1} ]; do sleep 0.02; done"
    common = {"memory": 3 * GIBIBYTE, "reserved_memory": GIBIBYTE}
    ends = bench.run_to_end(
        bench.shell(meet.format("x", "y"), name="one", **common),
        bench.shell(meet.format("y", "x"), name="two", **common),
    )
    assert [end.state for end in ends] == [TaskState.DONE, TaskState.DONE]


def test_more_than_the_machine_can_be_reserved_and_then_the_task_runs_alone(bench: Bench) -> None:
    runs = bench.shell(f"echo runs; {UNTIL_GO}", name="runs", reserved_memory=GIBIBYTE)
    bench.submit_and_wait_for(runs, "runs")
    greedy = bench.shell(
        "echo runs; until [ -e ../enough ]; do sleep 0.02; done", name="greedy", reserved_memory=1 << 50
    )
    fits = bench.shell("true", name="fits", reserved_memory=GIBIBYTE)
    bench.executor.submit([greedy, fits])
    bench.wait(lambda: fits.attempt in bench.ends())
    assert not greedy.stdout.exists()
    go(bench)
    bench.wait(lambda: greedy.stdout.exists() and "runs" in greedy.stdout.read_text())
    waits = bench.shell("true", name="waits", reserved_memory=1)
    needs_none = bench.shell("true", name="needs none")
    bench.executor.submit([waits, needs_none])
    bench.wait(lambda: needs_none.attempt in bench.ends())
    assert not waits.stdout.exists()
    (bench.folder / "work" / "enough").touch()
    bench.wait(lambda: waits.attempt in bench.ends())
    assert {end.state for end in bench.ends().values()} == {TaskState.DONE}


def test_task_is_not_ended_for_using_more_than_was_reserved(bench: Bench) -> None:
    script = f"x = bytearray({100 * MEBIBYTE}); import time; time.sleep(0.5)"
    (end,) = bench.run_to_end(bench.python(script, reserved_memory=MEBIBYTE))
    assert end.state is TaskState.DONE
    assert end.detail["peak_memory"] > 100 * MEBIBYTE
    assert "exceeded" not in end.detail


def test_task_over_its_limit_is_ended_whatever_was_reserved_and_says_of_what_it_was_too_much(bench: Bench) -> None:
    hog = HOG.format(size=300 * MEBIBYTE)
    (end,) = bench.run_to_end(bench.python(hog, memory=100 * MEBIBYTE, reserved_memory=50 * MEBIBYTE))
    assert (end.state, end.detail["exceeded"]) == (TaskState.OOM, "memory")
    assert end.detail["reason"].endswith("MiB of memory, the limit is 100 MiB")


def test_task_without_a_limit_that_uses_more_than_the_machine_exceeded_its_memory(bench: Bench) -> None:
    bench.use(memory=150 * MEBIBYTE)
    (end,) = bench.run_to_end(bench.python(HOG.format(size=300 * MEBIBYTE), reserved_memory=MEBIBYTE))
    assert (end.state, end.detail["exceeded"]) == (TaskState.OOM, "memory")
    assert end.detail["reason"].endswith("the limit is 150 MiB")


def test_what_runs_keeps_its_reservation_when_another_client_comes(bench: Bench) -> None:
    runs = bench.shell(f"echo runs; {UNTIL_GO}", name="runs", reserved_memory=3 * GIBIBYTE)
    bench.submit_and_wait_for(runs, "runs")
    bench.use()
    assert bench.executor.recover([runs.attempt])[-1].state is TaskState.RUNNING
    waits = bench.shell("true", name="waits", reserved_memory=2 * GIBIBYTE)
    fits = bench.shell("true", name="fits", reserved_memory=GIBIBYTE)
    bench.executor.submit([waits, fits])
    bench.wait(lambda: fits.attempt in bench.ends())
    assert not waits.stdout.exists()
    go(bench)
    bench.wait(lambda: waits.attempt in bench.ends())
    assert [event.state for event in bench.events if event.task == "waits"] == [TaskState.RUNNING, TaskState.DONE]


def test_launcher_that_speaks_another_protocol_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.submit_and_wait_for(bench.shell(f"echo runs; {UNTIL_GO}"), "runs")
    monkeypatch.setattr("socm_like.executors.local.PROTOCOL", PROTOCOL + 1)  # as a later version of ours would have it
    bench.use()
    with pytest.raises(ExecutorError, match="a launcher of another version of socm-like"):
        bench.run_to_end(bench.launch("true", name="late"))


def test_record_of_an_end_says_what_was_exceeded(bench: Bench) -> None:
    def record(name: str) -> dict[str, Any]:
        lines = (bench.run.path / "launcher.jsonl").read_text().splitlines()
        return next(found for line in lines if (found := json.loads(line))["task"] == name and found["event"] == "end")

    bench.run_to_end(bench.launch("true", name="fine"), bench.shell("kill -9 $$", name="killed"))
    assert [record(name)["exceeded"] for name in ("fine", "killed")] == [None, None]
