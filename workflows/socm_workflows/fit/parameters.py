"""What is wrong with the starting values and bounds of a fit; pure, so that a campaign can be checked without JAX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from socm_like.errors import suggest

Start = Mapping[str, float] | tuple[float, ...]
Bounds = Mapping[str, tuple[float | None, float | None]]


def start_problem(p0: Start, names: Sequence[str]) -> str:
    """Return why ``p0`` does not start these parameters, or an empty string."""
    there = f"the model has: {', '.join(names)}"
    if not isinstance(p0, Mapping):
        return "" if len(p0) == len(names) else f"{len(p0)} values for {len(names)} parameters; {there}"
    unknown = [f"unknown parameter {name!r}{suggest(name, names)}" for name in p0 if name not in names]
    missing = [f"no start for {name!r}" for name in names if name not in p0]
    return "; ".join([*unknown, *missing, there]) if unknown or missing else ""


def bounds_problems(bounds: Bounds, names: Sequence[str], start: Mapping[str, float]) -> list[str]:
    """Return what is wrong with the bounds: unknown names, low above high, a start outside. No names: none known."""
    problems = []
    for name, (low, high) in bounds.items():
        if names and name not in names:
            problems.append(f"unknown parameter {name!r}{suggest(name, names)}; the model has: {', '.join(names)}")
        if low is not None and high is not None and low >= high:
            problems.append(f"{name}: the low bound {low:g} is not below the high bound {high:g}")
        elif name in start and not (low is None or low <= start[name]):
            problems.append(f"{name}: p0 {start[name]:g} is below the low bound {low:g}")
        elif name in start and not (high is None or start[name] <= high):
            problems.append(f"{name}: p0 {start[name]:g} is above the high bound {high:g}")
    return problems
