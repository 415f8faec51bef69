"""Nonlinear least squares: a Levenberg-Marquardt trust region with bounds, as one jitted loop.

Minimises ``|r(theta)|^2 / 2`` with ``lower <= theta <= upper``, ``n`` points and ``p`` parameters:

- The step minimises ``|r + J d|`` subject to ``|D d| <= radius``. ``D_j`` is the largest norm that column ``j`` of
  ``J`` has had, so the result depends on the units of neither parameters nor data (Moré 1978, "The Levenberg-Marquardt
  algorithm: implementation and theory", Lecture Notes in Mathematics 630, 105-116, section 6).
- The first radius is about ``|D theta|``: a bad start cannot throw the parameters far away in the first step.
- A parameter that stands on a bound and wants to leave it is held, and the others are solved for (trust_region.py).
- A trial point where the model or its Jacobian is not finite is rejected, and the radius shrinks.

Convergence is judged by the relative offset (Bates & Watts 1981, Technometrics 23, 179-183, here without their factor
of degrees of freedom)::

    offset = |Q1^T r| / |r|        Q1: an orthonormal basis of the columns of J

It has no units, does not change with the parametrisation, and says how far the minimum is: by the linear model, an
offset ``e`` is ``e sqrt(n - p)`` standard errors. In a flat region, where costs and steps hardly change, it is of order
one; so tests of steps and costs count only where it is small.

One evaluation of model and Jacobian per iteration.
"""

from __future__ import annotations

from enum import IntEnum
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from socm_workflows.fit.trust_region import (
    EPSILON,
    Linearisation,
    ModelFunction,
    Problem,
    Trust,
    bounded_step,
    held_parameters,
    is_finite,
    linearise,
    relative_offset,
    residuals_at,
)

INITIAL_RADIUS = 1.0
"""First radius as a multiple of ``|D theta|`` (MINPACK's ``factor``, there 100)."""
LEAST_RADIUS = 1e-2
"""First radius as a multiple of ``|r|`` where the parameters start at or near zero."""
ACCEPTED_RATIO = 1e-4
"""Least actual reduction, as a fraction of the predicted one, of a step that is taken (Moré 1978, section 7)."""
LOOSE_OFFSET = 1e-3
"""Above this relative offset no test of steps or costs counts as convergence."""


class Stop(IntEnum):
    """Why the iteration ended."""

    RUNNING = 0
    """It has not ended."""
    GRADIENT = 1
    """The residuals are orthogonal to the columns of the Jacobian: ``offset <= gtol``."""
    ROUNDING = 2
    """They are as orthogonal as rounding in the model allows: ``offset <= 2 eps |f| / |r|``."""
    REDUCTION = 3
    """A full step promised and gave a relative change of the sum of squares of at most ``ftol``."""
    STEP = 4
    """A full step changed no parameter by more than ``xtol`` of itself."""
    STALLED = 5
    """No step lowers the sum of squares by more than rounding; whether the offset is small is another question."""
    MAX_ITERATIONS = 6
    """The iterations ran out."""
    START = 7
    """The model or its Jacobian is not finite at the start."""


class Tolerances(NamedTuple):
    """When to stop; all are relative."""

    ftol: float | Array = 1e-20
    xtol: float | Array = 1e-14
    gtol: float | Array = 1e-10
    max_iterations: int | Array = 2000


class State(NamedTuple):
    """What the iteration carries: the best point so far, and the next step from it."""

    parameters: Array
    """(p,)."""
    here: Linearisation
    trust: Trust
    offset: Array
    step: Array
    """(p,)."""
    is_full: Array
    """Whether the step is neither damped nor pinned on a bound."""
    iterations: Array
    """Steps tried; evaluations are one more."""
    stop: Array


class Trial(NamedTuple):
    """A step, what it promised and what it gave."""

    step: Array
    """(p,)."""
    predicted: Array
    """Reduction of the cost that the linear model promises."""
    actual: Array
    """Reduction of the cost; -inf where the model is not finite."""
    noise: Array
    """Rounding error of the actual reduction."""
    accepted: Array


