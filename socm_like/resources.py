"""What a task asks for, and what a machine offers."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from pydantic import NonNegativeInt, PositiveInt

from socm_like.fields import Bytes, Duration, Model
from socm_like.kernel import kernel_text, memory_groups
from socm_like.units import format_size, format_span

logger = logging.getLogger(__name__)

ROOT = Path("/")
PATIENCE = 8.0
"""Seconds that nvidia-smi may take; without persistence mode it wakes up every GPU first."""


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


class Prediction(Model):
    """What a task will need, learned from what tasks like it needed; ``None`` where nothing was learned."""

    memory: Bytes | None = None
    """Of the whole task, exceeded by few."""
    gpu_memory: Bytes | None = None
    """On each GPU, exceeded by few."""
    runtime: Duration | None = None
    """Exceeded by few."""
    typical_runtime: Duration | None = None
    """Exceeded by half of them."""
    records: PositiveInt
    """Finished tasks that it rests on."""


class Machine(Model):
    """What tasks run on."""

    name: str
    cores: tuple[int, ...]
    """Core numbers tasks may be bound to."""
    memory: Bytes
    gpus: tuple[str, ...] = ()
    """GPU indices as CUDA_VISIBLE_DEVICES takes them."""
    gpu_memory: Bytes | None = None
    """Memory of the smallest GPU; None where it is not known."""

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
        elif resources.gpus and (resources.gpu_memory or 0) > (self.gpu_memory or math.inf):
            asked, offered = format_size(resources.gpu_memory or 0), format_size(self.gpu_memory or 0)
            reasons.append(f"asks {asked} of memory on each GPU, {self.name} has {offered}")
        return reasons


class Detection(Model):
    """This machine, and how each figure was found."""

    machine: Machine
    cores: str
    """For example ``affinity, 2 of 64``."""
    memory: str
    gpus: str


def detect_machine(root: Path = ROOT, patience: float = PATIENCE) -> Machine:
    """Return this machine: cores by affinity, memory by the tightest cgroup limit, GPUs by nvidia-smi.

    ``root`` holds the ``proc`` and ``sys`` to read; nvidia-smi is given up after ``patience`` seconds.
    """
    return detect(root, patience).machine


def detect(root: Path = ROOT, patience: float = PATIENCE) -> Detection:
    """Return this machine as :func:`detect_machine` does, and how each figure was found."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    memory, memory_source = _memory(root)
    gpus = _gpus(patience)
    machine = Machine(name="local", cores=cores, memory=memory, gpus=gpus.names, gpu_memory=gpus.memory)
    online = _online_cores(root) or os.cpu_count() or len(cores)
    return Detection(
        machine=machine, cores=f"affinity, {len(cores)} of {online}", memory=memory_source, gpus=gpus.source
    )


def _online_cores(root: Path) -> int:
    """Return how many cores the kernel runs on, or 0: ``0-3,8`` in sysfs."""
    total = 0
    for part in kernel_text(root / "sys/devices/system/cpu/online").strip().split(","):
        first, _, last = part.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            return 0
        total += int(last or first) - int(first) + 1
    return total


def _memory(root: Path) -> tuple[int, str]:
    total = _total_memory(root)
    limit, version = min(_cgroup_limits(root), default=(total, ""))
    if limit >= total:
        return total, "all RAM, no cgroup limits it"
    return limit, f"cgroup {version} limit of {format_size(limit)}, of {format_size(total)} RAM"


