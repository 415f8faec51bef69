"""What a fit leaves as numbers: metrics for ``result.json``, and CSV files."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from socm_workflows.fit.solver.solution import Solution

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Tally:
    """Sums over the points of a fit, taken block by block, each point weighed by ``1 / sigma^2``.

    Means and squares of blocks are merged as by Chan, Golub & LeVeque 1983, "Algorithms for computing the sample
    variance", The American Statistician 37, 242-247, equation 2.1: nothing is lost where y is far from zero.
    """

    points: int = 0
    left_out: int = 0
    weight: float = 0.0
    mean: float = 0.0
    spread: float = 0.0
    """Weighted squares of y about its mean."""
    squares: float = 0.0
    """Weighted squares of the residuals, whatever the loss."""

    def add(self, y: Floats, sigma: Floats | None, fitted: Floats) -> None:
        """Add the points of a block."""
        weights = np.ones_like(y) if sigma is None else sigma**-2.0
        weight = float(weights.sum())
        mean = float(weights @ y) / weight
        total = self.weight + weight
        apart = mean - self.mean
        self.spread += float(weights @ (y - mean) ** 2) + apart**2 * self.weight * weight / total
        self.mean += apart * weight / total
        self.weight = total
        self.points += y.size
        self.squares += float(weights @ (y - fitted) ** 2)

    @property
    def r2(self) -> float:
        """The part of the spread of y that the model explains; nan where y has none."""
        return 1 - self.squares / self.spread if self.spread > 0 else math.nan


@dataclass(frozen=True, slots=True)
class Manner:
    """How a fit was made, as far as its numbers depend on it or its reader wants to know."""

    loss: str = "linear"
    absolute_sigma: bool = False
    starts: int = 1
    reached_best: int = 1
    """Starts that ended in the minimum that is reported."""
    why: str = ""
    """Why this strategy."""


def metrics_of(fit: Solution, names: Sequence[str], tally: Tally, manner: Manner) -> dict[str, Any]:
    """Return the fit as JSON values; a number that does not exist (no covariance, a parameter on a bound) is None."""
    errors = [None] * len(names) if fit.standard_errors is None else [_finite(e) for e in fit.standard_errors]
    covariance = None if fit.covariance is None else [[_finite(value) for value in row] for row in fit.covariance]
    criteria = _criteria(fit, tally, manner)
    return {
        "parameters": dict(zip(names, map(float, fit.parameters), strict=True)),
        "standard_errors": dict(zip(names, errors, strict=True)),
        "covariance": covariance,
        "rss": fit.rss,
        "reduced_chi2": fit.rss / fit.degrees_of_freedom if fit.degrees_of_freedom > 0 else None,
        "r2": _finite(tally.r2),
        "aic": criteria[0],
        "bic": criteria[1],
        "n_points": tally.points,
        "left_out": tally.left_out,
        "degrees_of_freedom": fit.degrees_of_freedom,
        "converged": fit.converged,
        "reason": fit.reason,
        "optimality": _finite(fit.optimality),
        "at_bound": list(fit.at_bound),
        "undetermined": list(fit.undetermined),
        "condition": _finite(fit.condition),
        "iterations": fit.iterations,
        "evaluations": fit.evaluations,
        "starts": manner.starts,
        "reached_best": manner.reached_best,
        "strategy": str(fit.strategy),
        "why": manner.why,
        "accumulation": fit.accumulation,
    }


def _criteria(fit: Solution, tally: Tally, manner: Manner) -> tuple[float | None, float | None]:
    """Return AIC and BIC, up to a constant of the data: ``2 k - 2 log L`` and ``k log n - 2 log L``.

    ``-2 log L`` is chi square where sigma is the truth, else ``n log(rss / n)``; ``k`` counts the free parameters.
    None with a loss that is no likelihood, and for a perfect fit (Burnham & Anderson 2002, "Model Selection and
    Multimodel Inference", second edition, section 2.2).
    """
    free, points = tally.points - fit.degrees_of_freedom, tally.points
    if manner.loss != "linear" or (fit.rss <= 0 and not manner.absolute_sigma):
        return None, None
    twice = fit.rss if manner.absolute_sigma else points * math.log(fit.rss / points)
    return twice + 2 * free, twice + free * math.log(points)


def write_tables(metrics: Mapping[str, Any], *, parameters: Path | None, covariance: Path | None) -> None:
    """Write ``name,value,standard_error`` and the covariance with the names as header; an unknown number is empty.

    ``metrics`` are those of :func:`metrics_of`.
    """
    names, errors = list(metrics["parameters"]), metrics["standard_errors"].values()
    if parameters is not None:
        rows = zip(names, metrics["parameters"].values(), errors, strict=True)
        _write(parameters, ("name", "value", "standard_error"), rows)
    if covariance is not None:
        matrix = metrics["covariance"] or [[None] * len(names)] * len(names)
        _write(covariance, ("", *names), ([name, *row] for name, row in zip(names, matrix, strict=True)))


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
