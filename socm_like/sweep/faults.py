"""What is wrong with a sweep table: all of it, each with the place inside the table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from socm_like.errors import SocmError, listed, suggest
from socm_like.faults import shown as shown_value

KeyPath = tuple[str | int, ...]


class SweepError(SocmError):
    """All faults of one sweep table: the place inside the table, and what is wrong there."""

    def __init__(self, faults: Iterable[tuple[KeyPath, str]]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(": ".join(filter(None, (dotted(key), text))) for key, text in self.faults))


class Faults:
    """Collects faults, so that one reading reports them all."""

    def __init__(self) -> None:
        self._found: dict[tuple[KeyPath, str], None] = {}

    def add(self, key: KeyPath, message: str) -> None:
        """Remember what is wrong at a place."""
        self._found[key, message] = None

    def check(self) -> None:
        """Raise SweepError when there is a fault."""
        if self._found:
            raise SweepError(self._found)

    def check_keys(self, table: Mapping[Any, Any], key: KeyPath, allowed: Collection[str]) -> None:
        """Add a fault for every key of a table that is not allowed."""
        for word in table:
            if word not in allowed:
                near = suggest(named(word), allowed)
                self.add((*key, named(word)), f"unknown key {shown(word)}; allowed: {listed(allowed)}{near}")


def dotted(key: KeyPath) -> str:
    """Return a place inside a table as ``when.0.axes.nesterov``."""
    return ".".join(map(str, key))


def named(key: Any) -> str:
    """Return a key of a table as a part of a place; one that is no text as it is shown."""
    return key if isinstance(key, str) else shown(key)


def shown(value: Any) -> str:
    """Return a value as a TOML file writes it, cut short; the name of its type when it cannot be written."""
    try:
        return shown_value(value)
    except (RecursionError, ValueError):  # nested too deep, an int of too many digits
        return f"a very large {type(value).__name__}"
