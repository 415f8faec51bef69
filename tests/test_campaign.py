"""campaign.toml as a person writes it: tables, groups, edges, and every fault of a file at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.campaign import Campaign, load_campaign
from socm_like.errors import CampaignError
from socm_like.faults import shown
from socm_like.identity import FileDigests
from socm_like.registry import Registry
from socm_like.resources import Machine
from socm_like.task import Task
from socm_like.tasks import resolve

MACHINE = Machine(name="small", cores=(0, 1), memory=8 * 2**30)
KNOWN = ", ".join(Registry.load())
FIELDS = (
    "command, context, depends_on, environment, executable, for_each, inputs, metrics, outputs, parameters, resources, "
    "subcommand"
)
ASKED = "gpu_memory, gpus, memory, ranks, runtime, threads"


def load(tmp_path: Path, text: str, *settings: str) -> Campaign:
    path = tmp_path / "campaign.toml"
    path.write_text(text)
    return load_campaign(path, settings)


def tasks_of(tmp_path: Path, text: str, *settings: str) -> dict[str, Task]:
    tasks = resolve(load(tmp_path, text, *settings), tmp_path / "runs", MACHINE, FileDigests()).tasks
    return {task.name: task for task in tasks}


def faults_of(tmp_path: Path, text: str, *settings: str) -> list[str]:
    with pytest.raises(CampaignError) as caught:
        tasks_of(tmp_path, text, *settings)
    return [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]


def command(name: str, *keys: str) -> str:
    return "\n".join([f"[campaign.{name}]", 'kind = "command"', 'command = ["true"]', *keys, ""])


ALL_FAULTS = """\
[campaign]
name = "a/b"
deadlin = "24 h"
deadline = 24
resource = "local"
requested_resources = 100

[[campaign.rows]]
x = 1

[campaign.environment]
A = "b"

[campaign.simulate]
kind = "comand"
depends_on = ["nothing", "rows"]

[campaign.maps]
kind = "command"
command = ["python", "output://simulat/x", "output://simulate/x", "file://campaign.tom"]
memory = "8 GiB"
depends_on = ["summary", 3]
[campaign.maps.resources]
memory = 8
ranks = -4
rnks = 3
[campaign.maps.resources]
memory = "8 GiB"
[campaign.maps.environment]
A = 3
"B=" = "x"

[campaign.summary]
kind = "command"
command = "cat 'x"
depends_on = ["maps"]
depends = ["maps"]
for_each = "grp"

[campaign.itself]
kind = "command"
command = ["x", "output://itself/x"]
[campaign.again]
kind = "command"
command = ["x"]
for_each = "again"

[campaign.big]
kind = "command"
command = ["x", "{nope}"]
resources = { ranks = 400, memory = "4000 GiB", gpus = 99 }

[campaign.grp]
context = "file://context.yaml"
[campaign.grp.a]
kind = "command"
command = ["x"]
outputs.map = "map.fits"
[campaign.grp.b]
kind = "command"
command = ["x", "output://grp.a/mop.fits", "output://grp.aa", "output://", "output://grp.a/../x"]
outputs = { x = "/abs", y = 3 }
metrics = "../m.json"
parameters = { a = [1], b = 2026-01-01, c = { d = 1 } }
[campaign.grp.c.resorces]
memory = "8 GiB"

[campaign."x/y"]
kind = "command"
command = ["x"]
[campaign."grp.a"]
kind = "command"
command = ["x"]
[campaign.select]
kind = "selection"
query = "pwv >"

