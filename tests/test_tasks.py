"""Campaign -> tasks: identities, references, expansions, ``for_each``; whatever a plug-in does wrong is a fault."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from socm_like.campaign import load_campaign
from socm_like.errors import CampaignError
from socm_like.identity import FileDigests
from socm_like.registry import Registry
from socm_like.resources import Machine
from socm_like.task import Task
from socm_like.tasks import resolve

MACHINE = Machine(name="small", cores=(0, 1), memory=8 * 2**30, gpus=("0",))

PLUGIN = '''\
from pathlib import Path
from typing import Annotated, ClassVar

from socm_like import NotIdentity, Resources, Result, Workflow

TEMPLATE = Path(__file__).parent / "template.txt"


class Split(Workflow):
    """One task per split."""

    executable: str = "split"
    nsplits: int = 3
    split: int = -1
    scale: float = 1.0
    progress: Annotated[bool, NotIdentity()] = False
    outputs: dict[str, str] = {"map": "map.fits"}

    def expand(self):
        if self.split >= 0:
            return [self]
        return [self.model_copy(update={"split": split}) for split in range(self.nsplits)]

    def get_arguments(self, **kwargs):
        return ["--split", str(self.split), "--scale", str(self.scale)]


class Half(Split):
    """Two tasks for each of its source."""

    map: Path
    nsplits: int = 2

    def get_arguments(self, **kwargs):
        return [str(self.map), str(self.split)]


class Timed(Workflow):
    """A Python task with a file of its own."""

    version: ClassVar[str] = "1"
    template: Path = TEMPLATE
    other: Path = Path("relative.txt")
    flag: int | float | None = None

    def estimate(self, context):
        return Resources(memory=1000, threads=2)

    def run(self, directory):
        return Result()
'''


def write(folder: Path, text: str, name: str = "campaign.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def resolved(path: Path, *settings: str, store: Path | None = None) -> dict[str, Task]:
    campaign = load_campaign(path, settings)
    return {task.name: task for task in resolve(campaign, store or path.parent / "runs", MACHINE, FileDigests()).tasks}


def faults(path: Path, *settings: str) -> list[str]:
    with pytest.raises(CampaignError) as caught:
        resolved(path, *settings)
    return [str(fault).replace(f"{path.parent}/", "") for fault in caught.value.faults]


def with_plugin(folder: Path, text: str, plugin: str = PLUGIN) -> Path:
    write(folder, plugin, "plug.py")
    write(folder, "template", "template.txt")
    return write(folder, f'[campaign]\nname = "test"\nplugins = ["plug.py"]\n{text}')


GOLDEN = """\
[campaign]
name = "golden"
plugins = ["plug.py"]
[environment]
LANG = "C"
[campaign.plain]
kind = "command"
command = ["echo", "hello"]
[campaign.full]
kind = "command"
command = ["python", "script.py", "--in=output://plain/out.txt", "{alpha}"]
inputs = ["data.txt"]
outputs = { result = "result.txt" }
metrics = "metrics.json"
parameters = { alpha = 0.5, flag = true, name = "größe", count = 3 }
environment = { OMP_NUM_THREADS = "2" }
[campaign.declared]
kind = "smooth"
map = "output://full/result"
[campaign.split]
kind = "split"
[campaign.timed]
kind = "timed"
flag = 1
[kind.smooth]
version = "3"
command = ["python", "script.py", "{map}", "{fwhm}"]
fields.fwhm = { type = "float", default = 5, unit = "arcmin" }
fields.map = { type = "path" }
outputs.map = "smoothed.fits"
"""

VECTORS: Mapping[str, str] = {
    "plain": "552f2fca1acaafbedc0014fb8e5cfa460e61913d518f4b010992339838100da9",
    "full": "912da5603cd211221e1a86874d12752150862574a79885c0b91755f589a814e2",
    "declared": "903dca19a05e945d0e6eb24202c3352e58aa55294b4011a679361a0f3f3c6aad",
    "split[split=0]": "4b1b8a0825156cedc2392fd3c64939fefb16f61a02397cde2021b3281b253fb1",
    "split[split=1]": "3215cc0204cb93f1d9bbfcd155176559f4c994ab8f28f1f122e2e185bd71bc9a",
    "split[split=2]": "49a90159cb391c494bd0a0b7f5e4f12418d7574f82f76652800c0a4642cbd160",
    "timed": "fc06c22a294839a68d20fd527e89511394d81371a1505f23210b91f2aa222120",
}


def golden(folder: Path) -> Path:
    write(folder, "print()\n", "script.py")
    write(folder, "1 2 3\n", "data.txt")
    write(folder, "template", "template.txt")
    write(folder, PLUGIN, "plug.py")
    return write(folder, GOLDEN)


def test_identities_are_these_and_stay_these(tmp_path: Path) -> None:
    """A change here makes every stored result of every user worthless: raise a version on purpose instead."""
    assert {name: task.id for name, task in resolved(golden(tmp_path)).items()} == VECTORS


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_an_identity_is_the_digest_of_what_determines_the_result(tmp_path: Path) -> None:
    """The whole recipe in plain sight, for two kinds: nothing in it knows a folder, a host or a resource."""
    assert VECTORS["plain"] == sha256(
        '{"environment":{"LANG":"C"},"fields":{"command":["echo","hello"],"inputs":[]},"files":[],"inputs":[],'
        '"kind":"command","version":"1"}'
    )
    script, full = sha256("print()\n"), VECTORS["full"]
    assert VECTORS["declared"] == sha256(
        f'{{"command":["python","sha256:{script}","{{map}}","{{fwhm}}"],"environment":{{"LANG":"C"}},'
        f'"fields":{{"fwhm":5.0,"map":"output:{full}/result.txt","outputs":{{"map":"smoothed.fits"}}}},'
        f'"files":["{script}"],"inputs":["{full}"],"kind":"smooth","version":"3"}}'
    )


PRINT = """\
import sys
from pathlib import Path
from socm_like.campaign import load_campaign
from socm_like.identity import FileDigests
from socm_like.resources import Machine
from socm_like.tasks import resolve
machine = Machine(name="other", cores=tuple(range(64)), memory=2**40)
for task in resolve(load_campaign(Path(sys.argv[1])), Path(sys.argv[2]), machine, FileDigests()).tasks:
    print(task.name, task.id)
