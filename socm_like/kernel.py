"""What the kernel says in its files: proc(5), and the control groups of this process (cgroups(7))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Names:
    """What a version of control groups calls its files about memory."""

    version: str
    limit: str
    usage: str
    cache: str
    """Line of memory.stat: file pages that the kernel drops first, so that they count as free."""


_V2 = Names("v2", "memory.max", "memory.current", "inactive_file")
_V1 = Names("v1", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def kernel_text(path: Path) -> str:
    """Return what a file of the kernel says, or nothing where it says nothing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def memory_groups(root: Path) -> Iterator[tuple[Path, Names]]:
    """Yield the folders of the control groups that limit this process's memory, v2 and v1, the innermost first."""
    for line in kernel_text(root / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers == "":
            for mount in (root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"):
                yield from ((folder, _V2) for folder in _groups_along(mount, path))
        elif "memory" in controllers.split(","):
            yield from ((folder, _V1) for folder in _groups_along(root / "sys/fs/cgroup/memory", path))


def _groups_along(mount: Path, path: str) -> Iterator[Path]:
    """Yield the folder of a group and of all above it; a container may see only the last parts of the path."""
    parts = [part for part in path.split("/") if part]
    tails = (mount.joinpath(*parts[start:]) for start in range(len(parts) + 1))
    group = next((tail for tail in tails if tail.is_dir()), mount)
    for folder in (group, *group.parents):
        yield folder
        if folder == mount:
            return
