"""``[kind.x]`` tables: they become Workflow classes like any other, or say what is wrong with them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from socm_like.declared_kind import DeclaredWorkflow, declare_kind
from socm_like.document import read_document
from socm_like.errors import CampaignError
from socm_like.faults import faults_of
from socm_like.resources import Machine, Resources
from socm_like.workflow import EstimateContext, Workflow

FROM_FILE = {"from_file": True}
MACHINE = Machine(name="small", cores=(0, 1), memory=8 * 2**30)

SMOOTH = """\
[kind.smooth-map]
doc = "Smooth a map."
command = ["smooth", "{map}", "--fwhm={fwhm}"]
fields.fwhm = { type = "float", unit = "arcmin", default = 5.0, gt = 0, doc = "Full width at half maximum." }
fields.map = { type = "path" }
outputs.map = "smoothed.fits"
resources = { memory = "2 GiB", runtime = "5 min" }
"""


def declare(tmp_path: Path, text: str, kind: str = "k") -> type[Workflow]:
    path = tmp_path / "kinds.toml"
    path.write_text(text)
    return declare_kind(kind, read_document(path))


def with_field(tmp_path: Path, field: str) -> type[Workflow]:
    return declare(tmp_path, f'[kind.k]\ncommand = ["x", "{{v}}"]\nfields.v = {{ {field} }}\n')


def built(kind: type[Workflow], **values: Any) -> Workflow:
    return kind.model_validate(values, context=FROM_FILE)


def wrong_table(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(CampaignError) as caught:
        declare(tmp_path, text)
    return [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]


def wrong_value(kind: type[Workflow], **values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        built(kind, **values)
    ((_, message),) = faults_of(caught.value, kind, values)
    return message


def test_a_table_becomes_a_class_with_all_it_says(tmp_path: Path) -> None:
    kind = declare(tmp_path, SMOOTH, "smooth-map")
    assert issubclass(kind, DeclaredWorkflow)
    assert (kind.__name__, kind.__doc__, kind.kind, kind.version) == ("smooth-map", "Smooth a map.", "smooth-map", "1")
    assert kind.own_field_names() == ("fwhm", "map")
    workflow = built(kind, map="/data/m.fits")
    assert workflow.outputs == {"map": "smoothed.fits"}
    assert workflow.estimate(EstimateContext(machine=MACHINE)) == Resources(
        memory=2 * 2**30, runtime=timedelta(minutes=5)
    )
    assert workflow.argv("t", Resources()) == ("smooth", "/data/m.fits", "--fwhm=5.0")
    assert (kind.runs_python(), kind.restartable, workflow.metrics) == (False, False, "")


def test_a_kind_has_a_json_schema_with_units_docs_bounds_and_defaults(tmp_path: Path) -> None:
    schema = declare(tmp_path, SMOOTH, "smooth-map").model_json_schema()
    assert schema["title"] == "smooth-map"
    assert schema["description"] == "Smooth a map."
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["map"]
    assert schema["properties"]["fwhm"] == {
        "title": "Fwhm",
        "type": "number",
        "unit": "arcmin",
        "default": 5.0,
        "exclusiveMinimum": 0.0,
        "description": "Full width at half maximum.",
    }
    assert schema["properties"]["map"] == {"title": "Map", "type": "string", "format": "path"}
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize(
    ("value", "found"), [(7, 7.0), (7.5, 7.5), ("7 arcmin", 7.0), ("7arcmin", 7.0), (" .5e1  arcmin ", 5.0)]
)
def test_a_value_may_repeat_the_unit_of_its_field(tmp_path: Path, value: Any, found: float) -> None:
    workflow = built(declare(tmp_path, SMOOTH, "smooth-map"), map="/m", fwhm=value)
    assert workflow.own_fields() == {"fwhm": found, "map": "/m"}
    assert type(workflow.own_fields()["fwhm"]) is float


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("7 deg", "fwhm: the unit is arcmin: write a number, or \"5 arcmin\", got '7 deg'"),
        ("7", "fwhm: the unit is arcmin: write a number, or \"5 arcmin\", got '7'"),
        ("arcmin", "fwhm: the unit is arcmin: write a number, or \"5 arcmin\", got 'arcmin'"),
        ("nan arcmin", "fwhm: the unit is arcmin: write a number, or \"5 arcmin\", got 'nan arcmin'"),
        ("1e400 arcmin", "fwhm: write a finite number, got inf"),
        ("-1 arcmin", "fwhm: input should be greater than 0, got -1"),
        (0, "fwhm: input should be greater than 0, got 0"),
        (True, "fwhm: write a number, got true"),
        (float("nan"), "fwhm: write a finite number, got nan"),
        ([7], "fwhm: write a number, got [7]"),
    ],
)
def test_another_unit_or_a_value_out_of_bounds_is_refused(tmp_path: Path, value: Any, message: str) -> None:
    assert wrong_value(declare(tmp_path, SMOOTH, "smooth-map"), map="/m", fwhm=value) == message


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("type = 'bool'", True, True),
        ("type = 'int'", 5, 5),
        ("type = 'int', unit = 'mm'", "7 mm", 7),
        ("type = 'float'", 5, 5.0),
        ("doc = 'text is the default'", "a", "a"),
        ("type = 'path'", "/a/b", Path("/a/b")),
        ("type = 'size'", "8 GiB", 8 * 2**30),
        ("type = 'duration'", "5 min", timedelta(minutes=5)),
        ("type = 'query'", "pwv > 1", "pwv > 1"),
        ("type = 'list[bool]'", [True, False], (True, False)),
        ("type = 'list[int]'", [1, 2], (1, 2)),
        ("type = 'list[float]', unit = 'K', ge = 1", [1, "2.5 K"], (1.0, 2.5)),
        ("type = 'list[str]'", [], ()),
        ("type = 'list[path]'", ["/a"], (Path("/a"),)),
        ("type = 'list[size]'", ["1 kB"], (1000,)),
        ("type = 'list[duration]'", ["1 s"], (timedelta(seconds=1),)),
        ("type = 'list[query]'", ["a = 1"], ("a = 1",)),
        ("choices = ['a', 'b']", "b", "b"),
        ("type = 'int', choices = [1, 2], ge = 1, le = 2", 2, 2),
        ("type = 'float', choices = [1, 2.5]", 1, 1.0),
        ("type = 'size', choices = ['1 GiB']", "1024 MiB", 2**30),
        ("type = 'list[duration]', choices = ['1 min']", ["60 s"], (timedelta(minutes=1),)),
    ],
)
def test_every_type_takes_its_values(tmp_path: Path, field: str, value: Any, found: Any) -> None:
    workflow = built(with_field(tmp_path, field), v=value)
    assert getattr(workflow, "v") == found  # noqa: B009 - the class is made at run time
    assert type(getattr(workflow, "v")) is type(found)  # noqa: B009


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("type = 'bool'", 1, "v: write true or false, got 1"),
        ("type = 'bool'", "yes", "v: write true or false, got 'yes'"),
        ("type = 'int'", 5.0, "v: write a whole number, got 5.0"),
        ("type = 'int'", "5", "v: write a whole number, got '5'"),
        ("type = 'int'", True, "v: write a whole number, got true"),
        ("type = 'int', unit = 'mm'", "7.5 mm", "v: write a whole number, got 7.5"),
        ("type = 'int', lt = 3", 3, "v: input should be less than 3, got 3"),
        ("type = 'float'", "5", "v: write a number, got '5'"),
        ("type = 'str'", 5, "v: write text in quotes, got 5"),
        ("type = 'path'", 5, "v: write a path in quotes, got 5"),
        ("type = 'size'", 8, 'v: a size needs a number and a unit (write "8 GiB", not 8)'),
        ("type = 'duration'", 5, 'v: a time span needs a number and a unit (write "5 min", not 5)'),
        ("type = 'query'", "a >", "v: not an SQL condition: incomplete input in 'a >'"),
        ("type = 'list[int]'", [1, "x"], "v.1: write a whole number, got 'x'"),
        ("type = 'list[int]'", 3, "v: write a list, got 3"),
        ("type = 'list[str]'", "abc", "v: write a list, got 'abc'"),
        ("type = 'list[size]'", [1], 'v.0: a size needs a number and a unit (write "1 GiB", not 1)'),
        ("type = 'list[float]', gt = 0", [1, -1], "v.1: input should be greater than 0, got -1"),
        ("choices = ['corr', 'uncorr']", "cor", "v: choose one of 'corr', 'uncorr'; got 'cor'; did you mean 'corr'?"),
        ("type = 'int', choices = [1, 2]", 3, "v: choose one of 1, 2; got 3"),
        ("type = 'list[int]', choices = [1, 2]", [1, 3], "v.1: choose one of 1, 2; got 3"),
        ("type = 'size', choices = ['1 GiB']", "3 GiB", "v: choose one of '1 GiB'; got '3 GiB'; did you mean '1 GiB'?"),
        ("type = 'int', choices = [1, 2]", "a", "v: write a whole number, got 'a'"),
    ],
)
def test_every_type_refuses_what_is_not_its_own(tmp_path: Path, field: str, value: Any, message: str) -> None:
    assert wrong_value(with_field(tmp_path, field), v=value) == message


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("type = 'float', unit = 'arcmin', default = '5 arcmin'", 5.0),
        ("type = 'float', default = 5", 5.0),
        ("type = 'list[int]', default = [1, 2]", [1, 2]),
        ("type = 'size', default = '1 GiB'", 2**30),
        ("type = 'duration', default = '1 min'", 60.0),
        ("type = 'bool', default = false", False),
        ("type = 'str', default = ''", ""),
        ("type = 'str', choices = ['a'], default = 'a'", "a"),
    ],
)
def test_a_default_is_read_like_a_value(tmp_path: Path, field: str, found: Any) -> None:
    assert built(with_field(tmp_path, field)).own_fields() == {"v": found}


def test_a_default_path_starts_beside_the_file_that_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "template.fits").write_text("")
    assert built(with_field(tmp_path, "type = 'path', default = 'template.fits'")).own_fields() == {
        "v": str(tmp_path / "template.fits")
    }
    assert built(with_field(tmp_path, "type = 'list[path]', default = ['template.fits']")).own_fields() == {
        "v": [str(tmp_path / "template.fits")]
    }


def test_a_field_without_default_is_required(tmp_path: Path) -> None:
    assert wrong_value(with_field(tmp_path, "type = 'int'")) == "the required key 'v' is missing"


def test_choices_are_in_the_schema_as_they_are_written(tmp_path: Path) -> None:
    one = with_field(tmp_path, "type = 'duration', choices = ['1 min', '2 min'], default = '1 min'")
    assert one.model_json_schema()["properties"]["v"]["enum"] == ["1 min", "2 min"]
    many = with_field(tmp_path, "type = 'list[int]', unit = 'K', choices = [1, 2]")
    assert many.model_json_schema()["properties"]["v"] == {
        "title": "V",
        "type": "array",
        "unit": "K",
        "items": {"type": "integer", "enum": [1, 2]},
    }


def test_every_fault_of_every_field_is_reported_at_its_line(tmp_path: Path) -> None:
    text = """\
