"""Fits of data that come in blocks: one pass over all blocks per evaluation, whatever they come from.

Blocks are cut and joined to pieces of one length, for which one program is compiled. Sums over pieces are added up in
the order of the pieces with compensation, so that the answer depends neither on how the blocks are cut nor on which
thread is faster. While pieces are summed, the next block is read.

Memory beyond the data: two blocks, a few pieces, and what has the size of the parameters.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from socm_workflows.fit.solver.accumulation import Linearisation, Method, inverse_of, reduce_sums, sums_in_lanes
from socm_workflows.fit.solver.case import omit_not_finite
from socm_workflows.fit.solver.formula import Aim, Formula, Points, points_of, second_order
from socm_workflows.fit.solver.least_squares import advance, target_of
from socm_workflows.fit.solver.packing import pack, unpack
from socm_workflows.fit.solver.resident import ALIGNMENT, aligned, counts_of, size_of, unpack_numbers

Floats = NDArray[np.float64]
Block = tuple[Floats, Floats, Floats | None]
"""x (n,) or (k, n), y (n,), sigma (n,) or None."""

PIECE = 2**17
"""Points of a piece; summing them costs ten times what starting a program does."""


class BlockSource(Protocol):
    """Data that can be gone through block by block, as often as wanted, and are the same each time."""

    @property
    def n(self) -> int | None:
        """Points; None while they have not been counted."""
        ...

    @property
    def k(self) -> int:
        """Predictors."""
        ...

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks, in an order that is the same each time; of any lengths."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ArraySource:
    """Arrays in memory (or memory maps), as they are or cut into chunks."""

    x: Floats
    """(n,) or (k, n)."""
    y: Floats
    sigma: Floats | None = None
    chunk_points: int | None = None
    """Points of a chunk; None for all of them at once."""

    @property
    def n(self) -> int | None:
        """Points."""
        return self.y.size

    @property
    def k(self) -> int:
        """Predictors."""
        return 1 if self.x.ndim == 1 else len(self.x)

    def blocks(self) -> Iterator[Block]:
        """Yield the chunks; without chunks a few points first, so that programs need not copy the rest."""
        count = self.y.size
        first = 0
        if self.chunk_points is None:
            first = min(count, -self.y.ctypes.data % ALIGNMENT // 8)
            yield self._cut(0, first)
        step = self.chunk_points or max(count, 1)
        for begin in range(first, count, step):
            yield self._cut(begin, min(begin + step, count))

    def _cut(self, begin: int, end: int) -> Block:
        sigma = None if self.sigma is None else self.sigma[begin:end]
        return self.x[..., begin:end], self.y[begin:end], sigma


@dataclass(frozen=True, slots=True, eq=False)
class Complete:
    """A source without the points where a number is not finite."""

    source: BlockSource

    @property
    def n(self) -> int | None:
        """Not known before they are read."""
        return None

    @property
    def k(self) -> int:
        """Predictors."""
        return self.source.k

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of the source, shorter where numbers are missing."""
        for x, y, sigma in self.source.blocks():
            yield omit_not_finite(np.asarray(x, float), np.asarray(y, float), sigma)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Points of one length, of which the first ``count`` count."""

    points: Points
    count: int


def read_ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """Yield blocks while a thread reads the next one; at most two exist at a time."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, blocks, None)
            yield block
            del block