def _total_memory(root: Path) -> int:
    for line in kernel_text(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal" and (size := rest.removesuffix("kB").strip()).isdecimal():
            return int(size) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cgroup_limits(root: Path) -> Iterator[tuple[int, str]]:
    """Yield the memory limits of this process's cgroup and its ancestors, v2 and v1."""
    for folder, names in memory_groups(root):
        limit = kernel_text(folder / names.limit).strip()
        if limit.isdecimal() and int(limit) > 0:  # else "max", or no such file
            yield int(limit), names.version


class _Gpu(NamedTuple):
    number: str
    uuid: str
    memory: int | None


class _Gpus(NamedTuple):
    names: tuple[str, ...]
    memory: int | None
    source: str


def _gpus(patience: float) -> _Gpus:
    """Return the GPUs that nvidia-smi lists and CUDA_VISIBLE_DEVICES shows; CUDA stops reading it at ``-1``."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    words = [part.strip() for part in (visible or "").split(",")]
    named = list(takewhile(lambda word: word not in ("", "-1"), words))
    if visible is not None and not named:
        return _Gpus((), None, "CUDA_VISIBLE_DEVICES shows none")
    program = shutil.which("nvidia-smi")
    if program is None:
        if named:
            logger.warning("counting on no GPU: CUDA_VISIBLE_DEVICES is %s, but there is no nvidia-smi", visible)
        return _Gpus((), None, "no nvidia-smi")
    try:
        listed = _listed_gpus(program, patience)
    except (OSError, ValueError) as error:
        logger.warning("counting on no GPU: %s", error)
        return _Gpus((), None, str(error))
    if visible is None:
        return _Gpus(tuple(gpu.number for gpu in listed), _smallest(listed), "nvidia-smi")
    shown = _shown(named, listed)
    if len(shown) < len(named):
        logger.warning("counting on %d GPUs: nvidia-smi lists %d, not all of CUDA_VISIBLE_DEVICES = %s",
                       len(shown), len(listed), visible)  # fmt: skip
    source = f"nvidia-smi lists {len(listed)}, CUDA_VISIBLE_DEVICES shows {len(shown)}"
    return _Gpus(tuple(shown), _smallest(shown.values()), source)


def _shown(named: Sequence[str], listed: Sequence[_Gpu]) -> dict[str, _Gpu]:
    """Return the GPUs named, up to the first that is not there, which is how CUDA reads its variable.

    A name is an index, the beginning of a UUID that no other shares, or part of a GPU (``MIG-...``); of the latter
    nvidia-smi lists the whole only, so that its memory is not known.
    """
    shown: dict[str, _Gpu] = {}
    for name in named:
        if name.startswith("MIG-") and listed:
            shown[name] = _Gpu(name, name, None)
            continue
        found = [gpu for gpu in listed if gpu.number == name or (name.startswith("GPU-") and gpu.uuid.startswith(name))]
        if len(found) != 1 or found[0] in shown.values():
            break
        shown[name] = found[0]
    return shown


def _smallest(gpus: Iterable[_Gpu]) -> int | None:
    """Return the memory of the smallest GPU, or None where that of one is not known."""
    sizes = [gpu.memory for gpu in gpus]
    known = [size for size in sizes if size is not None]
    return min(known) if known and len(known) == len(sizes) else None


def _listed_gpus(program: str, patience: float) -> list[_Gpu]:
    """Return the GPUs of this machine.

    Raises OSError and ValueError when nvidia-smi cannot be run, fails, hangs, or answers something else.
    """
    gpus = []
    for line in _answer([program, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"], patience):
        number, *rest = (part.strip() for part in line.split(","))
        if not number.isdecimal() or len(rest) != 2:
            raise ValueError(f"nvidia-smi lists {line!r}, not index, uuid and memory")
        uuid, mebibytes = rest
        gpus.append(_Gpu(number, uuid, int(mebibytes) * 2**20 if mebibytes.isdecimal() else None))
    return gpus


def _answer(argv: Sequence[str], patience: float) -> list[str]:
    """Return the lines a program prints. Raises OSError, ValueError when it fails or hangs."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"nvidia-smi did not answer within {format_span(patience)}") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):  # it waits for a driver that hangs: nothing ends it
                process.communicate(timeout=1)
    lines = output.splitlines()
    if process.returncode:
        raise ValueError(f"nvidia-smi failed (exit status {process.returncode}): {' '.join(lines)[:200]}")
    return [line for line in lines if line.strip()]


UNSTATED_RUNTIME = timedelta(minutes=1)
"""The weight of a task whose runtime nobody stated, for ordering only."""
