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

    ftol: float = 1e-15
    xtol: float = 1e-12
    gtol: float = 1e-10


class Linearisation(NamedTuple):
    """The residuals at a point, and the triangular factor of ``[J r]``."""

    residuals: Array
    """(n,), in units of sigma."""
    triangle: Array
    """``R``, (p, p)."""
    projection: Array
    """``z = Q1^T r``, (p,)."""


class State(NamedTuple):
    """What the iteration carries."""

    parameters: Array
    here: Linearisation
    scale: Array
    """``D``, (p,)."""
    radius: Array
    offset: Array
    iterations: Array
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
    usable = singular > triangle.shape[0] * EPSILON * singular[0]
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


def bounded_step(state: State, problem: Problem, held: Array) -> tuple[Array, Array]:
    """Return the step inside the trust region and the bounds, and whether it is a full (undamped, unpinned) step.

    Parameters that the step would carry over a bound are pinned on it, and the step of the others is solved for anew
    with ``z + R_pinned d_pinned``; at most ``p`` times.
    """
    room_below = problem.lower - state.parameters
    room_above = problem.upper - state.parameters
    triangle, projection, _ = state.here

    def solve(pinned: Array, step: Array) -> tuple[Array, Array]:
        fixed = jnp.where(pinned, step, 0.0)
        columns = jnp.where(pinned, 0.0, triangle / state.scale)
        inner, damping = damped_step(columns, projection + triangle @ fixed, state.radius)
        return jnp.where(pinned, fixed, inner / state.scale), damping

    def crosses(step: Array) -> Array:
        return (step < room_below) | (step > room_above)

    def pin(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        pinned, step, _ = carry
        pinned = pinned | crosses(step)
        return (pinned, *solve(pinned, jnp.clip(step, room_below, room_above)))

    start = (held, *solve(held, jnp.zeros_like(state.parameters)))
    pinned, step, damping = jax.lax.while_loop(lambda carry: jnp.any(crosses(carry[1]) & ~carry[0]), pin, start)
    return step, (damping == 0) & jnp.all(pinned == held)
