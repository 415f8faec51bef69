"""The results of a run as rows: one per task, with its parameters, those of its ancestors, its metrics and its times.

Standard library only, so that ``campaign results`` starts at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from socm_like.errors import StoreError
from socm_like.journal import TaskState
from socm_like.status import RunStatus, TaskStatus, finite_json
from socm_like.units import parse_instant


@dataclass(frozen=True, slots=True)
class Ancestor:
    """The task of another workflow that a ``for_each`` or a shared sweep led here from."""

    task: str
    parameters: Mapping[str, Any]
    swept: tuple[str, ...] | None = None
    """The parameters that a sweep varied; None when the plan does not say."""
    folder: str = ""
    """Where its outputs are, absolute; empty when nobody asked."""


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
    attempts: int | None = None
    """How many this run launched: none of a cached task."""
    cpu: float | None = None
    """Seconds of all cores."""
    peak_memory: int | None = None
    """Bytes."""
    peak_gpu_memory: int | None = None
    """Bytes of the GPU of which it used most."""
    ancestors: Mapping[str, Ancestor] = field(default_factory=dict)
    """By workflow, the farthest first."""
    swept: tuple[str, ...] | None = None
    """The parameters that a sweep or a ``for_each`` varied; None when the plan does not say."""

    @property
    def wall(self) -> float | None:
        """Seconds from the start to the end, or None where one of them is not known."""
        if self.started is None or self.ended is None:
            return None
        span = datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.started)
        return max(0.0, span.total_seconds())  # the difference of two floats would make up digits

    def to_json(self) -> dict[str, Any]:
        """Return what ``campaign results --json`` prints for the task."""
        return {
            "task": self.task,
            "workflow": self.workflow,
            "kind": self.kind,
            "id": self.id,
            "state": self.state.value,
            "ancestors": {
                workflow: {"task": ancestor.task, "parameters": dict(ancestor.parameters)}
                for workflow, ancestor in self.ancestors.items()
            },
            "parameters": dict(self.parameters),
            "metrics": dict(self.metrics),
            "attempts": self.attempts,
            "started": self.started,
            "ended": self.ended,
            "wall_seconds": self.wall,
            "cpu_seconds": self.cpu,
            "peak_memory_bytes": self.peak_memory,
            "peak_gpu_memory_bytes": self.peak_gpu_memory,
        }


@dataclass(frozen=True, slots=True)
class Results:
    """The rows of a run, in the order of its plan, and what should have been there but is not."""

    rows: tuple[Row, ...]
    problems: tuple[str, ...]
    """One sentence per task that succeeded and whose result cannot be read."""


def read_results(status: RunStatus, tasks: Iterable[TaskStatus] | None = None) -> Results:
    """Return the results of a run's tasks; those that have not succeeded have no metrics.

    Raises StoreError when the plan names an ancestor that is no task of it.
    """
    rows, problems = [], []
    every = {task.task: task for task in status.tasks}
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
        rows.append(_row(task, result, _ancestors(task, every, str(status.directory.store))))
    return Results(tuple(rows), tuple(problems))


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
    for key in ("started", "ended"):
        if not isinstance(result.get(key), str | None):
            raise ValueError(f"{key} is no instant: {result[key]!r}")
        if result.get(key) is not None:
            parse_instant(result[key])
    return result


def _ancestors(task: TaskStatus, every: Mapping[str, TaskStatus], store: str) -> Mapping[str, Ancestor]:
    found = {}
    for workflow, name in task.ancestors.items():
        above = every.get(name)
        if above is None:
            problem = f"the plan has no task {name!r}, which led to {task.task}"
            raise StoreError(f"{problem}; submit the campaign again to write it anew")
        found[workflow] = Ancestor(name, above.parameters, above.swept, f"{store}/{above.folder}")
    return found


def _row(task: TaskStatus, result: Mapping[str, Any], ancestors: Mapping[str, Ancestor]) -> Row:
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
        attempts=task.attempts,
        cpu=_first_number(task.cpu, result.get("cpu")),
        peak_memory=_first_number(task.peak_memory, result.get("peak_memory")),
        peak_gpu_memory=_first_number(task.peak_gpu_memory, result.get("peak_gpu_memory")),
        ancestors=ancestors,
        swept=task.swept,
    )


def _first_number(*values: Any) -> Any:
    """Return the first value that is a number, or None: what measured it may have measured nothing."""
    return next((value for value in values if isinstance(value, int | float) and not isinstance(value, bool)), None)
