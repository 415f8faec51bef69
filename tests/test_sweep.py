"""The sweep language: every table gives the sets it says, in order."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.sweep import Exclusion, Sets, label_of, labels_of_sets, read_space, seed_of
from socm_like.sweep.samples import unit_points

HERE = Path()
PAGE = Path(__file__).parents[1] / "docs" / "sweeps.rst"


def sets(table: Mapping[str, Any], folder: Path = HERE) -> list[dict[str, Any]]:
    return read_space(table, folder).expand().sets


def column(axis: Any) -> list[Any]:
    return [values["x"] for values in sets({"x": axis})]


# Crossing


def test_axes_are_crossed_in_the_order_of_the_table_the_last_one_fastest() -> None:
    assert sets({"b": [1, 2], "a": ["x", "y"]}) == [
        {"b": 1, "a": "x"},
        {"b": 1, "a": "y"},
        {"b": 2, "a": "x"},
        {"b": 2, "a": "y"},
    ]


def test_every_word_of_the_language_takes_its_place() -> None:
    table = {
        "lr": [0.1],
        "model": {"width": [4, 8]},
        "axes": {"n": [1], "where": ["a"]},
        "zip": [{"p": [1, 2], "q": [3, 4]}],
        "list": [{"c": {"d": 5}}],
        "when": [{"if": "p == 1", "axes": {"r": [True, False]}}, {"if": "p == 1 and r", "axes": {"s": ["t"]}}],
        "derive": {"sum": "p + q", "twice": {"sum": "2 * sum"}},
        "where": "model.width == 4",
        "replicates": {"n": 1, "seed": "random_seed"},
    }
    space = read_space(table, HERE)
    assert space.names == ("lr", "model.width", "n", "where", "p", "q", "c.d", "r", "s", "sum", "twice.sum")
    assert space.expressions_read == {"p", "q", "r", "sum", "model.width"}
    assert (space.replicates, space.seed_key) == (1, "random_seed")
    assert (space.files, space.warnings) == ((), ())
    assert [space.origin(name) for name in ("model.width", "where", "p", "c.d", "s", "twice.sum")] == [
        ("model", "width"),
        ("axes", "where"),
        ("zip", 0, "p"),
        ("list", 0, "c", "d"),
        ("when", 1, "axes", "s"),
        ("derive", "twice", "sum"),
    ]
    common: dict[str, Any] = {"lr": 0.1, "model.width": 4, "n": 1, "where": "a"}
    expected: list[dict[str, Any]] = [
        {**common, "p": 1, "q": 3, "c.d": 5, "r": True, "s": "t", "sum": 4, "twice.sum": 8, "replicate": 0},
        {**common, "p": 1, "q": 3, "c.d": 5, "r": False, "sum": 4, "twice.sum": 8, "replicate": 0},
        {**common, "p": 2, "q": 4, "c.d": 5, "sum": 6, "twice.sum": 12, "replicate": 0},
    ]
    found = space.expand()
    assert found == Sets(expected, (Exclusion(("where",), "model.width == 4", 3),), 0)
    assert [list(values) for values in found.sets] == [list(values) for values in expected]


def test_a_sweep_without_axes_has_one_set_and_its_replicates() -> None:
    assert sets({"replicates": 2}) == [{"replicate": 0}, {"replicate": 1}]
    assert sets({"derive": {"x": "1 + 1"}}) == [{"x": 2}]


def test_names_of_enclosing_sweeps_can_be_read_and_are_not_given_again() -> None:
    table = {
        "a": [1, 2],
        "where": "a < seen",
        "derive": {"sum": "a + seen"},
        "union": [{"b": [1, 2], "where": "b == seen - 1"}],
    }
    space = read_space(table, HERE, ["seen"])
    assert space.expressions_read == {"a", "b", "seen"}
    assert space.expand({"seen": 2}).sets == [{"a": 1, "b": 1, "sum": 3}]
    assert space.expand({"seen": 3}).sets == [{"a": 1, "b": 2, "sum": 4}, {"a": 2, "b": 2, "sum": 5}]


def test_python_types_stand_for_the_values_they_hold() -> None:
    table = {"a": (1, 2), "b": np.array([0.5]), "c": [np.float64(1.0), np.int64(2)], "d": [Path("p/q")], "e": [-0.0]}
    found = sets(table)[1]
    assert found == {"a": 1, "b": 0.5, "c": 2.0, "d": "p/q", "e": 0.0}
    assert json.dumps(found) == '{"a": 1, "b": 0.5, "c": 2.0, "d": "p/q", "e": 0.0}'
    assert column([[(1, {"k": 0.5})]]) == [[[1, {"k": 0.5}]]]


def test_whole_numbers_beside_others_become_floats() -> None:
    assert list(map(repr, column([1, 2.5, 3]))) == ["1.0", "2.5", "3.0"]


# Ranges


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ({"min": 0.1, "max": 0.5, "n": 3, "scale": "linear"}, [0.1, 0.3, 0.5]),
        ({"min": 0.5, "max": 0.1, "step": 0.2}, [0.5, 0.3, 0.1]),
        ({"min": 1e-3, "max": 1e-1, "n": 3, "scale": "log"}, [0.001, 0.01, 0.1]),
        ({"min": 1, "max": 1e-4, "n": 5, "scale": "log"}, [1.0, 0.1, 0.01, 0.001, 0.0001]),
        ({"min": 1, "max": 9, "n": 5}, [1, 3, 5, 7, 9]),
        ({"min": 1, "max": 2, "n": 3}, [1.0, 1.5, 2.0]),
        ({"min": 1.0, "max": 3, "n": 3}, [1.0, 2.0, 3.0]),
        ({"min": 8, "max": 2, "step": 2}, [8, 6, 4, 2]),
        ({"min": 1, "max": 3, "n": 2, "type": "float"}, [1.0, 3.0]),
        ({"min": 1, "max": 100, "n": 3, "scale": "log", "type": "int"}, [1, 10, 100]),
        ({"min": 0.5, "max": 6.5, "n": 4, "type": "int"}, [0, 2, 4, 6]),
        ({"min": 4, "max": 4, "n": 1}, [4]),
        ({"min": 4, "max": 4, "n": 1, "scale": "log"}, [4.0]),
        ({"min": 4, "max": 4, "step": 1}, [4]),
        ({"min": 0.0, "max": -1, "n": 2}, [0.0, -1.0]),
    ],
)
def test_a_range_has_exact_values(axis: dict[str, Any], values: list[Any]) -> None:
    assert list(map(repr, column(axis))) == list(map(repr, values))


@given(st.decimals("-100", "100", places=3), st.integers(1, 40), st.decimals("0.001", "3", places=3))
def test_linear_steps_are_those_of_decimal_numbers(start: Any, n: int, step: Any) -> None:
    end = start + n * step
    expected = [float(start + index * step) + 0.0 for index in range(n + 1)]
    assert column({"min": float(start), "max": float(end), "n": n + 1}) == expected
    assert column({"min": float(start), "max": float(end), "step": float(step)}) == expected


@given(st.integers(-30, 30), st.integers(1, 30))
def test_decades_are_powers_of_ten(start: int, n: int) -> None:
    axis = {"min": float(f"1e{start}"), "max": float(f"1e{start + n}"), "n": n + 1, "scale": "log"}
    assert column(axis) == [float(f"1e{start + index}") for index in range(n + 1)]


def test_a_where_that_reads_no_computed_name_comes_before_the_computation() -> None:
    table = {"a": [0, 1, 2, 3], "derive": {"x": "6 // a"}, "where": ["x != 3", "a != 0", "x < 6"]}
    assert read_space(table, HERE).expand() == Sets(
        [{"a": 3, "x": 2}],
        (
            Exclusion(("where", 0), "x != 3", 1),
            Exclusion(("where", 1), "a != 0", 1),
            Exclusion(("where", 2), "x < 6", 1),
        ),
    )


def test_computed_whole_numbers_beside_others_become_floats() -> None:
    found = sets({"a": [1, 2], "derive": {"x": "a if a == 1 else a / 4", "y": "-0.0 * a"}})
    assert list(map(repr, (values[name] for values in found for name in "xy"))) == ["1.0", "0.0", "0.5", "0.0"]


# Unions


def test_equal_sets_of_a_union_count_once() -> None:
    table = {
        "union": [
            {"a": [1, 2], "b": [1]},
            {"b": [1], "a": [2.0, 3.0], "where": "a != 3", "derive": {"c": "2"}},
            {"a": [2, 5], "b": [1]},
        ],
        "d": [0, 1],
        "where": "a + d < 6",
    }
    space = read_space(table, HERE)
    assert space.names == ("a", "b", "c", "d")
    assert space.origin("c") == ("union", 1, "derive", "c")
    expected = [{"a": 1.0, "b": 1}, {"a": 2.0, "b": 1}, {"b": 1, "a": 2.0, "c": 2}, {"a": 5.0, "b": 1}]
    found = space.expand()
    assert found.sets == [{**values, "d": d} for values in expected for d in (0, 1)][:-1]
    assert found.repeated == 1
    assert [(exclusion.key, exclusion.count) for exclusion in found.excluded] == [
        (("union", 1, "where"), 1),
        (("where",), 1),
    ]


# Files


def test_a_point_file_gives_one_set_per_line(tmp_path: Path) -> None:
    text = '\ufeffflag, n,x.y,id,name\r\ntrue,1,1,007,"a, b"\r\n\r\nFalse,-2,2.5e0,12,nan\r\n'
    (tmp_path / "points.csv").write_text(text, newline="")
    space = read_space({"csv": "points.csv", "r": [0, 1], "union": [{"u": [1]}]}, tmp_path)
    first = {"flag": True, "n": 1, "x.y": 1.0, "id": "007", "name": "a, b"}
    second = {"flag": False, "n": -2, "x.y": 2.5, "id": "12", "name": "nan"}
    assert space.expand().sets == [{**row, "r": r, "u": 1} for row in (first, second) for r in (0, 1)]
    assert (space.files, space.origin("n")) == ((tmp_path / "points.csv",), ("csv",))


# Samples


DRAWN = {
    "beta": {"min": 1e-3, "max": 1, "scale": "log"},
    "k": {"min": 1, "max": 5, "type": "int"},
    "m": {"min": 1, "max": 100, "type": "int", "scale": "log"},
    "x": {"min": -0.5, "max": 2},
    "act": ["relu", "tanh"],
}


def drawn(method: str, n: int, **more: Any) -> list[dict[str, Any]]:
    return sets({"sample": {"method": method, "n": n, "axes": DRAWN, **more}})


@pytest.mark.parametrize("method", ["random", "latin-hypercube", "sobol"])
def test_samples_lie_in_their_ranges_and_depend_on_the_seed_only(method: str) -> None:
    found = drawn(method, 64, seed=3)
    assert found == drawn(method, 64, seed=3) != drawn(method, 64)
    assert len(found) == 64
    for values in found:
        assert 1e-3 <= values["beta"] <= 1
        assert -0.5 <= values["x"] <= 2
        assert 1 <= values["m"] <= 100
    assert {values["k"] for values in found} == {1, 2, 3, 4, 5}
    assert {values["act"] for values in found} == {"relu", "tanh"}
    assert {(type(values["beta"]), type(values["k"])) for values in found} == {(float, int)}


def test_sampled_values_are_these() -> None:
    sobol = {"beta": 0.007219506073024407, "k": 1, "m": 15, "x": 0.2171104452572763, "act": "tanh"}
    random = {"beta": 0.034313488579691624, "k": 5, "m": 1, "x": 1.8716236178431096, "act": "relu"}
    assert (drawn("sobol", 1, seed=1), drawn("random", 1, seed=1)) == ([sobol], [random])


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_more_samples_keep_those_that_were_there(method: str) -> None:
    assert drawn(method, 37)[:20] == drawn(method, 20)


def test_a_latin_hypercube_has_a_point_in_every_row_and_column() -> None:
    points = unit_points("latin-hypercube", 10, 2, 0)
    assert [sorted(int(10 * point[axis]) for point in points) for axis in (0, 1)] == [list(range(10))] * 2


def test_equal_samples_count_once() -> None:
    table = {"method": "sobol", "n": 16, "axes": {"k": {"min": 1, "max": 3, "type": "int"}, "flag": [True, False]}}
    found = read_space({"sample": [table]}, HERE).expand()
    assert sorted(map(label_of, found.sets)) == sorted(
        f"k={k},flag={flag}" for k in (1, 2, 3) for flag in ("true", "false")
    )
    assert found.repeated == 10


def test_a_sobol_sample_that_is_no_power_of_two_is_warned_about() -> None:
    sample = {"method": "sobol", "n": 6, "axes": {"x": [1, 2]}}
    assert read_space({"union": [{"sample": sample}]}, HERE).warnings == (
        "union.0.sample: 6 Sobol points are not evenly spread; they are when n is a power of two: write n = 4 or n = 8",
    )
    assert read_space({"sample": {**sample, "n": 8}}, HERE).warnings == ()


# Labels and seeds


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ({}, ""),
        ({"lr": 0.01, "layers": 2}, "lr=0.01,layers=2"),
        ({"x": 1 / 3, "y": 1e-9, "z": 2.0}, "x=0.333333,y=1e-09,z=2"),
        ({"path": "/data/map.fits", "folder": "a/b/", "flag": True}, "path=map.fits,folder=b,flag=true"),
        ({"hidden": [4, 4.0, [False]], "t": {"k": "a/b"}}, "hidden=[4,4,[false]],t={k=b}"),
    ],
)
def test_a_label_reads_well(values: dict[str, Any], label: str) -> None:
    assert label_of(values) == label


def test_labels_of_sets_are_distinct() -> None:
    third = {"x": 1 / 3}
    assert labels_of_sets([third, {"x": 0.3333333}, {"x": 0.5}]) == ["x=0.3333333333333333", "x=0.3333333", "x=0.5"]
    same = [{"f": "a/x"}, {"f": "b/x"}, {"f": "y"}]
    assert labels_of_sets(same) == ["f=x~0a34fbec", "f=x~7c0b476f", "f=y"]
    assert labels_of_sets([]) == []
    assert len(set(labels_of_sets([{"f": "x"}, {"f": "x"}]))) == 1


def test_a_label_that_is_no_name_is_cut_and_does_not_depend_on_the_other_sets() -> None:
    awkward: list[dict[str, Any]] = [{"l": [4, 4]}, {"t": "a\nb"}, {"s": "x" * 200}]
    labels = labels_of_sets(awkward)
    assert labels == ["l=4,4~be307a61", "t=ab~c2b4b7c0", f"s={'x' * 89}~660750a8"]
    assert labels == [labels_of_sets([values])[0] for values in awkward]


@given(st.lists(st.dictionaries(st.sampled_from("ab"), st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2), st.text("a/[~\n", max_size=3), st.booleans(),
    st.lists(st.integers(0, 1), max_size=2), st.text("x", min_size=98, max_size=102),
), min_size=1), max_size=8, unique_by=lambda values: json.dumps(values, sort_keys=True)))  # fmt: skip
def test_labels_are_distinct_and_fit_for_names(found: list[dict[str, Any]]) -> None:
    labels = labels_of_sets(found)
    assert len(set(labels)) == len(found)
    assert all(len(label) <= 100 and label.isprintable() and not set("[]/") & set(label) for label in labels)


def test_a_seed_depends_on_the_values_the_replicate_and_the_base_only() -> None:
    seed = seed_of({"a": 1, "b": 0.5}, 0)
    assert seed == seed_of({"b": 0.5, "a": 1}, 0) == 241106936
    others = [seed_of({"a": 1.0, "b": 0.5}, 0), seed_of({"a": 1, "b": 0.5}, 1), seed_of({"a": 1, "b": 0.5}, 0, 7)]
    assert len({seed, *others}) == 4
    assert all(0 <= seed_of({}, number) < 2**31 for number in range(1000))


def examples() -> list[str]:
    blocks = re.findall(r"^\.\. code-block:: toml\n\n((?:(?:   .*)?\n)+)", PAGE.read_text(), re.MULTILINE)
    return [dedent(block) for block in blocks]


@pytest.mark.parametrize("example", examples())
def test_every_example_of_the_page_is_a_sweep(example: str) -> None:
    assert read_space(tomllib.loads(example)["campaign"]["train"]["sweep"], HERE).expand().sets
