"""What a task that ended with exit status 0 must have left: its outputs, and metrics that are finite numbers.

Standard library only: ``campaign status`` judges by the same rules as the runner.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from os.path import exists, isdir
from typing import Any

RESULT = "result.json"
LARGEST = 64 * 2**20
"""Bytes of the largest file of metrics that is read."""


def broken_contract(
    folder: str, outputs: Mapping[str, str], metrics: str, *, runs_python: bool
) -> tuple[str, dict[str, Any]]:
    """Return what breaks the contract of the task that worked in ``folder``, or an empty string; and its metrics."""
    if not isdir(folder):
        return "its directory has gone: the task, or somebody, removed it", {}
    for name, path in outputs.items():
        label = path if name == path else f"{path} ({name})"
        if not exists(f"{folder}/{path}"):
            return f"the declared output {label} is missing", {}
        if _will_dangle(folder, path):
            return f"the declared output {label} links into the task's own directory, which moves; link relatively", {}
    if runs_python:
        return _metrics(folder, RESULT, "metrics")
    return _metrics(folder, metrics, None) if metrics else ("", {})


def _will_dangle(folder: str, path: str) -> bool:
    """Whether an output is an absolute link into the directory that is about to be renamed."""
    try:
        return os.readlink(f"{folder}/{path}").startswith(f"{folder}/")
    except OSError:  # no link at all
        return False


def _metrics(folder: str, name: str, key: str | None) -> tuple[str, dict[str, Any]]:
    """Return what is wrong with a file of metrics, or an empty string and the metrics."""
    try:
        metrics = json.loads(read_regular(f"{folder}/{name}"))
    except FileNotFoundError:
        return f"the declared metrics file {name} is missing", {}
    except RecursionError:
        return f"{name} is nested too deeply", {}
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}", {}
    except ValueError as error:
        return f"{name} is not JSON: {error}", {}
    metrics = metrics.get(key) if key and isinstance(metrics, dict) else metrics
    if not isinstance(metrics, dict):
        return f"{name} holds {type(metrics).__name__}, not a table of metrics", {}
    try:
        wrong = next(_not_finite(metrics), None)
    except RecursionError:
        return f"{name} is nested too deeply", {}
    return (f"the metric {wrong} is not a finite number", {}) if wrong else ("", metrics)


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


def read_regular(path: str) -> bytes:
    """Return the bytes of a regular file; never waits for a pipe, never reads without end.

    Raises OSError for anything else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "not a regular file")
        if found.st_size > LARGEST:
            raise OSError(0, f"larger than {LARGEST >> 20} MiB")
        return file.read()
