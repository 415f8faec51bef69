"""The table of a fit as a source of blocks: sources/, with the response transformed, and some of its points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from socm_workflows.fit.data import Column, Sample, label_of
from socm_workflows.fit.sources import Source, open_source
from socm_workflows.fit.sources.blocks import Block

Floats = NDArray[np.float64]
ONLY_STREAMED = (".npy", ".parquet", ".pq")
"""Formats that data.py leaves to sources/."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Blocks of a table as they are fitted."""

    source: Source
    path: Path
    columns: tuple[Column, ...]
    response: Literal["identity", "log"]

    @property
    def n(self) -> int | None:
        """Points; None while they have not been counted."""
        return self.source.n

    @property
    def k(self) -> int:
        """Predictors."""
        return self.source.k

    @property
    def left_out(self) -> int:
        """Points left out in the last pass."""
        return self.source.omitted

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks, in the same order each time.

        Raises ValueError as the source does, and where a y whose logarithm is wanted is not positive.
        """
        begin = 0
        for x, y, sigma in self.source.blocks():
            if self.response == "identity":
                yield x, y, sigma
            else:
                if (bad := np.flatnonzero(y <= 0)).size:
                    row = f"point {begin + int(bad[0])} (from 0) of column {self.columns[self.k]}"
                    raise ValueError(f"{self.path}, {row}: {y[bad[0]]:g}; it has no logarithm")
                yield x, np.log(y), None if sigma is None else sigma / y
            begin += y.size

    def labels(self) -> tuple[str, str]:
        """Return what to call x and y."""
        names = self.source.identity()["columns"][: self.k + 1]
        *across, label = [label_of("y" if index == self.k else "x", name) for index, name in enumerate(names)]
        return ", ".join(across), f"log({label})" if self.response == "log" else label

    def count(self) -> int:
        """Return the number of points, which may take a pass."""
        return self.n or sum(y.size for _, y, _ in self.blocks())

    def points(self, rows: NDArray[np.intp]) -> Sample:
        """Return the points of these numbers, counted from 0 and ascending, by one pass."""
        found: list[Block] = []
        begin = 0
        for x, y, sigma in self.blocks():
            here = rows[np.searchsorted(rows, begin) : np.searchsorted(rows, begin + y.size)] - begin
            found.append((x[..., here], y[here], None if sigma is None else sigma[here]))
            begin += y.size
        return _joined(found, self)


def open_stream(
    path: Path,
    columns: tuple[Column, ...],
    *,
    predictors: int,
    response: Literal["identity", "log"],
    nan_policy: Literal["raise", "omit"],
    points: int | None,
    skip: int = 0,
    delimiter: str = "auto",
) -> Stream:
    """Return a table as blocks of about so many points. Raises ValueError and OSError as ``open_source`` does."""
    x, y, *sigma = columns[:predictors], *columns[predictors:]
    source = open_source(
        path, x, y, sigma[0] if sigma else None,
        block_points=points, nan_policy=nan_policy, skip=skip, delimiter=delimiter,
    )  # fmt: skip
    return Stream(source, path, columns, response)


def read_whole(stream: Stream) -> Sample:
    """Return all points of a stream."""
    return _joined(list(stream.blocks()), stream)


def _joined(blocks: list[Block], stream: Stream) -> Sample:
    x, y = (np.concatenate([block[part] for block in blocks], axis=-1) for part in (0, 1))
    sigmas = [sigma for _, _, sigma in blocks if sigma is not None]
    return Sample(x, y, np.concatenate(sigmas) if sigmas else None, *stream.labels(), stream.left_out)
