"""The results of a run as rows: one per task, with its parameters, its metrics and its times.

Standard library only, so that ``campaign results`` starts at once.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from socm_like.journal import TaskState
from socm_like.status import RunStatus, TaskStatus, finite_json

FIXED = ("task", "workflow", "kind", "state", "started", "ended")
"""Columns that every table has."""


@dataclass(frozen=True, slots=True)
class Row:
    """One task and what it computed."""

    task: str
    workflow: str
    kind: str
    id: str
    state: TaskState
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Any]
    """Empty for a task without a result."""
    started: str | None
    ended: str | None

    def to_json(self) -> dict[str, Any]:
        """Return what ``campaign results --json`` prints for the task."""
        return {
            "task": self.task,
            "workflow": self.workflow,
            "kind": self.kind,
            "id": self.id,
            "state": self.state.value,
            "parameters": dict(self.parameters),
            "metrics": dict(self.metrics),
            "started": self.started,
            "ended": self.ended,
        }


@dataclass(frozen=True, slots=True)
class Results:
    """The rows of a run, in the order of its plan, and what should have been there but is not."""

    rows: tuple[Row, ...]
    problems: tuple[str, ...]
    """One sentence per task that succeeded and whose result cannot be read."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The flattened values of some rows: what the columns are called, and each row's values by column."""

    parameters: tuple[str, ...]
    metrics: tuple[str, ...]
    values: tuple[Mapping[str, Any], ...]


def read_results(status: RunStatus, tasks: Iterable[TaskStatus] | None = None) -> Results:
    """Return the results of a run's tasks; those that have not succeeded have no metrics."""
    rows, problems = [], []
    for task in status.tasks if tasks is None else tasks:
        result: Mapping[str, Any] = {}
        if task.state.is_success:
            try:
                result = _read_result(status, task)
            except (OSError, ValueError) as error:
                found = error.strerror if isinstance(error, OSError) else error
                path = status.directory.store / task.folder / "result.json"
                problems.append(
                    f"{task.task} is {task.state}, but {path} cannot be read: {found}; submit the campaign again"
                )
        rows.append(_row(task, result))
    return Results(tuple(rows), tuple(problems))


