"""What a fit says while it goes on: its history, a line of log, what a search may prune by, and its state on disk."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from socm_like.workflow import STEPS
from socm_workflows.fit.checkpoint import Checkpoint
from socm_workflows.fit.solver.iteration import Progress


@dataclass(slots=True)
class Report:
    """Follows the fit of one task, which with several starts is several iterations, one after the other."""

    directory: Path
    logs: bool = False
    """Whether to write a line per iteration to stdout."""
    reports: bool = False
    """Whether to write :data:`STEPS`."""
    keeps: bool = False
    """Whether to keep the state on disk, and to go on from one that is there."""
    history: dict[int, float] = field(default_factory=dict)
    """Cost after each step that was tried, counted through all iterations."""
    ends: tuple[float, ...] = ()
    """Costs where each of several starts ended or was given up, on the points they were compared on."""
    reached_best: int = 1
    """Starts that ended in the best minimum."""
    _checkpoint: Checkpoint | None = None
    _offset: int = 0

    def __post_init__(self) -> None:
        if self.reports or self.keeps:
            self.directory.mkdir(parents=True, exist_ok=True)
        if self.keeps and any(self.directory.glob("checkpoint-*.json")):
            self.history = _read_steps(self.directory / STEPS)
        else:
            (self.directory / STEPS).unlink(missing_ok=True)

    def begin(self, number: int, problem: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Begin the iteration of that number; return the state to go on from, if one was kept.

        Raises ValueError: what was kept is no state of this problem.
        """
        self._offset = 0 if number == 0 else max(self.history, default=-1) + 1
        if not self.keeps:
            return None
        self._checkpoint = Checkpoint(self.directory / f"checkpoint-{number}.json", problem)
        return self._checkpoint.read()

    def __call__(self, progress: Progress) -> None:
        """Take note of an iteration."""
        step = self._offset + progress.iteration
        if self.logs:
            sys.stdout.write(line_of(progress) + "\n")
            sys.stdout.flush()
        if (self.reports or self.keeps) and step not in self.history:
            with (self.directory / STEPS).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "value": progress.cost}) + "\n")
        self.history[step] = progress.cost
        if self._checkpoint is not None:
            self._checkpoint(progress)

    def end(self) -> None:
        """Remove the states: the result says it all. What was not asked for goes too."""
        for path in self.directory.glob("checkpoint-*.json"):
            Checkpoint(path, {}).remove()
        if self.keeps and not self.reports:
            (self.directory / STEPS).unlink(missing_ok=True)


def line_of(progress: Progress) -> str:
    """Return an iteration as a line of a log."""
    return (
        f"iteration {progress.iteration}  cost {progress.cost:.9e}  relative offset {progress.optimality:.1e}"
        f"  evaluations {progress.evaluations}"
    )


def _read_steps(path: Path) -> dict[int, float]:
    """Return the costs that an attempt before has reported; the last line may be torn."""
    steps: dict[int, float] = {}
    if not path.is_file():
        return steps
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        steps[int(entry["step"])] = float(entry["value"])
    path.write_text("".join(json.dumps({"step": k, "value": v}) + "\n" for k, v in steps.items()), encoding="utf-8")
    return steps
