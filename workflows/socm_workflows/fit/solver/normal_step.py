"""The step of trust_region.py from the normal equations: quick, for columns that are well conditioned.

Where ``J`` is well conditioned (the only place where accumulation.py squares it), ``J^T J`` loses nothing that a step
needs, and Cholesky factors of (p, p) cost a fraction of singular values, most of all for many fits side by side.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from socm_workflows.fit.solver.accumulation import Linearisation
from socm_workflows.fit.solver.trust_region import SECULAR_STEPS, Limits, Trust, held_parameters


def quick_offset(here: Linearisation, held: Array) -> Array:
    """Return ``|Q1^T r| / |r|`` over the free parameters, as ``relative_offset`` does.

    With none held ``|Q1^T r|`` is ``|z|``; only else, ``|L^-1 g|`` of the free columns is worked out.
    """
    norms = jnp.linalg.norm(here.triangle, axis=0)
    is_there = norms > 0

    def of_free(_: tuple[Array, Array]) -> tuple[Array, Array]:
        columns = here.triangle / jnp.where(is_there, norms, 1.0)
        free = ~held & is_there
        factor = _factor(columns, free, jnp.zeros(()))
        gradient = jnp.where(free, columns.T @ here.projection, 0.0)
        return jnp.linalg.norm(jax.scipy.linalg.solve_triangular(factor, gradient, lower=True)), jnp.zeros((), bool)

    start = (jnp.linalg.norm(here.projection), jnp.any(held | ~is_there))
    inside, _ = jax.lax.while_loop(lambda carry: carry[1], of_free, start)
    norm = jnp.sqrt(here.square)
    return jnp.where(norm > 0, inside / jnp.where(norm > 0, norm, 1.0), 0.0)


def _factor(columns: Array, free: Array, damping: Array) -> Array:
    """Return the Cholesky factor of ``A^T A + damping`` of the free columns; unit rows for the others."""
    matrix = columns.T @ columns + damping * jnp.eye(len(free))
    both = free & free[:, None]
    factor: Array = jnp.linalg.cholesky(jnp.where(both, matrix, jnp.eye(len(free))), symmetrize_input=False)
    return factor


def _damped(columns: Array, free: Array, gradient: Array, radius: Array) -> tuple[Array, Array]:
    """Return ``q`` that minimises ``|z + A q|`` subject to ``|q| <= 1.01 radius``, and its multiplier.

    Newton's method for ``1/radius - 1/|q(lambda)| = 0`` with ``d|q|^2/dlambda = -2 |L^-1 q|^2`` (Moré & Sorensen 1983,
    "Computing a trust region step", SIAM J. Sci. Stat. Comput. 4, 553-572, section 3).
    """

    def step_of(damping: Array) -> tuple[Array, Array]:
        factor = _factor(columns, free, damping)
        step = -jax.scipy.linalg.cho_solve((factor, True), gradient)
        return step, factor

    def newton(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        damping, step, factor, count = carry
        length = jnp.linalg.norm(step)
        within = jax.scipy.linalg.solve_triangular(factor, step, lower=True)
        damping = damping + (length / jnp.linalg.norm(within)) ** 2 * (length - radius) / radius
        return damping, *step_of(damping), count + 1

    def too_long(carry: tuple[Array, Array, Array, Array]) -> Array:
        length: Array = jnp.linalg.norm(carry[1])
        return (length > 1.01 * radius) & (carry[3] < SECULAR_STEPS)

    start = (jnp.zeros(()), *step_of(jnp.zeros(())), jnp.zeros((), int))
    damping, step, _, _ = jax.lax.while_loop(too_long, newton, start)
    return step, damping


def quick_step(parameters: Array, here: Linearisation, trust: Trust, limits: Limits) -> tuple[Array, Array]:
    """Return the step inside the trust region and the bounds, as ``bounded_step`` does.

    A full step that stays inside both, as most do near the end, comes from ``R`` alone.
    """
    room_below = limits.lower - parameters
    room_above = limits.upper - parameters
    held = held_parameters(parameters, here, limits)
    columns = here.triangle / trust.scale
    is_there = jnp.any(columns != 0, axis=0)

    def crosses(step: Array) -> Array:
        return (step < room_below) | (step > room_above)

    def solve(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        pinned, step, _, count = carry
        pinned = pinned | crosses(step)
        fixed = jnp.where(pinned, jnp.clip(step, room_below, room_above), 0.0)
        free = ~pinned & is_there
        rest = here.projection + here.triangle @ fixed
        inner, damping = _damped(columns, free, jnp.where(free, columns.T @ rest, 0.0), trust.radius)
        return pinned, jnp.where(pinned, fixed, inner / trust.scale), damping, count + 1

    def is_unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        return (carry[3] == 0) | jnp.any(crosses(carry[1]) & ~carry[0])

    whole = -jax.scipy.linalg.solve_triangular(here.triangle, here.projection)
    is_easy = (jnp.linalg.norm(trust.scale * whole) <= 1.01 * trust.radius) & ~jnp.any(held | crosses(whole))
    start = (held, jnp.where(is_easy, whole, 0.0), jnp.zeros(()), jnp.where(is_easy, 1, 0))
    pinned, step, damping, _ = jax.lax.while_loop(is_unfinished, solve, start)
    return step, (damping == 0) & jnp.all(pinned == held)
