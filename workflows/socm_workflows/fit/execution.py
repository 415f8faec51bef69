"""What a fit does once it runs: read the table, solve, write what is asked for. Alone, or many in one process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from socm_like.workflow import Result
from socm_workflows.fit.batch import BatchSolver, attempt
from socm_workflows.fit.data import Sample, make_sample, read_table
from socm_workflows.fit.least_squares import Tolerances
from socm_workflows.fit.loading import load_model
from socm_workflows.fit.plot import draw_fit
from socm_workflows.fit.solution import Case, Solution, make_case, solve_case
from socm_workflows.fit.tables import metrics_of, write_tables
from socm_workflows.fit.trust_region import ModelFunction
from socm_workflows.fit.workflow import FitWorkflow, blocks_of

Prepared = tuple[Sample, Case]


def run_fit(fit: FitWorkflow, directory: Path) -> Result:
    """Fit, and write the outputs."""
    function, names = load_model(fit.model)
    sample, case = prepare(fit, names)
    solution = solve_case(function, case, names=names, tolerances=tolerances_of(fit))
    return leave(fit, solution, sample, function, names=names, directory=directory)


def run_fits(fits: Sequence[FitWorkflow], directories: Sequence[Path]) -> Iterator[Result | Exception]:
    """Yield for each fit, in order, what :func:`run_fit` returns or would raise; they share model and tolerances.

    Goes block by block: reads, solves together, then writes and yields one after the other.
    """
    if not fits:
        return
    loaded = attempt(load_model, fits[0].model)
    if isinstance(loaded, Exception):
        yield from [loaded] * len(fits)
        return
    function, names = loaded
    solver = BatchSolver(function, names, tolerances_of(fits[0]))
    sizes = [attempt(fit.size) for fit in fits]
    for block in blocks_of([size if isinstance(size, int) else 0 for size in sizes]):
        prepared = [attempt(prepare, fit, names) for fit in fits[block]]
        solutions = iter(solver.solve([item[1] for item in prepared if not isinstance(item, Exception)]))
        for fit, directory, item in zip(fits[block], directories[block], prepared, strict=True):
            if isinstance(item, Exception):
                yield item
                continue
            solution = next(solutions)
            if isinstance(solution, Exception):
                yield solution
            else:
                yield attempt(leave, fit, solution, item[0], function, names=names, directory=directory)


def prepare(fit: FitWorkflow, names: Sequence[str]) -> Prepared:
    """Return the data of a fit, and the case to solve.

    Raises ValueError: start or bounds do not go with the parameters, or the table cannot be used. Raises OSError when
    it cannot be read.
    """
    start, lower, upper = fit.limits(names)
    table = read_table(fit.data, fit.columns(), skip=fit.skip, delimiter=fit.delimiter)
    sample = make_sample(table, predictors=len(fit.x), response=fit.response)
    case = make_case(
        sample.x,
        sample.y,
        start,
        sigma=sample.sigma,
        lower=lower,
        upper=upper,
        absolute_sigma=fit.absolute_sigma,
    )
    return sample, case


def leave(
    fit: FitWorkflow,
    solution: Solution,
    sample: Sample,
    function: ModelFunction,
    *,
    names: Sequence[str],
    directory: Path,
) -> Result:
    """Write the outputs of a fit and return its metrics."""
    paths = {name: directory / path for name, path in fit.outputs.items()}
    metrics = metrics_of(solution, names)
    write_tables(metrics, parameters=paths.get("parameters"), covariance=paths.get("covariance"))
    if "plot" in paths:
        title = f"{fit.model.rpartition(':')[2]} to {fit.data.name}"
        draw_fit(solution, sample, function, names=names, title=title, path=paths["plot"])
    return Result(metrics=metrics)


def tolerances_of(fit: FitWorkflow) -> Tolerances:
    """Return when a fit stops."""
    return Tolerances(fit.ftol, fit.xtol, fit.gtol, fit.max_iterations)
