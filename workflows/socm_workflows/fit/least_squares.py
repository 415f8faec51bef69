"""Nonlinear least squares: a Levenberg-Marquardt trust region with bounds, as one jitted loop.

Minimises ``c(theta) = |r(theta)|^2 / 2`` with ``r_i = (f(x_i, theta) - y_i) / sigma_i`` and
``lower <= theta <= upper``. What is computed, for ``n`` points and ``p`` parameters:

- The Jacobian ``J = dr/dtheta`` is exact (forward differentiation). ``[J r]`` is reduced at once to its triangular
  factor ``[[R, z], [0, rho]]`` by Householder QR. The normal equations ``J^T J`` are never formed, for they square
  the condition number.
- The step solves ``min |z + R d|`` subject to ``|D d| <= radius`` (Moré 1978, "The Levenberg-Marquardt algorithm:
  implementation and theory", LNM 630, sections 2-5) through the singular values of ``R D^-1``. ``D_j`` is the largest
  norm that column ``j`` of ``J`` has had (eq. 6.3), so the result does not depend on the units of parameters or data.
- Bounds: a parameter that stands on a bound and wants to leave it is held; one that the step would carry over a bound
  is pinned there and the others are solved for anew. ``J`` restricted to the free parameters decides convergence.
- A trial point where the model or its Jacobian is not finite is rejected, and the radius shrinks.

Convergence is judged by the relative offset of Bates & Watts (1981, Technometrics 23, 179, eq. 3.2)::

    offset = |Q1^T r| / |r|        Q1: an orthonormal basis of the columns of J

which has no units, does not change with the parametrisation, and says how far the minimum is: an offset ``e`` is
``e sqrt(n - p)`` standard errors. In a flat region, where costs and steps hardly change, it stays of order one.

Memory: about ``(2 p + 8) n`` doubles. One evaluation of model and Jacobian per iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

jax.config.update("jax_enable_x64", True)

Model = Callable[..., Array]
"""``f(x, *parameters)``: ``x`` is (n,) or (k, n), each parameter a scalar, the value (n,)."""

EPSILON = 2.0**-52
INITIAL_RADIUS = 1.0
"""First radius as a multiple of ``|D theta|`` (MINPACK's ``factor``, there 100)."""
ACCEPTED_RATIO = 1e-4
"""Least actual reduction, as a fraction of the predicted one, of a step that is taken (Moré 1978, algorithm 7.1)."""
LOOSE_OFFSET = 1e-3
"""Above this relative offset no test of steps or costs counts as convergence (Bates & Watts 1981, section 4)."""
SECULAR_STEPS = 60


class Stop(IntEnum):
    """Why the iteration ended."""

    RUNNING = 0
    """It has not ended."""
    GRADIENT = 1
    """The residuals are orthogonal to the columns of the Jacobian: ``offset <= gtol``."""
    ROUNDING = 2
    """They are as orthogonal as rounding in the model allows: ``offset <= 2 eps |f| / |r|``."""
    REDUCTION = 3
    """The last full step changed the sum of squares by less than ``ftol``, and the next one would."""
    STEP = 4
    """The full step changes no parameter by more than ``xtol``."""
    STALLED = 5
    """No step, however short, lowers the sum of squares, and the offset is not small."""
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


class Linearisation(NamedTuple):
    """The residuals at a point, and the triangular factor of ``[J r]``."""

    residuals: Array
    """(n,), in units of sigma."""
    triangle: Array
    """``R``, (p, p)."""
    projection: Array
    """``z = Q1^T r``, (p,)."""


class Trust(NamedTuple):
    """The trust region ``|D d| <= radius``."""

    scale: Array
    """``D``, (p,)."""
    radius: Array


class State(NamedTuple):
    """What the iteration carries: the best point so far, and the next step from it."""

    parameters: Array
    here: Linearisation
    trust: Trust
    offset: Array
    step: Array
    is_full: Array
    """Whether the step is neither damped nor pinned on a bound."""
    iterations: Array
    """Steps tried; evaluations are one more."""
    stop: Array


class Problem(NamedTuple):
    """Data and limits; every array is float64."""

    x: Array
    """(n,) or (k, n)."""
    y: Array
    """(n,)."""
    sigma: Array
    """(n,), in the unit of y."""
    lower: Array
    """(p,), -inf where there is no bound."""
    upper: Array
    """(p,), inf where there is no bound."""


def linearise(model: Model, problem: Problem, parameters: Array) -> Linearisation:
    """Return the residuals and the triangular factor of ``[J r]`` at a point."""

    def residuals(theta: Array) -> tuple[Array, Array]:
        values = (model(problem.x, *theta) - problem.y) / problem.sigma
        return values, values

    jacobian, values = jax.jacfwd(residuals, has_aux=True)(parameters)
    factor = jnp.linalg.qr(jnp.column_stack([jacobian, values]), mode="r")
    size = parameters.size
    return Linearisation(values, factor[:size, :size], factor[:size, size])


def held_parameters(parameters: Array, here: Linearisation, problem: Problem) -> Array:
    """Return which parameters stand on a bound that the sum of squares pushes them against, (p,) bool."""
    gradient = here.triangle.T @ here.projection
    return ((parameters <= problem.lower) & (gradient >= 0)) | ((parameters >= problem.upper) & (gradient <= 0))


def equilibrated(triangle: Array, held: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Return ``U, s, V^T``, the column norms and the rank of the free columns of ``R``, scaled to unit length.

    The rank counts the singular values above ``10 p eps`` of the largest (Moré's columns are of unit length, so it
    does not depend on units). A held or vanishing column has norm 1 and a zero column here.
    """
    norms = jnp.linalg.norm(triangle, axis=0)
    free = ~held & (norms > 0)
    norms = jnp.where(free, norms, 1.0)
    left, singular, right = jnp.linalg.svd(jnp.where(free, triangle / norms, 0.0))
    rank = jnp.sum(singular > 10 * triangle.shape[0] * EPSILON * singular[0])
    return left, singular, right, norms, jnp.where(singular[0] > 0, rank, 0)


def relative_offset(here: Linearisation, held: Array) -> Array:
    """Return ``|Q1^T r| / |r|`` over the free parameters; zero when the fit is exact."""
    left, singular, _, _, rank = equilibrated(here.triangle, held)
    inside = jnp.where(jnp.arange(singular.size) < rank, left.T @ here.projection, 0.0)
    norm = jnp.linalg.norm(here.residuals)
    return jnp.where(norm > 0, jnp.linalg.norm(inside) / jnp.where(norm > 0, norm, 1.0), 0.0)


def damped_step(triangle: Array, projection: Array, radius: Array) -> tuple[Array, Array]:
    """Return ``argmin |z + A q|`` subject to ``|q| <= radius``, and its multiplier ``lambda``.

    ``q = -V (s b) / (s^2 + lambda)`` with ``A = U s V^T`` and ``b = U^T z``. Where the step of ``lambda = 0`` is too
    long, ``1/radius - 1/|q(lambda)| = 0`` is solved by Newton from the left, where it converges monotonically
    (Moré 1978, section 5).
    """
    left, singular, right = jnp.linalg.svd(triangle)
    rotated = left.T @ projection
    usable = singular > 1e-150
    squares = jnp.where(usable, singular**2, 1.0)
    numerator = jnp.where(usable, singular * rotated, 0.0)

    def newton(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        damping, count = carry
        coefficients = numerator / (squares + damping)
        length = jnp.linalg.norm(coefficients)
        slope = jnp.sum(coefficients**2 / (squares + damping))
        return damping + length**2 / slope * (length - radius) / radius, count + 1

    def too_long(carry: tuple[Array, Array]) -> Array:
        damping, count = carry
        return (jnp.linalg.norm(numerator / (squares + damping)) > 1.01 * radius) & (count < SECULAR_STEPS)

    damping, _ = jax.lax.while_loop(too_long, newton, (jnp.zeros(()), jnp.zeros((), int)))
    return -right.T @ (numerator / (squares + damping)), damping


def bounded_step(parameters: Array, here: Linearisation, trust: Trust, problem: Problem) -> tuple[Array, Array]:
    """Return the step inside the trust region and the bounds, and whether it is a full (undamped, unpinned) step.

    Parameters that the step would carry over a bound are pinned on it, and the step of the others is solved for anew
    with ``z + R_pinned d_pinned``; at most ``p`` times.
    """
    room_below = problem.lower - parameters
    room_above = problem.upper - parameters
    held = held_parameters(parameters, here, problem)

    def crosses(step: Array) -> Array:
        return (step < room_below) | (step > room_above)

    def solve(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        pinned, step, _, count = carry
        pinned = pinned | crosses(step)
        fixed = jnp.where(pinned, jnp.clip(step, room_below, room_above), 0.0)
        columns = jnp.where(pinned, 0.0, here.triangle / trust.scale)
        inner, damping = damped_step(columns, here.projection + here.triangle @ fixed, trust.radius)
        return pinned, jnp.where(pinned, fixed, inner / trust.scale), damping, count + 1

    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        return (carry[3] == 0) | jnp.any(crosses(carry[1]) & ~carry[0])

    nothing = (held, jnp.zeros_like(parameters), jnp.zeros(()), jnp.zeros((), int))
    pinned, step, damping, _ = jax.lax.while_loop(unfinished, solve, nothing)
    return step, (damping == 0) & jnp.all(pinned == held)


def rounding_floor(problem: Problem, here: Linearisation) -> Array:
    """Return the relative offset that rounding in the model leaves: ``2 eps |f| / |r|``."""
    norm = jnp.linalg.norm(here.residuals)
    size = jnp.linalg.norm(here.residuals + problem.y / problem.sigma)
    return 2 * EPSILON * size / jnp.where(norm > 0, norm, 1.0)


class Trial(NamedTuple):
    """A step, what it promised and what it gave."""

    step: Array
    length: Array
    """``|D d|``."""
    slope: Array
    """Directional derivative ``g^T d`` of the cost."""
    predicted: Array
    """Reduction of the cost that the linear model promises."""
    actual: Array
    """Reduction of the cost; -inf where the model is not finite."""
    accepted: Array
    is_tiny: Array
    """Whether the predicted reduction is below the rounding error of the actual one."""


def compare(state: State, there: Linearisation, offset: Array, step: Array, problem: Problem) -> Trial:
    """Return how a step fared.

    The actual reduction is summed as ``(r - r') (r + r') / 2``, which cancels less than a difference of costs. Below
    its rounding error a full step is taken when it lowers the offset instead: gradients are known better than costs.
    """
    here = state.here
    change = here.triangle @ step
    predicted = -change @ (here.projection + change / 2)
    actual = jnp.sum((here.residuals - there.residuals) * (here.residuals + there.residuals)) / 2
    actual = jnp.where(is_finite(there), actual, -jnp.inf)
    noise = 32 * (EPSILON + rounding_floor(problem, here)) * (here.residuals @ here.residuals)
    is_tiny = predicted <= noise
    polishes = is_tiny & (actual >= -noise) & (offset < state.offset)
    accepted = jnp.where(is_tiny, polishes, actual > ACCEPTED_RATIO * predicted)
    length = jnp.linalg.norm(state.trust.scale * step)
    return Trial(step, length, here.projection @ change, predicted, actual, accepted, is_tiny)


def next_trust(state: State, trial: Trial, there: Linearisation) -> Trust:
    """Return the trust region after a trial (Moré 1978, algorithm 7.1 and the interpolation of section 4)."""
    norms = jnp.linalg.norm(there.triangle, axis=0)
    ratio = jnp.where(trial.is_tiny, 1.0, trial.actual / trial.predicted)
    dip = 0.5 * trial.slope / (trial.slope + trial.actual)
    shrink = jnp.where(trial.actual >= 0, 0.5, jnp.clip(jnp.nan_to_num(dip, nan=0.1), 0.1, 0.5))
    grown = jnp.where((ratio >= 0.75) | state.is_full, 2 * trial.length, state.trust.radius)
    shrunk = shrink * jnp.minimum(state.trust.radius, trial.length)
    return Trust(
        scale=jnp.where(trial.accepted, jnp.maximum(state.trust.scale, norms), state.trust.scale),
        radius=jnp.where(trial.accepted & (ratio > 0.25), grown, shrunk),
    )


def first_trust(parameters: Array, here: Linearisation) -> Trust:
    """Return the trust region at the start: ``|D theta|`` wide, or ``|r|`` when every parameter is zero."""
    norms = jnp.linalg.norm(here.triangle, axis=0)
    scale = jnp.where(norms > 0, norms, 1.0)
    length = jnp.linalg.norm(scale * parameters)
    return Trust(scale, INITIAL_RADIUS * jnp.where(length > 0, length, jnp.linalg.norm(here.residuals)))


def is_finite(point: Linearisation) -> Array:
    """Return whether residuals and Jacobian are finite."""
    finite = jnp.all(jnp.isfinite(point.residuals)) & jnp.all(jnp.isfinite(point.triangle))
    return finite & jnp.all(jnp.isfinite(point.projection))


def judge(problem: Problem, tolerances: Tolerances, state: State, trial: Trial, was_full: Array) -> Array:
    """Return the :class:`Stop` code of the state reached after a trial."""
    cost = state.here.residuals @ state.here.residuals / 2
    near = was_full & (state.offset <= LOOSE_OFFSET) & (state.iterations > 0)
    small = jnp.maximum(jnp.abs(trial.actual), trial.predicted) <= tolerances.ftol * cost
    short = jnp.all(jnp.abs(trial.step) <= tolerances.xtol * jnp.abs(state.parameters))
    stuck = ~trial.accepted & (jnp.all(trial.step == 0) | (was_full & trial.is_tiny))
    tests = (
        (~is_finite(state.here), Stop.START),
        (state.offset <= tolerances.gtol, Stop.GRADIENT),
        (state.offset <= rounding_floor(problem, state.here), Stop.ROUNDING),
        (near & small, Stop.REDUCTION),
        (near & short, Stop.STEP),
        (stuck & (state.iterations > 0), Stop.STALLED),
        (state.iterations >= tolerances.max_iterations, Stop.MAX_ITERATIONS),
    )
    return jnp.select([test for test, _ in tests], [jnp.asarray(int(code)) for _, code in tests], int(Stop.RUNNING))


def choose(test: Array, new: Linearisation, old: Linearisation) -> Linearisation:
    """Return one of two linearisations."""
    return jax.tree.map(lambda a, b: jnp.where(test, a, b), new, old)


@partial(jax.jit, static_argnames=("model",))
def minimise(model: Model, problem: Problem, start: Array, tolerances: Tolerances) -> State:
    """Return the state where the iteration from ``start`` ended; compiled once per model and shape of the data.

    Each turn evaluates the point proposed by the turn before, judges it and proposes the next; turn 0 evaluates the
    start, so that model, Jacobian and step are compiled once.
    """

    def turn(state: State) -> State:
        is_first = state.iterations < 0
        target = jnp.clip(state.parameters + state.step, problem.lower, problem.upper)
        there = linearise(model, problem, target)
        offset = relative_offset(there, held_parameters(target, there, problem))
        trial = compare(state, there, offset, target - state.parameters, problem)
        trust = next_trust(state, trial, there)
        taken = is_first | trial.accepted
        initial = first_trust(target, there)
        after = State(
            parameters=jnp.where(taken, target, state.parameters),
            here=choose(taken, there, state.here),
            trust=Trust(*(jnp.where(is_first, a, b) for a, b in zip(initial, trust, strict=True))),
            offset=jnp.where(taken, offset, state.offset),
            step=state.step,
            is_full=state.is_full,
            iterations=state.iterations + 1,
            stop=state.stop,
        )
        stop = judge(problem, tolerances, after, trial, state.is_full)
        step, is_full = bounded_step(after.parameters, after.here, after.trust, problem)
        return after._replace(step=step, is_full=is_full, stop=stop)

    size = start.size
    nowhere = Linearisation(jnp.zeros_like(problem.y), jnp.zeros((size, size)), jnp.zeros(size))
    zero, one = jnp.zeros(()), jnp.ones(())
    count = jnp.zeros((), int)
    trust = Trust(jnp.ones(size), one)
    before = State(start, nowhere, trust, one, jnp.zeros(size), zero > 0, count - 1, count)
    return jax.lax.while_loop(lambda state: state.stop == int(Stop.RUNNING), turn, before)
