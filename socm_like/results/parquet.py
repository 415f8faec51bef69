"""Rows as a Parquet file, with a type for every column.

Importing this module needs pyarrow, the extra ``parquet``; only the command imports it, and only when asked to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]

from socm_like.journal import store_errors
from socm_like.results.columns import columns_of
from socm_like.results.table import Row

_INSTANT = pyarrow.timestamp("us", tz="UTC")
_FACTS: Mapping[str, Any] = {
    "task": pyarrow.string(),
    "workflow": pyarrow.string(),
    "kind": pyarrow.string(),
    "state": pyarrow.string(),
    "attempts": pyarrow.int64(),
    "started": _INSTANT,
    "ended": _INSTANT,
    "wall_seconds": pyarrow.float64(),
    "cpu_seconds": pyarrow.float64(),
    "peak_memory_bytes": pyarrow.int64(),
    "peak_gpu_memory_bytes": pyarrow.int64(),
}
"""The columns of every table have the same type in every file."""


def write_parquet(rows: Sequence[Row], path: Path) -> None:
    """Write the tidy table to a file; a reader sees the old file or the new one, never half.

    Raises StoreError; the old file then stands, and nothing else is left behind.
    """
    table = to_arrow(rows)
    temporary = path.with_name(f"{path.name}.{uuid4().hex[:16]}.tmp")
    with store_errors(path):
        try:
            pyarrow.parquet.write_table(table, temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def to_arrow(rows: Sequence[Row]) -> Any:
    """Return the tidy table as a ``pyarrow.Table``.

    A column of booleans, of whole numbers, of numbers or of texts has that type; lists and tables are JSON texts. A
    column that mixes types, or whose numbers its type cannot hold exactly, has each value as JSON text; one without
    any value is of texts.
    """
    columns = columns_of(rows)
    arrays = []
    for name in columns.names:
        values = columns.column(name)
        arrays.append(_fact(values, _FACTS[name]) if name in _FACTS else _free(values))
    return pyarrow.Table.from_arrays(arrays, names=[_encodable(name) for name in columns.names])


def _fact(values: Sequence[Any], type_: Any) -> Any:
    if type_ == _INSTANT:
        values = [None if value is None else datetime.fromisoformat(value) for value in values]
    elif type_ == pyarrow.string():
        values = [_encodable(value) for value in values]
    return pyarrow.array(values, type_)


def _free(values: Sequence[Any]) -> Any:
    """Return a parameter or a metric with the type its values have in common."""
    present = [value for value in values if value is not None]
    types = {type(value) for value in present}
    if types == {bool}:
        return pyarrow.array(values, pyarrow.bool_())
    if types == {int} and all(-(2**63) <= value < 2**63 for value in present):
        return pyarrow.array(values, pyarrow.int64())
    if float in types and types <= {int, float} and all(_is_double(value) for value in present):
        return pyarrow.array([None if value is None else float(value) for value in values], pyarrow.float64())
    if types <= {str}:
        return pyarrow.array([None if value is None else _encodable(value) for value in values], pyarrow.string())
    texts = [None if value is None else _encodable(json.dumps(value, ensure_ascii=False)) for value in values]
    return pyarrow.array(texts, pyarrow.string())


def _is_double(value: float) -> bool:
    try:
        return float(value) == value
    except OverflowError:
        return False


def _encodable(text: str) -> str:
    """Return text that UTF-8 can hold: half a surrogate pair, which JSON can bring in, is escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