class _Filling:
    """A piece that is being filled."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._points: Block | None = None
        self.count = 0

    def take(self, x: Floats, y: Floats, sigma: Floats | None) -> None:
        """Add points; there is room for them."""
        if self._points is None:
            spread = None if sigma is None else aligned((self._length,))
            self._points = (aligned((*x.shape[:-1], self._length)), aligned((self._length,)), spread)
        end = self.count + y.size
        for room, values in zip(self._points, (x, y, sigma), strict=True):
            if room is not None:
                room[..., self.count : end] = values
        self.count = end

    def give(self) -> Iterator[Piece]:
        """Yield the piece if there is one, and begin the next."""
        if self._points is not None and self.count:
            yield Piece(points_of(*self._points), self.count)
        self._points, self.count = None, 0


def pieces_of(blocks: Iterator[Block], length: int) -> Iterator[Piece]:
    """Yield pieces of one length; those that lie within a block are not copied."""
    filling = _Filling(length)
    for block in blocks:
        x, y = np.asarray(block[0], float), np.asarray(block[1], float)
        sigma = None if block[2] is None else np.asarray(block[2], float)
        begin, end = 0, y.size
        if x.shape[-1] != end or (sigma is not None and sigma.shape != y.shape):
            shapes = f"x {x.shape}, y {y.shape}" + ("" if sigma is None else f", sigma {sigma.shape}")
            raise ValueError(f"a block of the source has arrays of different lengths: {shapes}")
        if 0 < filling.count < ALIGNMENT // 8 and end >= length:
            yield from filling.give()
        while begin < end:
            take = min(length - filling.count, end - begin)
            where = slice(begin, begin + take)
            cut = (x[..., where], y[where], None if sigma is None else sigma[where])
            begin += take
            if take == length:
                yield Piece(points_of(*cut), length)
                continue
            filling.take(*cut)
            if filling.count == length:
                yield from filling.give()
    yield from filling.give()


@partial(jax.jit, static_argnames=("formula", "method", "aim"))
def sum_piece(
    formula: Formula, method: Method, points: Points, told: Array, place: Array, *, count: Array, aim: Aim
) -> Array:
    """Return the sums over a piece at a place: the parameters and the triangle before, as one vector."""
    size = size_of(told)
    change = inverse_of(place[size:].reshape(size, size)) if method is Method.REFINED else None
    f_scale = unpack_numbers(told).f_scale
    return sums_in_lanes(formula, place[:size], points, f_scale, count=count, basis=change, aim=aim)


@partial(jax.jit, static_argnames=("formula",))
def bend_piece(formula: Formula, points: Points, told: Array, theta: Array, count: Array) -> Array:
    """Return ``S`` of :func:`second_order` over a piece, flat."""
    numbers = unpack_numbers(told)._replace(points=count)
    return second_order(formula, theta, points, numbers.f_scale, counts_of(points, numbers)).ravel()


@partial(jax.jit, static_argnames=("method",))
def advance_sums(method: Method, told: Array, begin: Array, sums: Array) -> Array:
    """Return the state after the sums at its target, both as vectors."""
    numbers = unpack_numbers(told)
    state = unpack(begin, size_of(told))
    there = reduce_sums(sums, state.basis if method is Method.REFINED else None)
    return pack(advance(state, there, numbers.limits, numbers.tolerances, method))


@jax.jit
def place_of(told: Array, begin: Array) -> Array:
    """Return where a state wants to be evaluated: the parameters and the triangle before, as one vector."""
    state = unpack(begin, size_of(told))
    return jax.numpy.concatenate([target_of(state, unpack_numbers(told).limits), state.basis.ravel()])


@jax.jit
def reduce_jitted(sums: Array, previous: Array | None) -> Linearisation:
    """Return the linearisation of sums."""
    return reduce_sums(sums, previous)


def _done(value: Floats) -> Future[Floats]:
    """Return a future whose value is there."""
    future: Future[Floats] = Future()
    future.set_result(value)
    return future


class CompensatedSum:
    """A sum of arrays that loses nothing to the size of the total (Neumaier 1974, Z. angew. Math. Mech. 54, 39-51)."""

    def __init__(self) -> None:
        self._total: Floats | float = 0.0
        self._lost: Floats | float = 0.0

    def add(self, term: Floats) -> None:
        """Add a term."""
        total = self._total + term
        larger = np.abs(self._total) >= np.abs(term)
        with np.errstate(invalid="ignore"):
            self._lost = self._lost + np.where(larger, (self._total - total) + term, (term - total) + self._total)
        self._total = total

    def value(self) -> Floats:
        """Return the sum."""
        lost = np.where(np.isfinite(self._lost), self._lost, 0.0)
        return np.asarray(self._total + lost)


class BlockPasses:
    """Goes over a source for one fit."""

    def __init__(self, formula: Formula, source: BlockSource, told: Floats) -> None:
        self._formula = formula
        self._source = source
        self._told = told
        self._threads = len(os.sched_getaffinity(0))
        self.count: int | None = None
        """Points, once they have been counted."""

    def advance(self, begin: Floats, method: Method) -> Floats:
        """Return the vector of the state after one pass."""
        place = np.asarray(place_of(self._told, begin))
        return np.asarray(advance_sums(method, self._told, begin, self._sums(place, method, Aim.STEP)))

    def linearise(self, parameters: Floats, basis: Floats, method: Method, aim: Aim) -> Linearisation:
        """Return the linearisation at parameters (p,), by one pass."""
        place = np.concatenate([parameters, np.ravel(basis)])
        sums = self._sums(place, method, aim)
        reduced: Linearisation = reduce_jitted(sums, basis if method is Method.REFINED else None)
        return reduced

    def second_order(self, parameters: Floats) -> Floats:
        """Return ``S`` of :func:`second_order`, by one pass."""

        def of_piece(piece: Piece) -> Floats:
            return np.asarray(bend_piece(self._formula, piece.points, self._told, parameters, piece.count))

        return self._total(of_piece).reshape(parameters.size, parameters.size)

    def _sums(self, place: Floats, method: Method, aim: Aim) -> Floats:
        def of_piece(piece: Piece) -> Floats:
            sums = sum_piece(self._formula, method, piece.points, self._told, place, count=piece.count, aim=aim)
            return np.asarray(sums)

        return self._total(of_piece)

    def _total(self, of_piece: Callable[[Piece], Floats]) -> Floats:
        """Return the sum over all pieces of what a function gives for each, in their order."""
        total, count = CompensatedSum(), 0
        blocks = self._source.blocks()
        if not isinstance(self._source, ArraySource):
            blocks = read_ahead(blocks)
        pieces = pieces_of(blocks, PIECE)
        waiting: deque[Future[Floats]] = deque()
        with ThreadPoolExecutor(self._threads) as pool:
            for piece in pieces:
                count += piece.count
                if piece.count < PIECE:
                    waiting.append(_done(of_piece(piece)))
                else:
                    waiting.append(pool.submit(of_piece, piece))
                del piece
                if len(waiting) > 2 * self._threads:
                    total.add(waiting.popleft().result())
            for future in waiting:
                total.add(future.result())
        if self.count is not None and count != self.count:
            raise ValueError(f"the source gave {self.count} points in one pass and {count} in another; it must repeat")
        self.count = count
        return total.value()
