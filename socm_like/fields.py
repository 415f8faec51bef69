"""Field types for workflows and campaign tables: units are part of the type.

``Bytes`` and ``Duration`` refuse a number without a unit when it comes from a file (validation context
``{"from_file": True}``); Python code may pass plain ints of bytes and timedeltas.
"""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic import PlainSerializer as _Serializer

from socm_like.units import format_span, parse_size, parse_span


class Model(BaseModel):
    """Base of every value read from a file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False, allow_inf_nan=False)


class NotIdentity:
    """Marks a field that does not change the result: ``progress: Annotated[bool, NotIdentity()] = False``."""


class FileWords:
    """Marks the words of a command line: one that names a file beside the campaign file stands for that file."""


def _from_file(info: ValidationInfo) -> bool:
    return bool(info.context and info.context.get("from_file"))


def _as_bytes(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, bool) or _from_file(info):
        raise ValueError(f"a size needs a number and a unit {_instead(value, 'GiB')}")
    return value


def _as_timedelta(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        try:
            return timedelta(seconds=parse_span(value))
        except OverflowError as error:
            raise ValueError(f"a time span must be shorter than {timedelta.max.days} d, got {value!r}") from error
    if isinstance(value, bool) or _from_file(info):
        raise ValueError(f"a time span needs a number and a unit {_instead(value, 'min')}")
    return value


def _instead(value: Any, unit: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'(write "{value} {unit}", not {value!r})'
    return f'(write "8 {unit}"), got {value!r}'


def _positive_span(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError(f"a time span must be longer than zero, got {format_span(value.total_seconds())}")
    return value


def _as_query(value: str) -> str:
    """Let SQLite's own parser judge the expression; names are unknown here, so they are not judged.

    Only an expression parses both after WHERE and inside CASE: no second statement, no ``1) OR (1``, no comment
    that would swallow what stands behind it.
    """
    if not value.strip() or value.startswith("file://"):
        return value
    connection = sqlite3.connect(":memory:")
    try:
        for statement in (f"SELECT 1 WHERE {value}", f"SELECT CASE WHEN {value} THEN 1 END"):
            problem = _problem(connection, statement)
            if problem is not None:
                raise ValueError(f"not an SQL condition: {problem} in {value!r}")
    finally:
        connection.close()
    return value


def _problem(connection: sqlite3.Connection, statement: str) -> str | None:
    try:
        connection.execute(f"EXPLAIN {statement}")
    except (sqlite3.Error, sqlite3.Warning) as error:
        if not str(error).startswith(("no such column", "no such function", "no such table")):
            return str(error).rstrip(".")
    return None


Bytes = Annotated[int, BeforeValidator(_as_bytes), Field(gt=0)]
"""A size in bytes; files write ``"8 GiB"``."""

Duration = Annotated[
    timedelta,
    BeforeValidator(_as_timedelta),
    AfterValidator(_positive_span),
    _Serializer(lambda value: value.total_seconds(), return_type=float, when_used="json"),
]
"""A time span; files write ``"20 min"``; JSON gives float seconds."""

Query = Annotated[str, AfterValidator(_as_query)]
"""An SQL condition on an observation database, or ``file://`` a list of ids; a syntax error is found at check time."""
