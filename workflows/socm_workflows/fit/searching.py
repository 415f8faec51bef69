"""Solving one fit as its campaign describes it: from one start or from the best of many, in memory or from a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from socm_workflows.fit.checkpoint import problem_of
from socm_workflows.fit.reporting import Report
from socm_workflows.fit.search.multistart import SAMPLE, Plan, search, terrain_of
from socm_workflows.fit.solver.case import check_case, check_start, make_formula
from socm_workflows.fit.solver.formula import ModelFunction
from socm_workflows.fit.solver.least_squares import Tolerances
from socm_workflows.fit.solver.passes import Block
from socm_workflows.fit.solver.reductions import treats_points_apart
from socm_workflows.fit.solver.solution import Case, Options, Solution, solve, solve_case
from socm_workflows.fit.streams import Stream

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """One fit, ready to be made."""

    model: ModelFunction
    names: Sequence[str]
    case: Case
    """Its data are empty where there is a stream."""
    stream: Stream | None
    tolerances: Tolerances
    options: Options
    starts: int = 1
    sampler: str = "lhs"
    seed: int = 0
    confirms: bool = False
    """Whether to fit again from the solution, and to say if that leads away from it."""


def solve_setting(setting: Setting, report: Report) -> Solution:
    """Return the fit; of several starts the one with the least cost, those that converged first.

    The starts are compared on some of the points, the same ones whatever the strategy; each minimum that may be the
    best is then fitted on all of them.

    Raises ValueError as :func:`solve` does.
    """
    starts = [setting.case.start] if setting.starts == 1 else _best_starts(setting, report)
    found = [_solve_from(setting, start, report, number) for number, start in enumerate(starts)]
    best = min(found, key=lambda solution: (not solution.converged, solution.rss))
    if not (setting.confirms and best.converged):
        return best
    again = _solve_from(setting, best.parameters, report, len(starts))
    return best if _is_confirmed(best, again) else replace(again, reason=f"{again.reason}; better than a first fit")


def _is_confirmed(first: Solution, again: Solution) -> bool:
    """Return whether a second fit stays within a hundredth of a standard error, or is no better."""
    errors = first.standard_errors
    if errors is None or again.rss >= first.rss:
        return True
    moved = np.abs(again.parameters - first.parameters)
    return bool(np.all(moved[np.isfinite(errors)] <= 0.01 * errors[np.isfinite(errors)]))


def _solve_from(setting: Setting, start: Floats, report: Report, number: int) -> Solution:
    case, options = replace(setting.case, start=start), setting.options
    problem = problem_of(
        setting.model, {}, start, lower=case.lower, upper=case.upper,
        loss=options.loss, f_scale=options.f_scale, jac=options.jac,
    )  # fmt: skip
    resume = report.begin(number, problem)
    options = replace(options, callback=report, resume=resume)
    if setting.stream is None:
        return solve_case(setting.model, case, names=setting.names, tolerances=setting.tolerances, options=options)
    return solve(
        setting.model, None, None, start, names=setting.names, lower=case.lower, upper=case.upper,
        absolute_sigma=case.absolute_sigma, tolerances=setting.tolerances, loss=options.loss, f_scale=options.f_scale,
        jac=options.jac, strategy="streaming", source=setting.stream, callback=report, resume=resume,
        covariance=options.covariance,
    )  # fmt: skip


def _best_starts(setting: Setting, report: Report) -> list[Floats]:
    """Return where the best of many starts ended."""
    case, options, size = setting.case, setting.options, setting.case.start.size
    if setting.stream is None:
        check_case(setting.model, case, setting.names)
    else:
        check_start(case.start, case.lower, case.upper, setting.names)
    total = case.y.size if setting.stream is None else setting.stream.count()
    rows_of_x = setting.stream.k if setting.stream is not None else 1 if case.x.ndim == 1 else len(case.x)
    is_apart = treats_points_apart(setting.model, rows_of_x, size)
    block = _sample(setting, total, SAMPLE if is_apart else total)
    formula = make_formula(setting.model, block[0].shape, size, jac=options.jac, loss=options.loss)
    terrain = terrain_of(
        formula, block,
        f_scale=options.f_scale, limits=(case.start, case.lower, case.upper), total=total, is_apart=is_apart,
    )  # fmt: skip
    found = search(terrain, Plan(setting.starts, setting.sampler, setting.seed))
    report.ends, report.reached_best = tuple(found.costs.tolist()), found.reached_best
    return list(found.best)


def _sample(setting: Setting, total: int, most: int) -> Block:
    """Return the points that starts are compared on: all, or ``most`` by the seed, wherever the data are."""
    case = setting.case
    rows = np.arange(total)
    if total > most:
        rows = np.sort(np.random.default_rng(setting.seed).choice(total, most, replace=False))
    if setting.stream is None:
        return case.x[..., rows], case.y[rows], None if case.sigma is None else case.sigma[rows]
    some = setting.stream.points(rows)
    return some.x, some.y, some.sigma
