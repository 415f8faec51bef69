"""The memory that a fit may really use: not what the machine has, but what is left of it for this process.

The least of what the kernel calls available (``MemAvailable`` of proc(5)), what the cgroups of the process leave (v1
and v2, cgroups(7)), the GPU where JAX computes on one, and the limit that the user states. NLSQ reads the first only,
which in a container or a batch job is the memory of the whole node.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from socm_like.kernel import kernel_text, memory_groups
from socm_like.resources import ROOT, detect_machine
from socm_like.units import format_size

GIB = 2**30
"""Bytes of what the pages call GB."""
JAX_SHARE = 0.75
"""Part of a GPU that JAX takes for itself unless told otherwise (docs.jax.dev, "GPU memory allocation")."""
MEMORY_LIMIT = "NLSQ_MEMORY_LIMIT_GB"


@dataclass(frozen=True, slots=True)
class AvailableMemory:
    """How much memory a fit may use, and what sets that limit."""

    bytes: int
    source: str
    """For example ``cgroup v2``; it continues the sentence "limited by"."""

    @property
    def gb(self) -> float:
        """GiB, which the pages call GB."""
        return self.bytes / GIB

    def __str__(self) -> str:
        return f"{format_size(self.bytes)} ({self.source})"


def available_memory(
    memory_limit_gb: float | None = None,
    *,
    platform: str | None = None,
    root: Path = ROOT,
    environ: Mapping[str, str] = os.environ,
) -> AvailableMemory:
    """Return the least of the memory that is left, and of the limit that is stated.

    ``memory_limit_gb`` replaces ``NLSQ_MEMORY_LIMIT_GB`` of ``environ``. ``platform`` is where JAX computes, ``cpu`` or
    ``gpu``; by default what JAX says, and ``cpu`` as long as nobody has imported it. ``root`` holds the ``proc`` and
    ``sys`` to read.

    Raises ValueError: a limit that is no positive number, naming where it stands.
    """
    limit, source = memory_limit_gb, "memory_limit_gb"
    if limit is None and (text := environ.get(MEMORY_LIMIT, "").strip()):
        limit, source = read_limit(text, MEMORY_LIMIT), MEMORY_LIMIT
    found = [*_host_memory(root)]
    if (platform or running_platform()) in ("gpu", "cuda", "rocm"):
        found += _gpu_memory(root, environ)
    if limit is not None:
        found.append(AvailableMemory(round(checked_limit(limit, source) * GIB), source))
    return min(found, key=lambda memory: memory.bytes)


def read_limit(text: str, where: str) -> float:
    """Return a number of GB written as text. Raises ValueError, naming ``where`` it stands."""
    try:
        return checked_limit(float(text), where)
    except ValueError:
        raise ValueError(f"{where} is {text!r}: write a positive number of GB, such as 16") from None


def checked_limit(limit: float, where: str) -> float:
    """Return a limit in GB. Raises ValueError unless it is positive and finite."""
    if isinstance(limit, bool) or not 0 < limit < math.inf:
        raise ValueError(f"{where} is {limit!r}: write a positive number of GB, such as 16")
    return float(limit)


def running_platform() -> str:
    """Return where JAX computes, ``cpu`` or ``gpu``; ``cpu`` in a process that has not imported it."""
    jax = sys.modules.get("jax")
    return "cpu" if jax is None else str(jax.default_backend())


def _host_memory(root: Path) -> Iterator[AvailableMemory]:
    """Yield what the kernel and each cgroup leave; at least one."""
    memory = _table(root / "proc/meminfo", unit=1024)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield AvailableMemory(memory.get("MemAvailable", memory.get("MemTotal", physical)), "memory available")
    for folder, names in memory_groups(root):
        limit, usage = (kernel_text(folder / name).strip() for name in (names.limit, names.usage))
        if limit.isdecimal():  # else "max", or no such file
            cache = _table(folder / "memory.stat").get(names.cache, 0)
            used = max(0, int(usage) - cache) if usage.isdecimal() else 0
            yield AvailableMemory(max(0, int(limit) - used), f"cgroup {names.version}")


def _gpu_memory(root: Path, environ: Mapping[str, str]) -> list[AvailableMemory]:
    """Return what JAX may take of the smallest GPU that is visible; nothing where nvidia-smi does not say."""
    memory = detect_machine(root).gpu_memory
    if memory is None:
        return []
    text = environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION") or environ.get("XLA_CLIENT_MEM_FRACTION") or ""
    try:
        share = float(text)
    except ValueError:
        share = JAX_SHARE
    return [AvailableMemory(int(memory * min(share, 1.0)), f"{share:.0%} of GPU memory")]


def _table(path: Path, unit: int = 1) -> dict[str, int]:
    """Return the numbers of a file of the kernel with a name and a number in each line."""
    words = (line.replace(":", " ").split() for line in kernel_text(path).splitlines())
    return {line[0]: int(line[1]) * unit for line in words if len(line) > 1 and line[1].isdecimal()}
