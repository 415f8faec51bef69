"""Which parameter sets a table stands for: those of its own sweep, crossed with what it reads of its groups' sweeps.

A workflow reads a swept name when it is a key of its kind (``p0.b1`` is one inside a table), a placeholder in its
words, a key of its ``parameters``, or a name in the expressions of its own sweep. What it does not read makes no
tasks of it: sets that are equal in all it reads are one.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from socm_like.entry import Entry
from socm_like.reads import Reads
from socm_like.shared_sweeps import Layer, Shared, SharedSets, Tally, hashable
from socm_like.sweep import Sets, Space, Value, labels_of_sets, seed_of
from socm_like.workflow import Workflow

ABSENT = "no such parameter"
"""What a set that lacks a conditional name has for it; no value of a sweep compares equal, for they are tuples."""
REPLICATE = "replicate"


class Variation(NamedTuple):
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
    groups: SharedSets
    """The sweeps of the groups around it, crossed."""
    own: Layer | None = None
    """Its own sweep."""
    ancestors: Collection[str] | None = ()
    """Names that the tasks ``for_each`` leads here from were swept over; None when nobody knows."""

    def __post_init__(self) -> None:
        self.reads = Reads(self.kind, self.entry.values)
        self.place = self.reads.place
        self.tally = Tally(self.entry.name)
        """What its own sweep excludes."""
        self._own = self.own.space if self.own is not None else None
        self.read = {layer.sweep.owner: tuple(self._names_read(layer.space)) for layer in self.groups.layers}
        """Group -> the names of its sweep that this table reads."""
        read = [layer for layer in self.groups.layers if REPLICATE in self.read[layer.sweep.owner]]
        self._replicated = [*read, *([self.own] if self.own is not None and self.own.space.replicates else [])]
        """The sweeps whose replicates make tasks of this table."""
        self._group_choices: dict[tuple[Shared, ...], dict[tuple[Hashable, ...], list[Variation]]] = {}
        self._own_choices: dict[tuple[Hashable, ...], tuple[list[Variation], Sets]] = {}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The sweeps it is subject to, the outermost group's first."""
        return (*self.groups.layers, *([self.own] if self.own is not None else []))

    def problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield what is wrong with the sweeps of the table: names that nothing reads, or that mean the same key."""
        space = self._own
        if space is not None:
            for name in space.names:
                if name not in space.expressions_read and (problem := self.reads.problem(name)):
                    yield space.origin(name), problem
            if space.replicates and self.place(space.seed_key) is None:
                remedy = 'name the key that does: replicates = {n = 3, seed = "..."}'
                found = f"{self.entry.kind} does not read {space.seed_key!r}"
                yield ("replicates",), f"each replicate needs a seed, and {found}; {remedy}"
        if len(self._replicated) > 1:
            both = " and ".join(layer.sweep.owner for layer in self._replicated)
            yield ("replicates",), f"{both} have replicates, and {self.entry.name} reads both; write them once"
        yield from self._clashes()

    @property
    def names(self) -> tuple[str, ...]:
        """The names that tell the tasks of this table apart, seeds included."""
        shared = [name for names in self.read.values() for name in names if name != REPLICATE]
        own = [name for name in self._own.names if self.place(name)] if self._own else []
        seeds = [layer.space.seed_key for layer in self._replicated]
        return tuple(dict.fromkeys([*shared, *own, *(seed for seed in seeds if self.place(seed))]))

    def sets(self, bound: Mapping[Shared, Hashable], given: Mapping[str, Value]) -> Iterator[Variation]:
        """Yield the parameter sets of the table.

        ``bound`` is what the tasks ``for_each`` leads here from have of the shared sweeps, ``given`` the values these
        and their ancestors were swept over. Raises SweepError.
        """
        for group in self._chosen(bound):
            if self._own is None:
                yield group
                continue
            for own in self._own_sets(self._own, given, group.values):
                label = ",".join(part for part in (group.label, own.label) if part)
                yield Variation({**group.values, **own.values}, group.shared, label)

    def least_number(self, bound: Mapping[Shared, Hashable]) -> int:
        """Return how many sets there are, or, where the own sweep looks at what is around it, how many at least."""
        groups, own = len(self._chosen(bound)), self._own
        if not groups or own is None or own.replicates or not own.expressions_read.issubset(own.names):
            return groups
        return groups * len(self._own_sets(own, {}, {}))

    def of_ancestors(self, given: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
        """Yield the values of ancestors that placeholders of this table name, and it does not set itself."""
        stated = self.entry.values.get("parameters")
        for name, value in given.items():
            if self.reads.placeholder(name) and not (isinstance(stated, dict) and name in stated):
                yield name, value

    def any_given(self) -> dict[str, Value]:
        """Return some value for each name that may come from ancestors: theirs are not known."""
        return dict.fromkeys(self.reads.free if self.ancestors is None else self.ancestors, 0)

    def _names_read(self, space: Space) -> Iterator[str]:
        expressions = self._own.expressions_read if self._own is not None else frozenset()
        for name in space.names:
            if self.place(name) is not None or name in expressions:
                yield name
        if space.replicates and (self.place(space.seed_key) or self.place(REPLICATE)):
            yield REPLICATE

    def _clashes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield the names that would be put in one place, or one inside another."""
        placed: dict[tuple[str, ...], str] = {}
        for name in self.names:
            place = self.place(name)
            if place is None:
                continue
            if (whole := self._no_table(place)) and whole not in Workflow.model_fields:
                key = self._own.origin(name) if self._own is not None and name in self._own.names else ()
                yield key, f"{name!r} cannot be set: {whole} is no table"
            starts = (place[:length] for length in range(1, len(place) + 1))
            other = next((placed[start] for start in starts if start in placed), "")
            other = other or next((known for at, known in placed.items() if at[: len(place)] == place), "")
            if other:
                key = self._own.origin(name) if self._own is not None and name in self._own.names else ()
                yield key, f"{name!r} and {other!r} set the same key; write one of them"
            placed.setdefault(place, name)

    def _no_table(self, place: Sequence[str]) -> str:
        """Return which key around a place holds something else than a table, or an empty string."""
        values: Any = self.entry.values
        for length, key in enumerate(place[:-1], 1):
            values = values.get(key)
            if not isinstance(values, dict):
                return "" if values is None else ".".join(place[:length])
        return ""

    def _chosen(self, bound: Mapping[Shared, Hashable]) -> list[Variation]:
        """Return what this table reads of the groups' sets, of those that agree with what is bound."""
        if not self.groups.layers:
            return [NO_VARIATION]
        wanted = [(owner, name) for owner, names in self.read.items() for name in names]
        known = tuple(key for key in bound if any(key[0] == layer.sweep.owner for layer in self.groups.layers))
        if known not in self._group_choices:
            self._group_choices[known] = self._index(known, wanted)
        return self._group_choices[known].get(tuple(bound[key] for key in known), [])

    def _index(
        self, known: tuple[Shared, ...], wanted: Sequence[Shared]
    ) -> dict[tuple[Hashable, ...], list[Variation]]:
        """Return the sets projected to what is read, each once, by their values of the names that are bound."""
        found: dict[tuple[Hashable, ...], dict[tuple[Hashable, ...], dict[Shared, Value]]] = {}
        for combination in self.groups.sets:
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
                                     if (owner, name) in combination}),
                    dict(zip((*wanted, *known), (*projected, *here), strict=True)),
                    label,
                )
                for (projected, combination), label in zip(sets.items(), labels, strict=True)
            ]  # fmt: skip
        return index

    def _own_sets(self, space: Space, given: Mapping[str, Value], group: Mapping[str, Value]) -> list[Variation]:
        """Return what the table reads of the sets of its own sweep; they are the same for all unless they look out."""
        outer = {name: value for name, value in {**given, **group}.items() if name not in space.names}
        looks_at = tuple((name, hashable(outer[name])) for name in space.expressions_read if name in outer)
        if space.replicates and group:
            looks_at += tuple((name, hashable(value)) for name, value in group.items())
        if looks_at not in self._own_choices:
            found = space.replicated(outer)
            self.tally.add(found)
            self._own_choices[looks_at] = self._read_own(space, found.sets, group), found
        elif looks_at:
            self.tally.add(self._own_choices[looks_at][1])
        return self._own_choices[looks_at][0]

    def _read_own(self, space: Space, sets: list[dict[str, Value]], group: Mapping[str, Value]) -> list[Variation]:
        names = [name for name in space.names if self.place(name)] + [REPLICATE] * bool(space.replicates)
        if len(names) < len(space.names) + bool(space.replicates):
            distinct = {tuple(hashable(s[n]) if n in s else ABSENT for n in names): s for s in reversed(sets)}
            sets = [{n: s[n] for n in names if n in s} for s in reversed(distinct.values())]
            labels = labels_of_sets(sets)
        else:  # what is computed from the rest tells nothing apart
            derived = space.derived
            labels = labels_of_sets([{n: s[n] for n in s if n not in derived} for s in sets] if derived else sets)
        return [
            Variation(self._with_seed(values, group) if space.replicates else values, {}, label)
            for values, label in zip(sets, labels, strict=True)
        ]

    def _with_seed(self, values: dict[str, Value], group: Mapping[str, Value] | None = None) -> dict[str, Value]:
        """Return the values with the seed of their replicate, made from them and from nothing else."""
        replicate = values.get(REPLICATE)
        if not isinstance(replicate, int):
            return values
        key = self._replicated[-1].space.seed_key
        content = {name: value for name, value in values.items() if name != REPLICATE}
        kept = values if self.place(REPLICATE) else content
        if self.place(key) is None:
            return kept
        stated = self.entry.values.get("parameters")
        base = self.entry.values.get(key, stated.get(key) if isinstance(stated, dict) else None)
        return {**kept, key: seed_of({**(group or {}), **content}, replicate, base if isinstance(base, int) else None)}


def _key(combination: Mapping[Shared, Value], name: Shared) -> Hashable:
    return hashable(combination[name]) if name in combination else ABSENT
