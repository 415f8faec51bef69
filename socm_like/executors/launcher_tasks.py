"""What waits and what it may use: the launcher's tasks, their queue and the shares of the machine.

Part of the launcher: standard library only, and of that only what loads in a moment.
"""

from __future__ import annotations

import heapq
import os
from math import inf

TYPE_CHECKING = False  # the typing module takes as long to load as all the rest
if TYPE_CHECKING:
    from typing import Any

PROTOCOL = 2
"""Changes with the messages between client and launcher: one may have been updated while the other ran."""

Key = tuple[str, int]
"""A task's name and the number of the attempt."""


class Exit:
    """How the main process of a task ended, as wait4(2) tells it."""

    __slots__ = ("at", "code", "cpu", "peak", "signal")

    def __init__(self, code: int, cpu: float, peak: int, at: float) -> None:
        self.code = code if code >= 0 else None
        self.signal = -code if code < 0 else None
        self.cpu = cpu
        """Seconds of the process and of all it waited for."""
        self.peak = peak
        """Bytes of the largest single process among them; never less than the launcher's own memory."""
        self.at = at


class Task:
    """One attempt of one task, from the request to its end record."""

    __slots__ = (
        "argv", "attempt", "bound", "cores", "cwd", "deadline", "devices", "env", "environ", "err", "exceeded", "exit",
        "gpu_memory", "gpu_peak", "gpus", "gpus_over", "grace", "is_waiting", "leftover", "memory", "name", "number",
        "out", "parts", "peak", "pid", "priority", "reason", "reserved", "runtime", "since", "stage", "started",
        "threads", "why",
    )  # fmt: skip

    def __init__(self, asked: dict[str, Any], environ: dict[bytes, bytes], number: int) -> None:
        self.name: str = asked["task"]
        self.attempt: int = asked["attempt"]
        self.argv: list[str] | None = asked["argv"]
        self.cwd: str = asked["cwd"]
        self.env: dict[str, str] = asked["env"]
        self.out: str = asked["out"]
        self.err: str = asked["err"]
        self.cores: int = asked["cores"]
        self.threads: int = asked["threads"]
        self.memory: int | None = asked["memory"]
        """Bytes at which it is ended; None means those of the machine."""
        self.reserved = _reserved(asked)
        """Bytes kept free for it."""
        self.gpus: int = asked["gpus"]
        self.gpu_memory: int | None = asked.get("gpu_memory")
        """Bytes on one GPU at which it is ended; None means no limit."""
        self.runtime: float | None = asked["runtime"]
        self.grace: float = asked["grace"]
        self.priority: float = asked["priority"]
        self.environ = environ
        """The environment of whoever submitted it."""
        self.number = number
        """Counts requests: among equals the first one goes first."""
        self.is_waiting = False
        self.bound: tuple[int, ...] = ()
        """The cores it was given."""
        self.devices: tuple[str, ...] = ()
        """The GPUs it was given."""
        self.pid = 0
        """Its main process, leader of its session; 0 until there is one."""
        self.started = 0.0
        self.since = 0.0
        """The start by the monotonic clock."""
        self.peak = self.gpu_peak = 0
        """The most bytes that it was seen to use, in memory and on one GPU."""
        self.gpus_over: frozenset[str] = frozenset()
        """GPUs on which the last sample saw more than its limit."""
        self.parts: list[int] = []
        """Its processes beside the main one when last looked at."""
        self.deadline = inf
        """When something must be done about it, by the monotonic clock."""
        self.stage = 0
        """How often it was told to end: not at all, kindly, then by force."""
        self.reason: str | None = None
        self.why: str | None = None
        self.exceeded: str | None = None
        """What it used too much of, where the reason is ``oom``."""
        self.exit: Exit | None = None
        self.leftover = 0

    @property
    def key(self) -> Key:
        """Its name among all attempts."""
        return self.name, self.attempt

    def end_record(self, at: float) -> dict[str, Any]:
        """Return what the log says about its end."""
        end = self.exit
        return {
            "task": self.name,
            "attempt": self.attempt,
            "event": "end",
            "at": at if end is None else end.at,
            "code": None if end is None else end.code,
            "signal": None if end is None else end.signal,
            "reason": self.reason,
            "why": self.why,
            "exceeded": self.exceeded,
            "peak_memory": max(self.peak, 0 if end is None else end.peak) or None,
            "peak_gpu_memory": self.gpu_peak or None,
            "cpu": None if end is None else end.cpu,
            "leftover": self.leftover,
        }


def _reserved(asked: dict[str, Any]) -> int:
    """Return the bytes to keep free for a task: no more than its limit, because it does not live to use more."""
    limit: int | None = asked["memory"]
    reserved: int | None = asked.get("reserved_memory")  # a client of an older version says nothing
    if reserved is None or limit is None:
        return reserved or limit or 0
    return min(reserved, limit)


