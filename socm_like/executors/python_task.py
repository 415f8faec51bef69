"""One Python task in a process of its own: ``task.json`` -> Workflow -> ``run(directory)`` -> ``result.json``."""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from socm_like.errors import SocmError
from socm_like.journal import TaskState
from socm_like.registry import Registry
from socm_like.store import write_atomically
from socm_like.workflow import Result

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
    for name in ("result.json", "error.json"):  # of an earlier attempt
        (directory / name).unlink(missing_ok=True)
    try:
        task = json.loads((directory / "task.json").read_bytes())
        metrics = _run(task, directory)
        content = {"schema": SCHEMA, "task": task["task"], "kind": task["kind"], "id": task["id"], "metrics": metrics}
        write_atomically(directory / "result.json", json.dumps(content, allow_nan=False) + "\n")
    except NotFiniteError as error:
        _fail(directory, TaskState.INVALID, str(error))
        return 1
    except BaseException as error:  # noqa: BLE001 - whatever ends the task is its reason, sys.exit() included
        traceback.print_exc()
        _fail(directory, TaskState.FAILED, _reason(error))
        return 1
    return 0


def _run(task: Mapping[str, Any], directory: Path) -> Any:
    registry = load_registry(tuple(Path(path) for path in task["plugins"]))
    workflow = registry[task["kind"]].model_validate(task["fields"])
    result = workflow.run(directory)
    if not isinstance(result, Result):
        raise TypeError(f"{type(workflow).__name__}.run returned {type(result).__name__}, not a Result")
    return as_json(result.metrics, "")


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
    write_atomically(directory / "error.json", json.dumps({"state": state, "reason": reason}) + "\n")


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
