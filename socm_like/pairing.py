"""Which tasks belong together: those that agree in every ancestor and every shared parameter that both have."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from socm_like.shared_sweeps import Shared
from socm_like.sweep import MOST, Value
from socm_like.task import Task


class Instance(NamedTuple):
    """A task, with what tells which others it belongs to."""

    task: Task
    parts: tuple[str, ...]
    """Its label, one part per table that contributed."""
    bound: Mapping[str, Instance]
    """Workflow -> the one task of it that ``for_each`` led here from."""
    shared: Mapping[Shared, Hashable]
    """What it has of the sweeps of groups."""
    given: Mapping[str, Value]
    """The values it and its ancestors were swept over, its own first."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a table is read once: for one set of tasks of the workflows its ``for_each`` names."""

    parts: tuple[str, ...] = ()
    bound: Mapping[str, Instance] = field(default_factory=dict)
    shared: Mapping[Shared, Hashable] = field(default_factory=dict)
    given: Mapping[str, Value] = field(default_factory=dict)


Key = str | Shared


class TooManyError(ValueError):
    """More tasks belong together than a sweep may have combinations."""


def readings(sources: Iterable[tuple[str, Sequence[Instance]]]) -> list[Reading]:
    """Return one reading per task of a source; of several sources, per set of tasks that belong together.

    Raises TooManyError.
    """
    rows = [Reading()]
    for name, instances in sources:
        index = Index(name, instances)
        number = sum(len(index.matching(row.bound, row.shared)) for row in rows)
        if number > MOST:
            raise TooManyError(f"{number} tasks belong together, {MOST} at most")
        rows = [_joined(row, name, instance) for row in rows for instance in index.matching(row.bound, row.shared)]
    return rows


def _joined(row: Reading, name: str, instance: Instance) -> Reading:
    if not row.bound:
        return Reading(instance.parts, {**instance.bound, name: instance}, instance.shared, instance.given)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(row.parts, instance.parts, strict=False)))
    return Reading(
        parts=(*row.parts, *instance.parts[same:]),
        bound={**row.bound, **instance.bound, name: instance},
        shared={**row.shared, **instance.shared},
        given={**row.given, **instance.given},
    )


class Index:
    """The tasks of one workflow, found by what they have in common with another task."""

    def __init__(self, name: str, instances: Sequence[Instance]) -> None:
        self._name = name
        self._instances = instances
        self._keys: tuple[Key, ...] = (name, *instances[0].bound, *instances[0].shared) if instances else ()
        self._tables: dict[tuple[Key, ...], dict[tuple[Hashable, ...], list[Instance]]] = {}

    def matching(self, bound: Mapping[str, Instance], shared: Mapping[Shared, Hashable]) -> Sequence[Instance]:
        """Return the tasks that agree in all that both have; all tasks where nothing is in common."""
        common = tuple(key for key in self._keys if key in bound or key in shared)
        if not common:
            return self._instances
        if common not in self._tables:
            table: dict[tuple[Hashable, ...], list[Instance]] = {}
            for instance in self._instances:
                values = tuple(self._value(instance, key) for key in common)
                table.setdefault(values, []).append(instance)
            self._tables[common] = table
        wanted = tuple(bound[key].task.name if isinstance(key, str) else shared[key] for key in common)
        return self._tables[common].get(wanted, ())

    def _value(self, instance: Instance, key: Key) -> Hashable:
        if not isinstance(key, str):
            return instance.shared[key]
        return instance.task.name if key == self._name else instance.bound[key].task.name
