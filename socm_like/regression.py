"""Curves through measurements: ``log y = log(f + exp(X b)) + e``, robust against outliers, judged by leaving one out.

For a floor ``f``, ``log(y - f)`` is linear in ``b``: ridge regression with weights ``((y - f) / y)^2``, which make of
the error of ``log(y - f)`` that of ``log y``, and Huber's (1964, Annals of Mathematical Statistics 35:73), so that one
accident does not bend the curve.

Standard library only: numpy would take longer to import than all of this to compute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import add, mul, sub

LARGEST = 80.0
"""Logarithm of more bytes and seconds than there are."""

COLUMNS = 10
RECORDS_PER_COLUMN = 3
_PURSUED = 200
"""Records that columns are chosen with."""
_SIGNIFICANT = 2.5
"""Times ``1 / sqrt(n)``: what a column that has nothing to do with the residuals correlates with them by chance."""
_RIDGE = 1e-3
"""Of the weight of the records; keeps a coefficient that the records do not determine near zero."""
_SEARCHED = 60
"""Records that the floor is searched with."""
_FLOORS = (0.8, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.003, 0.001)
"""What the least record has above the floor, as a share of it."""
_BETTER = 0.9
_HUBER = 2.5
_FAR = 5.0
"""Times the upper quartile of the residuals."""
_LEAST_FAR = 0.3
_ONES = repeat(1.0)


def choose_columns(columns: Sequence[Sequence[float]], targets: Sequence[float]) -> list[int]:
    """Return the columns that matter, by their indexes: each time the one that explains most of what is left.

    Orthogonal matching pursuit (Pati, Rezaiifar & Krishnaprasad 1993, Asilomar Conference 27:40). Columns have mean 0
    and variance 1.
    """
    step = math.ceil(len(targets) / _PURSUED)
    columns, targets = [column[::step] for column in columns], targets[::step]
    count = len(targets)
    ones = [1.0] * count
    left = _without_outliers(targets)
    chosen: list[int] = []
    while len(chosen) < min(COLUMNS, count // RECORDS_PER_COLUMN, len(columns)):
        norm = math.sqrt(sum(map(mul, left, left)))
        if norm <= _NOTHING * math.sqrt(count):
            break
        explained = [
            0.0 if index in chosen else abs(sum(map(mul, column, left))) for index, column in enumerate(columns)
        ]
        best = explained.index(max(explained))
        if explained[best] <= _SIGNIFICANT * norm:  # sqrt(count) * norm, were they the same
            break
        chosen.append(best)
        used = [ones, *(columns[index] for index in chosen)]
        left = _without_outliers(list(map(sub, targets, _combined(used, _ridge(used, targets, ones)[0]))))
    return sorted(chosen)


def _without_outliers(residuals: Sequence[float]) -> list[float]:
    """Return residuals around their median, none further from it than five times the upper quartile."""
    middle = sorted(residuals)[len(residuals) // 2]
    sizes = sorted(abs(residual - middle) for residual in residuals)
    most = 5 * sizes[(3 * len(sizes)) // 4]
    return [min(max(residual - middle, -most), most) for residual in residuals]


_NOTHING = 1e-3
"""Residual of the logarithm that is not worth a column."""


def fit_curve(columns: Sequence[Sequence[float]], values: Sequence[float]) -> Fit:
    """Return the curve through positive values; the first column is that of the constant.

    Few that lie far from a curve without a floor have no say in where the curve runs.
    """
    if len(columns) == 1:
        return _robust_fit(columns, values, 0.0)
    first = _robust_fit(columns, values, 0.0)
    sizes = sorted(map(abs, first.residuals))
    far = max(_FAR * sizes[(3 * len(sizes)) // 4], _LEAST_FAR)
    kept = [index for index, residual in enumerate(first.residuals) if abs(residual) <= far]
    if len(values) - len(kept) > max(1, len(values) // 20):
        kept = list(range(len(values)))
    columns_kept = [[column[index] for index in kept] for column in columns]
    values_kept = [values[index] for index in kept]
    floor = _floor(columns_kept, values_kept)
    fit = _robust_fit(columns_kept, values_kept, floor)
    if floor:
        some = math.ceil(len(values_kept) / _PURSUED)
        near = _refined([column[::some] for column in columns_kept], values_kept[::some], fit)
        fit = _refined(columns_kept, values_kept, near, steps=1)
    expected = _combined(columns, fit.coefficients)
    residuals = [
        math.log(value) - math.log(fit.floor + math.exp(min(exponent, LARGEST)))
        for value, exponent in zip(values, expected, strict=True)
    ]
    for index, residual in zip(kept, fit.residuals, strict=True):
        residuals[index] = residual
    return Fit(fit.coefficients, residuals, fit.floor)


def _refined(columns: Sequence[Sequence[float]], values: Sequence[float], fit: Fit, steps: int = 6) -> Fit:
    """Return the curve of a fit after Gauss-Newton steps on ``log y`` itself, as long as they help.

    There the floor may lie above the least value, which noise has pushed below it. The derivatives of
    ``log(f + exp(X b))`` are ``f / y`` with ``log f`` and ``X exp(X b) / y`` with ``b``.
    """
    coefficients, floor, best, cost = fit.coefficients, fit.floor, fit, math.inf
    for _ in range(steps + 1):
        grown = [math.exp(min(exponent, LARGEST)) for exponent in _combined(columns, coefficients)]
        fitted = [floor + part for part in grown]
        errors = [math.log(value) - math.log(one) for value, one in zip(values, fitted, strict=True)]
        scale = max(1.4826 * sorted(map(abs, errors))[len(errors) // 2], 1e-4)
        weights = [min(1.0, _HUBER * scale / max(abs(error), 1e-9)) for error in errors]
        shares = [part / one for part, one in zip(grown, fitted, strict=True)]
        slopes = [[1 - share for share in shares], *(list(map(mul, column, shares)) for column in columns)]
        moves, deleted = _ridge(slopes, errors, weights)
        new = math.fsum(map(abs, deleted))
        if not new < cost:
            break
        best, cost = Fit(coefficients, deleted, floor), new
        moves = [min(max(move, -_LONGEST), _LONGEST) for move in moves]
        floor *= math.exp(moves[0])
        coefficients = list(map(add, coefficients, moves[1:]))
    return best


_LONGEST = 0.5
"""Of a step of Gauss and Newton, on the logarithm."""


def _floor(columns: Sequence[Sequence[float]], values: Sequence[float]) -> float:
    """Return the floor with the least mean absolute leave-one-out residual, or 0."""
    least = min(values)
    step = math.ceil(len(values) / _SEARCHED)
    columns, values = [column[::step] for column in columns], values[::step]

    def score(above: float) -> float:
        fit = _robust_fit(columns, values, least * (1 - above), rounds=1)
        return math.fsum(map(abs, fit.residuals)) / len(values)

    without = score(1.0)
    scores = [score(above) for above in _FLOORS]
    best = scores.index(min(scores))
    if scores[best] >= _BETTER * without:
        return 0.0
    low = math.log(_FLOORS[min(best + 1, len(_FLOORS) - 1)])
    high = math.log(_FLOORS[best - 1]) if best else 0.0
    for _ in range(9):  # golden section: from a factor of at most 25 to one of 1.04
        first, second = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, second) if score(math.exp(first)) < score(math.exp(second)) else (first, high)
    return least * (1 - math.exp((low + high) / 2))


_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class Fit:
    """A curve, and how well it knows each record from the others."""

    coefficients: Sequence[float]
    residuals: Sequence[float]
    """Leave-one-out, on the logarithm."""
    floor: float


def _robust_fit(columns: Sequence[Sequence[float]], values: Sequence[float], floor: float, rounds: int = 2) -> Fit:
    """Return the fit for a floor, outliers counting less in each round after the first."""
    above = [value - floor for value in values]
    base = [(part / value) ** 2 for part, value in zip(above, values, strict=True)]
    targets = [math.log(part) for part in above]
    weights = base
    for round_ in range(rounds + 1):
        coefficients, deleted = _ridge(columns, targets, weights)
        residuals = [
            math.log(value) - math.log(floor + math.exp(min(target - error, LARGEST)))
            for value, target, error in zip(values, targets, deleted, strict=True)
        ]
        sizes = sorted(map(abs, residuals))
        scale = max(1.4826 * sizes[len(sizes) // 2], 1e-4)
        if round_ == rounds or sizes[-1] <= _HUBER * scale:
            break
        weights = [
            weight * min(1.0, _HUBER * scale / max(abs(residual), 1e-9))
            for weight, residual in zip(base, residuals, strict=True)
        ]
    return Fit(coefficients, residuals, floor)


def _ridge(
    columns: Sequence[Sequence[float]], targets: Sequence[float], weights: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Return the coefficients that minimise ``sum w (t - X b)^2 + n r |b|^2``, and the leave-one-out errors.

    Without a penalty on the constant, which comes first. Cost: records times columns squared.
    """
    size, count = len(columns), len(targets)
    weighted = [list(map(mul, column, weights)) for column in columns]
    gram = [[sum(map(mul, first, second)) for second in columns] for first in weighted]
    total = math.fsum(weights)
    for index in range(size):
        gram[index][index] += total * _RIDGE if index else count * 1e-15
    inverse = _inverse(gram)
    moments = [sum(map(mul, column, targets)) for column in weighted]
    coefficients = [sum(map(mul, line, moments)) for line in inverse]
    projected = [_combined(columns, line) for line in inverse]
    leverages = _combined([list(map(mul, *pair)) for pair in zip(weighted, projected, strict=True)])
    errors = map(sub, targets, _combined(columns, coefficients))
    deleted = [error / (1 - min(max(h, 0.0), 0.99)) for error, h in zip(errors, leverages, strict=True)]
    return coefficients, deleted


def _combined(columns: Sequence[Sequence[float]], factors: Iterable[float] = _ONES) -> list[float]:
    """Return the sum of columns, each times its factor; whole columns at a time, which is faster than rows."""
    total = [0.0] * len(columns[0])
    for column, factor in zip(columns, factors, strict=False):
        total = list(map(add, total, map(mul, column, repeat(factor))))
    return total


def _inverse(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the inverse of a positive definite matrix by Gauss-Jordan elimination with pivoting."""
    size = len(matrix)
    rows = [[*row, *(float(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda index: abs(rows[index][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = rows[column][column]
        rows[column] = [value / scale for value in rows[column]]
        for index in range(size):
            if index != column and (factor := rows[index][column]):
                rows[index] = [a - factor * b for a, b in zip(rows[index], rows[column], strict=True)]
    return [row[size:] for row in rows]
