"""Reading task logs without trusting them: they may be huge, binary, or still growing."""

from __future__ import annotations

import os
from pathlib import Path

_CHUNK = 8192


def printable(text: str) -> str:
    """Return text with control characters escaped, so that a log cannot disturb a terminal."""
    return "".join(
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode() for char in text
    )


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log, made safe to print; reads no more of the file than it must.

    An absent log has no lines. A line longer than 8 KiB is cut at its front.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            data = b""
            while size > 0 and data.count(b"\n") <= lines and len(data) < _CHUNK * max(lines, 1):
                step = min(_CHUNK, size)
                size -= step
                file.seek(size)
                data = file.read(step) + data
    except FileNotFoundError:
        return []
    found = data.decode("utf-8", "replace").splitlines()[-lines:] if lines else []
    return [printable(line[-_CHUNK:]) for line in found]
