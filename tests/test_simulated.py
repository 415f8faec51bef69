"""Campaigns in virtual time: known answers, what holds for every campaign, the executor, and the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_runs import CAMPAIGN, campaign, wait_until
from test_docs import follow

from socm_like.errors import ExecutorError
from socm_like.executors.base import Attempt, Launch
from socm_like.executors.behaviour import Behaviour, Expected, Work
from socm_like.executors.simulated import SimulatedExecutor, Stretch, VirtualClock
from socm_like.journal import Event, Journal, Record, TaskState, read_events, replay
from socm_like.plan import Plan
from socm_like.policy import Policy
from socm_like.registry import Registry
from socm_like.resources import Prediction, Resources
from socm_like.runner import Runner
from socm_like.schedule import Node, make_schedule
from socm_like.settings import Execution
from socm_like.simulation import ImaginedWorkplace, Simulation, machine_of, simulate
from socm_like.store import RunDirectory, RunLock
from socm_like.task import Task
from socm_like.timeline import jobs_of
from socm_like.window import WindowTable

HOUR, GIB = 3600.0, 2**30
START = datetime(2026, 11, 23, 10, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
"""A Monday, 10:00 in Berlin."""
NIGHTS = WindowTable(preferred_hours=("22:00-08:00",), weekends=True, timezone="Europe/Berlin", max_wait="48 h")


def task(name: str, hours: float = 1.0, *, needs: Sequence[str] = (), **more: Any) -> Task:
    resources = {key: more.pop(key) for key in list(more) if key in Resources.model_fields}
    return Task(
        name=name, workflow=more.pop("workflow", "w"), kind="command", id=f"{name}-id", folder=f"command/{name}",
        dependencies=tuple(needs), resources=Resources(runtime=timedelta(hours=hours), **resources), argv=("true",),
        environment={}, outputs={}, metrics="", restartable=more.pop("restartable", False), parameters={}, fields={},
        **more,
    )  # fmt: skip


def plan_of(tasks: Sequence[Task], nodes: Sequence[Node], store: Path = Path("/nowhere"), **more: Any) -> Plan:
    chosen = {"execution": Execution(), "deadline": None, **more}
    return Plan(
        campaign="simulated", source=store / "campaign.toml", settings=(), store=store, machine=machine_of("m", nodes),
        plugins=(), preload=(), tasks=tuple(tasks), **chosen,
    )  # fmt: skip


def node(cores: int = 2, memory: int = 64 * GIB, **more: Any) -> Node:
    return Node(more.pop("name", "n"), cores, memory, **more)


def nodes_of(number: int, cores: int = 2, **more: Any) -> list[Node]:
    return [node(cores, name=f"n{index}", **more) for index in range(number)]


def ran(simulation: Simulation) -> dict[tuple[str, int], tuple[float, float, TaskState]]:
    """Return start and end in hours from the start, and the state, of each attempt."""
    return {
        (each.attempt.task, each.attempt.number): ((each.start - START) / HOUR, (each.end - START) / HOUR, each.state)
        for each in simulation.placements
    }


# known answers


def test_ten_hours_of_tasks_on_two_cores_take_five_hours() -> None:
    found = simulate(plan_of([task(f"t{n}") for n in range(10)], [node(2)]), [node(2)], Behaviour(), START)
    assert (found.makespan, found.core_hours, found.bottleneck, found.utilisation) == (5 * HOUR, 10, "cores", 1.0)
    assert (found.counts, found.attempts, found.retries) == ({TaskState.DONE: 10}, 10, 0)
    assert found.succeeded
    assert found.end == START + 5 * HOUR


def test_the_longest_chain_starts_first() -> None:
    tasks = [task("short", 1), task("head", 1), task("tail", 3, needs=["head"])]
    found = simulate(plan_of(tasks, [node(1)]), [node(1)], Behaviour(), START)
    assert sorted(ran(found).items(), key=lambda item: item[1]) == [
        (("head", 1), (0, 1, TaskState.DONE)), (("tail", 1), (1, 4, TaskState.DONE)),
        (("short", 1), (4, 5, TaskState.DONE)),
    ]  # fmt: skip


def test_a_task_of_several_nodes_waits_for_all_of_them_at_once() -> None:
    nodes = nodes_of(3, 4)
    tasks = [task("before", 2, threads=4), task("mpi", 1, ranks=3, threads=4)]
    found = simulate(plan_of(tasks, nodes), nodes, Behaviour(), START)
    assert ran(found) == {("before", 1): (1, 3, TaskState.DONE), ("mpi", 1): (0, 1, TaskState.DONE)} or ran(found) == {
        ("before", 1): (0, 2, TaskState.DONE), ("mpi", 1): (2, 3, TaskState.DONE)
    }  # fmt: skip
    (mpi,) = [each for each in found.placements if each.attempt.task == "mpi"]
    assert sorted((share.node, share.cores) for share in mpi.shares) == [(0, 4), (1, 4), (2, 4)]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_nine_hours_on_monday_morning_begin_in_the_evening(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    found = simulate(plan_of([task("long", 9)], [node()], window=NIGHTS), [node()], Behaviour(), START)
    assert ran(found) == {("long", 1): (12, 21, TaskState.DONE)}
    assert (found.held, found.idle, found.makespan) == ({"long": 12 * HOUR}, 12 * HOUR, 21 * HOUR)


def test_a_task_that_no_window_holds_fails_and_nothing_runs() -> None:
    strict = NIGHTS.model_copy(update={"on_unsatisfied": "fail", "weekends": False})
    found = simulate(plan_of([task("long", 12)], [node()], window=strict), [node()], Behaviour(), START)
    assert (found.counts, found.makespan, found.placements) == ({TaskState.FAILED: 1}, 0, ())
    assert not found.succeeded
    assert list(found.problems) == ["long"]


def test_a_restartable_task_stops_with_the_window_and_goes_on_from_there() -> None:
    found = simulate(
        plan_of([task("long", 15, restartable=True)], [node()], window=NIGHTS), [node()], Behaviour(), START
    )
    assert ran(found) == {("long", 1): (12, 22, TaskState.TIMEOUT), ("long", 2): (36, 41, TaskState.DONE)}


def test_a_node_that_fails_costs_an_attempt_and_is_away_until_repaired() -> None:
    behaviour = Behaviour(seed=next(_seeds_that_fail_within(10)), node_failures=0.05, repair=2 * HOUR)
    found = simulate(plan_of([task("t", 10)], [node(1)]), [node(1)], behaviour, START)
    (_, broke, state), (again, _, _) = ran(found)["t", 1], ran(found)["t", 2]
    assert state is TaskState.NODE_FAIL
    assert again == pytest.approx(broke + 2)
    assert (found.states, found.retries) == ({"t": TaskState.DONE}, found.attempts - 1)


def _seeds_that_fail_within(hours: float) -> Iterator[int]:
    """Yield seeds with which the only node fails once while a task runs and then holds for as long as it takes."""
    for seed in range(10_000):
        gaps = Behaviour(seed=seed, node_failures=0.05).gaps(0)
        if next(gaps) < hours * HOUR <= next(gaps):
            yield seed


def test_too_little_memory_grows_by_half_until_it_is_enough() -> None:
    found = simulate(plan_of([task("t", 2, memory=4 * GIB)], [node()]), [node()], Behaviour(memory=2.0), START)
    assert [(each.state, each.shares[0].memory / GIB) for each in found.placements] == [
        (TaskState.OOM, 4), (TaskState.OOM, 6), (TaskState.DONE, 9),
    ]  # fmt: skip
    assert [each.end - each.start for each in found.placements] == [HOUR, 1.5 * HOUR, 2 * HOUR]


def test_a_request_that_grew_beyond_every_node_fails_and_says_so() -> None:
    nodes = nodes_of(2, memory=5 * GIB)
    found = simulate(plan_of([task("t", memory=4 * GIB)], nodes), nodes, Behaviour(memory=2.0), START)
    assert found.states == {"t": TaskState.FAILED}
    assert found.problems == {"t": "asks 6 GiB of memory on one node, node has 5 GiB"}


def test_an_attempt_ends_at_its_limit_and_what_needs_it_is_skipped() -> None:
    tasks = [task("t", 2), task("after", needs=["t"])]
    found = simulate(plan_of(tasks, [node()]), [node()], Behaviour(runtime=1.5), START)
    assert ran(found) == {("t", 1): (0, 2, TaskState.TIMEOUT)}
    assert found.states == {"t": TaskState.TIMEOUT, "after": TaskState.SKIPPED}
    assert found.problems == {"t": "exceeded its limit of 2 h 00 min"}


def test_a_restartable_task_that_needs_more_time_goes_on_with_half_as_much_again() -> None:
    found = simulate(plan_of([task("t", 2, restartable=True)], [node()]), [node()], Behaviour(runtime=2.0), START)
    assert ran(found) == {("t", 1): (0, 2, TaskState.TIMEOUT), ("t", 2): (2, 4, TaskState.DONE)}


def test_a_limit_that_is_all_one_knows_may_be_no_limit() -> None:
    behaviour = Behaviour(runtime=1.5, unpadded="run_on")
    learned = Prediction(typical_runtime=timedelta(hours=2), runtime=timedelta(hours=2), records=9)
    tasks = [task("guessed", 2), replace(task("known", 2.5), predicted=learned)]
    found = simulate(plan_of(tasks, [node()]), [node()], behaviour, START)
    assert ran(found) == {("guessed", 1): (0, 3, TaskState.DONE), ("known", 1): (0, 2.5, TaskState.TIMEOUT)}


def test_plain_failures_are_retried_as_the_campaign_says() -> None:
    execution = Execution(retries=2)
    found = simulate(plan_of([task("t")], [node()], execution=execution), [node()], Behaviour(failures=1.0), START)
    assert [(each.attempt.number, each.state) for each in found.placements] == [
        (n, TaskState.FAILED) for n in (1, 2, 3)
    ]
    assert found.states == {"t": TaskState.FAILED}


def test_caps_and_priorities_hold_in_virtual_time() -> None:
    policy = Policy(concurrency={"w": 1}, priorities={"urgent": 5})
    tasks = [*(task(f"t{n}", 1) for n in range(3)), task("first", 1, workflow="urgent", threads=2)]
    found = simulate(plan_of(tasks, [node(2)], policy=policy), [node(2)], Behaviour(), START)
    assert sorted((start, name[0]) for name, (start, _, _) in ran(found).items()) == [
        (0, "first"), (1, "t0"), (2, "t1"), (3, "t2"),
    ]  # fmt: skip


def test_what_has_a_result_in_the_store_counts_as_cached(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "command" / "had"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"id": "had-id"}')
    before = sorted(tmp_path.rglob("*"))
    tasks = [task("had", 5), task("next", 1, needs=["had"])]
    found = simulate(plan_of(tasks, [node()], tmp_path / "runs"), [node()], Behaviour(), START)
    assert found.states == {"had": TaskState.CACHED, "next": TaskState.DONE}
    assert found.makespan == HOUR
    assert sorted(tmp_path.rglob("*")) == before


def test_a_search_counts_as_one_task_and_says_so() -> None:
    found = simulate(plan_of([task("s", search={"kind": "x"})], [node()]), [node()], Behaviour(), START)
    assert found.states == {"s": TaskState.DONE}
    assert found.notes == ("1 search simulated as one task each: trials are not known yet",)


def test_without_kinds_at_hand_tasks_do_not_share_processes() -> None:
    tasks = [task(f"t{n}", batch="alike") for n in range(4)]
    found = simulate(plan_of(tasks, [node(2)]), [node(2)], Behaviour(), START)
    assert (found.makespan, len(found.placements)) == (2 * HOUR, 4)
    assert found.notes == ("4 tasks that could share processes simulated one by one",)


def test_with_kinds_at_hand_tasks_share_processes_as_they_would() -> None:
    tasks = [task(f"t{n}", batch="alike") for n in range(4)]
    tasks = [replace(each, fields={"command": ["true"]}) for each in tasks]
    found = simulate(plan_of(tasks, [node(2)]), [node(2)], Behaviour(), START, lambda: Registry.load(()))
    assert (found.makespan, len(found.placements), found.attempts) == (2 * HOUR, 2, 4)
    assert found.counts == {TaskState.DONE: 4}


# what holds for every campaign

SIZES = st.fixed_dictionaries(
    {
        "hours": st.floats(0.1, 10), "ranks": st.integers(1, 3), "threads": st.integers(1, 4),
        "memory": st.none() | st.integers(1, 8 * GIB), "gpus": st.integers(0, 2),
    }
)  # fmt: skip
BEHAVIOURS = st.builds(
    Behaviour, seed=st.integers(0, 1000), noise=st.sampled_from([0.0, 0.5]), memory=st.sampled_from([1.0, 1.7]),
    failures=st.sampled_from([0.0, 0.2]), node_failures=st.sampled_from([0.0, 0.1]),
    unpadded=st.sampled_from(["end", "run_on"]),
)  # fmt: skip


@st.composite
def campaigns(draw: st.DrawFn, sizes: st.SearchStrategy[dict[str, Any]] = SIZES, most: int = 15) -> list[Task]:
    made: list[Task] = []
    for number in range(draw(st.integers(1, most))):
        needs = draw(st.lists(st.sampled_from([each.name for each in made]), unique=True, max_size=3)) if made else []
        made.append(task(f"t{number}", needs=needs, **draw(sizes)))
    return made


MACHINES = st.lists(
    st.builds(Node, st.just("n"), st.integers(1, 8), st.integers(1, 16 * GIB), gpus=st.integers(0, 2)),
    min_size=1, max_size=4,
)  # fmt: skip


def overcommitted(stretches: Sequence[Stretch], nodes: Sequence[Node]) -> list[str]:
    """Return where a node gives more than it has at the start of something."""
    faults = []
    for at in {each.start for each in stretches}:
        used: dict[int, Counter[str]] = {}
        for each in stretches:
            if each.start <= at < each.end:
                for share in each.shares:
                    taken = used.setdefault(share.node, Counter())
                    taken.update(cores=share.cores, memory=share.memory, gpus=share.gpus)
        faults += [
            f"{name} of node {index} at {at}: {number}"
            for index, taken in used.items()
            for name, number in taken.items()
            if number > getattr(nodes[index], name)
        ]
    return faults


@given(campaigns(), MACHINES, BEHAVIOURS)
@settings(max_examples=60)
def test_no_node_is_overcommitted_no_edge_broken_and_no_task_lost(
    tasks: list[Task], nodes: list[Node], behaviour: Behaviour
) -> None:
    found = simulate(plan_of(tasks, nodes), nodes, behaviour, START)

    assert overcommitted(found.placements, nodes) == []
    ends = {each.attempt.task: each.end for each in found.placements if each.state is TaskState.DONE}
    for each in found.placements:
        needs = next(one for one in tasks if one.name == each.attempt.task).dependencies
        assert all(ends[parent] <= each.start for parent in needs)
    assert found.states.keys() == {each.name for each in tasks}
    assert all(state.is_final for state in found.states.values())
    assert {name for name, state in found.states.items() if state is TaskState.DONE} == set(ends)


@given(campaigns(), MACHINES, BEHAVIOURS)
@settings(max_examples=20)
def test_the_same_seed_gives_the_same_simulation(tasks: list[Task], nodes: list[Node], behaviour: Behaviour) -> None:
    plan = plan_of(tasks, nodes)
    assert simulate(plan, nodes, behaviour, START) == simulate(plan, nodes, behaviour, START)


@given(campaigns(), MACHINES, st.integers(0, 100))
@settings(max_examples=40)
def test_nothing_starts_on_a_node_that_is_away(tasks: list[Task], nodes: list[Node], seed: int) -> None:
    found = simulate(plan_of(tasks, nodes), nodes, Behaviour(seed, node_failures=0.3, repair=HOUR), START)
    for broken in [each for each in found.placements if each.state is TaskState.NODE_FAIL]:
        homes = {share.node for share in broken.shares}
        away = [
            homes & {s.node for s in e.shares} for e in found.placements if broken.end <= e.start < broken.end + HOUR
        ]
        assert all(len(common) < len(homes) for common in away)


NARROW = st.fixed_dictionaries({"hours": st.floats(0.1, 10)})


@given(campaigns(NARROW, most=30), st.integers(1, 6))
@settings(max_examples=60)
def test_without_noise_it_takes_at_most_twice_the_bound(tasks: list[Task], cores: int) -> None:
    """Graham (1969), SIAM J. Appl. Math. 17(2), theorem 1: a list schedule takes (2 - 1 / m) x the best at the most."""
    plan = plan_of(tasks, [node(cores)])
    found = simulate(plan, [node(cores)], Behaviour(), START)
    planned = make_schedule(jobs_of(plan.tasks), [node(cores)])
    assert planned.lower_bound * (1 - 1e-9) <= found.makespan <= (2 - 1 / cores) * planned.lower_bound * (1 + 1e-9)


@given(st.lists(st.floats(1, 1e5), min_size=1, max_size=30), st.floats(0.1, 2.0))
def test_noise_leaves_the_median_where_it_is_and_depends_on_task_and_attempt(times: list[float], noise: float) -> None:
    behaviour = Behaviour(noise=noise)
    factors = [behaviour.work_of(Attempt("t", n), Expected(1.0)).seconds for n in range(2001)]
    assert 0.9 ** (noise * 2) <= sorted(factors)[1000] <= 1.1 ** (noise * 2)
    assert len(set(factors)) == len(factors)
    scaled = [behaviour.work_of(Attempt("t", 1), Expected(seconds)).seconds for seconds in times]
    assert scaled == pytest.approx([seconds * factors[1] for seconds in times])


# the executor


def launch(name: str, number: int = 1, *, priority: float = 0.0, **resources: Any) -> Launch:
    path = Path("/nowhere")
    return Launch(Attempt(name, number), ("true",), path, path, path, Resources(**resources), priority=priority)


def executor_on(nodes: Sequence[Node], work: Mapping[str, Work]) -> tuple[SimulatedExecutor, VirtualClock]:
    clock = VirtualClock(START)
    return SimulatedExecutor(nodes, clock, Behaviour(), lambda launch: work[launch.attempt.task]), clock


def told(events: Sequence[Event]) -> list[tuple[str, TaskState]]:
    return [(event.task, event.state) for event in events]


def test_the_most_urgent_that_fits_starts_first_and_time_stops_at_the_next_end() -> None:
    executor, clock = executor_on([node(2)], {"low": Work(60), "wide": Work(60), "high": Work(30)})
    executor.submit([launch("low", priority=1), launch("wide", priority=2, threads=2), launch("high", priority=3)])
    assert told(executor.poll(3600)) == [
        ("high", TaskState.RUNNING),
        ("low", TaskState.RUNNING),
        ("high", TaskState.DONE),
    ]
    assert clock.time() == START + 30
    assert told(executor.poll(3600)) == [("low", TaskState.DONE)]
    assert told(executor.poll(3600)) == [("wide", TaskState.RUNNING), ("wide", TaskState.DONE)]
    assert clock.time() == START + 120


def test_a_poll_waits_no_longer_than_it_may() -> None:
    executor, clock = executor_on([node()], {"a": Work(100)})
    executor.submit([launch("a")])
    assert told(executor.poll(40)) == [("a", TaskState.RUNNING)]
    assert told(executor.poll(40)) == []
    assert clock.time() == START + 80
    assert told(executor.poll(40)) == [("a", TaskState.DONE)]
    assert clock.time() == START + 100


def test_a_poll_that_would_wait_for_ever_is_an_error() -> None:
    executor, _ = executor_on([node()], {})
    with pytest.raises(ExecutorError, match="waits for something that will never happen"):
        executor.poll(float("inf"))


def test_cancelled_attempts_end_now_and_leave_their_room() -> None:
    executor, clock = executor_on([node(1)], {"a": Work(100), "b": Work(100), "c": Work(10)})
    executor.submit([launch("a"), launch("b"), launch("c")])
    executor.poll(40)
    executor.cancel([Attempt("a", 1), Attempt("b", 1), Attempt("nobody", 1)])
    assert told(executor.poll(3600)) == [
        ("a", TaskState.CANCELLED),
        ("b", TaskState.CANCELLED),
        ("c", TaskState.RUNNING),
    ]
    assert told(executor.poll(3600)) == [("c", TaskState.DONE)]
    assert clock.time() == START + 50
    assert [(each.attempt.task, each.end - START) for each in executor.stretches] == [("a", 40), ("c", 50)]


def test_recover_says_what_became_of_each_attempt() -> None:
    executor, _ = executor_on([node(1)], {"a": Work(10), "b": Work(10), "c": Work(10)})
    executor.submit([launch("a", priority=2), launch("b", priority=1), launch("c")])
    executor.poll(3600)
    executor.poll(5)
    attempts = [Attempt(name, 1) for name in ("a", "b", "c", "unknown")]
    assert told(executor.recover(attempts)) == [
        ("a", TaskState.DONE), ("b", TaskState.RUNNING), ("unknown", TaskState.LOST),
    ]  # fmt: skip


def test_what_fits_on_no_node_fails_with_the_reason() -> None:
    executor, _ = executor_on([node(4)], {})
    executor.submit([launch("a", threads=5)])
    (event,) = executor.poll(10)
    assert (event.state, event.detail) == (TaskState.FAILED, {"reason": "asks 5 cores on one node, node has 4"})


def test_the_script_of_an_attempt_waits_as_long_as_it_takes() -> None:
    executor, _ = executor_on([node()], {"a": Work(90)})
    assert executor.render(launch("a")).splitlines()[-1] == "sleep 90"


# the runner


@dataclass
class Onlooker:
    """Sees a run go by, and may interrupt it when a task has ended."""

    until: str = ""
    runner: Runner | None = None
    looks: int = 0
    seen: list[str] = field(default_factory=list)

    def saw(self, event: Event, record: Record) -> None:
        if event.task == self.until and event.state is TaskState.DONE and self.runner is not None:
            self.runner.interrupted = True

    def tick(self) -> None:
        self.looks += 1


@contextmanager
def runner_of(
    folder: Path, plan: Plan, nodes: Sequence[Node], onlooker: Onlooker
) -> Iterator[tuple[Runner, SimulatedExecutor]]:
    run = RunDirectory(folder / "campaigns" / "run")
    run.path.mkdir(parents=True, exist_ok=True)
    lock, journal, clock = RunLock(run), Journal(run.journal), VirtualClock(START)
    lock.acquire()
    workplace = ImaginedWorkplace(plan, run, Behaviour())
    executor = SimulatedExecutor(nodes, clock, Behaviour(), workplace.work_of)
    runner = Runner(
        plan, run, journal, lock, lambda: executor, lambda: Registry.load(()), onlooker, clock, workplace
    )  # fmt: skip
    onlooker.runner = runner
    yield runner, executor
    journal.close()
    lock.release()


def test_an_interrupted_run_ends_at_once_in_virtual_time(tmp_path: Path) -> None:
    plan, onlooker = plan_of([task("quick", 1), task("slow", 5), task("waits", 1)], [node(2)]), Onlooker("quick")
    with runner_of(tmp_path, plan, [node(2)], onlooker) as (runner, executor):
        outcome = runner.go()
    assert {name: record.state for name, record in outcome.records.items()} == {
        "quick": TaskState.DONE, "slow": TaskState.CANCELLED, "waits": TaskState.CANCELLED,
    }  # fmt: skip
    assert outcome.interrupted
    assert [(each.attempt.task, (each.end - START) / HOUR) for each in executor.stretches] == [
        ("quick", 1),
        ("slow", 1),
    ]


def test_the_journal_of_a_simulation_replays_to_what_it_says(tmp_path: Path) -> None:
    tasks = [task(f"t{n}", 1 + n, needs=[f"t{n - 1}"] if n % 3 else []) for n in range(12)]
    with runner_of(tmp_path, plan_of(tasks, [node(2)]), [node(2)], Onlooker()) as (runner, _):
        outcome = runner.go()
    replayed = replay(read_events(tmp_path / "campaigns" / "run" / "journal.jsonl"))
    assert replayed == dict(outcome.records)


def test_a_run_held_for_days_looks_around_a_few_times_only(tmp_path: Path) -> None:
    weekends = NIGHTS.model_copy(update={"preferred_hours": (), "max_wait": timedelta(days=7)})
    onlooker = Onlooker()
    tasks = [task(f"t{n}", 3) for n in range(20)]
    with runner_of(tmp_path, plan_of(tasks, [node(2)], window=weekends), [node(2)], onlooker) as (runner, executor):
        outcome = runner.go()
    assert outcome.succeeded
    assert min(each.start for each in executor.stretches) == START + (4 * 24 + 14) * HOUR  # Saturday 00:00
    assert onlooker.looks <= 1 + 2 * 20


# the command line

FOUR = """
[campaign]
name = "four"
[execution]
cores = 2
[campaign.first]
kind = "command"
command = "true {n}"
sweep.n = [1, 2, 3]
resources = { runtime = "1 h", memory = "1 GiB" }
[campaign.last]
kind = "command"
command = "true"
depends_on = ["first"]
resources = { runtime = "30 min", threads = 2, memory = "1 GiB" }
"""
SMALL = """
name = "small"
scheduler = "slurm"
[nodes.cpu]
count = 4
cores = 1
memory = "8 GiB"
[nodes.fat]
count = 3
cores = 2
memory = "64 GiB"
[partitions.thin]
nodes = "cpu"
walltime = "4 h"
[partitions.wide]
nodes = "fat"
walltime = "1 h"
"""


def said(text: str) -> dict[str, str]:
    """Return the lines of an answer by their first word."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}


