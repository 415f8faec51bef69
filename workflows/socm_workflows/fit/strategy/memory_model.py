"""How many bytes one fit needs, by formula: constants of the one-pass solver, calibrated by benchmarks/fit_memory.py.

The solver never stores the Jacobian (accumulation.py). A pass goes over the data some lanes at a time and adds up, in
each lane, the packed upper triangle of ``[J r]^T [J r]``. So next to the data as they are given there are

* up to ``MOST_RESIDENT`` points a copy that is padded to a power of two (resident.py); beyond, pieces of ``PIECE``
  points, some of them in flight for each thread (passes.py), and no copy of the data, unless they are not in float64;
* the blocks of a stream: one that is read, one that is worked on;
* the sums, ``(p + 1)(p + 2) / 2 + 2`` of them in ``lanes`` lanes, and the rows of ``J`` for these lanes, ``COPIES``
  times for each thread;
* the second derivatives of the model that correct the covariance, ``p^2 + 2 p`` numbers for each resident point, and
  ``p^2`` for each point of a piece that is worked on;
* the compiled programs (:class:`Program`).

Models that do not treat each point by itself, and correlated errors, are reduced by QR of the whole ``[J r]``:
``(4 p + 8) n`` numbers more.

Nothing here imports NumPy, so that a campaign can be sized where nothing heavy is loaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

NUMBER = 8
"""Bytes of a number in the solver, which computes in float64 whatever the data are."""
LANES_BYTES = 2**18
MOST_LANES = 4096
LEAST_LANES = 128
"""As in accumulation.py, which imports JAX."""
SHORTEST = 16
PIECE = 2**17
MOST_RESIDENT = 2**17
"""As in resident.py, passes.py and reductions.py."""
COPIES = 3
"""Sums and rows in memory together: XLA keeps the old and the new value of what a loop carries."""
BUSY = 0.5
"""Part of the threads that are at their peak together."""
BLOCKS = 3
"""Blocks of a stream in memory: one is read, one waits, one is worked on."""
FEW_POINTS = 256
"""As in reductions.py: up to here a fit is reduced by QR."""


@dataclass(frozen=True, slots=True)
class Program:
    """Bytes that compiling and running a fit takes beyond importing JAX: ``base + linear p + cubic p^3``."""

    base: float
    linear: float = 0.0
    cubic: float = 0.0

    def bytes(self, parameters: int) -> int:
        """Return the bytes for so many parameters."""
        return round(self.base + self.linear * parameters + self.cubic * parameters**3)


BY_QR = Program(base=200e6, linear=3.4e6)
RESIDENT = Program(base=271e6, cubic=57e3)
BY_PIECES = Program(base=155e6)
"""Fitted to sums of decays with 3, 10 and 20 parameters, JAX 0.10.2 on two cores (benchmarks/fit_memory.py)."""
STREAM = 50 * 10**6
"""What reading ahead takes beyond its blocks: the buffers of the library that reads, of a second thread."""


@dataclass(frozen=True, slots=True)
class FitSize:
    """What decides how much memory a fit needs."""

    points: int
    parameters: int
    features: int = 1
    """Predictors: rows of ``x``."""
    itemsize: int = NUMBER
    """Bytes of a number in the data as they are given."""
    sigma_dimensions: int = 0
    """0 without ``sigma``, 1 with one number per point, 2 with a covariance of all points."""
    is_pointwise: bool = True
    """Whether the model treats each point by itself (pointwise.py)."""

    @property
    def columns(self) -> int:
        """Numbers of a point: ``x``, ``y`` and ``sigma``."""
        return self.features + 1 + (self.sigma_dimensions == 1)

    @property
    def given_bytes(self) -> int:
        """Bytes of the data as they are given."""
        covariance = self.points**2 if self.sigma_dimensions == 2 else 0
        return (self.points * self.columns + covariance) * self.itemsize

    @property
    def is_whole(self) -> bool:
        """Whether all rows are reduced together, by QR."""
        return not self.is_pointwise or self.sigma_dimensions == 2

    @property
    def copied_bytes(self) -> int:
        """Bytes of the copy that a fit in memory makes of the data: converted, and padded where they are few."""
        numbers = 0 if self.itemsize == NUMBER else self.points * self.columns
        if self.sigma_dimensions == 2:
            numbers += 2 * self.points**2  # the covariance and its Cholesky factor
        if self.is_resident:
            numbers += self.padded_points * self.columns
        return numbers * NUMBER

    @property
    def piece_bytes(self) -> int:
        """Bytes of the pieces in flight, and of the second derivatives of those that are worked on."""
        points = min(self.points, PIECE)
        numbers = (2 * threads() + 1) * self.columns + BUSY * threads() * self.parameters**2
        return round(numbers * points * NUMBER)

    @property
    def second_order_bytes(self) -> int:
        """Bytes of the second derivatives of a fit that is resident."""
        return self.padded_points * self.parameters * (self.parameters + 2) * NUMBER

    @property
    def padded_points(self) -> int:
        """Points of a program that holds all of them."""
        return self.points if self.is_whole else max(SHORTEST, 1 << (self.points - 1).bit_length())

    @property
    def is_resident(self) -> bool:
        """Whether one program holds all points, where the strategy is standard."""
        return self.is_whole or self.points <= MOST_RESIDENT

    @property
    def chunk_bytes_per_point(self) -> int:
        """Bytes by which the points of a chunk are chosen: the blocks in memory, and room for a row of ``[J r]``."""
        return (BLOCKS * self.columns + self.parameters + 1) * NUMBER

    @property
    def sums(self) -> int:
        """Numbers that a pass adds up."""
        return (self.parameters + 1) * (self.parameters + 2) // 2 + 2

    @property
    def lanes(self) -> int:
        """Lanes of each sum."""
        fitting = max(LANES_BYTES // (NUMBER * self.sums), 1)
        return max(LEAST_LANES, min(MOST_LANES, 1 << (fitting.bit_length() - 1)))

    @property
    def sums_bytes(self) -> int:
        """Bytes of the sums and of the rows of the Jacobian that exist together, for one thread."""
        return COPIES * self.lanes * (self.sums + self.parameters + self.features + 2) * NUMBER

    @property
    def resident_bytes(self) -> int:
        """Bytes of a program that holds all points, and of what it computes of them."""
        rows = (4 * self.parameters + 8) * self.points * NUMBER if self.is_whole else 0
        program = BY_QR if self.is_whole or self.points <= FEW_POINTS else RESIDENT
        return self.second_order_bytes + self.sums_bytes + rows + program.bytes(self.parameters)

    @property
    def passes_bytes(self) -> int:
        """Bytes of the pieces in flight, and of what is computed of them."""
        return self.piece_bytes + threads() * self.sums_bytes + BY_PIECES.bytes(self.parameters)


def threads() -> int:
    """Return how many threads pass over the data: the cores of this process."""
    return len(os.sched_getaffinity(0))


def standard_peak(size: FitSize) -> int:
    """Return the bytes of a fit with all data in memory."""
    work = size.resident_bytes if size.is_resident else size.passes_bytes
    return size.given_bytes + size.copied_bytes + work


def chunked_peak(size: FitSize) -> int:
    """Return the bytes of a fit with all data in memory, of which no copy is made."""
    return size.given_bytes + size.passes_bytes


def streaming_peak(size: FitSize, chunk: int) -> int:
    """Return the bytes of a fit that holds no more of the data than some blocks of ``chunk`` points."""
    return STREAM + BLOCKS * min(chunk, size.points) * size.columns * NUMBER + size.passes_bytes