"""


@pytest.mark.parametrize("seed", ["0", "1", "4294967295"])
def test_identities_do_not_depend_on_the_process_the_machine_the_folder_or_the_store(tmp_path: Path, seed: str) -> None:
    path = golden(tmp_path / f"another place {seed}")
    environment = {**os.environ, "PYTHONHASHSEED": seed, "LANG": "C"}
    words = [sys.executable, "-c", PRINT, str(path), str(tmp_path / "my store")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment, cwd="/")
    assert (dict(line.rsplit(" ", 1) for line in done.stdout.splitlines()), done.stderr) == (VECTORS, "")


def test_identities_do_not_depend_on_the_order_of_keys_and_tables(tmp_path: Path) -> None:
    path = golden(tmp_path)
    head, *tables = re.split(r"^(?=\[)", GOLDEN, flags=re.MULTILINE)
    assert head == ""
    turned = []
    for table in reversed(tables):
        header, *keys = table.splitlines()
        turned.append("\n".join([header, *reversed(keys), ""]))
    write(tmp_path, "".join(turned))
    assert {name: task.id for name, task in resolved(path).items()} == VECTORS


UNCHANGED: list[tuple[str, set[str] | None]] = [
    ("campaign.declared.fwhm=5", set()),
    ("campaign.declared.fwhm=5.0", set()),
    ("campaign.declared.fwhm='5 arcmin'", set()),
    ("campaign.split.scale=1", set()),
    ("campaign.split.progress=true", set()),
    ("campaign.split.nsplits=2", None),
    ("campaign.full.resources={memory='2 GiB', threads=2, runtime='1 h'}", set()),
    ("campaign.declared.depends_on=['full']", set()),
    ("campaign.name='other'", set()),
    ("campaign.deadline='1 h'", set()),
    ("execution.retries=5", set()),
    ("kind.smooth.doc='other'", set()),
    ("kind.smooth.resources={threads=2}", set()),
]
SPLITS = {"split[split=0]", "split[split=1]", "split[split=2]"}
CHANGED = [
    ("campaign.plain.command=['echo', 'bye']", {"plain", "full", "declared"}),
    ("campaign.plain.executable='x'", {"plain", "full", "declared"}),
    ("campaign.plain.subcommand='x'", {"plain", "full", "declared"}),
    ("campaign.plain.context='x'", {"plain", "full", "declared"}),
    ("campaign.plain.inputs=['script.py']", {"plain", "full", "declared"}),
    ("campaign.plain.outputs={x='out.txt'}", {"plain", "full", "declared"}),
    ("campaign.plain.environment={A='1'}", {"plain", "full", "declared"}),
    ("campaign.full.parameters.alpha=0.25", {"full", "declared"}),
    ("campaign.full.parameters.count=4", {"full", "declared"}),
    ("campaign.full.parameters.count=3.0", {"full", "declared"}),
    ("campaign.full.parameters.flag=1", {"full", "declared"}),
    ("campaign.full.metrics='m.json'", {"full", "declared"}),
    ("campaign.full.depends_on=['timed']", {"full", "declared"}),
    ("campaign.declared.fwhm=6", {"declared"}),
    ("campaign.declared.map='data.txt'", {"declared"}),
    ("kind.smooth.version='4'", {"declared"}),
    ("kind.smooth.command=['python', 'script.py', '{map}', '{fwhm}', '-v']", {"declared"}),
    ("kind.smooth.outputs.map='other.fits'", {"declared"}),
    ("environment.LANG='de'", set(VECTORS)),
    ("environment.B='1'", set(VECTORS)),
    ("campaign.split.scale=1.5", SPLITS),
    ("campaign.timed.flag=1.0", {"timed"}),
    ("campaign.timed.template='data.txt'", {"timed"}),
]


@pytest.mark.parametrize(("setting", "changed"), [*UNCHANGED, *CHANGED])
def test_an_identity_changes_with_what_determines_the_result_and_with_nothing_else(
    tmp_path: Path, setting: str, changed: set[str] | None
) -> None:
    tasks = resolved(golden(tmp_path), setting)
    if changed is None:
        changed = {*SPLITS, *VECTORS} - set(tasks) | {"split[split=0]", "split[split=1]"}
    assert {name for name, identity in VECTORS.items() if name not in tasks or tasks[name].id != identity} == changed


@pytest.mark.parametrize(
    ("file", "text", "changed"),
    [
        ("data.txt", "1 2 4\n", {"full", "declared"}),
        ("script.py", "print(1)\n", {"full", "declared"}),
        ("template.txt", "x", {"timed"}),
        ("plug.py", PLUGIN.replace('version: ClassVar[str] = "1"', 'version: ClassVar[str] = "2"'), {"timed"}),
        ("plug.py", PLUGIN + "# a comment\n", set()),
        ("unrelated.txt", "", set()),
    ],
)
def test_an_identity_changes_with_the_content_of_inputs_and_the_version_of_the_class(
    tmp_path: Path, file: str, text: str, changed: set[str]
) -> None:
    path = golden(tmp_path)
    write(tmp_path, text, file)
    tasks = resolved(path)
    assert {name for name, identity in VECTORS.items() if tasks[name].id != identity} == changed


def test_an_input_folder_counts_by_the_content_below_it(tmp_path: Path) -> None:
    path = write(tmp_path, '[campaign.a]\nkind = "command"\ncommand = ["ls", "file://data"]\n')
    write(tmp_path / "data" / "deep", "1", "x.txt")
    before = resolved(path)["a"].id
    write(tmp_path / "data" / "deep", "1", "x.txt")
    assert resolved(path)["a"].id == before
    write(tmp_path / "data", "2", "y.txt")
    assert resolved(path)["a"].id != before


def test_the_order_of_what_a_task_waits_for_does_not_count_but_what_does(tmp_path: Path) -> None:
    base = "".join(f'[campaign.{name}]\nkind = "command"\ncommand = ["echo", "{name}"]\n' for name in "ab")
    last = '[campaign.last]\nkind = "command"\ncommand = ["true"]\ndepends_on = '
    found = [
        resolved(write(tmp_path, base + last + names))["last"].id
        for names in ('["a", "b"]', '["b", "a"]', '["a"]', "[]")
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_equal_tables_are_the_same_computation(tmp_path: Path) -> None:
    table = 'kind = "command"\ncommand = ["true"]\n'
    tasks = resolved(write(tmp_path, f"[campaign.a]\n{table}[campaign.b]\n{table}"))
    assert tasks["a"].id == tasks["b"].id
    assert tasks["a"].folder == tasks["b"].folder == f"command/{tasks['a'].id[:12]}"


def test_a_registered_name_is_not_part_of_the_identity_but_the_kind_of_the_class_is(tmp_path: Path) -> None:
    plugin = PLUGIN + "\nfrom socm_like import registered_workflows\nregistered_workflows['other'] = Timed\n"
    tasks = resolved(with_plugin(tmp_path, '[campaign.a]\nkind = "timed"\n[campaign.b]\nkind = "other"\n', plugin))
    assert (tasks["a"].kind, tasks["b"].kind) == ("timed", "other")
    assert tasks["a"].id == tasks["b"].id


# What a task is made of


def test_a_task_holds_all_that_is_needed_to_run_it(tmp_path: Path) -> None:
    path = golden(tmp_path)
    tasks = resolved(path)
    plain, full, timed = tasks["plain"], tasks["full"], tasks["timed"]
    assert full == Task(
        name="full",
        workflow="full",
        kind="command",
        id=VECTORS["full"],
        folder=f"command/{VECTORS['full'][:12]}",
        dependencies=("plain",),
        resources=full.resources,
        argv=("python", f"{tmp_path}/script.py", f"--in={tmp_path}/runs/{plain.folder}/out.txt", "0.5"),
        environment={"LANG": "C", "OMP_NUM_THREADS": "2"},
        outputs={"result": "result.txt"},
        metrics="metrics.json",
        restartable=False,
        parameters={
            "command": ["python", f"{tmp_path}/script.py", f"--in={tmp_path}/runs/{plain.folder}/out.txt", "{alpha}"],
            "inputs": [f"{tmp_path}/data.txt"],
            "alpha": 0.5,
            "flag": True,
            "name": "größe",
            "count": 3,
        },
        fields=full.fields,
        inputs={f"{tmp_path}/data.txt": sha256("1 2 3\n"), f"{tmp_path}/script.py": sha256("print()\n")},
        family=full.family,
    )
    assert plain.outputs == {"out.txt": "out.txt"}
    assert full.resources.model_dump(exclude_none=True) == {"ranks": 1, "threads": 1, "gpus": 0}
    assert (timed.argv, timed.resources.memory, timed.resources.cores) == (None, 1000, 2)
    assert timed.parameters == {"template": f"{tmp_path}/template.txt", "other": "relative.txt", "flag": 1}
    registry = Registry.load([tmp_path / "plug.py"])
    assert registry["timed"].model_validate(timed.fields).model_dump(mode="json") == {
        **timed.fields, "resources": timed_patch(), "depends_on": [], "for_each": [], "environment": {},
        "executable": "", "subcommand": "", "context": "", "parameters": {}, "outputs": {}, "metrics": "",
    }  # fmt: skip


def timed_patch() -> dict[str, None]:
    return dict.fromkeys(("ranks", "threads", "memory", "runtime", "gpus", "gpu_memory"))


def test_a_patch_of_resources_overrides_the_estimate_and_the_rest_stands(tmp_path: Path) -> None:
    path = with_plugin(tmp_path, '[campaign.a]\nkind = "timed"\nresources = { memory = "1 GiB", gpus = 1 }\n')
    assert resolved(path)["a"].resources.model_dump(exclude_none=True) == {
        "ranks": 1, "threads": 2, "memory": 2**30, "gpus": 1,
    }  # fmt: skip


def test_a_table_adds_to_the_outputs_and_variables_of_its_kind(tmp_path: Path) -> None:
    path = with_plugin(
        tmp_path,
        """\
