"""What the ends of many fits mean, worked out for all of them at once where nothing is out of the ordinary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import itemgetter

import jax
import numpy as np
from numpy.typing import NDArray

from socm_workflows.fit.solver.accumulation import Method
from socm_workflows.fit.solver.case import Case
from socm_workflows.fit.solver.formula import ModelFunction
from socm_workflows.fit.solver.lanes import End
from socm_workflows.fit.solver.least_squares import State, Stop, Tolerances
from socm_workflows.fit.solver.reductions import predict
from socm_workflows.fit.solver.solution import Solution, describe, no_start
from socm_workflows.fit.solver.verdict import NEGATIVE_CURVATURE, success_of

Floats = NDArray[np.float64]

TESTS_MET = (Stop.GRADIENT, Stop.ROUNDING, Stop.REDUCTION, Stop.STEP)


def describe_many(
    model: ModelFunction, cases: Sequence[Case], ends: End, *, names: Sequence[str], tolerances: Tolerances
) -> list[Solution | ValueError]:
    """Return what each end means, as ``describe`` does; ``ends`` has the fit first in every array.

    A ValueError stands for a fit whose model is not finite at its start.
    """
    state = ends.state
    inverses, conditions, is_plain = _inverses(cases, ends)
    found: list[Solution | ValueError] = []
    for number, case in enumerate(cases):
        freedom = case.y.size - len(names)
        if not is_plain[number] or freedom == 0:
            found.append(_describe_one(model, case, jax.tree.map(itemgetter(number), ends), names, tolerances))
            continue
        rss, stop = float(state.here.rss[number]), int(state.stop[number])
        variance = 1.0 if case.absolute_sigma else rss / freedom
        parameters = np.asarray(state.parameters[number])
        solution = Solution(
            parameters=parameters,
            covariance=variance * inverses[number],
            rss=rss,
            degrees_of_freedom=freedom,
            converged=True,
            reason=success_of(stop, float(state.offset[number]), tolerances),
            at_bound=(),
            iterations=int(state.iterations[number]),
            evaluations=int(state.evaluations[number]),
            predict=partial(predict, model, case.x, parameters),
            status=Stop(stop),
            optimality=float(state.offset[number]),
            condition=float(conditions[number]),
            accumulation=Method.GRAM.value,
            points=case.y.size,
            passes=int(state.evaluations[number]),
        )
        found.append(solution)
    return found


def _describe_one(
    model: ModelFunction, case: Case, end: End, names: Sequence[str], tolerances: Tolerances
) -> Solution | ValueError:
    if end.state.stop == Stop.START:
        return ValueError(no_start(model, case.x, case.start, names))
    predicted = partial(predict, model, case.x, np.asarray(end.state.parameters))
    return describe(
        case,
        end.state,
        case.y.size,
        end.second_order,
        names=names,
        tolerances=tolerances,
        predictor=predicted,
        accumulation=Method.GRAM,
    )


def _inverses(cases: Sequence[Case], ends: End) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return ``(J^T J)^-1`` and the condition of each fit, and whether it ended at a minimum within its bounds."""
    state = ends.state
    met = np.isin(state.stop, [int(stop) for stop in TESTS_MET])
    inside = met & _are_inside(cases, state)
    triangles = np.asarray(state.here.triangle)
    norms = np.linalg.norm(triangles, axis=1)
    inside &= np.all(np.isfinite(norms) & (norms > 0), axis=1)
    scaled = np.where(
        inside[:, None, None], triangles / np.where(norms > 0, norms, 1.0)[:, None, :], np.eye(norms.shape[1])
    )
    _, singular, right = np.linalg.svd(scaled)
    hessian = np.swapaxes(right, 1, 2) * singular[:, None, :] ** 2 @ right
    hessian = hessian + ends.second_order / (norms[:, None, :] * norms[:, :, None])
    curved = np.all(np.isfinite(hessian), axis=(1, 2))
    values = np.linalg.eigvalsh(np.where(curved[:, None, None], hessian, 0.0))
    curved &= values[:, 0] >= -NEGATIVE_CURVATURE * np.maximum(1.0, np.abs(values[:, -1]))
    roots = np.swapaxes(right, 1, 2) / singular[:, None, :] / norms[:, :, None]
    return roots @ np.swapaxes(roots, 1, 2), singular[:, 0] / singular[:, -1], inside & curved


def _are_inside(cases: Sequence[Case], state: State) -> NDArray[np.bool_]:
    lower, upper = np.array([case.lower for case in cases]), np.array([case.upper for case in cases])
    parameters = np.asarray(state.parameters)
    inside: NDArray[np.bool_] = np.all((parameters > lower) & (parameters < upper), axis=1)
    return inside
