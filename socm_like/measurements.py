"""What finished tasks asked for, were predicted to need, and needed: one line each, in ``measurements.jsonl`` of a run.

Only the runner that holds a run's lock appends. A line that was cut short or is damaged is dropped: losing one costs
nothing but predictions. An attempt that ended because its limit was too low is on record, too, as a lower bound;
nothing is learned from it, nor from tasks that shared a process.
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple
from zlib import crc32

from socm_like.estimate import LATEST, Needs
from socm_like.growth import request_of
from socm_like.journal import Event, Record, TaskState, store_errors
from socm_like.resources import Prediction, Resources
from socm_like.store import RunDirectory
from socm_like.task import Task

FILE = "measurements.jsonl"
RUNS = 256
"""Runs that are looked at for records, those with the latest news."""
MOST_OF_A_RUN = 8 * 2**20
"""Bytes read of one run, from the end."""
MOST = 32 * 2**20
"""Bytes read of all runs."""

_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_MEASURED = frozenset((TaskState.DONE, TaskState.OOM, TaskState.TIMEOUT))


class Sizes(NamedTuple):
    """Bytes, bytes on each GPU, and seconds of a task; None where nobody knows."""

    memory: float | None = None
    gpu_memory: float | None = None
    runtime: float | None = None

    def known(self) -> dict[str, Any]:
        """Return those that somebody knows, by their names."""
        found: dict[str, Any] = {}
        if self.memory is not None:
            found["memory"] = self.memory
        if self.gpu_memory is not None:
            found["gpu_memory"] = self.gpu_memory
        if self.runtime is not None:
            found["runtime"] = self.runtime
        return found


class Measurement(NamedTuple):
    """One attempt at a task that ended."""

    kind: str
    family: str
    """The version of the kind and the program it runs; tasks of one family need alike."""
    state: TaskState
    """``done``, or ``oom`` and ``timeout`` for an attempt that its limit ended: what it used is a lower bound."""
    parameters: Mapping[str, Any]
    input_bytes: int
    """Of the input files, taken together."""
    cores: int
    gpus: int
    asked: Sizes
    """The limits it ran under."""
    predicted: Sizes
    used: Sizes
    typical_runtime: float | None = None
    """Seconds that half of the tasks like it were expected to take at the most."""
    records: int = 0
    """Finished tasks that the prediction rested on."""
    cpu: float | None = None
    """Seconds of CPU time."""
    shared_by: int = 1
    """Tasks whose process it was."""
    resumed: bool = False
    """Whether it went on from what an earlier attempt had left; then its runtime is that of the rest."""
    limit: str = ""
    """Which limit ended it: ``memory``, ``gpu_memory`` or ``runtime``."""
    at: str = ""
    task: str = ""

    @property
    def is_lesson(self) -> bool:
        """Whether something is learned from it: it ended by itself, in a process of its own."""
        return self.state is TaskState.DONE and self.shared_by == 1

    @property
    def needs(self) -> Needs:
        """What there is to be learned."""
        return Needs(self.used.memory, self.used.gpu_memory, None if self.resumed else self.used.runtime)

    @property
    def fields(self) -> dict[str, Any]:
        """What its needs may depend on."""
        return fields_of(self.parameters, self.input_bytes, self.cores, self.gpus)

    def line(self) -> str:
        """Return the measurement as one line of JSON, the kind first, so that a reader need not parse all lines."""
        return f"{_ENCODE(self.to_json())}\n"

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as JSON, without what nobody knows."""
        return {
            "kind": self.kind,
            "family": self.family,
            "task": self.task,
            "at": self.at,
            "state": self.state.value,
            "parameters": self.parameters,
            "input_bytes": self.input_bytes,
            "cores": self.cores,
            "gpus": self.gpus,
            **({"shared_by": self.shared_by} if self.shared_by != 1 else {}),
            **({"resumed": True} if self.resumed else {}),
            **({"limit": self.limit} if self.limit else {}),
            **self.sizes(),
        }

    def sizes(self) -> dict[str, Any]:
        """Return what was asked, predicted and used, as JSON, without what nobody knows."""
        predicted = {**self.predicted.known(), "typical_runtime": self.typical_runtime, "records": self.records}
        used = self.used.known()
        if self.cpu is not None:
            used["cpu"] = self.cpu
        return {"asked": self.asked.known(), "predicted": predicted if self.records else {}, "used": used}


