"""One Python task in a process of its own: ``task.json`` -> Workflow -> ``run(directory)`` -> ``result.json``."""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Self

from socm_like.batch import ERROR
from socm_like.contract import RESULT
from socm_like.errors import SocmError
from socm_like.journal import TaskState
from socm_like.registry import Registry
from socm_like.store import write_atomically
from socm_like.workflow import Result, Workflow

SCHEMA = 1


class NotFiniteError(Exception):
    """A metric that is not a finite number; the message names it."""


@lru_cache(maxsize=1)
def load_registry(plugins: tuple[Path, ...]) -> Registry:
    """Return the kinds of these plug-ins; the warm process asks once, and its forks find the answer."""
    return Registry.load(plugins)


def run(directory: Path) -> int:
    """Run the task described in a directory and return its exit status: 0 when ``result.json`` is there.

    Otherwise the traceback is on stderr, and ``error.json`` holds the state and the reason.
    """
    with _failing(directory) as attempt:
        task = _description(directory)
        if "batch" not in task:
            workflow = _workflow(task)
            _succeed(directory, task, workflow.run(directory), f"{type(workflow).__name__}.run returned")
            return 0
    return attempt.status or _run_batch([Path(path) for path in task["batch"]])


def _run_batch(directories: Sequence[Path]) -> int:
    """Run the tasks of a batch; return 0 when each has left a result or a reason of its own.

    Of a class that yields another number of results than it was given tasks, nobody can tell whose they are: all fail.
    """
    members: list[tuple[Path, Mapping[str, Any], Workflow]] = []
    for directory in directories:
        with _failing(directory):
            description = _description(directory)
            members.append((directory, description, _workflow(description)))
    if not members:
        return 0
    workflows = [workflow for _, _, workflow in members]
    method = f"{type(workflows[0]).__name__}.run_batch"
    results = iter(type(workflows[0]).run_batch(workflows, [directory for directory, _, _ in members]))
    found = 0
    for found, result in enumerate(islice(results, len(members) + 1), start=1):
        if found > len(members):
            break
        directory, task, _ = members[found - 1]
        with _failing(directory):
            if isinstance(result, Exception):
                raise result
            _succeed(directory, task, result, f"{method} yielded")
    if found != len(members):
        number = found if found < len(members) else f"more than {len(members)}"
        why = f"{method} yielded {number} results for {len(members)} tasks; whose they are cannot be told"
        for directory, _, _ in members:
            (directory / RESULT).unlink(missing_ok=True)
            _fail(directory, TaskState.FAILED, why)
    return 0


def _description(directory: Path) -> dict[str, Any]:
    """Return what is to be done in a directory; what an earlier attempt said of its end goes."""
    for name in (RESULT, ERROR):
        (directory / name).unlink(missing_ok=True)
    description: dict[str, Any] = json.loads((directory / "task.json").read_bytes())
    return description


def _workflow(task: Mapping[str, Any]) -> Workflow:
    registry = load_registry(tuple(Path(path) for path in task["plugins"]))
    return registry[task["kind"]].model_validate(task["fields"])


def _succeed(directory: Path, task: Mapping[str, Any], result: object, source: str) -> None:
    """Write the result that came from somewhere; raises TypeError where it is none."""
    if not isinstance(result, Result):
        raise TypeError(f"{source} {type(result).__name__}, not a Result")
    metrics = as_json(result.metrics, "")
    content = {"schema": SCHEMA, "task": task["task"], "kind": task["kind"], "id": task["id"], "metrics": metrics}
    write_atomically(directory / RESULT, json.dumps(content, allow_nan=False) + "\n")


class _failing:  # noqa: N801 - reads as a statement
    """Turn whatever ends a task into its state and its reason: sys.exit() included."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.status = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is None:
            return True
        self.status = 1
        if isinstance(error, NotFiniteError):
            _fail(self._directory, TaskState.INVALID, str(error))
        else:
            traceback.print_exception(error)
            _fail(self._directory, TaskState.FAILED, _reason(error))
        return True


def as_json(value: Any, name: str) -> Any:
    """Return a metric as plain JSON; arrays and scalars of numpy and its kin become lists and numbers.

    Raises NotFiniteError for NaN and infinity, TypeError for what JSON cannot hold; both name the metric.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotFiniteError(f"metric {name} is {value}")
        return value
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {_key(key, name): as_json(item, f"{name}.{key}" if name else str(key)) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [as_json(item, f"{name}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"metric {name} is a {type(value).__name__}; a metric is a number, text, list or table")


def _key(key: Any, name: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"metric {name} has the key {key!r}; keys are text")
    return key


def _reason(error: BaseException) -> str:
    if isinstance(error, SocmError):
        return str(error)
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _fail(directory: Path, state: TaskState, reason: str) -> None:
    print(reason, file=sys.stderr)  # noqa: T201 - the task's own log
    write_atomically(directory / ERROR, json.dumps({"state": state, "reason": reason}) + "\n")


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
