"""Blocks that a program makes: from a function that begins anew each time it is called, or a collection of blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from socm_workflows.fit.sources.blocks import Floats, NanPolicy, Source

ArrayBlock = Sequence[ArrayLike | None]
"""(x, y) or (x, y, sigma); x is (n,) or (k, n)."""

EXHAUSTED = (
    "a generator can be gone through once, and a fit goes through the data once per iteration; "
    "pass the function that makes it, such as source=blocks instead of source=blocks()"
)


class FunctionColumns:
    """The rows of blocks that a function gives again and again."""

    def __init__(self, begin: Callable[[], Iterable[ArrayBlock]], name: str) -> None:
        """Looks at the first block. Raises TypeError and ValueError as :func:`block_source`."""
        self._begin = begin
        self._name = name
        self._last: object = None
        blocks = self._blocks()
        first = next(blocks, None)
        if first is None:
            raise ValueError(f"{name} gives no blocks; it must yield (x, y) or (x, y, sigma)")
        blocks.close()
        if isinstance(self._last, Generator):
            self._last.close()
        *across, _, sigma = first
        self.predictors = len(across)
        self._has_sigma = sigma is not None
        self._sample = hashlib.sha256(b"".join(row.tobytes() for row in first if row is not None)).hexdigest()[:32]
        names = ("x",) if self.predictors == 1 else tuple(f"x[{index}]" for index in range(self.predictors))
        self.labels: tuple[str, ...] = (*names, "y", *(("sigma",) if self._has_sigma else ()))

    @property
    def n(self) -> None:
        """None: only going through them tells."""
        return

    def read(self, points: int) -> Iterator[tuple[Floats, ...]]:
        """Yield the blocks, long ones in parts."""
        for number, (*numbers, sigma) in enumerate(self._blocks()):
            rows = tuple(values for values in (*numbers, sigma) if values is not None)
            if len(numbers) - 1 != self.predictors or (sigma is not None) != self._has_sigma:
                has = f"{len(numbers) - 1} predictors and {'a' if sigma is not None else 'no'} sigma"
                had = f"{self.predictors} and {'one' if self._has_sigma else 'none'}"
                raise ValueError(f"{self._name}: block {number} has {has}, and block 0 {had}")
            for begin in range(0, rows[0].size, points):
                yield tuple(values[begin : begin + points] for values in rows)

    def _blocks(self) -> Generator[tuple[Floats | None, ...], None, None]:
        """Yield the rows of each block: predictors, response, sigma or None."""
        made = self._begin()
        if not isinstance(made, Iterable):
            raise TypeError(
                f"{self._name} returns {type(made).__name__}; it must return blocks (x, y) or (x, y, sigma)"
            )
        if isinstance(made, Iterator) and made is self._last:
            raise TypeError(f"{self._name} returns the same generator again: {EXHAUSTED}")
        self._last = made
        for number, block in enumerate(made):
            yield self._rows(block, number)

    def _rows(self, block: ArrayBlock, number: int) -> tuple[Floats | None, ...]:
        if not isinstance(block, tuple | list) or len(block) not in (2, 3):
            raise ValueError(f"{self._name}: block {number} is no (x, y) or (x, y, sigma)")
        x, *others = (np.asarray(values, np.float64) for values in block if values is not None)
        rows = ((x,) if x.ndim == 1 else tuple(x)) + tuple(others)
        if x.ndim not in (1, 2) or any(values.ndim != 1 or values.shape != x.shape[-1:] for values in rows):
            shapes = ", ".join(str(values.shape) for values in (x, *others))
            raise ValueError(f"{self._name}: block {number} has shapes {shapes}; they must be (n,) or (k, n), and (n,)")
        return rows if len(others) == 2 else (*rows, None)

    def place(self, row: int, column: int) -> str:
        """Return the function, the row over all blocks and the column."""
        return f"{self._name}, {self.labels[column]}[{row}]"

    def identity(self) -> dict[str, Any]:
        """Return the name and a digest of the first block; what else will come cannot be told."""
        return {"function": self._name, "sample": self._sample}


def block_source(
    data: Callable[[], Iterable[ArrayBlock]] | Iterable[ArrayBlock],
    *,
    block_points: int | None = None,
    nan_policy: NanPolicy = "raise",
) -> Source:
    """Return a source of blocks: of a function that returns a fresh generator each time, or of a list of blocks.

    A block is (x, y) or (x, y, sigma), with x (n,) or (k, n). The first one is asked for at once.
    Raises TypeError: a generator, which is spent after one pass. Raises ValueError: no blocks, or what is none.
    """
    if isinstance(data, Iterator):
        raise TypeError(EXHAUSTED)
    if callable(data):
        begin, name = data, getattr(data, "__qualname__", type(data).__name__)
    elif isinstance(data, Iterable):
        begin, name = (lambda: data), type(data).__name__
    else:
        raise TypeError(f"{type(data).__name__} is no source: pass a function that returns blocks, or a list of them")
    columns = FunctionColumns(begin, name)
    return Source(columns, predictors=columns.predictors, block_points=block_points, nan_policy=nan_policy)
