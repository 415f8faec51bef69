"""Many fits of one model by one compiled program: the iteration of least_squares.py in lanes, side by side.

A program has ``W`` lanes of ``n`` points. In rounds of a few turns all lanes go on from where they are; between rounds
the fits that have ended leave, and the next ones take their lanes. A fit that ends within a round stands still until
the round is over. So one of many iterations delays no other. Only when nothing waits are free lanes carried along; if
that goes on, the last fits move to a program of fewer lanes.

Fits of fewer points than ``n`` are padded by repeating their last point with an infinite sigma. Its residual and its
row of the Jacobian are exactly zero (or not finite, where those of the last point itself are not), and add nothing to
a sum: padding changes an answer by rounding only. For that the model must treat each point by itself (pointwise.py).

All lanes sum (accumulation.py, ``GRAM``). A fit whose columns are too near to each other for that leaves its lane
without an end, and is left to be solved alone.

Memory: about ``W p^2 n / 2`` doubles at most. A program costs about a second to compile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from socm_workflows.fit.solver import passes, resident
from socm_workflows.fit.solver.accumulation import Method, reduce_sums, sums_at_once
from socm_workflows.fit.solver.case import Case
from socm_workflows.fit.solver.formula import Formula, ModelFunction, Points, second_order
from socm_workflows.fit.solver.least_squares import State, Stop, Tolerances, advance, initial_state, target_of
from socm_workflows.fit.solver.trust_region import Limits

Floats = NDArray[np.float64]

TURNS = 8
"""Turns of a round, about as many as a fit needs."""
NARROWING = 8
"""How many times fewer lanes the last fits get, when so few are left."""
PATIENCE = 32
"""Rounds that the last fits go on in all lanes; by then most have ended, and no further program is compiled."""


class Form(NamedTuple):
    """What a program is compiled for, next to the model."""

    rows: int
    """Predictors."""
    points: int
    """Of each lane, ``n``."""
    lanes: int
    """``W``."""


class End(NamedTuple):
    """Where the iterations of fits ended, as arrays of NumPy; each with the fit first."""

    state: State
    second_order: Floats
    """``S`` of :func:`second_order`, (p, p)."""


class _Lanes(NamedTuple):
    """The data of all lanes; every array has the lane first."""

    x: Floats
    """(W, n) or (W, k, n)."""
    y: Floats
    sigma: Floats
    lower: Floats
    upper: Floats
    start: Floats

    def put(self, lane: int, case: Case) -> None:
        """Let a case take a lane."""
        size = case.y.size
        self.x[lane, ..., :size], self.x[lane, ..., size:] = case.x, case.x[..., -1:]
        self.y[lane, :size], self.y[lane, size:] = case.y, case.y[-1]
        self.sigma[lane, :size], self.sigma[lane, size:] = 1.0 if case.sigma is None else case.sigma, np.inf
        self.lower[lane], self.upper[lane], self.start[lane] = case.lower, case.upper, case.start


def minimise_many(
    model: ModelFunction, cases: Sequence[Case], form: Form, tolerances: Tolerances
) -> Iterator[tuple[list[int], End]]:
    """Yield the indices of cases that have ended together, and where each did; no case is longer than a lane.

    Cost: the turns of all cases together, and at the end up to ``W`` times some hundred turns of the slowest ones, then
    an eighth of that.
    """
    lanes = _empty_lanes(form, cases[0].start.size)
    states = _idle_states(lanes)
    waiting = iter(range(len(cases)))
    holders: dict[int, int] = {}
    patience = PATIENCE
    while True:
        fresh = np.zeros(len(lanes.y), bool)
        for lane, index in zip([lane for lane in range(fresh.size) if lane not in holders], waiting, strict=False):
            lanes.put(lane, cases[index])
            holders[lane], fresh[lane] = index, True
        if not holders:
            return
        patience = patience - 1 if NARROWING * len(holders) <= fresh.size == form.lanes else PATIENCE
        if patience == 0:
            lanes, states, holders = _narrowed(lanes, states, holders)
            continue
        arrays = [jnp.array(values) for values in lanes]
        problems = (Points(*arrays[:3]), Limits(*arrays[3:5]))
        states = play_round(model, problems, tolerances, states, starts=arrays[5], fresh=jnp.asarray(fresh))
        stops = np.asarray(states.stop)
        ended = [lane for lane in holders if stops[lane] != Stop.RUNNING]
        if ended:
            ends = End(*jax.device_get((states, finish(model, problems[0], states))))
            indices = [(lane, holders.pop(lane)) for lane in ended]
            solved = [lane for lane, _ in indices if stops[lane] != Stop.CONDITION]
            yield [index for lane, index in indices if lane in solved], jax.tree.map(itemgetter(solved), ends)


@partial(jax.jit, static_argnames=("model",))
def play_round(
    model: ModelFunction,
    problems: tuple[Points, Limits],
    tolerances: Tolerances,
    states: State,
    *,
    starts: Array,
    fresh: Array,
) -> State:
    """Return the states of all lanes after a round; ``fresh`` (W,) says which begin at their ``starts`` (W, p).

    Each lane makes ``TURNS`` turns or stops earlier; one that has stopped does not change.
    """

    formula, one = Formula(model), jnp.ones(())

    def play(points: Points, limits: Limits, state: State, start: Array, is_fresh: Array) -> State:
        state = jax.tree.map(partial(jnp.where, is_fresh), initial_state(start), state)
        limit = state.evaluations + TURNS

        def turn(state: State) -> State:
            there = reduce_sums(sums_at_once(formula, target_of(state, limits), points, one))
            return advance(state, there, limits, tolerances, Method.GRAM)

        return jax.lax.while_loop(
            lambda state: (state.stop == int(Stop.RUNNING)) & (state.evaluations < limit), turn, state
        )

    after: State = jax.vmap(play)(*problems, states, starts, fresh)
    strong: State = jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), after)
    return strong  # a weak type that comes back in the next round would compile the program once more


@partial(jax.jit, static_argnames=("model",))
def finish(model: ModelFunction, points: Points, states: State) -> Array:
    """Return the second order (W, p, p) of all lanes where they are."""
    formula, one = Formula(model), jnp.ones(())

    def at(points: Points, theta: Array) -> Array:
        return second_order(formula, theta, points, one, None)

    bends: Array = jax.vmap(at)(points, states.parameters)
    return bends


def forget_programs() -> None:
    """Give back the memory of all programs of this process that solve fits."""
    of_one = (resident.minimise, resident.evaluate, resident.evaluate_second_order)
    for function in (play_round, finish, *of_one, passes.sum_piece, passes.bend_piece):
        function.clear_cache()  # type: ignore[attr-defined]


def _empty_lanes(form: Form, size: int) -> _Lanes:
    rows = () if form.rows == 1 else (form.rows,)
    x = np.zeros((form.lanes, *rows, form.points))
    y, limits = np.zeros((form.lanes, form.points)), np.zeros((form.lanes, size))
    return _Lanes(x, y, np.ones_like(y), limits, limits.copy(), limits.copy())


def _idle_states(lanes: _Lanes) -> State:
    """Return states of lanes that nobody holds: no turn changes them, because they have stopped."""
    arrays = [jnp.asarray(values) for values in lanes]
    shapes = jax.eval_shape(jax.vmap(initial_state), arrays[5])
    states: State = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return states._replace(stop=jnp.asarray(np.full(len(lanes.y), int(Stop.MAX_ITERATIONS))))


def _narrowed(lanes: _Lanes, states: State, holders: Mapping[int, int]) -> tuple[_Lanes, State, dict[int, int]]:
    """Return the lanes that are held, moved into fewer; the rest of these repeat the first one, and stand still."""
    kept = list(holders)
    kept += kept[:1] * (len(lanes.y) // NARROWING - len(kept))
    moved: State = jax.tree.map(lambda values: np.asarray(values)[kept], states)
    stop = np.where(np.arange(len(kept)) < len(holders), moved.stop, int(Stop.MAX_ITERATIONS))
    narrow = _Lanes(*(values[kept] for values in lanes))
    return narrow, moved._replace(stop=jnp.asarray(stop)), dict(enumerate(holders.values()))
