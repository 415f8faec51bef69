"""Reading a table of numbers: text in columns, .npz, HDF5. Every error names file, line and column."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from socm_like.errors import suggest

Floats = NDArray[np.float64]
Column = int | str

UNNAMED = "column"
"""What a column without a name is called, before its number."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file of text is laid out."""

    separator: str | None
    """None for whitespace."""
    first: int
    """Number of the first line of data, counted from 1."""
    header: tuple[str, ...]
    """Names of the columns, or nothing."""
    width: int
    """Columns of the first line of data."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Columns of equal length, in the order they were asked for."""

    path: Path
    labels: tuple[str, ...]
    """What to call each column."""
    columns: tuple[Floats, ...]
    """Each (n,)."""
    layout: Layout | None = None
    """Of a file of text."""
    rows: NDArray[np.intp] | None = None
    """Which rows of the file these are; None for the first ones."""
    left_out: int = 0
    """Rows that are missing, because a number in them is not finite."""

    def place(self, row: int, column: int) -> str:
        """Return where a number stands, as a person would look for it."""
        row = row if self.rows is None else int(self.rows[row])
        if self.layout is None:
            return f"{self.path}, {self.labels[column]}[{row}]"
        line, _ = next(islice(_data_lines(self.path, self.layout), row, None))
        return f"{self.path}, line {line}, {self.labels[column]}"


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What is fitted."""

    x: Floats
    """(n,), or (k, n) for several predictors."""
    y: Floats
    """(n,), transformed."""
    sigma: Floats | None
    """(n,), transformed alike."""
    x_label: str
    y_label: str
    left_out: int = 0
    """Points of the file that are not among these, because a number is not finite."""


NanPolicy = Literal["raise", "omit"]


def read_table(
    path: Path,
    columns: Sequence[Column],
    *,
    skip: int = 0,
    delimiter: str = "auto",
    nan_policy: NanPolicy = "raise",
) -> Table:
    """Return the columns of a file, chosen by number (from 0) or name; see :func:`checked` for ``nan_policy``.

    Text: cells separated by ``delimiter``, ``#`` begins a comment, blank lines do not count. Names come from a first
    line that is not all numbers, or from a comment right before the data with one word per column.
    .npz and .h5: one-dimensional arrays by name.

    Raises ValueError: a column that is not there or is ambiguous, a cell that is not a finite number, no data,
    arrays of different lengths. Raises OSError when the file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in (".npz", ".h5", ".hdf5"):
        arrays = (_read_npz if suffix == ".npz" else _read_hdf5)(path, [str(column) for column in columns])
        table = Table(path, tuple(map(str, columns)), arrays)
    else:
        table = _read_text(path, columns, skip, delimiter)
    lengths = {label: column.size for label, column in zip(table.labels, table.columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{path}: different lengths: {', '.join(f'{k} {v}' for k, v in lengths.items())}")
    if table.columns[0].size == 0:
        raise ValueError(f"{path} holds no data")
    return checked(table, nan_policy)


def checked(table: Table, nan_policy: NanPolicy) -> Table:
    """Return a table whose numbers are all finite; with ``omit`` without the rows where one is not.

    Raises ValueError: a number is not finite, and the policy is ``raise``, or no row is left.
    """
    finite = [np.isfinite(column) for column in table.columns]
    if all(bool(every.all()) for every in finite):
        return table
    if nan_policy == "raise":
        index, every = next((index, every) for index, every in enumerate(finite) if not every.all())
        row = int(np.argmin(every))
        raise ValueError(f"{table.place(row, index)}: {table.columns[index][row]} is not a finite number")
    kept = np.flatnonzero(np.logical_and.reduce(finite))
    rows = kept if table.rows is None else table.rows[kept]
    columns = tuple(column[kept] for column in table.columns)
    return replace(table, columns=columns, rows=rows, left_out=finite[0].size - kept.size)


def make_sample(table: Table, *, predictors: int, response: Literal["identity", "log"]) -> Sample:
    """Return what is fitted: the first columns are predictors, then the response, then sigma if there is one more.

    With ``response = "log"``, y is replaced by its natural logarithm and sigma by ``sigma / y``.
    Raises ValueError where sigma, or a y whose logarithm is wanted, is not positive.
    """
    x = table.columns[0] if predictors == 1 else np.stack(table.columns[:predictors])
    y = table.columns[predictors]
    sigma = table.columns[predictors + 1] if len(table.columns) > predictors + 1 else None
    *across, label = (label_of(role, name) for role, name in _roles(table, predictors))
    if sigma is not None:
        _refuse_non_positive(table, predictors + 1, "sigma must be positive")
    if response == "log":
        _refuse_non_positive(table, predictors, "it has no logarithm")
        sigma = None if sigma is None else sigma / y
        y, label = np.log(y), f"log({label})"
    return Sample(x, y, sigma, ", ".join(across), label, table.left_out)


def label_of(role: str, column: Column) -> str:
    """Return what to call a column that is x or y: its name, if it has one."""
    name = f"{UNNAMED} {column}" if isinstance(column, int) else column
    return f"{role} ({name})" if name.startswith(UNNAMED) else name


def _roles(table: Table, predictors: int) -> Iterator[tuple[str, str]]:
    """Yield ``x`` or ``y`` with the label of each column that is one."""
    for index, label in enumerate(table.labels[: predictors + 1]):
        yield ("y" if index == predictors else "x"), label


def _refuse_non_positive(table: Table, column: int, why: str) -> None:
    bad = np.flatnonzero(table.columns[column] <= 0)
    if bad.size:
        raise ValueError(f"{table.place(int(bad[0]), column)}: {table.columns[column][bad[0]]:g}; {why}")


def _read_text(path: Path, columns: Sequence[Column], skip: int, delimiter: str) -> Table:
    layout = find_layout(path, skip, delimiter)
    indices = [index_of(path, column, layout) for column in columns]
    labels = tuple(layout.header[i] if layout.header else f"{UNNAMED} {i}" for i in indices)
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = islice(file, layout.first - 1, None)
            cells = np.loadtxt(lines, delimiter=layout.separator, usecols=indices, ndmin=2, dtype=np.float64)
    except ValueError as error:
        raise ValueError(diagnose(path, layout, indices, labels) or f"{path}: {error}") from error
    return Table(path, labels, tuple(np.ascontiguousarray(column) for column in cells.T), layout)


def find_layout(path: Path, skip: int, delimiter: str) -> Layout:
    """Return the layout by looking at the first line that is neither blank nor comment, and the one after."""
    comment = ""
    separator: str | None = None if delimiter in ("auto", "whitespace") else delimiter
    header: tuple[str, ...] = ()
    for number, line in lines_of(path, skip):
        text = line.partition("#")[0].strip()
        if not text:
            comment = line.partition("#")[2].strip() or comment
            continue
        if delimiter == "auto" and not header:
            separator = next((mark for mark in (",", ";") if mark in text), None)
        cells = _split(text, separator)
        if header or all(_number(cell) is not None for cell in cells):
            names = header or tuple(cell.strip() for cell in _split(comment, separator))
            if header and len(header) != len(cells):
                raise ValueError(f"{path}, line {number}: {len(cells)} columns under a header of {len(header)}")
            return Layout(separator, number, names if len(names) == len(cells) else (), len(cells))
        header = tuple(cell.strip().strip("\"'") for cell in cells)
    raise ValueError(f"{path} holds no data" + (f" after the first {skip} lines" if skip else ""))


def lines_of(path: Path, skip: int) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of every line after the first ``skip``."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from islice(enumerate(file, 1), skip, None)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a file of text (nor .npz, .h5, .hdf5)") from error


def _data_lines(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of every line of data."""
    for number, line in lines_of(path, layout.first - 1):
        text = line.partition("#")[0].strip()
        if text:
            yield number, _split(text, layout.separator)


def _split(text: str, separator: str | None) -> list[str]:
    return text.split(separator)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def index_of(path: Path, column: Column, layout: Layout) -> int:
    """Return where a column stands, counted from 0. Raises ValueError, with the near match, when there is none."""
    there = f"it has {layout.width} columns" + (f": {', '.join(layout.header)}" if layout.header else "")
    if isinstance(column, int):
        if column >= layout.width:
            raise ValueError(f"{path} has no column {column} (counted from 0); {there}")
        return column
    if column not in layout.header:
        unnamed = "" if layout.header else ", without names"
        raise ValueError(f"{path} has no column {column!r}{suggest(column, layout.header)}; {there}{unnamed}")
    if layout.header.count(column) > 1:
        raise ValueError(f"{path} has {layout.header.count(column)} columns {column!r}; {there}; choose by number")
    return layout.header.index(column)


def diagnose(path: Path, layout: Layout, indices: Sequence[int], labels: Sequence[str]) -> str:
    """Return what is wrong with the first bad line, or an empty string."""
    for number, cells in _data_lines(path, layout):
        for index, label in zip(indices, labels, strict=True):
            if index >= len(cells):
                return f"{path}, line {number}: {len(cells)} columns, but {label} is wanted"
            if not cells[index].strip():
                return f"{path}, line {number}, {label}: the cell is empty"
            if _number(cells[index]) is None:
                return f"{path}, line {number}, {label}: {cells[index].strip()!r} is not a number"
    return ""


def _read_npz(path: Path, names: Sequence[str]) -> tuple[Floats, ...]:
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a readable .npz file")
    with np.load(path, allow_pickle=False) as archive:
        members = [_member(path, _known(path, name, archive.files), archive) for name in names]
        return tuple(_floats(member, path, name) for member, name in zip(members, names, strict=True))


def _member(path: Path, name: str, archive: Mapping[str, object]) -> object:
    try:
        return archive[name]
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}, {name}: cannot be read: {error}") from error


def _read_hdf5(path: Path, names: Sequence[str]) -> tuple[Floats, ...]:
    if path.is_file() and not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not a readable HDF5 file")
    with h5py.File(path, "r") as file:
        known: list[str] = []
        file.visititems(lambda name, item: known.append(name) if isinstance(item, h5py.Dataset) else None)
        keys = [_known(path, name.strip("/"), known) for name in names]
        return tuple(_floats(file[key][()], path, key) for key in keys)


def _known(path: Path, name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise ValueError(f"{path} has no dataset {name!r}{suggest(name, known)}; it has: {', '.join(known) or 'none'}")
    return name


def _floats(values: object, path: Path, name: str) -> Floats:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise ValueError(
            f"{path}, {name}: shape {array.shape} of {array.dtype}; a column has one dimension and numbers"
        )
    return array.astype(np.float64)
