"""Fits of data that one program holds: the whole iteration is compiled, and the data are its arguments.

Where the model treats each point by itself, the data are padded to a length of a power of two, so that one program
serves all lengths up to it; the passes look only at the points that there are, but for the rest of the last lanes.

Memory beyond the data: one padded copy, and with QR ``(4 p + 8) n`` doubles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from socm_workflows.fit.solver.accumulation import Linearisation, Method, by_qr, inverse_of, reduce_sums, sums_in_lanes
from socm_workflows.fit.solver.formula import Aim, Formula, Points, second_order
from socm_workflows.fit.solver.least_squares import State, Stop, Tolerances, advance, target_of
from socm_workflows.fit.solver.packing import pack, unpack
from socm_workflows.fit.solver.trust_region import Limits

Floats = NDArray[np.float64]

SHORTEST = 16
ALIGNMENT = 64
"""Bytes; arrays at such an address are not copied when a program takes them."""


class Numbers(NamedTuple):
    """What a fit is told besides its points, in one vector."""

    limits: Limits
    tolerances: Tolerances
    f_scale: Array
    """Scale of the loss."""
    points: Array
    """How many there are; those beyond fill up."""
    turns: Array
    """Evaluations to make at most before the program returns, ended or not."""


SCALARS = 7
"""Numbers besides the bounds."""


def pack_numbers(
    lower: Floats, upper: Floats, tolerances: Tolerances, *, f_scale: float, count: int, turns: float = np.inf
) -> Floats:
    """Return the vector of :class:`Numbers`."""
    return np.concatenate([lower, upper, np.array([*tolerances, f_scale, count, turns], float)])


def unpack_numbers(vector: Array) -> Numbers:
    """Return what a vector says."""
    size = size_of(vector)
    limits, rest = Limits(vector[:size], vector[size : 2 * size]), vector[2 * size :]
    tolerances = Tolerances(rest[0], rest[1], rest[2], rest[3].astype(int))
    return Numbers(limits, tolerances, rest[4], rest[5].astype(int), rest[6])


def size_of(told: Array | Floats) -> int:
    """Return the number of parameters."""
    return (told.size - SCALARS) // 2


def linearise(
    formula: Formula, method: Method, points: Points, numbers: Numbers, theta: Array, *, basis: Array, aim: Aim
) -> Linearisation:
    """Return the linearisation at parameters (p,); ``basis`` is the triangle before, for ``REFINED``."""
    if method is Method.QR:
        counts = counts_of(points, numbers)
        return by_qr(formula, theta, points, numbers.f_scale, aim=aim, counts=counts)
    is_refined = method is Method.REFINED
    change = inverse_of(basis) if is_refined else None
    sums = sums_in_lanes(formula, theta, points, numbers.f_scale, count=numbers.points, basis=change, aim=aim)
    return reduce_sums(sums, basis if is_refined else None)


def counts_of(points: Points, numbers: Numbers) -> Array:
    """Return which points are data, and not there to fill up, (m,)."""
    return jnp.arange(points.y.size) < numbers.points


@partial(jax.jit, static_argnames=("formula", "method"))
def minimise(formula: Formula, method: Method, points: Points, told: Array, begin: Array) -> Array:
    """Return the state where the iteration ended, as a vector, followed by ``S`` of :func:`second_order` there.

    ``told`` and ``begin`` are :class:`Numbers` and :class:`State` as vectors. Compiled once per formula, method and
    length of the points.
    """
    size = size_of(told)
    numbers = unpack_numbers(told)

    def turn(state: State) -> State:
        target = target_of(state, numbers.limits)
        there = linearise(formula, method, points, numbers, target, basis=state.basis, aim=Aim.STEP)
        return advance(state, there, numbers.limits, numbers.tolerances, method)

    begun = unpack(begin, size)

    def goes_on(state: State) -> Array:
        return (state.stop == int(Stop.RUNNING)) & (state.evaluations - begun.evaluations < numbers.turns)

    end = jax.lax.while_loop(goes_on, turn, begun)
    counts = counts_of(points, numbers)
    bend = second_order(formula, end.parameters, points, numbers.f_scale, counts)
    return jnp.concatenate([pack(end), bend.ravel()])


@partial(jax.jit, static_argnames=("formula", "method", "aim"))
def evaluate(formula: Formula, method: Method, points: Points, told: Array, place: Array, *, aim: Aim) -> Linearisation:
    """Return the linearisation at a place: the parameters and the triangle before, as one vector."""
    size = size_of(told)
    numbers = unpack_numbers(told)
    basis = place[size:].reshape(size, size)
    return linearise(formula, method, points, numbers, place[:size], basis=basis, aim=aim)


@partial(jax.jit, static_argnames=("formula",))
def evaluate_second_order(formula: Formula, points: Points, told: Array, theta: Array) -> Array:
    """Return ``S`` of :func:`second_order` over the points that count."""
    numbers = unpack_numbers(told)
    return second_order(formula, theta, points, numbers.f_scale, counts_of(points, numbers))


def bucket_of(count: int) -> int:
    """Return the length that so many points are padded to."""
    return max(SHORTEST, 1 << (count - 1).bit_length())


def aligned(shape: tuple[int, ...]) -> Floats:
    """Return an array, not filled, at an address that programs take without a copy."""
    size = int(np.prod(shape))
    raw = np.empty(size + ALIGNMENT // 8)
    first = -raw.ctypes.data % ALIGNMENT // 8
    return raw[first : first + size].reshape(shape)


def padded(values: Floats, length: int) -> Floats:
    """Return values (..., n) with the last one repeated up to a length."""
    count = values.shape[-1]
    if count == length and values.ctypes.data % ALIGNMENT == 0 and values.flags.c_contiguous:
        return values
    longer = aligned((*values.shape[:-1], length))
    longer[..., :count] = values
    longer[..., count:] = values[..., -1:]
    return longer


@dataclass(frozen=True, slots=True, eq=False)
class Resident:
    """Points that a program takes as they are, and what else it is told."""

    formula: Formula
    points: Points
    told: Floats

    def advance(self, begin: Floats, method: Method) -> Floats:
        """Return the vector of the state where the iteration ended, or has come after its turns."""
        return np.asarray(minimise(self.formula, method, self.points, self.told, begin))

    def linearise(self, parameters: Floats, basis: Floats, method: Method, aim: Aim) -> Linearisation:
        """Return the linearisation at parameters (p,)."""
        place = np.concatenate([parameters, np.ravel(basis)])
        there: Linearisation = evaluate(self.formula, method, self.points, self.told, place, aim=aim)
        return there

    def second_order(self, parameters: Floats) -> Floats:
        """Return ``S`` of :func:`second_order`."""
        return np.asarray(evaluate_second_order(self.formula, self.points, self.told, parameters))
