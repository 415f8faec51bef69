"""The warm process: imports what Python tasks need once, then forks one child per task.

A fork costs milliseconds where an interpreter and its imports cost seconds. Nothing is computed before a fork, only
imported: threads and device handles do not survive one. Descriptor 0 is the link to the launcher, in JSON lines;
when it closes the launcher is dead, and the children are ended, because nobody would hear of them.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from socm_like.errors import SocmError
from socm_like.executors import python_task

_BLAS_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


class Server:
    """Forks tasks on request and reports how they end."""

    def __init__(self, link: socket.socket, set_blas_threads: Sequence[Callable[[int], Any]]) -> None:
        self._link = link
        self._set_blas_threads = set_blas_threads
        self._received = b""
        self._children: set[int] = set()
        self._is_retired = False
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Work until the launcher dies, or until it has retired this process and the last task has ended."""
        poller = select.poll()
        poller.register(self._link, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        self._send({"ready": True})
        while self._children or not self._is_retired:
            ready = {descriptor for descriptor, _ in poller.poll()}
            if self._wake in ready:
                os.read(self._wake, 1 << 16)
                self._reap()
            if self._link.fileno() in ready and not self._hear():
                for child in self._children:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child, signal.SIGKILL)
                return

    def _hear(self) -> bool:
        data = self._link.recv(1 << 16)
        *lines, self._received = (self._received + data).split(b"\n")
        for message in map(json.loads, lines):
            if "retire" in message:
                self._is_retired = True
            else:
                self._fork(message)
        return data != b""

    def _fork(self, request: dict[str, Any]) -> None:
        name = {"task": request["task"], "attempt": request["attempt"]}
        files: list[int] = []
        try:
            for path, flags in (
                (os.devnull, os.O_RDONLY),
                (request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND),
                (request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND),
                (request["directory"], os.O_RDONLY | os.O_DIRECTORY),
            ):
                files.append(os.open(path, flags, 0o666))
            child = os.fork()
        except OSError as error:
            self._send({**name, "refused": f"{error.strerror}: {error.filename or 'fork'}"})
        else:
            if child == 0:
                self._become(request, files)
            self._children.add(child)
            self._send({**name, "pid": child, "at": time.time()})
        finally:
            for file in files:
                os.close(file)

    def _become(self, request: dict[str, Any], files: Sequence[int]) -> NoReturn:
        """Be the task, in the new child."""
        status = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self._link.detach(), self._wake, self._waker):
                os.close(descriptor)
            for target, file in enumerate(files[:3]):
                os.dup2(file, target)
            os.fchdir(files[3])
            for file in files:
                os.close(file)
            if request["cores"]:
                os.sched_setaffinity(0, request["cores"])
            os.environ.update(request["variables"])
            if request["threads"] > 1:
                for set_threads in self._set_blas_threads:
                    set_threads(request["threads"])
            _seed_numpy()
            status = python_task.run(Path(request["directory"]))
        except BaseException:  # noqa: BLE001 - the child must not go on as a second server
            traceback.print_exc()
        finally:
            _leave(status)

    def _reap(self) -> None:
        while self._children:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in self._children:
                self._children.discard(pid)
                cpu = usage.ru_utime + usage.ru_stime
                end = {"ended": pid, "status": status, "cpu": cpu, "peak": usage.ru_maxrss << 10, "at": time.time()}
                self._send(end)

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):  # the launcher died: _hear() tells
            self._link.sendall(json.dumps(message).encode() + b"\n")


def _seed_numpy() -> None:
    """Give numpy's global generator a state of its own; forks would all draw the same numbers."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Let an OpenBLAS that is loaded meanwhile start no threads: they would not live on in a fork."""
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    yield
    del os.environ[name]
    if before is not None:
        os.environ[name] = before


def _blas_setters() -> list[Callable[[int], Any]]:
    """Return the functions that set the threads of each loaded OpenBLAS, which reads its environment only once."""
    lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    paths = {line.split(maxsplit=5)[5] for line in lines if "openblas" in line}
    setters: list[Callable[[int], Any]] = []
    for path in sorted(paths):
        library = ctypes.CDLL(path)
        setters.extend(getattr(library, name) for name in _BLAS_SETTERS if hasattr(library, name))
    return setters


def _leave(status: int) -> NoReturn:
    """End a forked task as an interpreter would end, without taking every imported module apart.

    That would take longer than most tasks. Exit handlers run, and so do those of C libraries: HDF5 writes what it
    holds there.
    """
    try:
        getattr(threading, "_shutdown")()  # noqa: B009 - waits for threads, as multiprocessing does; not in the stubs
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        ctypes.PyDLL(None).exit(status)
        os._exit(status)


def main() -> None:
    """Serve the launcher at the other end of descriptor 0."""
    link = socket.socket(fileno=os.dup(0))
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    os.close(devnull)
    with link.makefile("rb", buffering=0) as lines:
        orders = json.loads(lines.readline())
    with _one_blas_thread():
        try:
            python_task.load_registry(tuple(Path(path) for path in orders["plugins"]))
        except SocmError as error:
            sys.exit(str(error))
        for name in orders["preload"]:
            with contextlib.suppress(ImportError):  # whatever task needs it will say so itself
                importlib.import_module(name)
    sys.stdout.flush()
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every page of what was imported
    Server(link, _blas_setters()).serve()


if __name__ == "__main__":
    main()
