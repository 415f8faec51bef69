"""From points to the triangular factor of ``[J r]``: the only thing of the data that the iteration sees.

Three ways, by what they cost and what they bear:

``QR``
    Householder reduction of the whole ``[J r]``. Right for any condition; memory ``(4 p + 8) n`` doubles.
``GRAM``
    One pass sums the packed upper triangle of ``[J r]^T [J r]`` in lanes; ``J`` is never stored. A Cholesky factor,
    taken of the matrix scaled to a unit diagonal, gives ``R`` with a relative error of ``eps cond(J)^2``: used up to
    ``CONDITION_LIMIT``.
``REFINED``
    The same sums of ``[J T r]``, with ``T`` the inverse of the triangle of the pass before: the columns of ``J T`` are
    nearly orthonormal, and ``R`` is as good as by QR at the cost of ``GRAM``. When the pass before was too far away
    (the condition of ``J T`` is above the limit) the point is passed over again. This is shifted Cholesky QR (Fukaya,
    Kannan, Nakatsukasa, Yamamoto & Yanagisawa 2020, "Shifted Cholesky QR for computing the QR factorization of
    ill-conditioned matrices", SIAM J. Sci. Comput. 42, A477-A503), warm from one iteration to the next.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from socm_workflows.fit.solver.formula import Aim, Formula, Points, Rows, rows_of
from socm_workflows.fit.solver.loss import EPSILON

CONDITION_LIMIT = 500.0
"""Norm of the inverse of the scaled triangle up to which a Cholesky factor will do: ``eps 500^2 = 6e-11``."""
LANES_BYTES = 2**18
"""All lanes of all sums together: half of a second-level cache."""
MOST_LANES = 4096
LEAST_LANES = 128
FIRST_LANES = 1024
"""Points that one turn may take however few there are; beyond, it takes at most a sixteenth of them."""


class Method(Enum):
    """How the data are reduced."""

    QR = "qr"
    GRAM = "gram"
    REFINED = "refined"


class Linearisation(NamedTuple):
    """All that the iteration knows of the data at a point."""

    triangle: Array
    """``R``, (p, p), upper triangular."""
    projection: Array
    """``z``, (p,)."""
    rss: Array
    """Twice the cost; without a loss the sum of squares of the residuals."""
    square: Array
    """``|r|^2`` of the rows that ``R`` and ``z`` belong to; without a loss the same."""
    size: Array
    """``|f / sigma|^2``, of the same rows."""
    condition: Array
    """Norm of the inverse of the triangle, columns scaled to unit length, of what was squared; 1 where nothing was."""


def nowhere(size: int) -> Linearisation:
    """Return what is known before the first evaluation."""
    zero = jnp.zeros(())
    return Linearisation(jnp.zeros((size, size)), jnp.zeros(size), zero, zero, zero, jnp.ones(()))


def is_finite(point: Linearisation) -> Array:
    """Return whether residuals and Jacobian are finite."""
    finite = jnp.isfinite(point.rss) & jnp.isfinite(point.square) & jnp.all(jnp.isfinite(point.triangle))
    return finite & jnp.all(jnp.isfinite(point.projection))


def by_qr(
    formula: Formula, theta: Array, points: Points, f_scale: Array, *, aim: Aim = Aim.STEP, counts: Array | None = None
) -> Linearisation:
    """Return the linearisation by Householder QR of all rows at once, or of those where ``counts`` (m,) holds."""
    rows = masked(rows_of(formula, theta, points, f_scale, aim), counts)
    shape, size = rows.residuals.shape, theta.size
    matrix = jnp.stack([*(jnp.broadcast_to(column, shape) for column in rows.columns), rows.residuals], axis=1)
    factor = jnp.linalg.qr(matrix, mode="r")
    return Linearisation(
        triangle=factor[:size, :size],
        projection=factor[:size, size],
        rss=rows.residuals @ rows.residuals if rows.costs is None else jnp.sum(rows.costs),
        square=rows.residuals @ rows.residuals,
        size=rows.values @ rows.values,
        condition=jnp.ones(()),
    )


def masked(rows: Rows, counts: Array | None) -> Rows:
    """Return rows with zeros for the points that do not count."""
    if counts is None:
        return rows
    kept: Rows = jax.tree.map(lambda values: jnp.where(counts, values, 0.0), rows)
    return kept


def sums_count(size: int) -> int:
    """Return how many sums there are for ``size`` parameters: the packed triangle, ``|f|^2`` and the cost."""
    return (size + 1) * (size + 2) // 2 + 2


def lanes_for(size: int) -> int:
    """Return how many lanes the sums are taken in: a power of two, so that all of them stay in the cache."""
    fitting = LANES_BYTES // (8 * sums_count(size))
    return max(LEAST_LANES, min(MOST_LANES, 1 << (fitting.bit_length() - 1)))


def products_of(rows: Rows, basis: Array | None) -> tuple[Array, ...]:
    """Return what each point adds to the sums, each (m,); ``basis`` is ``T`` (p, p), None for the identity."""
    columns = list(rows.columns)
    if basis is not None:
        terms = [[column * basis[i, j] for i, column in enumerate(columns[: j + 1])] for j in range(len(columns))]
        columns = [sum(others, first) for first, *others in terms]
    every = [*columns, rows.residuals]
    products = [every[i] * every[j] for i in range(len(every)) for j in range(i, len(every))]
    return (*products, rows.values**2, *(() if rows.costs is None else (rows.costs,)))


def sums_at_once(formula: Formula, theta: Array, points: Points, f_scale: Array) -> Array:
    """Return the sums over points that fit into a cache; a point of infinite sigma adds nothing."""
    products = products_of(rows_of(formula, theta, points, f_scale), None)
    sums = [jnp.sum(jnp.broadcast_to(product, points.y.shape)) for product in products]
    return jnp.stack(sums if formula.loss is not None else [*sums, sums[-2]])


def sums_in_lanes(
    formula: Formula,
    theta: Array,
    points: Points,
    f_scale: Array,
    *,
    count: Array,
    basis: Array | None = None,
    aim: Aim = Aim.STEP,
) -> Array:
    """Return the sums over the first ``count`` of the points; their number is a multiple of the lanes, or less.

    One pass, ``V`` points a turn, added up in ``V`` lanes: XLA turns sums over lanes into vector instructions, but not
    a sum into one number. What is beyond ``count`` is not looked at, but for the rest of its turn.
    """
    length = points.y.size
    width = min(lanes_for(theta.size), max(FIRST_LANES, length // 16), length)
    lane = jnp.arange(width)

    def turn(index: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        def cut(values: Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(values, index * width, width, axis=-1)

        part: Points = jax.tree.map(cut, points)
        counts = lane < count - index * width
        rows = masked(rows_of(formula, theta, part, f_scale, aim), counts)
        return tuple(total + product for total, product in zip(sums, products_of(rows, basis), strict=True))

    nothing = tuple(jnp.zeros(width) for _ in range(sums_count(theta.size) - (formula.loss is None)))
    totals = jax.lax.fori_loop(0, (count + width - 1) // width, turn, nothing)
    sums = [total.sum() for total in totals]
    return jnp.stack(sums if formula.loss is not None else [*sums, sums[-2]])


def inverse_of(triangle: Array) -> Array:
    """Return the ``T`` that makes ``J T`` nearly orthonormal: the inverse of ``R``; columns of zeros stay."""
    diagonal = jnp.diag(triangle)
    solid = triangle + jnp.diag(jnp.where(diagonal == 0, 1.0, 0.0))
    return jax.scipy.linalg.solve_triangular(solid, jnp.eye(len(triangle)))


def reduce_sums(sums: Array, previous: Array | None = None) -> Linearisation:
    """Return the linearisation of sums over all points.

    ``previous`` is the triangle whose inverse was ``T``. The matrix is scaled to a unit diagonal, so that neither units
    nor norms matter, and its diagonal raised by a few ``eps``, so that there is a factor whatever the rank.
    """
    size = _size_of(sums.shape[0])
    gram = jnp.zeros((size + 1, size + 1)).at[np.triu_indices(size + 1)].set(sums[:-2])
    norms = jnp.sqrt(jnp.diag(gram)[:size])
    scale = jnp.where(norms > 0, norms, 1.0)
    upper = gram[:size, :size] / scale / scale[:, None]
    scaled = upper + jnp.triu(upper, 1).T + 8 * (size + 1) * EPSILON * jnp.eye(size)
    factor = jnp.linalg.cholesky(jnp.where(jnp.diag(norms == 0), 1.0, scaled), symmetrize_input=False)
    right = jnp.concatenate([(gram[:size, size] / scale)[:, None], jnp.eye(size)], axis=1)
    solved = jax.scipy.linalg.solve_triangular(factor, right, lower=True)
    triangle = factor.T * norms
    return Linearisation(
        triangle=triangle if previous is None else triangle @ _solid(previous),
        projection=solved[:, 0],
        rss=sums[-1],
        square=gram[size, size],
        size=sums[-2],
        condition=jnp.linalg.norm(solved[:, 1:]),
    )


def _solid(triangle: Array) -> Array:
    return triangle + jnp.diag(jnp.where(jnp.diag(triangle) == 0, 1.0, 0.0))


def _size_of(count: int) -> int:
    """Return the number of parameters of so many sums."""
    return next(size for size in range(count) if sums_count(size) == count)
