"""From a problem to its solution: a start if one is sought, the fit, its states on disk, a second fit to confirm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from socm_workflows.fit.checkpoint import EVERY, Checkpoint, problem_of
from socm_workflows.fit.function.datasets import Dataset
from socm_workflows.fit.function.keywords import Request
from socm_workflows.fit.function.watching import Watch
from socm_workflows.fit.solver.case import make_formula
from socm_workflows.fit.solver.formula import ModelFunction
from socm_workflows.fit.solver.least_squares import Tolerances
from socm_workflows.fit.solver.options import Strategy
from socm_workflows.fit.solver.passes import ArraySource
from socm_workflows.fit.solver.reductions import treats_points_apart
from socm_workflows.fit.solver.solution import DEFAULTS, Solution, solve
from socm_workflows.fit.strategy.cluster import create_checkpoint_directory
from socm_workflows.fit.strategy.settings import Settings
from socm_workflows.fit.strategy.streaming_config import HybridStreamingConfig
from socm_workflows.fit.strategy.tiers import OptimizationGoal, WorkflowTier

if TYPE_CHECKING:
    from socm_workflows.fit.search.multistart import Search

Floats = NDArray[np.float64]

DISTANCE: Mapping[OptimizationGoal | None, float] = {OptimizationGoal.FAST: 1e-3, OptimizationGoal.QUALITY: 1e-8}
USUAL_DISTANCE = 1e-6
"""Standard errors that a fit may end from its minimum, unless tolerances are stated; by goal."""
BACK = 1e-3
"""Standard errors within which a second fit confirms the first."""


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What is fitted, apart from the data."""

    model: ModelFunction
    names: tuple[str, ...]
    start: Floats
    lower: Floats
    upper: Floats
    absolute_sigma: bool


@dataclass(frozen=True, slots=True, eq=False)
class Journey:
    """How a problem was solved."""

    solution: Solution
    dataset: Dataset
    """The data as they were fitted."""
    search: Search | None
    confirmed: bool | None
    stopped_by: str | None
    evaluations: int
    """Of all fits that were made."""
    seconds: Mapping[str, float]


def travel(problem: Problem, dataset: Dataset, settings: Settings, request: Request) -> Journey:
    """Return the solution of a problem by its settings.

    Raises ValueError as :func:`~socm_workflows.fit.solver.solution.solve` does.
    """
    if settings.strategy in (WorkflowTier.STANDARD, WorkflowTier.CHUNKED):
        dataset = dataset.in_memory()
    search = _search(problem, dataset, settings, request)
    solver = _Solver(problem, dataset, settings, request)
    starts = [problem.start] if search is None else list(search.best)
    solutions = []
    for start in starts:
        solutions.append(solver.solve(start))
        if solver.stopped_by is not None:
            break
    best = min(solutions, key=lambda solution: (not solution.converged, solution.rss))
    confirmed = None
    if settings.confirms and best.converged and solver.stopped_by is None:
        confirmed, best = _confirm(solver, problem, best)
    times: dict[str, float] = {} if search is None else {"search": search.seconds}
    for solution in (*solutions, *([best] if best not in solutions else [])):
        for phase, seconds in solution.seconds.items():
            times[phase] = times.get(phase, 0.0) + seconds
    return Journey(best, dataset, search, confirmed, solver.stopped_by, solver.evaluations, times)


def tolerances_of(settings: Settings, points: int) -> Tolerances:
    """Return when the iteration stops.

    Tolerances that are stated hold as they are. The others are those of the table by number of points (tiers.py), but
    no looser than what leaves the fit ``DISTANCE`` standard errors from the minimum: the relative offset times
    ``sqrt(n)`` is that distance, and the relative change of the sum of squares times ``n`` its square. A step has no
    such measure, and its test is the solver's own.
    """
    distance = DISTANCE.get(settings.goal, USUAL_DISTANCE)
    stated, table = settings.stated, settings.tolerances
    ftol = min(table.ftol, distance**2 / points) if stated.ftol is None else stated.ftol
    gtol = min(table.gtol, distance / points**0.5) if stated.gtol is None else stated.gtol
    steps = DEFAULTS.max_iterations if settings.max_nfev is None else settings.max_nfev - 1
    return Tolerances(ftol, DEFAULTS.xtol if stated.xtol is None else stated.xtol, gtol, steps)


