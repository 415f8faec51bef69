"""A parameter space: factors that are crossed, then conditional axes, exclusions, computed names and replicates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any

from socm_like.identity import canonical
from socm_like.sweep.arithmetic import bounded
from socm_like.sweep.expression import FAILURES, Expression
from socm_like.sweep.faults import KeyPath, SweepError, dotted, shown
from socm_like.sweep.labels import label_of
from socm_like.sweep.ranges import MOST
from socm_like.sweep.sets import NOTHING, Exclusion, Factor, Sets
from socm_like.sweep.values import NoValueError, Value, of_one_type, plain

Combination = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Rule:
    """An expression of the table, and where it stands."""

    key: KeyPath
    expression: Expression
    conditions: Mapping[str, str]
    """Conditional names -> when they exist, for the message about a combination that lacks one."""

    def value(self, values: Mapping[str, Value], outer: Mapping[str, Value]) -> Any:
        """Return what the expression gives; SweepError, naming the combination, when it cannot be computed."""
        try:
            return self.expression.compute(values, outer)
        except FAILURES as error:
            raise self.fault(values, outer, self._reason(error)) from error

    def holds(self, values: Mapping[str, Value], outer: Mapping[str, Value]) -> bool:
        """Whether the expression is true; SweepError when it is neither true nor false."""
        found = self.value(values, outer)
        if found is True or found is False:
            return found
        raise self.fault(values, outer, f"gives {shown(found)}; write a comparison, which is true or false")

    def fault(self, values: Mapping[str, Value], outer: Mapping[str, Value], reason: str) -> SweepError:
        """Return what to raise when the expression fails for a combination."""
        label = label_of({**outer, **values}) or "the only combination"
        where = label if len(label) <= 200 else f"{label[:197]}..."
        return SweepError([(self.key, f"{self.expression.text!r} for {where}: {reason}")])

    def _reason(self, error: Exception) -> str:
        if not isinstance(error, KeyError):
            return f"{error}; take such combinations out with where, or test first, as in: a / b if b != 0 else 0"
        name = error.args[0]
        condition = self.conditions.get(name, "cond")
        remedy = f"test its condition first, as in: not ({condition}) or ..."
        return f"there is no {name!r} in this combination; {remedy}"


@dataclass(frozen=True, slots=True)
class Conditional:
    """Axes that exist only where a condition is true."""

    condition: Rule
    axes: tuple[Factor, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """Whole blocks, one after the other; equal sets count once."""

    key: KeyPath
    blocks: tuple[Space, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of any block."""
        return tuple(dict.fromkeys(name for block in self.blocks for name in block.names))

    def expand(self, outer: Mapping[str, Value]) -> Sets:
        """Return the sets of all blocks, the first of equal ones."""
        parts = [block.combinations(outer) for block in self.blocks]
        sets = [values for part in parts for values in part.sets]
        _check_number(self.key, len(sets))
        for name in self.names:
            _give_one_type(self.key, name, [values for values in sets if name in values])
        distinct: dict[str, Combination] = {}
        for values in sets:
            distinct.setdefault(canonical(values), values)
        repeated = sum(part.repeated for part in parts) + len(sets) - len(distinct)
        excluded = tuple(exclusion for part in parts for exclusion in part.excluded)
        return Sets(list(distinct.values()), excluded, repeated)


