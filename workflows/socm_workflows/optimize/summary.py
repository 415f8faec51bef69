"""What a search leaves: every trial as a row, the best one, and the counts."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socm_like.journal import TaskState
from socm_workflows.optimize.outcome import Outcome, Verdict, judge
from socm_workflows.optimize.space import find_parameter

SHOWN_REASONS = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One trial as it ended."""

    number: int
    task: str
    state: TaskState
    outcome: Outcome
    parameters: Mapping[str, Any]
    """Dotted name -> value, of what was searched."""
    metrics: Mapping[str, Any]
    steps: tuple[tuple[int, float], ...]
    folder: str | None
    started: str | None
    ended: str | None


@dataclass(frozen=True, slots=True)
class Summary:
    """All trials of a search, and what was sought."""

    entries: tuple[Entry, ...]
    names: tuple[str, ...]
    """Of the parameters."""
    metric: str
    direction: str
    """``minimize`` or ``maximize``."""

    def count(self, verdict: Verdict) -> int:
        """Return how many trials ended so."""
        return sum(entry.outcome.verdict is verdict for entry in self.entries)

    @property
    def failed(self) -> int:
        """How many trials have neither a value nor were pruned."""
        return len(self.entries) - self.count(Verdict.COMPLETE) - self.count(Verdict.PRUNED)

    def best(self) -> Entry:
        """Return the first of the best trials.

        Raises ValueError with the first reasons when none succeeded.
        """
        sign = 1.0 if self.direction == "minimize" else -1.0
        found = [(sign * entry.outcome.value, entry) for entry in self.entries if entry.outcome.value is not None]
        if not found:
            raise ValueError(self._nothing_found())
        return min(found, key=lambda pair: pair[0])[1]

    def metrics(self) -> dict[str, Any]:
        """Return the result of the search as JSON values."""
        best = self.best()
        return {
            "best_value": best.outcome.value,
            "best_trial": best.number,
            "best": dict(best.parameters),
            "completed": self.count(Verdict.COMPLETE),
            "failed": self.failed,
            "pruned": self.count(Verdict.PRUNED),
        }

    def _nothing_found(self) -> str:
        if not self.entries:
            return "no trial was run"
        failures = [entry for entry in self.entries if entry.outcome.reason]
        reasons = [f"{entry.task}: {entry.outcome.reason}" for entry in failures[:SHOWN_REASONS]]
        more = len(failures) - len(reasons)
        counts = f"{self.failed} failed, {self.count(Verdict.PRUNED)} pruned"
        shown = f"; {'; '.join(reasons)}" if reasons else ""
        return f"none of {len(self.entries)} trials succeeded: {counts}{shown}{f'; and {more} more' if more else ''}"


def read_summary(path: Path, *, names: Sequence[str], metric: str, direction: str) -> Summary:
    """Return the trials that the runner wrote, as JSON."""
    entries = []
    for number, trial in enumerate(json.loads(path.read_text(encoding="utf-8"))["trials"]):
        state = TaskState(trial["state"])
        entries.append(
            Entry(
                number=number,
                task=trial["task"],
                state=state,
                outcome=judge(state, trial["metrics"], trial["reason"], metric),
                parameters={name: find_parameter(trial["parameters"], name) for name in names},
                metrics=trial["metrics"],
                steps=tuple((int(step), float(value)) for step, value in trial["steps"]),
                folder=trial["folder"],
                started=trial["started"],
                ended=trial["ended"],
            )
        )
    return Summary(tuple(entries), tuple(names), metric, direction)


def write_trials(summary: Summary, path: Path) -> None:
    """Write one row per trial; what does not exist is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("trial", "task", "state", "value", *summary.names, "started", "ended", "reason"))
        for entry in summary.entries:
            values = [_cell(value) for value in entry.parameters.values()]
            times = (entry.started, entry.ended)
            state, outcome = entry.state.value, entry.outcome
            writer.writerow((entry.number, entry.task, state, outcome.value, *values, *times, outcome.reason))


def write_best(summary: Summary, path: Path) -> None:
    """Write the best trial as JSON."""
    best = summary.best()
    content = {
        "trial": best.number,
        "task": best.task,
        "metric": summary.metric,
        "value": best.outcome.value,
        "parameters": dict(best.parameters),
        "metrics": dict(best.metrics),
        "folder": best.folder,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _cell(value: Any) -> Any:
    """Return a truth value as TOML and JSON write it."""
    return str(value).lower() if isinstance(value, bool) else value
