"""What makes two tasks the same: sha256 of everything that determines the result, and nothing else."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from socm_like.journal import store_errors
from socm_like.store import write_atomically

_RACY = 2_000_000_000
"""Nanoseconds after a change in which a file may change again without a trace."""

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical(value: Any) -> str:
    """Return JSON that is equal for equal JSON values: sorted keys, no spaces, no NaN; 1 and 1.0 differ."""
    return _ENCODER.encode(value)


def digest(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON, 64 hex characters."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def substitute(value: Any, tokens: Mapping[str, str]) -> Any:
    """Return ``value`` with every path in its strings replaced by what the path stands for.

    ``tokens`` maps absolute paths to content (``sha256:...``) or to an upstream task's file (``output:...``), so
    that an identity does not depend on where things lie.

    A path matches whole or not at all. Behind it stands the end of the text, ``/`` (it is a folder), or anything
    but a letter, a digit or one of ``_.+~-``, which would go on with its name. Before it may stand anything but
    the beginning of a longer path: ``-I/a/b`` and ``x=/a/b`` hold ``/a/b``, but ``/data/a/b`` does not. In doubt it
    matches: content that counts twice costs a run, content that does not count gives a wrong result. Where two
    paths match, the longer counts. Keys are names, and stay; spelling counts (no ``..``, ``//`` or links).
    """
    if isinstance(value, str):
        return _substitute_text(value, tokens)
    if isinstance(value, Mapping):
        return {key: substitute(item, tokens) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [substitute(item, tokens) for item in value]
    return value


def _substitute_text(text: str, tokens: Mapping[str, str]) -> str:
    paths = sorted((path for path in tokens if path and path in text), key=len, reverse=True)
    done, position = "", 0
    while paths:
        found = [(start, path) for path in paths if (start := _find_whole(text, path, position)) >= 0]
        if not found:
            break
        start, path = min(found, key=lambda match: match[0])  # of equals the first, which is the longest
        done += text[position:start] + tokens[path]
        position = start + len(path)
    return done + text[position:]


def _find_whole(text: str, path: str, start: int) -> int:
    while (start := text.find(path, start)) >= 0:
        end = start + len(path)
        if not _goes_on_with_name(text[end : end + 1]) and not _ends_inside_path(text, start):
            return start
        start += 1
    return -1


def _goes_on_with_name(char: str) -> bool:
    return char.isalnum() or (char != "" and char in "_.+~-")


def _ends_inside_path(text: str, end: int) -> bool:
    """Whether the word that ends here has a ``/`` in it; the ``//`` of ``file://`` is none."""
    begin = end
    while begin > 0 and (text[begin - 1] == "/" or _goes_on_with_name(text[begin - 1])):
        begin -= 1
    is_scheme = text[begin:end] == "//" and text[:begin].endswith(":")
    return "/" in text[begin:end] and not is_scheme


def digest_cache(store: Path) -> Path:
    """Return where a store remembers the digests of files."""
    return store / ".cache" / "digests.json"


class FileDigests:
    """sha256 of files and folders, remembered by device, inode, size and the times of the last change.

    A file that changed within the last two seconds is not remembered: a second change might leave the same times
    (file systems count in steps of up to 2 s). The status-change time is there because ``cp -p`` and ``rsync`` set
    the other one back. Reading never writes; :meth:`save` keeps what was learned for the next time.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._known: dict[str, str] = {}
        self._new = False
        if cache is not None:
            self._known = _read_cache(cache)

    def of(self, path: Path) -> str:
        """Return the sha256 of a file's bytes, or of the sorted names and digests of all files below a folder.

        Links count as what they point to; an empty folder and what has no content (pipes, sockets) do not count.
        Raises OSError naming what cannot be read, also inside a folder: a link to nothing, or to a folder it is in.
        """
        if path.is_dir():
            return digest([[str(file.relative_to(path)), self._of_file(file)] for file in _files_below(path)])
        if not S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "Neither a file nor a folder", str(path))
        return self._of_file(path)

    def _of_file(self, path: Path) -> str:
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                times = f"{stat.st_mtime_ns}:{stat.st_ctime_ns}"
                key = f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{times}"
                if key in self._known:
                    return self._known[key]
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        if time.time_ns() - stat.st_ctime_ns > _RACY:
            self._known[key] = found
            self._new = True
        return found

    def save(self) -> None:
        """Write the cache, if there is one and it learned something."""
        if self._cache is None or not self._new:
            return
        with store_errors(self._cache):
            self._cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._cache, json.dumps(self._known))
        self._new = False


def _read_cache(path: Path) -> dict[str, str]:
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):  # a cache may be thrown away
        return {}
    return known if isinstance(known, dict) else {}


def _files_below(folder: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    """Return the files below a folder, links followed, sorted by the parts of their names."""
    if any(folder.samefile(other) for other in above):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        mode = path.stat().st_mode
        if S_ISDIR(mode):
            found.extend(_files_below(path, (*above, folder)))
        elif S_ISREG(mode):
            found.append(path)
    return found
