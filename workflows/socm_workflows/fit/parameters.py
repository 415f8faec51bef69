"""What is wrong with the starting values and bounds of a fit, and what presets and goals make of its keys.

Pure, so that a campaign can be checked without JAX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from socm_like.errors import suggest
from socm_workflows.fit.strategy.presets import WORKFLOW_PRESETS, get_preset
from socm_workflows.fit.strategy.tiers import GOALS, OptimizationGoal, WorkflowTier

Start = Mapping[str, float] | tuple[float, ...]
Bounds = Mapping[str, tuple[float | None, float | None]]

LOSSES = ("linear", "soft_l1", "huber", "cauchy", "arctan")
"""Those with a name; as in loss.py, which imports JAX."""
TOLERANCES = ("gtol", "ftol", "xtol")


def told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a fit with what its preset and its goal say about those that are not given.

    Words that are unknown are left for the checks of their keys.
    """
    given = dict(values)
    if str(given.get("preset")).lower() in WORKFLOW_PRESETS:
        given = {**_said_by_preset(given["preset"]), **given}
    goal = given.get("goal")
    if goal not in list(OptimizationGoal):
        return given
    starts = GOALS[OptimizationGoal(goal)].n_starts
    return {**dict.fromkeys(TOLERANCES), **({"multistart": starts} if starts > 1 else {}), **given}


def _said_by_preset(name: str) -> dict[str, Any]:
    """Return the keys of a fit that a preset sets."""
    preset = get_preset(name)
    said: dict[str, Any] = {key: getattr(preset, key) for key in (*TOLERANCES, "sampler", "seed")}
    said["goal"] = None if preset.goal is None else str(preset.goal)
    said["multistart"] = preset.n_starts if preset.multistart else preset.multistart
    if preset.tier is not None:
        is_stream = preset.tier in (WorkflowTier.STREAMING, WorkflowTier.STREAMING_CHECKPOINT)
        said["strategy"] = "streaming" if is_stream else str(preset.tier)
    said["checkpoint"] = preset.enable_checkpointing
    return {key: value for key, value in said.items() if value is not None}


def reference_problem(key: str, reference: str) -> str:
    """Return why a word is no loss or derivative, or an empty string; what has a colon in it is looked at later."""
    if key == "jac":
        return f'jac: {reference!r} names no function: write "file://models.py:function"' if reference else ""
    if reference in LOSSES:
        return ""
    near = suggest(reference, LOSSES)
    return f'no loss {reference!r}{near} (losses: {", ".join(LOSSES)}; your own: "file://losses.py:function")'


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
