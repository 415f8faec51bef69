"""Names and seeds of parameter sets: of what a set holds, never of where it stands in the sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from socm_like.identity import digest
from socm_like.sweep.values import Value

LONGEST = 100
"""Characters of a label."""
_FORBIDDEN = frozenset("[]/")
"""Kept out of the names of tasks: ``maps[band=90]`` is a task, ``maps/a`` a path."""
_DIGITS = (8, 16, 64)
"""Hex digits of a digest; more only where the digests of two sets begin alike."""


def seed_of(values: Mapping[str, Value], replicate: int, base: int | None = None) -> int:
    """Return the seed of a replicate, at least 0 and below 2**31: 31 bits of sha256 of all three arguments."""
    return int(digest([dict(values), replicate, base])[:8], 16) >> 1


def label_of(values: Mapping[str, Value]) -> str:
    """Return a set as ``lr=0.01,layers=2``: six digits, the last part of a path, lists as ``[4,4]``."""
    return _label(values, lambda number: f"{number:.6g}")


def labels_of_sets(sets: Sequence[Mapping[str, Value]]) -> list[str]:
    """Return a label for each of several different sets, all different and fit for the name of a task.

    Where six digits make two sets equal, all digits are written. A label of more than 100 characters, or with
    characters that a name cannot have, loses them and ends in ``~`` and 8 hex digits of the set's digest.
    """
    labels = [_fit(label_of(values), values) for values in sets]
    for more in (_with_all_digits, *map(_with_digest, _DIGITS)):
        counts = Counter(labels)
        if len(counts) == len(labels):
            break
        labels = [more(values) if counts[label] > 1 else label for label, values in zip(labels, sets, strict=True)]
    return labels


def _with_all_digits(values: Mapping[str, Value]) -> str:
    return _fit(_label(values, repr), values)


def _with_digest(digits: int) -> Callable[[Mapping[str, Value]], str]:
    def label(values: Mapping[str, Value]) -> str:
        return _cut(_label(values, repr), values, digits)

    return label


def _fit(label: str, values: Mapping[str, Value]) -> str:
    is_fit = len(label) <= LONGEST and label.isprintable() and _FORBIDDEN.isdisjoint(label)
    return label if is_fit else _cut(label, values, _DIGITS[0])


def _cut(label: str, values: Mapping[str, Value], digits: int) -> str:
    kept = "".join(char for char in label if char.isprintable() and char not in _FORBIDDEN)
    return f"{kept[: LONGEST - digits - 1]}~{digest(dict(values))[:digits]}"


def _label(values: Mapping[str, Value], number: Callable[[float], str]) -> str:
    return ",".join(f"{name}={_short(value, number)}" for name, value in values.items())


def _short(value: Value, number: Callable[[float], str]) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return number(value)
        case str():
            return value.rstrip("/").rpartition("/")[2]
        case list():
            return f"[{','.join(_short(item, number) for item in value)}]"
        case dict():
            return f"{{{_label(value, number)}}}"
    return str(value)
