"""Arrays and memory maps as a source: maps are copied block by block, and their pages given back.

Pages of a map that were read stay in the memory of the process until the kernel wants them; a pass over a large map
would look like a process of its size. They stay in the page cache of the kernel when they are given back.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from socm_workflows.fit.sources.blocks import SAMPLE_BYTES, SAMPLES, Floats, NanPolicy, Source, aligned


@dataclass(frozen=True, slots=True, eq=False)
class ArrayColumns:
    """Vectors of one length, each an array or a map of a file."""

    labels: tuple[str, ...]
    arrays: tuple[NDArray[Any], ...]

    @property
    def n(self) -> int:
        """Points."""
        return len(self.arrays[0])

    def read(self, points: int) -> Iterator[tuple[Floats, ...]]:
        """Yield blocks of so many points."""
        maps = [map_of(array) for array in self.arrays]
        for begin in range(0, self.n, points):
            block = tuple(_part(array[begin : begin + points]) for array in self.arrays)
            for mapped in {id(mapped): mapped for mapped in maps if mapped is not None}.values():
                mapped.madvise(mmap.MADV_DONTNEED)
            yield block
            del block

    def place(self, row: int, column: int) -> str:
        """Return name and index."""
        return f"{self.labels[column]}[{row}]"

    def identity(self) -> dict[str, Any]:
        """Return the number of points, and a digest of some from all over."""
        digest = hashlib.sha256()
        length = min(self.n, SAMPLE_BYTES // 8)
        for array in self.arrays:
            for index in range(SAMPLES):
                begin = (self.n - length) * index // (SAMPLES - 1)
                digest.update(np.asarray(array[begin : begin + length], np.float64).tobytes())
        return {"points": self.n, "sample": digest.hexdigest()[:32]}


def _part(values: NDArray[Any]) -> Floats:
    """Return values as they are where programs can take them, else a copy."""
    if values.dtype == np.float64 and values.flags.c_contiguous and map_root(values) is None:
        return values
    room = aligned(values.size)
    room[...] = values
    return room


def map_root(array: NDArray[Any]) -> np.memmap[Any, Any] | None:
    """Return the map of a file that an array is a view of, or None."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and isinstance(base.base, mmap.mmap):
            return base
        base = base.base
    return None


def map_of(array: NDArray[Any]) -> mmap.mmap | None:
    """Return the map below an array if its pages can be given back: not those that hold what was written to a copy."""
    root = map_root(array)
    return root.base if root is not None and root.mode != "c" and isinstance(root.base, mmap.mmap) else None


def array_source(
    x: ArrayLike,
    y: ArrayLike,
    sigma: ArrayLike | None = None,
    *,
    block_points: int | None = None,
    nan_policy: NanPolicy = "raise",
) -> Source:
    """Return a source of arrays: ``x`` (n,) or (k, n), ``y`` (n,), ``sigma`` (n,), any of them a ``numpy.memmap``.

    Raises ValueError: shapes that do not go together, or what is not numbers.
    """
    across, response = np.asanyarray(x), np.asanyarray(y)
    rows = (across,) if across.ndim == 1 else tuple(across)
    labels = ("x",) if across.ndim == 1 else tuple(f"x[{index}]" for index in range(len(rows)))
    spread = () if sigma is None else (np.asanyarray(sigma),)
    arrays = (*rows, response, *spread)
    if across.ndim not in (1, 2) or any(array.shape != (response.size,) for array in arrays):
        shapes = f"x is {across.shape}, y {response.shape}" + (f" and sigma {spread[0].shape}" if spread else "")
        raise ValueError(f"{shapes}; they must be (n,) or (k, n), and (n,)")
    for name, array in zip((*labels, "y", "sigma"), arrays, strict=False):
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name} is of {array.dtype}; it must be numbers")
    if not response.size:
        raise ValueError("x and y hold no points")
    columns = ArrayColumns((*labels, "y", *(("sigma",) if spread else ())), arrays)
    return Source(columns, predictors=len(rows), block_points=block_points, nan_policy=nan_policy)