[execution]
cores = 0
memory = "lots"
executor = "slurm"
retrys = 1
grace = 3
[environment]
LANG = 3
[figures]
[kind.selection]
command = ["select", "{query}", "{x}"]
fields.query = { type = "query" }
[kind.good]
command = "true"
fields.query = { type = "query" }
[campaign.good]
query = "pwv >"
kind = "good"
"""


def test_one_report_holds_every_fault_with_its_line(tmp_path: Path) -> None:
    here = "there are: again, big, good, grp, grp.a, grp.b, grp.c, itself, maps, rows, select, simulate, summary, x/y"
    inside = "is not inside the task's directory; write a relative path without '..'"
    scalar = "write true or false, a whole number, a number or text in quotes"
    assert faults_of(tmp_path, ALL_FAULTS, "nonsense", "campaign.name.x=1") == [
        "--set campaign.name.x=1: campaign.name is a value, not a table",
        "--set nonsense: write it as key.key=value, e.g. campaign.maps.maxiter=50",
        "campaign.toml:2: 'a/b' cannot name a folder; use printable text without '/', 200 bytes at most, and no '.' or "
        "'-' first",
        "campaign.toml:3: campaign: unknown key 'deadlin'; allowed: deadline, doc, name, plugins, resource, store; "
        "did you mean 'deadline'?",
        'campaign.toml:4: campaign: deadline: a time span needs a number and a unit (write "24 min", not 24)',
        "campaign.toml:6: campaign: 'requested_resources' is not used here; the cap is [execution] cores",
        "campaign.toml:8: campaign: write [campaign.rows], not [[campaign.rows]]",
        "campaign.toml:11: campaign: 'environment' is not used here; variables for all tasks go to [environment]",
        f"campaign.toml:15: campaign.simulate: unknown kind 'comand'; known kinds: {KNOWN_HERE}; "
        "did you mean 'command'?",
        f"campaign.toml:16: campaign.simulate: depends_on names 'nothing', which this campaign does not define; {here}",
        f"campaign.toml:20: campaign.maps: command names 'simulat', which this campaign does not define; {here}; "
        "did you mean 'simulate'?",
        "campaign.toml:20: campaign.maps: command.3: no such file: campaign.tom; did you mean 'campaign.toml'?",
        f"campaign.toml:21: campaign.maps: unknown key 'memory'; allowed: {FIELDS}",
        "campaign.toml:22: workflows wait for each other: maps -> summary -> maps",
        "campaign.toml:22: campaign.maps: depends_on.1: write text in quotes, got 3",
        'campaign.toml:24: campaign.maps: resources.memory: a size needs a number and a unit (write "8 GiB", not 8)',
        "campaign.toml:25: campaign.maps: resources.ranks: input should be greater than 0, got -4",
        f"campaign.toml:26: campaign.maps: resources: unknown key 'rnks'; allowed: {ASKED}; did you mean 'ranks'?",
        "campaign.toml:27: campaign.maps.resources is written twice, first on line 23",
        "campaign.toml:30: campaign.maps: environment.A: write text in quotes, got 3",
        "campaign.toml:31: campaign.maps: environment.B=: a variable has a name without '=', and no NUL in it",
        'campaign.toml:35: campaign.summary: command: no closing quotation in "cat \'x"',
        "campaign.toml:37: campaign.summary: depends is short for depends_on; write one of them",
        "campaign.toml:38: campaign.summary: for_each takes one workflow; 'grp' is a group of grp.a, grp.b",
        "campaign.toml:42: workflows wait for each other: itself -> itself",
        "campaign.toml:46: workflows wait for each other: again -> again",
        "campaign.toml:50: campaign.big: nothing fills {nope}; set it under parameters, or use one of: none",
        "campaign.toml:51: campaign.big: big can never run: it asks 400 cores, small has 2",
        "campaign.toml:51: campaign.big: big can never run: it asks 3.91 TiB of memory, small has 8 GiB",
        "campaign.toml:51: campaign.big: big can never run: it asks 99 GPUs, small has 0",
        "campaign.toml:54: campaign.grp.a: context: no such file: context.yaml",
        "campaign.toml:54: campaign.grp.b: context: no such file: context.yaml",
        f"campaign.toml:61: campaign.grp.b: command names 'grp.aa', which this campaign does not define; {here}; "
        "did you mean 'grp.a'?",
        "campaign.toml:61: campaign.grp.b: output:// names no workflow; write output://workflow/path",
        f"campaign.toml:61: campaign.grp.b: the path '../x' {inside}",
        "campaign.toml:61: campaign.grp.b: output://grp.a/mop.fits: grp.a leaves no such file; it declares: map, "
        "map.fits, result.json; did you mean 'map.fits'?",
        f"campaign.toml:62: campaign.grp.b: outputs.x: the output '/abs' {inside}",
        "campaign.toml:62: campaign.grp.b: outputs.y: write text in quotes, got 3",
        f"campaign.toml:63: campaign.grp.b: metrics: the metrics file '../m.json' {inside}",
        f"campaign.toml:64: campaign.grp.b: parameters.a: {scalar}, got [1]",
        f"campaign.toml:64: campaign.grp.b: parameters.b: {scalar}, got 2026-01-01",
        f"campaign.toml:64: campaign.grp.b: parameters.c: {scalar}, got {{'d': 1}}",
        "campaign.toml:65: campaign.grp.c: unknown table 'resorces'; allowed: environment, outputs, parameters, "
        "resources, sweep; did you mean 'resources'?",
        f'campaign.toml:65: campaign.grp.c: no kind: set kind = "..." or name the table after one; '
        f"known kinds: {KNOWN_HERE}",
        "campaign.toml:68: 'x/y' cannot name a workflow: write printable text without '/', '[' and ']'",
        "campaign.toml:71: two tables are named 'grp.a', in quotes and nested; rename one of them",
        "campaign.toml:79: execution: cores: input should be greater than 0, got 0",
        "campaign.toml:80: execution: memory: a size needs a number and a unit (kB, MB, GB, TB, KiB, MiB, GiB, TiB), "
        "got 'lots'",
        "campaign.toml:81: execution: executor: write 'local', got 'slurm'",
        "campaign.toml:82: execution: unknown key 'retrys'; allowed: batch_size, cores, executor, grace, lost_retries, "
        "memory, oom_retries, retries, timeout_retries; did you mean 'retries'?",
        'campaign.toml:83: execution: grace: a time span needs a number and a unit (write "3 min", not 3)',
        "campaign.toml:85: environment.LANG: write text in quotes, got 3",
        "campaign.toml:86: unknown table 'figures'; allowed: campaign, environment, execution, kind, schedule",
        "campaign.toml:88: kind.selection: nothing fills {x}; fields are: query",
        "campaign.toml:94: campaign.good: query: not an SQL condition: incomplete input in 'pwv >'",
    ]


KNOWN_HERE = ", ".join(sorted([*KNOWN.split(", "), "good"]))


def check(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "socm_like.cli", "check", *arguments]
    environment = {
        key: value for key, value in os.environ.items() if key not in ("SOCM_STORE", "PYTHONDONTWRITEBYTECODE")
    }
    return subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=folder, env=environment)


def test_the_report_goes_to_stderr_with_exit_status_2_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text(ALL_FAULTS)
    done = check(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 53
    assert done.stderr.startswith("campaign.toml:2: 'a/b' cannot name a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["campaign.toml"]


def test_a_campaign_without_faults_writes_nothing_either(tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text(
        "from socm_like import Workflow\nclass Own(Workflow):\n    executable: str = 'x'\n"
    )
    (tmp_path / "campaign.toml").write_text(f'[campaign]\nplugins = ["plug.py"]\n{command("a")}[campaign.own]\n')
    done = check(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "campaign.toml: fine; 2 workflows, 2 tasks\n", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["campaign.toml", "plug.py"]


NEEDED = "a campaign file needs a [campaign] table"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", [f"campaign.toml:1: {NEEDED}; see: campaign init"]),
        ("\n# nothing\n", [f"campaign.toml:1: {NEEDED}; see: campaign init"]),
        ("x = 1\ncampaign = 3\n[execution]\ncores = 0\n[kind.k]\n", [
            "campaign.toml:1: unknown table 'x'; allowed: campaign, environment, execution, kind, schedule",
            f"campaign.toml:2: {NEEDED}, got 3; see: campaign init",
            "campaign.toml:4: execution: cores: input should be greater than 0, got 0",
            "campaign.toml:5: kind.k: the required key 'command' is missing",
        ]),
        ("[[campaign]]\nname = 'x'\n", [f"campaign.toml:1: {NEEDED}, got [{{'name': 'x'}}]; see: campaign init"]),
        ("[campain.a]\nkind = 'command'\n", [
            "campaign.toml:1: unknown table 'campain'; allowed: campaign, environment, execution, kind, schedule; "
            "did you mean 'campaign'?",
            f"campaign.toml:1: {NEEDED}; see: campaign init",
        ]),
        ("[campaign]\n", ["campaign.toml:1: no workflow: add a table such as [campaign.first] with a kind"]),
        ("campaign.a = 1\n", [
            "campaign.toml:1: campaign: unknown key 'a'; allowed: deadline, doc, name, plugins, resource, store",
            "campaign.toml:1: no workflow: add a table such as [campaign.first] with a kind",
        ]),
    ],
)  # fmt: skip
def test_a_file_without_a_campaign_is_refused_with_all_that_is_wrong_in_it(
    tmp_path: Path, text: str, faults: list[str]
) -> None:
    assert faults_of(tmp_path, text) == faults


def test_settings_are_read_with_their_units(tmp_path: Path) -> None:
    campaign = load(
        tmp_path,
        '[campaign]\nname = "lensing nulls"\ndoc = "About."\ndeadline = "24 h"\nresource = "local"\nstore = "x"\n'
        '[execution]\ncores = 1\nmemory = "1 GiB"\nbatch_size = 9\nretries = 2\nlost_retries = 0\noom_retries = 1\n'
        'timeout_retries = 4\ngrace = "3 s"\n'
        f'[environment]\nLANG = "C"\n{command("a")}',
    )
    assert campaign.faults == ()
    assert campaign.name == "lensing nulls"
    assert campaign.settings.model_dump() == {
        "name": "lensing nulls",
        "doc": "About.",
        "deadline": timedelta(hours=24),
        "resource": "local",
        "plugins": (),
        "store": "x",
    }
    assert campaign.execution.model_dump() == {
        "executor": "local",
        "cores": 1,
        "memory": 2**30,
        "batch_size": 9,
        "retries": 2,
        "lost_retries": 0,
        "oom_retries": 1,
        "timeout_retries": 4,
        "grace": timedelta(seconds=3),
    }
    assert campaign.environment == {"LANG": "C"}


@pytest.mark.parametrize(
    ("folder", "name"), [("lensing", "lensing"), ("a b", "a b"), (".hidden", "campaign"), ("-x", "campaign")]
)
def test_a_campaign_without_a_name_is_called_like_its_folder(tmp_path: Path, folder: str, name: str) -> None:
    (tmp_path / folder).mkdir()
    assert load(tmp_path / folder, command("a")).name == name


@pytest.mark.parametrize("name", ["", " ", ".x", "-x", "a/b", "a\\nb", "a\\u0000b", "名" * 17 * 4])
def test_a_name_that_cannot_name_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    found = shown(name.replace("\\n", "\n").replace("\\u0000", "\0"))
    assert faults_of(tmp_path, f'[campaign]\nname = "{name}"\n{command("a")}') == [
        f"campaign.toml:2: {found} cannot name a folder; use printable text without '/', 200 bytes at most, and no '.' "
        "or '-' first"
    ]


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("name = 3", "campaign: name: write text in quotes, got 3"),
        (f'name = "{"x" * 101}"', f"campaign: name: string should have at most 100 characters, got '{'x' * 56}..."),
        ("deadline = '0 s'", "campaign: deadline: a time span must be longer than zero, got 0 s"),
        ("deadline = 2026-01-01", "campaign: deadline: a time span needs a number and a unit (write \"8 min\"), got "
         "datetime.date(2026, 1, 1)"),
        ("plugins = 'x.py'", "campaign: plugins: write a list, got 'x.py'"),
        ("plugins = [3]", "campaign: plugins.0: write text in quotes, got 3"),
        ("plugins = ['x\\u0000.py']", None),
        ("policy = 'time'", "campaign: 'policy' is not used here; priorities follow the critical path"),
        ("execution_schema = 'batch'", "campaign: 'execution_schema' is not used here; the executor is [execution] "
         "executor"),
        ("resources = { nodes = 4 }", "campaign: 'resources' is not used here; the cap is [execution] cores and "
         "memory"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_a_fault_of_its_line(tmp_path: Path, setting: str, fault: str | None) -> None:
    if fault is None:
        setting, fault = setting.replace("'", '"'), f"plug-in '{tmp_path}/x\\x00.py': embedded null byte"
    assert faults_of(tmp_path, f"[campaign]\n{setting}\n{command('a')}") == [
        f"campaign.toml:2: {fault}".replace(f"{tmp_path}/", "")
    ]


@pytest.mark.parametrize(
    ("table", "faults"),
    [
        ("environment = 3", ['campaign.toml:1: environment: write a table of NAME = "text", got 3']),
        ("[environment]\nA = 1\n'' = 'x'\n'C=' = ''\nD = \"\\u0000\"", [
            "campaign.toml:2: environment.A: write text in quotes, got 1",
            "campaign.toml:3: environment.: a variable has a name without '=', and no NUL in it",
            "campaign.toml:4: environment.C=: a variable has a name without '=', and no NUL in it",
            "campaign.toml:5: environment.D: a variable has a name without '=', and no NUL in it",
        ]),
        ("[environment]\nA = 'x:file://a'\nB = 'output://a/x'", [
            "campaign.toml:2: environment.A: 'x:file://a' stands for a file of one workflow; write it in "
            "[campaign.x.environment]",
            "campaign.toml:3: environment.B: 'output://a/x' stands for a file of one workflow; write it in "
            "[campaign.x.environment]",
        ]),
        ("execution = 3", ["campaign.toml:1: execution: write a table, got 3"]),
        ("[[execution]]", ["campaign.toml:1: execution: write a table, got [{}]"]),
        ("[execution]\nretries = -1\nlost_retries = 1.5\ncores = true", [
            "campaign.toml:2: execution: retries: input should be greater than or equal to 0, got -1",
            "campaign.toml:3: execution: lost_retries: write a whole number, got 1.5",
            "campaign.toml:4: execution: cores: write a whole number, got true",
        ]),
    ],
)  # fmt: skip
def test_other_tables_are_checked_key_by_key(tmp_path: Path, table: str, faults: list[str]) -> None:
    assert faults_of(tmp_path, f"{table}\n{command('a')}") == faults


def test_a_table_takes_its_kind_from_its_key_or_else_from_its_dotted_name(tmp_path: Path) -> None:
    text = """\
