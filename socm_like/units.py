"""Sizes and time spans as people write them; no dependency, so that ``status`` starts at once.

Sizes are int bytes and spans float seconds inside; text carries the unit at the edges.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

_SIZE_UNITS = {"B": 1}
for _power, _letter in enumerate("kMGTP", start=1):
    _SIZE_UNITS[f"{_letter}B"] = 1000**_power
    _SIZE_UNITS[f"{_letter.upper()}iB"] = 1024**_power
_SIZE_UNITS["KB"] = 1000

_SPAN_UNITS: dict[str, float] = {}
for _seconds, _names in {
    0.001: "ms millisecond milliseconds",
    1.0: "s sec second seconds",
    60.0: "m min minute minutes",
    3600.0: "h hr hour hours",
    86400.0: "d day days",
    604800.0: "w week weeks",
}.items():
    _SPAN_UNITS.update(dict.fromkeys(_names.split(), _seconds))

_NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+"
_SIZE = re.compile(rf"\s*({_NUMBER})\s*([A-Za-z]*)\s*")
_SPAN_PART = re.compile(rf"\s*({_NUMBER})\s*([A-Za-z]+)\s*")
_CLOCK = re.compile(r"\s*(\d+):([0-5]\d):([0-5]\d)\s*")


def parse_size(text: str) -> int:
    """Return the bytes in ``8 GiB``, ``500 MB`` or ``1.5 TiB``.

    Raises ValueError, naming what was found, when the number or its unit is missing.
    """
    match = _SIZE.fullmatch(text)
    if match is None or match[2] not in _SIZE_UNITS:
        raise ValueError(f"a size needs a number and a unit (kB, MB, GB, TB, KiB, MiB, GiB, TiB), got {text!r}")
    size = float(match[1]) * _SIZE_UNITS[match[2]]
    if math.isinf(size):
        raise ValueError(f"a size must be finite, got {text!r}")
    return round(size)


def parse_span(text: str) -> float:
    """Return the seconds in ``20 min``, ``1 h 30 min``, ``2d`` or ``02:00:00``.

    Raises ValueError, naming what was found, when the number or its unit is missing.
    """
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        return int(clock[1]) * 3600.0 + int(clock[2]) * 60.0 + int(clock[3])
    total, position = 0.0, 0
    while position < len(text):
        part = _SPAN_PART.match(text, position)
        if part is None or part[2] not in _SPAN_UNITS:
            position = 0
            break
        total += float(part[1]) * _SPAN_UNITS[part[2]]
        position = part.end()
    if position == 0:
        raise ValueError(f"a time span needs a number and a unit (s, min, h, d, w), got {text!r}")
    if math.isinf(total):
        raise ValueError(f"a time span must be finite, got {text!r}")
    return total


def format_size(size: float) -> str:
    """Return bytes as ``1.5 GiB``: binary units, three significant digits or all before the point."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = 0
    while size >= 1023.5 and power < len(units) - 1:
        size, power = size / 1024, power + 1
    digits = f"{size:.0f}" if power == 0 or size >= 999.5 else f"{size:.3g}"
    return f"{digits} {units[power]}"


def format_span(seconds: float) -> str:
    """Return seconds as ``0.31 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min`` or ``4 d 03 h``."""
    if seconds < 0:
        return f"-{format_span(-seconds)}"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def format_instant(at: float) -> str:
    """Return seconds since the epoch as ISO-8601 UTC with microseconds, ``2026-11-21T10:00:00.000000Z``."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def parse_instant(text: str) -> float:
    """Return the seconds since the epoch of an ISO-8601 instant.

    Raises ValueError for anything else, and for an instant without a time zone.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"an instant needs a time zone (write {text}Z), got {text!r}")
    return instant.timestamp()
