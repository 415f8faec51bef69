"""From data and a model to parameters, standard errors and an honest word on convergence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from socm_workflows.fit.least_squares import State, Stop, Tolerances, minimise
from socm_workflows.fit.trust_region import EPSILON, ModelFunction, Problem

Floats = NDArray[np.float64]

STALLED_OFFSET = 1e-6
"""A stalled iteration counts as converged up to here: the minimum is ``1e-6 sqrt(n - p)`` standard errors away."""
NEGATIVE_CURVATURE = 1e-8
"""The Hessian, scaled by the norms of the columns of J, has no eigenvalue below minus this at a minimum."""
DEFAULTS = Tolerances()


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """Where a fit ended."""

    parameters: Floats
    """(p,)."""
    covariance: Floats | None
    """(p, p), nan in rows and columns of parameters on a bound; None where it cannot be had."""
    fitted: Floats
    """The model at the parameters, (n,)."""
    rss: float
    """Sum of squares of the residuals, each divided by its sigma."""
    degrees_of_freedom: int
    """Points less parameters that stand on no bound."""
    converged: bool
    reason: str
    """Which test was met, or why none can be."""
    at_bound: tuple[str, ...]
    """Names of the parameters that stand on a bound the data push them against."""
    iterations: int
    evaluations: int

    @property
    def standard_errors(self) -> Floats | None:
        """Square roots of the diagonal of the covariance, (p,); nan for a parameter on a bound."""
        return None if self.covariance is None else np.sqrt(np.diag(self.covariance))


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One fit to do: data, start and limits."""

    x: Floats
    """(n,) or (k, n)."""
    y: Floats
    """(n,)."""
    sigma: Floats
    """(n,), in the unit of y."""
    start: Floats
    """(p,)."""
    lower: Floats
    """(p,), -inf where there is no bound."""
    upper: Floats
    """(p,), inf where there is no bound."""
    absolute_sigma: bool = False
    """Whether sigma is the truth; else the residuals set its scale."""


@dataclass(frozen=True, slots=True, eq=False)
class _Factor:
    """The free columns of R, scaled to unit length: ``R_free = U s V^T diag(norms)``."""

    singular: Floats
    right: Floats
    norms: Floats
    undetermined: NDArray[np.bool_]
    """Which free parameters take part in a combination that the data do not determine."""


def solve(
    model: ModelFunction,
    x: ArrayLike,
    y: ArrayLike,
    start: ArrayLike,
    *,
    names: Sequence[str],
    sigma: ArrayLike | None = None,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    absolute_sigma: bool = False,
    tolerances: Tolerances = DEFAULTS,
) -> Solution:
    """Return the least-squares fit of ``model(x, *parameters)`` to ``y``.

    ``x`` is (n,) or (k, n), ``y`` and ``sigma`` are (n,), the rest (p,). The covariance is ``s^2 (J^T J)^-1`` with
    ``s^2 = rss / (n - p)``, or 1 with ``absolute_sigma``; of the free parameters, with those on a bound held there.

    Raises ValueError: fewer points than parameters, a start outside the bounds or where the model is not finite, or a
    model that does not give one value per point or is not written with jax.numpy.
    """
    case = make_case(x, y, start, sigma=sigma, lower=lower, upper=upper, absolute_sigma=absolute_sigma)
    return solve_case(model, case, names=names, tolerances=tolerances)


def make_case(
    x: ArrayLike,
    y: ArrayLike,
    start: ArrayLike,
    *,
    sigma: ArrayLike | None = None,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    absolute_sigma: bool = False,
) -> Case:
    """Return the arguments of :func:`solve` as arrays, with what is not given filled in."""
    data, begin = np.asarray(y, float), np.asarray(start, float)
    return Case(
        x=np.asarray(x, float),
        y=data,
        sigma=np.ones_like(data) if sigma is None else np.asarray(sigma, float),
        start=begin,
        lower=np.full(begin.size, -np.inf) if lower is None else np.asarray(lower, float),
        upper=np.full(begin.size, np.inf) if upper is None else np.asarray(upper, float),
        absolute_sigma=absolute_sigma,
    )


def solve_case(model: ModelFunction, case: Case, *, names: Sequence[str], tolerances: Tolerances) -> Solution:
    """Return the fit of one case; see :func:`solve`."""
    check_case(model, case, names)
    problem = Problem(*map(jnp.asarray, (case.x, case.y, case.sigma, case.lower, case.upper)))
    end = jax.device_get(minimise(model, problem, jnp.asarray(case.start), tolerances))
    return describe(model, case, *end, names=names, tolerances=tolerances)


def check_case(model: ModelFunction, case: Case, names: Sequence[str]) -> None:
    """Raise ValueError where a fit cannot begin: too few points, a bad start, a model of another shape."""
    start, size = case.start, case.y.size
    if size < start.size:
        raise ValueError(f"{size} points cannot determine {start.size} parameters ({', '.join(names)})")
    limits = zip(names, start, case.lower, case.upper, strict=True)
    outside = [name for name, value, low, high in limits if not low <= value <= high]
    if outside:
        raise ValueError(f"the start of {', '.join(outside)} is outside the bounds")
    try:
        shape = _shape_of(model, case.x.shape, start.size)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise ValueError(
            "the model cannot be differentiated: write jax.numpy instead of numpy and math, jnp.where instead of if"
        ) from error
    if shape != case.y.shape:
        raise ValueError(
            f"the model gives an array of shape {shape} for x of shape {case.x.shape}; it must be {case.y.shape}"
        )