[kind."nulls.mission"]
command = ["mission", "{n}"]
fields.n = { type = "int", default = 8 }
[campaign.command]
command = ["named"]
[campaign.nulls.mission]
[campaign.nulls.other]
kind = "nulls.mission"
n = 3
[campaign.shared]
kind = "command"
[campaign.shared.one]
command = ["one"]
[campaign.shared.mission]
kind = "nulls.mission"
"""
    assert {name: (task.kind, task.argv) for name, task in tasks_of(tmp_path, text).items()} == {
        "command": ("command", ("named",)),
        "nulls.mission": ("nulls.mission", ("mission", "8")),
        "nulls.other": ("nulls.mission", ("mission", "3")),
        "shared.one": ("command", ("one",)),
        "shared.mission": ("nulls.mission", ("mission", "8")),
    }


GROUPS = """\
[campaign.g]
kind = "command"
command = ["one", "{a}", "{b}", "{c}"]
depends_on = ["first"]
environment = { A = "1", B = "1", C = "1" }
parameters = { a = 1, b = 1, c = 1 }
outputs = { a = "a.txt" }
[campaign.g.resources]
memory = "1 GiB"
runtime = "1 h"
[campaign.g.h]
parameters.b = 2
environment.B = "2"
resources = { runtime = "2 h", threads = 2 }
[campaign.g.h.i]
parameters = { c = 3 }
[campaign.g.h.i.deep]
environment.C = "3"
outputs.b = "b.txt"
[campaign.g.h.other]
command = ["two"]
depends = []
[campaign.g.plain]
[campaign.first]
kind = "command"
command = ["first"]
"""


def test_a_group_shares_its_keys_and_the_inner_table_wins(tmp_path: Path) -> None:
    campaign = load(tmp_path, GROUPS)
    assert campaign.groups == {
        "g": ("g.h.i.deep", "g.h.other", "g.plain"),
        "g.h": ("g.h.i.deep", "g.h.other"),
        "g.h.i": ("g.h.i.deep",),
    }
    tasks = tasks_of(tmp_path, GROUPS)
    assert list(tasks) == ["first", "g.h.i.deep", "g.h.other", "g.plain"]
    deep, other, plain = (tasks[name] for name in ("g.h.i.deep", "g.h.other", "g.plain"))
    assert deep.argv == ("one", "1", "2", "3")
    assert deep.environment == {"A": "1", "B": "2", "C": "3"}
    assert deep.outputs == {"a": "a.txt", "b": "b.txt"}
    assert deep.resources.model_dump(exclude_none=True) == {
        "ranks": 1, "threads": 2, "memory": 2**30, "runtime": timedelta(hours=2), "gpus": 0,
    }  # fmt: skip
    assert (deep.dependencies, other.dependencies, plain.dependencies) == (("first",), (), ("first",))
    assert (other.argv, plain.argv) == (("two",), ("one", "1", "1", "1"))


def test_a_fault_in_an_inherited_key_stands_where_the_key_was_written(tmp_path: Path) -> None:
    text = """\