[environment]
A = "campaign"
B = "campaign"
C = "campaign"
[kind.k]
command = "x"
outputs = { map = "map.fits", log = "kind.log" }
environment = { B = "kind", C = "kind" }
[campaign.a]
kind = "k"
outputs = { log = "own.log", more = "more.txt" }
environment = { C = "own", D = "own" }
[campaign.s]
kind = "split"
nsplits = 1
outputs.more = "more.txt"
[campaign.last]
kind = "command"
command = ["x", "output://a/map", "output://a/log", "output://s/map", "output://s/more"]
""",
    )
    tasks = resolved(path)
    assert tasks["a"].outputs == {"map": "map.fits", "log": "own.log", "more": "more.txt"}
    assert tasks["a"].environment == {"A": "campaign", "B": "kind", "C": "own", "D": "own"}
    assert tasks["s"].outputs == {"map": "map.fits", "more": "more.txt"}
    assert [Path(word).name for word in tasks["last"].argv or ()] == [
        "x",
        "map.fits",
        "own.log",
        "map.fits",
        "more.txt",
    ]


def test_an_output_may_be_named_by_its_path_its_name_or_its_folder(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """\
[campaign.first]
kind = "command"
command = ["x"]
outputs = { map = "maps/map.fits", folder = "deep/", odd = "map" }
metrics = "m.json"
[campaign.bare]
kind = "command"
command = ["x"]
[campaign.last]
kind = "command"
command = ["x", "output://first/map", "output://first/maps/map.fits", "output://first/folder",
    "output://first/deep/inside.txt", "output://first/m.json", "output://first/result.json", "output://first",
    "output://first/", "output://bare/any/where.txt", "--x=output://bare/result.json"]
