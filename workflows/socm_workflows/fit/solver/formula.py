"""What is fitted, as a program: residuals, their derivatives and the loss, for any points.

Residuals are ``r_i = (f(x_i, theta) - y_i) / sigma_i``. With a loss, the rows of ``J`` and ``r`` are scaled such that
``J^T r`` is the gradient of the cost and ``J^T J`` its curvature (Triggs et al. 2000, "Bundle adjustment - a modern
synthesis", LNCS 1883, section 4.3; SciPy does the same).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from socm_workflows.fit.solver.loss import EPSILON, LEAST_CURVATURE, LossFunction, scales_of

Floats = NDArray[np.float64]

jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]

ModelFunction = Callable[..., Array]
"""``f(x, *parameters)``: ``x`` is (n,) or (k, n), each parameter a scalar, the value (n,)."""


class Aim(Enum):
    """What the rows of ``J`` are scaled for, where there is a loss."""

    STEP = "step"
    """Steps: curvature not below a fraction of ``rho'``, so that ``J^T J`` stays positive."""
    CURVATURE = "curvature"
    """The covariance: the curvature as it is, zero where it would be negative (SciPy's)."""
    SPREAD = "spread"
    """The middle of the sandwich: each row times its pull ``psi = rho' r``."""


@dataclass(frozen=True, slots=True)
class Formula:
    """Model, derivative and loss; programs are compiled for each."""

    model: ModelFunction
    jacobian: Callable[..., Array] | None = None
    """``df/dtheta`` as (n, p), called like the model; None to differentiate the model."""
    is_transposed: bool = False
    """Whether ``jacobian`` returns (p, n)."""
    loss: LossFunction | None = None


class Points(NamedTuple):
    """Some of the data."""

    x: Array
    """(m,) or (k, m)."""
    y: Array
    """(m,)."""
    sigma: Array | None
    """(m,), in the unit of y; (m, m), the Cholesky factor of a covariance; None where all points count alike."""


def points_of(x: Floats, y: Floats, sigma: Floats | None) -> Points:
    """Return points whose arrays are NumPy's, which programs take as they are."""
    return Points(cast(Array, x), cast(Array, y), cast(Array | None, sigma))


class Rows(NamedTuple):
    """``[J r]`` of some points, and what else is summed over points."""

    columns: tuple[Array, ...]
    """Of ``J``, each (m,)."""
    residuals: Array
    """(m,)."""
    values: Array
    """The model, in the units of the residuals, (m,)."""
    costs: Array | None
    """(m,), summing to twice the cost; None without a loss, where that is ``|r|^2``."""


def whiten(values: Array, sigma: Array | None) -> Array:
    """Return values of points (..., m) in units of their standard deviations."""
    if sigma is None:
        return values
    if sigma.ndim == 1:
        return values * (1 / sigma)
    columns = values.reshape(-1, values.shape[-1]).T
    return jax.scipy.linalg.solve_triangular(sigma, columns, lower=True).T.reshape(values.shape)


def _model_and_columns(formula: Formula, theta: Array, x: Array) -> tuple[Array, list[Array]]:
    """Return the model (m,) and the columns of ``df/dtheta``.

    The model is linearised once and its derivative followed along one parameter at a time: what is constant stays a
    constant, and what the columns share is computed once, which XLA does not see when they are asked for separately.
    """
    numbers = tuple(theta)
    if formula.jacobian is not None:
        matrix = jnp.asarray(formula.jacobian(x, *numbers))
        return formula.model(x, *numbers), list(matrix if formula.is_transposed else matrix.T)
    fitted, push = jax.linearize(lambda *values: formula.model(x, *values), *numbers)
    one, none = jnp.ones(()), jnp.zeros(())
    directions = [[one if other == index else none for other in range(theta.size)] for index in range(theta.size)]
    return fitted, [push(*direction) for direction in directions]


def rows_of(formula: Formula, theta: Array, points: Points, f_scale: Array, aim: Aim = Aim.STEP) -> Rows:
    """Return ``[J r]`` at parameters (p,), scaled for an aim."""
    fitted, columns = _model_and_columns(formula, theta, points.x)
    residuals = whiten(fitted - points.y, points.sigma)
    values = fitted if points.sigma is None else whiten(fitted, points.sigma)
    if points.sigma is not None:
        columns = list(whiten(jnp.stack([jnp.broadcast_to(column, fitted.shape) for column in columns]), points.sigma))
    if formula.loss is None:
        scaled = [column * residuals for column in columns] if aim is Aim.SPREAD else columns
        return Rows(tuple(scaled), residuals, values, None)
    cost, slope, curvature = scales_of(formula.loss, residuals, f_scale)
    if aim is Aim.SPREAD:
        root, pull = slope * residuals, slope
    else:
        least = LEAST_CURVATURE * slope if aim is Aim.STEP else EPSILON
        root = jnp.sqrt(jnp.maximum(curvature, least))
        pull = slope / jnp.where(root > 0, root, 1.0)
    return Rows(tuple(column * root for column in columns), pull * residuals, pull * values, cost)


def second_order(formula: Formula, theta: Array, points: Points, f_scale: Array, counts: Array | None) -> Array:
    """Return ``S = sum_i rho'_i r_i d2 r_i / dtheta2``, (p, p): the part of the Hessian that steps leave out.

    Only points where ``counts`` (m,) holds. One direction at a time and in forward mode: memory ``2 p m`` doubles, and
    models with loops are allowed. Zero where the user gave the derivative.
    """
    if formula.jacobian is not None:
        return jnp.zeros((theta.size, theta.size))

    def residuals_at(parameters: Array) -> Array:
        return whiten(formula.model(points.x, *parameters) - points.y, points.sigma)

    pulls = residuals_at(theta)
    if formula.loss is not None:
        pulls = pulls * scales_of(formula.loss, pulls, f_scale).slope
    pulls = pulls if counts is None else jnp.where(counts, pulls, 0.0)

    def weighted(parameters: Array) -> Array:
        jacobian: Array = jax.jacfwd(residuals_at)(parameters)
        return pulls @ (jacobian if counts is None else jnp.where(counts[:, None], jacobian, 0.0))

    def along(direction: Array) -> Array:
        derivative: Array = jax.jvp(weighted, (theta,), (direction,))[1]
        return derivative

    rows: Array = jax.lax.map(along, jnp.eye(theta.size))
    return rows
