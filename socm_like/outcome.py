"""What an ended attempt amounts to: outputs checked, metrics read, the result written and put in its place."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from os.path import exists, isdir
from pathlib import Path
from typing import Any

from socm_like.journal import Event, TaskState, store_errors
from socm_like.tasks import RESULT, Task

SCHEMA = 1
ERROR = "error.json"
"""Where a Python task says why it failed."""

_DUMP = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def find_result(task: Task, store: Path) -> Mapping[str, Any] | None:
    """Return the finished result of this very task, or None where there is none or a part of it is missing."""
    folder = f"{store}/{task.folder}"
    if not os.access(f"{folder}/{RESULT}", os.F_OK):  # much the commonest, and cheaper than an exception
        return None
    try:
        result: Mapping[str, Any] = json.loads(_read(f"{folder}/{RESULT}"))
    except (OSError, ValueError):  # absent, or cut short by a crash of the machine: either way not a result
        return None
    if not isinstance(result, dict) or result.get("id") != task.id:
        return None
    return result if all(exists(f"{folder}/{path}") for path in task.outputs.values()) else None


def prepare(task: Task, partial: str, plugins: tuple[Path, ...]) -> None:
    """Make the directory an attempt works in, empty unless the kind goes on from what it left; write task.json."""
    description = {
        "schema": SCHEMA,
        "task": task.name,
        "workflow": task.workflow,
        "kind": task.kind,
        "id": task.id,
        "plugins": [str(path) for path in plugins],
        "fields": task.fields,
    }
    with store_errors(partial):
        try:
            os.mkdir(partial)
        except FileExistsError:
            if not task.restartable:
                shutil.rmtree(partial)
                os.mkdir(partial)
        _write(f"{partial}/task.json", _DUMP(description))


def conclude(task: Task, event: Event, started: str | None, partial: str, store: Path) -> Event:
    """Return the final event of an attempt: ``done`` only when every part of the contract holds.

    The executor says how the process ended; what it left decides the rest. On success the directory is moved to
    its place in the store; else it stays where it is, for a look.
    """
    if event.state is TaskState.FAILED and task.argv is None:
        return _python_failure(event, partial)
    if event.state is not TaskState.DONE:
        return event
    if find_result(task, store) is not None:  # moved by a runner that died before it wrote so, or by another run
        shutil.rmtree(partial, ignore_errors=True)
        return event
    problem, metrics = _check(task, partial)
    if problem:
        return Event(event.at, event.task, event.attempt, TaskState.INVALID, {**event.detail, "reason": problem})
    content = {
        "schema": SCHEMA,
        "task": task.name,
        "workflow": task.workflow,
        "kind": task.kind,
        "id": task.id,
        "parameters": task.parameters,
        "metrics": metrics,
        "outputs": dict(task.outputs),
        "started": started,
        "ended": event.at,
        "cpu": event.detail.get("cpu"),
        "peak_memory": event.detail.get("peak_memory"),
    }
    with store_errors(partial):
        _write(f"{partial}/{RESULT}", _DUMP(content) + "\n")  # whole before anybody looks: the move comes after
        _move(partial, f"{store}/{task.folder}")
    return event


def _check(task: Task, partial: str) -> tuple[str, Any]:
    """Return what breaks the declared contract, or an empty string and the metrics."""
    for name, path in task.outputs.items():
        if not exists(f"{partial}/{path}"):
            label = path if name == path else f"{path} ({name})"
            return f"the declared output {label} is missing", None
    if task.argv is None:
        return _metrics(f"{partial}/{RESULT}", RESULT, "metrics")
    return _metrics(f"{partial}/{task.metrics}", task.metrics, None) if task.metrics else ("", {})


def _metrics(path: str, name: str, key: str | None) -> tuple[str, Any]:
    """Return what is wrong with a file of metrics, or an empty string and the metrics."""
    try:
        metrics = json.loads(_read(path))
    except FileNotFoundError:
        return f"the declared metrics file {name} is missing", None
    except (ValueError, OSError) as error:
        return f"{name} is not JSON: {error}", None
    metrics = metrics.get(key) if key and isinstance(metrics, dict) else metrics
    if not isinstance(metrics, dict):
        return f"{name} holds {type(metrics).__name__}, not a table of metrics", None
    wrong = next(_not_finite(metrics), None)
    return (f"the metric {wrong} is not a finite number", None) if wrong else ("", metrics)


def _not_finite(value: Any, name: str = "") -> Iterator[str]:
    """Yield the dotted names of NaN and infinite numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        yield name
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _not_finite(item, f"{name}[{index}]")


def _python_failure(event: Event, partial: str) -> Event:
    """Return the failure with the reason the task itself gave, if it lived to give one."""
    try:
        error = json.loads(_read(f"{partial}/{ERROR}"))
        state, reason = TaskState(error["state"]), str(error["reason"])
    except (OSError, ValueError, KeyError, TypeError):  # it died without a word; the executor's reason stands
        return event
    return Event(event.at, event.task, event.attempt, state, {**event.detail, "reason": reason})


def _move(partial: str, folder: str) -> None:
    """Put a finished directory in its place; an older incomplete one there makes room."""
    try:
        os.rename(partial, folder)
    except OSError:
        if not isdir(folder):
            raise
        old = f"{folder}.old"
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
        os.rename(partial, folder)
        shutil.rmtree(old, ignore_errors=True)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