""",
    )
    tasks = resolved(path)
    first, bare = (f"{tmp_path}/runs/{tasks[name].folder}" for name in ("first", "bare"))
    assert tasks["last"].argv == (
        "x", f"{first}/maps/map.fits", f"{first}/maps/map.fits", f"{first}/deep", f"{first}/deep/inside.txt",
        f"{first}/m.json", f"{first}/result.json", first, first, f"{bare}/any/where.txt", f"--x={bare}/result.json",
    )  # fmt: skip
    assert tasks["first"].outputs == {
        "deep/inside.txt": "deep/inside.txt", "map": "maps/map.fits", "folder": "deep/", "odd": "map",
    }  # fmt: skip
    assert tasks["bare"].outputs == {"any/where.txt": "any/where.txt"}


def test_a_file_that_a_workflow_does_not_declare_cannot_be_had(tmp_path: Path) -> None:
    path = with_plugin(
        tmp_path,
        '[campaign.s]\nkind = "split"\n[campaign.a]\nkind = "command"\n'
        'command = ["x", "output://s/mapp", "output://s/map.fits/x", "output://s/maps"]\n',
    )
    there = "s leaves no such file; it declares: map, map.fits, result.json; did you mean"
    assert faults(path) == [
        f"campaign.toml:8: campaign.a: output://s/mapp: {there} 'map'?",
        f"campaign.toml:8: campaign.a: output://s/maps: {there} 'map'?",
    ]


# Several tasks of one table


def test_a_kind_may_expand_into_tasks_named_by_what_differs(tmp_path: Path) -> None:
    path = with_plugin(
        tmp_path,
        """\
