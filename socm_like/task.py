"""One unit of execution: a value, made at planning time, written into the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from socm_like.resources import Prediction, Resources


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of execution, ready to be launched."""

    name: str
    workflow: str
    kind: str
    id: str
    """sha256 of what determines the result, 64 hex characters."""
    folder: str
    """Where its outputs go, relative to the store."""
    dependencies: tuple[str, ...]
    """Names of the tasks that must succeed first."""
    resources: Resources
    """What it asks for: the limits it runs under."""
    argv: tuple[str, ...] | None
    """The program, or None for a Python task."""
    environment: Mapping[str, str]
    outputs: Mapping[str, str]
    """Files that must exist at the end, relative to its folder."""
    metrics: str
    """A JSON file of metrics the program writes, or empty."""
    restartable: bool
    parameters: Mapping[str, Any]
    """The fields of the kind and the free parameters, as JSON; what tables show."""
    fields: Mapping[str, Any]
    """What a Python task is built from again, as JSON."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """The files its identity counts by content: absolute path -> sha256."""
    ancestors: Mapping[str, str] = field(default_factory=dict)
    """Workflow -> the one task of it that ``for_each`` led here from."""
    swept: tuple[str, ...] = ()
    """The parameters that a sweep gave it."""
    batch: str = ""
    """Tasks with the same text here can share one process; empty: none can."""
    trial_of: str = ""
    """The search that asked for it while the campaign ran; its failure is for that to judge."""
    search: Mapping[str, Any] | None = None
    """How the trials of a search are made: the recipe of the workflow it drives."""
    predicted: Prediction | None = None
    """What it will need by what tasks like it needed; None where there are too few of them."""
    stated: tuple[str, ...] = ()
    """Names of the resources that the user stated: no prediction is put in their place."""
    family: str = ""
    """The version of the kind and a digest of the program it runs: what tasks of one family need can be compared."""
