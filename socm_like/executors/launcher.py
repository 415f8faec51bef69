"""The launcher: a small process that runs the tasks of one run directory and outlives whoever submitted them.

It is started by :class:`socm_like.executors.local.LocalExecutor` with a listening socket as descriptor 0, serves
one client at a time with JSON lines, and leaves when nothing runs and nobody has been connected for a while.
Every start and end of a task is a line of ``launcher.jsonl``, written before any client is told.

Standard library only, and its parts import each other by relative names: they are loaded as the package
``executors`` straight from its folder, because importing ``socm_like`` costs more than starting the interpreter.

Client to launcher: ``hello`` (environ, machine, orders), ``run`` (tasks), ``cancel`` (attempts), ``list``.
Launcher to client: answers (``op``) to ``hello`` and ``list``, and the records of the log (``event``).
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from math import inf

from .launcher_supervisor import Supervisor
from .launcher_tasks import PROTOCOL

TYPE_CHECKING = False  # the typing module takes as long to load as all the rest
if TYPE_CHECKING:
    from typing import Any

_LINGER = 5.0
"""Seconds without client and tasks after which the launcher leaves."""
_SYNC = 0.1
"""Least seconds between two fsyncs; more where the disk is slow, so that they take 5 % of the time."""
_SIGN_OF_LIFE = 10.0
"""Seconds between two touches of ``launcher.pid``; other hosts go by them."""
_TELL = 0.005
"""Seconds that news may wait for more as long as tasks wait to be started: a client that wakes costs core time too."""
_FULL = "launcher.jsonl cannot be written; make room, then submit again: tasks that run go on"
_PR_SET_CHILD_SUBREAPER = 36
_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Log:
    """``launcher.jsonl``: lines are appended in batches, and reach the disk a little later."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._unwritten = b""
        self._is_synced = True
        self._next_sync = 0.0
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            self.append(b"\n")  # the last line of an earlier launcher was torn; readers skip it

    def append(self, lines: bytes) -> bool:
        """Write lines; False when the disk refuses: they are kept, and the next call tries again."""
        self._unwritten += lines
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[os.write(self._file, self._unwritten) :]
                self._is_synced = False
        except OSError:
            return False
        return True

    def next_sync(self) -> float:
        """Return when :meth:`sync` has something to do, by the monotonic clock."""
        return inf if self._is_synced else self._next_sync

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        begun = time.monotonic()
        try:
            os.fdatasync(self._file)
            self._is_synced = True
        except OSError:  # a full or absent disk: tried again
            pass
        ended = time.monotonic()
        self._next_sync = ended + max(_SYNC, 20 * (ended - begun))