[campaign.g]
kind = "command"
command = ["x", "file://none"]
depends = ["nobody"]
[campaign.g.resources]
memory = 8
threads = 1
[campaign.g.environment]
A = 1
[campaign.g.one.resources]
threads = 0
[campaign.g.one.environment]
B = 2
"""
    assert faults_of(tmp_path, text) == [
        "campaign.toml:3: campaign.g.one: command.1: no such file: none",
        "campaign.toml:4: campaign.g.one: depends_on names 'nobody', which this campaign does not define; "
        "there are: g, g.one",
        'campaign.toml:6: campaign.g.one: resources.memory: a size needs a number and a unit (write "8 GiB", not 8)',
        "campaign.toml:9: campaign.g.one: environment.A: write text in quotes, got 1",
        "campaign.toml:11: campaign.g.one: resources.threads: input should be greater than 0, got 0",
        "campaign.toml:13: campaign.g.one: environment.B: write text in quotes, got 2",
    ]


def test_waiting_for_a_group_is_waiting_for_all_its_members(tmp_path: Path) -> None:
    text = (
        command("g.a") + command("g.b.c") + command("last", 'depends_on = ["g"]') + command("one", 'depends_on = "g.b"')
        + command("both", 'depends = ["g.b", "last", "g"]')
    )  # fmt: skip
    assert {name: task.dependencies for name, task in tasks_of(tmp_path, text).items()} == {
        "g.a": (),
        "g.b.c": (),
        "last": ("g.a", "g.b.c"),
        "one": ("g.b.c",),
        "both": ("g.b.c", "last", "g.a"),
    }


def test_tasks_come_after_what_they_depend_on_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    text = command("c", 'depends_on = ["b"]') + command("b", 'depends_on = ["a"]') + command("a") + command("z")
    assert list(tasks_of(tmp_path, text)) == ["a", "b", "c", "z"]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("3", "depends_on: write a list, got 3"),
        ("[[]]", "depends_on.0: write text in quotes, got []"),
        ("['b.x']", "depends_on names 'b.x', which this campaign does not define; there are: a, b, b.c; "
         "did you mean 'b.c'?"),
        ("''", "depends_on names '', which this campaign does not define; there are: a, b, b.c"),
        ("['output://b.c/x']", "depends_on names 'output://b.c/x', which this campaign does not define; "
         "there are: a, b, b.c"),
    ],
)  # fmt: skip
def test_wrong_names_to_wait_for_are_faults(tmp_path: Path, value: str, fault: str) -> None:
    for key in ("depends_on", "depends"):
        assert faults_of(tmp_path, command("a", f"{key} = {value}") + command("b.c")) == [
            f"campaign.toml:4: campaign.a: {fault}"
        ]


def test_a_member_may_not_wait_for_its_own_group(tmp_path: Path) -> None:
    assert faults_of(tmp_path, command("g.a", 'depends_on = ["g"]') + command("g.b")) == [
        "campaign.toml:4: workflows wait for each other: g.a -> g.a"
    ]


def test_each_cycle_is_reported_once_with_its_path_and_its_line(tmp_path: Path) -> None:
    text = (
        command("a", 'depends_on = ["b"]')
        + command("b", 'parameters.x = "output://c/x"')
        + command("c", 'for_each = "a"', 'depends_on = ["d", "b"]')
        + command("d")
        + command("e", 'depends_on = ["f", "a"]')
        + command("f", 'depends_on = ["e"]')
    )
    assert faults_of(tmp_path, text) == [
        "campaign.toml:4: workflows wait for each other: a -> b -> c -> a",
        "campaign.toml:8: workflows wait for each other: b -> c -> b",
        "campaign.toml:20: workflows wait for each other: e -> f -> e",
    ]


NAMES = ["with space", "größe", "quote'", 'double"', "a.b", "-x", "1", "x" * 100, "{x}", "名", "*", "a:b", "depends"]


def test_names_may_be_any_printable_text(tmp_path: Path) -> None:
    keys = [name.replace('"', '\\"') for name in NAMES]
    waits = "depends_on = [" + ", ".join(f'"{key}"' for key in keys) + ', "end"]'
    text = "".join(command(f'"{key}"') for key in keys) + command(
        "last", waits, 'parameters.x = "output://with space/y"'
    )
    tasks = tasks_of(tmp_path, text + command("end"))
    assert list(tasks) == [*NAMES, "end", "last"]
    assert tasks["last"].dependencies == (*NAMES, "end")
    assert tasks["last"].parameters["x"] == f"{tmp_path}/runs/{tasks['with space'].folder}/y"


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("a/b", "'a/b' cannot name a workflow: write printable text without '/', '[' and ']'"),
        ("a[x=1]", "'a[x=1]' cannot name a workflow: write printable text without '/', '[' and ']'"),
        ("", "'' cannot name a workflow: write printable text without '/', '[' and ']'"),
        (" ", "' ' cannot name a workflow: write printable text without '/', '[' and ']'"),
        ("a\\tb", "'a\\tb' cannot name a workflow: write printable text without '/', '[' and ']'"),
        ("\\u0000", "'\\x00' cannot name a workflow: write printable text without '/', '[' and ']'"),
        ("x" * 101, f"'{'x' * 56}... cannot name a workflow: it has 101 characters, 100 at most"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_and_its_table_is_still_checked(
    tmp_path: Path, key: str, fault: str
) -> None:
    assert faults_of(tmp_path, command(f'"{key}"', "nix = 1") + command("b", f'depends_on = ["{key}"]')) == [
        f"campaign.toml:1: {fault}",
        f"campaign.toml:4: campaign.{eval_key(key)}: unknown key 'nix'; allowed: {FIELDS}",
    ]


def eval_key(key: str) -> str:
    return key.replace("\\t", "\t").replace("\\u0000", "\0")


def test_a_quoted_dot_may_not_hide_a_member_of_a_group(tmp_path: Path) -> None:
    text = (
        command("g.a") + command('"g.a"') + '[campaign."h.b".c]\nkind = "command"\ncommand = "x"\n' + command("h.b.c")
    )
    assert faults_of(tmp_path, text) == [
        "campaign.toml:4: two tables are named 'g.a', in quotes and nested; rename one of them",
        "campaign.toml:10: two tables are named 'h.b', in quotes and nested; rename one of them",
    ]


def test_an_unknown_kind_is_reported_once_and_what_depends_on_its_table_is_not_blamed(tmp_path: Path) -> None:
    text = """\
