"""Plans: what runs on what in which order, as a value that survives JSON; ranks and paths against brute force."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.campaign import load_campaign
from socm_like.errors import CampaignError, StoreError
from socm_like.frontier import Frontier
from socm_like.identity import FileDigests
from socm_like.plan import Plan, critical_path, make_plan, read_plan, upward_ranks
from socm_like.resources import Machine, Resources
from socm_like.settings import Execution
from socm_like.sizes import runtime_of
from socm_like.task import Task

MACHINE = Machine(name="small", cores=(0, 2, 4, 6), memory=8 * 2**30, gpus=("0", "1"))


def make_task(name: str, dependencies: Sequence[str] = (), runtime: float | None = None, **fields: Any) -> Task:
    task = Task(
        name=name,
        workflow=name,
        kind="command",
        id=f"{name:0>64}",
        folder=f"command/{name}",
        dependencies=tuple(dependencies),
        resources=Resources(runtime=None if runtime is None else timedelta(seconds=runtime)),
        argv=("true",),
        environment={},
        outputs={},
        metrics="",
        restartable=False,
        parameters={},
        fields={},
    )
    return replace(task, **fields)


@st.composite
def graphs(draw: Callable[[st.SearchStrategy[Any]], Any], most: int = 8) -> tuple[Task, ...]:
    """Tasks, each after those it depends on, with runtimes or without."""
    tasks: list[Task] = []
    for number in range(draw(st.integers(0, most))):
        names = [task.name for task in tasks]
        parents = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
        runtime = draw(st.one_of(st.none(), st.integers(1, 1000)))
        tasks.append(make_task(f"t{number}", parents, runtime))
    return tuple(tasks)


def chains(tasks: Sequence[Task]) -> list[list[str]]:
    """All chains of tasks that depend on each other, from any task to any task without children."""
    children: dict[str, list[str]] = {task.name: [] for task in tasks}
    for task in tasks:
        for parent in task.dependencies:
            children[parent].append(task.name)

    def below(name: str) -> list[list[str]]:
        return [[name, *rest] for child in children[name] for rest in below(child)] or [[name]]

    return [chain for task in tasks for chain in below(task.name)]


@given(graphs())
def test_an_upward_rank_is_the_longest_chain_from_a_task_on(tasks: tuple[Task, ...]) -> None:
    seconds = {task.name: runtime_of(task) for task in tasks}
    found = chains(tasks)
    assert upward_ranks(tasks) == {
        task.name: max(sum(seconds[name] for name in chain) for chain in found if chain[0] == task.name)
        for task in tasks
    }


@given(graphs())
def test_the_critical_path_is_a_longest_chain_of_all(tasks: tuple[Task, ...]) -> None:
    seconds = {task.name: runtime_of(task) for task in tasks}
    path = [task.name for task in critical_path(tasks)]
    found = chains(tasks)
    assert path in found or (path, found) == ([], [])
    assert sum(seconds[name] for name in path) == max(
        (sum(seconds[name] for name in chain) for chain in found), default=0
    )


def test_ranks_and_path_of_a_graph_worked_out_by_hand() -> None:
    r"""a(10) -> b(20) -> d(5), a -> c(60, unstated) -> d, e(70)."""
    tasks = (
        make_task("a", [], 10),
        make_task("b", ["a"], 20),
        make_task("c", ["a"]),
        make_task("d", ["b", "c"], 5),
        make_task("e", [], 70),
    )
    assert upward_ranks(tasks) == {"a": 75.0, "b": 25.0, "c": 65.0, "d": 5.0, "e": 70.0}
    assert [task.name for task in critical_path(tasks)] == ["a", "c", "d"]


def test_a_long_chain_needs_no_deep_recursion() -> None:
    tasks = tuple(make_task(f"t{i}", [f"t{i - 1}"] if i else [], 1) for i in range(5000))
    assert upward_ranks(tasks)["t0"] == 5000.0
    assert critical_path(tasks) == tasks


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
SIZES = st.none() | st.integers(1, 2**50)
SPANS = st.timedeltas(timedelta(microseconds=1), timedelta(days=3650))
RESOURCES = st.builds(
    Resources,
    ranks=st.integers(1, 9),
    threads=st.integers(1, 9),
    memory=SIZES,
    runtime=st.none() | SPANS,
    gpus=st.integers(0, 9),
    gpu_memory=SIZES,
)
PATHS = st.lists(st.text("ab/. é", min_size=1), max_size=2).map(lambda parts: Path("/", *parts))


@st.composite
def plans(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Plan:
    details = {
        "workflow": TEXT,
        "resources": RESOURCES,
        "argv": st.none() | st.lists(TEXT).map(tuple),
        "environment": st.dictionaries(TEXT, TEXT, max_size=3),
        "outputs": st.dictionaries(TEXT, TEXT, max_size=3),
        "metrics": TEXT,
        "restartable": st.booleans(),
        "parameters": st.dictionaries(TEXT, JSON, max_size=3),
        "fields": st.dictionaries(TEXT, JSON, max_size=3),
    }
    tasks = [replace(task, **draw(st.fixed_dictionaries(details))) for task in draw(graphs(3))]
    return Plan(
        campaign=draw(TEXT),
        source=draw(PATHS),
        settings=tuple(draw(st.lists(TEXT, max_size=2))),
        store=draw(PATHS),
        deadline=draw(st.none() | SPANS),
        machine=Machine(name=draw(TEXT), cores=(0, 3), memory=draw(st.integers(1, 2**50)), gpus=("0", "GPU-1")),
        execution=Execution(cores=2, memory=draw(SIZES), retries=1, grace=draw(SPANS)),
        plugins=tuple(draw(st.lists(PATHS, max_size=2))),
        preload=tuple(draw(st.lists(TEXT, max_size=2))),
        tasks=tuple(tasks),
    )


@given(plans())
def test_a_plan_survives_json(plan: Plan) -> None:
    text = plan.to_json()
    again = read_plan(json.loads(text))
    assert again == plan
    assert again.to_json() == text
    assert again.run_name == plan.run_name == json.loads(text)["run"]


def test_the_json_of_a_plan_has_seconds_and_bytes_and_a_task_per_line() -> None:
    plan = Plan(
        campaign="c",
        source=Path("/f/campaign.toml"),
        settings=("a=1",),
        store=Path("/f/runs"),
        deadline=timedelta(hours=1),
        machine=MACHINE,
        execution=Execution(),
        plugins=(Path("/f/x.py"),),
        preload=("json",),
        tasks=(make_task("a", [], 1.5), make_task("b", ["a"], argv=None)),
    )
    head, first, second, tail = plan.to_json().splitlines()
    assert json.loads(f"{head}]}}") == {
        "schema": 1,
        "campaign": "c",
        "run": plan.run_name,
        "source": "/f/campaign.toml",
        "settings": ["a=1"],
        "store": "/f/runs",
        "deadline": 3600.0,
        "machine": {
            "name": "small",
            "cores": [0, 2, 4, 6],
            "memory": 8 * 2**30,
            "gpus": ["0", "1"],
            "gpu_memory": None,
        },
        "execution": {
            "executor": "local",
            "cores": None,
            "memory": None,
            "batch_size": 1024,
            "retries": 0,
            "lost_retries": 2,
            "oom_retries": 3,
            "timeout_retries": 2,
            "grace": 10.0,
        },
        "plugins": ["/f/x.py"],
        "preload": ["json"],
        "window": None,
        "policy": {},
        "notes": [],
        "tasks": [],
    }
    assert json.loads(first.removesuffix(",")) == {
        "name": "a",
        "workflow": "a",
        "kind": "command",
        "id": "a".zfill(64),
        "folder": "command/a",
        "dependencies": [],
        "resources": {"ranks": 1, "threads": 1, "runtime": 1.5, "gpus": 0},
        "argv": ["true"],
        "environment": {},
        "outputs": {},
        "metrics": "",
        "restartable": False,
        "parameters": {},
        "fields": {},
    }
    assert json.loads(second)["argv"] is None
    assert tail == "]}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "plan schema 2, this program reads 1"),
        ({"tasks": None}, "TypeError: 'NoneType' object is not iterable"),
        ({"deadline": "soon"}, "TypeError: unsupported type for timedelta seconds component: str"),
        ({"execution": {}}, "KeyError: 'grace'"),
        ({"tasks": [{}]}, "KeyError: 'dependencies'"),
        ({"source": 3}, "TypeError: "),
        ({"machine": {"name": "x"}}, "ValidationError: 2 validation errors for Machine"),
    ],
)
def test_what_is_no_plan_of_this_program_is_refused(change: dict[str, Any], message: str) -> None:
    plan = Plan("c", Path("/f"), (), Path("/r"), None, MACHINE, Execution(), (), (), ())
    with pytest.raises(StoreError) as caught:
        read_plan({**json.loads(plan.to_json()), **change})
    if "schema" in message:
        assert str(caught.value) == message
    else:
        assert str(caught.value).startswith(f"plan.json is damaged ({message}")
        assert str(caught.value).endswith("); submit the campaign again to write it anew")
    with pytest.raises(StoreError):
        read_plan([])  # type: ignore[arg-type]


CAMPAIGN = """\
[campaign]
name = "nulls"
[campaign.a]
kind = "command"
command = ["cat", "data.txt"]
[campaign.b]
kind = "command"
command = ["cat", "output://a/x"]
[campaign.c]
kind = "command"
command = ["cat"]
depends_on = ["a", "b"]
"""


def plan_of(folder: Path, text: str = CAMPAIGN, *settings: str, store: Path | None = None) -> Plan:
    folder.mkdir(exist_ok=True)
    (folder / "data.txt").write_text("1")
    (folder / "campaign.toml").write_text(text)
    campaign = load_campaign(folder / "campaign.toml", settings)
    return make_plan(campaign, store or folder / "runs", MACHINE, FileDigests())


def test_every_edge_is_respected_whatever_the_order_of_the_tables(tmp_path: Path) -> None:
    head, *tables = CAMPAIGN.split("[campaign.")
    for order in permutations(tables):
        tasks = plan_of(tmp_path, head + "".join(f"[campaign.{table}" for table in order)).tasks
        assert {task.name: task.dependencies for task in tasks} == {"a": (), "b": ("a",), "c": ("a", "b")}
        assert [task.name for task in tasks] == ["a", "b", "c"]


def test_a_plan_knows_where_it_comes_from_and_what_it_may_use(tmp_path: Path) -> None:
    settings = ("execution.cores=2", "execution.memory='1 GiB'", "campaign.deadline='2 h'")
    plan = plan_of(tmp_path, CAMPAIGN, *settings)
    assert (plan.campaign, plan.source, plan.store) == ("nulls", tmp_path / "campaign.toml", tmp_path / "runs")
    assert (plan.settings, plan.deadline, plan.plugins, plan.preload) == (settings, timedelta(hours=2), (), ())
    assert plan.machine == Machine(name="small", cores=(0, 2), memory=2**30, gpus=("0", "1"))
    assert plan.execution == Execution(cores=2, memory=2**30)
    assert make_plan(
        load_campaign(tmp_path / "campaign.toml"), tmp_path / "x" / ".." / "runs", MACHINE, FileDigests()
    ).store == tmp_path / "runs"  # fmt: skip


def test_the_cap_of_the_campaign_refuses_what_the_machine_could_run(tmp_path: Path) -> None:
    text = f"{CAMPAIGN}resources = {{ threads = 3, memory = '2 GiB' }}\n[execution]\ncores = 2\nmemory = '1 GiB'\n"
    with pytest.raises(CampaignError) as caught:
        plan_of(tmp_path, text)
    assert str(caught.value).replace(f"{tmp_path}/", "").splitlines() == [
        "campaign.toml:13: campaign.c: c can never run: it asks 3 cores, small has 2",
        "campaign.toml:13: campaign.c: c can never run: it asks 2 GiB of memory, small has 1 GiB",
    ]


def test_a_cap_above_the_machine_changes_nothing(tmp_path: Path) -> None:
    assert plan_of(tmp_path, CAMPAIGN, "execution.cores=100", "execution.memory='1 TiB'").machine == MACHINE


def test_a_run_is_named_by_what_is_computed_not_by_where_or_how_fast(tmp_path: Path) -> None:
    name = plan_of(tmp_path / "one").run_name
    assert name == "nulls-a7829f55"
    assert plan_of(tmp_path / "two", store=tmp_path / "elsewhere").run_name == name
    head, *tables = CAMPAIGN.replace('["a", "b"]', '["b", "a"]').split("[campaign.")
    turned = "".join(f"[campaign.{table}" for table in reversed(tables))
    assert plan_of(tmp_path / "one", f"{head}{turned}").run_name == name
    for setting in (
        "campaign.a.resources.memory='1 GiB'",
        "execution.retries=3",
        "campaign.deadline='1 h'",
        "campaign.doc=x",
    ):
        assert plan_of(tmp_path / "one", CAMPAIGN, setting).run_name == name
    for setting in ("campaign.a.parameters.x=1", "campaign.c.depends_on=['b']", "environment.A='1'"):
        other = plan_of(tmp_path / "one", CAMPAIGN, setting).run_name
        assert other.startswith("nulls-")
        assert other != name
    assert plan_of(tmp_path / "one", CAMPAIGN, "campaign.name=other").run_name == "other-a7829f55"


def test_planning_writes_nothing(tmp_path: Path) -> None:
    plan_of(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["campaign.toml", "data.txt"]


def test_what_is_learned_while_a_run_goes_on_orders_anew_what_waits() -> None:
    tasks = (make_task("a", [], 60.0), make_task("b", [], 60.0), make_task("c", ["b"], 60.0))
    frontier = Frontier(tasks)
    frontier.push("a")
    frontier.push("b")
    frontier.rerank(tasks, lambda task: {"a": 500.0, "b": 60.0, "c": 60.0}[task.name])
    assert [frontier.pop(), frontier.pop(), frontier.pop()] == ["a", "b", None]
    frontier.push("a")
    frontier.push("b")
    frontier.rerank(tasks, lambda task: 60.0)
    assert [frontier.pop(), frontier.pop()] == ["b", "a"]


def test_what_a_task_waits_for_is_as_urgent_as_the_task() -> None:
    tasks = (
        make_task("a", [], 900.0),
        make_task("b", [], 1.0),
        make_task("c", ["b"], 1.0),
    )
    frontier = Frontier(tasks, lambda workflow: int(workflow == "c"))
    frontier.push("a")
    frontier.push("b")
    assert [frontier.pop(), frontier.pop()] == ["b", "a"]
