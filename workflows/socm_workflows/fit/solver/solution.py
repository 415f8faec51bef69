"""From data and a model to parameters, standard errors and an honest word on convergence.

:func:`solve` is the one entry: data in memory or from a source of blocks, any loss, any strategy; the answer is the
same. :func:`solve_case` is the same for arrays that have been made ready.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from socm_workflows.fit.solver.accumulation import Method
from socm_workflows.fit.solver.case import Case, NanPolicy, check_case, check_size, check_start, make_case
from socm_workflows.fit.solver.formula import Aim, ModelFunction
from socm_workflows.fit.solver.iteration import Callback, End, iterate
from socm_workflows.fit.solver.least_squares import State, Stop, Tolerances
from socm_workflows.fit.solver.loss import LossFunction
from socm_workflows.fit.solver.options import CovarianceKind, Options, Strategy
from socm_workflows.fit.solver.passes import BlockSource, Complete
from socm_workflows.fit.solver.reductions import Prepared, prepare, prepare_source
from socm_workflows.fit.solver.verdict import Factor, factor_of, inverse_of, obstacle_of, success_of

__all__ = [
    "DEFAULTS",
    "Case",
    "Options",
    "Solution",
    "check_case",
    "describe",
    "make_case",
    "solve",
    "solve_case",
]

Floats = NDArray[np.float64]
DEFAULTS = Tolerances()
PLAIN = Options()


def _not_kept() -> Floats:
    raise ValueError("the data came from a source and are not kept: evaluate the model at the points you want")


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """Where a fit ended."""

    parameters: Floats
    """(p,)."""
    covariance: Floats | None
    """(p, p), nan in rows and columns of parameters on a bound; None where it cannot be had."""
    rss: float
    """Sum of squares of the residuals, each divided by its sigma; with a loss, the sum of ``C^2 rho``."""
    degrees_of_freedom: int
    """Points less parameters that stand on no bound."""
    converged: bool
    reason: str
    """Which test was met, or why none can be."""
    at_bound: tuple[str, ...]
    """Names of the parameters that stand on a bound the data push them against."""
    iterations: int
    """Steps tried."""
    evaluations: int
    """Of the model and its derivatives at all points."""
    predict: Callable[[], Floats] = _not_kept
    """Returns the model at the parameters, (n,)."""
    status: Stop = Stop.GRADIENT
    """Why the iteration ended."""
    optimality: float = 0.0
    """The relative offset: times ``sqrt(n - p)`` it is the distance to the minimum in standard errors."""
    undetermined: tuple[str, ...] = ()
    """Names of the parameters that take part in a combination that the data do not determine."""
    condition: float = np.inf
    """Of the columns of J of the free parameters, each scaled to unit length."""
    accumulation: str = Method.QR.value
    """How the data were reduced in the end: a value of :class:`~socm_workflows.fit.solver.accumulation.Method`."""
    strategy: Strategy = "standard"
    points: int = 0
    passes: int = 0
    """Over the data, those for the covariance included."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By phase: prepare, iterate, conclude. Compiling counts where it falls."""

    @property
    def standard_errors(self) -> Floats | None:
        """Square roots of the diagonal of the covariance, (p,); nan for a parameter on a bound."""
        return None if self.covariance is None else np.sqrt(np.diag(self.covariance))

    @property
    def cost(self) -> float:
        """Half of ``rss``."""
        return self.rss / 2

    @property
    def fitted(self) -> Floats:
        """The model at the parameters, (n,). Raises ValueError: the data came from a source, and are not kept."""
        return self.predict()


