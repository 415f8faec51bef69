"""Columns of a Parquet file, read batch by batch. Importing this module needs pyarrow, the extra ``parquet``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]

from socm_workflows.fit.sources.binary import check_lengths, known_name
from socm_workflows.fit.sources.blocks import Floats, Stamp


@dataclass(frozen=True, slots=True)
class ParquetColumns:
    """Columns of a Parquet file; a row group is in memory at a time."""

    stamp: Stamp
    labels: tuple[str, ...]
    n: int

    def read(self, points: int) -> Iterator[tuple[Floats, ...]]:
        """Yield blocks of at most so many rows; what is null is nan."""
        self.stamp.check()
        with pyarrow.parquet.ParquetFile(self.stamp.path) as file:
            try:
                for batch in file.iter_batches(points, columns=[*dict.fromkeys(self.labels)]):
                    yield tuple(
                        np.asarray(batch.column(label).to_numpy(zero_copy_only=False), np.float64)
                        for label in self.labels
                    )
            except (OSError, pyarrow.ArrowException) as error:
                raise ValueError(f"{self.stamp.path}: cannot be read: {error}") from error
        self.stamp.check()

    def place(self, row: int, column: int) -> str:
        """Return file, column and row."""
        return f"{self.stamp.path}, {self.labels[column]}[{row}]"

    def identity(self) -> dict[str, Any]:
        """Return what tells the file from others, and the number of rows."""
        return {**self.stamp.identity(), "points": self.n}


def open_parquet(path: Path, names: Sequence[str]) -> ParquetColumns:
    """Return columns of a Parquet file by name.

    Raises ValueError: it is no such file, has not these columns, or they are no numbers.
    """
    stamp = Stamp.of(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, int(file.metadata.num_rows)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from error
    for name in names:
        kind = schema.field(known_name(path, name, schema.names)).type
        if not (pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind)):
            raise ValueError(f"{path}, {name}: {kind}; a column has numbers")
    check_lengths(path, dict.fromkeys(names, rows))
    return ParquetColumns(stamp, tuple(names), rows)
