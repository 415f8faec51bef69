"""What the residuals of a fit say: its quality in numbers, and the width of its intervals.

``r = y - f``, ``w = 1 / sigma^2`` (1 without sigma), ``n`` points, ``p`` parameters, ``chi2 = sum w r^2``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from socm_workflows.fit.solver.formula import ModelFunction
from socm_workflows.fit.solver.passes import Block

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Quality:
    """Sums over all points."""

    points: int
    chi_square: float
    """``sum w r^2``."""
    squares: float
    """``sum r^2``."""
    absolutes: float
    """``sum |r|``."""
    spread: float
    """``sum w (y - mean)^2`` with the mean of weights ``w``."""

    @property
    def r_squared(self) -> float:
        """``1 - chi2 / sum w (y - mean)^2`` (Draper and Smith 1998, section 1.3; Kvalseth 1985, Am. Stat. 39, 279)."""
        return 1 - self.chi_square / self.spread if self.spread > 0 else math.nan

    @property
    def rmse(self) -> float:
        """``sqrt(sum r^2 / n)``, in the unit of y."""
        return math.sqrt(self.squares / self.points)

    @property
    def mae(self) -> float:
        """``sum |r| / n``, in the unit of y."""
        return self.absolutes / self.points


def quality_of(model: ModelFunction, parameters: Floats, blocks: Iterable[Block]) -> Quality:
    """Return the sums, by one pass over blocks."""
    points, chi_square, squares, absolutes = 0, 0.0, 0.0, 0.0
    origin: float | None = None
    weights = first = second = 0.0
    for x, y, sigma in blocks:
        residuals = y - np.asarray(model(jnp.asarray(x), *parameters))
        weight = np.ones(y.size) if sigma is None else 1 / np.square(sigma)
        origin = float(np.mean(y)) if origin is None and y.size else origin
        shifted = y - (origin or 0.0)
        points += y.size
        chi_square += float(np.sum(weight * residuals**2))
        squares += float(np.sum(residuals**2))
        absolutes += float(np.sum(np.abs(residuals)))
        weights += float(np.sum(weight))
        first += float(np.sum(weight * shifted))
        second += float(np.sum(weight * shifted**2))
    return Quality(points, chi_square, squares, absolutes, max(second - first**2 / weights, 0.0) if points else 0.0)


def information(chi_square: float, points: int, penalty: float) -> float:
    """Return ``n ln(chi2 / n) + penalty``.

    With a penalty of ``2 p`` this is AIC, with ``p ln n`` BIC, of normal errors whose variance is estimated, less what
    does not depend on the model (Burnham and Anderson 2002, section 2.2; Schwarz 1978, Ann. Stat. 6, 461-464).
    """
    return points * math.log(chi_square / points) + penalty if chi_square > 0 else -math.inf


def quantile(level: float, degrees_of_freedom: int, *, is_known: bool) -> float:
    """Return how many standard errors an interval of a level reaches to each side: Student's t, or the normal
    distribution where the standard deviations of the data are known.

    Raises ValueError: the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level is {level!r}: write a number between 0 and 1, such as 0.95")
    if is_known:
        return float(ndtri((1 + level) / 2))
    return float(stdtrit(degrees_of_freedom, (1 + level) / 2)) if degrees_of_freedom > 0 else math.inf


def jacobian_at(model: ModelFunction, parameters: Floats, x: Floats) -> Floats:
    """Return ``df/dtheta`` at points, (n, p)."""
    jacobian = jax.jacfwd(lambda theta: model(jnp.asarray(x), *theta))(jnp.asarray(parameters))
    return np.asarray(jacobian)


def error_of_curve(jacobian: Floats, covariance: Floats) -> Floats:
    """Return the standard error of the model at points, (n,): ``sqrt(g^T C g)`` with ``g`` a row of the Jacobian
    (Seber and Wild 1989, "Nonlinear regression", section 5.1). A parameter on a bound counts as known.
    """
    known = np.where(np.isnan(covariance), 0.0, covariance)
    squares = np.sum((jacobian @ known) * jacobian, axis=1)
    errors: Floats = np.sqrt(np.maximum(squares, 0.0))
    return errors


def rank_of(jacobian: Floats) -> int:
    """Return the rank of a Jacobian whose columns are scaled to unit length."""
    norms = np.linalg.norm(jacobian, axis=0)
    singular = np.linalg.svd(jacobian / np.where(norms > 0, norms, 1.0), compute_uv=False)
    return int(np.sum(singular > 10 * norms.size * np.finfo(float).eps * max(singular, default=0.0)))
