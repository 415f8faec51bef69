"""The words of a sweep table: from the table to the space it describes, all faults at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from socm_like.errors import suggest
from socm_like.sweep.axes import (
    Definitions,
    Leaf,
    as_list,
    is_axis,
    is_plain,
    leaves,
    read_axes,
    read_paired,
    read_rows,
)
from socm_like.sweep.expression import ExpressionError, Names, parse_expression
from socm_like.sweep.faults import Faults, KeyPath, named, shown
from socm_like.sweep.point_file import read_points
from socm_like.sweep.ranges import read_count
from socm_like.sweep.samples import read_sample
from socm_like.sweep.sets import Factor
from socm_like.sweep.space import Conditional, Rule, Space, Union

WORDS = ("axes", "zip", "list", "csv", "sample", "union", "when", "derive", "where", "replicates")
"""The words of the language; every other key of a table is an axis."""
_RULES = ("when", "derive", "where", "replicates")
_OF_WHOLE_SWEEP = ("union", "replicates")


def read_space(
    table: Mapping[str, Any], folder: Path, outer: Collection[str] = (), inherited: Collection[str] = ()
) -> Space:
    """Return the space that a sweep table describes.

    Point files are found from ``folder``. ``outer`` are the names that enclosing sweeps give to every set:
    expressions may read them, and nothing may define them again; those of ``inherited`` the table may define anew.
    Raises SweepError with all faults of the table.
    """
    faults = Faults()
    space = _Reading(folder, tuple(outer), tuple(inherited), faults).space(table)
    faults.check()
    return space


@dataclass
class _Reading:
    """One table as it is read: the whole sweep, or a block of its union."""

    folder: Path
    outer: tuple[str, ...]
    inherited: tuple[str, ...]
    faults: Faults
    at: KeyPath = ()
    files: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    factors: list[Factor] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)
    conditions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.definitions = Definitions(self.outer, self.faults)
        self.around = (*self.outer, *self.inherited)

    def space(self, table: Any) -> Space:
        """Return the space; what is wrong is in the faults."""
        if not isinstance(table, Mapping) or not table:
            found = f"write an axis, as in lr = [0.1, 0.2], got {shown(table)}"
            self.faults.add(self.at, f"an empty sweep: {found}" if isinstance(table, Mapping) else found)
            table = {}
        for word, value in table.items():
            if self.at and word in _OF_WHOLE_SWEEP:
                self.faults.add((*self.at, word), f"a block of a union has no {word!r}: write it beside the union")
            elif word not in _RULES:
                self.read_factors(word, value)
        computed = (
            list(leaves(table["derive"], (*self.at, "derive"), self.faults, is_plain)) if "derive" in table else []
        )
        later = [leaf.name for leaf in computed]
        conditionals = tuple(self.conditionals(table["when"], later)) if "when" in table else ()
        derived = tuple(self.derived(computed))
        wheres = tuple(self.wheres(table["where"])) if "where" in table else ()
        replicates, seed_key = 0, "seed"
        if "replicates" in table and not self.at:
            replicates, seed_key = self.replicates(table["replicates"])
        return Space(
            names=tuple(self.definitions.origins),
            expressions_read=frozenset(self.reads),
            replicates=replicates,
            seed_key=seed_key,
            files=tuple(dict.fromkeys(self.files)),
            warnings=tuple(self.warnings),
            _key=self.at,
            _origins=self.definitions.origins,
            _factors=tuple(self.factors),
            _conditionals=conditionals,
            _derived=derived,
            _wheres=wheres,
        )

    def read_factors(self, word: Any, value: Any) -> None:
        """Read one key of the table that is crossed with the others."""
        key = (*self.at, named(word))
        match word:
            case "axes":
                self.factors += read_axes(value, key, self.faults, self.definitions)
            case "zip":
                for place, table in self.tables(value, key):
                    self.factors += read_paired(table, place, self.faults, self.definitions)
            case "list":
                self.factors += read_rows(value, key, self.faults, self.definitions)
            case "csv":
                self.read_file(value, key)
            case "sample":
                for place, table in self.tables(value, key):
                    self.factors += read_sample(table, place, self.faults, self.definitions, self.warnings)
            case "union":
                self.read_union(value, key)
            case _:
                near = suggest(named(word), WORDS)
                if near and is_axis(value) and not as_list(value) and not isinstance(value, Mapping):
                    found = f"an axis is a list of values or a range, got {shown(value)}"
                    self.faults.add(key, f"{found}{near}")
                else:
                    self.factors += read_axes({word: value}, self.at, self.faults, self.definitions)

    def tables(self, value: Any, key: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
        """Yield the tables of a key that takes one or a list of them."""
        if isinstance(value, Mapping):
            yield key, value
        elif as_list(value):
            yield from (((*key, index), table) for index, table in enumerate(value))
        else:
            hint = f"an axis of this name is axes = {{{key[-1]} = [...]}}"
            self.faults.add(key, f"write a table, or a list of tables; {hint}; got {shown(value)}")

    def read_file(self, value: Any, key: KeyPath) -> None:
        """Read a point file."""
        if not isinstance(value, str | Path) or not value:
            hint = "an axis of this name is axes = {csv = [...]}"
            self.faults.add(key, f"write the path of a file in quotes; {hint}; got {shown(value)}")
            return
        path = self.folder / value
        self.files.append(path)
        self.factors += read_points(path, key, self.faults, self.definitions)

    def read_union(self, value: Any, key: KeyPath) -> None:
        """Read the blocks of a union; each has names of its own."""
        if not as_list(value):
            self.faults.add(key, f"write a list of blocks, as in [{{a = [1, 2]}}, {{a = [5]}}], got {shown(value)}")
        blocks = []
        origins: dict[str, KeyPath] = {}
        for index, table in enumerate(as_list(value)):
            block = _Reading(
                self.folder, self.outer, self.inherited, self.faults, (*key, index), self.files, self.warnings
            )
            space = block.space(table)
            blocks.append(space)
            self.reads |= space.expressions_read
            self.conditions |= block.conditions
            for name in space.names:
                origins.setdefault(name, space.origin(name))
        for name, place in origins.items():
            self.definitions.define(name, place)
        self.factors.append(Union(key, tuple(blocks)))

    def conditionals(self, value: Any, later: list[str]) -> Iterator[Conditional]:
        """Yield the conditional axes; each condition reads what stands before it."""
        key = (*self.at, "when")
        for place, table in self.tables(value, key):
            if not isinstance(table, Mapping):
                self.faults.add(
                    place, f'write a table, as in {{if = "a == 1", axes = {{b = [2, 3]}}}}, got {shown(table)}'
                )
                continue
            self.faults.check_keys(table, place, ("if", "axes"))
            for word in ("if", "axes"):
                if word not in table:
                    self.faults.add(place, f"the required key {word!r} is missing")
            known = list(self.definitions.origins)
            axes = read_axes(table["axes"], (*place, "axes"), self.faults, self.definitions) if "axes" in table else []
            names = Names(known, self.around, [*later, *self.definitions.origins])
            condition = self.rule((*place, "if"), table["if"], names) if "if" in table else None
            if condition:
                for axis in axes:
                    self.conditions.update(dict.fromkeys(axis.names, condition.expression.text))
                yield Conditional(condition, tuple(axes))

    def derived(self, computed: list[Leaf]) -> Iterator[tuple[str, Rule]]:
        """Yield the computed names, each with its rule; each reads what stands before it."""
        later = [leaf.name for leaf in computed]
        for leaf in computed:
            rule = self.rule(leaf.key, leaf.value, Names(list(self.definitions.origins), self.around, later))
            self.definitions.define(leaf.name, leaf.key)
            if rule:
                yield leaf.name, rule

    def wheres(self, value: Any) -> Iterator[Rule]:
        """Yield the rules that a combination must keep."""
        key = (*self.at, "where")
        rules = (
            [(key, value)]
            if not isinstance(value, list | tuple)
            else [((*key, index), text) for index, text in enumerate(value)]
        )
        for place, text in rules:
            rule = self.rule(place, text, Names(list(self.definitions.origins), self.around))
            if rule:
                yield rule

    def rule(self, key: KeyPath, text: Any, names: Names) -> Rule | None:
        """Return an expression of the table; None, and a fault, when it is none."""
        if not isinstance(text, str):
            self.faults.add(key, f'write an expression in quotes, as in "a < b", got {shown(text)}')
            return None
        try:
            expression = parse_expression(text, names)
        except ExpressionError as error:
            self.faults.add(key, f"{shown(text)}: {error}")
            return None
        self.reads |= expression.reads
        return Rule(key, expression, self.conditions)

    def replicates(self, value: Any) -> tuple[int, str]:
        """Return how many replicates of each set, and the key that takes their seed."""
        key = (*self.at, "replicates")
        table = value if isinstance(value, Mapping) else {"n": value}
        if not isinstance(value, Mapping):
            n = read_count({"replicates": value}, "replicates", self.at, self.faults)
        else:
            self.faults.check_keys(table, key, ("n", "seed"))
            n = read_count(table, "n", key, self.faults) if "n" in table else None
            if "n" not in table:
                self.faults.add(key, "the required key 'n' is missing")
        seed_key = table.get("seed", "seed")
        if not isinstance(seed_key, str) or not seed_key:
            self.faults.add((*key, "seed"), f"write the name of a key in quotes, got {shown(seed_key)}")
            seed_key = "seed"
        taken = {*self.definitions.origins, *self.outer}
        for name in sorted({"replicate", seed_key} & taken):
            what = "the number of a replicate" if name == "replicate" else "the seed of a replicate"
            rest = "" if name == "replicate" else ', or write replicates = {n = ..., seed = "another key"}'
            place = self.definitions.origins.get(name, key)
            self.faults.add(place, f"{name!r} is {what}: give the axis another name{rest}")
        return n or 0, seed_key
