"""Columns of records that lie in a file as they are in memory: .npy, .npz, contiguous datasets of HDF5.

They are read into blocks, not mapped: the pages of a map count as memory of the process, and the fit would wait for
each of them. Members of a compressed .npz are unpacked block by block.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from socm_like.errors import suggest
from socm_workflows.fit.sources.blocks import Floats, Stamp, aligned

Column = int | str
LOCAL_HEADER = 26
"""Where the lengths of name and extra field stand in the header of a member (APPNOTE.TXT 4.3.7), and 30 its length."""


@dataclass(frozen=True, slots=True)
class Slab:
    """Records of one type, one after the other."""

    path: Path
    dtype: np.dtype[Any]
    """Of a record; with a shape where it is a row of a matrix."""
    rows: int
    offset: int
    """Bytes before the first record: in the file, or in what is unpacked of a member."""
    member: str = ""
    """Name in an archive of what must be unpacked; empty where the bytes lie in the file as they are."""

    def open(self, stack: ExitStack) -> IO[bytes]:
        """Return the file at the first record; the stack closes it."""
        if self.member:
            archive = stack.enter_context(zipfile.ZipFile(self.path))
            packed = stack.enter_context(archive.open(self.member))
            packed.read(self.offset)
            return packed
        file = stack.enter_context(self.path.open("rb", buffering=0))
        file.seek(self.offset)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), self.offset, self.rows * self.dtype.itemsize, os.POSIX_FADV_SEQUENTIAL)
        return file

    def fill(self, file: IO[bytes], room: NDArray[Any]) -> None:
        """Read as many records as there is room for. Raises ValueError: they are not there."""
        view = room.reshape(-1).view(np.uint8).data
        try:
            while view:
                got = file.readinto(view)  # type: ignore[attr-defined]
                if not got:
                    raise EOFError("it ends early")
                view = view[got:]
        except (EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            where = f"{self.path}, {self.member.removesuffix('.npy')}" if self.member else str(self.path)
            raise ValueError(f"{where}: cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Pick:
    """One column: all of a slab, or a field or a column of it."""

    slab: int
    label: str
    field: Column | None = None

    def of(self, records: NDArray[Any]) -> Floats:
        """Return the column (n,) of records, at an address that programs take without a copy."""
        values = records if self.field is None else records[self._key()]
        if values.dtype == np.float64 and values.flags.c_contiguous and values.dtype.isnative:
            return values
        column = aligned(len(records))
        column[...] = values
        return column

    def _key(self) -> Any:
        return self.field if isinstance(self.field, str) else (slice(None), self.field)


@dataclass(frozen=True, slots=True)
class BinaryColumns:
    """Columns of slabs of one length in a file."""

    stamp: Stamp
    slabs: tuple[Slab, ...]
    picks: tuple[Pick, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """What to call each column."""
        return tuple(pick.label for pick in self.picks)

    @property
    def n(self) -> int:
        """Rows."""
        return self.slabs[0].rows

    def read(self, points: int) -> Iterator[tuple[Floats, ...]]:
        """Yield blocks of so many rows; every slab is gone through once."""
        self.stamp.check()
        with ExitStack() as stack:
            files = [slab.open(stack) for slab in self.slabs]
            for begin in range(0, self.n, points):
                count = min(points, self.n - begin)
                records = [_room(slab.dtype, count) for slab in self.slabs]
                for slab, file, room in zip(self.slabs, files, records, strict=True):
                    slab.fill(file, room)
                block = tuple(pick.of(records[pick.slab]) for pick in self.picks)
                del records
                yield block
                del block
        self.stamp.check()

    def place(self, row: int, column: int) -> str:
        """Return file, column and row."""
        return f"{self.stamp.path}, {self.labels[column]}[{row}]"

    def identity(self) -> dict[str, Any]:
        """Return what tells the file from others, and the number of rows."""
        return {**self.stamp.identity(), "points": self.n}


def _room(dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    return aligned(count) if dtype == np.float64 and dtype.isnative else np.empty(count, dtype)


def check_lengths(path: Path, lengths: dict[str, int]) -> None:
    """Raise ValueError where columns have different lengths, or none."""
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{path}: different lengths: {', '.join(f'{k} {v}' for k, v in lengths.items())}")
    if not any(lengths.values()):
        raise ValueError(f"{path} holds no data")


def check_numbers(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise ValueError where an array is no column of numbers."""
    if len(shape) != 1 or dtype.kind not in "iuf":
        raise ValueError(f"{path}, {name}: shape {shape} of {dtype}; a column has one dimension and numbers")


