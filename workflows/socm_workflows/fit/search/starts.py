"""What a fit begins with, from what the user wrote: names of the parameters, bounds, and a start; as SciPy has it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def names_of(model: Callable[..., Any], size: int | None) -> tuple[str, ...]:
    """Return the names of the parameters of ``model(x, a, b, ...)``; ``size`` is how many p0 has, None without p0.

    A model of ``*parameters`` has as many as p0, called p0, p1 and so on.

    Raises ValueError: they cannot be counted, or p0 has another number.
    """
    if not callable(model):
        raise ValueError(f"the model is {model!r}: write a function f(x, a, b, ...)")
    try:
        parameters = list(inspect.signature(model).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = tuple(parameter.name for parameter in parameters if parameter.kind in POSITIONAL)[1:]
    is_open = not parameters or any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    title = getattr(model, "__name__", type(model).__name__)
    if is_open:
        if size is None:
            raise ValueError(f"the number of parameters of {title} cannot be told from its signature: give p0")
        return names[:size] + tuple(f"p{number}" for number in range(len(names), size))
    if not names:
        raise ValueError(f"{title} has no parameters to fit: write f(x, a, b, ...), x first, then one per parameter")
    required = [
        parameter for parameter in parameters[1:]
        if parameter.kind in POSITIONAL and parameter.default is inspect.Parameter.empty
    ]  # fmt: skip
    if size is not None and not len(required) <= size <= len(names):
        raise ValueError(f"p0 has {size} numbers, and {title} has {len(names)} parameters: {', '.join(names)}")
    return names if size is None else names[:size]


def read_start(p0: ArrayLike | None) -> Floats | None:
    """Return p0 as an array (p,); None, or the word ``auto``, is none. Raises ValueError: it is no list of numbers."""
    if p0 is None or (isinstance(p0, str) and p0 == "auto"):
        return None
    start = np.atleast_1d(np.asarray(p0, dtype=np.float64))
    if start.ndim != 1 or not start.size or not np.all(np.isfinite(start)):
        raise ValueError(f"p0 is {p0!r}: write one finite number per parameter")
    return start


def read_bounds(bounds: Any, size: int) -> tuple[Floats, Floats]:
    """Return lower and upper bounds, (p,) each; a pair of numbers or arrays, or an object with ``lb`` and ``ub``.

    Raises ValueError: they are no pair, have another number, or leave no room.
    """
    if bounds is None:
        bounds = (-np.inf, np.inf)
    pair = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") and hasattr(bounds, "ub") else tuple(bounds)
    if len(pair) != 2:
        raise ValueError(f"bounds has {len(pair)} entries: write (lower, upper), each a number or one per parameter")
    sides = []
    for word, side in zip(("lower", "upper"), pair, strict=True):
        values = np.asarray(side, dtype=np.float64)
        if values.shape not in ((), (1,), (size,)) or np.any(np.isnan(values)):
            raise ValueError(f"bounds: the {word} ones are {side!r}: write one number, or {size}, none of them nan")
        sides.append(np.array(np.broadcast_to(values, (size,))))
    lower, upper = sides
    if np.any(lower >= upper):
        number = int(np.argmax(lower >= upper))
        raise ValueError(
            f"bounds of parameter {number} are {lower[number]:g} and {upper[number]:g}: "
            "each lower bound must be less than the upper one; to hold a parameter, write it into the model"
        )
    return lower, upper


def default_start(lower: Floats, upper: Floats) -> Floats:
    """Return SciPy's start: 1, the middle of two bounds, or 1 away from a single one."""
    start = np.ones(lower.size)
    has_lower, has_upper = np.isfinite(lower), np.isfinite(upper)
    both = has_lower & has_upper
    start[both] = lower[both] / 2 + upper[both] / 2
    start[has_lower & ~has_upper] = lower[has_lower & ~has_upper] + 1
    start[has_upper & ~has_lower] = upper[has_upper & ~has_lower] - 1
    return start
