"""Tasks that share one process: what the journal says of them, and what its end means for each of them.

The process is the attempt of its leader, the first task of the batch. Each task has a directory, a record, a result
and a failure of its own. Standard library only: ``campaign status`` judges by the same rules as the runner.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from os.path import exists, isdir
from typing import Any

from socm_like.contract import RESULT, read_regular
from socm_like.journal import Event, Record, TaskState

ERROR = "error.json"
"""Where a Python task says why it failed."""

Key = tuple[str, int]
"""A task and the number of an attempt at it."""


def leader_of(record: Record) -> Key | None:
    """Return whose attempt the present attempt of a task is a part of, or None when it has a process of its own."""
    found = record.details.get(TaskState.QUEUED, {}).get("batch")
    return (found[0], found[1]) if found else None


def batch_detail(leader: Key, size: int) -> Mapping[str, Any]:
    """Return what the journal says of each task of a batch when it is queued."""
    return {"batch": [*leader, size]}


def of_member(event: Event, name: str, record: Record, partial: str, folder: str) -> Event:
    """Return what an event of a shared process means for one task, which worked in ``partial`` for ``folder``.

    A task that has left neither a result nor a reason when the process ends badly is ``lost``: whose fault that was
    cannot be told, and it is to be run again, alone.
    """
    member = (name, record.attempt)
    if not event.state.is_final:
        return Event(event.at, *member, event.state, event.detail)
    size = record.details.get(TaskState.QUEUED, {}).get("batch", [0, 0, 1])[2]
    detail = {**event.detail, "shared_by": size}
    if isinstance(detail.get("cpu"), int | float):
        detail["cpu"] = detail["cpu"] / size
    reason = read_error(partial)
    if reason is not None:
        detail.pop("exit_code", None)
        detail.pop("signal", None)
        return Event(event.at, *member, reason[0], {**detail, "reason": reason[1]})
    is_moved = not isdir(partial) and exists(f"{folder}/{RESULT}")  # by a runner that died before it wrote so
    if is_moved or exists(f"{partial}/{RESULT}"):
        detail.pop("reason", None)
        return Event(event.at, *member, TaskState.DONE, detail)
    if event.state is TaskState.CANCELLED:
        return Event(event.at, *member, event.state, detail)
    others = f"{size - 1} other{'s'[: size != 2]}"
    why = f"it shared a process with {others}, which ended: {detail.get('reason') or 'exit status 0'}"
    return Event(event.at, *member, TaskState.LOST, {**detail, "reason": why})


def read_error(folder: str) -> tuple[TaskState, str] | None:
    """Return the state and the reason that a Python task left, if it lived to leave them."""
    try:
        error = json.loads(read_regular(f"{folder}/{ERROR}"))
        return TaskState(error["state"]), str(error["reason"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # it died without a word
        return None
