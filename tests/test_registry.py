"""Kinds from plug-in files, installed packages and by hand; what cannot be loaded is named, never skipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import socm_like
from socm_like.campaign import load_campaign
from socm_like.errors import CampaignError, PluginError
from socm_like.identity import FileDigests
from socm_like.registry import Registry, registered_workflows
from socm_like.resources import Machine, Resources
from socm_like.task import Task
from socm_like.tasks import resolve
from socm_like.workflow import Workflow

SHIPPED = list(Registry.load())
KNOWN = ", ".join(SHIPPED)
MACHINE = Machine(name="small", cores=(0, 1), memory=8 * 2**30)

CUSTOM = '''\
from socm_like import Workflow


class MyCustomWorkflow(Workflow):
    # Define additional parameters
    custom_param: str
    threshold: float = 0.5

    def get_command(self, **kwargs) -> str:
        """Return the command to execute."""
        return f"{self.executable} {self.subcommand}"

    def get_arguments(self, **kwargs) -> str:
        """Return command arguments."""
        return f"--param {self.custom_param} --threshold {self.threshold}"
'''
BY_HAND = "\nfrom socm_like import registered_workflows\n\nregistered_workflows['my-custom'] = MyCustomWorkflow\n"

CAMPAIGN = """\
[campaign]
name = "custom"
plugins = ["my_custom.py"]
[campaign.first]
kind = "my-custom"
executable = "my-tool"
subcommand = "run"
custom_param = "x"
"""


def tasks_of(path: Path) -> tuple[Task, ...]:
    return resolve(load_campaign(path), path.parent / "runs", MACHINE, FileDigests()).tasks


def refused(*plugins: Path) -> str:
    with pytest.raises(PluginError) as caught:
        Registry.load(plugins)
    return str(caught.value).replace(f"{plugins[0].parent}/", "")


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.mark.parametrize("text", [CUSTOM, CUSTOM + BY_HAND, BY_HAND.replace("\n\nreg", f"\n\n{CUSTOM}\nreg")])
def test_one_file_with_a_class_is_a_plug_in_registered_by_hand_or_not(tmp_path: Path, text: str) -> None:
    (write(tmp_path, my_custom=text) / "campaign.toml").write_text(CAMPAIGN)
    (task,) = tasks_of(tmp_path / "campaign.toml")
    assert (task.name, task.kind) == ("first", "my-custom")
    assert task.argv == ("my-tool", "run", "--param", "x", "--threshold", "0.5")
    assert task.parameters == {"custom_param": "x", "threshold": 0.5}


PRINT_TASKS = """\
import sys
from pathlib import Path
from socm_like.campaign import load_campaign
from socm_like.identity import FileDigests
from socm_like.resources import Machine
from socm_like.tasks import resolve
path = Path(sys.argv[1])
machine = Machine(name="small", cores=(0, 1), memory=8 * 2**30)
for task in resolve(load_campaign(path), path.parent / "runs", machine, FileDigests()).tasks:
    print(task.name, task.kind, *task.argv)
