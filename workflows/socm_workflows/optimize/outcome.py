"""What became of a trial: its value, or why it has none. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from socm_like.errors import listed, suggest
from socm_like.journal import TaskState
from socm_workflows.optimize.space import find_value


class Verdict(StrEnum):
    """What a search makes of a trial."""

    RUNNING = "running"
    """It has not ended, or it was cancelled and will be run again."""
    COMPLETE = "complete"
    """It succeeded and has a value."""
    PRUNED = "pruned"
    """The search stopped it, because others do better."""
    FAILED = "failed"
    """It did not succeed, or its metric is no finite number."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on a trial."""

    verdict: Verdict
    value: float | None = None
    """Only of a complete one."""
    reason: str = ""
    """Why it failed."""


def judge(state: TaskState, metrics: Mapping[str, Any], reason: str, metric: str) -> Outcome:
    """Return what a search makes of a trial in this state."""
    if state is TaskState.PRUNED:
        return Outcome(Verdict.PRUNED)
    if not state.is_final or state is TaskState.CANCELLED:
        return Outcome(Verdict.RUNNING)
    if not state.is_success:
        return Outcome(Verdict.FAILED, reason=f"{state.value}: {reason}" if reason else state.value)
    value = find_value(metrics, metric)
    if value is None:
        return Outcome(Verdict.FAILED, reason=_missing(metrics, metric))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return Outcome(Verdict.FAILED, reason=f"metric {metric!r} is {value!r}, not a finite number")
    return Outcome(Verdict.COMPLETE, float(value))


def _missing(metrics: Mapping[str, Any], metric: str) -> str:
    names = list(_names(metrics))
    return f"no metric {metric!r}{suggest(metric, names)}; it has: {listed(names)}"


def _names(metrics: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in metrics.items():
        names += _names(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return names
