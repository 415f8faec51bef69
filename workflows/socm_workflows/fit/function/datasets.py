"""The data of one fit, in memory or in a source of blocks, and what is taken from them: a sample, all, a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from socm_workflows.fit.solver.case import omit_not_finite
from socm_workflows.fit.solver.passes import ArraySource, Block, BlockSource
from socm_workflows.fit.sources import open_source

Floats = NDArray[np.float64]
BLOCK = 2**20
"""Points that statistics look at together."""
SAMPLED_BLOCKS = 512
"""Stretches of the data that a sample is drawn from."""


@dataclass(frozen=True, slots=True, eq=False)
class OmittingSource:
    """A source without the points where a number is not finite."""

    source: BlockSource
    n: int | None = None

    @property
    def k(self) -> int:
        """Predictors."""
        return self.source.k

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks, each without such points."""
        for x, y, sigma in self.source.blocks():
            yield omit_not_finite(np.asarray(x, float), np.asarray(y, float), sigma)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """The data of one fit."""

    x: Any = None
    """(n,) or (k, n); None with a source."""
    y: Any = None
    sigma: Any = None
    """(n,), (n, n) or None."""
    source: BlockSource | None = None
    points: int = 0

    @property
    def predictors(self) -> int:
        """How many x has."""
        if self.source is not None:
            return self.source.k
        return 1 if self.x.ndim == 1 else len(self.x)

    @property
    def sigma_dimensions(self) -> int:
        """0 without sigma, 1 with one per point, 2 with a covariance."""
        return 0 if self.sigma is None else int(self.sigma.ndim)

    @property
    def itemsize(self) -> int:
        """Bytes of a number as it is given."""
        return 8 if self.source is not None else max(self.x.dtype.itemsize, self.y.dtype.itemsize)

    def blocks(self) -> Iterator[Block]:
        """Yield the data in blocks; a covariance is left out."""
        source = self.source
        if source is None:
            source = ArraySource(self.x, self.y, self.sigma if self.sigma_dimensions == 1 else None, BLOCK)
        for x, y, sigma in source.blocks():
            yield np.asarray(x, float), np.asarray(y, float), None if sigma is None else np.asarray(sigma, float)

    def in_memory(self) -> Dataset:
        """Return the same data as arrays."""
        if self.source is None:
            return self
        rows = () if self.source.k == 1 else (self.source.k,)
        x, y, begin = np.empty((*rows, self.points)), np.empty(self.points), 0
        sigma: Floats | None = None
        for part_x, part_y, part_sigma in self.source.blocks():
            end = begin + len(part_y)
            if end > self.points:
                raise ValueError(f"the source says that it has {self.points} points, and gives more")
            x[..., begin:end], y[begin:end] = part_x, part_y
            if part_sigma is not None:
                sigma = np.empty(self.points) if sigma is None else sigma
                sigma[begin:end] = part_sigma
            begin = end
        return Dataset(x[..., :begin], y[:begin], None if sigma is None else sigma[:begin], points=begin)

    def sample(self, most: int, seed: int) -> Block:
        """Return at most so many points, drawn at random with a seed, in order; all of them if that is no more."""
        if self.points <= most and self.source is None:
            return np.asarray(self.x, float), np.asarray(self.y, float), self.sigma
        chosen = np.sort(np.random.default_rng(seed).choice(self.points, min(most, self.points), replace=False))
        if self.source is None:
            sigma = None if self.sigma_dimensions != 1 else np.asarray(self.sigma[chosen], float)
            return np.asarray(self.x[..., chosen], float), np.asarray(self.y[chosen], float), sigma
        parts, begin = [], 0
        for x, y, sigma in self.blocks():
            here = chosen[(chosen >= begin) & (chosen < begin + y.size)] - begin
            parts.append((x[..., here], y[here], None if sigma is None else sigma[here]))
            begin += y.size
        spread = [part[2] for part in parts if part[2] is not None]
        joined = np.concatenate([part[0] for part in parts], axis=-1)
        return joined, np.concatenate([part[1] for part in parts]), np.concatenate(spread) if spread else None

    def identity(self) -> Mapping[str, Any]:
        """Return what tells these data from others: what the source says, or a hash of the first block."""
        if hasattr(self.source, "identity"):
            said: Mapping[str, Any] = self.source.identity()  # type: ignore[union-attr]
            return said
        known = hashlib.sha256()
        first = next(iter(self.blocks()), None)
        for values in () if first is None else first:
            if values is not None:
                known.update(np.ascontiguousarray(values[..., :BLOCK]).tobytes())
        return {"points": self.points, "predictors": self.predictors, "sha256": known.hexdigest()}


def make_dataset(
    x: Any, y: Any, sigma: Any = None, *, omits: bool = False, columns: Sequence[int | str] | None = None
) -> Dataset:
    """Return the data that are given: arrays, or as x a source of blocks or the path of a file.

    Of a file, ``columns`` are read: the predictors and last y; ``sigma`` is then a column, too. With ``omits``, points
    where a number is not finite are left out. A source that does not know its number of points is gone through once,
    to count them.

    Raises ValueError: y or sigma beside a source, no y, or x turned round; or as :func:`~sources.open_source`.
    """
    if isinstance(x, str | Path):
        if y is not None:
            raise ValueError(f"x is the file {x}, which has y, too: leave y out, and name the columns by columns=")
        is_named = Path(x).suffix.lower() not in ("", ".txt", ".dat", ".csv", ".tsv", ".npy")
        names = tuple(columns or (("x", "y") if is_named else (0, 1)))
        x, sigma = open_source(x, names[:-1], names[-1], sigma, nan_policy="omit" if omits else "raise"), None
        omits = False
    elif columns is not None:
        raise ValueError("columns is for files: write the path of one as x")
    if hasattr(x, "blocks") and hasattr(x, "k"):
        if y is not None or sigma is not None:
            raise ValueError("x is a source, which gives y and sigma itself: leave them out")
        source: BlockSource = OmittingSource(x) if omits else x
        points = sum(len(block[1]) for block in source.blocks()) if source.n is None else source.n
        return Dataset(source=source, points=points)
    if y is None:
        raise ValueError("there is no y: give x and y, or a source of blocks as x")
    across, data = _array(x), _array(y)
    if data.ndim == 1 and across.ndim == 2 and across.shape[-1] != data.size == across.shape[0]:
        raise ValueError(f"x is {across.shape}, one row per point; write one row per predictor, as SciPy has it: x.T")
    spread = None if sigma is None else _array(sigma)
    if spread is not None and spread.ndim == 0:
        spread = np.full(data.shape, float(spread))
    if spread is not None and spread.ndim == 1 and np.any(spread <= 0):
        raise ValueError("sigma has numbers that are not positive: each is the standard deviation of a y")
    if omits and spread is None and across.ndim in (1, 2) and across.shape[-1:] == data.shape:
        across, data, _ = omit_not_finite(across, data, None)
    if omits and spread is not None and spread.ndim == 1 and across.shape[-1:] == data.shape == spread.shape:
        across, data, spread = omit_not_finite(across, data, spread)
    return Dataset(across, data, spread, points=data.size)


def _array(values: Any) -> NDArray[Any]:
    """Return numbers as an array of a real type; as they are, where they are one."""
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise ValueError("the data are complex: fit real and imaginary parts, or the modulus")
    return array if array.dtype.kind == "f" else array.astype(np.float64)