[campaign.maps]
kind = "split"
[campaign.sum]
kind = "command"
command = ["add", "--in=output://maps/map", "output://maps"]
inputs = ["output://maps/map.fits"]
""",
    )
    tasks = resolved(path)
    maps = ["maps[split=0]", "maps[split=1]", "maps[split=2]"]
    assert list(tasks) == [*maps, "sum"]
    assert [tasks[name].argv for name in maps] == [("split", "--split", str(i), "--scale", "1.0") for i in range(3)]
    assert {tasks[name].workflow for name in maps} == {"maps"}
    assert len({tasks[name].id for name in maps}) == 3
    folders = [f"{tmp_path}/runs/{tasks[name].folder}" for name in maps]
    assert tasks["sum"].argv == ("add", *(f"--in={folder}/map.fits" for folder in folders), *folders)
    assert tasks["sum"].parameters["inputs"] == [f"{folder}/map.fits" for folder in folders]
    assert tasks["sum"].dependencies == tuple(maps)


def test_a_reference_to_several_files_does_not_fit_a_key_for_one(tmp_path: Path) -> None:
    path = with_plugin(
        tmp_path,
        '[campaign.s]\nkind = "split"\n[campaign.a]\nkind = "command"\ncommand = "x {p}"\n'
        'parameters.p = "output://s/map"\ncontext = "output://s"\n[campaign.b]\nkind = "half"\nmap = "output://s/map"\n',
    )
    hint = "3 files, this key takes one; take one per task with for_each = 's'"
    assert faults(path) == [
        f"campaign.toml:9: campaign.a: parameters.p: 'output://s/map' stands for {hint}",
        f"campaign.toml:10: campaign.a: context: 'output://s' stands for {hint}",
        f"campaign.toml:13: campaign.b: map: 'output://s/map' stands for {hint}",
    ]


PAIRS = """\
[campaign.maps]
kind = "split"
nsplits = 2
[campaign.halves]
kind = "half"
for_each = "maps"
map = "output://maps/map"
[campaign.plots]
kind = "command"
for_each = "halves"
command = ["plot", "output://halves/map", "output://maps/map", "output://extra"]
[campaign.extra]
kind = "split"
nsplits = 2
[campaign.all]
kind = "command"
command = ["all", "output://plots"]
depends_on = ["maps"]
"""


def test_for_each_pairs_tasks_one_to_one_through_every_level(tmp_path: Path) -> None:
    tasks = resolved(with_plugin(tmp_path, PAIRS))
    maps = [f"maps[split={i}]" for i in range(2)]
    halves = [f"halves[split={i},split={j}]" for i in range(2) for j in range(2)]
    plots = [name.replace("halves", "plots") for name in halves]
    extra = ["extra[split=0]", "extra[split=1]"]
    assert list(tasks) == [*maps, *halves, *extra, *plots, "all"]
    folder = {name: f"{tmp_path}/runs/{task.folder}" for name, task in tasks.items()}
    for index, (half, plot) in enumerate(zip(halves, plots, strict=True)):
        parent = maps[index // 2]
        assert tasks[half].dependencies == (parent,)
        assert tasks[half].argv == ("split", f"{folder[parent]}/map.fits", str(index % 2))
        assert tasks[plot].dependencies == (half, parent, *extra)
        assert tasks[plot].argv == (
            "plot", f"{folder[half]}/map.fits", f"{folder[parent]}/map.fits", folder[extra[0]], folder[extra[1]],
        )  # fmt: skip
    assert tasks["all"].dependencies == (*maps, *plots)
    assert tasks["all"].argv == ("all", *(folder[plot] for plot in plots))


def test_a_group_that_holds_the_for_each_ancestor_gives_its_bound_task_too(tmp_path: Path) -> None:
    path = with_plugin(
        tmp_path,
        """\
