"""One step of a trust region with bounds, from the triangular factor of ``[J r]``.

Of the data a step needs ``R``, ``z`` and ``|r|`` with ``[J r] = Q [[R, z], [0, rho]]`` (accumulation.py), and nothing
else; all that happens here has the size of the parameters, and all arrays are float64.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from socm_workflows.fit.solver.accumulation import Linearisation
from socm_workflows.fit.solver.formula import ModelFunction
from socm_workflows.fit.solver.loss import EPSILON

__all__ = ["EPSILON", "Limits", "ModelFunction", "Trust", "bounded_step", "held_parameters", "relative_offset"]

SECULAR_STEPS = 60


class Limits(NamedTuple):
    """Where the parameters may be."""

    lower: Array
    """(p,), -inf where there is no bound."""
    upper: Array
    """(p,), inf where there is no bound."""


class Trust(NamedTuple):
    """The trust region ``|D d| <= radius``."""

    scale: Array
    """``D``, (p,)."""
    radius: Array


def held_parameters(parameters: Array, here: Linearisation, limits: Limits) -> Array:
    """Return which parameters stand on a bound that the sum of squares pushes them against, (p,) bool."""
    gradient = here.triangle.T @ here.projection
    return ((parameters <= limits.lower) & (gradient >= 0)) | ((parameters >= limits.upper) & (gradient <= 0))


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
    norm = jnp.sqrt(here.square)
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


def bounded_step(parameters: Array, here: Linearisation, trust: Trust, limits: Limits) -> tuple[Array, Array]:
    """Return the step inside the trust region and the bounds, and whether it is a full (undamped, unpinned) step.

    Held parameters do not move. Those that the step would carry over a bound are pinned on it, and the step of the
    others is solved for anew with ``z + R_pinned d_pinned``; at most ``p`` times.
    """
    room_below = limits.lower - parameters
    room_above = limits.upper - parameters
    held = held_parameters(parameters, here, limits)

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
