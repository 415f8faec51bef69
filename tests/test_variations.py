"""Sweeps of one table and of groups: which tasks they make, how these are called, and what identifies them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from unfolding import MACHINE, faults, planned, table, tasks_of, write

from socm_like.campaign import load_campaign
from socm_like.identity import FileDigests
from socm_like.tasks import resolve

TRAIN = table("train", "train", "{lr}", "{layers}", more="[campaign.train.sweep]\n")


def test_every_combination_is_a_task_the_last_axis_fastest(tmp_path: Path) -> None:
    tasks = tasks_of(tmp_path, TRAIN + "lr = [0.01, 0.1]\nlayers = [1, 2]\n")
    assert {name: task.argv for name, task in tasks.items()} == {
        "train[lr=0.01,layers=1]": ("train", "0.01", "1"),
        "train[lr=0.01,layers=2]": ("train", "0.01", "2"),
        "train[lr=0.1,layers=1]": ("train", "0.1", "1"),
        "train[lr=0.1,layers=2]": ("train", "0.1", "2"),
    }
    assert list(tasks) == [f"train[lr={lr},layers={layers}]" for lr in ("0.01", "0.1") for layers in (1, 2)]
    assert {task.swept for task in tasks.values()} == {("lr", "layers")}


@pytest.mark.parametrize(
    "axes",
    ["lr = [0.3, 0.01, 0.1]\nlayers = [1, 5, 2]\n", "layers = [2, 1]\nlr = [0.1, 0.01]\n"],
)
def test_more_values_and_another_order_leave_every_identity(tmp_path: Path, axes: str) -> None:
    before = {task.id for task in planned(tmp_path, TRAIN + "lr = [0.01, 0.1]\nlayers = [1, 2]\n").tasks}
    after = {task.id for task in planned(tmp_path, TRAIN + axes).tasks}
    assert len(before) == 4
    assert before <= after


def test_growing_replicates_keeps_the_seeds_that_were_there(tmp_path: Path) -> None:
    text = table("fit", "fit", "{x}", "{random}") + "[campaign.fit.sweep]\nx = {x}\nreplicates = {n}\n"
    small = {"{x}": "[1, 2]", "{n}": '{n = 2, seed = "random"}'}
    large = {"{x}": "[3, 2, 1]", "{n}": '{n = 3, seed = "random"}'}
    found = []
    for values in (small, large):
        filled = text
        for name, value in values.items():
            filled = filled.replace(f" = {name}", f" = {value}")
        found.append(tasks_of(tmp_path, filled))
    before, after = found
    assert list(before) == [f"fit[x={x},replicate={number}]" for x in (1, 2) for number in (0, 1)]
    assert len({task.parameters["random"] for task in after.values()}) == 9
    assert {name: after[name].id for name in before} == {name: task.id for name, task in before.items()}


PRINT = """\
import sys
from pathlib import Path
from socm_like.campaign import load_campaign
from socm_like.identity import FileDigests
from socm_like.plan import make_plan
from socm_like.resources import Machine
machine = Machine(name="m", cores=(0, 1), memory=2**33)
print(make_plan(load_campaign(Path(sys.argv[1])), Path("/store"), machine, FileDigests()).to_json())
"""


def test_plans_of_two_processes_are_equal_byte_for_byte(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for name in ("one.txt", "two.txt", "three.txt"):
        write(tmp_path, name, name)
    text = """\
