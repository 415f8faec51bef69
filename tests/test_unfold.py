"""``for_each``: which tasks belong together, also by brute force; what is wrong with sweeps in a file, and scale."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unfolding import faults, planned, table, tasks_of, write

from socm_like.store import file_name
from socm_like.task import Task


def invoke(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "socm_like.cli", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


TARGETS = table("target", "make", "{width}", more="sweep.width = [5, 10, 20]\n")
SAMPLERS = """\
[campaign.sample]
kind = "command"
for_each = "target"
command = ["sample", "output://target/t", "{sampler}", "{width}"]
[campaign.sample.sweep]
sampler = ["hmc", "nuts", "vi", "smc"]
"""


def test_for_each_is_crossed_with_the_own_sweep(tmp_path: Path) -> None:
    tasks = tasks_of(tmp_path, TARGETS + SAMPLERS + table("all", "all", more='depends_on = "sample"\n'))
    targets = [f"target[width={width}]" for width in (5, 10, 20)]
    samples = [f"sample[width={w},sampler={s}]" for w in (5, 10, 20) for s in ("hmc", "nuts", "vi", "smc")]
    assert list(tasks) == [*targets, *samples, "all"]
    assert tasks["all"].dependencies == tuple(samples)
    vi = tasks["sample[width=10,sampler=vi]"]
    target = tasks["target[width=10]"]
    assert vi.argv == ("sample", f"{tmp_path}/runs/{target.folder}/t", "vi", "10")
    assert (vi.dependencies, vi.ancestors, vi.swept) == (
        ("target[width=10]",), {"target": "target[width=10]"}, ("sampler",),
    )  # fmt: skip


def test_the_own_sweep_looks_at_the_values_of_ancestors(tmp_path: Path) -> None:
    found = planned(tmp_path, TARGETS + SAMPLERS + "where = \"sampler != 'vi' or width < 10\"\n")
    assert [task.name for task in found.tasks if "vi" in task.name] == ["sample[width=5,sampler=vi]"]
    assert len(found.tasks) == 3 + 10
    assert found.notes == ("sample: where \"sampler != 'vi' or width < 10\" takes out 2 combinations",)


def test_several_workflows_pair_by_their_common_ancestor_else_all_with_all(tmp_path: Path) -> None:
    text = table("a", "a", "{w}", more="sweep.w = [1, 2]\n")
    text += table("b", "b", "{s}", more='for_each = "a"\nsweep.s = [3, 4]\n')
    text += table("c", "c", "{t}", more='for_each = "a"\nsweep.t = [5]\n')
    text += table("paired", "p", "output://b/f", "output://c/f", "output://a/f", more='for_each = ["b", "c"]\n')
    text += table("z", "z", "{u}", more="sweep.u = [7, 8]\n")
    text += table("product", "x", "{u}", "{w}", more='for_each = ["z", "a"]\n')
    tasks = tasks_of(tmp_path, text)
    paired = {name: task.dependencies for name, task in tasks.items() if task.workflow == "paired"}
    assert paired == {
        f"paired[w={w},s={s},t=5]": (f"b[w={w},s={s}]", f"c[w={w},t=5]", f"a[w={w}]") for w in (1, 2) for s in (3, 4)
    }
    assert {name: task.argv for name, task in tasks.items() if task.workflow == "product"} == {
        f"product[u={u},w={w}]": ("x", str(u), str(w)) for u in (7, 8) for w in (1, 2)
    }
    assert tasks["paired[w=2,s=3,t=5]"].ancestors == {"a": "a[w=2]", "b": "b[w=2,s=3]", "c": "c[w=2,t=5]"}


@pytest.mark.parametrize("own", ["w = [6, 7]", "zip = { w = [6, 7], v = [1, 2] }", "list = [{ w = 6 }, { w = 7 }]"])
def test_a_table_may_sweep_anew_over_a_name_of_its_ancestors(tmp_path: Path, own: str) -> None:
    text = table("a", "a", "{w}", more="sweep.w = [1, 2]\n")
    text += table("b", "b", "{w}", more=f'for_each = "a"\nparameters.v = 0\n[campaign.b.sweep]\n{own}\n')
    tasks = planned(tmp_path, text).tasks
    assert [(task.ancestors["a"], task.argv) for task in tasks[2:]] == [
        (f"a[w={w}]", ("b", str(own))) for w in (1, 2) for own in (6, 7)
    ]


def test_replicates_of_a_task_with_replicates_are_replicates_of_each(tmp_path: Path) -> None:
    text = table("a", "a", "{seed}", more="sweep.replicates = 2\n")
    text += table("b", "b", "{seed}", more='for_each = "a"\nsweep.replicates = 2\n')
    tasks = tasks_of(tmp_path, text)
    assert list(tasks)[2:] == [f"b[replicate={a},replicate={b}]" for a in (0, 1) for b in (0, 1)]
    assert len({task.id for task in tasks.values()}) == 6


def test_an_output_of_which_there_is_no_task_for_these_ancestors_is_a_fault(tmp_path: Path) -> None:
    text = "[campaign.g.sweep]\nx = [1, 2]\ny = [1, 2]\nwhere = 'x + y < 4'\n"
    text += table("g.a", "a", "{x}") + table("g.b", "b", "{y}") + table("g.c", "c", "{x}", "{y}")
    text += table("d", "d", "output://g.c/f", more='for_each = ["g.a", "g.b"]\n')
    text += table("e", "e", "{m}", more='for_each = ["g.a", "g.b"]\nsweep.m = ["output://g.c/f"]\n')
    assert faults(tmp_path, text) == [
        "campaign.toml:16: campaign.d: command.1: there is no task of g.c for x=2,y=2",
        "campaign.toml:22: campaign.e: m: output://g.c/f: there is no such task for this set",
    ]


# Any campaign


@dataclass(frozen=True)
class Sketch:
    """One table of a campaign."""

    name: str
    shared: tuple[str, ...]
    """What it reads of the sweep of its group."""
    own: Mapping[str, int]
    """Its own axes, and how many values each has."""
    for_each: tuple[str, ...]
    refers: tuple[str, ...]

    @property
    def text(self) -> str:
        names = [*self.shared, *self.own]
        more = f"for_each = {list(self.for_each)}\ninputs = {[f'output://{name}/f' for name in self.refers]}\n"
        own = "".join(f"sweep.{name} = {list(range(number))}\n" for name, number in self.own.items())
        return table(self.name, self.name, *(f"{name}={{{name}}}" for name in names), more=more + own)


@dataclass(frozen=True)
class Expected:
    """One task, as brute force finds it."""

    key: Hashable
    """Its words and the keys of its ancestors: no two tasks have one."""
    facts: Mapping[str, Hashable]
    """Ancestor -> the key of the one that led here; name of the shared sweep -> its value."""
    waits: frozenset[Hashable]


@st.composite
def campaigns(draw: st.DrawFn) -> list[Sketch]:
    sketches: list[Sketch] = []
    for index in range(draw(st.integers(2, 4))):
        earlier = [one.name for one in sketches]
        some = st.lists(st.sampled_from(earlier), unique=True, max_size=2) if earlier else st.just([])
        is_grouped = draw(st.booleans())
        is_first = is_grouped and not any(one.name.startswith("g.") for one in sketches)
        shared = {"x", "y"} if is_first else draw(st.sets(st.sampled_from("xy"))) if is_grouped else set()
        sketches.append(
            Sketch(
                name=f"g.t{index}" if is_grouped else f"t{index}",
                shared=tuple(sorted(shared)),
                own=draw(st.dictionaries(st.sampled_from([f"p{index}", f"q{index}"]), st.integers(1, 3))),
                for_each=tuple(draw(some)),
                refers=tuple(draw(some)),
            )
        )
    return sketches


EVERYTHING = [{"x": x, "y": y} for x in (1, 2) for y in (1, 2, 3) if x + y != 4]


def agree(*many: Mapping[str, Hashable]) -> bool:
    pairs = [pair for one in many for pair in one.items()]
    return len(set(pairs)) == len({name for name, _ in pairs})


def brute_force(sketches: list[Sketch]) -> dict[str, list[Expected]]:
    """Return all tasks: of every choice that can be made, those whose parts agree."""
    found: dict[str, list[Expected]] = {}
    for one in sketches:
        tasks: dict[Hashable, Expected] = {}
        around = EVERYTHING if one.name.startswith("g.") else [{}]
        sources = product(*([(name, task) for task in found[name]] for name in one.for_each))
        for chosen, shared, own in product(sources, around, product(*map(range, one.own.values()))):
            bound = [{**task.facts, name: task.key} for name, task in chosen]
            if not agree(*bound, shared):
                continue
            facts: dict[str, Hashable] = {name: value for part in bound for name, value in part.items()}
            facts.update({name: shared[name] for name in one.shared})
            values = [*((name, shared[name]) for name in one.shared), *zip(one.own, own, strict=True)]
            words = (one.name, *(f"{name}={value}" for name, value in values))
            ancestors = tuple(sorted(((name, key) for name, key in facts.items() if name not in "xy"), key=repr))
            waits = [key for name, key in facts.items() if name in one.for_each]
            for name in one.refers:
                targets = [facts[name]] if name in facts else [t.key for t in found[name] if agree(facts, t.facts)]
                waits += targets or ["no such task"]
            tasks[words, ancestors] = Expected((words, ancestors), facts, frozenset(waits))
        found[one.name] = list(tasks.values())
    return found


def keys(tasks: tuple[Task, ...]) -> dict[str, Hashable]:
    """Return the key of each task by its name."""
    found: dict[str, Hashable] = {}
    for task in tasks:
        ancestors = [(name, found[ancestor]) for name, ancestor in task.ancestors.items()]
        found[task.name] = (task.argv, tuple(sorted(ancestors, key=repr)))
    return found


@settings(max_examples=60)
@given(campaigns())
def test_any_campaign_unfolds_to_what_brute_force_finds(sketches: list[Sketch]) -> None:
    expected = {task.key: task.waits for tasks in brute_force(sketches).values() for task in tasks}
    is_grouped = any(one.name.startswith("g.") for one in sketches)
    text = "[campaign.g.sweep]\nx = [1, 2]\ny = [1, 2, 3]\nwhere = 'x + y != 4'\n" if is_grouped else ""
    text += "".join(one.text for one in sketches)
    with tempfile.TemporaryDirectory() as folder:
        if any("no such task" in waits for waits in expected.values()):
            assert any(": there is no task of " in fault for fault in faults(Path(folder), text))
            return
        tasks = planned(Path(folder), text).tasks
    key_of = keys(tasks)
    assert len(key_of) == len(tasks)
    assert {key_of[task.name]: frozenset(map(key_of.__getitem__, task.dependencies)) for task in tasks} == expected
    place = {task.name: number for number, task in enumerate(tasks)}
    assert all(place[other] < place[task.name] for task in tasks for other in task.dependencies)
    assert len({task.folder for task in tasks}) == len({task.id for task in tasks})
    assert len({file_name(task.name) for task in tasks}) == len(tasks)
    assert max(len(file_name(task.name).encode()) for task in tasks) <= 255


def test_very_long_labels_still_make_distinct_names(tmp_path: Path) -> None:
    value = "\u00e4" * 90
    text = table("a", "a", "{v}", more=f"sweep.v = {[f'{value}{number}' for number in range(5)]}\n")
    text += table("b", "b", "{u}", more=f"for_each = 'a'\nsweep.u = {[f'{value}{number}' for number in range(5)]}\n")
    tasks = planned(tmp_path, text).tasks
    assert len({task.name for task in tasks}) == len({file_name(task.name) for task in tasks}) == 30
    assert max(len(file_name(task.name).encode()) for task in tasks) <= 255


# What is wrong


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("metrics = 3", "metrics: write text in quotes, got 3"),
        ("outputs = 3", "outputs: write a table, got 3"),
        ("outputs = { f = 3 }", "outputs.f: write text in quotes, got 3"),
        ("parameters = 3", "parameters: write a table, got 3"),
        ("environment = 3", "environment: write a table, got 3"),
        ("resources = 3", "resources: write a table, got 3"),
        ("for_each = 3", "for_each: write a list, got 3"),
        ('for_each = [["z"]]', "for_each.0: write text in quotes, got ['z']"),
        ("for_each = [{}]", "for_each.0: write text in quotes, got {}"),
        ('for_each = "nope"', "for_each names 'nope', which this campaign does not define; there are: a, b, c, z"),
        ('depends_on = [["z"]]', "depends_on.0: write text in quotes, got ['z']"),
    ],
)
@pytest.mark.parametrize("is_swept", [True, False])
def test_a_key_of_a_wrong_type_is_one_fault_though_others_refer_to_the_table(
    tmp_path: Path, line: str, fault: str, is_swept: bool
) -> None:
    sweep = "sweep = { lr = [1, 2], replicates = { n = 2, seed = 'parameters.q' } }\n" if is_swept else ""
    text = table("z", "z") + table("a", "a", *["{lr}"] * is_swept, more=f"{line}\n{sweep}")
    text += table("b", "b", "output://a/f", *["{lr}"] * is_swept, more='for_each = "a"\n')
    text += table("c", "c", "output://a/f")
    assert faults(tmp_path, text) == [f"campaign.toml:7: campaign.a: {fault}"]


@pytest.mark.parametrize("value", ["3", "[3]", '"x"', "[]", "[{}]"])
def test_a_sweep_that_is_no_table_is_one_fault(tmp_path: Path, value: str) -> None:
    text = table("a", "a", "{lr}", more=f"sweep = {value}\n")
    text += table(
        "b", "b", "output://a/f", "{lr}", "{s}", more='for_each = "a"\nsweep = { s = [1], where = "lr > s" }\n'
    )
    shown = value.replace('"', "'")
    assert faults(tmp_path, text) == [
        f"campaign.toml:4: campaign.a.sweep: write a table of parameters and their values, got {shown}"
    ]


BAD = (
    table("a", "a", "{lr}")
    + """\