def solve(
    model: ModelFunction,
    x: ArrayLike | None,
    y: ArrayLike | None,
    start: ArrayLike,
    *,
    names: Sequence[str],
    sigma: ArrayLike | None = None,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    absolute_sigma: bool = False,
    tolerances: Tolerances = DEFAULTS,
    loss: str | LossFunction = "linear",
    f_scale: float = 1.0,
    jac: Callable[..., Any] | None = None,
    strategy: Strategy = "standard",
    chunk_points: int | None = None,
    source: BlockSource | None = None,
    callback: Callback | None = None,
    resume: Mapping[str, Any] | None = None,
    covariance: CovarianceKind = "naive",
    nan_policy: NanPolicy = "raise",
) -> Solution:
    """Return the least-squares fit of ``model(x, *parameters)`` to ``y``.

    ``x`` is (n,) or (k, n), ``y`` is (n,), ``sigma`` (n,) or an (n, n) covariance, the rest (p,). With a ``source``,
    whose blocks hold the data, ``x``, ``y`` and ``sigma`` are None. See :class:`Options` for what else there is.

    The covariance is ``s^2 (J^T J)^-1``, ``s^2 = rss / (n - p)`` or 1 with ``absolute_sigma``; of the free parameters.

    Raises ValueError: too few points, a start outside the bounds or where the model is not finite, a model that is not
    of jax.numpy, does not give one value per point, or mixes points where the strategy is not standard.
    """
    options = Options(loss, f_scale, jac, strategy, chunk_points, callback, resume, covariance)
    if source is None:
        if x is None or y is None:
            raise ValueError("give x and y, or a source of blocks")
        case = make_case(
            x, y, start, sigma=sigma, lower=lower, upper=upper, absolute_sigma=absolute_sigma, nan_policy=nan_policy
        )
        return solve_case(model, case, names=names, tolerances=tolerances, options=options)
    if x is not None or y is not None or sigma is not None:
        raise ValueError("a source gives x, y and sigma itself: leave them None")
    nothing = np.empty(0)
    case = make_case(nothing, nothing, start, lower=lower, upper=upper, absolute_sigma=absolute_sigma)
    begun = time.perf_counter()
    check_start(case.start, case.lower, case.upper, names)
    whole = Complete(source) if nan_policy == "omit" else source
    fit = prepare_source(model, case, whole, tolerances, options)
    return _finish(fit, case, begun, names=names, tolerances=tolerances, options=options)


def solve_case(
    model: ModelFunction,
    case: Case,
    *,
    names: Sequence[str],
    tolerances: Tolerances = DEFAULTS,
    options: Options = PLAIN,
) -> Solution:
    """Return the fit of one case; see :func:`solve`."""
    begun = time.perf_counter()
    check_case(model, case, names)
    fit = prepare(model, case, tolerances, options)
    return _finish(fit, case, begun, names=names, tolerances=tolerances, options=options)


def _finish(
    fit: Prepared, case: Case, begun: float, *, names: Sequence[str], tolerances: Tolerances, options: Options
) -> Solution:
    """Return the fit whose data are ready; ``begun`` is when that began."""
    prepared = time.perf_counter() - begun
    begin = case.start if options.resume is None else options.resume
    end = iterate(fit.reduction, begin, case.start.size, methods=fit.methods, callback=options.callback)
    concluding = time.perf_counter()
    points = fit.points()
    check_size(points, names)
    if end.state.stop == Stop.START:
        raise ValueError(no_start(fit.formula.model, fit.sample(), case.start, names))
    bend = end.rest.reshape(case.start.size, -1) if end.rest.size else None
    if bend is None and np.all(end.state.parameters == case.start):
        bend = fit.reduction.second_order(np.asarray(end.state.parameters))
    triangles = Triangles(np.asarray(end.state.here.triangle), None)
    extra = 0
    if fit.formula.loss is not None or options.covariance == "sandwich":
        triangles = _triangles(fit, end, options.covariance)
        extra = 1 + (triangles.spread is not None)
    solution = describe(case, end.state, points, bend, names=names, tolerances=tolerances, triangles=triangles)
    seconds = {"prepare": prepared, "iterate": end.seconds, "conclude": time.perf_counter() - concluding}
    return replace(
        solution,
        predict=fit.predictor(np.asarray(end.state.parameters)),
        accumulation=end.method.value,
        strategy=options.strategy,
        passes=solution.evaluations + extra,
        seconds=seconds,
    )


class Triangles(NamedTuple):
    """What the covariance is made of."""

    curvature: Floats
    """``R`` of the curvature at the end, (p, p)."""
    spread: Floats | None
    """``R`` of the rows times their pull, for the sandwich."""


