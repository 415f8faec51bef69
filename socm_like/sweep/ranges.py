"""Ranges: evenly spaced values whose ends and steps are the decimal numbers that were written.

Linear values are ``min + (max - min) i / (n - 1)`` in fractions of the decimal text, so 0.1 to 0.5 in 3 gives 0.3 and
not 0.30000000000000004. Logarithmic ones are ``exp(ln min + (ln max - ln min) i / (n - 1))`` in 40-digit decimals,
rounded to 30: they do not depend on the machine's mathematics library.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from fractions import Fraction
from typing import Any

from socm_like.errors import suggest
from socm_like.sweep.faults import Faults, KeyPath, shown
from socm_like.sweep.values import NoValueError, Value, plain

WORDS = ("min", "max", "n", "step", "scale", "type")
"""The keys of a range."""
MOST = 1_000_000
"""Combinations that a sweep may try, and values that an axis may have."""
MOST_LOGARITHMIC = 100_000
"""Values of a logarithmic range: each costs 20 microseconds."""


def is_range(value: Any) -> bool:
    """Whether a table is meant as a range, not as nested axes: a key of a range holds neither list nor table."""
    return isinstance(value, Mapping) and any(
        word in WORDS and not isinstance(item, list | tuple | Mapping) for word, item in value.items()
    )


def read_range(table: Mapping[str, Any], key: KeyPath, faults: Faults) -> list[Value] | None:
    """Return the values of ``{min, max, n or step, scale, type}``; None, and faults, when it is none."""
    faults.check_keys(table, key, WORDS)
    low, high = (read_number(table, end, key, faults) for end in ("min", "max"))
    scale = read_choice(table, "scale", ("linear", "log"), key, faults)
    kind = read_choice(table, "type", ("int", "float"), key, faults)
    n = _count(table, key, faults, scale)
    if low is None or high is None or n is None:
        return None
    try:
        if scale == "log":
            return _typed(_logarithmic(low, high, n), kind)
        if n == 0:
            n = _steps(low, high, fraction(table["step"])) + 1
        values = _linear(low, high, n)
        if not kind and type(low) is type(high) is int and all(value.denominator == 1 for value in values):
            kind = "int"
        return _typed(values, kind)
    except NoValueError as error:
        faults.add(key, str(error))
        return None


def read_number(table: Mapping[str, Any], word: str, key: KeyPath, faults: Faults) -> int | float | None:
    """Return a finite number that a table must have."""
    if word not in table:
        faults.add(key, f"the required key {word!r} is missing")
        return None
    try:
        value = plain(table[word])
        if isinstance(value, int | float) and not isinstance(value, bool):
            float(value)
            return value
    except (NoValueError, OverflowError):
        pass
    faults.add((*key, word), f"write a finite number, got {shown(table[word])}")
    return None


def read_count(table: Mapping[str, Any], word: str, key: KeyPath, faults: Faults, most: int = MOST) -> int | None:
    """Return a whole number from 1 up."""
    value = table[word]
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
        return value
    faults.add((*key, word), f"write a whole number from 1 to {most}, got {shown(value)}")
    return None


def read_choice(table: Mapping[str, Any], word: str, allowed: tuple[str, ...], key: KeyPath, faults: Faults) -> str:
    """Return one of the allowed words; an empty string when there is none."""
    value = table.get(word, "")
    if word not in table or value in allowed:
        return str(value)
    near = suggest(value, allowed) if isinstance(value, str) else ""
    wanted = " or ".join(repr(choice) for choice in allowed)
    faults.add((*key, word), f"write {wanted}, got {shown(value)}{near}")
    return ""


def _count(table: Mapping[str, Any], key: KeyPath, faults: Faults, scale: str) -> int | None:
    """Return how many values a range has, 0 where its step says so."""
    if ("n" in table) == ("step" in table):
        faults.add(key, "write n, the number of values, or step, the distance between them; one of the two")
        return None
    if "n" in table:
        return read_count(table, "n", key, faults, MOST_LOGARITHMIC if scale == "log" else MOST)
    if scale == "log":
        faults.add((*key, "step"), "a logarithmic range has no step: write n, the number of values")
        return None
    step = read_number(table, "step", key, faults)
    if step is not None and step <= 0:
        faults.add((*key, "step"), f"write a step above 0, also where max is below min; got {shown(step)}")
    return 0 if step is not None and step > 0 else None


def fraction(number: Any) -> Fraction:
    """Return the number that was written: 0.1 is one tenth."""
    return Fraction(repr(plain(number)))


def _steps(low: int | float, high: int | float, step: Fraction) -> int:
    span = abs(fraction(high) - fraction(low))
    steps = span / step
    if steps.denominator != 1:
        raise NoValueError(
            f"a step of {float(step):g} does not divide {float(span):g}, the distance from min to max; "
            f"write n, the number of values, instead"
        )
    if steps >= MOST:
        raise NoValueError(f"a step of {float(step):g} makes more than {MOST} values; write a longer one")
    return int(steps)


def _linear(low: int | float, high: int | float, n: int) -> list[Fraction]:
    _check_ends(low, high, n)
    start, span = fraction(low), fraction(high) - fraction(low)
    return [start + span * index / max(n - 1, 1) for index in range(n)]


def _logarithmic(low: int | float, high: int | float, n: int) -> list[Fraction]:
    if low <= 0 or high <= 0:
        raise NoValueError(f"a logarithmic range needs min and max above 0, got {shown(low)} and {shown(high)}")
    _check_ends(low, high, n)
    with localcontext(Context(prec=40, rounding=ROUND_HALF_EVEN, Emin=-999999, Emax=999999)):
        start, end = Decimal(repr(low)).ln(), Decimal(repr(high)).ln()
        exact = [(start + (end - start) * index / (n - 1)).exp() for index in range(1, n - 1)]
    rounded = Context(prec=30, rounding=ROUND_HALF_EVEN, Emin=-999999, Emax=999999)
    inner = [Fraction(rounded.plus(value)) for value in exact]
    return [fraction(low), *inner, fraction(high)][:n]


def _check_ends(low: int | float, high: int | float, n: int) -> None:
    if n == 1 and low != high:
        raise NoValueError(f"n = 1 is for min = max, but min is {shown(low)} and max is {shown(high)}")
    if n > 1 and low == high:
        raise NoValueError(f"min and max are both {shown(low)}, which is 1 value, not {n}")


def _typed(values: list[Fraction], kind: str) -> list[Value]:
    typed: list[Value] = [round(value) if kind == "int" else float(value) + 0.0 for value in values]
    distinct = len(set(map(repr, typed)))
    if distinct < len(typed):
        rest = ", or leave type = 'int' out" if kind == "int" else ""
        raise NoValueError(f"{len(typed)} values, but only {distinct} of them are distinct; write a smaller n{rest}")
    return typed
