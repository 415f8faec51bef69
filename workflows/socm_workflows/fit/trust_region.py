"""One step of a trust region with bounds, from the triangular factor of ``[J r]``.

Residuals are ``r_i = (f(x_i, theta) - y_i) / sigma_i``, ``J = dr/dtheta`` is exact (forward differentiation), and
``[J r]`` is reduced to ``[[R, z], [0, rho]]`` by Householder QR; nothing else of it is needed for a step. The normal
equations ``J^T J`` are never formed: they square the condition number.

Memory: about ``(4 p + 8) n`` doubles for ``n`` points and ``p`` parameters. All arrays are float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]

ModelFunction = Callable[..., Array]
"""``f(x, *parameters)``: ``x`` is (n,) or (k, n), each parameter a scalar, the value (n,)."""

EPSILON = 2.0**-52
SECULAR_STEPS = 60


class Problem(NamedTuple):
    """Data and limits."""

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


class Linearisation(NamedTuple):
    """The residuals at a point, and the triangular factor of ``[J r]``."""

    residuals: Array
    """(n,), in units of sigma."""
    triangle: Array
    """``R``, (p, p)."""
    projection: Array
    """``z``, (p,)."""


class Trust(NamedTuple):
    """The trust region ``|D d| <= radius``."""

    scale: Array
    """``D``, (p,)."""
    radius: Array


def residuals_at(model: ModelFunction, problem: Problem, parameters: Array) -> Array:
    """Return ``(f(x, theta) - y) / sigma``, (n,)."""
    return (model(problem.x, *parameters) - problem.y) / problem.sigma


def linearise(model: ModelFunction, problem: Problem, parameters: Array) -> Linearisation:
    """Return the residuals and the triangular factor of ``[J r]`` at a point."""

    def twice(theta: Array) -> tuple[Array, Array]:
        values = residuals_at(model, problem, theta)
        return values, values

    jacobian, values = jax.jacfwd(twice, has_aux=True)(parameters)
    factor = jnp.linalg.qr(jnp.column_stack([jacobian, values]), mode="r")
    size = parameters.size
    return Linearisation(values, factor[:size, :size], factor[:size, size])


def is_finite(point: Linearisation) -> Array:
    """Return whether residuals and Jacobian are finite."""
    finite = jnp.all(jnp.isfinite(point.residuals)) & jnp.all(jnp.isfinite(point.triangle))
    return finite & jnp.all(jnp.isfinite(point.projection))


def held_parameters(parameters: Array, here: Linearisation, problem: Problem) -> Array:
    """Return which parameters stand on a bound that the sum of squares pushes them against, (p,) bool."""
    gradient = here.triangle.T @ here.projection
    return ((parameters <= problem.lower) & (gradient >= 0)) | ((parameters >= problem.upper) & (gradient <= 0))


def relative_offset(here: Linearisation, held: Array) -> Array:
    """Return ``|Q1^T r| / |r|`` over the free parameters; zero when the fit is exact.

    ``Q1`` spans the columns of ``J``. These are first scaled to unit length, so that the rank (singular values above
    ``10 p eps`` of the largest) does not depend on units; directions beyond the rank do not count.
    """
    norms = jnp.linalg.norm(here.triangle, axis=0)
    free = ~held & (norms > 0)
    columns = jnp.where(free, here.triangle / jnp.where(free, norms, 1.0), 0.0)
    left, singular, _ = jnp.linalg.svd(columns)
    counts = (singular > 10 * singular.size * EPSILON * singular[0]) & (singular > 0)
    inside = jnp.linalg.norm(jnp.where(counts, left.T @ here.projection, 0.0))
    norm = jnp.linalg.norm(here.residuals)
    return jnp.where(norm > 0, inside / jnp.where(norm > 0, norm, 1.0), 0.0)


def damped_step(triangle: Array, projection: Array, radius: Array) -> tuple[Array, Array]:
    """Return ``q`` that minimises ``|z + A q|`` subject to ``|q| <= 1.01 radius``, and its multiplier ``lambda``.

    ``q = -V s b / (s^2 + lambda)`` with ``A = U s V^T`` and ``b = U^T z``. Where the step of ``lambda = 0`` is too
    long, ``1/radius - 1/|q(lambda)| = 0`` is solved by Newton's method from the left, where it converges monotonically
    (Moré 1978, section 5, "The Levenberg-Marquardt parameter").
    """
    left, singular, right = jnp.linalg.svd(triangle)
    usable = singular > 0
    squares = jnp.where(usable, singular**2, 1.0)
    numerator = jnp.where(usable, singular * (left.T @ projection), 0.0)

    def newton(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        damping, count = carry
        coefficients = numerator / (squares + damping)
        length = jnp.linalg.norm(coefficients)
        slope = jnp.sum(coefficients**2 / (squares + damping))
        return damping + length**2 / slope * (length - radius) / radius, count + 1

    def too_long(carry: tuple[Array, Array]) -> Array:
        damping, count = carry
        length: Array = jnp.linalg.norm(numerator / (squares + damping))
        return (length > 1.01 * radius) & (count < SECULAR_STEPS)

    damping, _ = jax.lax.while_loop(too_long, newton, (jnp.zeros(()), jnp.zeros((), int)))
    return -right.T @ (numerator / (squares + damping)), damping


def bounded_step(parameters: Array, here: Linearisation, trust: Trust, problem: Problem) -> tuple[Array, Array]:
    """Return the step inside the trust region and the bounds, and whether it is a full (undamped, unpinned) step.

    Held parameters do not move. Those that the step would carry over a bound are pinned on it, and the step of the
    others is solved for anew with ``z + R_pinned d_pinned``; at most ``p`` times.
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

    def is_unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        return (carry[3] == 0) | jnp.any(crosses(carry[1]) & ~carry[0])

    nothing = (held, jnp.zeros_like(parameters), jnp.zeros(()), jnp.zeros((), int))
    pinned, step, damping, _ = jax.lax.while_loop(is_unfinished, solve, nothing)
    return step, (damping == 0) & jnp.all(pinned == held)
