"""Data of a fit that need not fit into memory: files, arrays and functions, gone through block by block.

Each pass goes once through the data from the first to the last point; the fit reads the next block while it computes
(passes.py). Nothing here imports JAX.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from socm_workflows.fit.sources.arrays import array_source
from socm_workflows.fit.sources.binary import Column, open_npy, open_npz
from socm_workflows.fit.sources.blocks import Block, Columns, NanPolicy, Source
from socm_workflows.fit.sources.functions import block_source
from socm_workflows.fit.sources.hdf5 import open_hdf5
from socm_workflows.fit.sources.text import open_text

__all__ = ["Block", "Source", "array_source", "block_source", "open_source"]

BY_NAME = {".npz": open_npz, ".h5": open_hdf5, ".hdf5": open_hdf5}
"""Formats whose columns have names only."""
PARQUET = (".parquet", ".pq")
PARQUET_MODULE = "socm_workflows.fit.sources.parquet"


def open_source(
    path: str | Path,
    x: Column | Sequence[Column] = 0,
    y: Column = 1,
    sigma: Column | None = None,
    *,
    block_points: int | None = None,
    nan_policy: NanPolicy = "raise",
    skip: int = 0,
    delimiter: str = "auto",
) -> Source:
    """Return a source of a file: text in columns, .npy, .npz, .h5, .hdf5, or .parquet (the extra ``parquet``).

    ``x`` (one column, or several predictors), ``y`` and ``sigma`` are columns: names, or numbers from 0 in text and
    .npy. ``block_points`` is how many points are read together; blocks of chunked HDF5 are whole chunks. ``skip`` and
    ``delimiter`` are for text, as in a campaign file. Only the beginning of the file is read here.

    Raises ValueError: no such format, no data, columns that are not there or of different lengths, or stand twice.
    Raises OSError: the file cannot be read. Raises ModuleNotFoundError: Parquet without pyarrow.
    """
    path = Path(path)
    predictors = (x,) if isinstance(x, int | str) else tuple(x)
    columns = (*predictors, y) if sigma is None else (*predictors, y, sigma)
    repeated = [column for column in columns if columns.count(column) > 1]
    if not predictors or repeated:
        what = f"column {repeated[0]!r} stands twice among x, y and sigma" if repeated else "x names no column"
        raise ValueError(f"{path}: {what}")
    found = _open(path, columns, skip, delimiter)
    return Source(found, predictors=len(predictors), block_points=block_points, nan_policy=nan_policy)


def _open(path: Path, columns: Sequence[Column], skip: int, delimiter: str) -> Columns:
    suffix = path.suffix.lower()
    if suffix not in BY_NAME and suffix not in (".npy", *PARQUET):
        return open_text(path, columns, skip=skip, delimiter=delimiter)
    if skip or delimiter != "auto":
        raise ValueError(f"{path}: skip and delimiter are for files of text, not {suffix}")
    if suffix == ".npy":
        return open_npy(path, columns)
    names = [column for column in columns if isinstance(column, str)]
    if len(names) < len(columns):
        raise ValueError(f"{path}: columns of {suffix} files have names: write names for x, y and sigma")
    if suffix in BY_NAME:
        return BY_NAME[suffix](path, names)
    try:
        parquet = import_module(PARQUET_MODULE)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise ModuleNotFoundError('Parquet needs pyarrow: pip install "socm-like[parquet]"', name="pyarrow") from error
    found: Columns = parquet.open_parquet(path, names)
    return found
