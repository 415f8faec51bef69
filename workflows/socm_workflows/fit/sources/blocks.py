"""From columns that are read in blocks to the source of a fit: x, y and sigma, checked, the same in each pass.

Memory: the blocks that the reader of the source holds, 8 bytes per number, and nothing that grows with the data.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Block = tuple[Floats, Floats, Floats | None]
"""x (n,) or (k, n), y (n,), sigma (n,) or None."""
NanPolicy = Literal["raise", "omit"]

BLOCK_POINTS = 2**19
"""Points of a block unless stated: 8 MiB of x and y, several milliseconds of reading."""
ALIGNMENT = 64
"""Bytes; the programs take arrays at such an address without a copy."""
SAMPLE_BYTES = 4096
SAMPLES = 64
"""Places of a file whose bytes tell it from another one."""


def aligned(count: int) -> Floats:
    """Return a vector, not filled, at an address that programs take without a copy."""
    raw = np.empty(count + ALIGNMENT // 8)
    first = -raw.ctypes.data % ALIGNMENT // 8
    return raw[first : first + count]


class Columns(Protocol):
    """Columns of numbers of one length, read in blocks as often as wanted."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What to call each column."""
        ...

    @property
    def n(self) -> int | None:
        """Rows; None where only reading tells."""
        ...

    def read(self, points: int) -> Iterator[tuple[Floats, ...]]:
        """Yield blocks of about so many rows from the first to the last, a vector per column."""
        ...

    def place(self, row: int, column: int) -> str:
        """Return where a number stands, as a person would look for it."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return what tells these data from others, for JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Stamp:
    """What shows that a file was written to."""

    path: Path
    size: int
    modified: int
    """Nanoseconds."""
    inode: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Return the stamp of a file as it is now. Raises OSError when there is none."""
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime_ns, status.st_ino)

    def check(self) -> None:
        """Raise ValueError where the file is no longer what it was."""
        try:
            now = Stamp.of(self.path)
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read any more: {error.strerror}") from error
        if now != self:
            change = f"from {self.size} to {now.size} bytes" if now.size != self.size else "with its size kept"
            raise ValueError(f"{self.path} changed during the fit, {change}; fit a file that nobody writes to")

    def identity(self) -> dict[str, Any]:
        """Return name, size, time and a digest of bytes from all over the file."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            last = max(0, self.size - SAMPLE_BYTES)
            for at in sorted({last * index // (SAMPLES - 1) for index in range(SAMPLES)}):
                digest.update(os.pread(file.fileno(), SAMPLE_BYTES, at))
        return {
            "file": self.path.name, "bytes": self.size, "modified": self.modified, "sample": digest.hexdigest()[:32],
        }  # fmt: skip


def are_finite(values: Floats) -> bool:
    """Return whether all numbers are finite; the sum tells in one pass and no memory, unless it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())


class Source:
    """Columns as a fit takes them: the first are predictors, then the response, then sigma if there is one more.

    What a pass has found to be finite is not looked at again in the next one: readers of files raise when they change.
    """

    def __init__(
        self,
        columns: Columns,
        *,
        predictors: int = 1,
        block_points: int | None = None,
        nan_policy: NanPolicy = "raise",
    ) -> None:
        """Raises ValueError: no positive ``block_points``, or another policy than raise and omit."""
        if block_points is not None and block_points < 1:
            raise ValueError(f"block_points is {block_points}; write a positive number of points")
        if nan_policy not in ("raise", "omit"):
            raise ValueError(f'nan_policy is {nan_policy!r}; write "raise" or "omit"')
        self._columns = columns
        self._predictors = predictors
        self._points = block_points or BLOCK_POINTS
        self._policy = nan_policy
        self._is_clean = False
        self.omitted = 0
        """Points left out in the last pass that has ended."""

    @property
    def n(self) -> int | None:
        """Points; None while they have not been counted, or where some may be omitted."""
        return self._columns.n if self._policy == "raise" or self._is_clean else None

    @property
    def k(self) -> int:
        """Predictors."""
        return self._predictors

    def identity(self) -> Mapping[str, Any]:
        """Return what tells these data from others, for JSON; a checkpoint holds it."""
        return {**self._columns.identity(), "columns": list(self._columns.labels), "nan_policy": self._policy}

    def blocks(self) -> Iterator[Block]:
        """Yield the points in blocks, one pass.

        Raises ValueError: a number is not finite or a sigma not positive, no points, or the file is damaged or has
        changed.
        """
        row, omitted = 0, 0
        for arrays in self._columns.read(self._points):
            length = arrays[0].size
            kept = arrays if self._is_clean else self._checked(arrays, row)
            omitted += length - kept[0].size
            row += length
            del arrays
            if kept[0].size:
                yield self._block(kept)
            del kept
        if row == omitted:
            raise ValueError(f"{self._columns.place(0, 0)}: no points" + (" with finite numbers" if row else ""))
        self.omitted = omitted
        self._is_clean = omitted == 0 and self._columns.n is not None

    def _block(self, arrays: Sequence[Floats]) -> Block:
        x = arrays[0] if self._predictors == 1 else np.stack(arrays[: self._predictors])
        return x, arrays[self._predictors], arrays[self._predictors + 1] if self._has_sigma(arrays) else None

    def _has_sigma(self, arrays: Sequence[Floats]) -> bool:
        return len(arrays) > self._predictors + 1

    def _checked(self, arrays: tuple[Floats, ...], row: int) -> tuple[Floats, ...]:
        """Return the rows of numbers that are finite; ``row`` is the number of the first one."""
        bad = [index for index, values in enumerate(arrays) if not are_finite(values)]
        if bad and self._policy == "raise":
            at = int(np.flatnonzero(~np.isfinite(arrays[bad[0]]))[0])
            raise ValueError(
                f"{self._columns.place(row + at, bad[0])}: {arrays[bad[0]][at]} is not a finite number; "
                'leave such points out with nan_policy = "omit"'
            )
        if self._has_sigma(arrays) and (wrong := np.flatnonzero((arrays[-1] <= 0) & np.isfinite(arrays[-1]))).size:
            at = int(wrong[0])
            place = self._columns.place(row + at, len(arrays) - 1)
            raise ValueError(f"{place}: {arrays[-1][at]:g}; sigma must be positive")
        if not bad:
            return arrays
        good = np.logical_and.reduce([np.isfinite(values) for values in arrays])
        return tuple(values[good] for values in arrays)