[campaign.typo]
kind = "comand"
command = ["x", "output://nobody"]
[campaign.typo.deep]
a = 1
[campaign.typo.own]
kind = "command"
command = "true"
[campaign.none]
[campaign.list]
kind = ["command"]
[campaign.table.kind]
x = 1
[campaign.g]
kind = "nope"
[campaign.g.a]
[campaign.g.b]
[campaign.ok]
kind = "command"
command = ["x", "output://typo/x", "output://g.a/x"]
depends_on = ["typo", "typo.deep", "typo.own", "none", "list", "g", "g.b"]
for_each = "typo"
"""
    here = "there are: g, list, none, ok, table, typo, typo.own"
    assert faults_of(tmp_path, text) == [
        f"campaign.toml:2: campaign.typo: unknown kind 'comand'; known kinds: {KNOWN}; did you mean 'command'?",
        f"campaign.toml:3: campaign.typo: command names 'nobody', which this campaign does not define; {here}",
        f'campaign.toml:9: campaign.none: no kind: set kind = "..." or name the table after one; known kinds: {KNOWN}',
        "campaign.toml:11: campaign.list: kind: write text in quotes, got ['command']",
        "campaign.toml:12: campaign.table: kind: write text in quotes, got {'x': 1}",
        f"campaign.toml:15: campaign.g: unknown kind 'nope'; known kinds: {KNOWN}",
    ]


def test_a_misspelt_table_is_a_slip_and_a_table_of_keys_of_the_kind_is_a_member(tmp_path: Path) -> None:
    text = """\
