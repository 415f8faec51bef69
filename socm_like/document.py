"""A TOML file with the line of every key, so that an error can say where it stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from socm_like.errors import CampaignError, Fault

KeyPath = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_VALUE = re.compile(r"[^,\]}\n#]*")
_STRINGS = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' r"'''.*?'{3,5}|" r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'",
    re.DOTALL,
)
_AT_LINE = re.compile(r" ?\(at line (\d+), column \d+\)")


@dataclass(frozen=True)
class Document:
    """The values of one TOML file, and where each was written."""

    path: Path
    text: str
    data: dict[str, Any]
    overrides: Mapping[KeyPath, str] = field(default_factory=dict)
    """Key path -> the ``--set`` argument that put it there."""

    def where(self, key: KeyPath) -> str:
        """Return ``file:line`` of a key, of its nearest written ancestor, or the ``--set`` that made it."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.overrides:
                return f"--set {self.overrides[key[:length]]}"
            if key[:length] in self._lines:
                return f"{self.path}:{self._lines[key[:length]]}"
        return f"{self.path}:1"

    @cached_property
    def _lines(self) -> dict[KeyPath, int]:
        return _Lines(self.text).found


def read_document(path: Path, settings: Sequence[str] = ()) -> Document:
    """Return a TOML file with ``key=value`` settings applied over it.

    Raises CampaignError when the file cannot be read, is not TOML, or a setting cannot be applied.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except FileNotFoundError as error:
        raise CampaignError([Fault(str(path), "no such file; write a starter with: campaign init")]) from error
    except OSError as error:
        raise CampaignError([Fault(str(path), f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise CampaignError([Fault(str(path), f"not UTF-8 text: byte {error.object[error.start]:#04x}")]) from error
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        line = at[1] if at else str(max(1, len(text.splitlines())))
        raise CampaignError([Fault(f"{path}:{line}", f"not TOML: {_AT_LINE.sub('', str(error))}")]) from error
    overrides = _apply(data, settings)
    return Document(path, text, data, overrides)


def _apply(data: dict[str, Any], settings: Iterable[str]) -> dict[KeyPath, str]:
    overrides: dict[KeyPath, str] = {}
    faults = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        try:
            path = _split_key(key.strip())
        except ValueError:
            path = ()
        if not equals or not path:
            faults.append(Fault(f"--set {setting}", "write it as key.key=value, e.g. campaign.maps.maxiter=50"))
            continue
        table = data
        for part in path[:-1]:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                faults.append(Fault(f"--set {setting}", f"{part!r} is a value, not a table"))
                break
            table = inner
        else:
            table[path[-1]] = _value(text.strip())
            overrides[tuple(path)] = setting
    if faults:
        raise CampaignError(faults)
    return overrides


def _split_key(key: str) -> tuple[str, ...]:
    parts = []
    table = tomllib.loads(f"{key} = 0")
    while isinstance(table, dict):
        ((part, table),) = table.items()
        parts.append(part)
    return tuple(parts)


def _value(text: str) -> Any:
    """Return a TOML value, or the text itself where it is none: ``--set campaign.name=today`` needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


class _Lines:
    """One walk over text that is known to be valid TOML, noting the line of every key and list item."""

    def __init__(self, text: str) -> None:
        self.found: dict[KeyPath, int] = {}
        self._text = text
        self._position = 0
        self._counts: dict[KeyPath, int] = {}
        table: KeyPath = ()
        self._blank()
        while self._position < len(text):
            if text[self._position] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._blank()

    def _blank(self) -> None:
        match = _BLANK.match(self._text, self._position)
        self._position = match.end() if match else self._position

    def _note(self, path: KeyPath) -> None:
        line = self._text.count("\n", 0, self._position) + 1
        for length in range(1, len(path) + 1):
            self.found.setdefault(path[:length], line)

    def _header(self) -> KeyPath:
        is_array = self._text.startswith("[[", self._position)
        self._position += 2 if is_array else 1
        line = self._text.count("\n", 0, self._position) + 1
        path: KeyPath = ()
        for part in self._key():
            path = (*path, part)
            if path in self._counts and not (is_array and len(path) == 0):
                path = (*path, self._counts[path])
        if is_array:
            base = path[:-1] if path and isinstance(path[-1], int) else path
            self._counts[base] = self._counts.get(base, -1) + 1
            path = (*base, self._counts[base])
        self._note(path)
        self.found[path] = line
        self._position += 2 if is_array else 1
        return path

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._blank()
            match = _BARE_KEY.match(self._text, self._position) or _STRINGS.match(self._text, self._position)
            if match is None:
                raise AssertionError(f"not a TOML key at {self._text[self._position :][:20]!r}")
            self._position = match.end()
            parts.append(match[0] if match[0][0] not in "\"'" else str(tomllib.loads(f"k={match[0]}")["k"]))
            self._blank()
            if self._text[self._position] != ".":
                return parts
            self._position += 1

    def _pair(self, table: KeyPath) -> None:
        start = self._position
        path = (*table, *self._key())
        end, self._position = self._position, start
        self._note(path)
        self._position = end + 1  # the equals sign
        self._blank()
        self._skip_value(path)

    def _skip_value(self, path: KeyPath) -> None:
        match self._text[self._position]:
            case '"' | "'":
                string = _STRINGS.match(self._text, self._position)
                self._position = string.end() if string else len(self._text)
            case "[":
                self._items("]", path)
            case "{":
                self._items("}", path)
            case _:
                bare = _BARE_VALUE.match(self._text, self._position)
                self._position = bare.end() if bare else len(self._text)

    def _items(self, closing: str, path: KeyPath) -> None:
        self._position += 1
        index = 0
        while True:
            self._blank()
            if self._text[self._position] == ",":
                self._position += 1
                continue
            if self._text[self._position] == closing:
                self._position += 1
                return
            if closing == "}":
                self._pair(path)
            else:
                self._note((*path, index))
                self._skip_value((*path, index))
                index += 1
