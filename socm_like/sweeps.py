"""The sweeps of a campaign: each read once, and for every workflow the parameter sets it makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from socm_like.campaign import Campaign
from socm_like.document import KeyPath
from socm_like.entry import Entry, SweepTable
from socm_like.errors import suggest
from socm_like.shared_sweeps import NO_GROUPS, Layer, SharedSets
from socm_like.sweep import SweepError, read_space
from socm_like.variations import Variations


@dataclass
class Sweeps:
    """Reads the sweeps of a campaign; what is wrong with them is collected."""

    campaign: Campaign
    problems: list[tuple[KeyPath, str]] = field(default_factory=list)
    """The place in the document, and what is wrong there."""
    _groups: dict[KeyPath, SharedSets | None] = field(default_factory=dict)
    """Where the sweep of a group stands -> what it makes of those around it; None where one of them is wrong."""
    _of: dict[str, Variations | None] = field(default_factory=dict)

    def of(self, name: str) -> Variations | None:
        """Return the parameter sets of a workflow, or None when a sweep it is subject to is wrong.

        To be asked for in an order in which each workflow comes after those it waits for.
        """
        if name not in self._of:
            self._of[name] = self._read(self.campaign.entries[name])
        return self._of[name]

    def notes(self) -> Iterator[str]:
        """Yield what was taken out of the sweeps, and what else one should know of them, once all are unfolded."""
        found = [variations for variations in self._of.values() if variations]
        for layer in {id(layer): layer for variations in found for layer in variations.layers}.values():
            yield from (f"{layer.sweep.owner}: {warning}" for warning in layer.space.warnings)
        tallies = [tally for variations in found for tally in (*variations.groups.tallies, variations.tally)]
        for tally in {id(tally): tally for tally in tallies}.values():
            yield from tally.notes()

    def check_groups(self) -> None:
        """Note the names of shared sweeps that no workflow of the group reads."""
        read: dict[str, set[str]] = {}
        for variations in filter(None, self._of.values()):
            for owner, names in variations.read.items():
                read.setdefault(owner, set()).update(names)
        for crossed in self._groups.values():
            if crossed is None:
                continue
            layer = crossed.layers[-1]
            owner = layer.sweep.owner
            members = self.campaign.groups.get(owner, ())
            those = [found for member in members if (found := self._of.get(member)) is not None]
            if len(those) < len(members):
                continue  # the others have faults of their own
            known = {name for one in those for name in one.reads.known}
            for name in layer.space.names:
                if name not in read.get(owner, ()) and name not in layer.space.expressions_read:
                    message = f"none of {', '.join(members)} reads {name!r}{suggest(name, known)}"
                    self._problem(layer.sweep, layer.space.origin(name), message)

    def _read(self, entry: Entry) -> Variations | None:
        own = entry.own_sweep
        groups = self._crossed([sweep for sweep in entry.sweeps if sweep is not own])
        ancestors = self._ancestors(entry)
        if groups is None or (own is not None and ancestors is None):
            return None
        layer = None
        if own is not None:
            names = [name for layer in groups.layers for name in layer.space.names]
            layer = self._layer(own, names, ancestors or ())
            if layer is None:
                return None
        variations = Variations(entry, self.campaign.registry[entry.kind], groups, layer, ancestors)
        problems = list(variations.problems())
        for key, message in problems:
            self._problem(entry.sweeps[-1], key, message)
        return None if problems else variations

    def _crossed(self, sweeps: Sequence[SweepTable]) -> SharedSets | None:
        """Return what the sweeps of some groups make together, the outermost first; None where one is wrong."""
        crossed: SharedSets | None = NO_GROUPS
        for sweep in sweeps:
            if sweep.key not in self._groups:
                self._groups[sweep.key] = None if crossed is None else self._inside(crossed, sweep)
            crossed = self._groups[sweep.key]
        return crossed

    def _inside(self, around: SharedSets, sweep: SweepTable) -> SharedSets | None:
        layer = self._layer(sweep, [name for layer in around.layers for name in layer.space.names])
        if layer is None:
            return None
        try:
            return around.crossed(layer)
        except SweepError as error:
            for key, message in error.faults:
                self._problem(sweep, key, message)
            return None

    def _layer(self, sweep: SweepTable, outer: Sequence[str], ancestors: Sequence[str] = ()) -> Layer | None:
        if not isinstance(sweep.table, Mapping):
            return None  # which has been reported
        try:
            names = [name for name in ancestors if name not in outer]
            space = read_space(sweep.table, self.campaign.document.folder, outer, names)
        except SweepError as error:
            for key, message in error.faults:
                self._problem(sweep, key, message)
            return None
        return Layer(sweep, space)

    def _ancestors(self, entry: Entry) -> tuple[str, ...] | None:
        """Return the names that the tasks ``for_each`` leads here from were swept over; None when nobody knows."""
        sources = entry.values.get("for_each", [])
        names: list[str] = []
        for source in sources if isinstance(sources, list) else [None]:
            variations = self._of.get(source) if isinstance(source, str) else None
            if variations is None or variations.ancestors is None:
                return None
            names += (*variations.names, *variations.ancestors)
        return tuple(names)

    def _problem(self, sweep: SweepTable, key: Sequence[str | int], message: str) -> None:
        self.problems.append(((*sweep.key, *key), f"campaign.{sweep.owner}: sweep: {message}"))


def swept_keys(layers: Sequence[Layer]) -> Mapping[str, KeyPath]:
    """Return where in the document each name of some sweeps is defined."""
    return {
        name: (*layer.sweep.key, *layer.space.origin(name)) for layer in layers for name in layer.space.names
    }  # fmt: skip
