"""What an axis may hold: plain values of one type."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time
from pathlib import PurePath
from typing import Any, TypeAlias

from socm_like.identity import canonical
from socm_like.sweep.faults import shown

Value: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any]

DEPTH = 32
"""Levels that a value may nest; what walks it stays far from Python's limit of 1000 calls."""
BITS = 4096
"""Of a whole number: enough for any real one, and its text stays below Python's 4300 digits."""

_TYPES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a point",
    str: "text",
    list: "a list",
    dict: "a table",
}


class NoValueError(ValueError):
    """Something that cannot be a value, or values that cannot stand together; the text says why."""


def plain(value: Any, depth: int = 0) -> Value:
    """Return a value as TOML would have given it: numpy's numbers, tuples and paths count as what they hold.

    Raises NoValueError for dates, for what is not finite, too large or nested too deep, and for other objects.
    """
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    if depth > DEPTH:
        raise NoValueError(f"nested more than {DEPTH} levels deep")
    match value:
        case bool():
            return value
        case int():
            if value.bit_length() > BITS:
                raise NoValueError(f"a whole number of more than {BITS} bits; write a smaller one")
            return int(value)
        case float():
            if not math.isfinite(value):
                raise NoValueError(f"write finite numbers, got {shown(value)}")
            return float(value) + 0.0  # -0.0 becomes 0.0
        case str():
            return str.__str__(value)
        case PurePath():
            return str(value)
        case list() | tuple():
            return [plain(item, depth + 1) for item in value]
        case Mapping():
            return {_text(key): plain(item, depth + 1) for key, item in value.items()}
        case date() | time():
            raise NoValueError(f"a date or time is no value: write it in quotes, as in {value.isoformat()!r}")
    allowed = "true or false, a number, text in quotes, a list or a table"
    raise NoValueError(f"write {allowed}, got {shown(value)}")


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise NoValueError(f"the keys of a table are text, got {shown(key)}")
    return str.__str__(key)


def of_one_type(values: Sequence[Value]) -> list[Value]:
    """Return values of one type; whole numbers beside others become floats.

    Raises NoValueError, naming two of them, for any other mixture.
    """
    first, types = values[0], {type(value) for value in values}
    if len(types) == 1:
        return list(values)
    if types != {int, float}:
        alike = {int, float} if type(first) in (int, float) else {type(first)}
        other = next(value for value in values if type(value) not in alike)
        both = " and ".join(f"{shown(value)} is {_TYPES[type(value)]}" for value in (first, other))
        raise NoValueError(f"all values are of one type, but {both}")
    try:
        return [float(value) for value in values]  # type: ignore[arg-type]
    except OverflowError as error:
        raise NoValueError("a whole number beside numbers with a point is too large to be one") from error


def first_repeated(values: Iterable[Any]) -> tuple[int, int] | None:
    """Return the indices of the first value that is there twice, and of where it stood before."""
    seen: dict[str, int] = {}
    for index, value in enumerate(values):
        before = seen.setdefault(canonical(value), index)
        if before != index:
            return index, before
    return None
