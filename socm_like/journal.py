"""The journal: what happened to every task, append-only; state is always a replay of it.

Standard library only, so that ``campaign status`` starts at once. The first line is a header with the schema
version, every other line one event. A torn last line (the writer died inside a write) is dropped.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from socm_like.errors import StoreError
from socm_like.units import format_instant

SCHEMA = 1
_HEADER_START = b'{"schema": '


_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class TaskState(StrEnum):
    """Where a task stands. Never ``done`` for anything that is not."""

    PLANNED = "planned"
    """In the plan; nothing has happened yet."""
    BLOCKED = "blocked"
    """Planned, and a task it depends on has not finished. Computed for display, never written."""
    HELD = "held"
    """Ready, but the schedule window is closed."""
    QUEUED = "queued"
    """The launch is on record; holds until the executor says that the task runs."""
    RUNNING = "running"
    """The executor started it."""
    DONE = "done"
    """Exit status 0, every declared output exists, every metric is finite."""
    CACHED = "cached"
    """An earlier run of the same identity left a complete result; nothing was run."""
    FAILED = "failed"
    """The program ended with an error, or could not be started."""
    TIMEOUT = "timeout"
    """Ended by us because its wall-clock limit was over."""
    OOM = "oom"
    """Ended because it used more memory than its limit."""
    NODE_FAIL = "node_fail"
    """The node went away under it."""
    CANCELLED = "cancelled"
    """Ended or withdrawn because somebody asked."""
    LOST = "lost"
    """It was launched and nobody can say how it ended."""
    SKIPPED = "skipped"
    """Not run, because a task it depends on did not succeed."""
    INVALID = "invalid"
    """It ran to exit status 0, but its result broke its declared contract."""
    PRUNED = "pruned"
    """Ended by the search that asked for it, because others do better."""

    @property
    def is_final(self) -> bool:
        """Whether the attempt is over."""
        return self in FINAL

    @property
    def is_success(self) -> bool:
        """Whether tasks that depend on it may start."""
        return self in SUCCESS


SUCCESS = frozenset({TaskState.DONE, TaskState.CACHED})
FINAL = SUCCESS | {
    TaskState.FAILED, TaskState.TIMEOUT, TaskState.OOM, TaskState.NODE_FAIL,
    TaskState.CANCELLED, TaskState.LOST, TaskState.SKIPPED, TaskState.INVALID, TaskState.PRUNED,
}  # fmt: skip

_ENDS = frozenset(
    {
        TaskState.DONE, TaskState.FAILED, TaskState.TIMEOUT, TaskState.OOM,
        TaskState.NODE_FAIL, TaskState.CANCELLED, TaskState.LOST, TaskState.INVALID, TaskState.PRUNED,
    }
)  # fmt: skip
_NOT_RUN = frozenset({TaskState.CACHED, TaskState.SKIPPED, TaskState.CANCELLED})

TRANSITIONS: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.PLANNED: frozenset({TaskState.BLOCKED, TaskState.HELD, TaskState.QUEUED}) | _NOT_RUN,
    TaskState.BLOCKED: frozenset({TaskState.HELD, TaskState.QUEUED}) | _NOT_RUN,
    TaskState.HELD: frozenset({TaskState.QUEUED}) | _NOT_RUN,
    TaskState.QUEUED: frozenset({TaskState.RUNNING}) | _ENDS,
    TaskState.RUNNING: _ENDS,
    TaskState.LOST: _ENDS - {TaskState.LOST},  # its exit record turned up after all
    **{state: frozenset() for state in FINAL - {TaskState.LOST}},
}
"""What may follow what within one attempt. It has no cycle: a retry is a new attempt, never a step back."""


def _closure() -> dict[TaskState, frozenset[TaskState]]:
    reachable: dict[TaskState, frozenset[TaskState]] = {}

    def visit(state: TaskState) -> frozenset[TaskState]:
        if state not in reachable:
            following = TRANSITIONS[state]
            reachable[state] = following.union(*(visit(after) for after in following))
        return reachable[state]

    for state in TaskState:
        visit(state)
    return reachable


REACHABLE: Mapping[TaskState, frozenset[TaskState]] = _closure()


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one attempt of one task."""

    at: str
    """ISO-8601 UTC."""
    task: str
    attempt: int
    """Counts from 1; every retry has its own."""
    state: TaskState
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What is known beside the state: reason, pid, exit_code, signal, peak_memory and peak_gpu_memory (bytes), cpu
    (seconds), exceeded (``memory`` or ``gpu_memory``, of what an ``oom`` used too much)."""

    def line(self) -> str:
        """Return the event as one line of the journal.

        Raises ValueError when a detail would hide what the event itself says.
        """
        record = {"at": self.at, "task": self.task, "attempt": self.attempt, "state": self.state.value}
        hidden = record.keys() & self.detail
        if hidden:
            raise ValueError(f"a detail may not be called {', '.join(sorted(hidden))}")
        record.update(self.detail)
        return _ENCODE(record) + "\n"


def event_at(at: float, task: str, attempt: int, state: TaskState, **detail: Any) -> Event:
    """Return an event at a time in seconds since the epoch, leaving out details that are None."""
    return Event(format_instant(at), task, attempt, state, {key: v for key, v in detail.items() if v is not None})


@dataclass(slots=True)
class Record:
    """What the events of one task add up to."""

    state: TaskState = TaskState.PLANNED
    attempt: int = 1
    launched: set[int] = field(default_factory=set)
    """The attempts that were given to an executor."""
    times: dict[TaskState, str] = field(default_factory=dict)
    """When the present attempt reached each state."""
    details: dict[TaskState, Mapping[str, Any]] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        """Take in one event; news of an earlier attempt or an earlier state moves nothing back.

        Of two reports of the same state the earlier instant counts, whichever comes first.
        """
        if event.state in (TaskState.QUEUED, TaskState.RUNNING):
            self.launched.add(event.attempt)
        if event.attempt < self.attempt:
            return
        if event.attempt > self.attempt:
            self.attempt, self.state = event.attempt, event.state
            self.times, self.details = {}, {}
        elif event.state in REACHABLE[self.state]:
            self.state = event.state
        if event.state not in self.times or event.at < self.times[event.state]:
            self.times[event.state], self.details[event.state] = event.at, event.detail

    @property
    def detail(self) -> Mapping[str, Any]:
        """What is known about the present state."""
        return self.details.get(self.state, {})

    @property
    def reason(self) -> str | None:
        """Why the task is in this state, where somebody said."""
        return self.detail.get("reason")

    def wishes(self, wish: str) -> bool:
        """Whether the present attempt is to be like this: ``fresh``, or ``alone`` in its process."""
        return bool(self.details.get(TaskState.PLANNED, {}).get(wish))

    @property
    def started(self) -> str | None:
        """When the present attempt began to run."""
        return self.times.get(TaskState.RUNNING)

    @property
    def ended(self) -> str | None:
        """When the present attempt ended, if it did."""
        return self.times.get(self.state) if self.state.is_final else None


def replay(events: Iterable[Event], records: dict[str, Record] | None = None) -> dict[str, Record]:
    """Return the record of every task named in the events; order and repetition do not matter."""
    records = {} if records is None else records
    for event in events:
        record = records.get(event.task)
        if record is None:
            record = records[event.task] = Record()
        record.apply(event)
    return records


def read_events(path: Path) -> list[Event]:
    """Return the events of a journal, dropping a torn last line; an absent journal has none.

    Raises StoreError when a line inside is damaged or the schema is newer than this program.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[list[Event], int]:
    """Return the events of a journal and the bytes of its whole lines."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    end = data.rfind(b"\n") + 1
    if end == 0:
        if not (data.startswith(_HEADER_START) or _HEADER_START.startswith(data)):
            raise StoreError(f"{path}:1: not a journal: {data[:60]!r}")
        return [], 0
    header, *lines = data[:end].split(b"\n")[:-1]
    _check_header(path, header)
    return [_parse(path, number, line) for number, line in enumerate(lines, start=2)], end


def read_events_from(path: Path, position: int) -> tuple[list[Event], int]:
    """Return the whole lines of a journal behind a position (0: from its start) as events, and the position now.

    Raises StoreError as :func:`read_events` does.
    """
    if position == 0:
        return _read(path)
    try:
        with path.open("rb") as file:
            file.seek(position)
            data = file.read()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    end = data.rfind(b"\n") + 1
    return [_parse(path, 0, line) for line in data[:end].split(b"\n")[:-1]], position + end


def _parse(path: Path, number: int, line: bytes) -> Event:
    try:
        return _event(json.loads(line))
    except ValueError as error:
        remedy = "restore it from a copy, or remove it: results are found in the store"
        raise StoreError(f"{path}:{number}: damaged journal line ({error}); {remedy}") from error


def _event(record: Any) -> Event:
    if not isinstance(record, dict):
        raise ValueError("not an object")
    try:
        at, task, attempt, state = record.pop("at"), record.pop("task"), record.pop("attempt"), record.pop("state")
    except KeyError as error:
        raise ValueError(f"no {error.args[0]}") from error
    if not isinstance(at, str) or not isinstance(task, str):
        raise ValueError("at and task must be text")
    if type(attempt) is not int or attempt < 1:
        raise ValueError(f"attempt must be a count from 1, not {attempt!r}")
    return Event(at, task, attempt, TaskState(state), record)


def _check_header(path: Path, line: bytes) -> None:
    try:
        schema = json.loads(line)["schema"]
        if type(schema) is not int:
            raise TypeError(schema)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}:1: not a journal: {line[:60]!r}") from error
    if schema != SCHEMA:
        raise StoreError(f"{path}:1: journal schema {schema}, this program reads {SCHEMA}; use a newer socm-like")


class Journal:
    """The one writer of a journal; whoever opens it holds the run's lock."""

    def __init__(self, path: Path) -> None:
        """Open for appending: write the header of a new journal, cut off a torn last line of an old one."""
        self.path = path
        self.events, self._end = _read(path)
        with _store_errors(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            with _store_errors(path):
                if self._end < os.fstat(self._file).st_size:
                    os.ftruncate(self._file, self._end)
            if self._end == 0:
                self._write(json.dumps({"schema": SCHEMA}) + "\n")
                self.commit()
                _sync_folder(path.parent)
        except BaseException:
            self.close()
            raise

    def append(self, events: Sequence[Event]) -> None:
        """Write events; they survive a crash of this process now and of the machine after :meth:`commit`.

        Raises StoreError when the disk refuses; the journal then ends with the last whole event before this call.
        """
        if events:
            self._write("".join(event.line() for event in events))

    def commit(self) -> None:
        """Wait until everything written is on the disk."""
        with _store_errors(self.path):
            os.fdatasync(self._file)

    def close(self) -> None:
        """Release the file; a later append raises StoreError."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1  # the number may soon mean another file

    def _write(self, text: str) -> None:
        data = text.encode()
        written = 0
        with _store_errors(self.path):
            try:
                while written < len(data):
                    written += os.write(self._file, data[written:])
                self._end += written
            except BaseException:  # Ctrl-C between two writes must not leave half a line either
                os.ftruncate(self._file, self._end)
                raise


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, too (fsync(2)); not every network file system can."""
    with _store_errors(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        finally:
            os.close(descriptor)


class _store_errors:  # noqa: N801 - reads as a statement
    """Turn an OSError about ``path`` into a StoreError that says what to do."""

    def __init__(self, path: Path | str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise StoreError(
                f"{self._path}: {error.strerror}; make room or fix the permissions, then submit again"
            ) from error


store_errors = _store_errors
