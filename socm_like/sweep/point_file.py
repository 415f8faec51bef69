"""Points read from a CSV file: the first line names the columns, every other line is one set."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from socm_like.sweep.axes import Definitions, Points
from socm_like.sweep.faults import Faults, KeyPath, shown
from socm_like.sweep.values import Value, first_repeated

_TRUTH = {"true": True, "True": True, "false": False, "False": False}
_WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,999})")
_NUMBER = re.compile(r"[+-]?(?:(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|nan|NaN|inf|Inf)")
"""A number does not begin with 00 or 07: 007 is the name of something."""
_COLUMN = re.compile(r"[^\W\d][\w-]*(?:\.[^\W\d][\w-]*)*")

Line = tuple[int, list[str]]
"""The number of a line, and its cells."""


def read_points(path: Path, key: KeyPath, faults: Faults, definitions: Definitions) -> list[Points]:
    """Return the rows of a file as one factor; blank lines and spaces around cells do not count.

    The type of a column is that of all its cells: true or false, whole numbers, numbers, else text.
    """
    text = _read(path, key, faults)
    lines = _lines(text, path, key, faults) if text is not None else []
    if not lines:
        return []
    (_, names), *rows = lines
    wrong = [name for name in names if not _COLUMN.fullmatch(name)]
    for name in wrong:
        allowed = "a name of letters, digits, _ and -, starting with a letter"
        faults.add(key, f"{path}:{lines[0][0]}: the first line names the columns; write {allowed}; got {shown(name)}")
    for name in names:
        if name not in wrong:
            definitions.define(name, key)
    if not rows:
        faults.add(key, f"{path}: no line below the names: write one line per set")
    if wrong or not rows or not _is_complete(lines, path, key, faults):
        return []
    columns = [_column(rows, index, path, key, faults) for index in range(len(names))]
    complete = [column for column in columns if column]
    if len(complete) < len(columns):
        return []
    values = list(zip(*complete, strict=True))
    repeated = first_repeated(values)
    if repeated:
        line, before = rows[repeated[0]][0], rows[repeated[1]][0]
        faults.add(key, f"{path}:{line}: the same set as in line {before}; write each once")
    return [Points(tuple(names), values)]


def _read(path: Path, key: KeyPath, faults: Faults) -> str | None:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        faults.add(key, f"no such file: {path}")
    except OSError as error:
        faults.add(key, f"cannot read {path}: {error.strerror}")
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x}"
        faults.add(key, f"{path}: not UTF-8 text ({found} at position {error.start}); save the file as UTF-8")
    except ValueError as error:  # a null byte in the name, a character that no file name can have
        faults.add(key, f"cannot read {shown(str(path))}: {error}")
    return None


def _lines(text: str, path: Path, key: KeyPath, faults: Faults) -> list[Line]:
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        faults.add(key, f"{path}:{reader.line_num}: not a CSV file ({error})")
        return []
    lines = [line for line in lines if line[1] not in ([], [""])]
    if not lines:
        faults.add(key, f"{path}: an empty file; write the names of the columns, and below them one line per set")
    return lines


def _is_complete(lines: Sequence[Line], path: Path, key: KeyPath, faults: Faults) -> bool:
    """Whether every line has a cell in every column; a fault for each that has not."""
    (_, names), *rows = lines
    complete = True
    for number, cells in rows:
        where = f"{path}:{number}"
        if len(cells) != len(names):
            faults.add(key, f"{where}: {len(cells)} cells, but the first line names {len(names)} columns")
            complete = False
        elif "" in cells:
            faults.add(key, f"{where}: no value for {names[cells.index('')]!r}; write one, or take the line out")
            complete = False
    return complete


def _column(rows: Sequence[Line], index: int, path: Path, key: KeyPath, faults: Faults) -> list[Value]:
    """Return the values of a column; none, and faults, when they are not finite."""
    cells = [cells[index] for _, cells in rows]
    if all(cell in _TRUTH for cell in cells):
        return [_TRUTH[cell] for cell in cells]
    if all(_WHOLE.fullmatch(cell) for cell in cells):
        return [int(cell) for cell in cells]
    if not all(_NUMBER.fullmatch(cell) for cell in cells):
        return [*cells]
    values: list[Any] = [float(cell) + 0.0 for cell in cells]
    for (number, _), value, cell in zip(rows, values, cells, strict=True):
        if not math.isfinite(value):
            faults.add(key, f"{path}:{number}: write finite numbers, got {shown(cell)}")
    return values if all(map(math.isfinite, values)) else []