class Shares:
    """What is free of the machine: particular cores and GPUs, an amount of memory."""

    def __init__(self) -> None:
        self._machine: tuple[frozenset[int], int, list[str]] = (frozenset(), 0, [])
        self._cores: list[int] = []
        self._gpus: list[str] = []
        self.memory = 0
        """Free bytes; less than none while tasks run that were given more than a smaller machine has."""
        self._usable = os.sched_getaffinity(0)

    def reset(self, cores: list[int], memory: int, gpus: list[str], holders: list[Task]) -> None:
        """Begin to share out this machine; tasks that run keep what they have."""
        self._machine = (frozenset(cores), memory, gpus)
        taken_cores = {core for task in holders for core in task.bound}
        taken_gpus = {gpu for task in holders for gpu in task.devices}
        self._cores = sorted(core for core in cores if core not in taken_cores)
        self._gpus = [gpu for gpu in gpus if gpu not in taken_gpus]
        self.memory = memory - sum(self._kept(task) for task in holders)

    @property
    def cores(self) -> int:
        """How many cores are free."""
        return len(self._cores)

    @property
    def gpus(self) -> int:
        """How many GPUs are free."""
        return len(self._gpus)

    @property
    def room(self) -> float:
        """Bytes that a task may reserve now: any number when nobody holds memory, so that the greediest runs alone."""
        return inf if self.memory >= self.total_memory else max(self.memory, 0)

    @property
    def total_memory(self) -> int:
        """Bytes of the whole machine."""
        return self._machine[1]

    @property
    def has_gpus(self) -> bool:
        """Whether the machine has any GPU, free or not."""
        return bool(self._machine[2])

    def usable(self, task: Task) -> set[int]:
        """Return the cores of a task that this process may bind to; a machine file may name others."""
        return self._usable.intersection(task.bound)

    def refusal(self, task: Task) -> str | None:
        """Return why a task can never run here, or None when it can."""
        cores, memory, gpus = self._machine
        if task.cores > len(cores):
            return f"asks {task.cores} cores, the machine has {len(cores)}"
        if task.memory is not None and task.memory > memory:
            return f"asks {task.memory} bytes of memory, the machine has {memory}"
        if task.gpus > len(gpus):
            return f"asks {task.gpus} GPUs, the machine has {len(gpus)}"
        return None

    def take(self, task: Task) -> None:
        """Give a task what it asks; the caller has made sure that it fits."""
        task.bound = tuple(self._cores[: task.cores])
        del self._cores[: task.cores]
        task.devices = tuple(self._gpus[: task.gpus])
        del self._gpus[: task.gpus]
        self.memory -= self._kept(task)

    def give_back(self, task: Task) -> None:
        """Take back what a task had, as far as it is still part of the machine."""
        cores, _, gpus = self._machine
        self._cores.extend(core for core in task.bound if core in cores)
        self._cores.sort()
        if task.devices:
            free = {*self._gpus, *task.devices}
            self._gpus = [gpu for gpu in gpus if gpu in free]
        self.memory += self._kept(task)
        task.bound, task.devices = (), ()

    def _kept(self, task: Task) -> int:
        """Return the bytes that count as taken; no task can keep more than there is, nor use it."""
        return min(task.reserved, self.total_memory)


Entry = tuple[float, int, int, Task]
"""A place in the queue: most urgent first, then as asked; the third number only makes entries differ."""


class Queue:
    """Tasks that wait, by priority; of those that fit the most urgent one is taken.

    Tasks are kept on shelves of like demand: same cores, same GPUs, reserved memory within a factor of two. Only the
    first of each shelf need be looked at, but for the one shelf whose memory range the free memory lies in. So taking
    costs little however many tasks wait, and still finds one whenever one fits.
    """

    def __init__(self) -> None:
        self._shelves: dict[tuple[int, int, int], list[Entry]] = {}
        self._waiting: dict[Key, Task] = {}
        self._puts = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting

    def keys(self) -> list[Key]:
        """Return the names of all that wait."""
        return list(self._waiting)

    def put(self, task: Task) -> None:
        """Add a task."""
        task.is_waiting = True
        self._waiting[task.key] = task
        shelf = (task.cores, task.gpus, task.reserved.bit_length())
        self._puts += 1
        heapq.heappush(self._shelves.setdefault(shelf, []), (-task.priority, task.number, self._puts, task))

    def remove(self, key: Key) -> Task | None:
        """Take a particular task out; None when it does not wait. Its place on the shelf is cleared later."""
        task = self._waiting.pop(key, None)
        if task is not None:
            task.is_waiting = False
        return task

    def take(self, shares: Shares) -> Task | None:
        """Take out the most urgent task that fits what is free; None when none does."""
        if not self._waiting or not shares.cores:
            return None
        best, room = None, shares.room
        for demand in list(self._shelves):
            cores, gpus, bits = demand
            least_memory = 1 << (bits - 1) if bits else 0
            if cores > shares.cores or gpus > shares.gpus or least_memory > room:
                continue
            first = self._first(demand, room)
            if first is not None and (best is None or first < best):
                best = first
        return None if best is None else self.remove(best[3].key)

    def _first(self, demand: tuple[int, int, int], room: float) -> Entry | None:
        """Return the most urgent of one shelf for whose memory there is room."""
        shelf = self._shelves[demand]
        while shelf and not shelf[0][3].is_waiting:
            heapq.heappop(shelf)
        if not shelf:
            del self._shelves[demand]
            return None
        if shelf[0][3].reserved <= room:
            return shelf[0]
        return min((entry for entry in shelf if entry[3].is_waiting and entry[3].reserved <= room), default=None)
