"""What other processes ask of the one that runs a run: files in a folder, so that it works on any file system."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence

from socm_like.errors import StoreError
from socm_like.store import RunDirectory


def read_requests(run: RunDirectory) -> list[list[str]]:
    """Return what other processes asked to be cancelled, oldest first, and take it off the pile.

    Each request is a list of task names; an empty list means the whole run.
    """
    try:
        paths = sorted(run.requests.iterdir())
    except FileNotFoundError:
        return []
    requests = []
    for path in paths:
        if path.suffix == ".json":
            try:
                requests.append([str(name) for name in json.loads(path.read_bytes())["cancel"]])
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"{path}: not a request of ours; remove the file") from error
            path.unlink()
    return requests


def write_request(run: RunDirectory, tasks: Sequence[str]) -> None:
    """Ask whoever runs this run to cancel tasks; none named means all."""
    run.requests.mkdir(exist_ok=True)
    name = f"{time.time_ns()}-{os.getpid()}"
    temporary = run.requests / f"{name}.tmp"
    temporary.write_text(json.dumps({"cancel": list(tasks)}))
    temporary.rename(run.requests / f"{name}.json")
