"""Points spread evenly over a cube, by scipy.stats.qmc, and starts of a fit made of them.

The same seed gives the same points. ``lhs`` has one point in each of ``n`` equal slices of every axis (McKay, Beckman
and Conover 1979); ``sobol`` and ``halton`` are scrambled sequences of low discrepancy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import qmc

from socm_like.errors import suggest

Floats: TypeAlias = NDArray[np.float64]
Sampler: TypeAlias = Callable[[int, int, int], Floats]

REACH = 10.0
"""How far starts go where there is no bound, in units of the user's start (1 where that is 0)."""
DECADES = 3.0
"""Bounds of one sign that are at least so many decades apart are filled evenly in the logarithm."""


def latin_hypercube_sample(n: int, dimensions: int, seed: int = 0) -> Floats:
    """Return ``n`` points in [0, 1)^dimensions, (n, dimensions), one in each slice of every axis."""
    return _floats(qmc.LatinHypercube(dimensions, rng=np.random.default_rng(seed)).random(n))


def sobol_sample(n: int, dimensions: int, seed: int = 0) -> Floats:
    """Return the first ``n`` points of a scrambled Sobol' sequence in [0, 1)^dimensions, (n, dimensions)."""
    engine = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed))
    return _floats(engine.random_base2(math.ceil(math.log2(max(n, 1))))[:n])


def halton_sample(n: int, dimensions: int, seed: int = 0) -> Floats:
    """Return the first ``n`` points of a scrambled Halton sequence in [0, 1)^dimensions, (n, dimensions)."""
    return _floats(qmc.Halton(dimensions, scramble=True, rng=np.random.default_rng(seed)).random(n))


SAMPLERS: dict[str, Sampler] = {"lhs": latin_hypercube_sample, "sobol": sobol_sample, "halton": halton_sample}


def get_sampler(name: str) -> Sampler:
    """Return the function ``(n, dimensions, seed) -> points`` of that name, in any case.

    Raises ValueError: there is none.
    """
    sampler = SAMPLERS.get(name.lower())
    if sampler is None:
        raise ValueError(f"sampler is {name!r}{suggest(name.lower(), SAMPLERS)} (one of {', '.join(SAMPLERS)})")
    return sampler


def draw_starts(
    p0: ArrayLike,
    bounds: tuple[ArrayLike, ArrayLike] = (-np.inf, np.inf),
    *,
    n_starts: int,
    sampler: str = "lhs",
    seed: int = 0,
    center_on_p0: bool = True,
    scale_factor: float = 1.0,
) -> Floats:
    """Return the starts of a fit, (n_starts, p): ``p0`` first, the others spread over where the parameters may lie.

    With two bounds, a parameter's starts fill what lies between, evenly, or evenly in the logarithm for bounds of one
    sign ``DECADES`` apart. ``scale_factor`` below 1 shrinks that to a part of it, moved so that ``p0`` is at its centre
    as far as the bounds let it; without ``center_on_p0`` to the part around the middle.

    Without bounds, a start is ``p0 + s sinh(z arsinh(REACH scale_factor))`` with ``z`` even in (-1, 1) and ``s`` the
    size of ``p0``, or 1 where that is 0: dense near ``p0``, and up to ``REACH`` times its size away. With one bound,
    what falls beyond it is reflected. This depends on no unit.

    Raises ValueError: bounds that are crossed, a start beyond them, a count or factor that is not positive.
    """
    start = np.atleast_1d(np.asarray(p0, dtype=np.float64))
    lower, upper = (np.broadcast_to(np.asarray(bound, dtype=np.float64), start.shape) for bound in bounds)
    _check(start, lower, upper, n_starts=n_starts, scale_factor=scale_factor)
    points = get_sampler(sampler)(n_starts - 1, start.size, seed) if n_starts > 1 else np.empty((0, start.size))
    columns = [
        _between(points[:, i], start[i], lower[i], upper[i], part=scale_factor, center_on_p0=center_on_p0)
        if np.isfinite(lower[i]) and np.isfinite(upper[i])
        else _around(points[:, i], start[i], lower[i], upper[i], reach=REACH * scale_factor)
        for i in range(start.size)
    ]
    return np.vstack([start, np.clip(np.column_stack(columns), lower, upper)])


def _check(start: Floats, lower: Floats, upper: Floats, *, n_starts: int, scale_factor: float) -> None:
    if n_starts < 1:
        raise ValueError(f"n_starts is {n_starts!r}: write a whole number of at least 1")
    if not 0 < scale_factor < math.inf:
        raise ValueError(f"scale_factor is {scale_factor!r}: write a positive number")
    for i, (value, low, high) in enumerate(zip(start, lower, upper, strict=True)):
        if not low <= high:
            raise ValueError(f"bounds of parameter {i} are {low:g} and {high:g}: the lower one first")
        if not low <= value <= high or not math.isfinite(value):
            raise ValueError(f"p0 of parameter {i} is {value:g}, not within its bounds {low:g} and {high:g}")


def _between(points: Floats, start: float, low: float, high: float, *, part: float, center_on_p0: bool) -> Floats:
    """Return points of [0, 1) as values between two bounds."""
    sign = math.copysign(1.0, low + high)
    is_logarithmic = low * high > 0 and abs(math.log10(abs(high)) - math.log10(abs(low))) >= DECADES
    if is_logarithmic:
        low, high, start = (sign * math.log(abs(value)) for value in (low, high, start))
    middle = start if center_on_p0 else (low / 2 + high / 2)
    width = min(part, 1.0) * (high - low)
    first = min(max(middle - width / 2, low), high - width)
    values = first + width * points
    return sign * np.exp(sign * values) if is_logarithmic else values


def _around(points: Floats, start: float, low: float, high: float, *, reach: float) -> Floats:
    """Return points of [0, 1) as values on both sides of a start, within the one bound that there may be."""
    size = abs(start) or 1.0
    values = start + size * np.sinh((2 * points - 1) * math.asinh(reach))
    if np.isfinite(low):
        values = low + np.abs(values - low)
    if np.isfinite(high):
        values = high - np.abs(high - values)
    return _floats(values)


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
