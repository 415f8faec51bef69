"""What a fit leaves as numbers: metrics for ``result.json``, and CSV files."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from socm_workflows.fit.solution import Solution


def metrics_of(fit: Solution, names: Sequence[str]) -> dict[str, Any]:
    """Return the fit as JSON values; a number that does not exist (no covariance, a parameter on a bound) is None."""
    errors = [None] * len(names) if fit.standard_errors is None else [_finite(e) for e in fit.standard_errors]
    covariance = None if fit.covariance is None else [[_finite(value) for value in row] for row in fit.covariance]
    return {
        "parameters": dict(zip(names, map(float, fit.parameters), strict=True)),
        "standard_errors": dict(zip(names, errors, strict=True)),
        "covariance": covariance,
        "rss": fit.rss,
        "n_points": fit.fitted.size,
        "degrees_of_freedom": fit.degrees_of_freedom,
        "converged": fit.converged,
        "reason": fit.reason,
        "at_bound": list(fit.at_bound),
        "iterations": fit.iterations,
        "evaluations": fit.evaluations,
    }


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
