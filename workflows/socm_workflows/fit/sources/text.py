"""Columns of a file of text, parsed piece by piece with NumPy; the layout is found as data.py finds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from socm_workflows.fit.data import UNNAMED, Column, Layout, Table, diagnose, find_layout, index_of, lines_of
from socm_workflows.fit.sources.blocks import Floats, Stamp


@dataclass(frozen=True, slots=True)
class TextColumns:
    """Columns of a file of text; only reading tells how many rows there are."""

    stamp: Stamp
    layout: Layout
    indices: tuple[int, ...]
    labels: tuple[str, ...]
    n: None = None

    def read(self, points: int) -> Iterator[tuple[Floats, ...]]:
        """Yield blocks of so many rows.

        Raises ValueError: a line with too few columns or a cell that is no number, with its line number.
        """
        self.stamp.check()
        pending: list[str] = []
        for _, line in lines_of(self.stamp.path, self.layout.first - 1):
            text = line.partition("#")[0] if "#" in line else line
            if text.isspace() or not text:
                continue
            pending.append(text)
            if len(pending) == points:
                block = self._parse(pending)
                pending = []
                yield block
                del block
        if pending:
            yield self._parse(pending)
        self.stamp.check()

    def _parse(self, lines: Sequence[str]) -> tuple[Floats, ...]:
        try:
            cells = np.loadtxt(
                lines, delimiter=self.layout.separator, usecols=self.indices, ndmin=2, dtype=np.float64, comments=None
            )
        except ValueError as error:
            path = self.stamp.path
            problem = diagnose(path, self.layout, self.indices, self.labels)
            raise ValueError(problem or f"{path}: {error}") from error
        return tuple(np.ascontiguousarray(column) for column in cells.T)

    def place(self, row: int, column: int) -> str:
        """Return file, line and column."""
        return Table(self.stamp.path, self.labels, (), self.layout).place(row, column)

    def identity(self) -> dict[str, Any]:
        """Return what tells the file from others."""
        return self.stamp.identity()


def open_text(path: Path, columns: Sequence[Column], *, skip: int = 0, delimiter: str = "auto") -> TextColumns:
    """Return columns of text by number or name.

    Raises ValueError: no data, or it has not these columns.
    """
    stamp = Stamp.of(path)
    layout = find_layout(path, skip, delimiter)
    indices = tuple(index_of(path, column, layout) for column in columns)
    labels = tuple(layout.header[index] if layout.header else f"{UNNAMED} {index}" for index in indices)
    return TextColumns(stamp, layout, indices, labels)
