"""GPU memory of tasks: nvidia-smi is asked again and again, and never waited for.

Part of the launcher: standard library only, and of that only what loads in a moment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from math import inf

from .launcher_processes import send
from .launcher_tasks import Task

_NUMBERS = ("--query-gpu=index,uuid", "--format=csv,noheader")
_USED = ("--query-compute-apps=pid,gpu_uuid,used_gpu_memory", "--format=csv,noheader,nounits")
_FIRST = 0.25
"""Seconds after the start of a task until GPUs are looked at: no program has used one before."""
_LEAST = 1.0
"""Least seconds between two looks; more where one is slow, so that they cost 5 % of a core at the most."""
_PATIENCE = 8.0
"""Seconds that nvidia-smi may take, as where the machine is detected."""
_TRIES = 3
"""How often in a row it may fail before it is asked no more."""
_LONGEST = 1 << 20
"""Bytes of an answer that are read."""


class GpuWatch:
    """Measures what each task uses of each GPU, in samples of the whole machine; says who uses too much.

    A driver that hangs takes nvidia-smi with it, so it is a child of its own that is killed when it is late. After
    repeated failure the launcher's log says that nothing is measured any more, until another client comes.
    """

    def __init__(self) -> None:
        self.pid = 0
        """The nvidia-smi that was asked and has not ended, or 0."""
        self.next_look = inf
        """When :meth:`look` has something to do, by the monotonic clock."""
        self._environ: Mapping[bytes, bytes] = {}
        self._answer = -1
        """Reading end of the pipe that it writes to."""
        self._asked = 0.0
        self._earliest = 0.0
        """When the next sample may begin."""
        self._failures = 0
        self._numbers: dict[str, str] | None = None
        """UUID of each GPU -> its number; None before the first sample."""

    def serve(self, environ: Mapping[bytes, bytes], tasks: Collection[Task]) -> None:
        """Take the environment of a new client, and try again what may have failed before."""
        self._environ = environ
        self._failures = 0
        for task in tasks:
            if task.devices:
                self.expect(task)

    def expect(self, task: Task) -> None:
        """Take a sample soon: a task with GPUs has started."""
        if self._failures < _TRIES and not self.pid:
            self.next_look = min(self.next_look, max(task.since + _FIRST, self._earliest))

    def look(self, now: float, tasks: Collection[Task]) -> None:
        """Begin a sample, or end one that takes too long. Nothing is asked while no task of these has a GPU."""
        if self.pid:
            send(9, (), self.pid)  # one that waits for a broken driver may not even die: nobody waits for it
            self._let_go()
            self._fail(f"nvidia-smi did not answer within {_PATIENCE:g} s", now)
        elif not any(task.devices for task in tasks):
            self.next_look = inf
        else:
            self._ask(now)

    def ended(self, status: int, cpu: float, tasks: Collection[Task]) -> list[tuple[Task, str]]:
        """Take in what nvidia-smi says, now that it has ended; return the tasks to end and why.

        Each task's peak is raised. One is to be ended that has been over its limit on a GPU twice in a row.
        """
        now = time.monotonic()
        text = self._read()
        taken = now - self._asked
        self._let_go()
        self._earliest = now + max(_LEAST, 20 * cpu, 4 * taken)
        code = os.waitstatus_to_exitcode(status)
        if self._numbers is None and code == 0:
            self._numbers = _numbers(text)
            self._ask(now)
            return []
        if code != 0:
            how = f"exit status {code}" if code > 0 else f"signal {-code}"
            self._fail(f"nvidia-smi failed ({how}): {' '.join(text.split())[:200]}", now)
            return []
        try:
            used = _used(text, {pid: task for task in tasks for pid in (task.pid, *task.parts)})
        except ValueError as error:
            self._fail(str(error), now)
            return []
        self._failures = 0
        self.next_look = self._earliest if any(task.devices for task in tasks) else inf
        return [(task, why) for task in tasks if (why := self._judge(task, used.get(task, {}))) is not None]

    def _judge(self, task: Task, used: Mapping[str, int]) -> str | None:
        """Note what a task uses of each GPU; return why it is to be ended, if it is."""
        task.gpu_peak = max(task.gpu_peak, *used.values(), 0)
        before, limit = task.gpus_over, task.gpu_memory or inf
        task.gpus_over = frozenset(gpu for gpu, size in used.items() if size > limit)
        both = before & task.gpus_over
        if not both or task.gpu_memory is None:
            return None
        gpu = max(both, key=lambda gpu: used[gpu])
        number = (self._numbers or {}).get(gpu, gpu)
        return f"used {used[gpu] >> 20} MiB on GPU {number}, the limit is {task.gpu_memory >> 20} MiB"

    # asking

    def _ask(self, now: float) -> None:
        """Start nvidia-smi; its end is told by wait4."""
        path = os.fsdecode(self._environ.get(b"PATH", os.defpath.encode()))
        words = _NUMBERS if self._numbers is None else _USED
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, writer, 1),
            (os.POSIX_SPAWN_DUP2, writer, 2),
        ]
        try:
            program = _find("nvidia-smi", path)
            self.pid = os.posix_spawn(
                program, ["nvidia-smi", *words], self._environ, file_actions=actions, setsid=True, setsigmask=()
            )
        except OSError as error:
            os.close(reader)
            self._fail(f"nvidia-smi cannot be started: {error.strerror}", now)
            return
        finally:
            os.close(writer)
        self._answer, self._asked = reader, now
        self.next_look = now + _PATIENCE

    def _read(self) -> str:
        """Return what the pipe holds: all of the answer, because who cannot write does not end."""
        answer = b""
        try:
            while len(answer) < _LONGEST and (data := os.read(self._answer, 1 << 16)):
                answer += data
        except BlockingIOError:  # a child of its own still holds the other end
            pass
        return answer.decode(errors="replace")

    def _let_go(self) -> None:
        os.close(self._answer)
        self.pid, self._answer = 0, -1

    def _fail(self, problem: str, now: float) -> None:
        """Try again later; after so many failures say so in the launcher's log, and give up."""
        self._failures += 1
        self._earliest = max(self._earliest, now + _LEAST)
        self.next_look = self._earliest
        if self._failures >= _TRIES:
            self.next_look = inf
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            words = f"{at} GPU memory is not measured, nor its limits enforced: {problem} ({_TRIES} times in a row)\n"
            os.write(2, words.encode(errors="replace"))


