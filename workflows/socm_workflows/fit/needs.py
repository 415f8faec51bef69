"""What a fit needs, by the size of its table and where it keeps the data: memory, time, and which strategy fits.

The memory is that of memory_model.py beyond a process with JAX, and what reading and drawing take. Nothing here imports
NumPy: a campaign is planned where nothing heavy is loaded. The same function decides when a campaign is planned and
when the fit runs, so that a fit takes no more memory than it was given.
"""

from __future__ import annotations

import ast
import zipfile
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Literal

from socm_workflows.fit.strategy.memory_model import FitSize, chunked_peak, standard_peak, streaming_peak

Strategy = Literal["standard", "chunked", "streaming"]

PROCESS_MEMORY = 600 * 2**20
"""Bytes of a process with JAX, Matplotlib and one compiled fit of a small table, with room to spare."""
MEMORY_PER_BYTE = 40
"""Bytes of memory per byte of a text; none needs more, with one digit per cell."""
SEARCH_MEMORY = 400 * 2**20
"""Bytes of the programs that compare starts."""
PLENTY = 2**62
"""Bytes that hold any small table."""
SMALL = "the table is small"
SMALL_TEXT = 4 * 2**20
"""Bytes of a text from which on its points are counted instead."""
SAFETY_FACTOR = 0.75
"""Part of the memory of a machine, or of what a task was given, that a fit is planned to take."""
RUNTIME = timedelta(minutes=10)
"""Time for one fit of a small table, or a batch of few: compiling, on a busy machine."""
TIME_PER_BYTE = 2e-6
"""Seconds per byte of a small file, and of a text that is read once."""
TIME_PER_TEXT_BYTE = 2e-7
"""Seconds per byte of a text in each pass over it, where it is streamed."""
TIME_PER_STREAMED_BYTE = 5e-9
"""Seconds per byte of a file of numbers in each pass over it: 200 MB/s."""
PASSES = 60
"""Passes over the data that a long fit may need; most need 10 to 20."""
FEW_POINTS = 2**17
"""Points up to which passes cost nothing beside compiling."""
SAMPLED_LINES = 2000
CHUNK_POINTS = 2**19
"""Points of a block of a stream, unless the campaign says otherwise."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is to be fitted, as far as it is known without reading it."""

    path: Path
    columns: tuple[int | str, ...]
    """Those that are read."""
    skip: int = 0

    @property
    def suffix(self) -> str:
        """How the name ends, in lower case."""
        return self.path.suffix.lower()

    @property
    def is_text(self) -> bool:
        """Whether the file is one of text."""
        return self.suffix not in (".npy", ".npz", ".h5", ".hdf5", ".parquet", ".pq")

    @property
    def bytes(self) -> int:
        """Bytes of the file; one that is not there yet counts as empty."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def points(self) -> int:
        """Return how many points the file holds: known for .npz, else guessed, rather too many; at least 1."""
        if self.bytes == 0:
            return 1
        if self.suffix == ".npz" and (found := _points_of_npz(self.path, str(self.columns[0]))) is not None:
            return max(found, 1)
        width = len(self.columns)
        per_point = _bytes_per_line(self.path, self.skip, 2 * width) if self.is_text else 8.0 * width
        return max(int(self.bytes / per_point), 1)


@dataclass(frozen=True, slots=True)
class Needs:
    """A strategy, why it was chosen, and what a fit needs with it."""

    strategy: Strategy
    why: str
    memory: int
    """Bytes of the whole process."""
    runtime: timedelta


def needs_of(
    table: Table,
    size: FitSize,
    *,
    asked: Literal["auto", "standard", "chunked", "streaming"],
    chunk: int | None,
    memory: int,
    starts: int = 1,
) -> Needs:
    """Return what a fit needs where there are ``memory`` bytes; ``auto`` streams what is too large for them."""
    strategy: Strategy = "standard" if asked == "auto" else asked
    why = "" if asked == "auto" else f"{asked} was asked for"
    search = SEARCH_MEMORY if starts > 1 else 0
    whole = _memory_of(table, size, strategy, chunk) + search
    if asked == "auto":
        why = SMALL if memory >= PLENTY else f"in memory it needs {_gib(whole)} of {_gib(memory)}"
        if whole > memory and not size.is_whole:
            strategy = "streaming"
            whole = _memory_of(table, size, strategy, chunk) + search
    return Needs(strategy, why, whole, _runtime_of(table, size, strategy, starts))


def _memory_of(table: Table, size: FitSize, strategy: Strategy, chunk: int | None) -> int:
    """Return the bytes of a process: what any needs, and what this fit needs more than one of a single point."""
    few = 0
    if table.is_text:
        few = MEMORY_PER_BYTE * min(table.bytes, SMALL_TEXT)
        if few < MEMORY_PER_BYTE * SMALL_TEXT and strategy != "streaming":
            return PROCESS_MEMORY + few
    if strategy == "streaming":
        beyond = streaming_peak(size, chunk or CHUNK_POINTS) - standard_peak(replace(size, points=1))
    else:
        peak = standard_peak(size) if strategy == "standard" else chunked_peak(size)
        reading = size.given_bytes if table.is_text else 0
        drawing = 2 * 8 * size.points  # the model and the residuals at all points
        beyond = peak - standard_peak(replace(size, points=1)) + reading + drawing
    return PROCESS_MEMORY + max(few, round(beyond / SAFETY_FACTOR))


def _runtime_of(table: Table, size: FitSize, strategy: Strategy, starts: int) -> timedelta:
    one_pass = size.points * (2e-8 + 2e-9 * (size.parameters + 1) ** 2)
    reading = TIME_PER_BYTE * table.bytes if table.is_text or table.bytes < 2**24 else 0.0
    if strategy == "streaming":
        one_pass += table.bytes * (TIME_PER_TEXT_BYTE if table.is_text else TIME_PER_STREAMED_BYTE)
    passes = 0 if size.points <= FEW_POINTS and starts == 1 else PASSES * starts
    return RUNTIME + timedelta(seconds=reading + passes * one_pass)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2g} GiB"


def _bytes_per_line(path: Path, skip: int, least: int) -> float:
    """Return the mean length of the first lines of data; ``least``, where there is no whole line, is the shortest."""
    with path.open("rb") as file:
        lines = [line for line in islice(file, skip + 1, skip + 1 + SAMPLED_LINES) if line.endswith(b"\n")]
        return sum(map(len, lines)) / len(lines) if lines else float(least)


def _points_of_npz(path: Path, name: str) -> int | None:
    """Return the length of an array in an archive of NumPy, or None where it does not say."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            return _length_of_npy(file)
    except (OSError, KeyError, ValueError, SyntaxError, zipfile.BadZipFile):  # reading it will say what is wrong
        return None


def _length_of_npy(file: IO[bytes]) -> int:
    """Return the first length in the header of an array (numpy.lib.format: magic, version, length, a literal)."""
    start = file.read(8)
    length = int.from_bytes(file.read(2 if start[6] == 1 else 4), "little")
    shape = ast.literal_eval(file.read(length).decode("latin1"))["shape"]
    return int(shape[0])