def rounding_floor(problem: Problem, here: Linearisation) -> Array:
    """Return the relative offset that rounding in the model leaves: ``2 eps |f| / |r|``."""
    norm: Array = jnp.linalg.norm(here.residuals)
    size: Array = jnp.linalg.norm(here.residuals + problem.y / problem.sigma)
    return 2 * EPSILON * size / jnp.where(norm > 0, norm, 1.0)


def compare(state: State, there: Linearisation, offset: Array, step: Array, problem: Problem) -> Trial:
    """Return how a step fared.

    The actual reduction is summed as ``(r - r') (r + r') / 2``, which cancels less than a difference of costs. Below
    its rounding error a step is taken when it lowers the offset instead: gradients are known better than costs.
    """
    here = state.here
    change = here.triangle @ step
    predicted = -change @ (here.projection + change / 2)
    actual = jnp.sum((here.residuals - there.residuals) * (here.residuals + there.residuals)) / 2
    actual = jnp.where(is_finite(there), actual, -jnp.inf)
    noise = 32 * (EPSILON + rounding_floor(problem, here)) * (here.residuals @ here.residuals)
    polishes = (actual >= -noise) & (offset < state.offset)
    accepted = jnp.where(predicted <= noise, polishes, actual > ACCEPTED_RATIO * predicted)
    return Trial(step, predicted, actual, noise, accepted)


def next_trust(state: State, trial: Trial, there: Linearisation) -> Trust:
    """Return the trust region after a trial (Moré 1978, section 4, "Updating the step bound").

    The radius follows the ratio of actual to predicted reduction. After a rejected step it is multiplied by the place
    of the minimum of the parabola through the cost and its slope here and the cost there, between 0.1 and 0.5.
    """
    length = jnp.linalg.norm(state.trust.scale * trial.step)
    slope = state.here.projection @ (state.here.triangle @ trial.step)
    ratio = jnp.where(trial.predicted <= trial.noise, 1.0, trial.actual / trial.predicted)
    dip = 0.5 * slope / (slope + trial.actual)
    shrink = jnp.where(trial.actual >= 0, 0.5, jnp.clip(jnp.nan_to_num(dip, nan=0.1), 0.1, 0.5))
    grown = jnp.where((ratio >= 0.75) | state.is_full, 2 * length, state.trust.radius)
    norms = jnp.linalg.norm(there.triangle, axis=0)
    return Trust(
        scale=jnp.where(trial.accepted, jnp.maximum(state.trust.scale, norms), state.trust.scale),
        radius=jnp.where(trial.accepted & (ratio > 0.25), grown, shrink * jnp.minimum(state.trust.radius, length)),
    )


def first_trust(parameters: Array, here: Linearisation) -> Trust:
    """Return the trust region at the start: ``|D theta|`` wide, and not narrower than a fraction of ``|r|``."""
    norms = jnp.linalg.norm(here.triangle, axis=0)
    scale = jnp.where(norms > 0, norms, 1.0)
    length = INITIAL_RADIUS * jnp.linalg.norm(scale * parameters)
    return Trust(scale, jnp.maximum(length, LEAST_RADIUS * jnp.linalg.norm(here.residuals)))


def judge(problem: Problem, tolerances: Tolerances, after: State, trial: Trial, was_full: Array) -> Array:
    """Return the :class:`Stop` code of the state reached after a trial."""
    moved = after.iterations > 0
    near = moved & was_full & (after.offset <= LOOSE_OFFSET)
    cost = after.here.residuals @ after.here.residuals / 2
    change = jnp.maximum(jnp.abs(trial.actual), trial.predicted)
    is_short = jnp.all(jnp.abs(trial.step) <= tolerances.xtol * jnp.abs(after.parameters))
    is_invisible = jnp.all(trial.step == 0) | (trial.predicted <= 1e-8 * trial.noise)
    tests = (
        (~is_finite(after.here), Stop.START),
        (after.offset <= tolerances.gtol, Stop.GRADIENT),
        (after.offset <= rounding_floor(problem, after.here), Stop.ROUNDING),
        (near & (change <= tolerances.ftol * cost), Stop.REDUCTION),
        (near & is_short, Stop.STEP),
        (moved & ~trial.accepted & is_invisible, Stop.STALLED),
        (after.iterations >= tolerances.max_iterations, Stop.MAX_ITERATIONS),
    )
    return jnp.select([test for test, _ in tests], [jnp.asarray(int(code)) for _, code in tests], int(Stop.RUNNING))


