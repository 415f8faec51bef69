"""The sweeps of the groups around a workflow: crossed once for all workflows that share them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from socm_like.entry import SweepTable
from socm_like.identity import canonical
from socm_like.sweep import MOST, Exclusion, Sets, Space, SweepError, Value, nothing_left

Shared = tuple[str, str]
"""A name of a sweep that several workflows share: the group it stands in, and the name."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One sweep, read."""

    sweep: SweepTable
    space: Space


@dataclass
class Tally:
    """What was taken out of one sweep, and by what."""

    owner: str
    exclusions: dict[tuple[tuple[str | int, ...], str], int] = field(default_factory=dict)
    """A ``where``: its place and its text -> how many combinations."""
    repeated: int = 0

    def add(self, found: Sets) -> None:
        """Count what is missing in some sets."""
        self.repeated += found.repeated
        for one in found.excluded:
            key = one.key, one.expression
            self.exclusions[key] = self.exclusions.get(key, 0) + one.count

    def nothing_left(self) -> SweepError:
        """Return the error that all is taken out."""
        return SweepError([((), nothing_left([Exclusion(*key, count) for key, count in self.exclusions.items()]))])

    def notes(self) -> Iterator[str]:
        """Yield what one should know of it."""
        counts = {f"where {text!r} takes out": count for (_, text), count in self.exclusions.items()}
        for what, count in {**counts, "equal sets count once, which takes out": self.repeated}.items():
            if count:
                yield f"{self.owner}: {what} {count} combination{'s'[: count != 1]}"


@dataclass(frozen=True)
class SharedSets:
    """The parameter sets of the sweeps of some groups, one inside the other."""

    layers: tuple[Layer, ...]
    """The outermost group's first."""
    sets: list[dict[Shared, Value]]
    """The innermost fastest."""
    tallies: tuple[Tally, ...]

    def crossed(self, layer: Layer) -> SharedSets:
        """Return these with the sweep of a group inside. Raises SweepError."""
        owner, space = layer.sweep.owner, layer.space
        tally = Tally(owner)
        crossed: list[dict[Shared, Value]] = []
        known: Sets | None = None
        looks_out = not space.expressions_read.issubset(space.names)
        for outer in self.sets:
            if known is None or looks_out:
                known = space.replicated({name: value for (_, name), value in outer.items()})
                tally.add(known)
            number = len(crossed) + len(known.sets) if looks_out else len(self.sets) * len(known.sets)
            if number > MOST:
                remedy = "draw them, with sample, or list them"
                found = f"more than {MOST} combinations with those of the groups around it"
                raise SweepError([((), f"{found}; a sweep tries at most {MOST}: {remedy}")])
            named = ({(owner, name): value for name, value in inner.items()} for inner in known.sets)
            crossed.extend({**outer, **inner} for inner in named)
        if not crossed:
            raise tally.nothing_left()
        return SharedSets((*self.layers, layer), crossed, (*self.tallies, tally))


NO_GROUPS = SharedSets((), [{}], ())


def hashable(value: Value) -> Hashable:
    """Return a value, or what stands for it, by which equal ones are found; those of one name are of one type."""
    return (value,) if isinstance(value, bool | int | float | str) else (canonical(value), None)