"""


def install(site: Path, distribution: str, *lines: str) -> Path:
    """Make what pip leaves of a package: its metadata with entry points."""
    info = site / f"{distribution}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[socm_like.workflows]\n" + "\n".join(lines) + "\n")
    return site


def run_with(site: Path, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    words = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)


def test_an_installed_package_registers_the_same_class_through_an_entry_point(tmp_path: Path) -> None:
    site = install(tmp_path / "site", "stranger", "my-custom = stranger.kinds:MyCustomWorkflow")
    (site / "stranger").mkdir()
    (site / "stranger" / "kinds.py").write_text(CUSTOM)
    (tmp_path / "campaign.toml").write_text(CAMPAIGN.replace('plugins = ["my_custom.py"]\n', ""))
    done = run_with(site, PRINT_TASKS, tmp_path / "campaign.toml")
    assert (done.stdout, done.stderr) == ("first my-custom my-tool run --param x --threshold 0.5\n", "")


BROKEN = {
    "m1": ("import nothing_there", "cannot be imported: ModuleNotFoundError: No module named 'nothing_there'"),
    "m2": ("", "cannot be imported: AttributeError: module 'm2' has no attribute 'X'"),
    "m3": ("import sys; sys.exit('bye')", "cannot be imported: SystemExit: bye"),
    "m4": ("X = (", "cannot be imported: SyntaxError: '(' was never closed (m4.py, line 1)"),
    "m5": ("X = 3", "is not a Workflow class"),
    "m6": ("class X: pass", "is not a Workflow class"),
    "m7": (None, "cannot be imported: ModuleNotFoundError: No module named 'm7'"),
}


def test_an_entry_point_that_cannot_be_loaded_is_a_fault_of_the_first_table_that_asks_for_it(tmp_path: Path) -> None:
    site = install(tmp_path / "site", "stranger", *(f"strange-{name} = {name}:X" for name in BROKEN))
    for name, (source, _) in BROKEN.items():
        if source is not None:
            (site / f"{name}.py").write_text(source)
    text = "".join(f'[campaign.{name}]\nkind = "strange-{name}"\nkey.deep = 1\n' for name in BROKEN)
    (tmp_path / "campaign.toml").write_text(
        f'{text}[campaign.again]\nkind = "strange-m1"\ndepends_on = ["m1", "m1.key"]\n'
        '[campaign.c]\nkind = "command"\ncommand = ["true"]\n'
    )
    done = run_with(site, "from socm_like.cli import main; main()", "check", tmp_path / "campaign.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"{tmp_path}/campaign.toml:{3 * index + 2}: kind 'strange-{name}': {name}:X {message}"
        for index, (name, (_, message)) in enumerate(BROKEN.items())
    ]


def test_a_broken_entry_point_that_nobody_asks_for_harms_nobody(tmp_path: Path) -> None:
    site = install(tmp_path / "site", "stranger", "strange = nothing:X")
    (tmp_path / "campaign.toml").write_text('[campaign.c]\nkind = "command"\ncommand = ["true"]\n')
    done = run_with(site, PRINT_TASKS, tmp_path / "campaign.toml")
    assert (done.stdout, done.stderr) == ("c command true\n", "")


def test_two_packages_that_claim_one_kind_are_both_named(tmp_path: Path) -> None:
    site = install(tmp_path / "site", "one", "strange = one:X")
    install(tmp_path / "site", "two", "strange = two:X")
    (tmp_path / "campaign.toml").write_text('[campaign.c]\nkind = "command"\ncommand = ["true"]\n')
    done = run_with(site, "from socm_like.cli import main; main()", "check", tmp_path / "campaign.toml")
    (found,) = done.stderr.splitlines()
    claim = f"{tmp_path}/campaign.toml:1: two packages claim the kind 'strange': "
    assert found in {f"{claim}{names}; uninstall one of them" for names in ("one:X and two:X", "two:X and one:X")}
    assert done.returncode == 2


def test_a_package_that_is_found_twice_is_one(tmp_path: Path) -> None:
    site = install(tmp_path / "site", "one", "strange = one:X")
    install(tmp_path / "other", "one", "strange = one:X")
    program = f"import sys; sys.path.append({str(tmp_path / 'other')!r})\nfrom socm_like.registry import Registry\n"
    done = run_with(site, f"{program}print(*Registry.load())")
    assert (done.stdout, done.stderr) == (" ".join(sorted([*SHIPPED, "strange"])) + "\n", "")


def test_the_shipped_kinds_are_found_through_entry_points() -> None:
    registry = Registry.load()
    assert {"command", "fit"} <= set(registry)
    assert registry["command"].__module__ == "socm_workflows.command"
    assert "command" in registry
    assert "comand" not in registry


def test_an_unknown_kind_is_refused_with_a_suggestion() -> None:
    with pytest.raises(PluginError) as caught:
        Registry.load()["comand"]
    assert str(caught.value) == "unknown kind 'comand'; known kinds: KNOWN; did you mean 'command'?".replace(
        "KNOWN", KNOWN
    )


def test_one_class_may_be_registered_twice_and_under_two_names() -> None:
    class Thing(Workflow):
        pass

    registry = Registry.load()
    registry["thing"] = Thing
    registry["thing"] = Thing
    registry["other"] = Thing
    assert list(registry) == sorted([*SHIPPED, "other", "thing"])


def test_a_kind_is_named_after_its_class_unless_it_says_otherwise() -> None:
    class MLMapmakingWorkflow(Workflow):
        pass

    class Plain(Workflow):
        kind = "my.own-name"

    class Derived(Plain):
        pass

    assert [kind.kind for kind in (MLMapmakingWorkflow, Plain, Derived)] == ["ml-mapmaking", "my.own-name", "derived"]


def test_two_classes_under_one_kind_are_refused_with_both_modules(tmp_path: Path) -> None:
    write(tmp_path, one=CUSTOM, two=CUSTOM, three=CUSTOM.replace("class My", "class Command"))
    assert refused(tmp_path / "one.py", tmp_path / "two.py") == (
        "two classes claim the kind 'my-custom': one.py:MyCustomWorkflow and two.py:MyCustomWorkflow; "
        "rename one of them"
    )
    command = "class Command(Workflow):\n    pass\n"
    write(tmp_path, four=f"from socm_like import Workflow\n{command}")
    assert refused(tmp_path / "four.py") == (
        "two classes claim the kind 'command': socm_workflows.command:CommandWorkflow and four.py:Command; "
        "rename one of them"
    )


def test_two_classes_of_one_file_under_one_kind_are_refused(tmp_path: Path) -> None:
    twice = "class A(Workflow):\n    kind = 'a'\nclass B(Workflow):\n    kind = 'a'\n"
    write(tmp_path, one=f"from socm_like import Workflow\n{twice}")
    assert refused(tmp_path / "one.py") == "two classes claim the kind 'a': one.py:A and one.py:B; rename one of them"
    hand = "registered_workflows['x'] = A\nregistered_workflows['x'] = B\n"
    write(
        tmp_path,
        two="from socm_like import Workflow, registered_workflows\nclass A(Workflow): pass\nclass B(Workflow): pass\n"
        + hand,
    )
    assert refused(tmp_path / "two.py") == (
        "plug-in two.py cannot be imported: PluginError: two classes claim the kind 'x': "
        "two.py:A and two.py:B; rename one of them (line 5)"
    )


def test_kinds_declared_in_toml_clash_by_file_and_line(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text("\n[kind.smooth]\ncommand = 'x'\n[kind.fit]\ncommand = 'x'\n")
    (tmp_path / "campaign.toml").write_text(
        '[campaign]\nplugins = ["one.toml", "two.toml", "one.toml"]\n[kind.smooth]\ncommand = "x"\n'
        '[campaign.a]\nkind = "smooth"\n'
    )
    with pytest.raises(CampaignError) as caught:
        tasks_of(tmp_path / "campaign.toml")
    fit = "socm_workflows.fit.workflow:FitWorkflow"
    assert str(caught.value).replace(f"{tmp_path}/", "").splitlines() == [
        "campaign.toml:3: two classes claim the kind 'smooth': [kind.smooth] in one.toml and "
        "[kind.smooth] in campaign.toml; rename one of them",
        f"one.toml:4: two classes claim the kind 'fit': {fit} and [kind.fit] in one.toml; rename one of them",
        "two.toml:2: two classes claim the kind 'smooth': [kind.smooth] in one.toml and [kind.smooth] in two.toml; "
        "rename one of them",
        f"two.toml:4: two classes claim the kind 'fit': {fit} and [kind.fit] in two.toml; rename one of them",
    ]


NULL_BYTES = "SyntaxError" if sys.version_info >= (3, 11, 4) else "ValueError"
"""What Python makes of them."""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ndef f(:\n", "SyntaxError: invalid syntax (plug.py, line 2)"),
        ("\n\nimport nothing_there\n", "ModuleNotFoundError: No module named 'nothing_there' (line 3)"),
        ("from socm_like import Nothing\n", "ImportError: cannot import name 'Nothing' from 'socm_like' (line 1)"),
        ("def f():\n    return 1 / 0\n\n\nf()\n", "ZeroDivisionError: division by zero (line 2)"),
        ("import sys\nsys.exit()\n", "SystemExit (line 2)"),
        ("import sys\nsys.exit('no licence')\n", "SystemExit: no licence (line 2)"),
        ("raise BaseException('strange')\n", "BaseException: strange (line 1)"),
        ("x = '\0'\n", f"{NULL_BYTES}: source code string cannot contain null bytes"),
        (
            "from socm_like import Workflow\nclass A(Workflow):\n    x: Nothing\n",
            "NameError: name 'Nothing' is not defined (line 3)",
        ),
        (
            "from socm_like import registered_workflows\nregistered_workflows['a'] = 3\n",
            "PluginError: the kind 'a' must be a subclass of socm_like.Workflow, got 3 (line 2)",
        ),
    ],
)
def test_a_plug_in_that_cannot_be_imported_is_named_with_its_line(tmp_path: Path, source: str, message: str) -> None:
    write(tmp_path, plug=source)
    found = refused(tmp_path / "plug.py")
    installed = f" ({Path(socm_like.__file__)})"
    assert found.replace(installed, "") == f"plug-in plug.py cannot be imported: {message}"


def test_a_file_that_is_no_plug_in_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "my_custom.py").write_text(CUSTOM)
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'\n")
    suffix = "a plug-in is a .py or a .toml file"
    for name, message in [
        ("my_custm.py", "plug-in my_custm.py: No such file or directory; did you mean 'my_custom.py'?"),
        ("folder.py", "plug-in folder.py: Is a directory"),
        ("my_custom.pyc", f"plug-in my_custom.pyc: {suffix}"),
        ("my_custom", f"plug-in my_custom: {suffix}"),
        ("", f"plug-in {tmp_path.name}: {suffix}"),
        ("no/where.py", "plug-in where.py: No such file or directory"),
        ("my_custom.py/x.py", "plug-in x.py: Not a directory"),
        ("x\0.py", f"plug-in '{tmp_path}/x\\x00.py': embedded null byte".replace(f"{tmp_path}/", "")),
    ]:
        assert refused(tmp_path / name, tmp_path / "my_custom.py").replace(f"{tmp_path}/", "") == message


def test_every_plug_in_that_fails_is_a_fault_of_its_line_and_the_others_are_there(tmp_path: Path) -> None:
    write(tmp_path, good=CUSTOM, bad="x = (\n", worse="import nothing_there\n")
    (tmp_path / "wrong.toml").write_text("[kind.w]\ncommand = 3\n[other]\n")
    (tmp_path / "wrng.toml").write_text("[kind.v]\ncommand = 3\n[kind.u]\ncommand = 'x'")
    (tmp_path / "campaign.toml").write_text(
        """\
