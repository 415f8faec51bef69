"""Checkpoints of a fit: its state after every few passes, in one small file that is never half written.

The file is JSON; the numbers of the state are hexadecimal (``float.hex``), so that a fit that goes on gives the same
bits as one that was never interrupted. It says which problem it belongs to, and is refused for another one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from socm_workflows.fit.solver.iteration import Progress
from socm_workflows.fit.solver.least_squares import Stop
from socm_workflows.fit.solver.packing import unpack

SCHEMA = "socm-fit-checkpoint"
VERSION = 1
EVERY = 3
"""Passes between two checkpoints unless stated: a kill costs two passes at most, and the one it was in."""


class Identified(Protocol):
    """A source that can say which data it gives."""

    def identity(self) -> Mapping[str, Any]:
        """Return what tells these data from others, for JSON."""
        ...


def problem_of(
    model: Callable[..., Any],
    data: Identified | Mapping[str, Any],
    start: ArrayLike,
    *,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    loss: str | Callable[..., Any] = "linear",
    f_scale: float = 1.0,
    jac: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Return what a state of a fit depends on, as JSON has it: model, data, start, bounds and loss.

    Tolerances and limits are left out: a fit may go on with others.
    """
    begin = np.asarray(start, float)
    return {
        "model": describe(model),
        "jac": None if jac is None else describe(jac),
        "data": dict(data if isinstance(data, Mapping) else data.identity()),
        "start": _hex(begin),
        "lower": _hex(np.broadcast_to(-np.inf if lower is None else np.asarray(lower, float), begin.shape)),
        "upper": _hex(np.broadcast_to(np.inf if upper is None else np.asarray(upper, float), begin.shape)),
        "loss": loss if isinstance(loss, str) else describe(loss),
        "f_scale": float(f_scale).hex(),
    }


def _hex(values: Any) -> list[str]:
    return [float(value).hex() for value in values]


def describe(function: Callable[..., Any]) -> dict[str, str]:
    """Return name and code digest of a function; what it calls and encloses is not looked at."""
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__name__)}"
    inner: Any = function
    while not hasattr(inner, "__code__"):
        follow = next((part for part in ("__wrapped__", "func", "__func__") if hasattr(inner, part)), None)
        if follow is None:
            return {"name": name}
        inner = getattr(inner, follow)
    return {"name": name, "code": hashlib.sha256("\n".join(_parts(inner.__code__)).encode()).hexdigest()[:32]}


def _parts(code: types.CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _parts(constant)
        else:
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def differences(kept: Any, now: Any, place: str = "") -> Iterator[str]:
    """Yield in words where two problems differ."""
    if isinstance(kept, Mapping) and isinstance(now, Mapping):
        for key in sorted({*kept, *now}):
            yield from differences(kept.get(key), now.get(key), f"{place}.{key}" if place else str(key))
    elif kept != now:
        yield f"{place} was {_readable(kept)} and is {_readable(now)}"


def _readable(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_readable, value)) + "]"
    try:
        return (
            repr(float.fromhex(value)) if isinstance(value, str) and ("0x" in value or "inf" in value) else repr(value)
        )
    except ValueError:
        return repr(value)


@dataclass(slots=True, eq=False)
class Checkpoint:
    """Keeps the state of a fit in a file: pass it as ``callback``, and what :meth:`read` returns as ``resume``."""

    path: Path
    problem: Mapping[str, Any]
    """Of :func:`problem_of`."""
    every: int = EVERY
    """Passes from one checkpoint to the next."""
    written: int | None = None
    """Passes at the last one; None before the first."""

    def __call__(self, progress: Progress) -> None:
        """Write the state if enough passes were made since the last time.

        The state of a fit that has ended is not written: to go on from the one before gives the same end again.
        Raises OSError: it cannot be written; the one before is as it was.
        """
        if self.every < 1:
            raise ValueError(f"a checkpoint every {self.every} passes: write a positive number")
        has_ended = int(unpack(progress.state, progress.parameters.size).stop) != int(Stop.RUNNING)
        if has_ended or (self.written is not None and progress.evaluations - self.written < self.every):
            return
        self.write(progress)

    def write(self, progress: Progress) -> None:
        """Replace the file by one with this state, at once and for good (fsync(2), rename(2))."""
        document = {
            "schema": SCHEMA,
            "version": VERSION,
            "problem": self.problem,
            "iteration": progress.iteration,
            "evaluations": progress.evaluations,
            "cost": progress.cost,
            "parameters": [float(value) for value in progress.parameters],
            "snapshot": progress.snapshot(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump(document, file, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(self.path.parent)
        self.written = progress.evaluations

    def read(self) -> dict[str, Any] | None:
        """Return the snapshot to go on from, or None where there is no file.

        Raises ValueError: the file is no checkpoint, of a later version, or of another problem; it says what differs.
        """
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"{self.path} is no checkpoint of a fit ({error}); remove it to begin anew") from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ValueError(f"{self.path} is no checkpoint of a fit; write to another file")
        if document.get("version") != VERSION:
            raise ValueError(
                f"{self.path} has version {document.get('version')!r} of checkpoints, this program reads {VERSION}; "
                "remove it to begin anew"
            )
        changes = [*differences(document.get("problem"), json.loads(json.dumps(self.problem)))]
        if changes:
            raise ValueError(
                f"{self.path} is a checkpoint of another fit: {'; '.join(changes)}; remove it to begin anew"
            )
        snapshot, evaluations = document.get("snapshot"), document.get("evaluations")
        if not isinstance(snapshot, dict) or not isinstance(evaluations, int):
            raise ValueError(f"{self.path} is no checkpoint of a fit; remove it to begin anew")
        self.written = evaluations
        return snapshot

    def remove(self) -> None:
        """Remove the file, and what a killed process left of a new one; for a fit whose answer is written."""
        for path in (self.path, *self._drafts()):
            path.unlink(missing_ok=True)

    def _drafts(self) -> Sequence[Path]:
        folder = self.path.parent
        return [path for path in folder.iterdir() if path.name.startswith(f".{self.path.name}.")]


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # not every network file system can
            raise
    finally:
        os.close(descriptor)