def _find(name: str, path: str) -> str:
    """Return where a program is. Raises FileNotFoundError."""
    for folder in path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):  # noqa: PTH113 - pathlib loads slowly
            return candidate
    raise FileNotFoundError(2, "not found on PATH")


def _numbers(text: str) -> dict[str, str]:
    """Return the number of each GPU by its UUID, as far as the lines say; it is only for people to read."""
    fields = ([field.strip() for field in line.split(",")] for line in text.splitlines())
    return {pair[1]: pair[0] for pair in fields if len(pair) == 2}


def _used(text: str, owners: Mapping[int, Task]) -> dict[Task, dict[str, int]]:
    """Return the bytes that tasks use of each GPU, by its UUID; ``owners`` are the tasks by their processes.

    Raises ValueError when the answer is none, or says of no process of a task how much it uses: ``[N/A]`` under
    WSL and for parts of GPUs.
    """
    used: dict[Task, dict[str, int]] = {}
    unknown = ""
    for line in text.splitlines():
        pid, _, rest = line.partition(",")
        gpu, _, size = (part.strip() for part in rest.rpartition(","))
        if not line.strip() or line.startswith("No running"):  # older ones say so when there is no process
            continue
        if not (pid.strip().isdecimal() and gpu and size):
            raise ValueError(f"nvidia-smi says {line[:80]!r}, not pid, GPU and memory")
        task = owners.get(int(pid))
        if task is not None and size.isdecimal():
            sizes = used.setdefault(task, {})
            sizes[gpu] = sizes.get(gpu, 0) + (int(size) << 20)
        elif task is not None:
            unknown = size
    if unknown and not used:
        raise ValueError(f"nvidia-smi says {unknown!r} for the memory of processes")
    return used