metricz = 3
[campaign.a.sweep]
lr = []
b = [1, 1]
c = [1, "a"]
d = { min = 0, max = 1, n = 0 }
zip = { x = [1], y = [1, 2] }
derive = { q = "nope" }
replicates = -1
[campaign.g.sweep]
w = 3
[campaign.g.b]
kind = "command"
command = 3
"""
)


def test_all_that_is_wrong_with_sweeps_is_said_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    path = write(tmp_path, BAD)
    keys = (
        "command, context, depends_on, environment, executable, for_each, inputs, metrics, outputs, parameters, "
        "resources, subcommand"
    )
    axis = "write a list of values, or a range such as {min = 0, max = 1, n = 5}, got"
    expected = [
        f"4: campaign.a: unknown key 'metricz'; allowed: {keys}; did you mean 'metrics'?",
        f"6: campaign.a: sweep: {axis} []",
        "7: campaign.a: sweep: 1 is there already; write each value once",
        "8: campaign.a: sweep: all values are of one type, but 1 is a whole number and 'a' is text",
        "9: campaign.a: sweep: write a whole number from 1 to 1000000, got 0",
        "10: campaign.a: sweep: paired axes have as many values as each other, but x has 1, y has 2",
        "11: campaign.a: sweep: 'nope': column 1: no name 'nope' here; known: b, c, d, lr, x, y",
        "12: campaign.a: sweep: write a whole number from 1 to 1000000, got -1",
        f"14: campaign.g: sweep: {axis} 3",
        "17: campaign.g.b: command: write a list, got 3",
    ]
    assert faults(tmp_path, BAD) == [f"campaign.toml:{line}" for line in expected]
    for verb in ("check", "plan", "submit"):
        done = invoke(verb, path, "--store", tmp_path / "runs")
        assert (done.returncode, done.stdout) == (2, "")
    assert [file.name for file in tmp_path.iterdir()] == ["campaign.toml"]


def test_a_name_that_a_wrong_workflow_would_give_is_not_missed(tmp_path: Path) -> None:
    text = table("a", "a", "{w}", more="sweep = { w = 5 }\n")
    text += table("b", "b", "{w}", "{s}", more='for_each = "a"\nsweep = { s = [1], where = "w > s" }\n')
    axis = "write a list of values, or a range such as {min = 0, max = 1, n = 5}, got 5"
    assert faults(tmp_path, text) == [f"campaign.toml:4: campaign.a: sweep: {axis}"]


def test_for_each_names_workflows_that_there_are_and_never_itself(tmp_path: Path) -> None:
    text = table("a", "a") + table("c", "c", more='for_each = "c"\n') + table("d", "d", more='for_each = "e"\n')
    text += table("e", "e", more='for_each = "d"\n') + table("g.h", "h") + table("i", "i", more='for_each = "g"\n')
    text += '[campaign.s]\nkind = "optimize"\nworkflow = "t"\nmetric = "y"\ntrials = 1\n'
    text += "space.x = { min = 0.0, max = 1.0 }\n"
    text += table("t", "t", "{x}", more='metrics = "m.json"\n') + table("u", "u", more='for_each = "t"\n')
    assert faults(tmp_path, text) == [
        "campaign.toml:7: workflows wait for each other: c -> c",
        "campaign.toml:11: workflows wait for each other: d -> e -> d",
        "campaign.toml:22: campaign.i: for_each takes one workflow; 'g' is a group of g.h",
        "campaign.toml:36: campaign.u: for_each names 't', whose only tasks are trials of 's'; name 's' instead",
    ]


# The command line, and scale


def test_plan_shows_what_was_excluded_and_check_counts_tasks(tmp_path: Path) -> None:
    text = table("a", "a", "{x}") + "sweep = { x = [1, 2, 3], where = ['x > 1', 'x < 9'] }\n"
    path = write(tmp_path, text)
    shown = invoke("plan", path, "--store", tmp_path / "runs").stdout.splitlines()
    place = shown.index("a: where 'x > 1' takes out 1 combination")
    assert (shown[place - 2].split()[0], shown[place - 1], shown[place + 1]) == ("a[x=3]", "", "")
    assert not any("x < 9" in line for line in shown)
    data = json.loads(invoke("plan", path, "--store", tmp_path / "runs", "--json").stdout)
    assert data["notes"] == ["a: where 'x > 1' takes out 1 combination"]
    assert invoke("check", path, "--store", tmp_path / "runs").stdout == f"{path}: fine; 1 workflow, 2 tasks\n"


def test_an_axis_may_come_from_the_command_line(tmp_path: Path) -> None:
    text = table("a", "a", "{lr}", "{n}") + "sweep.n = [1]\n"
    assert list(tasks_of(tmp_path, text, "campaign.a.sweep.lr=[1, 2]")) == ["a[n=1,lr=1]", "a[n=1,lr=2]"]
    assert faults(tmp_path, text, "campaign.a.sweep.lr=[1, 2]", "campaign.a.sweep.lrr=[3]") == [
        "--set campaign.a.sweep.lrr=[3]: campaign.a: sweep: nothing reads 'lrr' here; write {lrr} in its words, "
        "or one of: command, inputs, lr, n; did you mean 'lr'?"
    ]


MANY = "{ min = 1, max = 10000, step = 1 }"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (table("x", "x", "{a}", "{b}") + f"[campaign.x.sweep]\na = {MANY}\nb = {MANY}\n",
         "4: campaign.x: sweep: 100000000 combinations; a sweep tries at most 1000000: draw them, with sample, "
         "or list them"),
        (f"[campaign.g.sweep]\na = {MANY}\n[campaign.g.h.sweep]\nb = {MANY}\n" + table("g.h.x", "x", "{a}", "{b}"),
         "3: campaign.g.h: sweep: more than 1000000 combinations with those of the groups around it; a sweep tries "
         "at most 1000000: draw them, with sample, or list them"),
        (f"[campaign.g.sweep]\na = {MANY}\n" + table("g.x", "x", "{a}", "{b}", more=f"sweep.b = {MANY}\n"),
         "3: campaign.g.x: more than 1000000 tasks; make fewer, or several campaigns"),
    ],
)  # fmt: skip
def test_far_too_many_tasks_are_refused_before_they_are_made(tmp_path: Path, text: str, fault: str) -> None:
    before = time.process_time()
    assert faults(tmp_path, text) == [f"campaign.toml:{fault}"]
    assert time.process_time() - before < 3


def test_tasks_that_belong_together_are_not_too_many(tmp_path: Path) -> None:
    text = "".join(table(name, name, "{v}", more="sweep.v = { min = 1, max = 1001, step = 1 }\n") for name in "ab")
    text += table("c", "c", more='for_each = ["a", "b"]\n')
    assert faults(tmp_path, text) == [
        "campaign.toml:12: campaign.c: for_each: 1002001 tasks belong together, 1000000 at most"
    ]
