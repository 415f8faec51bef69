"""Robust losses: how much a residual counts.

The cost is ``sum_i C^2 rho((r_i / C)^2) / 2`` with ``C = f_scale``, the convention of ``scipy.optimize.least_squares``.
With ``z = (r / C)^2``, gradient and curvature of the cost follow from ``rho'`` and ``rho' + 2 z rho''``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

LossFunction = Callable[[Array], Array]
"""``rho(z)`` for z of shape (m,): rho, its first and its second derivative, as (3, m), written with jax.numpy."""

LEAST_CURVATURE = 0.1
"""While stepping, the curvature of a point counts at least this fraction of ``rho'``, though outliers have less."""
EPSILON = 2.0**-52


class Scales(NamedTuple):
    """What a loss makes of residuals; each (m,)."""

    cost: Array
    """``C^2 rho``, which sums to twice the cost."""
    slope: Array
    """``rho'``: the residual pulls like ``rho' r``."""
    curvature: Array
    """``rho' + 2 z rho''``, not negative only where the residual is small."""


def soft_l1(z: Array) -> Array:
    """Return ``2 (sqrt(1 + z) - 1)`` and its derivatives."""
    root = jnp.sqrt(1 + z)
    return jnp.stack([2 * z / (root + 1), 1 / root, -0.5 / root**3])


def huber(z: Array) -> Array:
    """Return ``z`` up to 1 and ``2 sqrt(z) - 1`` beyond, and its derivatives."""
    far = z > 1
    root = jnp.sqrt(jnp.where(far, z, 1.0))
    return jnp.stack([
        jnp.where(far, 2 * root - 1, z), jnp.where(far, 1 / root, 1.0), jnp.where(far, -0.5 / root**3, 0.0)
    ])  # fmt: skip


def cauchy(z: Array) -> Array:
    """Return ``log(1 + z)`` and its derivatives."""
    slope = 1 / (1 + z)
    return jnp.stack([jnp.log1p(z), slope, -(slope**2)])


def arctan(z: Array) -> Array:
    """Return ``arctan(z)`` and its derivatives."""
    slope = 1 / (1 + z**2)
    return jnp.stack([jnp.arctan(z), slope, -2 * z * slope**2])


LOSSES: dict[str, LossFunction | None] = {
    "linear": None,
    "soft_l1": soft_l1,
    "huber": huber,
    "cauchy": cauchy,
    "arctan": arctan,
}
"""By name; linear is plain least squares."""


def loss_of(loss: str | LossFunction) -> LossFunction | None:
    """Return the loss of a name, or the one that is given; None for plain least squares.

    Raises ValueError: there is no loss of that name.
    """
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss: there is no {loss!r}; there are {', '.join(LOSSES)}, and functions rho(z) -> (3, m)")
    return LOSSES[loss]


def scales_of(loss: LossFunction, residuals: Array, f_scale: Array) -> Scales:
    """Return cost, slope and curvature of residuals (m,)."""
    z = (residuals / f_scale) ** 2
    rho, slope, bend = loss(z)
    return Scales(f_scale**2 * rho, slope, slope + 2 * z * bend)
