"""Sweeps against loops over everything, junk against the reader, and one table in several processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.sweep import SweepError, read_space

HERE = Path()


def sets(table: dict[str, Any]) -> list[dict[str, Any]]:
    return read_space(table, HERE).expand().sets


NAMES = ["a", "b", "c", "d", "e", "f"]
AXES = st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True)
COMPARISON = st.tuples(st.sampled_from(["<", "!=", ">="]), st.integers(0, 6))


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """Return a table with every kind of factor; a, b are axes, c, d are paired, e, f are listed."""
    parts: dict[str, Any] = {name: draw(AXES) for name in draw(st.sets(st.sampled_from("ab"), min_size=1))}
    if draw(st.booleans()):
        rows = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=3, unique=True))
        parts["zip"] = {"c": [c for c, _ in rows], "d": [d for _, d in rows]}
    if draw(st.booleans()):
        rows = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=3, unique=True))
        parts["list"] = [{"e": e, "f": f} for e, f in rows]
    if draw(st.booleans()):
        parts["union"] = [{"u": draw(AXES), "where": "u != 2"}, {"u": draw(AXES), "derive": {"v": "u * u"}}]
    table = {key: parts[key] for key in draw(st.permutations(sorted(parts)))}
    known = next(name for name in "ab" if name in table)
    if draw(st.booleans()):
        sign, number = draw(COMPARISON)
        table["when"] = [{"if": f"{known} {sign} {number}", "axes": {"g": draw(AXES), "h": draw(AXES)}}]
    if draw(st.booleans()):
        table["derive"] = {"s": f"{known} * 3 - 2", "t": "s // 2"}
    sign, number = draw(COMPARISON)
    table["where"] = [f"{known} {sign} {number}"] + (["t > 0"] if "derive" in table else [])
    return table


def brute_force(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sets of a table by loops over everything."""
    factors: list[list[dict[str, Any]]] = []
    for key, value in table.items():
        if key == "zip":
            factors.append([{"c": c, "d": d} for c, d in zip(value["c"], value["d"], strict=True)])
        elif key == "list":
            factors.append(value)
        elif key == "union":
            one = [{"u": u} for u in value[0]["u"] if u != 2]
            factors.append(one + [{"u": u, "v": u * u} for u in value[1]["u"]])
        elif key not in ("when", "derive", "where"):
            factors.append([{key: item} for item in value])
    found = []
    for parts in product(*factors):
        values = {name: value for part in parts for name, value in part.items()}
        extra: list[dict[str, Any]] = [{}]
        for when in table.get("when", []):
            if eval(when["if"], {}, dict(values)):
                extra = [{"g": g, "h": h} for g in when["axes"]["g"] for h in when["axes"]["h"]]
        for more in extra:
            whole = {**values, **more}
            for name, text in table.get("derive", {}).items():
                whole[name] = eval(text, {}, dict(whole))
            if all(eval(text, {}, dict(whole)) for text in table["where"]):
                found.append(whole)
    return found


@given(tables())
def test_any_table_is_its_nested_loops(table: dict[str, Any]) -> None:
    expected = brute_force(table)
    space = read_space(table, HERE)
    if not expected:
        with pytest.raises(SweepError, match="no combination is left"):
            space.expand()
        return
    found = space.expand()
    assert [list(values.items()) for values in found.sets] == [list(values.items()) for values in expected]
    assert {name for values in expected for name in values} <= set(space.names)


@given(tables(), st.integers(6, 9), st.integers(0, 3))
def test_a_new_value_on_an_axis_keeps_every_set_in_order(table: dict[str, Any], value: int, place: int) -> None:
    name = next(name for name in "ab" if name in table)
    grown = {**table, name: [*table[name][:place], value, *table[name][place:]]}
    old, new = (iter(brute_or_nothing(one)) for one in (table, grown))
    assert all(values in new for values in old)  # in order: the iterator goes on where it stopped


def brute_or_nothing(table: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        return sets(table)
    except SweepError:
        return []


JUNK_VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.dates(), st.binary(max_size=2),
        st.just(5000).map(lambda digits: 10**digits),
        st.sampled_from(["", "a < 1", "a", "x", "log", "int", "sobol", "random", "1 / a", "b.c", "\0", "\ud800"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=2).map(tuple),
        st.dictionaries(st.sampled_from(["a", "b", "min", "max", "n", "step", "scale", "type", "seed", "method", "axes",
                                         "if", "where", "zip", "list", "b.c", "", 3]), inner, max_size=4),
    ),
    max_leaves=12,
)  # fmt: skip
WORDS = ["a", "b", "axes", "zip", "list", "csv", "sample", "union", "when", "derive", "where", "replicates", 3]


@given(st.dictionaries(st.sampled_from(WORDS), JUNK_VALUES, max_size=6))
def test_no_table_raises_anything_but_a_sweep_error(table: Any) -> None:
    try:
        read_space(table, HERE).expand()
    except SweepError as error:
        assert error.faults


# Machines


PROGRAM = """
import json, sys, pathlib
from socm_like.sweep import labels_of_sets, read_space
space = read_space(json.loads(sys.argv[1]), pathlib.Path())
sets = space.expand().sets
print(json.dumps([sets, labels_of_sets(sets), space.names]))
"""


def test_two_processes_give_the_same_bytes(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    table = {
        "lr": {"min": 1e-3, "max": 0.7, "n": 5, "scale": "log"},
        "union": [{"b": [1, 2]}, {"c": [0.5], "b": [2, 3]}],
        "sample": {"method": "random", "n": 4, "axes": {"beta": {"min": 1e-3, "max": 1, "scale": "log"}}},
        "where": "b < 3",
    }
    first, second = (run_python(PROGRAM, json.dumps(table), PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first.stdout == second.stdout
    assert len(json.loads(first.stdout)[0]) == 60


def test_reading_a_sweep_imports_no_numerics(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    child = run_python("import sys, socm_like.sweep; print({'numpy', 'scipy'} & sys.modules.keys())")
    assert (child.stdout, child.stderr) == ("set()\n", "")


TIMED = """
import json, sys, time, pathlib
from socm_like.sweep import read_space
start = time.process_time()
found = read_space(json.loads(sys.argv[1]), pathlib.Path()).expand()
print(len(found.sets), time.process_time() - start)
"""


@pytest.mark.parametrize("more", [{}, {"where": "a < 100"}])
def test_a_hundred_thousand_combinations_take_less_than_half_a_second(
    run_python: Callable[..., subprocess.CompletedProcess[str]], more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # it would be measured too
    table = {"a": list(range(10)), "b": list(range(100)), "c": list(range(10)), "d": list(range(10)), **more}
    number, seconds = run_python(TIMED, json.dumps(table)).stdout.split()
    assert number == "100000"
    assert float(seconds) < 0.5