@lru_cache(maxsize=1024)
def _shape_of(model: ModelFunction, points: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Return the shape of the model's value; remembered, because tracing costs a millisecond."""
    x, number = jax.ShapeDtypeStruct(points, jnp.float64), jax.ShapeDtypeStruct((), jnp.float64)  # type: ignore[no-untyped-call]
    shape: tuple[int, ...] = jax.eval_shape(model, x, *[number] * size).shape
    return shape


def _no_start(values: Floats, start: Floats, names: Sequence[str]) -> str:
    place = ", ".join(f"{name} = {value:g}" for name, value in zip(names, start, strict=True))
    bad = int(np.sum(~np.isfinite(values)))
    what = f"the model is not finite at {bad} of {values.size} points" if bad else "the model has no finite derivative"
    return f"{what} at the start ({place}); choose another p0"


def describe(
    model: ModelFunction,
    case: Case,
    state: State,
    fitted: Floats,
    second_order: Floats,
    *,
    names: Sequence[str],
    tolerances: Tolerances,
) -> Solution:
    """Return what the end of an iteration, as arrays of NumPy, means.

    Raises ValueError: the model is not finite at the start.
    """
    if state.stop == Stop.START:
        raise ValueError(_no_start(np.asarray(model(jnp.asarray(case.x), *case.start)), case.start, names))
    triangle = np.asarray(state.here.triangle)
    gradient = triangle.T @ state.here.projection
    at_low = (state.parameters <= case.lower) & (gradient >= 0)
    at_high = (state.parameters >= case.upper) & (gradient <= 0)
    free = np.flatnonzero(~(at_low | at_high))
    factor = _factor(triangle[:, free])
    labels = np.array(list(names), dtype=object)
    at_bound = tuple(labels[at_low | at_high])
    rss = float(state.here.residuals @ state.here.residuals)
    freedom = int(case.y.size - free.size)
    obstacle = _obstacle(state, factor, second_order[np.ix_(free, free)], list(labels[free]))
    variance = 1.0 if case.absolute_sigma else rss / freedom if freedom else None
    covariance = None
    if not obstacle and variance is not None:
        covariance = np.full(triangle.shape, np.nan)
        covariance[np.ix_(free, free)] = variance * _inverse(factor)
    notes = [obstacle or _success(state, tolerances)]
    notes += [f"on a bound: {', '.join(at_bound)}"] if at_bound else []
    notes += ["no degrees of freedom, so no standard errors"] if variance is None else []
    return Solution(
        parameters=np.asarray(state.parameters),
        covariance=covariance,
        fitted=np.asarray(fitted),
        rss=rss,
        degrees_of_freedom=freedom,
        converged=not obstacle,
        reason="; ".join(notes),
        at_bound=at_bound,
        iterations=int(state.iterations),
        evaluations=int(state.iterations) + 1,
    )


def _factor(columns: Floats) -> _Factor:
    norms = np.linalg.norm(columns, axis=0)
    scaled = columns / np.where(norms > 0, norms, 1.0)
    _, singular, right = np.linalg.svd(scaled, full_matrices=False)
    missing = singular <= 10 * max(norms.size, 1) * EPSILON * max(singular, default=0.0)
    loose = np.any(np.abs(right[missing]) > 0.1, axis=0) if missing.any() else np.zeros(norms.size, bool)
    return _Factor(singular, right, norms, loose | (norms == 0))


def _inverse(factor: _Factor) -> Floats:
    """Return ``(J^T J)^-1 = C^-1 V s^-2 V^T C^-1`` of the free parameters, ``C`` the column norms."""
    root = factor.right.T / factor.singular / factor.norms[:, None]
    inverse: Floats = root @ root.T
    return inverse


def _obstacle(state: State, factor: _Factor, second_order: Floats, names: Sequence[str]) -> str:
    """Return why the end is no minimum that one may trust, or an empty string."""
    undetermined = [name for name, loose in zip(names, factor.undetermined, strict=True) if loose]
    offset = f"relative offset {state.offset:.1e}"
    if undetermined:
        return f"not converged: the data do not determine {', '.join(undetermined)} here"
    if state.stop == Stop.MAX_ITERATIONS:
        return f"not converged: stopped after {state.iterations} iterations at {offset}"
    if state.stop == Stop.STALLED and state.offset > STALLED_OFFSET:
        return f"not converged: no step lowers the sum of squares, yet this is no minimum ({offset})"
    hessian = (factor.right.T * factor.singular**2) @ factor.right
    hessian = hessian + second_order / factor.norms / factor.norms[:, None]
    if hessian.size and np.all(np.isfinite(hessian)):
        values, vectors = np.linalg.eigh(hessian)
        if values[0] < -NEGATIVE_CURVATURE * max(1.0, abs(values[-1])):
            name = names[int(np.argmax(np.abs(vectors[:, 0])))]
            return f"not converged: a stationary point but no minimum, the sum of squares falls along {name}"
    return ""


def _success(state: State, tolerances: Tolerances) -> str:
    offset = f"relative offset {state.offset:.1e}"
    match Stop(int(state.stop)):
        case Stop.GRADIENT:
            return f"converged: {offset} is within gtol {tolerances.gtol:.1e}"
        case Stop.ROUNDING:
            return f"converged: {offset} is within the rounding error of the model"
        case Stop.REDUCTION:
            return (
                f"converged: a full step changed the sum of squares by less than ftol {tolerances.ftol:.1e}; {offset}"
            )
        case Stop.STEP:
            return f"converged: a full step changed no parameter by more than xtol {tolerances.xtol:.1e}; {offset}"
        case _:
            return f"converged: no step lowers the sum of squares beyond rounding; {offset}"
