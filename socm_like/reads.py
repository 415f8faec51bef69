"""What a table reads of a parameter: where its value goes among the keys of the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from socm_like.errors import listed, suggest
from socm_like.references import OutputReference, Resolver
from socm_like.workflow import Workflow, placeholders

Place = tuple[str, ...]
"""A key of the kind and keys inside it, or ``parameters`` and a key of that."""

_WHERE_AND_WHEN = {"depends_on", "for_each"}


class Reads:
    """What one table of a kind reads: the keys of the kind, the placeholders in its words, its free parameters."""

    def __init__(self, kind: type[Workflow], values: Mapping[str, Any]) -> None:
        parameters = values.get("parameters")
        self._kind = kind
        self._fields = kind.model_fields.keys() - _WHERE_AND_WHEN
        self._free = {*placeholders(list(_texts(values))), *(parameters if isinstance(parameters, dict) else ())}

    def place(self, name: str) -> Place | None:
        """Return where a value of this name goes, or None when nothing reads it."""
        first, *rest = name.split(".")
        if first in self._fields:
            return (first, *rest)
        return ("parameters", name) if name in self._free else None

    def problem(self, name: str) -> str:
        """Return what is wrong with giving the table this parameter, or an empty string."""
        if self.place(name) is not None:
            return ""
        known = {*self._kind.own_field_names(), *self._free}
        return f"nothing reads {name!r} here; write {{{name}}} in its words, or one of: {listed(known)}" + suggest(
            name, known
        )

    def placeholder(self, name: str) -> bool:
        """Whether a placeholder or a free parameter has this name, and no key of the kind."""
        return name in self._free and name not in self._fields


def changed(values: Mapping[str, Any], changes: Iterable[tuple[Place, Any]]) -> dict[str, Any]:
    """Return the keys of a table that change when values are put in their places; tables inside are copied."""
    found: dict[str, Any] = {}
    for (head, *rest), value in changes:
        if not rest:
            found[head] = value
            continue
        table = found[head] = _copied(found.get(head, values.get(head)))
        for key in rest[:-1]:
            table[key] = _copied(table.get(key))
            table = table[key]
        table[rest[-1]] = value
    return found


def resolved(
    kind: type[Workflow], field: str, value: Any, folder: str
) -> tuple[Any, frozenset[Path], list[tuple[tuple[str | int, ...], str]]]:
    """Return a value for a key of a kind with the files it names made absolute, those files, and what is wrong."""
    resolver = Resolver(folder, _no_outputs)
    values = resolver.resolve(kind, {field: value})
    return values[field], frozenset(resolver.inputs), resolver.problems


def _no_outputs(reference: OutputReference) -> list[str]:
    return [f"/unresolved/{reference.workflow}/{reference.path}"]


def _copied(table: Any) -> dict[str, Any]:
    return dict(table) if isinstance(table, dict) else {}


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a value that may hold a placeholder."""
    if isinstance(value, str):
        if "{" in value:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
