"""What may be searched: parameters by their dotted names, each a range or a list of choices. Standard library only.

Names are kept in sorted order, as the identity of a search does not see the order in which a table is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from socm_like.errors import listed, suggest

Value = bool | int | float | str
Point = dict[str, Value]
"""Dotted name -> value."""

_KEYS = ("min", "max", "scale", "type", "step")
_SCALES = ("linear", "log")
_TYPES = ("float", "int")


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; with a step only ``low + k * step``."""

    low: float
    high: float
    log: bool = False
    whole: bool = False
    step: float | None = None
    """None for a continuum, or for every whole number."""

    @property
    def size(self) -> int | None:
        """How many values there are; None for a continuum."""
        step = 1 if self.whole and self.step is None else self.step
        return None if step is None else int((_exact(self.high) - _exact(self.low)) / _exact(step)) + 1

    def at(self, index: int) -> Value:
        """Return a value by its number, counted from 0; only where there is a size."""
        value = _exact(self.low) + index * _exact(1 if self.step is None else self.step)
        return int(value) if self.whole else float(value)

    def end(self, *, last: bool) -> Value:
        """Return the lowest or the highest value."""
        return self.nearest(self.high if last else self.low)

    def problem(self, value: Any) -> str:
        """Return why a value is none of these, or an empty string."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"write a number, got {value!r}"
        if not self.low <= value <= self.high:
            return f"{value!r} is not in {self._shown(self.low)} to {self._shown(self.high)}"
        if self.whole and value != int(value):
            return f"{value!r} is not a whole number"
        if self.size is not None and self.at(self.index(value)) != value:
            return f"{value!r} is not {self._shown(self.low)} plus a multiple of {self._shown(self.step or 1)}"
        return ""

    def index(self, value: float) -> int:
        """Return the number of the value nearest to this one; only where there is a size."""
        position = (_exact(value) - _exact(self.low)) / _exact(1 if self.step is None else self.step)
        return min(max(round(position), 0), (self.size or 1) - 1)

    def nearest(self, value: float) -> Value:
        """Return the value of the range that is nearest to this one."""
        return min(max(float(value), self.low), self.high) if self.size is None else self.at(self.index(value))

    def _shown(self, number: float) -> str:
        return str(int(number)) if self.whole else repr(float(number))


@dataclass(frozen=True, slots=True)
class Choices:
    """One of several values."""

    options: tuple[Value, ...]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.options)

    def at(self, index: int) -> Value:
        """Return a value by its number, counted from 0."""
        return self.options[index]

    def end(self, *, last: bool) -> Value:
        """Return the first or the last value."""
        return self.options[-1 if last else 0]

    def problem(self, value: Any) -> str:
        """Return why a value is none of these, or an empty string."""
        if value in self.options:
            return ""
        return f"{value!r} is no choice{suggest(str(value), map(str, self.options))}; choices: {_written(self.options)}"


Axis = Range | Choices
Space = dict[str, Axis]
"""Dotted name -> axis, in sorted order of the names."""


def read_space(table: Mapping[str, Any]) -> Space:
    """Return the space that a table describes.

    Raises ValueError naming every fault.
    """
    axes: dict[str, Axis] = {}
    problems: list[str] = []
    for name, node in _leaves(table):
        try:
            if name in axes:
                raise ValueError("stands twice, once with its dots in quotes")
            axes[name] = _read_axis(node)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ValueError("; ".join(problems))
    if not axes:
        raise ValueError("nothing to search: write parameter = {min = ..., max = ...} or a list of choices")
    return {name: axes[name] for name in sorted(axes)}


def read_point(table: Mapping[str, Any], space: Space) -> Point:
    """Return values for some or all parameters of a space, by dotted names.

    Raises ValueError naming every fault.
    """
    found = dict(_leaves(table, only_tables=True))
    unknown = [name for name in found if name not in space]
    problems = [f"unknown parameter {name!r}{suggest(name, space)}" for name in unknown]
    for name in sorted(found.keys() - set(unknown)):
        problem = space[name].problem(found[name])
        problems += [f"{name}: {problem}"] if problem else []
    if problems:
        raise ValueError("; ".join(problems) + (f"; the space has: {listed(space)}" if unknown else ""))
    return {name: _of_axis(space[name], found[name]) for name in space if name in found}


def find_value(fields: Mapping[str, Any], name: str) -> Any:
    """Return what stands under a name, its dots leading into nested tables; None where nothing does."""
    if name in fields:
        return fields[name]
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        inner = fields.get(".".join(parts[:count]))
        if isinstance(inner, Mapping):
            return find_value(inner, ".".join(parts[count:]))
    return None


def find_parameter(fields: Mapping[str, Any], name: str) -> Any:
    """Return the value of a searched parameter among a workflow's own fields; its free parameters stand among them."""
    found = find_value(fields, name)
    return find_value(fields, name.removeprefix("parameters.")) if found is None else found


def count_points(space: Space) -> int | None:
    """Return how many points a space has; None where an axis is a continuum."""
    sizes = [axis.size for axis in space.values()]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def every_point(space: Space) -> Iterator[Point]:
    """Yield the points of a finite space, the last name changing fastest."""
    for number in range(count_points(space) or 0):
        rest, indices = number, list[int]()
        for axis in reversed(space.values()):
            rest, index = divmod(rest, axis.size or 1)
            indices.append(index)
        yield {name: axis.at(index) for (name, axis), index in zip(space.items(), reversed(indices), strict=True)}