[campaign.maps]
kind = "command"
command = "true"
[campaign.maps.resorces]
memory = "1 GiB"
[campaign.maps.param]
[campaign.g]
kind = "command"
[campaign.g.source]
command = "true"
[campaign.g.output.deep]
command = "true"
[campaign.g.output2]
kind = "command"
command = "true"
"""
    allowed = "allowed: command, environment, inputs, outputs, parameters, resources, sweep; did you mean"
    assert faults_of(tmp_path, text) == [
        f"campaign.toml:4: campaign.maps: unknown table 'resorces'; {allowed} 'resources'?",
        f"campaign.toml:6: campaign.maps: unknown table 'param'; {allowed} 'parameters'?",
    ]
    right = text.partition("[campaign.g]")[2]
    assert list(tasks_of(tmp_path, f"[campaign.g]{right}")) == ["g.source", "g.output.deep", "g.output2"]


@pytest.mark.parametrize(
    ("reserved", "fault"),
    [
        ("resources = 3", "resources: write a table, got 3"),
        ("resources = { memory = 8 }", 'resources.memory: a size needs a number and a unit (write "8 GiB", not 8)'),
        ("resources = { runtime = '20' }", "resources.runtime: a time span needs a number and a unit (s, min, h, d, "
         "w), got '20'"),
        ("resources = { memory = '-8 GiB' }", "resources.memory: a size needs a number and a unit (kB, MB, GB, TB, "
         "KiB, MiB, GiB, TiB), got '-8 GiB'"),
        ("resources = { ranks = -1 }", "resources.ranks: input should be greater than 0, got -1"),
        ("resources = { threads = 1.5 }", "resources.threads: write a whole number, got 1.5"),
        ("resources = { gpus = -1 }", "resources.gpus: input should be greater than or equal to 0, got -1"),
        ("resources = { cores = 4 }", f"resources: unknown key 'cores'; allowed: {ASKED}"),
        ("environment = ['A=1']", "environment: write a table, got ['A=1']"),
        ("parameters = 3", "parameters: write a table, got 3"),
        ("parameters = { x = [1, 2] }", "parameters.x: write true or false, a whole number, a number or text in "
         "quotes, got [1, 2]"),
        ("parameters = { x = nan }", "parameters.x: write a finite number, got nan"),
        ("outputs = ['x']", "outputs: write a table, got ['x']"),
        ("outputs = { x = '' }", "outputs.x: the output '' is not inside the task's directory; write a relative path "
         "without '..'"),
        ("outputs = { x = 'result.json' }", "outputs.x: result.json is a file of ours; let the program write another"),
        ("outputs = { x = '{band}.fits' }", "outputs.x: nothing fills {band} here; placeholders are for commands"),
        ("metrics = 3", "metrics: write text in quotes, got 3"),
        ("metrics = 'task.json'", "metrics: task.json is a file of ours; let the program write another"),
        ("for_each = 3", "for_each: write a list, got 3"),
        ("for_each = 'nobody'", "for_each names 'nobody', which this campaign does not define; there are: a"),
        ("comand = 3", f"unknown key 'comand'; allowed: {FIELDS}; did you mean 'command'?"),
        ("inputs = 3", "inputs: write a list, got 3"),
        ("inputs = ['a.txt']", "inputs.0: no such file: a.txt"),
        ("executable = 2026-01-01", "executable: write text in quotes, got 2026-01-01"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_one_fault_in_words_of_the_file(tmp_path: Path, reserved: str, fault: str) -> None:
    assert faults_of(tmp_path, command("a", reserved)) == [f"campaign.toml:4: campaign.a: {fault}"]


def test_settings_override_any_key_and_are_named_where_they_are_wrong(tmp_path: Path) -> None:
    text = command("a", "parameters = { x = 1 }", 'command = ["true", "{x}"]').replace('command = ["true"]\n', "")
    settings = ("campaign.a.parameters.x=50", "campaign.name=today", 'campaign.b={kind="command", command="ls {n}"}',
                "campaign.b.parameters.n=7", "execution.cores=1", "environment.LANG=C")  # fmt: skip
    campaign = load(tmp_path, text, *settings)
    assert (campaign.name, campaign.execution.cores, campaign.environment) == ("today", 1, {"LANG": "C"})
    tasks = tasks_of(tmp_path, text, *settings)
    assert {name: task.argv for name, task in tasks.items()} == {"a": ("true", "50"), "b": ("ls", "7")}
    assert faults_of(tmp_path, text, "campaign.a.resources.memory=8", "campaign.c.kind=comand", "campaign.a.nix=1") == [
        "--set campaign.a.nix=1: campaign.a: unknown key 'nix'; allowed: " + FIELDS,
        "--set campaign.a.resources.memory=8: campaign.a: resources.memory: a size needs a number and a unit "
        '(write "8 GiB", not 8)',
        f"--set campaign.c.kind=comand: campaign.c: unknown kind 'comand'; known kinds: {KNOWN}; "
        "did you mean 'command'?",
    ]


def test_a_setting_with_a_superscript_line_number_is_a_fault_like_any_other(tmp_path: Path) -> None:
    assert faults_of(tmp_path, command("a"), "campaign.a.nix=:²") == [
        f"--set campaign.a.nix=:²: campaign.a: unknown key 'nix'; allowed: {FIELDS}"
    ]


def test_relative_paths_start_at_the_campaign_file_wherever_one_stands(tmp_path: Path, monkeypatch: Any) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "data.txt").write_text(folder)
    (tmp_path / "here" / "campaign.toml").write_text(command("a").replace('["true"]', '["cat", "data.txt"]'))
    monkeypatch.chdir(tmp_path / "there")
    for path in (Path("../here/campaign.toml"), tmp_path / "here" / "campaign.toml"):
        (task,) = resolve(load_campaign(path), tmp_path / "runs", MACHINE, FileDigests()).tasks
        assert task.argv == ("cat", f"{tmp_path}/here/data.txt")


def test_the_text_of_a_campaign_may_have_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    plain = tasks_of(tmp_path, command("a", "x = 1").replace("x = 1", "parameters.x = 1"))
    (tmp_path / "campaign.toml").write_bytes(
        b"\xef\xbb\xbf" + command("a", "parameters.x = 1").replace("\n", "\r\n").encode()
    )
    (task,) = resolve(load_campaign(tmp_path / "campaign.toml"), tmp_path / "runs", MACHINE, FileDigests()).tasks
    assert task == plain["a"]


PIECES = st.sampled_from(
    ["", "'", '"', "[", "]", "{", "}", "=", ".", ",", "\n", " ", "\0", "0", "-1", "é", "#", "\r", "x"]
)
PIECES |= st.sampled_from(
    ['"""', "true", "2026-01-01", "nan", "[[]]", "{ x = 1 }", "output://", "file://", "g.h.i", "{x}"]
)
WHOLE = f"{GROUPS}{ALL_FAULTS.partition('[campaign.itself]')[2]}"