def turn(model: ModelFunction, problem: Problem, tolerances: Tolerances, state: State) -> State:
    """Return the state after one trial: evaluate the proposed point, judge it, propose the next.

    The turn before the first step evaluates the start, so that model, Jacobian and step are compiled once.
    """
    is_first = state.iterations < 0
    target = jnp.clip(state.parameters + state.step, problem.lower, problem.upper)
    there = linearise(model, problem, target)
    offset = relative_offset(there, held_parameters(target, there, problem))
    trial = compare(state, there, offset, target - state.parameters, problem)
    taken = is_first | trial.accepted

    def choose(test: Array, new: Array, old: Array) -> Array:
        return jnp.where(test, new, old)

    after = State(
        parameters=jnp.where(taken, target, state.parameters),
        here=jax.tree.map(partial(choose, taken), there, state.here),
        trust=jax.tree.map(partial(choose, is_first), first_trust(target, there), next_trust(state, trial, there)),
        offset=jnp.where(taken, offset, state.offset),
        step=state.step,
        is_full=state.is_full,
        iterations=state.iterations + 1,
        stop=state.stop,
    )
    stop = judge(problem, tolerances, after, trial, state.is_full)
    step, is_full = bounded_step(after.parameters, after.here, after.trust, problem)
    return after._replace(step=step, is_full=is_full, stop=stop)


def second_order(model: ModelFunction, problem: Problem, state: State) -> Array:
    """Return ``S = sum_i r_i d2 r_i / dtheta2``, (p, p): the part of the Hessian ``J^T J + S`` that steps leave out.

    One direction at a time and in forward mode: memory ``2 p n`` doubles, and models with loops are allowed.
    """

    def weighted(theta: Array) -> Array:
        jacobian: Array = jax.jacfwd(partial(residuals_at, model, problem))(theta)
        return state.here.residuals @ jacobian

    def along(direction: Array) -> Array:
        derivative: Array = jax.jvp(weighted, (state.parameters,), (direction,))[1]
        return derivative

    rows: Array = jax.lax.map(along, jnp.eye(state.parameters.size))
    return rows


def initial_state(problem: Problem, start: Array) -> State:
    """Return the state before the turn that evaluates ``start`` (p,)."""
    size = start.size
    nowhere = Linearisation(jnp.zeros_like(problem.y), jnp.zeros((size, size)), jnp.zeros(size))
    return State(
        parameters=start,
        here=nowhere,
        trust=Trust(jnp.ones(size), jnp.ones(())),
        offset=jnp.ones(()),
        step=jnp.zeros(size),
        is_full=jnp.zeros((), bool),
        iterations=jnp.full((), -1),
        stop=jnp.zeros((), int),
    )


@partial(jax.jit, static_argnames=("model",))
def minimise(
    model: ModelFunction, problem: Problem, start: Array, tolerances: Tolerances
) -> tuple[State, Array, Array]:
    """Return where the iteration from ``start`` (p,) ended, the model there (n,), and ``S`` of :func:`second_order`.

    Compiled once per model and shape of the data.
    """
    state = jax.lax.while_loop(
        lambda state: state.stop == int(Stop.RUNNING),
        partial(turn, model, problem, tolerances),
        initial_state(problem, start),
    )
    return state, model(problem.x, *state.parameters), second_order(model, problem, state)
