"""What a fit does once it runs: read the table, solve, write what is asked for. Alone, or many in one process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from socm_like.resources import detect_machine
from socm_like.workflow import Result
from socm_workflows.fit.data import Sample, make_sample, read_table
from socm_workflows.fit.loading import load_function, load_model
from socm_workflows.fit.needs import PLENTY, SMALL, Needs
from socm_workflows.fit.plot import Picture, Way, draw_fit
from socm_workflows.fit.reporting import Report
from socm_workflows.fit.searching import Setting, solve_setting
from socm_workflows.fit.solver.batch import BatchSolver, attempt
from socm_workflows.fit.solver.formula import ModelFunction
from socm_workflows.fit.solver.least_squares import Tolerances
from socm_workflows.fit.solver.solution import Case, Options, Solution, make_case
from socm_workflows.fit.strategy.tiers import calculate_adaptive_tolerances
from socm_workflows.fit.streams import ONLY_STREAMED, Stream, open_stream, read_whole
from socm_workflows.fit.tables import Manner, Tally, metrics_of, write_tables
from socm_workflows.fit.workflow import LARGEST_IN_BATCH, FitWorkflow, blocks_of

Prepared = tuple[Sample, Case]

MOST_DRAWN = 200_000
"""Points beyond which as many, chosen at random, are drawn."""


def run_fit(fit: FitWorkflow, directory: Path) -> Result:
    """Fit, and write the outputs."""
    function, names = load_model(fit.model)
    is_small = fit.size() <= LARGEST_IN_BATCH and fit.suffix not in ONLY_STREAMED
    needs = fit.needs(PLENTY if is_small else detect_machine().memory)
    report = Report(directory, fit.log, fit.progress, fit.checkpoint)
    data: Sample | Stream
    if needs.strategy == "streaming":
        data, case = stream_of(fit), case_of(fit, names, None)
    else:
        data, case = prepare(fit, names)
    setting = Setting(
        function, names, case, data if isinstance(data, Stream) else None,
        tolerances=tolerances_of(fit, data),
        options=options_of(fit, needs),
        starts=fit.starts, sampler=fit.sampler, seed=fit.seed, confirms=fit.goal == "quality",
    )  # fmt: skip
    solution = solve_setting(setting, report)
    result = leave(fit, solution, data, function, names=names, directory=directory, needs=needs, report=report)
    report.end()
    return result


def run_fits(fits: Sequence[FitWorkflow], directories: Sequence[Path]) -> Iterator[Result | Exception]:
    """Yield for each fit, in order, what :func:`run_fit` returns or would raise; they share model and tolerances.

    Goes block by block: reads, solves together, then writes and yields one after the other. A fit that is large, or
    has several starts, a loss, a checkpoint, is made when its turn comes.
    """
    if not fits:
        return
    loaded = attempt(load_model, fits[0].model)
    if isinstance(loaded, Exception):
        yield from [loaded] * len(fits)
        return
    function, names = loaded
    solver = BatchSolver(function, names, tolerances_of(fits[0], None))
    joins = [attempt(lambda fit: fit.joins_batches and fit.suffix not in ONLY_STREAMED, fit) is True for fit in fits]
    sizes = [attempt(fit.size) if joined else 0 for fit, joined in zip(fits, joins, strict=True)]
    for block in blocks_of([size if isinstance(size, int) else 0 for size in sizes]):
        prepared = {
            index: attempt(prepare, fits[index], names) for index in range(block.start, block.stop) if joins[index]
        }
        solutions = iter(solver.solve([item[1] for item in prepared.values() if not isinstance(item, Exception)]))
        for index in range(block.start, block.stop):
            fit, directory = fits[index], directories[index]
            if index not in prepared:
                yield attempt(run_fit, fit, directory)
                continue
            item = prepared[index]
            solution = item if isinstance(item, Exception) else next(solutions)
            if isinstance(item, Exception) or isinstance(solution, Exception):
                yield item if isinstance(item, Exception) else solution  # type: ignore[misc]
            else:
                yield attempt(leave, fit, solution, item[0], function, names=names, directory=directory)


def prepare(fit: FitWorkflow, names: Sequence[str]) -> Prepared:
    """Return the data of a fit, and the case to solve.

    Raises ValueError: start or bounds do not go with the parameters, or the table cannot be used. Raises OSError when
    it cannot be read.
    """
    fit.limits(names)
    if fit.suffix in ONLY_STREAMED:
        sample = read_whole(stream_of(fit))
    else:
        table = read_table(fit.data, fit.columns(), skip=fit.skip, delimiter=fit.delimiter, nan_policy=fit.nan_policy)
        sample = make_sample(table, predictors=len(fit.x), response=fit.response)
    return sample, case_of(fit, names, sample)


def case_of(fit: FitWorkflow, names: Sequence[str], sample: Sample | None) -> Case:
    """Return the case to solve; without a sample its data are empty, for they come from a stream."""
    start, lower, upper = fit.limits(names)
    return make_case(
        np.empty(0) if sample is None else sample.x,
        np.empty(0) if sample is None else sample.y,
        start,
        sigma=None if sample is None else sample.sigma,
        lower=lower,
        upper=upper,
        absolute_sigma=fit.absolute_sigma,
    )


def stream_of(fit: FitWorkflow) -> Stream:
    """Return the table of a fit as a stream."""
    return open_stream(
        fit.data, fit.columns(),
        predictors=len(fit.x), response=fit.response, nan_policy=fit.nan_policy, points=fit.chunk_points,
        skip=fit.skip, delimiter=fit.delimiter,
    )  # fmt: skip


def options_of(fit: FitWorkflow, needs: Needs) -> Options:
    """Return how a fit is made; a loss or derivative of one's own is loaded."""
    return Options(
        loss=load_function(fit.loss) if ":" in fit.loss else fit.loss,
        f_scale=fit.f_scale,
        jac=load_function(fit.jac) if fit.jac else None,
        strategy=needs.strategy,
        chunk_points=fit.chunk_points if needs.strategy == "chunked" else None,
        covariance=fit.covariance,
    )