[campaign.g.maps]
kind = "split"
nsplits = 2
[campaign.g.other]
kind = "command"
command = ["x"]
[campaign.use]
kind = "command"
for_each = "g.maps"
command = ["use", "output://g/result.json"]
""",
    )
    tasks = resolved(path)
    folder = {name: f"{tmp_path}/runs/{task.folder}" for name, task in tasks.items()}
    for i in range(2):
        task = tasks[f"use[split={i}]"]
        assert task.dependencies == (f"g.maps[split={i}]", "g.other")
        assert task.argv == ("use", f"{folder[f'g.maps[split={i}]']}/result.json", f"{folder['g.other']}/result.json")


def test_for_each_over_one_task_makes_one_with_a_plain_name(tmp_path: Path) -> None:
    table = 'kind = "command"\ncommand = ["x"]\n'
    tasks = resolved(write(tmp_path, f'[campaign.a]\n{table}[campaign.b]\n{table}for_each = "a"\n'))
    assert {name: task.dependencies for name, task in tasks.items()} == {"a": (), "b": ("a",)}


EXPANDING = """\
from pathlib import Path
from socm_like import Workflow
class Many(Workflow):
    executable: str = "x"
    a: str = ""
    b: str = ""
    n: float = 0.0
    file: Path = Path("x")
    def expand(self):
        return [self.model_copy(update=update) for update in {updates}]
"""


@pytest.mark.parametrize(
    ("updates", "names"),
    [
        ([{"n": 1.5}], ["w"]),
        ([{"n": 0.1 + 0.2}, {"n": 1e-20}], ["w[n=0.3]", "w[n=1e-20]"]),
        ([{"n": 0.1}, {"n": 0.1 + 1e-15}], ["w[0]", "w[1]"]),
        ([{"a": "x"}, {"a": "y", "b": "z"}], ["w[a=x,b=]", "w[a=y,b=z]"]),
        ([{"a": "1,b=2", "b": "3"}, {"a": "1", "b": "2,b=3"}], ["w[0]", "w[1]"]),
        ([{"a": "x"}, {"a": "x"}], ["w[0]", "w[1]"]),
        ([{"a": "line\nbreak"}, {"a": "x"}], ["w[0]", "w[1]"]),
        ([{"a": "x" * 200}, {"a": "y"}], ["w[0]", "w[1]"]),
        ([{"a": "größe"}, {"a": "[x]"}], ["w[a=größe]", "w[a=[x]]"]),
        ([{"a": "/far/away/m1.fits"}, {"a": "/far/away/m2.fits"}], ["w[a=m1.fits]", "w[a=m2.fits]"]),
        ([{"a": "/far/m.fits"}, {"a": "/away/m.fits"}], ["w[0]", "w[1]"]),
    ],
)
def test_labels_are_short_and_distinct_or_numbers(tmp_path: Path, updates: object, names: list[str]) -> None:
    path = with_plugin(tmp_path, '[campaign.w]\nkind = "many"\n', EXPANDING.replace("{updates}", repr(updates)))
    assert list(resolved(path)) == names


def test_labels_of_different_parents_never_meet(tmp_path: Path) -> None:
    plugin = (
        EXPANDING.replace("{updates}", "[{'a': 'x'}, {'a': 'x,b=y'}]")
        + """\
class Child(Workflow):
    executable: str = "x"
    parent: str
    b: str = ""
    c: str = ""
    def expand(self):
        first = self.parent.endswith(FIRST)
        updates = [{"b": "y,c=z"}, {"b": "q"}] if first else [{"c": "z"}, {"c": "q"}]
        return [self.model_copy(update=update) for update in updates]
"""
    )
    text = '[campaign.w]\nkind = "many"\n[campaign.v]\nkind = "child"\nfor_each = "w"\nparent = "output://w"\n'
    first = resolved(with_plugin(tmp_path, '[campaign.w]\nkind = "many"\n', plugin))["w[a=x]"].folder
    tasks = resolved(with_plugin(tmp_path, text, plugin.replace("FIRST", repr(first))))
    assert [name for name in tasks if name.startswith("v")] == [
        "v[a=x,b=y,c=z]", "v[a=x,b=q]", "v[a=x,b=y,c=z,2]", "v[a=x,b=y,c=q]",
    ]  # fmt: skip


def test_a_kind_may_expand_into_tasks_of_another_registered_kind(tmp_path: Path) -> None:
    plugin = (
        PLUGIN
        + """\
class Whole(Workflow):
    def expand(self):
        return [Split(split=0, nsplits=1), Timed()]