[campaign]
plugins = [
    "bad.py",
    "good.py",
    "worse.py", "unheard-of-kinds.toml",
    "wrong.toml",
    "wrng.toml",
]
[campaign.a]
kind = "my-custom"
[campaign.b]
kind = "in-a-bad-one"
[campaign.c]
kind = "comand"
[campaign.d]
kind = "v"
[campaign.e]
kind = "u"
depends_on = ["a", "b", "c", "d", "e2"]
"""
    )
    with pytest.raises(CampaignError) as caught:
        tasks_of(tmp_path / "campaign.toml")
    assert str(caught.value).replace(f"{tmp_path}/", "").splitlines() == [
        "campaign.toml:3: plug-in bad.py cannot be imported: SyntaxError: '(' was never closed (bad.py, line 1)",
        "campaign.toml:5: plug-in worse.py cannot be imported: ModuleNotFoundError: No module named 'nothing_there' "
        "(line 1)",
        "campaign.toml:5: plug-in unheard-of-kinds.toml: No such file or directory",
        "campaign.toml:9: campaign.a: the required key 'custom_param' is missing",
        "campaign.toml:14: campaign.c: unknown kind 'comand'; known kinds: KNOWN; did you mean 'command'?".replace(
            "KNOWN", ", ".join(sorted([*SHIPPED, "my-custom", "u"]))
        ),
        "campaign.toml:19: campaign.e: depends_on names 'e2', which this campaign does not define; "
        "there are: a, b, c, d, e; did you mean 'e'?",
        "wrng.toml:2: kind.v: command: write a list, got 3",
        "wrong.toml:2: kind.w: command: write a list, got 3",
        "wrong.toml:3: 'other': a plug-in holds [kind.x] tables, nothing else",
    ]


def test_loading_a_plug_in_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    write(tmp_path, my_custom=CUSTOM)
    Registry.load([tmp_path / "my_custom.py"])
    assert [path.name for path in tmp_path.iterdir()] == ["my_custom.py"]


def test_a_plug_in_is_what_its_file_says_now_and_one_module_while_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    plugin = write(tmp_path, plug=CUSTOM + BY_HAND) / "plug.py"
    first = Registry.load([plugin])["my-custom"]
    assert Registry.load([plugin])["my-custom"] is first
    times = plugin.stat().st_mtime_ns
    plugin.write_text((CUSTOM + BY_HAND).replace("0.5", "0.6"))
    os.utime(plugin, ns=(times, times))
    second = Registry.load([plugin])["my-custom"]
    assert second.model_fields["threshold"].default == 0.6
    assert first.model_fields["threshold"].default == 0.5


def test_campaigns_of_one_process_do_not_see_each_others_plug_ins(tmp_path: Path) -> None:
    write(tmp_path, one=CUSTOM + BY_HAND, two=CUSTOM.replace("0.5", "0.7") + BY_HAND)
    one, two = (Registry.load([tmp_path / f"{name}.py"])["my-custom"] for name in ("one", "two"))
    assert (one.model_fields["threshold"].default, two.model_fields["threshold"].default) == (0.5, 0.7)
    assert "my-custom" not in Registry.load()
    assert "my-custom" not in registered_workflows


def test_a_plug_in_that_fails_halfway_leaves_no_kind_behind(tmp_path: Path) -> None:
    write(tmp_path, plug=CUSTOM + BY_HAND + "1 / 0\n")
    with pytest.raises(PluginError):
        Registry.load([tmp_path / "plug.py"])
    assert "my-custom" not in registered_workflows


def test_a_plug_in_may_register_what_it_imports_and_keep_what_is_private(tmp_path: Path) -> None:
    write(
        tmp_path,
        plug="""\