@given(edits=st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 12), PIECES), min_size=1, max_size=4))
def test_a_campaign_with_any_slip_of_the_pen_is_planned_or_refused(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int, str]]
) -> None:
    text = WHOLE
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    folder = tmp_path_factory.getbasetemp()
    try:
        tasks_of(folder, text)
    except CampaignError as error:
        assert all(re.fullmatch(rf"{folder}/campaign.toml:[1-9]\d*", fault.where) for fault in error.faults)
        assert error.faults


def test_thousands_of_tables_in_one_chain_are_read(tmp_path: Path) -> None:
    text = "".join(command(f"w{i}", f'depends_on = ["w{i + 1}"]') for i in range(1999)) + command("w1999")
    tasks = tasks_of(tmp_path, text)
    assert list(tasks) == [f"w{i}" for i in reversed(range(2000))]
    assert tasks["w7"].dependencies == ("w8",)


def test_thousands_of_faults_are_told(tmp_path: Path) -> None:
    text = "".join(command(f"w{i}", f'depends_on = ["v{i}", "w{i}"]') for i in range(2000))
    found = faults_of(tmp_path, text)
    assert len(found) == 4000
    assert found[0].startswith(
        "campaign.toml:4: campaign.w0: depends_on names 'v0', which this campaign does not define"
    )
    assert found[-2] == (
        "campaign.toml:8000: campaign.w1999: depends_on names 'v1999', which this campaign does not define; see above"
    )
    assert found[-1] == "campaign.toml:8000: workflows wait for each other: w1999 -> w1999"