def _triangles(fit: Prepared, end: End, kind: CovarianceKind) -> Triangles:
    """Return the triangles at the end of an iteration, by one pass each."""
    parameters, basis = np.asarray(end.state.parameters), np.asarray(end.state.here.triangle)

    def at_end(aim: Aim) -> Floats:
        return np.asarray(fit.reduction.linearise(parameters, basis, end.method, aim).triangle)

    return Triangles(at_end(Aim.CURVATURE), at_end(Aim.SPREAD) if kind == "sandwich" else None)


def describe(
    case: Case,
    state: State,
    points: int,
    bend: Floats | None,
    *,
    names: Sequence[str],
    tolerances: Tolerances,
    triangles: Triangles | None = None,
    predictor: Callable[[], Floats] = _not_kept,
    accumulation: Method = Method.QR,
) -> Solution:
    """Return what the end of an iteration, as arrays of NumPy, means; ``bend`` is ``S``, None where none is needed."""
    triangle = np.asarray(state.here.triangle)
    gradient = triangle.T @ state.here.projection
    at_low = (state.parameters <= case.lower) & (gradient >= 0)
    at_high = (state.parameters >= case.upper) & (gradient <= 0)
    free = np.flatnonzero(~(at_low | at_high))
    labels = np.array(list(names), dtype=object)
    at_bound = tuple(labels[at_low | at_high])
    curvature, spread = triangles or Triangles(triangle, None)
    factor = factor_of(curvature[:, free])
    rss, freedom = float(state.here.rss), int(points - free.size)
    stepped = factor if triangles is None else factor_of(triangle[:, free])
    bend = None if bend is None else bend[np.ix_(free, free)]
    obstacle = obstacle_of(state, stepped, bend, list(labels[free]))
    variance = 1.0 if case.absolute_sigma or spread is not None else rss / freedom if freedom else None
    covariance = None if obstacle or variance is None else variance * _unit_covariance(factor, curvature, spread, free)
    notes = [obstacle or success_of(int(state.stop), float(state.offset), tolerances)]
    notes += [f"on a bound: {', '.join(at_bound)}"] if at_bound else []
    notes += ["no degrees of freedom, so no standard errors"] if variance is None else []
    return Solution(
        parameters=np.asarray(state.parameters),
        covariance=covariance,
        rss=rss,
        degrees_of_freedom=freedom,
        converged=not obstacle,
        reason="; ".join(notes),
        at_bound=at_bound,
        predict=predictor,
        accumulation=accumulation.value,
        iterations=int(state.iterations),
        evaluations=int(state.evaluations),
        status=Stop(int(state.stop)),
        optimality=float(state.offset),
        undetermined=tuple(labels[free][factor.undetermined]),
        condition=factor.condition,
        points=points,
        passes=int(state.evaluations),
    )


def _unit_covariance(factor: Factor, curvature: Floats, spread: Floats | None, free: NDArray[np.intp]) -> Floats:
    """Return the inverse of the curvature, or the sandwich, of the free parameters; nan for the others, (p, p)."""
    whole = np.full(curvature.shape, np.nan)
    inverse = inverse_of(factor)
    if spread is not None:
        half = spread[:, free] @ inverse
        inverse = half.T @ half
    whole[np.ix_(free, free)] = inverse
    return whole


def no_start(model: ModelFunction, x: Floats | None, start: Floats, names: Sequence[str]) -> str:
    """Return why a fit cannot begin at its start; ``x`` is None where the points are not at hand."""
    place = ", ".join(f"{name} = {value:g}" for name, value in zip(names, start, strict=True))
    if x is None:
        return f"the data, the model or its derivative are not finite at the start ({place}); choose another p0"
    values = np.asarray(model(jnp.asarray(x), *start))
    bad = int(np.sum(~np.isfinite(values)))
    what = f"the model is not finite at {bad} of {values.size} points" if bad else "the model has no finite derivative"
    return f"{what} at the start ({place}); choose another p0"