def from_unit(axis: Axis, position: float) -> Value:
    """Return the value at a position from 0 to 1, along the logarithm where the scale is; equal shares for each."""
    if isinstance(axis, Choices) or (axis.size is not None and not axis.log):
        size = axis.size or 1
        return axis.at(min(int(position * size), size - 1))
    low, high = _ends(axis)
    value = low + position * (high - low)
    return axis.nearest(math.exp(value) if axis.log else value)


def to_unit(axis: Axis, value: Value) -> float:
    """Return the position of a value from 0 to 1, the middle of its share."""
    if isinstance(axis, Choices):
        return (axis.options.index(value) + 0.5) / axis.size
    if axis.size is not None and not axis.log:
        return (axis.index(float(value)) + 0.5) / axis.size
    low, high = _ends(axis)
    return ((math.log(float(value)) if axis.log else float(value)) - low) / (high - low)


def _ends(axis: Range) -> tuple[float, float]:
    """Return what is 0 and what is 1; whole numbers on a log scale have half a number more on either side."""
    margin = 0.5 if axis.whole else 0.0
    low, high = axis.low - margin, axis.high + margin
    return (math.log(low), math.log(high)) if axis.log else (low, high)


def grid_problem(space: Space) -> str:
    """Return why a space is no grid, or an empty string."""
    endless = [name for name, axis in space.items() if axis.size is None]
    if not endless:
        return ""
    rest = count_points({name: axis for name, axis in space.items() if name not in endless})
    others = f"; the other parameters make {rest} points" if len(endless) < len(space) else ""
    return f"a grid needs a finite space: give {', '.join(endless)} a step, or a list of choices{others}"


def _leaves(table: Mapping[str, Any], prefix: str = "", only_tables: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield dotted names with what they stand for: a table with a scalar in it is a range, others are nested."""
    for key, node in table.items():
        is_table = isinstance(node, Mapping)
        is_nested = is_table and node and all(isinstance(item, Mapping | list | tuple) for item in node.values())
        if is_nested or (is_table and only_tables):
            yield from _leaves(node, f"{prefix}{key}.", only_tables)
        else:
            yield f"{prefix}{key}", node


def _read_axis(node: Any) -> Axis:
    if isinstance(node, list | tuple):
        return _read_choices(node)
    if isinstance(node, Mapping) and node:
        return _read_range(node)
    raise ValueError(f"write {{min = ..., max = ...}} or a list of choices, got {node!r}")


def _read_choices(options: Sequence[Any]) -> Choices:
    if not options:
        raise ValueError("the list of choices is empty")
    for index, option in enumerate(options):
        is_endless = isinstance(option, float) and not math.isfinite(option)
        if is_endless or not isinstance(option, bool | int | float | str):
            raise ValueError(f"a choice is a finite number, a text or a truth value, got {option!r}")
        if option in options[:index]:
            raise ValueError(f"choice {option!r} stands twice")
    return Choices(tuple(options))


def _read_range(node: Mapping[str, Any]) -> Range:
    unknown = [f"{key!r}{suggest(key, _KEYS)}" for key in node if key not in _KEYS]
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)}; a range has: {listed(_KEYS)}")
    missing = [key for key in ("min", "max") if key not in node]
    if missing:
        raise ValueError(f"a range needs {' and '.join(missing)}")
    scale, kind = _word(node, "scale", _SCALES), _word(node, "type", _TYPES)
    low, high = _number(node, "min"), _number(node, "max")
    step = _number(node, "step") if node.get("step") is not None else None
    if kind == "int":
        for key, number in (("min", low), ("max", high), ("step", step)):
            if number is not None and number != int(number):
                raise ValueError(f'{key} {number!r} is not a whole number; with type = "int" it must be')
    if low >= high:
        raise ValueError(f"min {node['min']!r} is not below max {node['max']!r}")
    if scale == "log" and low <= 0:
        raise ValueError(f'min {node["min"]!r} is not positive; with scale = "log" it must be')
    if step is not None and scale == "log":
        raise ValueError('a range with scale = "log" has no step; write a list of choices')
    if step is not None and not 0 < step <= high - low:
        raise ValueError(f"step {node['step']!r} is not between 0 and max - min")
    return Range(low, high, log=scale == "log", whole=kind == "int", step=step)


def _word(node: Mapping[str, Any], key: str, allowed: Sequence[str]) -> str:
    word = node.get(key, allowed[0])
    if word not in allowed:
        raise ValueError(f"{key} {word!r}{suggest(str(word), allowed)}; write one of: {listed(allowed)}")
    return str(word)


def _number(node: Mapping[str, Any], key: Literal["min", "max", "step"]) -> float:
    number = node[key]
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"{key}: write a finite number, got {number!r}")
    return number


def _of_axis(axis: Axis, value: Any) -> Value:
    """Return a value as its axis has it: a whole number as int, a choice as it is listed."""
    return axis.nearest(value) if isinstance(axis, Range) else axis.options[axis.options.index(value)]


def _written(options: Sequence[Value]) -> str:
    shown = [repr(option) for option in options[:20]]
    return ", ".join(shown) + (f" and {len(options) - 20} more" if len(options) > 20 else "")


def _exact(number: float) -> Decimal:
    """Return the decimal that a number is written as, so that 0.1 + 2 * 0.1 is 0.3."""
    return Decimal(str(number))