def columns_of(rows: Sequence[Row]) -> Columns:
    """Return the rows with parameters and metrics flattened to named columns.

    A table of values becomes columns with dotted names; what is deeper stays whole. A name that a parameter and a
    metric share, or that every table uses already, is told apart as ``parameters.x`` and ``metrics.x``.
    """
    parameters = [_flat(row.parameters) for row in rows]
    metrics = [_flat(row.metrics) for row in rows]
    parameter_names = dict.fromkeys(name for values in parameters for name in values)
    metric_names = dict.fromkeys(name for values in metrics for name in values)
    taken = (parameter_names.keys() & metric_names.keys()) | set(FIXED)
    of_parameter = _told_apart(parameter_names, "parameters", taken)
    of_metric = _told_apart(metric_names, "metrics", taken | set(of_parameter.values()))
    return Columns(
        parameters=tuple(of_parameter.values()),
        metrics=tuple(of_metric.values()),
        values=tuple(
            {of_parameter[name]: value for name, value in first.items()}
            | {of_metric[name]: value for name, value in second.items()}
            for first, second in zip(parameters, metrics, strict=True)
        ),
    )


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV with a header; numbers keep every digit, lists and deeper tables are JSON."""
    columns = columns_of(rows)
    names = (*columns.parameters, *columns.metrics)
    lines = [["task", "workflow", "kind", "state", *names, "started", "ended"]]
    for row, values in zip(rows, columns.values, strict=True):
        cells = [_exact(values.get(name)) for name in names]
        lines.append([row.task, row.workflow, row.kind, row.state, *cells, row.started or "", row.ended or ""])
    return "".join(",".join(map(_quoted, line)) + "\n" for line in lines)


def readable(values: Sequence[Any]) -> list[str]:
    """Return one column for the eye: numbers with the same decimals, five digits where they differ in size by little.

    Where sizes differ by more than a factor of 10^6, each number stands with its own exponent. Absolute paths stand
    without the folders that all of them share.
    """
    if len(values) > 1 and all(isinstance(value, str) and value.startswith("/") for value in values):
        shared = os.path.commonpath([os.path.dirname(value) for value in values])  # noqa: PTH120 - text, not files
        return [value.removeprefix(shared).removeprefix("/") for value in values]
    floats = [abs(value) for value in values if isinstance(value, float) and value != 0]
    exponents = [math.floor(math.log10(value)) for value in floats]
    lowest, highest = (min(exponents), max(exponents)) if exponents else (0, 0)
    if lowest < -4 or highest > 6 or highest - lowest > 6:
        return [f"{value:.5g}" if isinstance(value, float) else _exact(value) for value in values]
    decimals = max(4 - highest, 2 - lowest, 0)
    texts = [f"{value:.{decimals}f}" if isinstance(value, float) else _exact(value) for value in values]
    return _without_common_zeros(texts, values)


def _without_common_zeros(texts: Sequence[str], values: Sequence[Any]) -> list[str]:
    """Return the texts of floats without the zeros that all of them end in."""
    decimals = [text.partition(".")[2] for text, value in zip(texts, values, strict=True) if isinstance(value, float)]
    needed = max((len(part.rstrip("0")) for part in decimals), default=0)
    surplus = max((len(part) for part in decimals), default=0) - max(needed, 1)
    if surplus <= 0:
        return list(texts)
    return [
        text[: len(text) - surplus] if isinstance(value, float) else text
        for text, value in zip(texts, values, strict=True)
    ]


def is_short(values: Iterable[Any]) -> bool:
    """Whether no value of a column is a list or a table too long to read in a cell."""
    return all(not isinstance(value, list | Mapping) or len(_exact(value)) <= 16 for value in values)


def _read_result(status: RunStatus, task: TaskStatus) -> Mapping[str, Any]:
    """Return a task's result.

    Raises OSError when it cannot be read, ValueError when it is damaged or of another task.
    """
    path = f"{status.directory.store}/{task.folder}/result.json"
    with open(path, "rb") as file:  # noqa: PTH123 - ten thousand of them: pathlib costs more than the reading
        result = finite_json(file.read())
    if not isinstance(result, dict) or not isinstance(result.get("metrics"), dict):
        raise ValueError("it holds no table of metrics")
    if result.get("id") != task.id:
        raise ValueError(f"it belongs to the identity {str(result.get('id'))[:12]}")
    return result


def _row(task: TaskStatus, result: Mapping[str, Any]) -> Row:
    started, ended = (task.started, task.ended) if task.state is not TaskState.CACHED else (None, None)
    return Row(
        task=task.task,
        workflow=task.workflow,
        kind=task.kind,
        id=task.id,
        state=task.state,
        parameters=task.parameters,
        metrics=result.get("metrics", {}),
        started=started or result.get("started"),
        ended=ended or result.get("ended"),
    )


def _told_apart(names: Iterable[str], origin: str, taken: Set[str]) -> dict[str, str]:
    """Return what each name is called as a column: itself, or behind its origin when the name is taken."""
    called: dict[str, str] = {}
    used = set(taken)
    for name in sorted(names, key=lambda name: name in taken):  # who keeps its name goes first
        column = name
        while column in used:
            column = f"{origin}.{column}"
        called[name] = column
        used.add(column)
    return {name: called[name] for name in names}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with one level of tables opened, unless that would give two values one name."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value and not any(f"{name}.{key}" in values for key in value):
            flat.update({f"{name}.{key}": item for key, item in value.items()})
        else:
            flat[name] = value
    return flat


def _exact(value: Any) -> str:
    """Return a value for a cell: nothing for None, text as it is, all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _quoted(text: str) -> str:
    """Return text as a field of CSV (RFC 4180); the csv module leaves a lone carriage return bare."""
    return '"' + text.replace('"', '""') + '"' if any(char in text for char in ',"\r\n') else text
