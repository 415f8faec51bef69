"""What makes two tasks the same: sha256 of everything that determines the result, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from socm_like.journal import store_errors


def canonical(value: Any) -> str:
    """Return JSON that is equal for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON, 64 hex characters."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def substitute(value: Any, tokens: Mapping[str, str]) -> Any:
    """Return ``value`` with every path in its strings replaced by what the path stands for.

    ``tokens`` maps absolute paths to content (``sha256:...``) or to an upstream task's file (``output:...``), so
    that an identity does not depend on where things lie.
    """
    if isinstance(value, str):
        for path in sorted(tokens, key=len, reverse=True):
            value = value.replace(path, tokens[path])
        return value
    if isinstance(value, Mapping):
        return {key: substitute(item, tokens) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [substitute(item, tokens) for item in value]
    return value


class FileDigests:
    """sha256 of files and folders, remembered by device, inode, size and modification time.

    Reading never writes; :meth:`save` keeps what was learned for the next time.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._known: dict[str, str] = {}
        self._new = False
        if cache is not None and cache.is_file():
            try:
                self._known = json.loads(cache.read_bytes())
            except ValueError:  # a cache may be thrown away
                self._known = {}

    def of(self, path: Path) -> str:
        """Return the sha256 of a file's bytes, or of the sorted names and digests of a folder's files."""
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            return digest([[str(file.relative_to(path)), self.of(file)] for file in files])
        stat = path.stat()
        key = f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}"
        if key not in self._known:
            with path.open("rb") as file:
                self._known[key] = hashlib.file_digest(file, "sha256").hexdigest()
            self._new = True
        return self._known[key]

    def save(self) -> None:
        """Write the cache, if there is one and it learned something."""
        if self._cache is None or not self._new:
            return
        with store_errors(self._cache):
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._cache.with_name(f"{self._cache.name}.{os.getpid()}.tmp")
            temporary.write_text(json.dumps(self._known))
            temporary.replace(self._cache)
