"""A TOML file with the line of every key, so that an error can say where it stands."""

from __future__ import annotations

import json
import os
import re
import tomllib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from socm_like.errors import CampaignError, Fault

KeyPath = tuple[str | int, ...]

DEPTH = 64
"""Levels a file may nest; what walks it recursively stays far from Python's limit of 1000 calls."""

_KEY = r"[A-Za-z0-9_-]+"
_STRING = r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'"
_BARE_KEY = re.compile(_KEY)
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_VALUE = re.compile(r"[^,\]}\n#]+")
_STRINGS = re.compile(rf'"""(?:\\.|[^\\])*?"{{3,5}}|' rf"'''.*?'{{3,5}}|{_STRING}", re.DOTALL)
_PART = rf"[ \t]*(?:{_KEY}|{_STRING})[ \t]*"
_SETTING = re.compile(rf"({_PART}(?:\.{_PART})*)=(.*)", re.DOTALL)
_PLACE = re.compile(r" ?\((?:at line (\d+), column (\d+)|at end of document)\)$")


@dataclass(frozen=True)
class Document:
    """The values of one TOML file, and where each was written."""

    path: Path
    text: str
    data: dict[str, Any]
    overrides: Mapping[KeyPath, str] = field(default_factory=dict)
    """Key path -> the ``--set`` argument that put it there."""
    faults: tuple[Fault, ...] = ()
    """What is wrong though the rest can be read: repeated keys, settings that cannot be applied."""

    @cached_property
    def folder(self) -> Path:
        """Where the file's relative paths start; a link to a file counts where the link is."""
        return Path(os.path.abspath(self.path)).parent  # noqa: PTH100 - resolve() would follow links

    def where(self, key: KeyPath) -> str:
        """Return ``file:line`` of a key, of its nearest written ancestor, or the ``--set`` that made it."""
        prefixes = [key[:length] for length in range(len(key), 0, -1)]
        for prefix in prefixes:
            if prefix in self.overrides:
                return f"--set {self.overrides[prefix]}"
        for prefix in prefixes:
            if prefix in self._lines:
                return f"{self.path}:{self._lines[prefix]}"
            for path, setting in self.overrides.items():
                if path[: len(prefix)] == prefix:
                    return f"--set {setting}"
        return f"{self.path}:1"

    @cached_property
    def _lines(self) -> dict[KeyPath, int]:
        return _Walk(self.text).found


def read_document(path: Path, settings: Sequence[str] = ()) -> Document:
    """Return a TOML file with ``key=value`` settings applied over it.

    Raises CampaignError when the file cannot be read or is not TOML; other faults wait in ``Document.faults``.
    """
    text = _read(path)
    data, repeated = _parse(path, text)
    overrides, wrong = _apply(data, settings)
    deep = _nested_too_deep(data)
    if deep:
        raise CampaignError([*repeated, *wrong, Fault(str(path), deep)])
    return Document(path, text, data, overrides, (*repeated, *wrong))


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CampaignError([Fault(str(path), "no such file; write a starter with: campaign init")]) from error
    except OSError as error:
        raise CampaignError([Fault(str(path), f"cannot be read: {error.strerror}")]) from error
    except ValueError as error:  # a NUL in the name
        raise CampaignError([Fault(repr(str(path)), f"cannot be read: {error}")]) from error
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"not UTF-8 text: byte {content[error.start]:#04x}; save the file as UTF-8"
        raise CampaignError([Fault(f"{path}:{line}", found)]) from error


def _parse(path: Path, text: str) -> tuple[dict[str, Any], list[Fault]]:
    """Return the data of a text, and a fault for each key that is written twice; its first value counts."""
    try:
        return tomllib.loads(text), []
    except RecursionError as error:
        raise CampaignError([Fault(str(path), f"nested more than {DEPTH} levels deep")]) from error
    except ValueError as error:
        repeated = _repetitions(text)
        try:
            if not repeated:
                raise
            data = tomllib.loads(_without(text, repeated))
        except ValueError as other:
            wrong, line = _syntax_fault(path, text, other)
            before = [_twice(path, again) for again in repeated if again.line < line]
            raise CampaignError([*before, wrong]) from error
        return data, [_twice(path, again) for again in repeated]


