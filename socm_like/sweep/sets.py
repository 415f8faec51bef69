"""What a sweep comes to: parameter sets, and what was left out on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from socm_like.sweep.faults import KeyPath
from socm_like.sweep.values import Value

NOTHING: Mapping[str, Value] = MappingProxyType({})
"""The values that an enclosing sweep gives where there is none."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """How many combinations one ``where`` took out; a combination counts at the first that failed."""

    key: KeyPath
    expression: str
    count: int


@dataclass(frozen=True, slots=True)
class Sets:
    """The parameter sets of a sweep, in order."""

    sets: list[dict[str, Value]]
    """They share their values: do not change lists and tables in them."""
    excluded: tuple[Exclusion, ...] = ()
    """One for every ``where``, also where it took out none."""
    repeated: int = 0
    """Equal sets that were dropped: from a union, or drawn twice."""


class Factor(Protocol):
    """One of the things that are crossed: an axis, paired axes, rows, samples, a union."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that its sets can have."""

    def expand(self, outer: Mapping[str, Value]) -> Sets:
        """Return its sets, given what the enclosing sweep sets."""
