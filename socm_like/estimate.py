"""What tasks will need, learned from what tasks like them needed: on the logarithm, as a high quantile.

Model of one quantity ``y`` of one family of tasks, with ``f >= 0`` a floor that every task needs (a process, its
libraries) and ``phi_j`` the fields::

    log y = log(f + exp(c + sum_j b_j phi_j)) + e

``phi = log x`` for a field that is positive in all records, ``x`` for another number, the length of a list or a table,
and one indicator per value of a text or a truth value; all are brought to mean 0 and variance 1.

How the curve is found: :mod:`socm_like.regression`. ``f`` is the one with the least mean absolute leave-one-out
residual, zero unless it is better by a tenth.

``e`` is not assumed to be normal: the high prediction adds the quantile of the leave-one-out residuals, from
``e_i / (1 - h_ii)`` (Allen 1974, Technometrics 16:125), ranked ``ceil((n + 1) q)`` of ``n``, which a new task of the
same sort exceeds with probability at most ``1 - q`` (Vovk, Gammerman & Shafer 2005, eq. 2.16). Where ``n`` is too
small for that rank, the largest residual counts, with the padding ``1 + 1 / n`` on top.

Cost of learning: about 28 passes over at most 60 records and 3 over at most 1,000, for each quantity.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from operator import mul
from typing import Any, NamedTuple

from socm_like.regression import LARGEST, RECORDS_PER_COLUMN, choose_columns, fit_curve
from socm_like.resources import Prediction

ENOUGH = 8
"""Records that a prediction rests on at the least: the largest of 8 is exceeded by the next in one of 9 cases."""
QUANTILE = 0.95
LATEST = 1000
"""Records that count, the latest: programs and machines change."""
REACH = 2.0
"""Up to this factor beyond the records a number may lie for a prediction to rest on them."""

_LEVELS = 12
"""Values of a text up to which each has an indicator; of a text with more nothing is learned."""
_SPREAD = 1.02
"""A quantity whose greatest value is within this factor of its least depends on nothing."""
_ISOLATED = 5.0
"""A single residual that is so many times the upper quartile of their sizes is an accident."""
_NO_EFFECT = math.log(1.1)
"""A number that changes the prediction by less, over all its many values, may take any other value."""


class Needs(NamedTuple):
    """What one finished task needed; None where it was not measured."""

    memory: float | None
    """Bytes."""
    gpu_memory: float | None
    """Bytes on each GPU."""
    seconds: float | None


class Family:
    """Tasks of one sort, and what was learned of each quantity they need."""

    def __init__(self, records: Sequence[tuple[Mapping[str, Any], Needs]]) -> None:
        """Learn from the fields of finished tasks and what they needed; the latest come last."""
        records = list(records)[-LATEST:]
        self.count = len(records)
        """Records that it rests on."""
        rows = [fields for fields, _ in records]
        numbers, constants, self._categories = _columns_of(rows) if self.count >= ENOUGH else ([], [], [])
        self._varying = [number.coding for number in numbers]
        self._constant = [(name, rows[-1][name]) for name in constants]
        encoded = [self._encode(fields) or [] for fields in rows] if self.count >= ENOUGH else []
        needs = [need for _, need in records]
        self.memory = _learn(encoded, [need.memory for need in needs])
        self.gpu_memory = _learn(encoded, [need.gpu_memory for need in needs])
        self.seconds = _learn(encoded, [need.seconds for need in needs])
        self._varying = self._released(numbers)
        self._last: tuple[tuple[float | None, ...], Prediction] | None = None
        """What was predicted last: many tasks may need the same."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was learned."""
        return self.memory is None and self.gpu_memory is None and self.seconds is None

    def predict(self, fields: Mapping[str, Any]) -> Prediction | None:
        """Return what a task with these fields will need, or None where too few tasks like it have finished."""
        if self.is_empty or (row := self._encode(fields)) is None:
            return None
        memory, gpu_memory, seconds = self.memory, self.gpu_memory, self.seconds
        memory_bytes = None if memory is None else _whole(memory.fitted(row) * memory.high)
        gpu_bytes = None if gpu_memory is None else _whole(gpu_memory.fitted(row) * gpu_memory.high)
        fitted = None if seconds is None else max(seconds.fitted(row), _TICK)
        key = (memory_bytes, gpu_bytes, fitted)
        if self._last is None or self._last[0] != key:
            prediction = Prediction.model_construct(
                _PREDICTED,
                memory=memory_bytes,
                gpu_memory=gpu_bytes,
                runtime=None if seconds is None or fitted is None else timedelta(seconds=fitted * seconds.high),
                typical_runtime=None
                if seconds is None or fitted is None
                else timedelta(seconds=fitted * seconds.typical),
                records=self.count,
            )
            self._last = (key, prediction)
        return self._last[1]

    def typical_seconds(self, fields: Mapping[str, Any]) -> float | None:
        """Return how long a task with these fields will take, half of them longer; None as of :meth:`predict`."""
        if self.seconds is None or (row := self._encode(fields)) is None:
            return None
        return self.seconds.fitted(row) * self.seconds.typical

    def learned(self, quantity: str) -> Learned | None:
        """Return what was learned of ``memory``, ``gpu_memory`` or ``runtime``."""
        return {"memory": self.memory, "gpu_memory": self.gpu_memory, "runtime": self.seconds}[quantity]

    def fields_of(self, learned: Learned) -> tuple[str, ...]:
        """Return the names of the fields that a quantity depends on."""
        columns = [coding.name for coding in self._varying]
        columns += [name for name, codes in self._categories for _ in range(len(codes) - 1)]
        return tuple(dict.fromkeys(name for name, slope in zip(columns, learned.slopes, strict=True) if slope))

    def _encode(self, fields: Mapping[str, Any]) -> list[float] | None:
        """Return the fields as numbers, or None where they are not like those of the records."""
        row = []
        for name, low, high, is_logarithmic, mean, scale, is_idle, is_used in self._varying:
            value = fields.get(name)
            if type(value) is not float and type(value) is not int:
                value = _number(value)
                if value is None:
                    return None
            if not low <= value <= high:
                if not is_idle or value != value:  # noqa: PLR0124 - not a number
                    return None
                value = low if value < low else high
            row.append(((math.log(value) if is_logarithmic else value) - mean) / scale if is_used else 0.0)
        for name, constant in self._constant:
            if fields.get(name) != constant and _number(fields.get(name)) != _number(constant):
                return None
        for name, codes in self._categories:
            code = codes.get(_level(fields.get(name)) or "")
            if code is None:
                return None
            row += code
        return row

    def _released(self, numbers: Sequence[_Number]) -> list[_Coding]:
        """Return how numbers are coded; those that took many values and changed nothing may take any: seeds, labels."""
        learned = [model for model in (self.memory, self.gpu_memory, self.seconds) if model is not None]
        codings = []
        for index, number in enumerate(numbers):
            effect = max((abs(model.slopes[index]) * number.span for model in learned), default=math.inf)
            is_idle = number.values >= ENOUGH and effect < _NO_EFFECT
            codings.append(number.coding._replace(is_idle=is_idle, is_used=effect > 0))
        return codings


