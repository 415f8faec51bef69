"""The iteration as its owner sees it: begun or resumed, watched, handed from one method to the next, ended.

The solver is the same for every strategy; what differs is who makes the linearisations (resident.py, passes.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from socm_workflows.fit.solver.accumulation import Linearisation, Method
from socm_workflows.fit.solver.formula import Aim
from socm_workflows.fit.solver.least_squares import State, Stop
from socm_workflows.fit.solver.packing import first_vector, length_of, pack, unpack

Floats = NDArray[np.float64]


class Reduction(Protocol):
    """The data of a fit, seen through sums."""

    def advance(self, begin: Floats, method: Method) -> Floats:
        """Return the vector of a later state; what follows the state in the vector does not count."""
        ...

    def linearise(self, parameters: Floats, basis: Floats, method: Method, aim: Aim) -> Linearisation:
        """Return the linearisation at parameters (p,); ``basis`` is a triangle near it, for ``REFINED``."""
        ...

    def second_order(self, parameters: Floats) -> Floats:
        """Return the part of the Hessian that steps leave out, (p, p)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """Where an iteration is."""

    iteration: int
    """Steps tried; 0 after the start was evaluated."""
    parameters: Floats
    """(p,), the best so far."""
    cost: float
    """Half the sum of squares, or of the loss."""
    optimality: float
    """The relative offset."""
    evaluations: int
    """Passes over the data."""
    method: str
    """Of :class:`Method`."""
    state: Floats
    """All that the iteration carries, as one vector."""

    def snapshot(self) -> dict[str, Any]:
        """Return what ``resume`` takes: numbers and words that JSON keeps exactly."""
        return {"method": self.method, "parameters": self.parameters.size, "state": [*map(float.hex, self.state)]}


Callback = Callable[[Progress], object]
"""Called after each evaluation that was judged; True ends the iteration."""


def resumed(snapshot: Mapping[str, Any], size: int) -> tuple[Floats, Method]:
    """Return the state vector and the method of a snapshot.

    Raises ValueError: it is not one, or one of a fit with another number of parameters.
    """
    try:
        vector = np.array([float.fromhex(number) for number in snapshot["state"]])
        method, parameters = Method(snapshot["method"]), snapshot["parameters"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("resume: this is no snapshot of a fit; take one from Progress.snapshot()") from error
    if parameters != size or vector.size != length_of(size):
        raise ValueError(f"resume: the snapshot has {parameters} parameters, and the fit {size}")
    return vector, method


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """Where an iteration ended."""

    state: State
    """As arrays of NumPy."""
    method: Method
    """The last one."""
    rest: Floats
    """What followed the state in the last vector."""
    seconds: float


def iterate(
    reduction: Reduction,
    begin: Floats | Mapping[str, Any],
    size: int,
    *,
    methods: tuple[Method, ...],
    callback: Callback | None = None,
) -> End:
    """Return where the iteration from a start (p,), or from a snapshot, ended.

    It goes on with the second of the methods where the first is not accurate enough.
    """
    started = time.perf_counter()
    if isinstance(begin, Mapping):
        vector, method = resumed(begin, size)
    else:
        vector, method = first_vector(begin), methods[0]
    length = vector.size
    while True:
        vector = reduction.advance(vector[:length], method)
        state = unpack(vector[:length], size)
        stop = Stop(int(state.stop))
        if stop is Stop.CONDITION:
            method = methods[-1]
            vector = np.array(pack(with_stop(state, Stop.RUNNING)))
        elif callback is not None and state.repeats == 0:
            wants_end = callback(_progress(state, vector[:length], method)) is True
            if wants_end and stop is Stop.RUNNING:
                stop, state = Stop.INTERRUPTED, with_stop(state, Stop.INTERRUPTED)
        if stop not in (Stop.RUNNING, Stop.CONDITION):
            return End(state, method, vector[length:], time.perf_counter() - started)


def with_stop(state: State, stop: Stop) -> State:
    """Return a state with another word on why it ended."""
    return state._replace(stop=jnp.asarray(int(stop)))


def _progress(state: State, vector: Floats, method: Method) -> Progress:
    return Progress(
        iteration=int(state.iterations),
        parameters=np.array(state.parameters),
        cost=float(state.here.rss) / 2,
        optimality=float(state.offset),
        evaluations=int(state.evaluations),
        method=method.value,
        state=np.array(vector),
    )
