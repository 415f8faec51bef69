"""What a table reads of a parameter: where its value goes among the keys of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from socm_like.document import KeyPath
from socm_like.errors import listed, suggest
from socm_like.references import OutputReference, Resolver
from socm_like.workflow import Workflow, placeholders

Place = tuple[str, ...]
"""A key of the kind and keys inside it, or ``parameters`` and a key of that."""

Outputs = Callable[[OutputReference], Sequence[str]]
"""Gives the absolute paths that a reference stands for."""
_WHERE_AND_WHEN = {"depends_on", "for_each"}


class Reads:
    """What one table of a kind reads: the keys of the kind, the placeholders in its words, its free parameters."""

    def __init__(self, kind: type[Workflow], values: Mapping[str, Any]) -> None:
        parameters = values.get("parameters")
        self._kind = kind
        self._fields = kind.model_fields.keys() - _WHERE_AND_WHEN
        self.free = {*placeholders(list(_texts(values))), *(parameters if isinstance(parameters, dict) else ())}

    def place(self, name: str) -> Place | None:
        """Return where a value of this name goes, or None when nothing reads it."""
        first, *rest = name.split(".")
        if first in self._fields:
            return (first, *rest)
        return ("parameters", name) if name in self.free else None

    def may_read(self, key: Sequence[str | int]) -> bool:
        """Whether what stands at this place of a sweep may be the value of a name that the table reads."""
        words = [word for word in key if isinstance(word, str)]
        names = (
            ".".join(words[first:last]) for first in range(len(words)) for last in range(first + 1, len(words) + 1)
        )
        return any(self.place(name) is not None for name in names)

    def problem(self, name: str) -> str:
        """Return what is wrong with giving the table this parameter, or an empty string."""
        if self.place(name) is not None:
            return ""
        there = f"{listed(self.known)}{suggest(name, self.known)}"
        return f"nothing reads {name!r} here; write {{{name}}} in its words, or one of: {there}"

    @property
    def known(self) -> set[str]:
        """The names one would give it."""
        return {*self._kind.own_field_names(), *self.free}

    def placeholder(self, name: str) -> bool:
        """Whether a placeholder or a free parameter has this name, and no key of the kind."""
        return name in self.free and name not in self._fields


def changed(values: Mapping[str, Any], changes: Iterable[tuple[Place, Any]]) -> dict[str, Any]:
    """Return the keys of a table that change when values are put in their places; tables inside are copied."""
    found: dict[str, Any] = {}
    for place, value in changes:
        head = place[0]
        if len(place) == 1:
            found[head] = value
            continue
        if head not in found:
            found[head] = _copied(values.get(head))
        table = found[head]
        for key in place[1:-1]:
            if isinstance(table, dict):
                table[key] = _copied(table.get(key))
                table = table[key]
        if isinstance(table, dict):
            table[place[-1]] = value
    return found


def resolved(
    kind: type[Workflow], field: str, value: Any, folder: str, outputs: Outputs | None = None
) -> tuple[Any, frozenset[Path], list[str]]:
    """Return a value for a key of a kind with the files it names made absolute, those files, and what is wrong.

    Without ``outputs`` a value cannot stand for the outputs of tasks.
    """
    foreign: list[OutputReference] = []

    def refused(reference: OutputReference) -> list[str]:
        foreign.append(reference)
        return [str(reference)]

    resolver = Resolver(folder, outputs or refused)
    values = resolver.resolve(kind, {field: value})
    problems = [problem for _, problem in resolver.problems]
    problems += [f"{reference} is an output of a task, which cannot be named here" for reference in foreign]
    return values[field], frozenset(resolver.inputs), problems


def is_written(key: KeyPath, values: Any) -> bool:
    """Whether a key stands in a table."""
    for part in key:
        try:
            values = values[part]
        except (LookupError, TypeError):
            return False
    return bool(key)


def _copied(table: Any) -> Any:
    """Return a copy of a table, an empty one where there is none; what is no table stays, to be refused."""
    return dict(table) if isinstance(table, dict) else {} if table is None else table


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
