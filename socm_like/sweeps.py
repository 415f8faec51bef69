"""The sweeps of a campaign: each read once, and for every workflow the parameter sets it makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from socm_like.campaign import Campaign
from socm_like.document import KeyPath
from socm_like.entry import Entry, SweepTable
from socm_like.sweep import SweepError, read_space
from socm_like.variations import Layer, Variations


@dataclass
class Sweeps:
    """Reads the sweeps of a campaign; what is wrong with them is collected."""

    campaign: Campaign
    problems: list[tuple[KeyPath, str]] = field(default_factory=list)
    """The place in the document, and what is wrong there."""
    _groups: dict[KeyPath, Layer | None] = field(default_factory=dict)
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
        spaces = [layer for variations in self._of.values() if variations for layer in variations.layers]
        for layer in {id(layer): layer for layer in spaces}.values():
            yield from (f"{layer.sweep.owner}: {warning}" for warning in layer.space.warnings)
        excluded: dict[str, int] = {}
        for variations in self._of.values():
            excluded.update(variations.excluded if variations else {})
        for note, count in excluded.items():
            yield f"{note} {count} combination{'s'[: count != 1]}"

    def check_groups(self) -> None:
        """Note the names of shared sweeps that no workflow of the group reads."""
        read: dict[str, set[str]] = {}
        for variations in self._of.values():
            for owner, names in variations.read.items() if variations else ():
                read.setdefault(owner, set()).update(names)
        for layer in self._groups.values():
            if layer is None:
                continue
            owner = layer.sweep.owner
            members = self.campaign.groups.get(owner, ())
            if any(self._of.get(member) is None for member in members):
                continue  # it has faults of its own
            for name in layer.space.names:
                if name not in read.get(owner, ()) and name not in layer.space.expressions_read:
                    who = ", ".join(members)
                    self._problem(layer.sweep, layer.space.origin(name), f"none of {who} reads {name!r}")

    def _read(self, entry: Entry) -> Variations | None:
        layers: list[Layer] = []
        names: tuple[str, ...] = ()
        own = entry.own_sweep
        for sweep in entry.sweeps:
            if sweep is own:
                continue
            if sweep.key not in self._groups:
                self._groups[sweep.key] = self._layer(sweep, names)
            layer = self._groups[sweep.key]
            if layer is None:
                return None
            layers.append(layer)
            names = (*names, *layer.space.names)
        inherited = tuple(self._inherited(entry))
        if own is not None:
            own_layer = self._layer(own, names, inherited)
            if own_layer is None:
                return None
            layers.append(own_layer)
        variations = Variations(entry, self.campaign.registry[entry.kind], layers, inherited)
        problems = list(variations.problems())
        for key, message in problems:
            self._problem(entry.sweeps[-1], key, message)
        return None if problems else variations

    def _layer(self, sweep: SweepTable, outer: Sequence[str], ancestors: Sequence[str] = ()) -> Layer | None:
        try:
            names = [name for name in ancestors if name not in sweep.table]
            space = read_space(sweep.table, self.campaign.document.folder, (*outer, *names))
        except SweepError as error:
            for key, message in error.faults:
                self._problem(sweep, key, message)
            return None
        return Layer(sweep, space)

    def _inherited(self, entry: Entry) -> Iterator[str]:
        """Yield the names that the tasks ``for_each`` leads here from were swept over."""
        sources = entry.values.get("for_each")
        for source in sources if isinstance(sources, list) else []:
            variations = self._of.get(source)
            if variations is not None:
                yield from (*variations.names, *variations.ancestors)

    def _problem(self, sweep: SweepTable, key: Sequence[str | int], message: str) -> None:
        self.problems.append(((*sweep.key, *key), f"campaign.{sweep.owner}: sweep: {message}"))


def swept_keys(layers: Sequence[Layer]) -> Mapping[str, KeyPath]:
    """Return where in the document each name of some sweeps is defined."""
    return {
        name: (*layer.sweep.key, *layer.space.origin(name)) for layer in layers for name in layer.space.names
    }  # fmt: skip