def fields_of(parameters: Mapping[str, Any], input_bytes: int, cores: int, gpus: int) -> dict[str, Any]:
    """Return what the needs of a task may depend on; the names with a space are no parameters."""
    return {**parameters, "input bytes": input_bytes, "all cores": cores, "all gpus": gpus}


def measurement_of(task: Task, record: Record, event: Event, input_bytes: int) -> Measurement | None:
    """Return what an attempt that ended with this event used, or None where its end says nothing about its needs.

    ``record`` is the task's before the event.
    """
    if event.state not in _MEASURED:
        return None
    detail = event.detail
    asked = request_of(task, record)
    predicted = task.predicted
    seconds = None if record.started is None else _between(record.started, event.at)
    return Measurement(
        kind=task.kind,
        family=task.family,
        state=event.state,
        parameters=task.parameters,
        input_bytes=input_bytes,
        cores=asked.cores,
        gpus=asked.gpus,
        asked=sizes_of(asked),
        predicted=Sizes() if predicted is None else sizes_of(predicted),
        used=Sizes(detail.get("peak_memory"), detail.get("peak_gpu_memory"), seconds),
        typical_runtime=_seconds(predicted.typical_runtime) if predicted is not None else None,
        records=0 if predicted is None else predicted.records,
        cpu=detail.get("cpu"),
        shared_by=detail.get("shared_by", 1),
        resumed=task.restartable and record.attempt > 1,
        limit=_limit(event),
        at=event.at,
        task=task.name,
    )


def _limit(event: Event) -> str:
    """Return the name of the limit that ended an attempt, or an empty string."""
    if event.state is TaskState.OOM:
        return "gpu_memory" if event.detail.get("exceeded") == "gpu_memory" else "memory"
    return "runtime" if event.state is TaskState.TIMEOUT else ""


def _between(start: str, end: str) -> float:
    """Return the seconds between two instants; none where the clock was set back."""
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    return max(seconds, 0.0)


def sizes_of(stated: Resources | Prediction) -> Sizes:
    """Return the sizes that are stated or predicted."""
    return Sizes(stated.memory, stated.gpu_memory, _seconds(stated.runtime))


def _seconds(span: Any) -> float | None:
    return None if span is None else float(span.total_seconds())