_PREDICTED = set(Prediction.model_fields)
_TICK = 1e-6
"""Seconds: the least that a time span can say."""


def _whole(size: float) -> int:
    """Return a size in whole bytes, no larger for the rounding of logarithms."""
    return math.ceil(size * (1 - 1e-9))


class _Coding(NamedTuple):
    """How a number that varies becomes one of mean 0 and variance 1."""

    name: str
    low: float
    high: float
    """Between these the records have something to say."""
    is_logarithmic: bool
    mean: float
    scale: float
    """Standard deviation."""
    is_idle: bool = False
    """Whether it changes nothing to speak of: then it may be anything."""
    is_used: bool = True
    """Whether it changes anything."""


class _Number(NamedTuple):
    """A field that is a number in all records."""

    name: str
    coding: _Coding
    values: int
    """How many different ones there are."""
    span: float
    """From its least to its greatest value, in standard deviations."""


_Category = tuple[str, dict[str, list[float]]]
"""A field, and for each of its values the indicators."""


def _columns_of(rows: Sequence[Mapping[str, Any]]) -> tuple[list[_Number], list[str], list[_Category]]:
    """Return what of the fields may matter: numbers that vary, names of others, and texts that take few values.

    Of paths nothing is learned.
    """
    numbers: list[_Number] = []
    constants, categories = [], []
    for name in sorted(set.intersection(*(set(row) for row in rows))):
        values = [row[name] for row in rows]
        found = [_number(value) for value in values]
        if None not in found:
            number = _number_column(name, [value for value in found if value is not None])
            if number is None:
                constants.append(name)
            else:
                numbers.append(number)
            continue
        levels = [_level(value) for value in values]
        kept = Counter(level for level in levels if level is not None)
        is_path = any(isinstance(value, str) and value.startswith("/") for value in values)
        most = max(1, min(_LEVELS, len(rows) // RECORDS_PER_COLUMN))
        if None not in levels and not is_path and len(kept) <= most:
            categories.append((name, _codes(kept, len(rows))))
    return numbers, constants, categories


def _number_column(name: str, values: Sequence[float]) -> _Number | None:
    """Return how a number that varies counts, None for one that does not."""
    low, high = min(values), max(values)
    is_logarithmic = low > 0
    scaled = [math.log(value) for value in values] if is_logarithmic else list(values)
    mean = math.fsum(scaled) / len(scaled)
    scale = math.sqrt(math.fsum((value - mean) ** 2 for value in scaled) / len(scaled))
    if low == high or scale < abs(mean) * _ROUNDING:
        return None
    room = (high - low) * (REACH - 1)
    around = (low / REACH, high * REACH) if is_logarithmic else (low - room, high + room)
    coding = _Coding(name, *around, is_logarithmic, mean, scale)
    return _Number(name, coding, len(set(values)), (max(scaled) - min(scaled)) / scale)


_ROUNDING = 1e-12


def _codes(levels: Counter[str], count: int) -> dict[str, list[float]]:
    """Return the indicators of each value of a field, brought to mean 0 and variance 1; the commonest has none."""
    common, *others = (level for level, _ in sorted(levels.items(), key=lambda item: (-item[1], item[0])))
    codes: dict[str, list[float]] = {level: [] for level in (common, *others)}
    for other in others:
        share = levels[other] / count
        scale = math.sqrt(share * (1 - share))
        for level, code in codes.items():
            code.append(((level == other) - share) / scale)
    return codes


def _number(value: Any) -> float | None:
    """Return the number that a value counts as: itself, or its length; None for anything else."""
    kind = type(value)
    if kind is float or kind is int:
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) and abs(number) < _HUGE else None
    return float(len(value)) if kind is list or kind is dict or kind is tuple else None


_HUGE = 1e150
"""Numbers from here on are no sizes; their squares are no numbers."""


def _level(value: Any) -> str | None:
    """Return a text or a truth value as text, None for anything else; no text is written like a truth value."""
    if type(value) is str:
        return f"'{value}"
    return str(value) if value is None or type(value) is bool else None


@dataclass(frozen=True, slots=True)
class Learned:
    """One quantity of one family."""

    count: int
    """Records that it rests on."""
    floor: float
    constant: float
    slopes: Sequence[float]
    """Of each column, on the logarithm."""
    high: float
    """Factor on what is fitted that few exceed."""
    typical: float
    """Factor on what is fitted that half of them exceed."""
    ratios: Sequence[float] = field(repr=False)
    """Used over predicted, of each record as the others would have predicted it."""

    def fitted(self, row: Sequence[float]) -> float:
        """Return the curve at encoded fields."""
        return self.floor + math.exp(min(self.constant + sum(map(mul, row, self.slopes)), LARGEST))


def _learn(encoded: Sequence[Sequence[float]], values: Sequence[float | None]) -> Learned | None:
    """Return what one quantity depends on, or None where too few records have it."""
    pairs = [(row, value) for row, value in zip(encoded, values, strict=False) if value is not None and value > 0]
    if len(pairs) < ENOUGH:
        return None
    rows, measured = [row for row, _ in pairs], [value for _, value in pairs]
    varying = list(map(list, zip(*rows, strict=True))) if max(measured) > min(measured) * _SPREAD else []
    chosen = choose_columns(varying, list(map(math.log, measured)))
    columns = [[1.0] * len(rows), *(varying[index] for index in chosen)]
    fit = fit_curve(columns, measured)
    residuals = sorted(fit.residuals)
    slopes = [0.0] * len(rows[0])
    for index, coefficient in zip(chosen, fit.coefficients[1:], strict=True):
        slopes[index] = coefficient
    margin = _margin(residuals)
    middle = (residuals[(len(residuals) - 1) // 2] + residuals[len(residuals) // 2]) / 2
    return Learned(
        count=len(rows),
        floor=fit.floor,
        constant=fit.coefficients[0],
        slopes=slopes,
        high=math.exp(margin),
        typical=math.exp(middle),
        ratios=[math.exp(min(residual - margin, LARGEST)) for residual in fit.residuals],
    )


def _margin(residuals: Sequence[float]) -> float:
    """Return the quantile of sorted residuals; a single one far above the others is left out."""
    sizes = sorted(map(abs, residuals))
    quartile = sizes[(3 * len(sizes)) // 4]
    is_accident = residuals[-1] > _ISOLATED * max(quartile, residuals[-2], 0.01)
    kept = residuals[:-1] if is_accident else residuals
    rank = math.ceil((len(kept) + 1) * QUANTILE)
    margin = kept[rank - 1] if rank <= len(kept) else kept[-1] + math.log1p(1 / len(kept))
    return max(margin, 0.0)
