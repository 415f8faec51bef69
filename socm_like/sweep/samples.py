"""Samples: points drawn from ranges and lists, the same ones for the same seed on every machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from fractions import Fraction
from typing import Any

from socm_like.sweep.axes import Definitions, Leaf, check_distinct, is_axis, leaves, read_values
from socm_like.sweep.faults import Faults, KeyPath, dotted, shown
from socm_like.sweep.ranges import fraction, is_range, read_choice, read_count, read_number
from socm_like.sweep.sets import Sets
from socm_like.sweep.values import BITS, Value

METHODS = ("random", "latin-hypercube", "sobol")
_WORDS = ("method", "n", "seed", "axes")
_RANGE_WORDS = ("min", "max", "scale", "type")
_MOST_AXES = 1000
_MOST_NUMBERS = 10_000_000


_DECIMALS = Context(prec=30, rounding=ROUND_HALF_EVEN, Emin=-999999, Emax=999999)


@dataclass(frozen=True, slots=True)
class SampledRange:
    """A range to draw from; of whole numbers each in it, the ends too, has an interval of length 1."""

    low: Fraction
    high: Fraction
    """Of whole numbers one more than the last."""
    is_whole: bool
    logarithms: tuple[Decimal, Decimal] | None = None
    """Of low and high, where equal factors are equally likely."""

    def at(self, place: float) -> int | float:
        """Return the number at a place from 0 up to 1."""
        if self.logarithms is None:
            found = self.low + (self.high - self.low) * Fraction(place)
        else:
            start, end = self.logarithms
            with localcontext(_DECIMALS):
                found = Fraction((start + (end - start) * Decimal(place)).exp())
        if self.is_whole:
            return min(max(math.floor(found), int(self.low)), int(self.high) - 1)
        return float(min(max(found, self.low), self.high)) + 0.0


def _logarithm(number: Fraction) -> Decimal:
    with localcontext(_DECIMALS):
        return (Decimal(number.numerator) / Decimal(number.denominator)).ln()


Choice = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """Names, and how their values are drawn."""

    names: tuple[str, ...]
    axes: tuple[SampledRange | Choice, ...]
    method: str
    n: int
    seed: int

    def expand(self, outer: Mapping[str, Value]) -> Sets:  # noqa: ARG002 - samples depend on nothing
        """Return the sets that are drawn, each once."""
        sets = {}
        for place in unit_points(self.method, self.n, len(self.axes), self.seed):
            codes = tuple(map(_code, self.axes, place))
            if codes not in sets:
                sets[codes] = dict(zip(self.names, map(_value, self.axes, codes), strict=True))
        return Sets(list(sets.values()), repeated=self.n - len(sets))


def _code(axis: SampledRange | Choice, place: float) -> int | float:
    """Return what is drawn, of a list the index: every value has a cell of the same width."""
    return axis.at(place) if isinstance(axis, SampledRange) else min(int(place * len(axis)), len(axis) - 1)


def _value(axis: SampledRange | Choice, code: int | float) -> Value:
    return code if isinstance(axis, SampledRange) else axis[int(code)]


def unit_points(method: str, n: int, dimensions: int, seed: int) -> list[list[float]]:
    """Return n points of the unit cube; more points begin with the same ones, except for a Latin hypercube.

    SciPy takes two seconds to import, so it is imported here, where somebody wants samples.
    """
    from numpy.random import PCG64, Generator  # noqa: PLC0415

    generator = Generator(PCG64(seed))
    if method == "random":
        points: list[list[float]] = generator.random((n, dimensions)).tolist()
        return points
    from scipy.stats import qmc  # noqa: PLC0415

    if method == "sobol":  # a whole power of two at once: SciPy warns about any other number of points
        points = qmc.Sobol(dimensions, scramble=True, seed=generator).random_base2((n - 1).bit_length())[:n].tolist()
    else:
        points = qmc.LatinHypercube(dimensions, seed=generator).random(n).tolist()
    return points


def read_sample(
    table: Any, key: KeyPath, faults: Faults, definitions: Definitions, warnings: list[str]
) -> list[Sample]:
    """Return what ``{method, n, seed, axes}`` asks for, as one factor."""
    if not isinstance(table, Mapping):
        faults.add(key, f"write a table, as in {{method = 'sobol', n = 64, axes = {{...}}}}, got {shown(table)}")
        return []
    faults.check_keys(table, key, _WORDS)
    for word in ("method", "n", "axes"):
        if word not in table:
            faults.add(key, f"the required key {word!r} is missing")
    method = read_choice(table, "method", METHODS, key, faults)
    n = read_count(table, "n", key, faults) if "n" in table else None
    seed = table.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0 or seed.bit_length() > BITS:
        faults.add((*key, "seed"), f"write a whole number from 0 up, got {shown(seed)}")
        return []
    axes = _read_axes(table["axes"], (*key, "axes"), faults, definitions) if "axes" in table else {}
    if len(axes) > _MOST_AXES or (n or 0) * len(axes) > _MOST_NUMBERS:
        most = f"at most {_MOST_AXES} axes, and {_MOST_NUMBERS} numbers in all"
        faults.add(key, f"{n} points of {len(axes)} axes are too many: {most}")
        return []
    if n is None or not method or not axes:
        return []
    if method == "sobol" and n & (n - 1):
        below = 1 << (n.bit_length() - 1)
        rest = f"they are when n is a power of two: write n = {below} or n = {2 * below}"
        warnings.append(f"{dotted(key)}: {n} Sobol points are not evenly spread; {rest}")
    return [Sample(tuple(axes), tuple(axes.values()), method, n, seed)]


def _read_axes(table: Any, key: KeyPath, faults: Faults, definitions: Definitions) -> dict[str, SampledRange | Choice]:
    axes: dict[str, SampledRange | Choice] = {}
    for leaf in leaves(table, key, faults, is_axis):
        definitions.define(leaf.name, leaf.key)
        axis = _read_range(leaf, faults) if is_range(leaf.value) else _read_choice(leaf, faults)
        if axis is not None:
            axes[leaf.name] = axis
    return axes


def _read_choice(leaf: Leaf, faults: Faults) -> Choice | None:
    values: Sequence[Value] | None = read_values(leaf, faults)
    check_distinct(leaf, values or [], faults)
    return tuple(values) if values else None


def _read_range(leaf: Leaf, faults: Faults) -> SampledRange | None:
    table, key = leaf.value, leaf.key
    faults.check_keys(table, key, _RANGE_WORDS)
    low, high = (read_number(table, end, key, faults) for end in ("min", "max"))
    scale = read_choice(table, "scale", ("linear", "log"), key, faults)
    is_whole = read_choice(table, "type", ("int", "float"), key, faults) == "int"
    if low is None or high is None:
        return None
    if low >= high:
        faults.add(key, f"a range to draw from needs min below max, got {shown(low)} and {shown(high)}")
    elif scale == "log" and low <= 0:
        faults.add((*key, "min"), f"a logarithmic range needs min above 0, got {shown(low)}")
    elif is_whole and (low != int(low) or high != int(high)):
        faults.add(key, f"type = 'int' needs whole numbers for min and max, got {shown(low)} and {shown(high)}")
    else:
        ends = fraction(low), fraction(high) + (1 if is_whole else 0)
        logarithms = (_logarithm(ends[0]), _logarithm(ends[1])) if scale == "log" else None
        return SampledRange(*ends, is_whole, logarithms)
    return None
