"""Axes as they are written: lists, ranges, nested names, paired axes and rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from socm_like.errors import listed
from socm_like.sweep.faults import Faults, KeyPath, dotted, named, shown
from socm_like.sweep.ranges import is_range, read_range
from socm_like.sweep.sets import Sets
from socm_like.sweep.values import DEPTH, NoValueError, Value, first_repeated, of_one_type, plain

_NAME = re.compile(r"[^\W\d][\w-]*(?:\.[^\W\d][\w-]*)*")


@dataclass(frozen=True, slots=True)
class Points:
    """Names, and rows of their values: a plain axis has one name, paired axes and files have several."""

    names: tuple[str, ...]
    rows: Sequence[tuple[Value, ...]]

    def expand(self, outer: Mapping[str, Value]) -> Sets:  # noqa: ARG002 - points depend on nothing
        """Return one set per row."""
        return Sets([dict(zip(self.names, row, strict=True)) for row in self.rows])


class Leaf(NamedTuple):
    """One named thing of nested tables."""

    name: str
    key: KeyPath
    value: Any


class Definitions:
    """Where each name of a table is defined, each once."""

    def __init__(self, outer: Collection[str], faults: Faults) -> None:
        self.origins: dict[str, KeyPath] = {}
        self._faults = faults
        self._outer = frozenset(outer)
        self._prefixes: dict[str, str] = {}
        for name in outer:
            self._remember(name)

    def define(self, name: str, key: KeyPath) -> None:
        """Remember where a name is defined; a fault when it, or a part of it, already is."""
        starts = [name[: match.start()] for match in re.finditer(r"\.", name)]
        whole = next((other for other in starts if other in self._outer or other in self.origins), None)
        if name in self._outer:
            self._faults.add(key, f"{name!r} is set by the enclosing sweep already; give it another name")
        elif name in self.origins:
            self._faults.add(key, f"{name!r} is defined twice: here and at {dotted(self.origins[name])}")
        elif whole or name in self._prefixes:
            whole, part = (whole, name) if whole else (name, self._prefixes[name])
            self._faults.add(key, f"{whole!r} and {part!r} cannot both be defined: one is a part of the other")
        else:
            self.origins[name] = key
            self._remember(name)

    def _remember(self, name: str) -> None:
        for match in re.finditer(r"\.", name):
            self._prefixes.setdefault(name[: match.start()], name)


def as_list(value: Any) -> Sequence[Any]:
    """Return a list as TOML or Python write it; an empty one for what is no list."""
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    return value if isinstance(value, list | tuple) else ()


def leaves(table: Any, key: KeyPath, faults: Faults, is_leaf: Callable[[Any], bool]) -> Iterator[Leaf]:
    """Yield what nested tables hold, by dotted names: ``{model = {width = [4, 8]}}`` holds ``model.width``."""
    if not isinstance(table, Mapping) or not table:
        faults.add(key, f"write a table of names, as in {{a = ..., b = ...}}, got {shown(table)}")
        return
    yield from _leaves(Leaf("", key, table), faults, is_leaf)


def _leaves(parent: Leaf, faults: Faults, is_leaf: Callable[[Any], bool]) -> Iterator[Leaf]:
    if len(parent.key) > DEPTH:
        faults.add(parent.key[:DEPTH], f"tables nested more than {DEPTH} levels deep")
        return
    for word, value in parent.value.items():
        name = named(word)
        leaf = Leaf(f"{parent.name}.{name}" if parent.name else name, (*parent.key, name), value)
        if not isinstance(word, str) or not _NAME.fullmatch(word):
            faults.add(leaf.key, f"write a name of letters, digits, _ and -, starting with a letter; got {shown(word)}")
        elif is_leaf(value):
            yield leaf
        elif value:
            yield from _leaves(leaf, faults, is_leaf)
        else:
            faults.add(leaf.key, "an empty table names no axis")


def is_axis(value: Any) -> bool:
    """Whether a value is an axis, right or wrong, and not a table of axes."""
    return not isinstance(value, Mapping) or is_range(value)


def is_plain(value: Any) -> bool:
    """Whether a value is none of the tables that make dotted names."""
    return not isinstance(value, Mapping)


def read_axes(table: Any, key: KeyPath, faults: Faults, definitions: Definitions) -> list[Points]:
    """Return the axes of a table, one after the other; their values are distinct."""
    axes = []
    for leaf in leaves(table, key, faults, is_axis):
        definitions.define(leaf.name, leaf.key)
        values = read_values(leaf, faults)
        if values:
            check_distinct(leaf, values, faults)
            axes.append(Points((leaf.name,), [(value,) for value in values]))
    return axes


def read_values(leaf: Leaf, faults: Faults) -> list[Value] | None:
    """Return the values of an axis, of one type; None, and faults, when they cannot be read."""
    if is_range(leaf.value):
        return read_range(leaf.value, leaf.key, faults)
    found = as_list(leaf.value)
    if not found:
        allowed = "a list of values, or a range such as {min = 0, max = 1, n = 5}"
        faults.add(leaf.key, f"write {allowed}, got {shown(leaf.value)}")
        return None
    return read_column([((*leaf.key, index), value) for index, value in enumerate(found)], leaf.key, faults)


def read_column(cells: Sequence[tuple[KeyPath, Any]], key: KeyPath, faults: Faults) -> list[Value] | None:
    """Return values that belong to one name, of one type, given where each is written."""
    values = []
    for place, cell in cells:
        try:
            values.append(plain(cell))
        except NoValueError as error:
            faults.add(place, str(error))
    if len(values) < len(cells):
        return None
    try:
        return of_one_type(values)
    except NoValueError as error:
        faults.add(key, str(error))
        return None


def check_distinct(leaf: Leaf, values: Sequence[Value], faults: Faults) -> None:
    """Add a fault when an axis has a value twice."""
    repeated = first_repeated(values)
    if repeated:
        faults.add((*leaf.key, repeated[0]), f"{shown(values[repeated[0]])} is there already; write each value once")


def read_paired(table: Any, key: KeyPath, faults: Faults, definitions: Definitions) -> list[Points]:
    """Return paired axes as one factor: the first values of all, the second values of all, and so on."""
    columns: dict[str, list[Value]] = {}
    complete = True
    for leaf in leaves(table, key, faults, is_axis):
        definitions.define(leaf.name, leaf.key)
        values = read_values(leaf, faults)
        complete = complete and values is not None
        columns[leaf.name] = values or []
    if not complete or not columns:
        return []
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        faults.add(key, f"paired axes have as many values as each other, but {found}")
        return []
    rows = list(zip(*columns.values(), strict=True))
    check_rows(rows, [key] * len(rows), faults)
    return [Points(tuple(columns), rows)]


def check_rows(rows: Sequence[tuple[Value, ...]], keys: Sequence[KeyPath], faults: Faults) -> None:
    """Add a fault when two rows are equal."""
    repeated = first_repeated(rows)
    if repeated:
        index, before = repeated
        faults.add(keys[index], f"set {index + 1} is the same as set {before + 1}; write each once")


def read_rows(rows: Any, key: KeyPath, faults: Faults, definitions: Definitions) -> list[Points]:
    """Return explicit sets as one factor; all rows have the names of the first."""
    if not as_list(rows):
        faults.add(key, f"write a list of sets, as in [{{a = 1, b = 2}}, {{a = 3, b = 5}}], got {shown(rows)}")
        return []
    found = [list(leaves(row, (*key, index), faults, is_plain)) for index, row in enumerate(as_list(rows))]
    for leaf in found[0]:
        definitions.define(leaf.name, leaf.key)
    names = [leaf.name for leaf in found[0]]
    known = sorted(names)
    different = [index for index, row in enumerate(found) if sorted(leaf.name for leaf in row) != known]
    for index in different:
        if names and found[index]:  # else there is a fault already
            faults.add((*key, index), _difference(names, [leaf.name for leaf in found[index]]))
    if different or not names:
        return []
    cells = [{leaf.name: leaf for leaf in row} for row in found]
    columns = [
        read_column([(row[name].key, row[name].value) for row in cells], first.key, faults)
        for name, first in cells[0].items()
    ]
    complete = [column for column in columns if column is not None]
    if len(complete) < len(columns):
        return []
    values = list(zip(*complete, strict=True))
    check_rows(values, [(*key, index) for index in range(len(values))], faults)
    return [Points(tuple(cells[0]), values)]


def _difference(names: Collection[str], found: Sequence[str]) -> str:
    lacking, more = set(names) - set(found), set(found) - set(names)
    parts = [f"lacks {listed(lacking)}"] if lacking else []
    parts += [f"has {listed(more)}"] if more else []
    parts = parts or [f"has {listed(name for name in found if found.count(name) > 1)}"]
    return f"all sets have the names of the first ({listed(names)}), but this one {' and '.join(parts)}"