[campaign.g.sweep]
a = [1, 2]
b = ["one.txt", "x"]
when = [{ if = "a == 1", axes = { c = [true, false] } }]
where = "a == 1 or b == 'x'"
"""
    text += table("g.first", "first", "{b}", "{a}", "one.txt", "two.txt", "three.txt")
    text += table("g.last", "last", "{c}", "output://g.first/f", more='parameters.c = "none"\nsweep.replicates = 2\n')
    text = text.replace('"{c}"', '"{c}", "{seed}"')
    text += table("tune", "tune", "{x}", "one.txt", "two.txt", "three.txt", more='metrics = "m.json"\n')
    text += '[campaign.search]\nkind = "optimize"\nworkflow = "tune"\nmetric = "loss"\ntrials = 3\n'
    text += "[campaign.search.space]\nx = { min = 0.0, max = 1.0 }\n"
    path = write(tmp_path, text)
    plans = [run_python(PRINT, path, PYTHONHASHSEED=seed) for seed in ("0", "1", "4294967295")]
    assert [plan.stderr for plan in plans] == ["", "", ""]
    assert plans[0].stdout == plans[1].stdout == plans[2].stdout
    assert '"g.last[c=true,replicate=1]"' in plans[0].stdout


def test_a_declared_type_decides_and_not_how_a_number_is_written(tmp_path: Path) -> None:
    text = '[kind.k]\ncommand = ["x", "{f}"]\nfields.f = { type = "float" }\n'
    text += '[campaign.a]\nkind = "k"\nsweep.f = [1, 2]\n[campaign.b]\nkind = "k"\nsweep.f = [1.0, 2.0]\n'
    tasks = tasks_of(tmp_path, text)
    assert tasks["a[f=1]"].id == tasks["b[f=1]"].id
    assert tasks["a[f=2]"].id == tasks["b[f=2]"].id


def test_a_swept_key_may_stand_inside_a_table_and_the_rest_of_it_stays(tmp_path: Path) -> None:
    text = '[kind.k]\ncommand = ["x"]\nenvironment = { A = "kind", B = "kind" }\noutputs = { f = "f.txt" }\n'
    text += '[campaign.a]\nkind = "k"\nsweep = { environment.B = ["1", "2"], derive.resources.threads = "2" }\n'
    tasks = tasks_of(tmp_path, text)
    assert [task.environment for task in tasks.values()] == [{"A": "kind", "B": "1"}, {"A": "kind", "B": "2"}]
    assert [task.resources.threads for task in tasks.values()] == [2, 2]
    assert list(tasks) == ["a[environment.B=1]", "a[environment.B=2]"]  # what is computed tells nothing apart


def test_swept_files_lie_beside_the_campaign_file_and_count_by_content(tmp_path: Path) -> None:
    text = table("use", "use", "{m}") + 'sweep.m = ["file://one.txt", "file://two.txt"]\n'
    text += '[kind.k]\ncommand = ["x", "{p}"]\nfields.p = { type = "path" }\n'
    text += '[campaign.typed]\nkind = "k"\nsweep.p = ["one.txt", "two.txt"]\n'
    write(tmp_path, "1", "one.txt")
    write(tmp_path, "2", "two.txt")
    before = tasks_of(tmp_path, text)
    assert before["use[m=one.txt]"].argv == ("use", f"{tmp_path}/one.txt")
    assert before["typed[p=two.txt]"].argv == ("x", f"{tmp_path}/two.txt")
    assert list(before["typed[p=two.txt]"].inputs) == [f"{tmp_path}/two.txt"]
    write(tmp_path, "3", "two.txt")
    after = tasks_of(tmp_path, text)
    assert {name for name in before if before[name].id != after[name].id} == {"use[m=two.txt]", "typed[p=two.txt]"}


def test_a_missing_swept_file_is_a_fault_of_the_line_it_stands_in(tmp_path: Path) -> None:
    write(tmp_path, "", "one.txt")
    text = table("use", "use", "{m}") + '[campaign.use.sweep]\nm = [\n  "file://one.txt",\n  "file://ona.txt",\n]\n'
    assert faults(tmp_path, text) == [
        "campaign.toml:5: campaign.use: m: no such file: ona.txt; did you mean 'one.txt'?"
    ]


MADE = table("a", "a") + table("b", "b") + table("c", "c")


def test_a_set_that_names_an_output_waits_for_that_task_and_no_other(tmp_path: Path) -> None:
    text = MADE + table("use", "use", "{m}") + 'sweep.m = ["output://a/f", "output://b/f"]\n'
    tasks = list(planned(tmp_path, text).tasks)
    runs, (a, b, _, first, second) = tmp_path / "runs", tasks
    assert [task.dependencies for task in (first, second)] == [("a",), ("b",)]
    assert first.argv == ("use", f"{runs}/{a.folder}/f")
    assert second.argv == ("use", f"{runs}/{b.folder}/f")
    more = planned(tmp_path, text.replace('"output://b/f"]\n', '"output://b/f", "output://c/f"]\n')).tasks
    assert [task.id for task in more[3:5]] == [first.id, second.id]
    alone = tasks_of(tmp_path, MADE + table("use", "use", "{m}") + 'parameters.m = "output://a/f"\n')["use"]
    assert alone.id == first.id


def test_an_output_that_an_ancestor_was_swept_over_counts_as_what_it_is(tmp_path: Path) -> None:
    text = MADE + table("use", "use", "{m}") + 'sweep.m = ["output://a/f", "output://b/f"]\n'
    text += table("more", "more", "{m}", more='for_each = "use"\n')
    first, second = planned(tmp_path, text).tasks[-2:]
    assert [task.dependencies[1:] for task in (first, second)] == [("a",), ("b",)]
    elsewhere = resolve(load_campaign(tmp_path / "campaign.toml"), Path("/elsewhere"), MACHINE, FileDigests())
    assert [task.id for task in elsewhere.tasks[-2:]] == [first.id, second.id]


def test_an_output_that_a_sweep_names_is_one_file_of_a_task_that_there_is(tmp_path: Path) -> None:
    text = table("a", "a", "{w}") + "sweep.w = [1, 2]\n"
    text += table("b", "b", "{m}") + 'sweep.m = ["output://a/f"]\n'
    text += table("c", "c", "{m}") + 'sweep.m = ["output://aa/f"]\n'
    text += table("d", "d", "{m}") + 'sweep.m = ["output://d/f"]\n'
    text += table("e", "e", "{m}") + 'for_each = "a"\nsweep.m = ["output://a/f"]\n'
    assert faults(tmp_path, text) == [
        "campaign.toml:8: campaign.b: m: 'output://a/f' stands for 2 files, this key takes one; "
        "take one per task with for_each = 'a'",
        "campaign.toml:12: campaign.c: sweep of c names 'aa', which this campaign does not define; "
        "there are: a, b, c, d, e; did you mean 'a'?",
        "campaign.toml:16: workflows wait for each other: d -> d",
    ]


# Groups

FOUR = "[campaign.g.sweep]\n" + "".join(f"{name} = [1, 2, 3]\n" for name in "wxyz")


def test_a_member_runs_once_for_each_combination_of_what_it_reads(tmp_path: Path) -> None:
    text = FOUR + table("g.first", "first")
    text += table("g.fit", "fit", "output://g.first/d", *(f"{{{name}}}" for name in "wxyz"))
    text += table("g.plot", "plot", "output://g.fit/d") + 'for_each = "g.fit"\n'
    text += table("g.pair", "pair", "{x}", "{w}")
    text += table("g.all", "all") + 'depends_on = ["g.fit"]\n'
    tasks = tasks_of(tmp_path, text)
    workflows = [task.workflow for task in tasks.values()]
    assert [workflows.count(f"g.{name}") for name in ("first", "fit", "plot", "pair")] == [1, 81, 81, 9]
    assert tasks["g.fit[w=1,x=2,y=3,z=1]"].dependencies == ("g.first",)
    assert tasks["g.plot[w=1,x=2,y=3,z=1]"].dependencies == ("g.fit[w=1,x=2,y=3,z=1]",)
    assert len(tasks["g.all"].dependencies) == 81


def test_a_reference_inside_a_group_stands_for_the_tasks_that_agree(tmp_path: Path) -> None:
    text = "[campaign.g.sweep]\nx = [1, 2]\ny = [3, 4]\n" + table("g.a", "a", "{x}")
    text += table("g.b", "b", "{x}", "{y}", "output://g.a/f")
    text += table("g.c", "c", "{y}", "output://g.b/f", "{z}") + "sweep.z = [5, 6]\n"
    tasks = tasks_of(tmp_path, text)
    assert {name: task.dependencies for name, task in tasks.items()} == {
        "g.a[x=1]": (),
        "g.a[x=2]": (),
        **{f"g.b[x={x},y={y}]": (f"g.a[x={x}]",) for x in (1, 2) for y in (3, 4)},
        **{f"g.c[y={y},z={z}]": (f"g.b[x=1,y={y}]", f"g.b[x=2,y={y}]") for y in (3, 4) for z in (5, 6)},
    }


def test_an_inner_group_and_its_where_see_the_sweep_around_them(tmp_path: Path) -> None:
    text = "[campaign.g.sweep]\nx = [1, 2]\n[campaign.g.h.sweep]\ny = [1, 2]\nwhere = 'x * y < 4'\n"
    text += table("g.a", "a", "{x}") + table("g.h.b", "b", "{x}", "{y}", "output://g.a/f")
    text += table("g.h.c", "c", "{y}", "{z}") + "sweep = { z = [5, 6], where = 'y + z < 8' }\n"
    found = planned(tmp_path, text)
    assert [(task.name, *task.dependencies) for task in found.tasks] == [
        ("g.a[x=1]",), ("g.a[x=2]",),
        ("g.h.b[x=1,y=1]", "g.a[x=1]"), ("g.h.b[x=1,y=2]", "g.a[x=1]"), ("g.h.b[x=2,y=1]", "g.a[x=2]"),
        ("g.h.c[y=1,z=5]",), ("g.h.c[y=1,z=6]",), ("g.h.c[y=2,z=5]",),
    ]  # fmt: skip
    assert found.notes == (
        "g.h: where 'x * y < 4' takes out 1 combination",
        "g.h.c: where 'y + z < 8' takes out 1 combination",
    )


def test_a_combination_of_a_group_of_which_a_member_keeps_nothing_makes_no_task_of_it(tmp_path: Path) -> None:
    text = "[campaign.g.sweep]\nx = [1, 2]\n" + table("g.a", "a", "{x}", "{z}")
    kept = planned(tmp_path, text + "sweep = { z = [5], where = 'x + z < 7' }\n")
    assert [task.name for task in kept.tasks] == ["g.a[x=1,z=5]"]
    assert kept.notes == ("g.a: where 'x + z < 7' takes out 1 combination",)
    assert faults(tmp_path, text + "sweep = { z = [5], where = 'x + z < 2' }\n") == [
        "campaign.toml:6: campaign.g.a: sweep: no combination is left: where ('x + z < 2') took out 2; loosen them"
    ]


def test_a_member_without_a_conditional_name_has_one_task_for_all_sets_that_lack_it(tmp_path: Path) -> None:
    text = "[campaign.g.sweep]\no = ['s', 'a']\nwhen = { if = \"o == 's'\", axes = { n = [true, false] } }\n"
    text += table("g.a", "a", "{n}", more='parameters.n = "none"\n') + table("g.b", "b", "{o}", "{n}", "output://g.a/f")
    text += 'parameters.n = "none"\n'
    tasks = tasks_of(tmp_path, text)
    assert {name: (task.argv or ())[1:-1] for name, task in tasks.items() if name.startswith("g.b")} == {
        "g.b[o=s,n=true]": ("s", "true"), "g.b[o=s,n=false]": ("s", "false"), "g.b[o=a]": ("a", "none"),
    }  # fmt: skip
    assert tasks["g.b[o=a]"].dependencies == ("g.a",)
    assert tasks["g.b[o=s,n=true]"].dependencies == ("g.a[n=true]",)


def test_members_do_not_wait_for_outputs_of_a_shared_sweep_that_they_do_not_read(tmp_path: Path) -> None:
    text = '[campaign.g.sweep]\nm = ["output://g.a/f", "output://g.b/f"]\n'
    text += table("g.a", "a") + table("g.b", "b") + table("g.c", "c", "{m}")
    assert [task.dependencies for task in planned(tmp_path, text).tasks] == [(), (), ("g.a",), ("g.b",)]


# What is wrong


def test_a_name_that_nobody_reads_is_a_fault_where_it_stands(tmp_path: Path) -> None:
    text = table("a", "a", "{layers}") + "[campaign.a.sweep]\nlayers = [1]\nlayer = [1]\nused = [1]\n"
    text += "where = 'used < 2'\nfor_each = ['a']\n"
    text += "[campaign.g.sweep]\nlr = [1]\nlrr = [2]\n" + table("g.a", "a", "{lr}") + table("g.b", "b")
    assert faults(tmp_path, text) == [
        "campaign.toml:6: campaign.a: sweep: nothing reads 'layer' here; write {layer} in its words, "
        "or one of: command, inputs, layers; did you mean 'layers'?",
        "campaign.toml:9: campaign.a: sweep: nothing reads 'for_each' here; write {for_each} in its words, "
        "or one of: command, inputs, layers",
        "campaign.toml:12: campaign.g: sweep: none of g.a, g.b reads 'lrr'; did you mean 'lr'?",
    ]


def test_two_names_may_not_set_one_key(tmp_path: Path) -> None:
    text = table("a", "a", "{lr}") + "sweep = { lr = [1], parameters.lr = [2] }\n"
    text += "[campaign.g.sweep]\nlr = [1]\n" + table("g.b", "b", "{lr}") + "sweep.parameters.lr = [2]\n"
    assert faults(tmp_path, text) == [
        "campaign.toml:4: campaign.a: sweep: 'parameters.lr' and 'lr' set the same key; write one of them",
        "campaign.toml:10: campaign.g.b: sweep: 'parameters.lr' and 'lr' set the same key; write one of them",
    ]


def test_a_table_takes_its_replicates_from_one_sweep(tmp_path: Path) -> None:
    text = "[campaign.g.sweep]\nw = [1]\nreplicates = 2\n" + table("g.a", "a", "{seed}", "{w}")
    text += "sweep.replicates = 2\n" + table("g.b", "b", "{other}")
    text += 'sweep.replicates = { n = 2, seed = "other" }\n'
    assert faults(tmp_path, text) == [
        "campaign.toml:7: campaign.g.a: sweep: g and g.a have replicates, and g.a reads both; write them once"
    ]
    fine = text.replace("sweep.replicates = 2\n", "")
    assert [task.name for task in planned(tmp_path, fine).tasks] == [
        "g.a[w=1,replicate=0]", "g.a[w=1,replicate=1]", "g.b[replicate=0]", "g.b[replicate=1]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("1 / x < 4", "campaign.toml:3: campaign.g: sweep: '1 / x < 4' for x=0: division by zero; take such "
         "combinations out with where, or test first, as in: a / b if b != 0 else 0"),
        ("x > 4", "campaign.toml:1: campaign.g: sweep: no combination is left: where ('x > 4') took out 2; "
         "loosen them"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_shared_sweep_is_said_once_and_there(tmp_path: Path, where: str, fault: str) -> None:
    text = f"[campaign.g.sweep]\nx = [0, 2]\nwhere = '{where}'\n" + table("g.a", "a", "{x}")
    assert faults(tmp_path, text + table("g.b", "b", "{x}", "{z}", more="sweep.z = [1]\n")) == [fault]