[kind.k]
command = ["x"]
fields.v1 = { type = "int", choices = ["a", 1] }
fields.v2 = { type = "int", default = "a" }
fields.v3 = { type = "list[int]", default = [1, "a"] }
fields.v4 = { type = "path", default = "knds.toml" }
fields.v5 = { type = "str", gt = 3 }
fields.v6 = { type = "bool", unit = "m" }
fields.v7 = { type = "integer" }
fields.v8 = { type = "path", choices = ["a"] }
fields.v9 = { type = "query", default = "a >" }
fields.v10 = { type = "float", default = 5, gt = 7 }
fields.v11 = { type = "str", choices = ["a"], default = "b" }
fields.v12 = { type = "list[path]", default = ["kinds.toml", "no.toml", 3] }
fields.kind = { type = "int" }
fields.resources = {}
fields.depends = {}
fields.model_dump = {}
fields.command_template = {}
fields._p = {}
fields."a b" = {}
fields."größe" = {}
fields.class = { type = "int", default = 1 }
fields.model_validate_x = { type = "int", default = 1 }
"""
    types = (
        "bool, duration, float, int, list[bool], list[duration], list[float], list[int], list[path], list[query], "
        "list[size], list[str], path, query, size, str"
    )
    taken = "this is a name every workflow has; choose another"
    letters = "cannot be a field; use letters, digits and underscores, a letter first"
    assert wrong_table(tmp_path, text) == [
        "kinds.toml:3: kind.k: fields.v1.choices: write a whole number, got 'a'",
        "kinds.toml:4: kind.k: fields.v2.default: write a whole number, got 'a'",
        "kinds.toml:5: kind.k: fields.v3.default.1: write a whole number, got 'a'",
        f"kinds.toml:6: kind.k: fields.v4.default: no such file: {tmp_path}/knds.toml; "
        "did you mean 'kinds.toml'?".replace(f"{tmp_path}/", ""),
        "kinds.toml:7: kind.k: fields.v5: gt is for numbers (int, float), not for str",
        "kinds.toml:8: kind.k: fields.v6: unit is for numbers (int, float), not for bool",
        f"kinds.toml:9: kind.k: fields.v7: unknown type 'integer'; allowed: {types}; did you mean 'int'?",
        "kinds.toml:10: kind.k: fields.v8: choices are not for paths",
        "kinds.toml:11: kind.k: fields.v9.default: not an SQL condition: incomplete input in 'a >'",
        "kinds.toml:12: kind.k: fields.v10.default: input should be greater than 7, got 5",
        "kinds.toml:13: kind.k: fields.v11.default: choose one of 'a'; got 'b'",
        "kinds.toml:14: kind.k: fields.v12.default.1: no such file: no.toml; did you mean 'kinds.toml'?",
        "kinds.toml:14: kind.k: fields.v12.default.2: write a path in quotes, got 3",
        f"kinds.toml:15: kind.k: fields.kind: {taken}",
        f"kinds.toml:16: kind.k: fields.resources: {taken}",
        f"kinds.toml:17: kind.k: fields.depends: {taken}",
        f"kinds.toml:18: kind.k: fields.model_dump: {taken}",
        f"kinds.toml:19: kind.k: fields.command_template: {taken}",
        f"kinds.toml:20: kind.k: fields._p: '_p' {letters}",
        f"kinds.toml:21: kind.k: fields.a b: 'a b' {letters}",
        f"kinds.toml:22: kind.k: fields.größe: 'größe' {letters}",
    ]


def test_every_fault_of_the_table_is_reported_though_parts_of_it_cannot_be_read(tmp_path: Path) -> None:
    text = """\