@dataclass(frozen=True, eq=False)
class Space:
    """What a sweep table describes; :meth:`expand` gives its parameter sets."""

    names: tuple[str, ...]
    """Every name that a set can have, in order of declaration, without ``replicate``."""
    expressions_read: frozenset[str]
    """The names that ``where``, ``derive`` and ``when`` read, those of enclosing sweeps too."""
    replicates: int
    """How many of each set; 0 when not asked for."""
    seed_key: str
    """The key that takes a replicate's seed."""
    files: tuple[Path, ...]
    """The point files that were read."""
    warnings: tuple[str, ...]
    _key: KeyPath = field(repr=False)
    _origins: Mapping[str, KeyPath] = field(repr=False)
    _factors: tuple[Factor, ...] = field(repr=False)
    _conditionals: tuple[Conditional, ...] = field(repr=False)
    _derived: tuple[tuple[str, Rule], ...] = field(repr=False)
    _wheres: tuple[Rule, ...] = field(repr=False)

    @property
    def derived(self) -> frozenset[str]:
        """The names that are computed from the others."""
        return frozenset(name for name, _ in self._derived)

    def origin(self, name: str) -> KeyPath:
        """Return where in the table a name is defined, for the names of a union the first place."""
        return self._origins[name]

    def expand(self, outer: Mapping[str, Value] = NOTHING) -> Sets:
        """Return the parameter sets, given the values that enclosing sweeps set.

        Factors are crossed in the order of the table, the last fastest; conditional axes go faster, replicates
        fastest. Raises SweepError when an expression cannot be computed, when nothing is left, or too much.
        """
        found = self.replicated(outer)
        if not found.sets:
            raise SweepError([(self._key, nothing_left(found.excluded))])
        return found

    def replicated(self, outer: Mapping[str, Value]) -> Sets:
        """Return the same, but there may be none."""
        found = self.combinations(outer)
        if not self.replicates:
            return found
        _check_number((*self._key, "replicates"), len(found.sets) * self.replicates)
        sets = [{**values, "replicate": number} for values in found.sets for number in range(self.replicates)]
        return Sets(sets, found.excluded, found.repeated)

    def combinations(self, outer: Mapping[str, Value]) -> Sets:
        """Return the sets without replicates; there may be none."""
        parts = [factor.expand(outer) for factor in self._factors]
        excluded = [exclusion for part in parts for exclusion in part.excluded]
        _check_number(self._key, math.prod(len(part.sets) for part in parts))
        crossed: Iterable[Combination] = map(_merged, product(*(part.sets for part in parts)))
        for conditional in self._conditionals:
            crossed = _with_axes(crossed, conditional, outer)
        counts = [0] * len(self._wheres)
        derived = self.derived
        early = [index for index, where in enumerate(self._wheres) if derived.isdisjoint(where.expression.reads)]
        late = [index for index in range(len(counts)) if index not in early]
        sets = list(self._kept(self._counted(crossed), early, counts, outer))
        for name, rule in self._derived:
            _derive(sets, name, rule, outer)
        sets = list(self._kept(sets, late, counts, outer))
        excluded += [
            Exclusion(where.key, where.expression.text, count)
            for where, count in zip(self._wheres, counts, strict=True)
        ]
        return Sets(sets, tuple(excluded), sum(part.repeated for part in parts))

    def _counted(self, combinations: Iterable[Combination]) -> Iterator[Combination]:
        yield from islice(combinations := iter(combinations), MOST)
        _check_number(self._key, MOST + sum(1 for _ in islice(combinations, 1)))

    def _kept(
        self, sets: Iterable[Combination], wheres: list[int], counts: list[int], outer: Mapping[str, Value]
    ) -> Iterator[Combination]:
        """Yield the sets for which every ``where`` holds; count the others at the first that fails."""
        rules = [(index, self._wheres[index]) for index in wheres]
        for values in sets:
            for index, rule in rules:
                if not rule.holds(values, outer):
                    counts[index] += 1
                    break
            else:
                yield values


def _merged(parts: tuple[Combination, ...]) -> Combination:
    values: Combination = {}
    for part in parts:
        values.update(part)
    return values


def _with_axes(
    combinations: Iterable[Combination], conditional: Conditional, outer: Mapping[str, Value]
) -> Iterator[Combination]:
    axes = [axis.expand(outer).sets for axis in conditional.axes]
    for values in combinations:
        if conditional.condition.holds(values, outer):
            for parts in product(*axes):
                yield _merged((values, *parts))
        else:
            yield values


def _derive(sets: list[Combination], name: str, rule: Rule, outer: Mapping[str, Value]) -> None:
    """Give every set a computed name; SweepError when its values are not of one type."""
    for values in sets:
        try:
            values[name] = plain(bounded(rule.value(values, outer)))
        except FAILURES as error:
            raise rule.fault(values, outer, str(error)) from error
    _give_one_type(rule.key, name, sets)


def _give_one_type(key: KeyPath, name: str, sets: list[Combination]) -> None:
    """Make whole numbers floats where a name has both; SweepError for any other mixture."""
    if len({type(values[name]) for values in sets}) <= 1:
        return
    try:
        for values, value in zip(sets, of_one_type([values[name] for values in sets]), strict=True):
            values[name] = value
    except NoValueError as error:
        raise SweepError([(key, f"{name}: {error}")]) from error


def _check_number(key: KeyPath, number: int) -> None:
    if number > MOST:
        found = f"{number} combinations" if number > MOST + 1 else f"more than {MOST} combinations"
        raise SweepError([(key, f"{found}; a sweep tries at most {MOST}: draw them, with sample, or list them")])


def nothing_left(excluded: Iterable[Exclusion]) -> str:
    """Return the message about a sweep of which nothing is left."""
    counts = [
        f"{dotted(exclusion.key)} ({exclusion.expression!r}) took out {exclusion.count}"
        for exclusion in excluded
        if exclusion.count
    ]
    return f"no combination is left: {', '.join(counts)}; loosen them"
