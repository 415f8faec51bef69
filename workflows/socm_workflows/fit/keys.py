"""The types of the keys of a fit, as a campaign file writes them."""

from __future__ import annotations

from math import inf
from typing import Annotated, Any

from pydantic import BeforeValidator


def as_columns(value: Any) -> Any:
    """Return one column as a list of one."""
    return (value,) if isinstance(value, int | str) else value


def _as_column(value: Any) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if is_number or (isinstance(value, str) and value):
        return value
    raise ValueError(f"a column is a number from 0 or a name, got {value!r}")


def as_start(value: Any) -> Any:
    """Return starting values as they are. Raises ValueError: they are neither table nor list, or not finite."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if items is None:
        raise ValueError(f"write a table of parameters or a list of numbers, got {value!r}")
    for name, number in items:
        if isinstance(number, bool) or not isinstance(number, int | float) or not -inf < number < inf:
            raise ValueError(f"{name}: write a finite number, got {number!r}")
    return value


def _as_limit(value: Any) -> Any:
    """Return None for an infinite limit, which TOML writes ``inf`` and JSON cannot."""
    return None if isinstance(value, float) and value in (inf, -inf) else value


def _as_tolerance(value: Any) -> Any:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1):
        return value
    raise ValueError(f"a tolerance is a number from 0 to below 1, got {value!r}")


Tolerance = Annotated[float | None, BeforeValidator(_as_tolerance)]
"""A tolerance; None, which a goal makes of those that are not given, follows from the goal and the number of points."""

Column = Annotated[int | str, BeforeValidator(_as_column)]
"""A column by number, counted from 0, or by name."""

Limit = Annotated[float | None, BeforeValidator(_as_limit)]
"""A bound; ``inf``, ``-inf`` and None are none."""