def test_the_command_tells_when_a_campaign_ends(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "plan", "--simulate", text=FOUR)
    assert answer.returncode == 0, answer.stderr
    lines = said(answer.stdout)
    assert lines["ends"].endswith("after 2 h 30 min")
    assert (lines["tasks"], lines["use"]) == ("4 done; 0 retries", "cores 80 % busy, 4 core-hours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["campaign.toml"]


@pytest.mark.parametrize(("deadline", "status", "word"), [("3 h", 0, "holds"), ("2 h", 1, "is missed")])
def test_a_deadline_that_the_median_misses_is_exit_status_1(
    tmp_path: Path, deadline: str, status: int, word: str
) -> None:
    answer = campaign(tmp_path, "plan", "--simulate", "--set", f'campaign.deadline="{deadline}"', text=FOUR)
    assert (answer.returncode, said(answer.stdout)["deadline"].partition(": ")[2]) == (status, word)


def test_several_runs_tell_the_median_and_the_span_and_a_seed_repeats_them(tmp_path: Path) -> None:
    words = ("plan", "--simulate", "--noise", "0.3", "--failures", "0.2", "--seed", "7", "--json")
    first, second = (json.loads(campaign(tmp_path, *words, text=FOUR).stdout) for _ in range(2))
    assert [run["seed"] for run in first["runs"]] == [7, 8, 9, 10, 11]
    assert first["runs"] == second["runs"]
    times = sorted(run["makespan_seconds"] for run in first["runs"])
    assert [first["least_seconds"], first["median_seconds"], first["most_seconds"]] == [times[0], times[2], times[4]]
    assert len(set(times)) == 5
    shown = campaign(tmp_path, *words[:-1], "--runs", "3").stdout
    assert "in 3 runs" in shown
    assert "of 4 of 4 tasks the limit is all that is known of their time" in shown


def test_a_simulation_on_nodes_of_a_machine_takes_the_first_partition_that_fits(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    words = ("plan", "--simulate", "--machine", "./small.toml")
    answer = campaign(tmp_path, *words, "--nodes", "2", text=FOUR)
    assert answer.returncode == 0, answer.stderr
    assert "on small, wide: 2 nodes of 2 cores, 64 GiB; 4 tasks" in answer.stdout
    lines = said(answer.stdout)
    assert lines["ends"].endswith("after 1 h 30 min")
    assert lines["note"] == "one allocation lasts 1 h 00 min at the most; the simulation is not cut there"
    many = campaign(tmp_path, *words, "--nodes", "4")
    assert (many.returncode, many.stderr) == (2, "--nodes 4: an allocation in wide has 3 nodes at the most\n")
    large = campaign(tmp_path, *words, "--set", "campaign.last.resources.threads=3", "--set", "execution.cores=8")
    assert large.returncode == 2
    assert "wide: last: asks 3 cores on one node, fat has 2" in large.stderr


def test_a_simulation_is_drawn_with_its_retries(tmp_path: Path) -> None:
    words = ("plan", "--simulate", "--figure", "plan.svg", "--failures", "0.4", "--runs", "1", "--seed", "1")
    answer = campaign(tmp_path, *words, "--set", 'campaign.first.resources.runtime="5 h"', text=FOUR)
    assert answer.stderr == ""
    root = ElementTree.fromstring((tmp_path / "plan.svg").read_text())
    titles = [title.text or "" for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "four on local, simulated"
    assert any("(attempt 2)" in title for title in titles)


def test_simulation_page_does_what_it_says(tmp_path: Path) -> None:
    page = Path(__file__).parent.parent / "docs" / "simulation.rst"
    assert follow(page, tmp_path) == 2


def test_what_is_about_a_simulation_needs_one(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "plan", "--noise", "0.2", text=FOUR)
    assert (answer.returncode, answer.stderr) == (2, "--noise is about a simulation; add --simulate\n")
    answer = campaign(tmp_path, "plan", "--simulate", "--nodes", "2")
    assert (answer.returncode, answer.stderr) == (2, "--nodes counts the nodes of a machine file; add --machine NAME\n")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_simulation_that_is_ended_leaves_nothing_behind(tmp_path: Path, end: signal.Signals) -> None:
    (tmp_path / "campaign.toml").write_text(FOUR)
    folder = tmp_path / "temporary"
    folder.mkdir()
    simulation = subprocess.Popen(
        [*CAMPAIGN, "plan", "--simulate", "--noise", "0.1", "--runs", "10000"],
        cwd=tmp_path, env={**os.environ, "TMPDIR": str(folder)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: any(folder.glob("*/*")))
    simulation.send_signal(end)
    _, said = simulation.communicate(timeout=60)
    assert simulation.returncode == {signal.SIGINT: 1, signal.SIGTERM: 143}[end]
    assert b"Traceback" not in said
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("option", ["--noise", "--failures"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "2000000"])
def test_a_rate_that_is_no_number_is_refused(tmp_path: Path, option: str, value: str) -> None:
    answer = campaign(tmp_path, "plan", "--simulate", option, value, text=FOUR)
    assert answer.returncode == 2
    assert f"Invalid value for '{option}': {float(value)} is not in the range" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    "words", [("--noise", "10", "--runs", "40"), ("--set", 'campaign.first.resources.runtime="90000000 d"')]
)
def test_a_simulation_beyond_the_calendar_says_so(tmp_path: Path, words: Sequence[str]) -> None:
    answer = campaign(tmp_path, "plan", "--simulate", *words, text=FOUR)
    problem = "the simulation goes beyond the year 9999; state shorter runtimes or less noise\n"
    assert (answer.returncode, answer.stderr) == (1, problem)


def test_tasks_that_share_processes_are_simulated_as_they_would(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(KINDS)
    text = '[campaign]\nname = "b"\nplugins = ["kinds.py"]\n[execution]\ncores = 2\n[campaign.a]\nkind = "together"\n'
    text += "sweep.n = [1, 2, 3, 4]\n"
    answer = campaign(tmp_path, "plan", "--simulate", text=text)
    assert answer.returncode == 0, answer.stderr
    lines = said(answer.stdout)
    assert lines["ends"].endswith("after 2 h 00 min")
    assert lines["note"] == "4 tasks share processes as they would; one takes what its kind estimates"


KINDS = """
from datetime import timedelta
from socm_like import Resources, Result, Workflow

class Together(Workflow):
    kind = "together"
    batch_over = ("n",)
    n: int

    def estimate(self, context):
        return Resources(memory="1 GiB", runtime=timedelta(hours=1))

    def run(self, directory):
        return Result()

    @classmethod
    def run_batch(cls, workflows, directories):
        return [Result() for _ in workflows]

registered_workflows = {"together": Together}
"""
