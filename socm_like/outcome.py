"""What an ended attempt amounts to: outputs checked, metrics read, the result written and put in its place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import exists, isdir
from pathlib import Path
from typing import Any

from socm_like.batch import ERROR, read_error
from socm_like.contract import RESULT, broken_contract, read_regular
from socm_like.identity import FileDigests
from socm_like.journal import Event, Record, TaskState, store_errors
from socm_like.task import Task

SCHEMA = 1

_DUMP = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def find_result(task: Task, store: Path) -> Mapping[str, Any] | None:
    """Return the finished result of this very task, or None where there is none or a part of it is missing."""
    folder = f"{store}/{task.folder}"
    if not os.access(f"{folder}/{RESULT}", os.F_OK):  # much the commonest, and cheaper than an exception
        return None
    try:
        result: Mapping[str, Any] = json.loads(read_regular(f"{folder}/{RESULT}"))
    except (OSError, ValueError, RecursionError):  # cut short by a crash of the machine, or no result of ours
        return None
    if not isinstance(result, dict) or result.get("id") != task.id:
        return None
    return result if all(exists(f"{folder}/{path}") for path in task.outputs.values()) else None


def is_to_be_tried_again(task: Task, records: Mapping[str, Record], retry: Collection[str], store: Path) -> bool:
    """Whether a run that is taken up again makes a new attempt at a task; names in ``retry`` were asked for.

    It must have been asked of a search before it is asked of the trials: these matter only while that is to go on.
    """
    state = records[task.name].state
    if task.trial_of:
        search = records[task.trial_of]
        if search.state.is_final or state is TaskState.PRUNED:
            return False
        if search.wishes("fresh") and not records[task.name].wishes("fresh"):
            return True
    if state.is_success:
        return find_result(task, store) is None
    if state in (TaskState.CANCELLED, TaskState.LOST, TaskState.NODE_FAIL):
        return True
    if state is TaskState.SKIPPED:
        parents = [records[parent].state for parent in task.dependencies]
        return all(parent.is_success or not parent.is_final for parent in parents)
    return state.is_final and task.name in retry


def prepare(task: Task, partial: str, plugins: tuple[Path, ...], batch: Sequence[str] = ()) -> None:
    """Make the directory an attempt works in, empty unless the kind goes on from what it left; write task.json.

    ``batch`` holds the directories of all the tasks whose work the process is to do, if it does that of several.
    """
    description = {
        "schema": SCHEMA,
        "task": task.name,
        "workflow": task.workflow,
        "kind": task.kind,
        "id": task.id,
        "plugins": [str(path) for path in plugins],
        "fields": task.fields,
        **({"batch": batch} if batch else {}),
    }
    with store_errors(partial):
        try:
            os.mkdir(partial)
        except FileExistsError:
            if not task.restartable:
                shutil.rmtree(partial)
                os.mkdir(partial)
            elif task.argv is None:  # what it says of its end is not to be taken for what this one says
                for name in (RESULT, ERROR):
                    Path(partial, name).unlink(missing_ok=True)
        _write(f"{partial}/task.json", _DUMP(description))


def changed_input(task: Task, digests: FileDigests) -> str:
    """Return which input is no longer what the task's identity says it is, or an empty string."""
    for path, expected in task.inputs.items():
        try:
            found = digests.of(Path(path))
        except OSError as error:
            return f"its input {path} cannot be read any more: {error.strerror}; submit again"
        if found != expected:
            return f"its input {path} has changed since the campaign was submitted; submit again"
    return ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attempt worked, and where its result goes."""

    partial: str
    store: Path
    replaces: bool = False
    """Whether a result that is there already makes room, rather than being the one that counts."""


def conclude(
    task: Task, event: Event, record: Record, place: Place, digests: FileDigests, *, sizes: Mapping[str, Any]
) -> Event:
    """Return the final event of an attempt: ``done`` only when every part of the contract holds.

    ``record`` is the task's before the event; ``sizes`` is what the attempt asked, was predicted to need, and used.
    The executor says how the process ended; what it left decides the rest. On success the directory is moved to
    its place in the store; else it stays where it is, for a look.
    """
    partial, store = place.partial, place.store
    if event.state is TaskState.FAILED and task.argv is None:
        error = read_error(partial)
        return event if error is None else replace(event, state=error[0], detail={**event.detail, "reason": error[1]})
    if event.state is not TaskState.DONE:
        return event
    found = find_result(task, store)
    if found is not None and (not place.replaces or found.get("ended") == event.at):
        shutil.rmtree(partial, ignore_errors=True)  # moved by a runner that died before it wrote so, or another run
        return event
    problem, metrics = broken_contract(partial, task.outputs, task.metrics, runs_python=task.argv is None)
    problem = problem or changed_input(task, digests)
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
        "started": record.started,
        "ended": event.at,
        "cpu": event.detail.get("cpu"),
        "peak_memory": event.detail.get("peak_memory"),
        "peak_gpu_memory": event.detail.get("peak_gpu_memory"),
        **sizes,
    }
    with store_errors(partial):
        _write(f"{partial}/{RESULT}", _DUMP(content) + "\n")  # whole before anybody looks: the move comes after
        _move(partial, f"{store}/{task.folder}")
    return event


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


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
