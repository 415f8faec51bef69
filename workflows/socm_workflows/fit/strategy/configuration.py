"""WorkflowConfig: what is said about how to fit. What is not said is None, and left to whoever says it next.

Three sources of it are read here or beside: the presets, ``nlsq.yaml`` (yaml_file.py) and the variables ``NLSQ_*``.
settings.py lays one over the other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from socm_like.errors import suggest
from socm_workflows.fit.strategy.memory import MEMORY_LIMIT, checked_limit, read_limit
from socm_workflows.fit.strategy.streaming_config import SAMPLERS
from socm_workflows.fit.strategy.tiers import OptimizationGoal, WorkflowTier, read_goal, read_tier

WORKFLOW_GOAL = "NLSQ_WORKFLOW_GOAL"
CHECKPOINT_DIR = "NLSQ_CHECKPOINT_DIR"
ENABLE_CHECKPOINTING = "NLSQ_ENABLE_CHECKPOINTING"

_KEYWORDS = {"tier": "workflow"}
"""Fields that :func:`fit` calls differently."""


@dataclass(frozen=True)
class StatedCluster:
    """The ``cluster`` of ``nlsq.yaml``: nodes that the user says there are."""

    type: str
    nodes: int = 1
    gpus_per_node: int = 0


@dataclass(frozen=True)
class WorkflowConfig:
    """How to fit: strategy, goal, tolerances, starts, memory, checkpoints. None means: not said.

    Reads like a mapping of what is said, in the keywords of ``fit``, so that ``fit(..., **config)`` works too.

    Raises ValueError, naming the field, what was found and what is allowed; all faults at once.
    """

    tier: WorkflowTier | str | None = None
    goal: OptimizationGoal | str | None = None
    gtol: float | None = None
    ftol: float | None = None
    xtol: float | None = None
    max_nfev: int | None = None
    multistart: bool | None = None
    n_starts: int | None = None
    sampler: str | None = None
    center_on_p0: bool | None = None
    scale_factor: float | None = None
    seed: int | None = None
    memory_limit_gb: float | None = None
    safety_factor: float | None = None
    chunk_size: int | None = None
    enable_checkpointing: bool | None = None
    checkpoint_dir: Path | str | None = None
    cluster: StatedCluster | None = None
    description: str = ""

    def __post_init__(self) -> None:
        faults = []
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is None:
                continue
            try:
                object.__setattr__(self, name, check(value, name))
            except ValueError as error:
                faults.append(str(error))
        if self.multistart is False and (self.n_starts or 1) > 1:
            faults.append(f"multistart is False, but n_starts is {self.n_starts}")
        if self.multistart and self.n_starts == 1:
            faults.append("multistart is True, but n_starts is 1")
        if faults:
            raise ValueError("\n".join(faults))

    def keys(self) -> list[str]:
        """Return the keywords of ``fit`` that this says something about."""
        return [_KEYWORDS.get(name, name) for name in self._said()]

    def __getitem__(self, key: str) -> Any:
        said = self._said()
        name = next((name for name in said if _KEYWORDS.get(name, name) == key), key)
        if name not in said:
            raise KeyError(f"{key}{suggest(key, self.keys())} (it says {', '.join(self.keys()) or 'nothing'})")
        return said[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._said())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def items(self) -> list[tuple[str, Any]]:
        """Return keywords and values of what is said."""
        return [(key, self[key]) for key in self.keys()]

    def get(self, key: str, default: Any = None) -> Any:
        """Return what is said about a keyword, or the default."""
        return dict(self.items()).get(key, default)

    def __repr__(self) -> str:
        inside = ", ".join(f"{key}={_shown(value)}" for key, value in self.items())
        return f"{type(self).__name__}({inside})"

    def _said(self) -> dict[str, Any]:
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "description"}
        return {name: value for name, value in values.items() if value is not None}

    def over(self, below: WorkflowConfig) -> Self:
        """Return what this says, and where it says nothing, what the other does.

        A goal rules tolerances and starts. So a goal stated here drops those that were stated below.
        """
        kept = replace(below, gtol=None, ftol=None, xtol=None, multistart=None, n_starts=None) if self.goal else below
        said = self._said()
        if self.n_starts is not None or (self.multistart and kept.multistart is False):
            kept = replace(kept, multistart=None, n_starts=None)
        elif self.multistart is not None:
            kept = replace(kept, multistart=None, n_starts=kept.n_starts if self.multistart else None)
        return replace(self, **{**kept._said(), **said})


def _shown(value: Any) -> str:
    return repr(value.value) if isinstance(value, WorkflowTier | OptimizationGoal) else repr(value)


def _boolean(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{where} is {value!r}: write true or false")
    return value


def _whole(least: int) -> Callable[[Any, str], int]:
    def check(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{where} is {value!r}: write a whole number of at least {least}")
        return value

    return check


def _positive(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{where} is {value!r}: write a positive number")
    return float(value)


def _part(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError(f"{where} is {value!r}: write a number above 0, at most 1")
    return float(value)


def _tolerance(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"{where} is {value!r}: write a number of at least 0, below 1, such as 1e-8")
    return float(value)


def _limit(value: Any, where: str) -> float:
    if not isinstance(value, int | float):
        raise ValueError(f"{where} is {value!r}: write a positive number of GB, such as 16")
    return checked_limit(value, where)


def _sampler(value: Any, where: str) -> str:
    name = value.lower() if isinstance(value, str) else ""
    if name not in SAMPLERS:
        raise ValueError(f"{where} is {value!r}{suggest(name, SAMPLERS)} (one of {', '.join(SAMPLERS)})")
    return name


def _path(value: Any, where: str) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f"{where} is {value!r}: write the path of a directory")
    return Path(value).expanduser()


_CHECKS: Mapping[str, Callable[[Any, str], Any]] = MappingProxyType(
    {
        "tier": read_tier,
        "goal": read_goal,
        "gtol": _tolerance,
        "ftol": _tolerance,
        "xtol": _tolerance,
        "max_nfev": _whole(1),
        "multistart": _boolean,
        "n_starts": _whole(1),
        "sampler": _sampler,
        "center_on_p0": _boolean,
        "scale_factor": _positive,
        "seed": _whole(0),
        "memory_limit_gb": _limit,
        "safety_factor": _part,
        "chunk_size": _whole(1),
        "enable_checkpointing": _boolean,
        "checkpoint_dir": _path,
    }
)

_TRUTHS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def read_environment(environ: Mapping[str, str] = os.environ) -> WorkflowConfig:
    """Return what the variables ``NLSQ_*`` say; one that is empty says nothing.

    Raises ValueError: values that are wrong, each with its variable.
    """
    said: dict[str, Any] = {}
    faults = []
    for variable, (name, read) in _VARIABLES.items():
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            said[name] = read(text, variable)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError("\n".join(faults))
    return WorkflowConfig(**said)


def _truth(text: str, where: str) -> bool:
    if text.lower() not in _TRUTHS:
        raise ValueError(f"{where} is {text!r}: write 1 or 0")
    return _TRUTHS[text.lower()]


_VARIABLES: Mapping[str, tuple[str, Callable[[str, str], Any]]] = MappingProxyType(
    {
        WORKFLOW_GOAL: ("goal", read_goal),
        MEMORY_LIMIT: ("memory_limit_gb", read_limit),
        CHECKPOINT_DIR: ("checkpoint_dir", _path),
        ENABLE_CHECKPOINTING: ("enable_checkpointing", _truth),
    }
)
