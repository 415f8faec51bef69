"""Arithmetic that stays small: every step gives a finite number, and text and lists of bounded size.

An expression of a campaign file runs in the manager. These are the operations it is made of, so that no expression
can take the machine's memory or time, whatever it says.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from socm_like.sweep.values import BITS, DEPTH

LARGEST = 10_000
"""Characters and values in any text or list that an expression makes."""


def bounded(value: Any) -> Any:
    """Return a result of an expression; ValueError or OverflowError where it is too large or not finite."""
    if _weight(value, 0) > LARGEST + 1:
        raise ValueError(f"more than {LARGEST} characters or values")
    return value


def _weight(value: Any, depth: int) -> int:
    """Return the characters and values in a value, and one for itself."""
    if depth > 2 * DEPTH:
        raise ValueError(f"lists nested more than {2 * DEPTH} levels deep")
    match value:
        case str():
            return len(value) + 1
        case list():
            return 1 + sum(_weight(item, depth + 1) for item in value)
        case dict():
            return 1 + sum(len(key) + _weight(item, depth + 1) for key, item in value.items())
    _finite(value)
    return 1


def _finite(value: Any) -> Any:
    if isinstance(value, complex):
        raise ValueError("the result is not a real number")
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError("the result is not finite")
    if isinstance(value, int) and value.bit_length() > BITS:
        raise OverflowError(f"the result has more than {BITS} bits")
    return value


def _numbers(symbol: str, operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(left: Any, right: Any) -> Any:
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            found = type(right if isinstance(left, int | float) else left).__name__
            raise TypeError(f"{symbol} takes numbers, not {found}")
        return _finite(operation(left, right))

    return apply


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, str | list) and _weight(left, 0) + _weight(right, 0) > LARGEST + 2:
        raise ValueError(f"more than {LARGEST} characters or values")
    return _finite(left + right)


def _multiply(left: Any, right: Any) -> Any:
    if isinstance(right, str | list):
        left, right = right, left
    if isinstance(left, str | list) and isinstance(right, int) and (_weight(left, 0) - 1) * right > LARGEST:
        raise ValueError(f"more than {LARGEST} characters or values")
    return _finite(left * right)


def _power(left: Any, right: Any) -> Any:
    whole = isinstance(left, int) and isinstance(right, int)
    if whole and abs(left) > 1 and left.bit_length() * right > 2 * BITS:
        raise OverflowError(f"the result has more than {BITS} bits")
    return left**right


def _round(number: Any, *digits: Any) -> Any:
    if any(not isinstance(count, int) or abs(count) > 400 for count in digits):
        raise ValueError("round takes a whole number of digits, at most 400")
    return round(number, *digits)


def _float(value: Any) -> float:
    number: float = _finite(float(value))
    return number


OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        "Add": _add,
        "Sub": _numbers("-", operator.sub),
        "Mult": _multiply,
        "Div": _numbers("/", operator.truediv),
        "FloorDiv": _numbers("//", operator.floordiv),
        "Mod": _numbers("%", operator.mod),
        "Pow": _numbers("**", _power),
    }
)
"""The name of an operator in Python's syntax tree -> what it does here."""

FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "abs": abs,
        "ceil": math.ceil,
        "exp": math.exp,
        "float": _float,
        "floor": math.floor,
        "int": int,
        "log": math.log,
        "log10": math.log10,
        "log2": math.log2,
        "max": max,
        "min": min,
        "round": _round,
        "sqrt": math.sqrt,
    }
)
"""What an expression may call."""
