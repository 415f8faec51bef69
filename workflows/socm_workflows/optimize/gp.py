"""A Gaussian process and the improvement that may be expected under it.

With ``x`` in the unit cube (a logarithmic range along its logarithm, whole numbers relaxed, a choice as one
coordinate per option) and ``y`` standardised and to be minimised, ``y ~ N(0, K)``, ``K = k(x, x') + s_n^2 I`` with
the Matérn kernel of smoothness 5/2 and one length ``l_i`` per coordinate (Rasmussen & Williams 2006, *Gaussian
Processes for Machine Learning*, eq. 4.17)::

    k(x, x') = s^2 (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r),   r^2 = sum_i (x_i - x'_i)^2 / l_i^2

Prediction (eq. 2.23-2.24): ``mu = k_*^T K^-1 y``, ``var = k_** - k_*^T K^-1 k_*``. Lengths and variances maximise the
log marginal likelihood (eq. 5.8), with its gradient (eq. 5.9), plus weak log-normal priors, which matter while there
are few points.

The expected improvement over the best value ``f`` is (Jones, Schonlau & Welch 1998, J. Global Optim. 13:455,
eq. 15) ``EI = s h(z)``, ``z = (f - mu) / s``, ``h(z) = z Phi(z) + phi(z)``. Its logarithm is what is computed, as EI
itself underflows to a plateau of zeros far from good points (Ament et al. 2023, NeurIPS 36).

Cost: of the order of ``n^3 + d n^2`` per step of the fit for ``n`` points in ``d`` dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky
from scipy.optimize import minimize
from scipy.special import erfcx, ndtr

Floats: TypeAlias = NDArray[np.float64]

NOISE_FLOOR = 1e-6
"""Least variance of the noise, in units of the variance of y."""
PRIOR_LENGTH = (math.log(0.5), 1.2)
"""Mean and standard deviation of log l."""
PRIOR_NOISE = (math.log(1e-4), 2.0)
"""Mean and standard deviation of log s_n^2."""
BOUNDS = ((math.log(0.01), math.log(20.0)), (math.log(0.05), math.log(20.0)), (math.log(NOISE_FLOOR), math.log(1.0)))
"""Of log l, log s^2 and log s_n^2."""


@dataclass(frozen=True, slots=True, eq=False)
class Process:
    """A Gaussian process conditioned on data."""

    x: Floats
    """(n, d), in the unit cube."""
    theta: Floats
    """(d + 2,): log l, log s^2, log s_n^2."""
    factor: Floats
    """(n, n): lower Cholesky factor of K."""
    inverse: Floats
    """(n, n): K^-1."""
    weights: Floats
    """(n,): K^-1 y."""

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the noiseless function at points (m, d), each (m,)."""
        cross = kernel(points, self.x, self.theta)
        variance = np.exp(self.theta[-2]) - np.einsum("ij,ij->i", cross @ self.inverse, cross)
        return cross @ self.weights, np.sqrt(np.maximum(variance, 1e-12))


def kernel(left: Floats, right: Floats, theta: Floats) -> Floats:
    """Return ``k`` between points (n, d) and (m, d), shape (n, m)."""
    root = math.sqrt(5) * _distance(left, right, np.exp(theta[:-2]))
    return np.asarray(np.exp(theta[-2]) * (1 + root + root**2 / 3) * np.exp(-root))


def condition(x: Floats, y: Floats, theta: Floats) -> Process:
    """Return the process with these parameters, given values ``y`` (n,) at ``x`` (n, d)."""
    covariance = kernel(x, x, theta) + (np.exp(theta[-1]) + NOISE_FLOOR) * np.eye(len(x))
    factor = cholesky(covariance, lower=True)
    inverse = _inverse(factor)
    return Process(x, theta, factor, inverse, inverse @ y)


def fit_process(x: Floats, y: Floats) -> Floats:
    """Return the log l, log s^2 and log s_n^2 of the largest posterior density, (d + 2,), by L-BFGS from two starts."""
    width = x.shape[1]
    bounds = [BOUNDS[0]] * width + [BOUNDS[1], BOUNDS[2]]
    starts = [np.r_[np.full(width, math.log(length)), 0.0, PRIOR_NOISE[0]] for length in (0.2, 1.0)]
    results = [minimize(negative_log_posterior, s, args=(x, y), jac=True, method="L-BFGS-B", bounds=bounds,
                        options={"maxiter": 40}) for s in starts]  # fmt: skip
    return np.asarray(min(results, key=lambda result: float(result.fun)).x)