"""
    )
    tasks = resolved(with_plugin(tmp_path, '[campaign.w]\nkind = "whole"\n', plugin))
    assert [task.kind for task in tasks.values()] == ["split", "timed"]


FAILING = """\
import sys
from pathlib import Path
from pydantic import field_validator
from socm_like import Workflow
class Bad(Workflow):
    executable: str = "x"
    x: int = 0
    {what}
"""


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("def expand(self): return []", "bad cannot be expanded: there is no task in it"),
        ("def expand(self): return None", "bad cannot be expanded: TypeError: 'NoneType' object is not iterable"),
        ("def expand(self): return [3]", "bad cannot be expanded: 3 is no workflow of a registered kind"),
        ("def expand(self): return 1 / 0", "bad cannot be expanded: ZeroDivisionError: division by zero"),
        ("def expand(self): raise ValueError('no splits')", "bad cannot be expanded: no splits"),
        ("def expand(self): sys.exit('bye')", "bad cannot be expanded: SystemExit: bye"),
        ("def expand(self):\n        yield self\n        raise KeyError('x')", "bad cannot be expanded: KeyError: 'x'"),
        ("def expand(self): return [Workflow()]",
         "bad cannot be expanded: a Workflow is no workflow of a registered kind"),
        ("def estimate(self, context): return None",
         "bad.estimate: AttributeError: 'NoneType' object has no attribute 'patched'"),
        ("def estimate(self, context): return open('/no/where')", "cannot read /no/where: No such file or directory"),
        ("def estimate(self, context): sys.exit(3)", "bad.estimate: SystemExit: 3"),
        ("def get_command(self, **kwargs): return None",
         "bad.get_command: TypeError: 'NoneType' object is not iterable"),
        ("def get_command(self, **kwargs): return []",
         "nothing to run: set executable, or have Bad.get_command return it"),
        ("def get_command(self, **kwargs): return ['a\\0b']", "a command is words of text without NUL, got 'a\\x00b'"),
        ("def get_command(self, **kwargs): return \"it's\"", "No closing quotation"),
        ("def get_arguments(self, **kwargs): raise RuntimeError('x')", "bad.get_command: RuntimeError: x"),
        ("def folder(self, identity): return '../x'",
         "bad.folder returned '../x', which is no folder inside the store"),
        ("def folder(self, identity): return '/tmp'",
         "bad.folder returned '/tmp', which is no folder inside the store"),
        ("def folder(self, identity): return None", "bad.folder returned None, which is no folder inside the store"),
        ("def folder(self, identity): return '.cache/x'",
         "bad.folder returned '.cache/x', which is no folder inside the store"),
        ("def folder(self, identity): return 'campaigns/x'",
         "bad.folder returned 'campaigns/x', which belongs to runs"),
        ("def folder(self, identity): raise OSError('x')", "bad.folder: OSError: x"),
        ("y: float = float('nan')", "Out of range float values are not JSON compliant"),
        ("outputs: dict[str, str] = {'a': '../x'}",
         "outputs.a: the output '../x' is not inside the task's directory; write a relative path without '..'"),
        ("environment: dict[str, str] = {'A=': 'x'}",
         "environment.A=: a variable has a name without '=', and no NUL in it"),
        ("@field_validator('x', mode='before')\n    @classmethod\n    def _check(cls, x): raise KeyError(x)",
         "bad cannot be built: KeyError: 1"),
        ("@field_validator('x')\n    @classmethod\n    def _check(cls, x): sys.exit('bye')",
         "bad cannot be built: SystemExit: bye"),
        ("@field_validator('x')\n    @classmethod\n    def _check(cls, x): raise ValueError('odd only')",
         "x: odd only"),
        ("@field_validator('x')\n    @classmethod\n    def _check(cls, x): assert x > 3, 'too small'", "x: too small"),
    ],
)  # fmt: skip
def test_whatever_a_plug_in_does_wrong_is_a_fault_of_its_table(tmp_path: Path, what: str, fault: str) -> None:
    path = with_plugin(tmp_path, '[campaign.w]\nkind = "bad"\nx = 1\n', FAILING.replace("{what}", what))
    line = 6 if fault.startswith("x: ") else 4
    assert faults(path) == [f"campaign.toml:{line}: campaign.w: {fault}"]


def test_a_model_validator_speaks_for_the_whole_table(tmp_path: Path) -> None:
    what = "@model_validator(mode='after')\n    def _check(self): raise ValueError('x and y disagree')"
    plugin = FAILING.replace("{what}", what).replace("import field_validator", "import model_validator")
    path = with_plugin(tmp_path, '[campaign.w]\nkind = "bad"\n', plugin)
    assert faults(path) == ["campaign.toml:4: campaign.w: x and y disagree"]


def test_a_field_that_is_no_json_is_a_fault(tmp_path: Path) -> None:
    plugin = FAILING.replace("{what}", "y: object = sys")
    path = with_plugin(tmp_path, '[campaign.w]\nkind = "bad"\n', plugin)
    assert faults(path) == ["campaign.toml:4: campaign.w: Unable to serialize unknown type: <class 'module'>"]


def test_files_that_an_expansion_finds_count_by_their_content(tmp_path: Path) -> None:
    plugin = """\
