"""What the launcher wrote down, as events: light enough for ``campaign status``, and it only reads."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from socm_like.errors import ExecutorError, StoreError
from socm_like.journal import Event, TaskState, event_at
from socm_like.store import STALE_AFTER, Holder, RunDirectory

Key = tuple[str, int]
"""A task's name and the number of the attempt."""

LAUNCHER_DIED = "the launcher died"

_ENDED_BY_LAUNCHER: Mapping[str, TaskState] = {
    "timeout": TaskState.TIMEOUT,
    "oom": TaskState.OOM,
    "cancelled": TaskState.CANCELLED,
}
_NOT_STARTED = "not started: "


def log_path(run: RunDirectory) -> Path:
    """Return where the launcher of a run writes what happened."""
    return run.path / "launcher.jsonl"


def holder_path(run: RunDirectory) -> Path:
    """Return where the launcher of a run says which process it is."""
    return run.path / "launcher.pid"


def read_records(run: RunDirectory, keys: Collection[Key]) -> dict[Key, list[dict[str, Any]]]:
    """Return the records of some attempts in order; lines torn by a crash are skipped.

    Raises StoreError when the log is there and cannot be read.
    """
    path = log_path(run)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    found: dict[Key, list[dict[str, Any]]] = {key: [] for key in keys}
    for record in _parsed(data):
        records = found.get((record["task"], record["attempt"]))
        if records is not None:
            records.append(record)
    return found


def _parsed(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "event" in record:
            yield record


def translate(record: Mapping[str, Any]) -> Event:
    """Return a record of the launcher as an event.

    Raises ExecutorError naming an event or a reason that this program does not know.
    """
    at, task, attempt = record["at"], record["task"], record["attempt"]
    if record["event"] == "start":
        return event_at(at, task, attempt, TaskState.RUNNING, pid=record["pid"])
    if record["event"] != "end":
        raise ExecutorError(f"launcher.jsonl: unknown event {record['event']!r}; use the socm-like that wrote it")
    state, reason = _end_of(record)
    return event_at(
        at,
        task,
        attempt,
        state,
        reason=reason,
        exit_code=record["code"],
        signal=record["signal"],
        peak_memory=record["peak_memory"],
        peak_gpu_memory=record.get("peak_gpu_memory"),  # a launcher of an older version wrote none
        exceeded=record.get("exceeded"),
        cpu=record["cpu"],
        leftover=record["leftover"] or None,
    )


def _end_of(record: Mapping[str, Any]) -> tuple[TaskState, str | None]:
    reason = record["reason"]
    if reason is None:
        if record["signal"] is not None:
            return TaskState.FAILED, f"signal {record['signal']} ({_signal_name(record['signal'])})"
        if record["code"] == 0:
            return TaskState.DONE, None
        return TaskState.FAILED, f"exit status {record['code']}"
    if reason in _ENDED_BY_LAUNCHER:
        return _ENDED_BY_LAUNCHER[reason], record["why"]
    if reason.startswith(_NOT_STARTED):
        return TaskState.FAILED, reason
    raise ExecutorError(f"launcher.jsonl: unknown reason {reason!r}; use the socm-like that wrote it")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "real-time"


def read_launcher(run: RunDirectory) -> Holder | None:
    """Return the launcher of a run as long as it may live, else None.

    One on another host counts as alive until it has given no sign of life for a minute.
    Raises StoreError when its file is damaged.
    """
    path = holder_path(run)
    try:
        holder = Holder(**json.loads(path.read_bytes()))
        silent = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: {error}; if no launcher works on this run, remove the file") from error
    is_alive = holder.is_alive if holder.is_here else silent < STALE_AFTER
    return holder if is_alive else None


def observe(run: RunDirectory, attempts: Sequence[Key]) -> list[Event]:
    """Return what became of attempts while nobody watched, without touching anything.

    What runs is running, what ended has ended, and what was under way when the launcher died is lost. An attempt
    that a living launcher has not started yet has no event.
    """
    launcher = read_launcher(run)  # first: a launcher that leaves afterwards has written everything before
    records = read_records(run, attempts)
    events: list[Event] = []
    for key in attempts:
        events.extend(translate(record) for record in records[key])
        if launcher is None and not any(record["event"] == "end" for record in records[key]):
            events.append(event_at(time.time(), *key, TaskState.LOST, reason=LAUNCHER_DIED))
    return events