def _syntax_fault(path: Path, text: str, error: ValueError) -> tuple[Fault, int]:
    """Return what tomllib found, with the line it stands on and what to write there."""
    message = str(error)
    place = _PLACE.search(message)
    if place is None:  # a number of more than 4300 digits
        return Fault(str(path), f"not TOML: {message}"), 0
    message = message[: place.start()]
    lines = text.split("\n")
    line = int(place[1]) if place[1] else max(1, len(lines) - (lines[-1] == ""))
    found = lines[line - 1].strip()
    at = f"column {place[2]} of" if place[2] else "the end of"
    hint = "; text needs quotes" if message.startswith(("Expected newline or end", "Invalid value")) else ""
    shown = found if len(found) <= 60 else f"{found[:57]}..."
    return Fault(f"{path}:{line}", f"not TOML: {message}, at {at} {shown!r}{hint}"), line


def _nested_too_deep(data: Mapping[str, Any]) -> str:
    """Return what is nested deeper than ``DEPTH``, or an empty string."""
    stack: list[tuple[KeyPath, Any]] = [((), data)]
    while stack:
        key, value = stack.pop()
        if len(key) > DEPTH:
            return f"{dotted(key[:4])}... is nested more than {DEPTH} levels deep"
        items = value.items() if isinstance(value, dict) else enumerate(value)
        stack.extend(((*key, name), item) for name, item in items if isinstance(item, dict | list))
    return ""


def dotted(key: KeyPath) -> str:
    """Return a key path as a TOML file writes it: ``campaign."my maps".memory``."""
    return ".".join(part if isinstance(part, str) and _BARE_KEY.fullmatch(part) else _quoted(part) for part in key)


def _quoted(part: str | int) -> str:
    return json.dumps(part, ensure_ascii=False)


def _apply(data: dict[str, Any], settings: Iterable[str]) -> tuple[dict[KeyPath, str], list[Fault]]:
    overrides: dict[KeyPath, str] = {}
    faults: list[Fault] = []
    for setting in settings:
        try:
            path, value = _read_setting(setting)
        except ValueError:
            faults.append(Fault(f"--set {setting}", "write it as key.key=value, e.g. campaign.maps.maxiter=50"))
            continue
        table = data
        for length, part in enumerate(path[:-1], start=1):
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                faults.append(Fault(f"--set {setting}", f"{dotted(path[:length])} is a value, not a table"))
                break
            table = inner
        else:
            table[path[-1]] = value
            overrides[path] = setting
    return overrides, faults


def _read_setting(setting: str) -> tuple[tuple[str, ...], Any]:
    """Return key path and value. Raises ValueError when there is no key, or what is no text at all."""
    match = _SETTING.fullmatch(setting)
    if match is None:
        raise ValueError("no key")
    setting.encode()  # an argument that is not UTF-8 holds surrogates, which no file can
    parts: list[str] = []
    table = tomllib.loads(f"{match[1]} = 0")
    while isinstance(table, dict):
        ((part, table),) = table.items()
        parts.append(part)
    return tuple(parts), _value(match[2].strip())


def _value(text: str) -> Any:
    """Return a TOML value, or the text itself where it is none: ``--set campaign.name=today`` needs no quotes.

    Inside an inline table neither a comment nor a second line goes unnoticed.
    """
    try:
        data = tomllib.loads(f"table = {{ value = {text} }}")
    except (ValueError, RecursionError):
        return text
    return data["table"]["value"] if data.keys() == {"table"} and data["table"].keys() == {"value"} else text


@dataclass(frozen=True, slots=True)
class _Repetition:
    key: KeyPath
    first: int
    """The line where the key was written first."""
    line: int
    start: int
    end: int


def _twice(path: Path, again: _Repetition) -> Fault:
    return Fault(f"{path}:{again.line}", f"{dotted(again.key)} is written twice, first on line {again.first}")


def _repetitions(text: str) -> list[_Repetition]:
    """Return the keys and tables that a text writes again, as far as it can be read."""
    try:
        return list(_Walk(text).repeated())
    except (_LostError, IndexError, RecursionError):
        return []


def _without(text: str, repeated: Iterable[_Repetition]) -> str:
    """Return the text with repetitions blanked, every line where it was."""
    for again in repeated:
        blank = re.sub(r"[^\n]", " ", text[again.start : again.end])
        text = text[: again.start] + blank + text[again.end :]
    return text


class _LostError(Exception):
    """The text is not TOML where the walk stands."""


