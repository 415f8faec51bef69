"""Which parameter sets a table stands for: those of its own sweep, crossed with what it reads of its groups' sweeps.

A workflow reads a swept name when it is a key of its kind (``p0.b1`` is one inside a table), a placeholder in its
words, a key of its ``parameters``, or a name in the expressions of its own sweep. What it does not read makes no
tasks of it: sets that are equal in all it reads are one.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from socm_like.entry import Entry, SweepTable
from socm_like.identity import canonical
from socm_like.reads import Reads
from socm_like.sweep import Space, Value, labels_of_sets, seed_of
from socm_like.workflow import Workflow

Shared = tuple[str, str]
"""A name of a sweep that several workflows share: the group it stands in, and the name."""
ABSENT = "no such parameter"
"""What a set that lacks a conditional name has for it; no value of a sweep compares equal, for they are tuples."""
REPLICATE = "replicate"


@dataclass(frozen=True, slots=True)
class Layer:
    """One sweep, read."""

    sweep: SweepTable
    space: Space


@dataclass(frozen=True, slots=True)
class Variation:
    """One parameter set of one table."""

    values: Mapping[str, Value]
    """What the table reads of it."""
    shared: Mapping[Shared, Hashable]
    """What it has of the sweeps that others share: by this, tasks of one group find each other."""
    label: str


NO_VARIATION = Variation({}, {}, "")


@dataclass
class Variations:
    """The parameter sets of one table."""

    entry: Entry
    kind: type[Workflow]
    layers: Sequence[Layer]
    """The sweeps it is subject to, the outermost group's first."""
    ancestors: Collection[str] = ()
    """Names that the tasks ``for_each`` leads here from were swept over."""
    excluded: dict[str, int] = field(default_factory=dict)
    """Note on what a ``where`` took out, or a union had twice -> how many combinations."""

    def __post_init__(self) -> None:
        self.reads = Reads(self.kind, self.entry.values)
        self.place = self.reads.place
        own = self.entry.own_sweep is not None and bool(self.layers) and self.layers[-1].sweep is self.entry.own_sweep
        self._own = self.layers[-1].space if own else None
        self._groups = self.layers[:-1] if own else self.layers
        self.read = {layer.sweep.owner: tuple(self._names_read(layer.space)) for layer in self._groups}
        """Group -> the names of its sweep that this table reads."""
        self._group_choices: dict[tuple[Shared, ...], dict[tuple[Hashable, ...], list[Variation]]] = {}
        self._own_choices: list[Variation] | None = None
        self._combinations: list[dict[Shared, Value]] | None = None

    def problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield what is wrong with the table's own sweep: names that nothing reads."""
        space = self._own
        if space is None:
            return
        for name in space.names:
            if name not in space.expressions_read and (problem := self.reads.problem(name)):
                yield space.origin(name), problem
        if space.replicates and self.place(space.seed_key) is None:
            remedy = 'name the key that does: replicates = {n = 3, seed = "..."}'
            yield (
                ("replicates",),
                f"each replicate needs a seed, and {self.entry.kind} does not read {space.seed_key!r}; {remedy}",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The names that tell the tasks of this table apart, seeds included."""
        shared = [name for names in self.read.values() for name in names if name != REPLICATE]
        own = [name for name in self._own.names if self.place(name)] if self._own else []
        return tuple(dict.fromkeys([*shared, *own, *self._seed_keys()]))

    def sets(self, bound: Mapping[Shared, Hashable], given: Mapping[str, Value]) -> Iterator[Variation]:
        """Yield the parameter sets of the table.

        ``bound`` is what the tasks ``for_each`` leads here from have of the shared sweeps, ``given`` the values these
        and their ancestors were swept over. Raises SweepError.
        """
        for group in self._chosen(bound) if self._groups else (NO_VARIATION,):
            if self._own is None:
                yield group
                continue
            for own in self._own_sets(given, group.values):
                label = ",".join(part for part in (group.label, own.label) if part)
                yield Variation({**group.values, **own.values}, group.shared, label)

    def of_ancestors(self, given: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
        """Yield the values of ancestors that placeholders of this table name, and it does not set itself."""
        stated = self.entry.values.get("parameters", {})
        for name, value in given.items():
            if self.reads.placeholder(name) and name not in stated:
                yield name, value

    def _names_read(self, space: Space) -> Iterator[str]:
        expressions = self._own.expressions_read if self._own is not None else frozenset()
        for name in space.names:
            if self.place(name) is not None or name in expressions:
                yield name
        if space.replicates and (self.place(space.seed_key) or self.place(REPLICATE)):
            yield REPLICATE

    def _seed_keys(self) -> list[str]:
        spaces = [layer.space for layer in self._groups if REPLICATE in self.read[layer.sweep.owner]]
        spaces += [self._own] if self._own is not None and self._own.replicates else []
        return [space.seed_key for space in spaces]

    def _chosen(self, bound: Mapping[Shared, Hashable]) -> list[Variation]:
        """Return what this table reads of the groups' sets, of those that agree with what is bound."""
        wanted = [(owner, name) for owner, names in self.read.items() for name in names]
        known = tuple(key for key in bound if any(key[0] == layer.sweep.owner for layer in self._groups))
        if known not in self._group_choices:
            self._group_choices[known] = self._index(known, wanted)
        return self._group_choices[known].get(tuple(bound[key] for key in known), [])

    def _index(
        self, known: tuple[Shared, ...], wanted: Sequence[Shared]
    ) -> dict[tuple[Hashable, ...], list[Variation]]:
        """Return the sets projected to what is read, each once, by their values of the names that are bound."""
        found: dict[tuple[Hashable, ...], dict[tuple[Hashable, ...], dict[Shared, Value]]] = {}
        for combination in self._all_combinations():
            here = tuple(_key(combination, name) for name in known)
            projected = tuple(_key(combination, name) for name in wanted)
            found.setdefault(here, {}).setdefault(projected, combination)
        index = {}
        for here, sets in found.items():
            fresh = [key for key in wanted if key not in known]
            texts = [{name: combination[owner, name] for owner, name in fresh if (owner, name) in combination}
                     for combination in sets.values()]  # fmt: skip
            labels = labels_of_sets(texts) if len(texts) > 1 or texts[0] else [""]
            index[here] = [
                Variation(
                    self._with_seed({name: combination[owner, name] for owner, name in wanted
                                     if (owner, name) in combination}, [layer.space for layer in self._groups]),
                    dict(zip((*wanted, *known), (*projected, *here), strict=True)),
                    label,
                )
                for (projected, combination), label in zip(sets.items(), labels, strict=True)
            ]  # fmt: skip
        return index

    def _all_combinations(self) -> list[dict[Shared, Value]]:
        """Return the sets of all groups' sweeps, crossed, the innermost fastest."""
        combinations: list[dict[Shared, Value]] = [{}]
        for layer in self._groups:
            crossed: list[dict[Shared, Value]] = []
            for outer in combinations:
                sets = layer.space.expand({name: value for (_, name), value in outer.items()})
                self._note(layer, sets.excluded, sets.repeated)
                named = ({(layer.sweep.owner, name): value for name, value in inner.items()} for inner in sets.sets)
                crossed.extend({**outer, **inner} for inner in named)
            combinations = crossed
        return combinations

    def _own_sets(self, given: Mapping[str, Value], group: Mapping[str, Value]) -> list[Variation]:
        """Return what the table reads of the sets of its own sweep; they are the same for all unless they look out."""
        assert self._own is not None
        outer = {name: value for name, value in {**given, **group}.items() if name not in self._own.names}
        depends = not self._own.expressions_read.isdisjoint(outer) or (self._own.replicates and bool(outer))
        if depends or self._own_choices is None:
            choices = self._read_own(outer, group)
            if depends:
                return choices
            self._own_choices = choices
        return self._own_choices

    def _read_own(self, outer: Mapping[str, Value], group: Mapping[str, Value]) -> list[Variation]:
        space = self._own
        assert space is not None
        found = space.expand(outer)
        self._note(self.layers[-1], found.excluded, found.repeated)
        names = [name for name in space.names if self.place(name)] + [REPLICATE] * bool(space.replicates)
        sets = found.sets
        if len(names) < len(space.names) + bool(space.replicates):
            distinct = {tuple(_hashable(s[n]) if n in s else ABSENT for n in names): s for s in reversed(found.sets)}
            sets = [{n: s[n] for n in names if n in s} for s in reversed(distinct.values())]
        labels = labels_of_sets(sets)
        return [
            Variation(self._with_seed(values, [space], group) if space.replicates else values, {}, label)
            for values, label in zip(sets, labels, strict=True)
        ]

    def _with_seed(
        self, values: dict[str, Value], spaces: Iterable[Space], group: Mapping[str, Value] | None = None
    ) -> dict[str, Value]:
        """Return the values with the seed of their replicate, made from them and from nothing else."""
        replicate = values.get(REPLICATE)
        if not isinstance(replicate, int):
            return values
        key = next(space.seed_key for space in spaces if space.replicates)
        content = {name: value for name, value in values.items() if name != REPLICATE}
        kept = values if self.place(REPLICATE) else content
        if self.place(key) is None:
            return kept
        base = self.entry.values.get(key, self.entry.values.get("parameters", {}).get(key))
        return {**kept, key: seed_of({**(group or {}), **content}, replicate, base if isinstance(base, int) else None)}

    def _note(self, layer: Layer, excluded: Iterable[Any], repeated: int) -> None:
        owner = layer.sweep.owner
        for exclusion in excluded:
            note = f"{owner}: where {exclusion.expression!r} takes out"
            self.excluded[note] = self.excluded.get(note, 0) + exclusion.count
        if repeated:
            note = f"{owner}: equal sets count once, which takes out"
            self.excluded[note] = self.excluded.get(note, 0) + repeated


def _key(combination: Mapping[Shared, Value], name: Shared) -> Hashable:
    return _hashable(combination[name]) if name in combination else ABSENT


def _hashable(value: Value) -> Hashable:
    return (value,) if isinstance(value, bool | int | float | str) else (canonical(value), None)