from pathlib import Path
from socm_like import Workflow
class Each(Workflow):
    executable: str = "x"
    list: Path
    file: Path | None = None
    def expand(self):
        return [self.model_copy(update={"file": Path(line)}) for line in self.list.read_text().split()]
"""
    path = with_plugin(tmp_path, '[campaign.w]\nkind = "each"\nlist = "list.txt"\n', plugin)
    write(tmp_path, f"{tmp_path}/a.fits\n{tmp_path}/b.fits\n", "list.txt")
    write(tmp_path, "1", "a.fits")
    write(tmp_path, "1", "b.fits")
    before = resolved(path)
    assert list(before) == ["w[file=a.fits]", "w[file=b.fits]"]
    assert before["w[file=a.fits]"].id == before["w[file=b.fits]"].id
    write(tmp_path, "2", "b.fits")
    after = resolved(path)
    assert after["w[file=a.fits]"].id == before["w[file=a.fits]"].id
    assert after["w[file=b.fits]"].id != before["w[file=b.fits]"].id


def test_two_computations_may_not_share_a_folder(tmp_path: Path) -> None:
    what = "def folder(self, identity): return 'bad/same'"
    path = with_plugin(
        tmp_path,
        "".join(f'[campaign.{name}]\nkind = "bad"\nx = {x}\n' for name, x in [("w", 1), ("v", 2), ("u", 1)]),
        FAILING.replace("{what}", what),
    )
    assert faults(path) == [
        "campaign.toml:7: campaign.v: v and w have the folder bad/same; make the identity part of it"
    ]


def test_a_table_is_checked_though_the_workflow_of_its_for_each_is_wrong(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[campaign.a]\nkind = "command"\ncommand = 3\n'
        '[campaign.b]\nkind = "command"\nfor_each = "a"\ncommand = ["x", "output://a/x", "{nope}"]\nnix = 1\n'
        '[campaign.c]\nkind = "command"\nfor_each = "a"\ncommand = ["x", "output://a/x", "{nope}"]\n',
    )
    keys = (
        "command, context, depends_on, environment, executable, for_each, inputs, metrics, outputs, parameters, "
        "resources, subcommand"
    )
    assert faults(path) == [
        "campaign.toml:3: campaign.a: command: write a list, got 3",
        f"campaign.toml:8: campaign.b: unknown key 'nix'; allowed: {keys}",
        "campaign.toml:12: campaign.c: nothing fills {nope}; set it under parameters, or use one of: none",
    ]


def test_an_impossible_request_names_task_resource_and_reason_for_each_task(tmp_path: Path) -> None:
    path = with_plugin(
        tmp_path, '[campaign.s]\nkind = "split"\nnsplits = 2\n[campaign.s.resources]\nmemory = "9 GiB"\n'
    )
    assert faults(path) == [
        "campaign.toml:7: campaign.s: s[split=0] can never run: it asks 9 GiB of memory, small has 8 GiB",
        "campaign.toml:7: campaign.s: s[split=1] can never run: it asks 9 GiB of memory, small has 8 GiB",
    ]


def test_an_input_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "link").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    path = write(
        tmp_path,
        '[campaign.a]\nkind = "command"\ncommand = ["x", "file://loop"]\n'
        '[campaign.b]\nkind = "command"\ncommand = ["x"]\ninputs = ["pipe"]\n',
    )
    assert faults(path) == [
        "campaign.toml:1: campaign.a: cannot read loop/link: No such file or directory",
        "campaign.toml:4: campaign.b: cannot read pipe: Neither a file nor a folder",
    ]


def test_an_input_folder_may_not_hold_the_store(tmp_path: Path) -> None:
    path = write(tmp_path, '[campaign.a]\nkind = "command"\ncommand = ["x"]\ninputs = ["."]\n')
    assert faults(path) == [
        f"campaign.toml:1: campaign.a: the input {tmp_path} holds the store runs, which changes with every run"
    ]
    assert list(resolved(path, store=Path("/somewhere/else"))) == ["a"]


def test_resolving_writes_nothing(tmp_path: Path) -> None:
    path = golden(tmp_path)
    before = sorted(file.name for file in tmp_path.rglob("*"))
    resolved(path)
    assert sorted(file.name for file in tmp_path.rglob("*")) == before
