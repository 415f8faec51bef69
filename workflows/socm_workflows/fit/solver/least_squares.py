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

Of the data the iteration sees only a :class:`Linearisation` (accumulation.py): one per iteration, whatever it is made
of, in memory or from a stream. :func:`advance` takes the state from one to the next.
"""

from __future__ import annotations

from enum import IntEnum
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from socm_workflows.fit.solver.accumulation import CONDITION_LIMIT, Linearisation, Method, is_finite, nowhere
from socm_workflows.fit.solver.loss import EPSILON
from socm_workflows.fit.solver.normal_step import quick_offset, quick_step
from socm_workflows.fit.solver.trust_region import Limits, Trust, bounded_step, held_parameters, relative_offset

INITIAL_RADIUS = 1.0
"""First radius as a multiple of ``|D theta|`` (MINPACK's ``factor``, there 100)."""
LEAST_RADIUS = 1e-2
"""First radius as a multiple of ``|r|`` where the parameters start at or near zero."""
ACCEPTED_RATIO = 1e-4
"""Least actual reduction, as a fraction of the predicted one, of a step that is taken (Moré 1978, section 7)."""
LOOSE_OFFSET = 1e-3
"""Above this relative offset no test of steps or costs counts as convergence."""
MOST_REPEATS = 4
"""Passes over one point for an accurate triangle; each gains some seven digits of the condition."""


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
    CONDITION = 8
    """It has not ended: the columns are too near to each other to be squared; another method goes on."""
    INTERRUPTED = 9
    """Whoever watches the iteration ended it."""


class Tolerances(NamedTuple):
    """When to stop; all are relative."""

    ftol: float | Array = 1e-20
    xtol: float | Array = 1e-14
    gtol: float | Array = 5e-11
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
    """Steps tried."""
    stop: Array
    evaluations: Array
    """Passes over the data."""
    repeats: Array
    """Passes over the present target beyond the first."""
    basis: Array
    """The triangle of the last pass, (p, p)."""


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


def rounding_floor(here: Linearisation) -> Array:
    """Return the relative offset that rounding in the model leaves: ``2 eps |f| / |r|``."""
    return 2 * EPSILON * jnp.sqrt(here.size / jnp.where(here.square > 0, here.square, 1.0))


def compare(state: State, there: Linearisation, offset: Array, step: Array) -> Trial:
    """Return how a step fared.

    Below the rounding error of the costs a step is taken when it lowers the offset instead: gradients are known better
    than costs.
    """
    here = state.here
    change = here.triangle @ step
    predicted = -change @ (here.projection + change / 2)
    actual = (here.rss - there.rss) / 2
    actual = jnp.where(is_finite(there), actual, -jnp.inf)
    noise = 32 * (EPSILON + rounding_floor(here)) * here.rss
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
    return Trust(scale, jnp.maximum(length, LEAST_RADIUS * jnp.sqrt(here.square)))


def judge(tolerances: Tolerances, after: State, trial: Trial, was_full: Array) -> Array:
    """Return the :class:`Stop` code of the state reached after a trial."""
    moved = after.iterations > 0
    near = moved & was_full & (after.offset <= LOOSE_OFFSET)
    cost = after.here.rss / 2
    change = jnp.maximum(jnp.abs(trial.actual), trial.predicted)
    is_short = jnp.all(jnp.abs(trial.step) <= tolerances.xtol * jnp.abs(after.parameters))
    is_invisible = jnp.all(trial.step == 0) | (trial.predicted <= 1e-8 * trial.noise)
    tests = (
        (~is_finite(after.here), Stop.START),
        (after.offset <= tolerances.gtol, Stop.GRADIENT),
        (after.offset <= rounding_floor(after.here), Stop.ROUNDING),
        (near & (change <= tolerances.ftol * cost), Stop.REDUCTION),
        (near & is_short, Stop.STEP),
        (moved & ~trial.accepted & is_invisible, Stop.STALLED),
        (after.iterations >= tolerances.max_iterations, Stop.MAX_ITERATIONS),
    )
    return jnp.select([test for test, _ in tests], [jnp.asarray(int(code)) for _, code in tests], int(Stop.RUNNING))


def advance(state: State, there: Linearisation, limits: Limits, tolerances: Tolerances, method: Method) -> State:
    """Return the state after the evaluation of ``target_of(state)``: judge the step, propose the next.

    The evaluation before the first step is that of the start. A linearisation whose columns are too near to each other
    to be squared is not judged: with ``REFINED`` the same target is evaluated again in a better basis, with ``GRAM``
    the iteration stops as ``CONDITION``, for ``REFINED`` or ``QR`` to go on.
    """
    is_quick = method is Method.GRAM
    is_first = state.iterations < 0
    target = target_of(state, limits)
    held = held_parameters(target, there, limits)
    offset = (quick_offset if is_quick else relative_offset)(there, held)
    trial = compare(state, there, offset, target - state.parameters)
    taken = is_first | trial.accepted

    def choose(test: Array, new: Array, old: Array) -> Array:
        return jnp.where(test, new, old)

    after = state._replace(
        parameters=jnp.where(taken, target, state.parameters),
        here=jax.tree.map(partial(choose, taken), there, state.here),
        trust=jax.tree.map(partial(choose, is_first), first_trust(target, there), next_trust(state, trial, there)),
        offset=jnp.where(taken, offset, state.offset),
        iterations=state.iterations + 1,
        evaluations=state.evaluations + 1,
        repeats=jnp.zeros((), int),
        basis=jnp.where(is_finite(there), there.triangle, state.basis),
    )
    stop = judge(tolerances, after, trial, state.is_full)
    step, is_full = (quick_step if is_quick else bounded_step)(after.parameters, after.here, after.trust, limits)
    after = after._replace(step=step, is_full=is_full, stop=stop)
    if method is Method.QR:
        return after
    is_vague = is_finite(there) & (there.condition > CONDITION_LIMIT) & (state.repeats < MOST_REPEATS)
    again = state._replace(
        evaluations=after.evaluations,
        repeats=state.repeats + 1,
        basis=there.triangle,
        stop=jnp.full((), int(Stop.CONDITION if is_quick else Stop.RUNNING)),
    )
    chosen: State = jax.tree.map(partial(choose, is_vague), again, after)
    return chosen


def target_of(state: State, limits: Limits) -> Array:
    """Return the parameters to evaluate next, (p,)."""
    return jnp.clip(state.parameters + state.step, limits.lower, limits.upper)


def initial_state(start: Array) -> State:
    """Return the state before the evaluation of ``start`` (p,)."""
    size = start.size
    return State(
        parameters=start,
        here=nowhere(size),
        trust=Trust(jnp.ones(size), jnp.ones(())),
        offset=jnp.ones(()),
        step=jnp.zeros(size),
        is_full=jnp.zeros((), bool),
        iterations=jnp.full((), -1),
        stop=jnp.zeros((), int),
        evaluations=jnp.zeros((), int),
        repeats=jnp.zeros((), int),
        basis=jnp.eye(size),
    )
