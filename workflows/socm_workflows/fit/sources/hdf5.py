"""Columns of datasets of an HDF5 file. Contiguous ones are read as bytes, chunked ones chunk by chunk by HDF5.

A chunk is unpacked once per pass: blocks are whole chunks, or one chunk where that is longer than a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from socm_workflows.fit.sources.binary import (
    BinaryColumns,
    Pick,
    Slab,
    check_lengths,
    check_numbers,
    known_name,
)
from socm_workflows.fit.sources.blocks import Columns, Floats, Stamp, aligned


@dataclass(frozen=True, slots=True)
class ChunkedColumns:
    """Datasets of one length that HDF5 reads."""

    stamp: Stamp
    labels: tuple[str, ...]
    n: int
    chunk: int
    """Rows of the longest chunk; 1 where none is chunked."""

    def read(self, points: int) -> Iterator[tuple[Floats, ...]]:
        """Yield blocks of whole chunks."""
        self.stamp.check()
        step = max(self.chunk, points // self.chunk * self.chunk)
        with h5py.File(self.stamp.path, "r") as file:
            datasets = [file[label] for label in self.labels]
            for begin in range(0, self.n, step):
                end = min(begin + step, self.n)
                block = tuple(self._part(dataset, begin, end) for dataset in datasets)
                yield block
                del block
        self.stamp.check()

    def _part(self, dataset: Any, begin: int, end: int) -> Floats:
        values = aligned(end - begin)
        try:
            dataset.read_direct(values, slice(begin, end))
        except OSError as error:
            raise ValueError(f"{self.stamp.path}, {dataset.name}: cannot be read: {error}") from error
        return values

    def place(self, row: int, column: int) -> str:
        """Return file, dataset and row."""
        return f"{self.stamp.path}, {self.labels[column]}[{row}]"

    def identity(self) -> dict[str, Any]:
        """Return what tells the file from others, and the number of rows."""
        return {**self.stamp.identity(), "points": self.n}


def open_hdf5(path: Path, names: Sequence[str]) -> Columns:
    """Return one-dimensional datasets of a file by their path in it.

    Raises ValueError: it is no such file, or has not these datasets, or they have different lengths.
    """
    stamp = Stamp.of(path)
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not a readable HDF5 file")
    with h5py.File(path, "r") as file:
        known: list[str] = []
        file.visititems(lambda name, item: known.append(name) if isinstance(item, h5py.Dataset) else None)
        keys = [known_name(path, name.strip("/"), known) for name in names]
        datasets = [file[key] for key in keys]
        for key, dataset in zip(keys, datasets, strict=True):
            check_numbers(path, key, dataset.shape, dataset.dtype)
        check_lengths(path, {key: dataset.shape[0] for key, dataset in zip(keys, datasets, strict=True)})
        offsets = [None if dataset.external else dataset.id.get_offset() for dataset in datasets]
        slabs = [
            Slab(path, dataset.dtype, dataset.shape[0], offset)
            for dataset, offset in zip(datasets, offsets, strict=True)
            if offset is not None
        ]
        if len(slabs) == len(datasets):
            return BinaryColumns(stamp, tuple(slabs), tuple(Pick(index, key) for index, key in enumerate(keys)))
        chunk = max(dataset.chunks[0] if dataset.chunks else 1 for dataset in datasets)
        return ChunkedColumns(stamp, tuple(keys), datasets[0].shape[0], chunk)
