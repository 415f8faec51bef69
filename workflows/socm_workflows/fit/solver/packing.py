"""The state of an iteration as one vector of numbers: to cross to the device and back at once, and to be kept."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from socm_workflows.fit.solver.least_squares import State, initial_state

Floats = NDArray[np.float64]


@lru_cache(maxsize=64)
def _leaves(size: int) -> tuple[Any, tuple[tuple[tuple[int, ...], Any], ...]]:
    """Return the structure of a state of ``size`` parameters, and shape and type of its leaves."""
    start = jax.ShapeDtypeStruct((size,), jnp.float64)  # type: ignore[no-untyped-call]
    leaves, structure = jax.tree.flatten(jax.eval_shape(initial_state, start))
    return structure, tuple((leaf.shape, np.dtype(leaf.dtype)) for leaf in leaves)


def length_of(size: int) -> int:
    """Return how many numbers the state of ``size`` parameters has."""
    return sum(prod(shape) for shape, _ in _leaves(size)[1])


def pack(state: State) -> Array:
    """Return a state as one vector; every number of it is exact as float64."""
    return jnp.concatenate([jnp.ravel(leaf).astype(jnp.float64) for leaf in jax.tree.leaves(state)])


def unpack(vector: Array | Floats, size: int) -> State:
    """Return the state of a vector, as arrays of the vector's kind."""
    structure, leaves = _leaves(size)
    values, begin = [], 0
    for shape, dtype in leaves:
        end = begin + prod(shape)
        values.append(vector[begin:end].reshape(shape).astype(dtype))
        begin = end
    state: State = jax.tree.unflatten(structure, values)
    return state


@lru_cache(maxsize=64)
def _template(size: int) -> Floats:
    vector = np.array(pack(initial_state(jnp.zeros(size))))
    vector.flags.writeable = False
    return vector


def first_vector(start: Floats) -> Floats:
    """Return the vector of the state before the evaluation of ``start`` (p,)."""
    vector = _template(start.size).copy()
    vector[: start.size] = start
    return vector
