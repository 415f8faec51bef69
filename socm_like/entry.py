"""One workflow table of a campaign file, as it was written, and where each of its keys stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from socm_like.document import KeyPath

SWEEP = "sweep of "
"""Begins the keys under which :attr:`Entry.texts` holds the sweeps; no key of a kind has a space."""

Origins = Mapping[KeyPath, KeyPath]


@dataclass(frozen=True, slots=True)
class SweepTable:
    """``[campaign.x.sweep]``, as it was written."""

    owner: str
    """The workflow or group it stands in."""
    table: Mapping[str, Any] | None
    """None where something else stands, which has been reported."""
    key: KeyPath


@dataclass(frozen=True)
class Entry:
    """One workflow table, its group's keys merged in."""

    name: str
    kind: str
    values: Mapping[str, Any]
    key: KeyPath
    """Where its table stands."""
    origins: Origins
    """Where each key was written, and each key of a reserved sub-table: in its own table or in a group's."""
    sweeps: tuple[SweepTable, ...] = ()
    """The sweeps it is subject to: those of the groups around it, the outermost first, then its own."""

    @property
    def own_sweep(self) -> SweepTable | None:
        """The sweep in its own table, which no other workflow shares."""
        last = self.sweeps[-1] if self.sweeps else None
        return last if last is not None and last.owner == self.name else None

    @property
    def texts(self) -> Mapping[str, Any]:
        """All that was written for it: its values, and under the owner's name each sweep it is subject to."""
        return {**self.values, **{SWEEP + sweep.owner: sweep.table for sweep in self.sweeps}}

    def where(self, key: KeyPath) -> KeyPath:
        """Return the place in the document of a key of this table."""
        for sweep in self.sweeps:
            if key and key[0] == SWEEP + sweep.owner:
                return (*sweep.key, *key[1:])
        for length in (2, 1):
            if len(key) >= length and key[:length] in self.origins:
                return (*self.origins[key[:length]], *key[length:])
        return (*self.key, *key)
