"""What a task asks for, and what a machine offers."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from itertools import takewhile
from pathlib import Path

from pydantic import NonNegativeInt, PositiveInt

from socm_like.fields import Bytes, Duration, Model
from socm_like.units import format_size

logger = logging.getLogger(__name__)


class Resources(Model):
    """What one task needs. ``None`` means nobody said: no limit is enforced but the machine's own."""

    ranks: PositiveInt = 1
    """Processes of the task (MPI ranks)."""
    threads: PositiveInt = 1
    """Cores per rank."""
    memory: Bytes | None = None
    """Memory of the whole task."""
    runtime: Duration | None = None
    """Wall-clock limit."""
    gpus: NonNegativeInt = 0
    """GPUs of the whole task."""
    gpu_memory: Bytes | None = None
    """Memory needed on each GPU."""

    @property
    def cores(self) -> int:
        """Cores of the whole task."""
        return self.ranks * self.threads

    def patched(self, patch: ResourcePatch) -> Resources:
        """Return these resources with every value that the patch states."""
        return self.model_copy(update=patch.model_dump(exclude_none=True)) if patch.model_fields_set else self


class ResourcePatch(Model):
    """``[campaign.x.resources]``: what the user overrides; the rest of the estimate stands."""

    ranks: PositiveInt | None = None
    threads: PositiveInt | None = None
    memory: Bytes | None = None
    runtime: Duration | None = None
    gpus: NonNegativeInt | None = None
    gpu_memory: Bytes | None = None


class Machine(Model):
    """What tasks run on."""

    name: str
    cores: tuple[int, ...]
    """Core numbers tasks may be bound to."""
    memory: Bytes
    gpus: tuple[str, ...] = ()
    """GPU indices as CUDA_VISIBLE_DEVICES takes them."""

    def refusals(self, resources: Resources) -> Sequence[str]:
        """Return every reason why a task can never run here; empty when it fits."""
        reasons = []
        if resources.cores > len(self.cores):
            reasons.append(f"asks {resources.cores} cores, {self.name} has {len(self.cores)}")
        if resources.memory is not None and resources.memory > self.memory:
            asked, offered = format_size(resources.memory), format_size(self.memory)
            reasons.append(f"asks {asked} of memory, {self.name} has {offered}")
        if resources.gpus > len(self.gpus):
            reasons.append(f"asks {resources.gpus} GPUs, {self.name} has {len(self.gpus)}")
        return reasons


def detect_machine() -> Machine:
    """Return this machine: cores by affinity, memory by the tightest cgroup limit, GPUs by nvidia-smi."""
    return Machine(
        name="local",
        cores=tuple(sorted(os.sched_getaffinity(0))),
        memory=min([_total_memory(), *_cgroup_limits()]),
        gpus=_gpus(),
    )


def _total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cgroup_limits() -> list[int]:
    """Memory limits of this process's cgroup and its ancestors, v2 and v1 (cgroups(7))."""
    limits = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = Path("/sys/fs/cgroup"), "memory.max"
        elif "memory" in controllers.split(","):
            root, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            limit = folder / name
            if limit.is_file() and (text := limit.read_text().strip()) != "max":
                limits.append(int(text))
            if folder == root:
                break
    return limits


def _gpus() -> tuple[str, ...]:
    """GPU indices, honouring a CUDA_VISIBLE_DEVICES that narrows them; CUDA stops reading it at ``-1``."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        parts = [part.strip() for part in visible.split(",")]
        return tuple(takewhile(lambda part: part not in ("", "-1"), parts))
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        listing = subprocess.run(
            [program, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        logger.warning("counting on no GPU: %s", error)
        return ()
    return tuple(listing.stdout.split())


UNSTATED_RUNTIME = timedelta(minutes=1)
"""The weight of a task whose runtime nobody stated, for ordering only."""
