"""The public face of the fitter: :func:`fit`, one function from ten points to data larger than memory.

:func:`curve_fit` is the same with SciPy's signature and its way to fail.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from socm_workflows.fit.function.datasets import Dataset, make_dataset
from socm_workflows.fit.function.journey import Journey, Problem, travel
from socm_workflows.fit.function.keywords import Keywords, Request, read_keywords
from socm_workflows.fit.function.result import FitResult
from socm_workflows.fit.search.starts import default_start, names_of, read_bounds, read_start
from socm_workflows.fit.strategy.memory_model import FitSize
from socm_workflows.fit.strategy.settings import Settings, resolve_settings
from socm_workflows.fit.strategy.yaml_file import FILE_NAME

Floats = NDArray[np.float64]
MEMORY_AGE = 2.0
"""Seconds for which what is known about memory, ``nlsq.yaml`` and the environment serves the next fit of this size."""
NLSQ_VARIABLES = ("NLSQ_WORKFLOW_GOAL", "NLSQ_MEMORY_LIMIT_GB", "NLSQ_CHECKPOINT_DIR", "NLSQ_ENABLE_CHECKPOINTING")


def fit(
    model: Callable[..., Any],
    x: Any,
    y: Any = None,
    p0: ArrayLike | None = None,
    sigma: Any = None,
    *,
    absolute_sigma: bool = False,
    check_finite: bool = True,  # noqa: ARG001 - data are always checked, in one pass that costs next to nothing
    bounds: Any = (-np.inf, np.inf),
    method: str | None = None,
    **keywords: Unpack[Keywords],
) -> FitResult:
    """Return the least-squares fit of ``model(x, *parameters)`` to ``y``; ``popt, pcov = fit(...)`` unpacks it.

    ``x`` is (n,), (k, n), the path of a file, or a source of blocks, which give y and sigma themselves. ``model`` is
    written with jax.numpy. ``p0`` defaults to 1, or the middle of two bounds. ``sigma`` is a number, (n,) or an (n, n)
    covariance.
    ``bounds`` is ``(lower, upper)``, numbers or arrays, or scipy.optimize.Bounds. All are as in
    scipy.optimize.curve_fit; ``keywords`` are described in :class:`~socm_workflows.fit.function.keywords.Keywords`.

    The strategy is chosen by memory; the answer does not depend on it. A fit that has not converged is returned with a
    covariance of inf and a scipy.optimize.OptimizeWarning.

    Raises TypeError: a keyword that there is not. Raises ValueError: arguments that are wrong or contradict, with what
    to write instead.
    """
    result = _solve(model, (x, y, sigma), p0, bounds, method=method, is_absolute=absolute_sigma, keywords=keywords)
    _warn(result)
    return result


def curve_fit(  # noqa: PLR0917 - the order of SciPy
    f: Callable[..., Any],
    xdata: Any,
    ydata: Any,
    p0: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    check_finite: bool | None = None,  # noqa: ARG001 - as in fit
    bounds: Any = (-np.inf, np.inf),
    method: str | None = None,
    jac: Callable[..., Any] | str | None = None,
    *,
    full_output: bool = False,
    **keywords: Any,
) -> Any:
    """Return ``popt, pcov`` as scipy.optimize.curve_fit does, from :func:`fit`, whose keywords it takes too.

    The value is a :class:`~socm_workflows.fit.FitResult`, which unpacks to these two; with ``full_output`` it
    is SciPy's tuple ``popt, pcov, infodict, mesg, ier``, with ``nfev`` and ``fvec`` in ``infodict``.

    Raises RuntimeError, as SciPy does, where the fit ends before it has converged; ValueError and TypeError as
    :func:`fit`. Where parameters are not determined it warns and ``pcov`` is inf, as SciPy's is.
    """
    keywords = {**keywords, "jac": jac}
    data = (xdata, ydata, sigma)
    result = _solve(f, data, p0, bounds, method=method, is_absolute=absolute_sigma, keywords=keywords)
    if not result.converged and not result.solution.undetermined:
        raise RuntimeError(f"Optimal parameters not found: {result.message}")
    _warn(result)
    if not full_output:
        return result
    information = {"nfev": result.nfev, "fvec": result.fun}
    return result.popt, result.pcov, information, result.message, max(result.status, 1)


def _solve(
    model: Callable[..., Any],
    data: tuple[Any, Any, Any],
    p0: ArrayLike | None,
    bounds: Any,
    *,
    method: str | None,
    is_absolute: bool,
    keywords: Mapping[str, Any],
) -> FitResult:
    """Return the fit to ``data``: x, y and sigma. Raises as :func:`fit`."""
    begun = time.perf_counter()
    start = read_start(p0)
    names = names_of(model, None if start is None else start.size)
    lower, upper = read_bounds(bounds, len(names))
    has_bounds = bool(np.any(np.isfinite(lower)) or np.any(np.isfinite(upper)))
    request = read_keywords(method, keywords, has_bounds=has_bounds)
    if request.names is not None and len(request.names) != len(names):
        raise ValueError(f"names has {len(request.names)} entries, and the model {len(names)} parameters")
    dataset = make_dataset(*data, omits=request.omits, columns=request.columns)
    if not dataset.points:
        raise ValueError("there are no data: x and y are empty")
    problem = Problem(
        model=_hashable(model),
        names=request.names or names,
        start=default_start(lower, upper) if start is None else start,
        lower=lower,
        upper=upper,
        absolute_sigma=is_absolute,
    )
    settings = settings_of(dataset, len(names), request)
    journey = travel(problem, dataset, settings, request)
    return _result(problem, journey, settings, time.perf_counter() - begun)


def settings_of(dataset: Dataset, parameters: int, request: Request) -> Settings:
    """Return what the fit does: all that was said, and the memory there is."""
    size = FitSize(
        points=dataset.points,
        parameters=parameters,
        features=dataset.predictors,
        itemsize=dataset.itemsize,
        sigma_dimensions=dataset.sigma_dimensions,
    )
    asked = (request.arguments, request.workflow, request.preset, request.config)
    return _settings(size, asked, _surroundings())


@lru_cache(maxsize=128)
def _settings(size: FitSize, asked: tuple[Any, ...], surroundings: tuple[Any, ...]) -> Settings:  # noqa: ARG001 - they say how long this holds
    arguments, workflow, preset, config = asked
    return resolve_settings(size, arguments, workflow=workflow, preset=preset, config=config)


def _surroundings() -> tuple[Any, ...]:
    """Return what tells whether settings still hold: the time in steps, the directory, nlsq.yaml, the variables."""
    folder = os.getcwd()  # noqa: PTH109 - once per fit, where pathlib costs several times as much
    try:
        status = os.stat(FILE_NAME)  # noqa: PTH116
        changed = (status.st_mtime_ns, status.st_size)
    except OSError:
        changed = (0, 0)
    variables = tuple(os.environ.get(name) for name in NLSQ_VARIABLES)
    return int(time.monotonic() / MEMORY_AGE), folder, changed, variables


def _hashable(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return a model that programs can be kept for: itself if it has a hash."""
    try:
        hash(model)
    except TypeError:
        return _Called(model)
    return model


class _Called:
    """A callable without a hash, known by its identity."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.__name__ = type(function).__name__

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Called) and other._function is self._function

    def __hash__(self) -> int:
        return id(self._function)


def _result(problem: Problem, journey: Journey, settings: Settings, seconds: float) -> FitResult:
    times: Mapping[str, float] = {**journey.seconds, "total": seconds}
    return FitResult(
        solution=journey.solution,
        names=problem.names,
        model=problem.model,
        dataset=journey.dataset,
        settings=settings,
        absolute_sigma=problem.absolute_sigma,
        multistart=journey.search,
        confirmed=journey.confirmed,
        stopped_by=journey.stopped_by,
        total_nfev=journey.evaluations,
        seconds=times,
    )


def _warn(result: FitResult) -> None:
    if result.solution.covariance is None:
        from scipy.optimize import OptimizeWarning  # noqa: PLC0415 - half a second that most fits need not spend

        message = f"the covariance of the parameters could not be estimated: {result.message}"
        warnings.warn(message, OptimizeWarning, stacklevel=3)