[kind.k]
command = ["{x}", "{fwh}", "output://w/y", "--a=file://kinds.tom", "./kinds.toml"]
fields.fwhm = { typ = "float" }
fields.lost = 3
fields.right = { type = "integer" }
resources = { memory = 8, memroy = 3, ranks = -1 }
outputs.a = "/x"
outputs.b = "../x"
metrics = "../m.json"
environment.A = 3
nix = 1
version = 2
outputs.c = "result.json"
outputs.d = "{fwhm}.fits"
environment."B=" = "file://nothing"
environment.C = "output://w/x"
"""
    inside = "is not inside the task's directory; write a relative path without '..'"
    found = wrong_table(tmp_path, text)
    assert sorted(found, key=lambda fault: int(fault.split(":")[1])) == [
        "kinds.toml:2: kind.k: command.3: no such file: kinds.tom; did you mean 'kinds.toml'?",
        "kinds.toml:2: kind.k: output://w/y: a kind knows no workflow; make it a field and let the campaign fill it",
        "kinds.toml:2: kind.k: nothing fills {fwh}; fields are: fwhm, lost, right; did you mean 'fwhm'?",
        "kinds.toml:2: kind.k: nothing fills {x}; fields are: fwhm, lost, right",
        "kinds.toml:3: kind.k: fields.fwhm: unknown key 'typ'; allowed: choices, default, doc, ge, gt, identity, le, "
        "lt, type, unit; did you mean 'type'?",
        "kinds.toml:4: kind.k: fields.lost: write a table, got 3",
        f"kinds.toml:5: kind.k: fields.right: {UNKNOWN_TYPE}",
        "kinds.toml:6: kind.k: resources.ranks: input should be greater than 0, got -1",
        'kinds.toml:6: kind.k: resources.memory: a size needs a number and a unit (write "8 GiB", not 8)',
        "kinds.toml:6: kind.k: resources: unknown key 'memroy'; allowed: gpu_memory, gpus, memory, ranks, runtime, "
        "threads; did you mean 'memory'?",
        f"kinds.toml:7: kind.k: outputs.a: the output '/x' {inside}",
        f"kinds.toml:8: kind.k: outputs.b: the output '../x' {inside}",
        f"kinds.toml:9: kind.k: metrics: the metrics file '../m.json' {inside}",
        "kinds.toml:10: kind.k: environment.A: write text in quotes, got 3",
        "kinds.toml:11: kind.k: unknown key 'nix'; allowed: command, doc, environment, fields, metrics, outputs, "
        "resources, restartable, version",
        "kinds.toml:12: kind.k: version: write text in quotes, got 2",
        "kinds.toml:13: kind.k: outputs.c: result.json is a file of ours; let the program write another",
        "kinds.toml:14: kind.k: outputs.d: nothing fills {fwhm} here; placeholders are for commands",
        "kinds.toml:15: kind.k: environment.B=: no such file: nothing",
        "kinds.toml:15: kind.k: environment.B=: a variable has a name without '=', and no NUL in it",
        "kinds.toml:16: kind.k: output://w/x: a kind knows no workflow; make it a field and let the campaign fill it",
    ]


UNKNOWN_TYPE = (
    "unknown type 'integer'; allowed: bool, duration, float, int, list[bool], list[duration], list[float], list[int], "
    "list[path], list[query], list[size], list[str], path, query, size, str; did you mean 'int'?"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[kind]\nk = 3\n", "kinds.toml:2: kind.k: write a table, got 3"),
        ("[[kind.k]]\n", "kinds.toml:1: kind.k: write a table, got [{}]"),
        ("[kind.k]\n", "kinds.toml:1: kind.k: the required key 'command' is missing"),
        ("[kind.k]\ncommand = []\n", "kinds.toml:2: kind.k: command: write at least 1 of them, got []"),
        ("[kind.k]\ncommand = ''\n", "kinds.toml:2: kind.k: command: write at least 1 of them, got []"),
        ("[kind.k]\ncommand = [1]\n", "kinds.toml:2: kind.k: command.0: write text in quotes, got 1"),
        ('[kind.k]\ncommand = "a \'b"\n', 'kinds.toml:2: kind.k: command: no closing quotation in "a \'b"'),
    ],
)
def test_a_table_without_a_command_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert wrong_table(tmp_path, text) == [message]


def test_a_command_may_be_one_string_and_its_lists_become_words(tmp_path: Path) -> None:
    kind = declare(
        tmp_path,
        "[kind.k]\ncommand = \"tool 'two words' {items} --all={items} ${HOME} {{x}}\"\n"
        "fields.items = { type = 'list[float]' }\nfields.flag = { type = 'bool', identity = false, default = true }",
    )
    argv = built(kind, items=[1, 2.5]).argv("t", Resources())
    assert argv == ("tool", "two words", "1.0", "2.5", "--all=1.0,2.5", "${HOME}", "{x}")


def test_words_that_name_files_beside_the_table_stand_for_them(tmp_path: Path) -> None:
    for name in ("tool.sh", "data.txt", "Makefile", "a,b"):
        (tmp_path / name).write_text(name)
    kind = declare(
        tmp_path,
        '[kind.k]\ncommand = ["tool.sh", "--in=file://data.txt", "Makefile", "file://Makefile", '
        '"no.txt", ".", "/bin/sh"]',
    )
    folder = str(tmp_path)
    assert built(kind).argv("t", Resources()) == (
        f"{folder}/tool.sh",
        f"--in={folder}/data.txt",
        "Makefile",
        f"{folder}/Makefile",
        "no.txt",
        ".",
        "/bin/sh",
    )
    assert kind.files == tuple(
        sorted((tmp_path / "tool.sh", tmp_path / "data.txt", tmp_path / "Makefile", Path("/bin/sh")))
    )


def test_variables_of_a_kind_may_be_files_beside_its_table(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("")
    kind = declare(tmp_path, '[kind.k]\ncommand = "x"\nenvironment = { DATA = "file://data.txt", PLAIN = "data.txt" }')
    assert built(kind).environment == {"DATA": f"{tmp_path}/data.txt", "PLAIN": "data.txt"}
    assert kind.files == (tmp_path / "data.txt",)


def test_a_program_by_its_absolute_path_belongs_to_the_machine(tmp_path: Path) -> None:
    kind = declare(tmp_path, '[kind.k]\ncommand = ["/bin/sh", "-c", "true"]')
    assert kind.files == ()
    assert built(kind).argv("t", Resources()) == ("/bin/sh", "-c", "true")


def test_words_too_long_for_a_file_name_are_words(tmp_path: Path) -> None:
    word = "print(1.0)\n" * 1000
    kind = declare(tmp_path, f"[kind.k]\ncommand = ['python', '-c', '''{word}''']")
    assert built(kind).argv("t", Resources()) == ("python", "-c", word)
