"""The processes of tasks, read from /proc (proc(5)): whose they are, what memory they use, how to end them.

Part of the launcher: standard library only, and of that only what loads in a moment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping

from .launcher_tasks import Key, Task

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_DIGITS = frozenset("123456789")
_FORGET_AFTER = 32
"""Scans after which processes of strangers are looked at again: their pids may have passed to tasks of ours."""
_LEAST_AVAILABLE = 256 << 20
"""Bytes of memory that a machine must have available, or 2 % of it where that is more."""


class Process:
    """One line of /proc/PID/stat, as far as it matters here."""

    __slots__ = ("group", "is_alive", "memory", "parent", "pid", "session", "ticks")

    def __init__(self, pid: int, line: bytes) -> None:
        fields = line[line.rindex(b")") + 2 :].split()
        self.pid = pid
        self.is_alive = fields[0] not in (b"Z", b"X")
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.ticks = int(fields[19])
        """Its start, in clock ticks since boot."""
        self.memory = int(fields[21]) * _PAGE
        """Resident bytes, shared ones included."""


def read_process(pid: int) -> Process | None:
    """Return a process, or None when there is none."""
    line = _read(f"/proc/{pid}/stat")
    return Process(pid, line) if line else None


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 1 << 18)
    except OSError:  # it went away in between
        return b""
    finally:
        os.close(descriptor)


def _all_pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name[0] in _DIGITS}  # noqa: PTH208 - pathlib loads slowly


def environ_of(pid: int) -> dict[bytes, bytes]:
    """Return the variables a process was started with; empty when it is gone or somebody else's."""
    return dict(pair.partition(b"=")[::2] for pair in _read(f"/proc/{pid}/environ").split(b"\0") if pair)


def named_attempt(environ: Mapping[bytes, bytes], run: str) -> Key | None:
    """Return the attempt of this run that a process says it belongs to."""
    if environ.get(b"SOCM_RUN") != os.fsencode(run):
        return None
    name, number = environ.get(b"SOCM_TASK"), environ.get(b"SOCM_ATTEMPT", b"")
    return (os.fsdecode(name), int(number)) if name is not None and number.isdigit() else None


class ProcessTable:
    """Finds the processes of tasks.

    A process belongs to a task when it is in the session of its main process, descends from one that does, or
    says so in its environment; the last finds daemons, which the launcher adopts when their parents end.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._me = os.getpid()
        self._strangers: set[int] = set()
        self._scans = 0

    def scan(self, tasks: Collection[Task]) -> tuple[dict[Key, list[Process]], list[Process]]:
        """Return the living processes of each task, and those the launcher adopted from nobody known."""
        leaders = {task.pid: task.key for task in tasks if task.pid}
        known = {task.key for task in tasks}
        self._scans += 1
        pids = _all_pids()
        self._strangers = set() if self._scans % _FORGET_AFTER == 0 else self._strangers & pids - leaders.keys()
        found = {pid: process for pid in pids - self._strangers if (process := read_process(pid)) is not None}
        owned: dict[Key, list[Process]] = {key: [] for key in known}
        adopted: list[Process] = []
        for pid, process in found.items():
            owner = self._owner(process, found, leaders)
            if owner is None:
                if process.parent == self._me and pid not in leaders:
                    adopted.append(process)
                elif process.session != self._me:
                    self._strangers.add(pid)
            elif process.is_alive:
                owned[owner].append(process)
        for process in list(adopted):
            name = named_attempt(environ_of(process.pid), self._run)
            if name is not None and name in known and process.is_alive:
                owned[name].append(process)
                adopted.remove(process)
        return owned, adopted

    def _owner(self, process: Process, found: Mapping[int, Process], leaders: Mapping[int, Key]) -> Key | None:
        """Return the task a process belongs to by session or descent."""
        for _ in range(64):  # a chain of parents read while it changed might have no end
            owner = leaders.get(process.pid) or leaders.get(process.session)
            parent = found.get(process.parent)
            if owner is not None or parent is None or parent.pid == self._me:
                return owner
            process = parent
        return None


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not just waiting to be buried."""
    process = read_process(pid)
    return process is not None and process.is_alive


def has_group(group: int) -> bool:
    """Whether any process, dead ones not yet buried included, is in a process group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def send(number: int, processes: Collection[Process], group: int = 0) -> None:
    """Send a signal to a whole process group, and to those processes that are not in it."""
    if group:
        _kill(os.killpg, group, number)
    for process in processes:
        if process.group != group or not group:
            _kill(os.kill, process.pid, number)


def _kill(kill: Callable[[int, int], None], target: int, number: int) -> None:
    try:
        kill(target, number)
    except (ProcessLookupError, PermissionError):  # gone, or it changed its user: not ours to end
        return


def memory_of(processes: Collection[Process], limit: int) -> int:
    """Return the bytes that processes use together.

    Resident sizes count pages that processes share once for each. That is cheap, and right for one process; only
    where the sum is over the limit, each page is shared out among those who map it (smaps_rollup).
    """
    resident = sum(process.memory for process in processes)
    if resident <= limit or len(processes) < 2:
        return resident
    return sum(_proportional(process) for process in processes)


def _proportional(process: Process) -> int:
    for line in _read(f"/proc/{process.pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) << 10
    return process.memory


def machine_is_short_of_memory() -> bool:
    """Whether the whole machine is about to run out of memory."""
    lines = dict(line.split(b":", 1) for line in _read("/proc/meminfo").splitlines()[:8])
    total, available = (int(lines[name].split()[0]) << 10 for name in (b"MemTotal", b"MemAvailable"))
    return available < max(_LEAST_AVAILABLE, total // 50)


def end_survivors(run: str, attempts: Mapping[Key, tuple[int, float] | None]) -> int:
    """Kill what is left of attempts whose launcher died; return how many processes were found.

    Each attempt comes with the pid and the start (seconds since the epoch) of its main process, where they are on
    record. Only processes that certainly belong to it are touched: those that name the attempt, the main process
    by pid and start, and those in its session that name this run and no other attempt.
    """
    mains = {known[0]: known[1] for known in attempts.values() if known is not None}
    boot = next(int(line.split()[1]) for line in _read("/proc/stat").splitlines() if line.startswith(b"btime"))
    ended: set[int] = set()
    for _ in range(50):  # a process may fork while it is being looked for
        found = []
        for pid in _all_pids() - {os.getpid()}:
            process = read_process(pid)
            if process is not None and process.is_alive and _belongs(process, run, (attempts, mains, boot)):
                found.append(process)
        if not found:
            break
        send(9, found)
        ended.update(process.pid for process in found)
    return len(ended)


def _belongs(process: Process, run: str, known: tuple[Collection[Key], Mapping[int, float], int]) -> bool:
    attempts, mains, boot = known
    if process.pid in mains and abs(boot + process.ticks / _TICKS - mains[process.pid]) <= 2:
        return True
    environ = environ_of(process.pid)
    name = named_attempt(environ, run)
    if name is not None:
        return name in attempts
    return environ.get(b"SOCM_RUN") == os.fsencode(run) and process.session in mains  # a fork of the warm process