def tolerances_of(fit: FitWorkflow, data: Sample | Stream | None) -> Tolerances:
    """Return when a fit stops; a tolerance that is not stated follows from the goal and the number of points."""
    stated = (fit.ftol, fit.xtol, fit.gtol)
    if None in stated and data is not None:
        points = data.count() if isinstance(data, Stream) else data.y.size
        adaptive = calculate_adaptive_tolerances(points, fit.goal)
        stated = tuple(  # type: ignore[assignment]
            adaptive.gtol if value is None else value for value in stated
        )
    plain = Tolerances()
    ftol, xtol, gtol = (default if value is None else value for value, default in zip(stated, plain[:3], strict=True))
    return Tolerances(ftol, xtol, gtol, fit.max_iterations)


def leave(
    fit: FitWorkflow,
    solution: Solution,
    data: Sample | Stream,
    function: ModelFunction,
    *,
    names: Sequence[str],
    directory: Path,
    needs: Needs | None = None,
    report: Report | None = None,
) -> Result:
    """Write the outputs of a fit and return its metrics."""
    paths = {name: directory / path for name, path in fit.outputs.items()}
    tally, picture = looked_at(solution, data, function, draws="plot" in paths)
    reached = 1 if report is None else report.reached_best
    why = SMALL if needs is None else needs.why
    manner = Manner(fit.loss, fit.absolute_sigma, fit.starts, reached, why)
    metrics = metrics_of(solution, names, tally, manner)
    write_tables(metrics, parameters=paths.get("parameters"), covariance=paths.get("covariance"))
    if picture is not None:
        title = f"{fit.model.rpartition(':')[2]} to {fit.data.name}"
        way = Way() if report is None else Way(report.history, report.ends)
        draw_fit(solution, picture, function, names=names, title=title, way=way, path=paths["plot"])
    return Result(metrics=metrics)


def looked_at(
    solution: Solution, data: Sample | Stream, function: ModelFunction, *, draws: bool
) -> tuple[Tally, Picture | None]:
    """Return sums over all points, and those to draw: all, or so many chosen at random, the same each time."""
    tally = Tally(left_out=data.left_out)
    if isinstance(data, Sample):
        fitted = solution.fitted
        tally.add(data.y, data.sigma, fitted)
        if not draws or tally.points <= MOST_DRAWN:
            return tally, Picture(data, fitted, tally.points) if draws else None
        rows = np.sort(np.random.default_rng(0).choice(tally.points, MOST_DRAWN, replace=False))
        return tally, Picture(_part(data, rows), fitted[rows], tally.points)
    random, share = np.random.default_rng(0), min(1.0, MOST_DRAWN / max(solution.points, 1))
    parts: list[tuple[Sample, np.ndarray]] = []
    for x, y, sigma in data.blocks():
        fitted = np.asarray(function(x, *solution.parameters))
        tally.add(y, sigma, fitted)
        rows = np.flatnonzero(random.random(y.size) < share) if draws else np.empty(0, int)
        parts.append((_part(Sample(x, y, sigma, "", ""), rows), fitted[rows]))
    tally.left_out = data.left_out
    if not draws:
        return tally, None
    samples, values = zip(*parts, strict=True)
    sigma = None if samples[0].sigma is None else np.concatenate([part.sigma for part in samples])
    x, y = (np.concatenate([getattr(part, name) for part in samples], axis=-1) for name in ("x", "y"))
    return tally, Picture(Sample(x, y, sigma, *data.labels()), np.concatenate(values), tally.points)


def _part(sample: Sample, rows: np.ndarray) -> Sample:
    """Return some points of a sample."""
    sigma = None if sample.sigma is None else sample.sigma[rows]
    return Sample(sample.x[..., rows], sample.y[rows], sigma, sample.x_label, sample.y_label)
