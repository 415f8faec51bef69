"""What tasks have left in a store: finished artifacts and leftovers, how large and how old each is.

Standard library only, so that ``campaign artifacts`` starts at once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from socm_like.contract import RESULT, read_regular
from socm_like.errors import StoreError
from socm_like.results.usage import Planned, RunUsage, Usage

TASK = "task.json"
"""What the runner writes into a folder before a task begins."""

_PARTIAL = re.compile(r"(.+)\.([0-9a-f]{8})\.partial")
_COLLECTED = re.compile(r"\.(.+)\.[0-9a-f]{16}\.gc")
_IDENTITY = re.compile(r"[0-9a-f]{64}")


class ArtifactState(StrEnum):
    """What a folder of a store is."""

    DONE = "done"
    """The finished result of a task."""
    DAMAGED = "damaged"
    """In a result's place, but its result.json is missing or cannot be read: it is computed again when needed."""
    PARTIAL = "partial"
    """What an attempt works in, or what one that did not succeed has left."""
    OLD = "old"
    """An incomplete result that had to make room for a new one."""
    COLLECTED = "collected"
    """Taken away by a gc that did not live to remove it."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One folder that a task left. Folders of other tasks in it are artifacts of their own."""

    folder: str
    """Relative to the store."""
    state: ArtifactState
    kind: str
    """Empty where nothing tells."""
    id: str
    """64 hex characters; empty where nothing tells."""
    size: int
    """Bytes in its regular files."""
    touched: float
    """Seconds since the epoch of its last change."""
    inside: str = ""
    """The folder of the artifact it lies in; empty for none."""

    @property
    def home(self) -> str:
        """Where the result of its task belongs."""
        is_there = self.state in (ArtifactState.DONE, ArtifactState.DAMAGED)
        return self.folder if is_there else _home(self.folder)

    def users(self, usage: Usage) -> list[RunUsage]:
        """Return the runs that refer to it, or the one that left it."""
        if self.state is ArtifactState.PARTIAL:
            return usage.left_by(self.folder.split(".")[-2])
        return [] if self.state is ArtifactState.COLLECTED else usage.users(self.home)


class _Label(NamedTuple):
    state: ArtifactState
    kind: str
    id: str


class _Place(NamedTuple):
    """An artifact that has been recognised but not measured."""

    folder: str
    label: _Label
    touched: float
    entries: Sequence[os.DirEntry[str]]
    inside: str


def find_artifacts(store: Path, planned: Mapping[str, Planned]) -> tuple[Artifact, ...]:
    """Return all artifacts of a store, by folder; links are not followed, hidden folders and runs not entered.

    Inside an artifact only what a plan names counts as an artifact of its own: a task may have copied another's
    folder into its outputs. ``planned`` says what plans name. One pass over the store.

    Raises StoreError when the store cannot be read; what cannot be read inside it counts as empty.
    """
    try:
        with os.scandir(store) as scan:
            top = [entry for entry in scan if entry.name != "campaigns"]
    except OSError as error:
        raise StoreError(f"{store}: cannot be read: {error.strerror}") from error
    found: list[Artifact] = []
    for place in _places(top, planned):
        nested = [place]
        while nested:
            found.append(_measured(nested.pop(), planned, nested))
    return tuple(sorted(found, key=lambda artifact: artifact.folder))


def _places(top: Sequence[os.DirEntry[str]], planned: Mapping[str, Planned]) -> Iterator[_Place]:
    """Yield the outermost artifacts; the folders around them are entered."""
    waiting = [("", entry) for entry in top]
    while waiting:
        around, entry = waiting.pop()
        if not _is_folder(entry) or (entry.name.startswith(".") and not _COLLECTED.fullmatch(entry.name)):
            continue
        folder, entries = f"{around}{entry.name}", _entries(entry)
        label = _label(folder, entry.path, entries, planned)
        if label is None:
            waiting.extend((f"{folder}/", inner) for inner in entries)
        else:
            yield _Place(folder, label, _mtime(entry), entries, "")


def _measured(place: _Place, planned: Mapping[str, Planned], nested: list[_Place]) -> Artifact:
    """Return an artifact with its size and age; other artifacts in it are appended to ``nested``.

    A result is as old as the newest result.json in it, or its folder; a leftover as the newest thing at its top.
    """
    size, touched = 0, place.touched
    is_result = place.label.state in (ArtifactState.DONE, ArtifactState.DAMAGED)
    if not is_result:
        touched = max([touched, *map(_mtime, place.entries)])
    waiting = [(f"{place.folder}/", place.entries)]
    while waiting:
        around, entries = waiting.pop()
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                size += _size(entry)
                if is_result and entry.name == RESULT:
                    touched = max(touched, _mtime(entry))
            elif _is_folder(entry):
                folder, inner = f"{around}{entry.name}", _entries(entry)
                is_named = folder in planned or _home(folder) in planned
                label = _label(folder, entry.path, inner, planned) if is_named else None
                if label is None:
                    waiting.append((f"{folder}/", inner))
                else:
                    nested.append(_Place(folder, label, _mtime(entry), inner, place.folder))
    label = place.label
    return Artifact(place.folder, label.state, label.kind, label.id, size, touched, place.inside)


def _label(
    folder: str, path: str, entries: Sequence[os.DirEntry[str]], planned: Mapping[str, Planned]
) -> _Label | None:
    """Return what a folder is, by its name and by what is directly in it; None for no artifact."""
    name = folder.rpartition("/")[2]
    is_named = folder in planned
    home = planned.get(folder) or planned.get(_home(folder))
    names = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)} & {RESULT, TASK}
    written, source = _written(path, names)
    told = written or home
    kind, identity = told or ("", "")
    if _COLLECTED.fullmatch(name) and not is_named:
        return _Label(ArtifactState.COLLECTED, kind, identity)
    if _PARTIAL.fullmatch(name) and not is_named:
        return _Label(ArtifactState.PARTIAL, kind, identity)
    if told is None or not (names or name.endswith(".old")):
        return None
    if name.endswith(".old") and not is_named:
        return _Label(ArtifactState.OLD, kind, identity)
    return _Label(ArtifactState.DONE if source == RESULT else ArtifactState.DAMAGED, kind, identity)


def _written(path: str, names: set[str]) -> tuple[Planned | None, str]:
    """Return what a folder's own files say it is, and which file says so."""
    for name in (RESULT, TASK):
        if name in names:
            try:
                content = json.loads(read_regular(f"{path}/{name}"))
            except (OSError, ValueError, RecursionError):
                continue
            kind, identity = (content.get("kind"), content.get("id")) if isinstance(content, dict) else (None, None)
            if isinstance(kind, str) and isinstance(identity, str) and _IDENTITY.fullmatch(identity):
                return Planned(kind, identity), name
    return None, ""


def _home(folder: str) -> str:
    """Return a folder without what is added to its name while it is not in its place."""
    around, slash, name = folder.rpartition("/")
    found = _COLLECTED.fullmatch(name)
    name = found[1] if found else name
    partial = _PARTIAL.fullmatch(name)
    return f"{around}{slash}{partial[1] if partial else name.removesuffix('.old')}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _entries(folder: os.DirEntry[str]) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing when it has just gone or is not ours to read."""
    try:
        with os.scandir(folder) as scan:
            return list(scan)
    except OSError:
        return []


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


def _mtime(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return 0.0
