"""Starting programs: environment, search path, logs, cores; and saying plainly why one could not be started.

Part of the launcher: standard library only, and of that only what loads in a moment.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from .launcher_tasks import Shares, Task

_DEFAULTS = (1, 2, 3, 13, 15, 17, 25)
"""Signals a program finds as a login shell would leave them: HUP, INT, QUIT, PIPE, TERM, CHLD, XFSZ."""
PREALLOCATE = "XLA_PYTHON_CLIENT_PREALLOCATE"
"""Of JAX: it takes 75 % of a GPU at once unless this is ``false`` (docs.jax.dev/en/latest/gpu_memory_allocation.html).
Nobody could tell then what a task needs, and a limit below 75 % would end every one."""
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class NotStartedError(Exception):
    """A program could not be started; the message is the reason for whoever asked."""


class Spawner:
    """Starts programs in sessions of their own, bound to the cores they were given."""

    def __init__(self, run: str, shares: Shares) -> None:
        self._run = run
        self._shares = shares

    def variables(self, task: Task) -> dict[str, str]:
        """Return what a task's environment has beyond its submitter's: CUDA, OpenMP, its own, and who it is."""
        added = {"OMP_NUM_THREADS": str(task.threads)}
        if self._shares.has_gpus:
            added["CUDA_VISIBLE_DEVICES"] = ",".join(task.devices)
        if task.gpus and os.fsencode(PREALLOCATE) not in task.environ:
            added[PREALLOCATE] = "false"
        added.update(task.env)
        added["SOCM_RUN"] = self._run
        added["SOCM_TASK"] = task.name
        added["SOCM_ATTEMPT"] = str(task.attempt)
        return added

    def spawn(self, task: Task, argv: list[str]) -> int:
        """Start a program for a task and return its pid.

        It is bound to its cores as soon as it exists, before it has loaded its libraries. Binding this process
        first, for the program to inherit, would make all other tasks wait until just that core has time for both.
        Raises NotStartedError with the reason; there is no process then.
        """
        try:
            os.chdir(task.cwd)
        except OSError as error:
            raise NotStartedError(f"cannot enter the directory {task.cwd!r}: {error.strerror}") from error
        try:
            added = self.variables(task)
            environment = {**task.environ, **{os.fsencode(name): os.fsencode(added[name]) for name in added}}
            path = os.fsdecode(environment.get(b"PATH", os.defpath.encode()))
            pid = self._spawn(task, argv, path, environment)
        except OSError as error:
            raise NotStartedError(_explain(error, task, argv[0])) from error
        except ValueError as error:  # a zero byte, or text that has no bytes
            raise NotStartedError(str(error)) from error
        bind(pid, self._shares.usable(task))
        return pid

    def _spawn(self, task: Task, argv: list[str], path: str, environment: dict[bytes, bytes]) -> int:
        error_log = (os.POSIX_SPAWN_DUP2, 1, 2) if task.err == task.out else _open(2, task.err)
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), _open(1, task.out), error_log]
        return os.posix_spawn(
            _find(argv[0], path),
            argv,
            environment,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULTS,
        )


def _find(name: str, path: str) -> str:
    """Return where a program is, absolute or relative to the directory this process is in.

    Nothing is remembered: a task may install what the next one uses.
    """
    if "/" in name:
        return name
    is_forbidden = False
    for folder in path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        if os.path.isfile(candidate):  # noqa: PTH113 - pathlib loads slowly
            if os.access(candidate, os.X_OK):
                return candidate
            is_forbidden = True
    raise NotStartedError(f"permission denied: {name!r}" if is_forbidden else f"program not found: {name!r}")


def bind(thread: int, cores: set[int]) -> None:
    """Bind a thread, or a process with one, to cores; none means that it may run on all of this process's."""
    if cores:
        try:
            os.sched_setaffinity(thread, cores)
        except OSError:  # it has ended already, or it is no longer ours to bind
            return


def rebind(processes: Iterable[int], cores: set[int]) -> None:
    """Bind every thread that began before its process was bound; a program may bind its threads as it likes."""
    everywhere = os.sched_getaffinity(0)
    for pid in processes:
        try:
            for thread in map(int, os.listdir(f"/proc/{pid}/task")):  # noqa: PTH208 - pathlib loads slowly
                if os.sched_getaffinity(thread) == everywhere:
                    bind(thread, cores)
        except OSError:  # it has ended
            continue


def _open(descriptor: int, path: str) -> tuple[int, int, str, int, int]:
    return os.POSIX_SPAWN_OPEN, descriptor, path, _APPEND, 0o666


def _explain(error: OSError, task: Task, program: str) -> str:
    """Return the reason in words; posix_spawn(3) does not say which of its steps failed."""
    for log in (task.out, task.err):
        folder = log.rpartition("/")[0] or "."
        if not os.access(folder, os.W_OK):
            return f"cannot write the log {log!r}"
    if error.errno == errno.ENOENT:
        is_there = os.path.lexists(error.filename)  # the file that was tried
        return f"the interpreter of {program!r} is not there" if is_there else f"program not found: {program!r}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"permission denied: {program!r}"
    if error.errno == errno.ENOEXEC:
        return f"not a program: {program!r} has no #! line"
    return f"{error.strerror}: {program!r}"