def read_measurement(line: bytes | str) -> Measurement | None:
    """Return the measurement of a line, or None for a line that is damaged or not ours."""
    try:
        data = json.loads(line)
        predicted = data["predicted"]
        return Measurement(
            kind=_is(str, data["kind"]),
            family=_is(str, data["family"]),
            state=_is_in(_MEASURED, TaskState(data["state"])),
            parameters=_is(dict, data["parameters"]),
            input_bytes=_is(int, data["input_bytes"]),
            cores=_is(int, data["cores"]),
            gpus=_is(int, data["gpus"]),
            asked=_sizes(data["asked"]),
            predicted=_sizes(predicted),
            used=_sizes(data["used"]),
            typical_runtime=_positive(predicted.get("typical_runtime")),
            records=_is(int, predicted.get("records", 0)),
            cpu=_positive(data["used"].get("cpu")),
            shared_by=_is(int, data.get("shared_by", 1)),
            resumed=_is(bool, data.get("resumed", False)),
            limit=_is(str, data.get("limit", "")),
            at=_is(str, data["at"]),
            task=_is(str, data["task"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _is(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(value)
    return value


def _is_in(states: Collection[TaskState], state: TaskState) -> TaskState:
    if state not in states:
        raise ValueError(state)
    return state


def _sizes(data: Mapping[str, Any]) -> Sizes:
    return Sizes(_positive(data.get("memory")), _positive(data.get("gpu_memory")), _positive(data.get("runtime")))


def _positive(value: Any) -> float | None:
    """Return a number of JSON as it is if it is positive; None stands for itself and for nothing at all, 0."""
    if value is None or (type(value) in (int, float) and value == 0):
        return None
    if type(value) not in (int, float) or not _TINY < value < _HUGE:
        raise ValueError(value)
    return value  # type: ignore[no-any-return]


_TINY, _HUGE = 1e-9, 1e30
"""No bytes and no seconds are less, or more."""


class Recorder:
    """Appends the measurements of a run to its file; whoever makes it holds the run's lock."""

    def __init__(self, run: RunDirectory) -> None:
        self.path = run.path / FILE
        self._file = -1

    def add(self, measurement: Measurement) -> None:
        """Append a measurement. Raises StoreError when the disk refuses; half a line then there is dropped."""
        with store_errors(self.path):
            if self._file < 0:
                self._open()
            data = measurement.line().encode()
            while data:
                data = data[os.write(self._file, data) :]

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        weakref.finalize(self, os.close, self._file)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":  # let a line that was cut short be a line by itself
            os.write(self._file, b"\n")


@dataclass
class InputSizes:
    """Bytes of input files, each looked at once."""

    _known: dict[str, int] = field(default_factory=dict)

    def of(self, inputs: Iterable[str]) -> int:
        """Return the bytes of files, taken together; a folder, or a file that is gone, counts as nothing."""
        return sum(map(self._of, inputs)) if inputs else 0

    def _of(self, path: str) -> int:
        if path not in self._known:
            try:
                stat = os.stat(path)  # noqa: PTH116 - once per input of each task
                self._known[path] = stat.st_size if S_ISREG(stat.st_mode) else 0
            except OSError:
                self._known[path] = 0
        return self._known[path]


def read_measurements(store: Path, kinds: Collection[str] | None = None) -> dict[str, list[Measurement]]:
    """Return for each of these kinds, or for all, measurements in a store, the latest last.

    At most 1,000 of each kind, from the runs with the latest news; of more in the last of these runs some are drawn,
    the same each time: the last ones by themselves would be one corner of a sweep. What is read is bounded, however
    large the store is.
    """
    lines: dict[str, list[bytes]] = {}
    quota = MOST
    for path in _latest_files(store):
        if quota <= 0 or (kinds is not None and all(len(lines.get(kind, ())) >= LATEST for kind in kinds)):
            break
        found, size = _tail(path, min(quota, MOST_OF_A_RUN))
        quota -= size
        for kind, more in _by_kind(found, kinds).items():
            earlier = lines.get(kind, [])
            lines[kind] = [*_drawn(more, LATEST - len(earlier)), *earlier]
    measurements = {kind: [each for line in found if (each := read_measurement(line))] for kind, found in lines.items()}
    return {kind: found for kind, found in measurements.items() if found}


def _drawn(lines: list[bytes], most: int) -> list[bytes]:
    """Return as many lines, in their order, drawn by chance where there are more: a fixed step might follow a sweep."""
    if len(lines) <= most:
        return lines
    return [lines[index] for index in sorted(sorted(range(len(lines)), key=lambda index: crc32(lines[index]))[:most])]


def _latest_files(store: Path) -> list[Path]:
    """Return the files with measurements, the one with the latest news first."""
    dated = []
    try:
        folders = os.scandir(store / "campaigns")
    except OSError:  # no run yet
        return []
    with folders:
        for folder in folders:
            path = Path(folder.path, FILE)
            try:
                dated.append((path.stat().st_mtime_ns, path))
            except OSError:  # a run of which nothing has finished
                continue
    return [path for _, path in sorted(dated, reverse=True)[:RUNS]]


def _tail(path: Path, most: int) -> tuple[list[bytes], int]:
    """Return the last whole lines of a file, and the bytes read; one that cannot be read has none."""
    try:
        with path.open("rb") as file:
            begin = max(file.seek(0, os.SEEK_END) - most, 0)
            file.seek(begin)
            data = file.read(most)
    except OSError:
        return [], 0
    lines = data.split(b"\n")[:-1]
    return (lines[1:] if begin else lines), len(data)


def _by_kind(lines: Iterable[bytes], kinds: Collection[str] | None) -> dict[str, list[bytes]]:
    """Return lines by the kind they are about, without parsing all of each; those that are not ours are left out."""
    starts = tuple(f'{{"kind":{_ENCODE(kind)},'.encode() for kind in kinds) if kinds is not None else (b'{"kind":"',)
    found: dict[str, list[bytes]] = {}
    for line in lines:
        if line.startswith(starts):
            kind = line[9 : line.find(b'"', 9)]
            found.setdefault(kind.decode("utf-8", "replace"), []).append(line)
    return found