class _Walk:
    """One walk over TOML, noting the line of every key and list item, and what each statement writes."""

    def __init__(self, text: str) -> None:
        self.found: dict[KeyPath, int] = {}
        self._text = text
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._position = 0
        self._counts: dict[KeyPath, int] = {}
        self._written: set[KeyPath] = set()
        self._statements: list[tuple[KeyPath, int, bool]] = []
        """Key path, position and whether it is a ``[table]``; ``[[tables]]`` may repeat and are not noted."""
        table: KeyPath = ()
        self._blank()
        while self._position < len(text):
            start, is_header = self._position, text[self._position] == "["
            path = self._header() if is_header else self._pair(table)
            table = path if is_header else table
            self._written.add(path)
            self._statements.append((path, start, is_header))
            self._blank()

    def repeated(self) -> Iterator[_Repetition]:
        """Yield what is written again: a key with its value, a table with all that belongs to it."""
        first: dict[KeyPath, int] = {}
        ends = [start for _, start, _ in self._statements[1:]] + [len(self._text)]
        open_table: tuple[KeyPath, int] | None = None
        for (path, start, is_header), end in zip(self._statements, ends, strict=False):
            if is_header and open_table is not None:
                yield self._repetition(*open_table, start, first)
                open_table = None
            if open_table is not None:
                continue
            if path not in first:
                first[path] = start
            elif is_header:
                open_table = (path, start)
            else:
                yield self._repetition(path, start, end, first)
        if open_table is not None:
            yield self._repetition(*open_table, len(self._text), first)

    def _repetition(self, path: KeyPath, start: int, end: int, first: Mapping[KeyPath, int]) -> _Repetition:
        return _Repetition(path, self._line(first[path]), self._line(start), start, end)

    def _line(self, position: int) -> int:
        return bisect_left(self._newlines, position) + 1

    def _blank(self) -> None:
        match = _BLANK.match(self._text, self._position)
        self._position = match.end() if match else self._position

    def _note(self, path: KeyPath, line: int) -> None:
        for length in range(1, len(path) + 1):
            self.found.setdefault(path[:length], line)

    def _header(self) -> KeyPath:
        line, is_array = self._line(self._position), self._text.startswith("[[", self._position)
        self._position += 2 if is_array else 1
        path: KeyPath = ()
        parts = self._key()
        for number, part in enumerate(parts, start=1):
            path = (*path, part)
            if path in self._counts and not (is_array and number == len(parts)):
                path = (*path, self._counts[path])
        if is_array:
            self._counts[path] = self._counts.get(path, -1) + 1
            path = (*path, self._counts[path])
        self._note(path, line)
        if path not in self._written:  # what [a.b] implied of [a] before counts less than [a] itself
            self.found[path] = line
        self._position += 2 if is_array else 1
        return path

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._blank()
            match = _BARE_KEY.match(self._text, self._position) or _STRINGS.match(self._text, self._position)
            if match is None:
                raise _LostError(self._position)
            self._position = match.end()
            parts.append(match[0] if match[0][0] not in "\"'" else _unquoted(match[0]))
            self._blank()
            if self._text[self._position] != ".":
                return parts
            self._position += 1

    def _pair(self, table: KeyPath) -> KeyPath:
        line = self._line(self._position)
        path = (*table, *self._key())
        self._note(path, line)
        self._position += 1  # the equals sign
        self._blank()
        self._skip_value(path)
        return path

    def _skip_value(self, path: KeyPath) -> None:
        match self._text[self._position]:
            case "[":
                self._items("]", path)
            case "{":
                self._items("}", path)
            case char:
                pattern = _STRINGS if char in "\"'" else _BARE_VALUE
                value = pattern.match(self._text, self._position)
                if value is None:
                    raise _LostError(self._position)
                self._position = value.end()

    def _items(self, closing: str, path: KeyPath) -> None:
        self._position += 1
        index = 0
        while True:
            self._blank()
            match self._text[self._position]:
                case ",":
                    self._position += 1
                case char if char == closing:
                    self._position += 1
                    return
                case _ if closing == "}":
                    self._pair(path)
                case _:
                    self._note((*path, index), self._line(self._position))
                    self._skip_value((*path, index))
                    index += 1


def _unquoted(text: str) -> str:
    try:
        return str(tomllib.loads(f"k={text}")["k"])
    except ValueError as error:
        raise _LostError(text) from error