def open_npy(path: Path, columns: Sequence[Column]) -> BinaryColumns:
    """Return columns of a .npy file: fields of records by name, columns of a matrix (n, m) by number.

    Raises ValueError: it is no such file, or it has not these columns.
    """
    stamp = Stamp.of(path)
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path} is not a readable .npy file: {error}") from error
    dtype, shape, offset = mapped.dtype, mapped.shape, int(mapped.offset)
    by_columns = mapped.ndim == 2 and mapped.flags.f_contiguous and not mapped.flags.c_contiguous
    del mapped
    check_lengths(path, {"rows": shape[0] if shape else 0})
    if dtype.names and len(shape) == 1:
        picks = [_field(path, column, dtype) for column in columns]
        return BinaryColumns(stamp, (Slab(path, dtype, shape[0], offset),), tuple(picks))
    if dtype.kind not in "iuf" or len(shape) != 2:
        raise ValueError(
            f"{path} holds {shape} of {dtype}; it must be records with named fields or a matrix with a row per point. "
            "For an array per file: array_source(np.load(..., mmap_mode='r'), np.load(..., mmap_mode='r'))"
        )
    numbers = [_number(path, column, shape[1]) for column in columns]
    labels = [f"column {number}" for number in numbers]
    if by_columns:
        size = dtype.itemsize * shape[0]
        slabs = tuple(Slab(path, dtype, shape[0], offset + size * number) for number in numbers)
        return BinaryColumns(stamp, slabs, tuple(Pick(index, label) for index, label in enumerate(labels)))
    slab = Slab(path, np.dtype((dtype, (shape[1],))), shape[0], offset)
    picks = [Pick(0, label, number) for label, number in zip(labels, numbers, strict=True)]
    return BinaryColumns(stamp, (slab,), tuple(picks))


def _field(path: Path, column: Column, dtype: np.dtype[Any]) -> Pick:
    names = dtype.names or ()
    name = names[column] if isinstance(column, int) and 0 <= column < len(names) else column
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"{path} has no field {name!r}{suggest(str(name), names)}; it has: {', '.join(names)}")
    check_numbers(path, name, (1, *dtype[name].shape), dtype[name].base)
    return Pick(0, name, name)


def _number(path: Path, column: Column, width: int) -> int:
    if not isinstance(column, int) or not 0 <= column < width:
        raise ValueError(f"{path} has no column {column!r}; it is a matrix of {width} columns, counted from 0")
    return column


def open_npz(path: Path, names: Sequence[str]) -> BinaryColumns:
    """Return one-dimensional arrays of a .npz file by name; those that are not compressed are read where they lie.

    Raises ValueError: it is no such file, or has not these arrays, or they have different lengths.
    """
    stamp = Stamp.of(path)
    try:
        with zipfile.ZipFile(path) as archive:
            known = [name.removesuffix(".npy") for name in archive.namelist()]
            slabs = tuple(_member(path, archive, known_name(path, name, known)) for name in names)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a readable .npz file") from error
    check_lengths(path, {name: slab.rows for name, slab in zip(names, slabs, strict=True)})
    return BinaryColumns(stamp, slabs, tuple(Pick(index, name) for index, name in enumerate(names)))


def known_name(path: Path, name: str, known: Sequence[str]) -> str:
    """Return a name that is known. Raises ValueError naming the nearest one."""
    if name not in known:
        raise ValueError(f"{path} has no dataset {name!r}{suggest(name, known)}; it has: {', '.join(known) or 'none'}")
    return name


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> Slab:
    """Return where the numbers of a member are."""
    info = archive.getinfo(f"{name}.npy")
    try:
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = reader(member)
            header = member.tell()
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}, {name}: cannot be read: {error}") from error
    check_numbers(path, name, shape, dtype)
    if info.compress_type != zipfile.ZIP_STORED:
        return Slab(path, dtype, shape[0], header, info.filename)
    with path.open("rb") as file:
        file.seek(info.header_offset + LOCAL_HEADER)
        lengths = struct.unpack("<HH", file.read(4))
    return Slab(path, dtype, shape[0], info.header_offset + LOCAL_HEADER + 4 + sum(lengths) + header)