class Client:
    """The connection to whoever submits and watches."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""
        self._unsent = b""
        self.is_there = True
        self.is_quiet = False
        """Whether there was nothing to hear the last time."""
        connection.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._connection.fileno()

    def receive(self) -> list[dict[str, Any]]:
        """Return some of the messages that are there."""
        data = b""
        try:
            data = self._connection.recv(1 << 18)
            self.is_there = data != b""
        except BlockingIOError:
            self.is_quiet = True
        except OSError:
            self.is_there = False
        *lines, self._received = (self._received + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def send(self, data: bytes) -> bool:
        """Send what it takes without waiting and keep the rest; True when nothing is kept."""
        self._unsent += data
        try:
            while self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            return False
        except OSError:  # it went away: receive() tells
            self._unsent = b""
        return True

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class Launcher:
    """The loop: hear, reap, look, start, write, tell."""

    def __init__(self, run: str) -> None:
        self._pid_file = f"{run}/launcher.pid"
        self._listener = socket.socket(fileno=0)
        self._listener.setblocking(False)
        self._log = Log(f"{run}/launcher.jsonl")
        self._news: list[dict[str, Any]] = []
        self._unwritten = b""
        self._untold = b""
        self._tell_at = inf
        self._supervisor = Supervisor(run, self._note)
        self._client: Client | None = None
        self._idle_since = time.monotonic()
        self._next_sign = 0.0
        self._poller = select.epoll()
        self._poller.register(0, select.EPOLLIN)
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poller.register(self._wake, select.EPOLLIN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._heard_warms: set[int] = set()

    def serve(self) -> None:
        """Run until there is nothing left to do and nobody to do it for."""
        while True:
            events = dict(self._poller.poll(self._timeout()))
            self._hear(events)
            if self._wake in events:
                os.read(self._wake, 1 << 16)
                self._supervisor.reap()
            self._supervisor.look()
            if not self._unwritten:  # what cannot be put on record is not begun
                self._supervisor.start()
            self._listen_to_warms()
            self._write()
            now = time.monotonic()
            self._tell(now)
            if now >= self._log.next_sync():
                self._log.sync()
            if now >= self._next_sign:
                self._sign(now)
            if self._client is not None or not self._supervisor.is_idle() or self._unwritten:
                self._idle_since = now
            elif now >= self._idle_since + _LINGER:
                self._leave()
                return

    def _timeout(self) -> float:
        now = time.monotonic()
        due = min(self._supervisor.next_look(), self._log.next_sync(), self._next_sign, self._tell_at)
        if self._unwritten:
            due = min(due, now + 1)
        if self._client is None and self._supervisor.is_idle():
            due = min(due, self._idle_since + _LINGER)
        return max(0.0, due - now)

    def _hear(self, events: dict[int, int]) -> None:
        client = self._client
        if client is not None and client.fileno() in events:
            self._obey(client)
            if not client.is_there:
                self._hang_up()
            elif client.send(b""):
                self._poller.modify(client, select.EPOLLIN)
        if 0 in events:
            self._welcome()
        for warm in list(self._supervisor.warms.values()):
            if warm.fileno() in events:
                self._supervisor.hear(warm)

    def _listen_to_warms(self) -> None:
        """Wait on the links of warm processes that were started; closed ones drop out by themselves."""
        present = self._supervisor.warms.keys()
        for pid in present - self._heard_warms:
            self._poller.register(self._supervisor.warms[pid], select.EPOLLIN)
        self._heard_warms = set(present)

    # the client

    def _welcome(self) -> None:
        """Let a new client take the place of the present one, whose last words are heard first."""
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it did not wait
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if int.from_bytes(credentials[4:8], sys.byteorder) != os.getuid():
            connection.close()
            return
        old = self._client
        if old is not None:
            old.is_quiet = False
            while old.is_there and not old.is_quiet:
                self._obey(old)
            old.send(_ENCODE({"op": "replaced"}).encode() + b"\n")
            self._hang_up()
        self._client = Client(connection)
        self._poller.register(self._client, select.EPOLLIN)

    def _hang_up(self) -> None:
        if self._client is not None:
            self._poller.unregister(self._client)
            self._client.close()
            self._client = None

    def _obey(self, client: Client) -> None:
        for message in client.receive():
            self._do(client, message)

    def _do(self, client: Client, message: dict[str, Any]) -> None:
        operation = message["op"]
        if operation == "run":
            self._supervisor.ask(message["tasks"])
        elif operation == "hello":
            self._supervisor.serve(message["environ"], message["machine"], message["orders"])
            self._answer(client, {"op": "hello", "pid": os.getpid(), "protocol": PROTOCOL})
        elif operation == "cancel":
            self._supervisor.cancel((name, attempt) for name, attempt in message["attempts"])
        elif operation == "list":
            self._list(client)
        else:
            self._answer(client, {"op": "error", "message": f"unknown operation {operation!r}"})

    def _list(self, client: Client) -> None:
        """Tell what waits and what runs; all that has ended is on record before."""
        self._write()
        if self._unwritten:
            self._answer(client, {"op": "error", "message": _FULL})
            return
        running = [[*task.key, task.pid, task.started] for task in self._supervisor.running()]
        self._answer(client, {"op": "list", "queued": self._supervisor.waiting(), "running": running})

    def _answer(self, client: Client, answer: dict[str, Any]) -> None:
        if not client.send(_ENCODE(answer).encode() + b"\n"):
            self._poller.modify(client, select.EPOLLIN | select.EPOLLOUT)

    # the record

    def _note(self, record: dict[str, Any]) -> None:
        self._news.append(record)

    def _write(self) -> None:
        """Put what happened on record; while the disk refuses, it waits, and nobody is told."""
        if not self._news and not self._unwritten:
            return
        lines = "".join(_ENCODE(record) + "\n" for record in self._news).encode()
        self._news.clear()
        self._unwritten += lines
        if self._log.append(lines):
            self._untold += self._unwritten
            self._unwritten = b""
        elif lines and self._client is not None:  # who waits for news is not to wait for ever
            self._answer(self._client, {"op": "error", "message": _FULL})

    def _tell(self, now: float) -> None:
        """Tell the client what is on record: at once if it may have to think of more to do, else soon."""
        if not self._untold:
            return
        if self._supervisor.is_busy() and now < self._tell_at:
            self._tell_at = min(self._tell_at, now + _TELL)
            return
        told, self._untold, self._tell_at = self._untold, b"", inf
        if self._client is not None and not self._client.send(told):
            self._poller.modify(self._client, select.EPOLLIN | select.EPOLLOUT)

    def _sign(self, now: float) -> None:
        self._next_sign = now + _SIGN_OF_LIFE
        try:
            os.utime(self._pid_file)
        except OSError:  # the run directory was removed; the tasks go on
            return

    def _leave(self) -> None:
        """Put everything on disk and make way; a client that came this very moment finds nobody and starts anew."""
        self._log.sync()
        if os.access(self._pid_file, os.F_OK):
            os.unlink(self._pid_file)  # noqa: PTH108 - pathlib loads slowly
        self._listener.close()


def main() -> None:
    """Serve one run directory, the last word of the command line."""
    run = sys.argv[-1]
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - pathlib loads slowly
        if int(name) > 2:
            try:
                os.close(int(name))  # what the submitter's shell left open is not to be held for hours
            except OSError:  # the listing's own
                continue
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("500")  # inherited: when memory runs out the kernel takes tasks first, not the user's session
    except OSError:  # a container may forbid it
        pass
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become the reaper of orphans")
    Launcher(run).serve()