def negative_log_posterior(theta: Floats, x: Floats, y: Floats) -> tuple[float, Floats]:
    """Return minus the log marginal likelihood and priors, up to a constant, and its gradient (d + 2,).

    ``d/dtheta log p = tr((a a^T - K^-1) dK/dtheta) / 2`` with ``a = K^-1 y`` (Rasmussen & Williams eq. 5.9), where
    ``dk/dlog l_i = s^2 5/3 (1 + sqrt(5) r) exp(-sqrt(5) r) (x_i - x'_i)^2 / l_i^2``.
    """
    lengths = np.exp(theta[:-2])
    process = condition(x, y, theta)
    root = math.sqrt(5) * _distance(x, x, lengths)
    slope = np.exp(theta[-2]) * (5 / 3) * (1 + root) * np.exp(-root)
    outer = np.outer(process.weights, process.weights) - process.inverse
    likelihood = -0.5 * y @ process.weights - float(np.log(np.diag(process.factor)).sum())
    gradient = np.empty_like(theta)
    for i, length in enumerate(lengths):
        difference = (x[:, i, None] - x[None, :, i]) / length
        gradient[i] = 0.5 * float(np.sum(outer * slope * difference**2))
    gradient[-2] = 0.5 * float(np.sum(outer * kernel(x, x, theta)))
    gradient[-1] = 0.5 * float(np.exp(theta[-1]) * np.trace(outer))
    means = np.r_[np.full(len(lengths), PRIOR_LENGTH[0]), 0.0, PRIOR_NOISE[0]]
    spreads = np.r_[np.full(len(lengths), PRIOR_LENGTH[1]), 1.0, PRIOR_NOISE[1]]
    scaled = (theta - means) / spreads
    return float(0.5 * scaled @ scaled - likelihood), scaled / spreads - gradient


def log_expected_improvement(process: Process, best: float, points: Floats) -> Floats:
    """Return log EI at points (m, d), shape (m,)."""
    mean, deviation = process.predict(points)
    return np.log(deviation) + log_h((best - mean) / deviation)


def log_h(z: Floats) -> Floats:
    """Return ``log(z Phi(z) + phi(z))``.

    Below -1 the sum cancels; there ``log phi(z) + log(1 - |z| sqrt(pi/2) erfcx(|z| / sqrt(2)))``, and below -1e4, where
    that cancels as well, ``log phi(z) - 2 log |z|``.
    """
    log_phi = -0.5 * z**2 - 0.5 * math.log(2 * math.pi)
    upper = np.maximum(z, -1.0)
    near = np.log(upper * ndtr(upper) + np.exp(-0.5 * upper**2) / math.sqrt(2 * math.pi))
    size = np.clip(-z, 1.0, 1e4)
    middle = np.log1p(-size * math.sqrt(math.pi / 2) * erfcx(size / math.sqrt(2)))
    far = -2 * np.log(np.maximum(-z, 1.0))
    return np.asarray(np.where(z > -1, near, log_phi + np.where(z > -1e4, middle, far)))


def _inverse(factor: Floats) -> Floats:
    """Return K^-1 from its Cholesky factor, by forward substitution.

    LAPACK starts threads for this however small it is, and where cores are shared they are waited for 1000 times as
    long as it takes without them (8 ms against 15 us at n = 40, two cores with a load of 3).
    """
    root = np.zeros_like(factor)
    for row, diagonal in enumerate(np.diag(factor)):
        root[row] = -(factor[row, :row] @ root[:row]) / diagonal
        root[row, row] = 1 / diagonal
    return root.T @ root


def _distance(left: Floats, right: Floats, lengths: Floats) -> Floats:
    difference = (left[:, None, :] - right[None, :, :]) / lengths
    return np.asarray(np.sqrt(np.einsum("ijk,ijk->ij", difference, difference)))
