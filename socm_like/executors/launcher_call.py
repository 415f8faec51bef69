"""What the client of a launcher tells it: where to meet, what tasks inherit, what to run."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

from socm_like.executors.base import Launch


def address_of(run: Path) -> str:
    """Return the abstract socket address of a run directory's launcher (unix(7)).

    It names the very directory, not only its path: what was moved away or hidden by a mount is another one.
    """
    place = run.stat()
    name = hashlib.sha256(f"{os.getuid()}:{place.st_dev}:{place.st_ino}:{run}".encode("utf-8", "surrogateescape"))
    return f"\0socm-like-{name.hexdigest()[:32]}"


def environment_of_tasks() -> dict[str, str]:
    """Return what tasks inherit: this environment, with ``python`` being the one this program is installed with.

    Somebody who types ``.venv/bin/campaign`` without activating anything means the ``python3`` beside it. An
    activated environment (venv or conda) is left as it is.
    """
    environment = dict(os.environ)
    is_virtual = sys.prefix != sys.base_prefix
    if is_virtual and not environment.keys() & {"VIRTUAL_ENV", "CONDA_PREFIX"}:
        environment["VIRTUAL_ENV"] = sys.prefix
        environment["PATH"] = os.pathsep.join([f"{sys.prefix}/bin", environment.get("PATH", os.defpath)])
    return environment


def request(launch: Launch) -> dict[str, Any]:
    """Return a launch as the launcher takes it: plain JSON values, bytes and seconds."""
    resources = launch.resources
    return {
        "task": launch.attempt.task,
        "attempt": launch.attempt.number,
        "argv": launch.argv,
        "cwd": str(launch.directory),
        "env": dict(launch.environment),
        "out": str(launch.stdout),
        "err": str(launch.stderr),
        "cores": resources.cores,
        "threads": resources.threads,
        "memory": resources.memory,
        "reserved_memory": launch.reserved_memory,
        "gpus": resources.gpus,
        "gpu_memory": resources.gpu_memory,
        "runtime": None if resources.runtime is None else resources.runtime.total_seconds(),
        "grace": launch.grace,
        "priority": launch.priority,
    }