class _Solver:
    """Solves one problem from any start."""

    def __init__(self, problem: Problem, dataset: Dataset, settings: Settings, request: Request) -> None:
        self._problem, self._dataset, self._settings, self._request = problem, dataset, settings, request
        self._tolerances = tolerances_of(settings, dataset.points)
        self._directory = checkpoint_directory(settings, request)
        self._data_identity: Mapping[str, Any] = {}
        self._resume: Mapping[str, Any] | None = None
        self.stopped_by: str | None = None
        self.evaluations = 0

    def solve(self, start: Floats, *, is_seen: bool = True) -> Solution:
        """Return the solution from a start (p,); the callback sees it, and its states are kept, unless told not to."""
        problem, request = self._problem, self._request
        self._resume = None
        watch = Watch(request.callback, self._keeper(start)) if is_seen else Watch()
        solution = solve(
            problem.model, **self._data(), start=start, names=problem.names,
            lower=problem.lower, upper=problem.upper, absolute_sigma=problem.absolute_sigma,
            tolerances=self._tolerances, loss=request.loss, f_scale=request.f_scale, jac=request.jac,
            callback=watch if watch.is_needed else None, resume=self._resume, covariance=request.covariance,
        )  # fmt: skip
        self.stopped_by = watch.reason
        self.evaluations += solution.evaluations
        return solution

    def _data(self) -> dict[str, Any]:
        """Return the data and how they are gone through, as arguments of ``solve``.

        Arrays that are streamed and are not of float64 are handed on as a source, which converts a block at a time.
        """
        data, tier = self._dataset, self._settings.strategy
        word: Strategy = "standard"
        if tier is not WorkflowTier.STANDARD:
            word = "chunked" if tier is WorkflowTier.CHUNKED else "streaming"
        chunk = None if word == "standard" else self._settings.chunk_size
        if data.source is not None:
            return {"x": None, "y": None, "source": data.source, "strategy": "streaming"}
        if word == "streaming" and data.itemsize < 8 and data.sigma_dimensions < 2:
            source = ArraySource(data.x, data.y, data.sigma, chunk)
            return {"x": None, "y": None, "source": source, "strategy": word}
        return {"x": data.x, "y": data.y, "sigma": data.sigma, "strategy": word, "chunk_points": chunk}

    def _keeper(self, start: Floats) -> Checkpoint | None:
        """Return what keeps the states of the fit from a start; None where none are kept.

        The file is named after all that determines the answer, so that fits share a directory, and none takes the state
        of another.
        """
        if self._directory is None:
            return None
        problem, request = self._problem, self._request
        if not self._data_identity:
            self._data_identity = self._dataset.identity()
        kept = problem_of(
            problem.model, self._data_identity, start, lower=problem.lower, upper=problem.upper, loss=request.loss,
            f_scale=request.f_scale, jac=request.jac,
        )  # fmt: skip
        identity = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
        name = f"fit-{identity}.json"
        asked = next(
            (said for said in (request.config, request.workflow) if isinstance(said, HybridStreamingConfig)), None
        )
        frequency = request.checkpoint_frequency or (EVERY if asked is None else min(asked.checkpoint_frequency, EVERY))
        resumed = None if asked is None else asked.resume_from_checkpoint
        places = [] if resumed is None else [Path(resumed) if Path(resumed).is_dir() else Path(resumed).parent]
        places += [self._directory, *_earlier(self._directory, self._settings)]
        found = next((place for place in places if (place / name).is_file()), self._directory)
        keeper = Checkpoint(found / name, kept, frequency)
        self._resume = keeper.read()
        keeper.path = self._directory / name
        return keeper


def checkpoint_directory(settings: Settings, request: Request) -> Path | None:
    """Return where states are kept: where the strategy wants them, or the call names a directory; else None."""
    if settings.strategy is WorkflowTier.STREAMING_CHECKPOINT:
        return settings.checkpoint_dir or create_checkpoint_directory()
    named = request.arguments.checkpoint_dir
    if named is None or settings.stated.enable_checkpointing is False:
        return None
    return Path(named)


def _earlier(directory: Path, settings: Settings) -> list[Path]:
    """Return the directories that earlier runs made beside this one, the newest first, where none was named."""
    if settings.checkpoint_dir is not None or settings.strategy is not WorkflowTier.STREAMING_CHECKPOINT:
        return []
    return sorted((path for path in directory.parent.iterdir() if path.is_dir() and path != directory), reverse=True)


def _search(problem: Problem, dataset: Dataset, settings: Settings, request: Request) -> Search | None:
    """Return the ends of several starts, or None where the fit has one."""
    if not settings.multistart and not request.evolves:
        return None
    from socm_workflows.fit.search import multistart  # noqa: PLC0415 - it loads scipy.stats, which takes a second

    is_apart = dataset.sigma_dimensions < 2 and treats_points_apart(
        problem.model, dataset.predictors, problem.start.size
    )
    most = multistart.SAMPLE if is_apart else dataset.points
    x, y, sigma = dataset.sample(most, settings.seed)
    if sigma is not None and np.ndim(sigma) == 2:
        sigma = np.linalg.cholesky(np.asarray(sigma, float))
    shape = np.shape(x)
    formula = make_formula(problem.model, shape, problem.start.size, jac=request.jac, loss=request.loss)
    terrain = multistart.terrain_of(
        formula, (x, y, sigma), f_scale=request.f_scale, limits=(problem.start, problem.lower, problem.upper),
        total=dataset.points, is_apart=is_apart,
    )  # fmt: skip
    if request.evolves:
        return multistart.evolve(terrain, settings.seed)
    plan = multistart.Plan(
        settings.n_starts, settings.sampler, settings.seed, settings.center_on_p0, settings.scale_factor
    )
    return multistart.search(terrain, plan)


def _confirm(solver: _Solver, problem: Problem, first: Solution) -> tuple[bool, Solution]:
    """Return whether a second fit, begun one standard error away, comes back, and the better of both."""
    errors = first.standard_errors
    away = np.zeros(problem.start.size) if errors is None else np.nan_to_num(errors, nan=0.0, posinf=0.0)
    signs = np.where(np.arange(away.size) % 2 == 0, 1.0, -1.0)
    second = solver.solve(np.clip(first.parameters + signs * away, problem.lower, problem.upper), is_seen=False)
    distance = np.abs(second.parameters - first.parameters)
    size = np.maximum(BACK * away, 1e-8 * np.abs(first.parameters))
    is_back = second.converged and bool(np.all(distance <= size))
    return is_back, first if is_back or second.rss >= first.rss else second