from abc import abstractmethod
from socm_like import Workflow, registered_workflows
from socm_workflows.command import CommandWorkflow

class _Base(Workflow):
    pass

class Abstract(Workflow):
    @abstractmethod
    def more(self): ...

class Public(_Base):
    pass

registered_workflows["shell"] = CommandWorkflow
""",
    )
    registry = Registry.load([tmp_path / "plug.py"])
    assert list(registry) == sorted([*SHIPPED, "public", "shell"])
    assert registry["shell"] is registry["command"]
    assert list(Registry.load([tmp_path / "plug.py"])) == sorted([*SHIPPED, "public", "shell"])


def test_a_class_registered_by_hand_outside_a_plug_in_is_a_kind_of_this_process() -> None:
    program = """\
from socm_like import Workflow, registered_workflows
from socm_like.registry import Registry
class Mine(Workflow): pass
registered_workflows["mine"] = Mine
print(*Registry.load(), registered_workflows["mine"].__name__)
"""
    done = run_with(Path("/nowhere"), program)
    assert (done.stdout, done.stderr) == (" ".join([*sorted([*SHIPPED, "mine"]), "Mine\n"]), "")


@pytest.mark.parametrize("kind", ["", "a/b", "..", ".x", "-x", "a b", "a\n", "campaigns", "x" * 61, 3])
def test_a_kind_must_be_able_to_name_a_folder_of_the_store(kind: Any) -> None:
    class Thing(Workflow):
        pass

    with pytest.raises(PluginError) as caught:
        Registry()[kind] = Thing
    place = f"{Thing.__module__}:{Thing.__qualname__}"
    assert str(caught.value) == (
        f"{place}: {kind!r} cannot name a kind; use letters, digits, '-', '_' and '.', a letter or digit first, "
        "60 at most, and not campaigns"
    )


def test_a_document_whose_kind_is_no_table_is_refused(tmp_path: Path) -> None:
    for text, found in [("kind = 3\n", "3"), ("[[kind]]\nx = 1\n", "[{'x': 1}]")]:
        (tmp_path / "campaign.toml").write_text(f"{text}[campaign.a]\nkind = 'command'\ncommand = 'x'\n")
        with pytest.raises(CampaignError) as caught:
            tasks_of(tmp_path / "campaign.toml")
        assert str(caught.value) == f"{tmp_path}/campaign.toml:1: write tables [kind.name], got {found}"


def test_kinds_of_a_toml_plug_in_and_of_the_campaign_itself_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "smooth.py").write_text("")
    (tmp_path / "tools" / "kinds.toml").write_text(
        '[kind.smooth]\ncommand = ["python", "smooth.py", "{fwhm}"]\nfields.fwhm.type = "int"\n'
    )
    (tmp_path / "campaign.toml").write_text(
        '[campaign]\nplugins = ["tools/kinds.toml"]\n[campaign.a]\nkind = "smooth"\nfwhm = 5\n'
        '[campaign.own.kind]\n[kind."own.kind"]\ncommand = "true"\n'
    )
    first, second = tasks_of(tmp_path / "campaign.toml")
    assert first.argv == ("python", f"{tmp_path}/tools/smooth.py", "5")
    assert (second.name, second.kind, second.argv) == ("own.kind", "own.kind", ("true",))


def test_a_python_class_serves_the_resources_and_the_name_to_its_command(tmp_path: Path) -> None:
    write(
        tmp_path,
        plug="""\
from socm_like import Workflow
class Mpi(Workflow):
    def get_command(self, **kwargs):
        return ["mpirun", "-n", str(kwargs["resources"].ranks), kwargs["name"]]
""",
    )
    kind = Registry.load([tmp_path / "plug.py"])["mpi"]
    assert kind().argv("first", Resources(ranks=2)) == ("mpirun", "-n", "2", "first")


def test_json_of_a_task_of_a_plug_in_builds_the_same_workflow(tmp_path: Path) -> None:
    write(tmp_path, plug=CUSTOM)
    kind = Registry.load([tmp_path / "plug.py"])["my-custom"]
    workflow = kind.model_validate({"custom_param": "x"})
    assert kind.model_validate(json.loads(json.dumps(workflow.model_dump(mode="json")))) == workflow
