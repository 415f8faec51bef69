"""Wrong sweep tables: everything that is wrong is said at once, with its place and what to write."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from socm_like.sweep import SweepError, read_space

HERE = Path()


def faults(table: Any, folder: Path = HERE, outer: tuple[str, ...] = ()) -> list[str]:
    """Return the faults of a table, one a line: of its reading, else of its expansion."""
    with pytest.raises(SweepError) as error:
        read_space(table, folder, outer).expand(dict.fromkeys(outer, 1))
    return str(error.value).splitlines()


RANGE = {"min": 1, "max": 2, "n": 2}


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({"min": 1, "n": 2}, "x: the required key 'max' is missing"),
        ({"min": "a", "max": 2, "n": 2}, "x.min: write a finite number, got 'a'"),
        ({"min": True, "max": 2, "n": 2}, "x.min: write a finite number, got true"),
        ({"min": 1, "max": float("inf"), "n": 2}, "x.max: write a finite number, got inf"),
        ({"min": 1, "max": 10**400, "n": 2}, f"x.max: write a finite number, got 1{'0' * 56}..."),
        ({**RANGE, "steps": 3}, "x.steps: unknown key 'steps'; allowed: max, min, n, scale, step, type; "
         "did you mean 'step'?"),
        ({**RANGE, "scale": "logg"}, "x.scale: write 'linear' or 'log', got 'logg'; did you mean 'log'?"),
        ({**RANGE, "type": 3}, "x.type: write 'int' or 'float', got 3"),
        ({"min": 1, "max": 2}, "x: write n, the number of values, or step, the distance between them; one of the two"),
        ({**RANGE, "step": 1}, "x: write n, the number of values, or step, the distance between them; one of the two"),
        ({**RANGE, "n": 0}, "x.n: write a whole number from 1 to 1000000, got 0"),
        ({**RANGE, "n": True}, "x.n: write a whole number from 1 to 1000000, got true"),
        ({**RANGE, "n": 200_000, "scale": "log"}, "x.n: write a whole number from 1 to 100000, got 200000"),
        ({**RANGE, "n": 1}, "x: n = 1 is for min = max, but min is 1 and max is 2"),
        ({"min": 2, "max": 2, "n": 3}, "x: min and max are both 2, which is 1 value, not 3"),
        ({"min": 0, "max": 2, "n": 3, "scale": "log"}, "x: a logarithmic range needs min and max above 0, got 0 and 2"),
        ({"min": 1, "max": 2, "step": 1, "scale": "log"}, "x.step: a logarithmic range has no step: "
         "write n, the number of values"),
        ({"min": 1, "max": 2, "step": -1}, "x.step: write a step above 0, also where max is below min; got -1"),
        ({"min": 1, "max": 2, "step": "a"}, "x.step: write a finite number, got 'a'"),
        ({"min": 0, "max": 1, "step": 0.3}, "x: a step of 0.3 does not divide 1, the distance from min to max; "
         "write n, the number of values, instead"),
        ({"min": 0, "max": 1, "step": 1e-7}, "x: a step of 1e-07 makes more than 1000000 values; write a longer one"),
        ({"min": 1, "max": 3, "n": 5, "type": "int"}, "x: 5 values, but only 3 of them are distinct; "
         "write a smaller n, or leave type = 'int' out"),
        ({"min": 1.0, "max": 1.0000000000000002, "n": 3}, "x: 3 values, but only 2 of them are distinct; "
         "write a smaller n"),
    ],
)  # fmt: skip
def test_a_wrong_range_says_what_to_write(axis: dict[str, Any], message: str) -> None:
    assert faults({"x": axis}) == [message]


# Faults of tables


LOOP: list[Any] = []
LOOP.append(LOOP)
DEEP: dict[str, Any] = {"a": [1]}
for _ in range(40):
    DEEP = {"b": DEEP}

ALLOWED_VALUES = "write true or false, a number, text in quotes, a list or a table"
AXIS = "write a list of values, or a range such as {min = 0, max = 1, n = 5}"
NAME = "write a name of letters, digits, _ and -, starting with a letter"
MOST = "a sweep tries at most 1000000: draw them, with sample, or list them"


@pytest.mark.parametrize(
    ("table", "messages"),
    [
        ({}, ["an empty sweep: write an axis, as in lr = [0.1, 0.2], got {}"]),
        (3, ["write an axis, as in lr = [0.1, 0.2], got 3"]),
        ({"x": []}, [f"x: {AXIS}, got []"]),
        ({"x": 3, "y": 4}, [f"x: {AXIS}, got 3", f"y: {AXIS}, got 4"]),
        ({"wher": "x < 1"}, ["wher: an axis is a list of values or a range, got 'x < 1'; did you mean 'where'?"]),
        ({"x": {}}, ["x: an empty table names no axis"]),
        ({"axes": 3}, ["axes: write a table of names, as in {a = ..., b = ...}, got 3"]),
        ({"x": {"y": {"z": 3}}}, [f"x.y.z: {AXIS}, got 3"]),
        ({"x": {1: [2]}}, [f"x.1: {NAME}; got 1"]),
        ({"a b": [2]}, [f"a b: {NAME}; got 'a b'"]),
        ({"x": DEEP}, [f"x.{'.'.join('b' * 31)}: tables nested more than 32 levels deep"]),
        ({"x": [1, "a"]}, ["x: all values are of one type, but 1 is a whole number and 'a' is text"]),
        ({"x": [1, 2.5, True]}, ["x: all values are of one type, but 1 is a whole number and true is true or false"]),
        ({"x": [[1], {"a": 1}]}, ["x: all values are of one type, but [1] is a list and {'a': 1} is a table"]),
        ({"x": [1.5, 10**400]}, ["x: a whole number beside numbers with a point is too large to be one"]),
        ({"x": [float("nan"), 1.0, float("-inf")]}, ["x.0: write finite numbers, got nan",
                                                    "x.2: write finite numbers, got -inf"]),
        ({"x": [1, 1.0]}, ["x.1: 1.0 is there already; write each value once"]),
        ({"x": [date(2026, 1, 2)]}, ["x.0: a date or time is no value: write it in quotes, as in '2026-01-02'"]),
        ({"x": [None]}, [f"x.0: {ALLOWED_VALUES}, got None"]),
        ({"x": [1 << 5000]}, ["x.0: a whole number of more than 4096 bits; write a smaller one"]),
        ({"x": 1 << 50000}, [f"x: {AXIS}, got a very large int"]),
        ({"x": LOOP}, ["x.0: nested more than 32 levels deep"]),
        ({"x": [{1: 2}]}, ["x.0: the keys of a table are text, got 1"]),
        ({"x": [1], "axes": {"x": [2]}}, ["axes.x: 'x' is defined twice: here and at x"]),
        ({"x": [1], "x.y": [2]}, ["x.y: 'x' and 'x.y' cannot both be defined: one is a part of the other"]),
        ({"x.y.z": [1], "x": [2]}, ["x: 'x' and 'x.y.z' cannot both be defined: one is a part of the other"]),
        ({"zip": {"x": [1], "y": [1, 2]}}, [
            "zip: paired axes have as many values as each other, but x has 1, y has 2"]),
        ({"zip": {"x": [1], "y": 3}}, [f"zip.y: {AXIS}, got 3"]),
        ({"zip": {"x": [1, 1], "y": [2, 2]}}, ["zip: set 2 is the same as set 1; write each once"]),
        ({"zip": [1]}, ["zip.0: write a table of names, as in {a = ..., b = ...}, got 1"]),
        ({"zip": 3}, ["zip: write a table, or a list of tables; an axis of this name is axes = {zip = [...]}; got 3"]),
        ({"list": 3}, ["list: write a list of sets, as in [{a = 1, b = 2}, {a = 3, b = 5}], got 3"]),
        ({"list": [{}, {"a": 1}]}, ["list.0: write a table of names, as in {a = ..., b = ...}, got {}"]),
        ({"list": [{"a": 1}, {}]}, ["list.1: write a table of names, as in {a = ..., b = ...}, got {}"]),
        ({"list": [{"a": 1, "b": 2}, {"a": 3, "c": 4}]}, [
            "list.1: all sets have the names of the first (a, b), but this one lacks b and has c"]),
        ({"list": [{"a": 1}, {"a": 3, "d": 2, "c": 4}]}, [
            "list.1: all sets have the names of the first (a), but this one has c, d"]),
        ({"list": [{"a.b": 1}, {"a.b": 3, "a": {"b": 4}}]}, [
            "list.1: all sets have the names of the first (a.b), but this one has a.b, a.b"]),
        ({"list": [{"a": 1}, {"a": "b"}]}, [
            "list.0.a: all values are of one type, but 1 is a whole number and 'b' is text"]),
        ({"list": [{"a": 1}, {"a": 1.0}]}, ["list.1: set 2 is the same as set 1; write each once"]),
        ({"csv": 3}, ["csv: write the path of a file in quotes; an axis of this name is axes = {csv = [...]}; got 3"]),
        ({"when": [3]}, ["when.0: write a table, as in {if = \"a == 1\", axes = {b = [2, 3]}}, got 3"]),
        ({"when": {"iff": "true"}}, ["when.iff: unknown key 'iff'; allowed: axes, if; did you mean 'if'?",
                                    "when: the required key 'if' is missing",
                                    "when: the required key 'axes' is missing"]),
        ({"when": {"if": "x", "axes": {"x": [1]}}, "derive": {"x": "1"}}, [
            "when.if: 'x': column 1: 'x' comes later; an expression reads what comes before it: none",
            "derive.x: 'x' is defined twice: here and at when.axes.x"]),
        ({"derive": {"x": "y", "y": "1"}}, [
            "derive.x: 'y': column 1: 'y' comes later; an expression reads what comes before it: none"]),
        ({"derive": {"x": 3}, "where": 4}, ["derive.x: write an expression in quotes, as in \"a < b\", got 3",
                                           "where: write an expression in quotes, as in \"a < b\", got 4"]),
        ({"x": [1], "where": ["x < y", "x > 0", "z"]}, [
            "where.0: 'x < y': column 5: no name 'y' here; known: x",
            "where.2: 'z': column 1: no name 'z' here; known: x"]),
        ({"replicates": 0}, ["replicates: write a whole number from 1 to 1000000, got 0"]),
        ({"replicates": {"n": "a"}}, ["replicates.n: write a whole number from 1 to 1000000, got 'a'"]),
        ({"replicates": {"m": 1, "seed": 3}}, ["replicates.m: unknown key 'm'; allowed: n, seed",
                                              "replicates: the required key 'n' is missing",
                                              "replicates.seed: write the name of a key in quotes, got 3"]),
        ({"seed": [1], "replicate": [2], "replicates": 3}, [
            "replicate: 'replicate' is the number of a replicate: give the axis another name",
            "seed: 'seed' is the seed of a replicate: give the axis another name, "
            "or write replicates = {n = ..., seed = \"another key\"}"]),
        ({"union": []}, ["union: write a list of blocks, as in [{a = [1, 2]}, {a = [5]}], got []"]),
        ({"union": [{"union": [], "replicates": 3}, {}, 3]}, [
            "union.0.union: a block of a union has no 'union': write it beside the union",
            "union.0.replicates: a block of a union has no 'replicates': write it beside the union",
            "union.1: an empty sweep: write an axis, as in lr = [0.1, 0.2], got {}",
            "union.2: write an axis, as in lr = [0.1, 0.2], got 3"]),
        ({"x": [1], "union": [{"y": [1]}, {"x": [1]}]}, ["union.1.x: 'x' is defined twice: here and at x"]),
        ({"union": [{"x": [1]}, {"x": ["a"]}]}, [
            "union: x: all values are of one type, but 1 is a whole number and 'a' is text"]),
        ({name: list(range(200)) for name in "abc"}, [f"8000000 combinations; {MOST}"]),
        ({"x": list(range(1001)), "when": {"if": "true", "axes": {"y": list(range(1000))}}}, [
            f"more than 1000000 combinations; {MOST}"]),
        ({"x": [1, 2], "replicates": 600_000}, [f"replicates: 1200000 combinations; {MOST}"]),
    ],
)  # fmt: skip
def test_a_wrong_table_says_everything_that_is_wrong(table: Any, messages: list[str]) -> None:
    assert faults(table) == messages


def test_the_names_of_an_enclosing_sweep_are_taken() -> None:
    assert faults({"x": [1], "m": {"k": [1]}, "replicates": 2}, outer=("x", "m", "seed")) == [
        "x: 'x' is set by the enclosing sweep already; give it another name",
        "m.k: 'm' and 'm.k' cannot both be defined: one is a part of the other",
        "replicates: 'seed' is the seed of a replicate: give the axis another name, "
        'or write replicates = {n = ..., seed = "another key"}',
    ]


def test_faults_keep_their_places() -> None:
    with pytest.raises(SweepError) as error:
        read_space({"zip": [{"x": [1, None]}], "y": 3}, HERE)
    assert error.value.faults == (
        (("zip", 0, "x", 1), f"{ALLOWED_VALUES}, got None"),
        (("y",), f"{AXIS}, got 3"),
    )


# Expressions in tables


REMEDY = "take such combinations out with where, or test first, as in: a / b if b != 0 else 0"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"derive": {"x": "1 / 0"}}, f"derive.x: '1 / 0' for the only combination: division by zero; {REMEDY}"),
        ({"a": [1], "b": [2, 0], "where": "a / b > 0"}, f"where: 'a / b > 0' for a=1,b=0: division by zero; {REMEDY}"),
        ({"a": ["x" * 300], "where": "a < 1"}, f"where: 'a < 1' for a={'x' * 195}...: '<' not supported between "
         f"instances of 'str' and 'int'; {REMEDY}"),
        ({"a": [1], "where": "a"}, "where: 'a' for a=1: gives 1; write a comparison, which is true or false"),
        ({"a": [1, 2], "when": [{"if": "a == 1", "axes": {"b": [True]}}], "where": ["b"]},
         "where.0: 'b' for a=2: there is no 'b' in this combination; test its condition first, as in: "
         "not (a == 1) or ..."),
        ({"a": [1, 2], "derive": {"x": "0 if a == 1 else 'b'"}},
         "derive.x: x: all values are of one type, but 0 is a whole number and 'b' is text"),
        ({"a": [1], "derive": {"x": "a * 1e308 * 10"}}, "derive.x: 'a * 1e308 * 10' for a=1: the result is not finite; "
         f"{REMEDY}"),
        ({"a": [[0] * 9000], "derive": {"x": "[a]", "y": "x"}, "when": {"if": "true", "axes": {"s": ["t" * 12000]}}},
         None),
        ({"s": ["t" * 12000], "derive": {"x": "s"}}, f"derive.x: 's' for s={'t' * 195}...: "
         "more than 10000 characters or values"),
        ({"a": [1, 2], "b": [1, 2], "where": ["a < b", "a != 1"]}, "no combination is left: where.0 ('a < b') took out "
         "3, where.1 ('a != 1') took out 1; loosen them"),
        ({"a": [1], "union": [{"b": [1], "where": "b > 1"}], "where": "a < 2"},
         "no combination is left: union.0.where ('b > 1') took out 1; loosen them"),
    ],
)  # fmt: skip
def test_an_expression_that_fails_names_itself_and_the_combination(table: Any, message: str | None) -> None:
    if message is None:
        assert len(read_space(table, HERE).expand().sets) == 1
    else:
        assert faults(table) == [message]


def test_a_name_that_the_enclosing_sweep_does_not_give_here_is_missing() -> None:
    with pytest.raises(SweepError) as error:
        read_space({"a": [1], "where": "a < z"}, HERE, ["z"]).expand()
    assert str(error.value) == (
        "where: 'a < z' for a=1: there is no 'z' in this combination; "
        "test its condition first, as in: not (cond) or ..."
    )


SAMPLE: dict[str, Any] = {"method": "random", "n": 2, "axes": {"x": {"min": 1, "max": 2}}}


@pytest.mark.parametrize(
    ("sample", "messages"),
    [
        (3, ["sample: write a table, or a list of tables; an axis of this name is axes = {sample = [...]}; got 3"]),
        ([3], ["sample.0: write a table, as in {method = 'sobol', n = 64, axes = {...}}, got 3"]),
        ({"nn": 3}, ["sample.nn: unknown key 'nn'; allowed: axes, method, n, seed; did you mean 'n'?",
                     "sample: the required key 'method' is missing", "sample: the required key 'n' is missing",
                     "sample: the required key 'axes' is missing"]),
        ({**SAMPLE, "method": "sobel"}, ["sample.method: write 'random' or 'latin-hypercube' or 'sobol', got 'sobel'; "
                                         "did you mean 'sobol'?"]),
        ({**SAMPLE, "n": 0}, ["sample.n: write a whole number from 1 to 1000000, got 0"]),
        ({**SAMPLE, "seed": -1}, ["sample.seed: write a whole number from 0 up, got -1"]),
        ({**SAMPLE, "axes": {}}, ["sample.axes: write a table of names, as in {a = ..., b = ...}, got {}"]),
        ({**SAMPLE, "axes": {"x": [1, 1], "y": []}}, ["sample.axes.x.1: 1 is there already; write each value once",
                                                     f"sample.axes.y: {AXIS}, got []"]),
        ({**SAMPLE, "n": 1_000_000, "axes": {f"x{i}": [1, 2] for i in range(11)}},
         ["sample: 1000000 points of 11 axes are too many: at most 1000 axes, and 10000000 numbers in all"]),
        ({**SAMPLE, "axes": {"x": {"min": 1}}}, ["sample.axes.x: the required key 'max' is missing"]),
        ({**SAMPLE, "axes": {"x": {"min": 1, "max": 2, "n": 3}}},
         ["sample.axes.x.n: unknown key 'n'; allowed: max, min, scale, type"]),
        ({**SAMPLE, "axes": {"x": {"min": 2, "max": 2}}},
         ["sample.axes.x: a range to draw from needs min below max, got 2 and 2"]),
        ({**SAMPLE, "axes": {"x": {"min": 0, "max": 2, "scale": "log"}}},
         ["sample.axes.x.min: a logarithmic range needs min above 0, got 0"]),
        ({**SAMPLE, "axes": {"x": {"min": 0.5, "max": 2, "type": "int"}}},
         ["sample.axes.x: type = 'int' needs whole numbers for min and max, got 0.5 and 2"]),
    ],
)  # fmt: skip
def test_a_wrong_sample_says_what_to_write(sample: Any, messages: list[str]) -> None:
    assert faults({"sample": sample}) == messages


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        (b"", ["csv: {path}: an empty file; write the names of the columns, and below them one line per set"]),
        (b"\n \n", ["csv: {path}: an empty file; write the names of the columns, and below them one line per set"]),
        (b"a,b\n", ["csv: {path}: no line below the names: write one line per set"]),
        (b"a,1b\n1,2\n", [f"csv: {{path}}:1: the first line names the columns; {NAME}; got '1b'"]),
        (b"a,a\n1,2\n", ["csv: 'a' is defined twice: here and at csv"]),
        (b"a,b\n1,2\n\n3\n4,5,6\n", ["csv: {path}:4: 1 cells, but the first line names 2 columns",
                                     "csv: {path}:5: 3 cells, but the first line names 2 columns"]),
        (b"a,b\n1,2\n3,\n,\n", ["csv: {path}:3: no value for 'b'; write one, or take the line out",
                                "csv: {path}:4: no value for 'a'; write one, or take the line out"]),
        (b"a\n1\n0.5\nnan\n1e999\n", ["csv: {path}:4: write finite numbers, got 'nan'",
                                      "csv: {path}:5: write finite numbers, got '1e999'"]),
        (b"a,b\n1,2\n1,3\n1,2\n", ["csv: {path}:4: the same set as in line 2; write each once"]),
        (b"a\n\"1\"2\n", ["csv: {path}:2: not a CSV file (',' expected after '\"')"]),
        (b"a\n\xff\n", ["csv: {path}: not UTF-8 text (byte 0xff at position 2); save the file as UTF-8"]),
    ],
)  # fmt: skip
def test_a_wrong_point_file_names_the_line(tmp_path: Path, content: bytes, messages: list[str]) -> None:
    path = tmp_path / "points.csv"
    path.write_bytes(content)
    assert faults({"csv": "points.csv"}, tmp_path) == [message.format(path=path) for message in messages]


def test_a_point_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert faults({"csv": "points.csv"}, tmp_path) == [f"csv: no such file: {tmp_path}/points.csv"]
    assert faults({"csv": "."}, tmp_path) == [f"csv: cannot read {tmp_path}: Is a directory"]
    assert faults({"csv": "/a\0"}, tmp_path) == ["csv: cannot read '/a\\x00': embedded null byte"]
