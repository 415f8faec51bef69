"""The local executor: tasks on this machine, run by a small launcher process that outlives this one."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from socm_like.errors import ExecutorError
from socm_like.executors.base import Attempt, Executor, Launch
from socm_like.executors.launcher_call import address_of, environment_of_tasks, request
from socm_like.executors.launcher_log import LAUNCHER_DIED, holder_path, read_launcher, read_records, translate
from socm_like.executors.launcher_processes import end_survivors
from socm_like.executors.launcher_spawn import PREALLOCATE
from socm_like.executors.launcher_tasks import PROTOCOL
from socm_like.journal import Event, TaskState, event_at
from socm_like.resources import Machine
from socm_like.store import Holder, RunDirectory, process_started, write_atomically
from socm_like.units import format_size, format_span

_BATCH = 64
"""Tasks per message: the launcher starts the first while the next are on their way."""
_PATIENCE = 30.0
"""Seconds to wait for an answer of a launcher that lives."""
_LAST_BREATH = 2.0
"""Seconds a launcher may take to end after it has closed the connection."""
_BOOT = "import sys; sys.path.append(sys.argv[1]); from executors.launcher import main; main()"
_PYTHON_TASK = (sys.executable, "-P", "-m", "socm_like.executors.python_task")
_WARM = (sys.executable, "-P", "-m", "socm_like.executors.warm")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class LocalExecutor(Executor):
    """Runs attempts on this machine.

    Each run directory has at most one launcher, found by a socket name made from the directory's path. It is
    started when it is first needed, and goes on when this process ends.
    """

    def __init__(
        self, run: RunDirectory, machine: Machine, plugins: Sequence[Path] = (), preload: Sequence[str] = ()
    ) -> None:
        self._run = RunDirectory(run.path.resolve())
        self._machine = machine
        self._plugins = tuple(plugins)
        self._preload = tuple(preload)
        self._socket: socket.socket | None = None
        self._received = b""
        self._greeted = False
        self._child = 0
        """Pid of the launcher, where this process started it."""
        self._open: dict[Attempt, bool] = {}
        """Attempts under way, and whether they are known to run."""
        self._news: list[Event] = []

    def start(self) -> None:
        """Start the launcher, unless it runs, without waiting for it.

        Calling this is optional; called early, the launcher is ready when the first tasks are.
        Raises ExecutorError when it cannot be started.
        """
        deadline = time.monotonic() + _PATIENCE
        while self._socket is None:
            if time.monotonic() > deadline:
                raise ExecutorError(f"{self._run.name}: its launcher neither answers nor ends")
            with socket.socket(socket.AF_UNIX) as listener:
                try:
                    listener.bind(address_of(self._run.path))
                except OSError:  # there is one, or another process is just starting one
                    self._attach()
                else:
                    listener.listen(8)
                    self._launch(listener)

    def submit(self, launches: Sequence[Launch]) -> None:
        """Hand attempts to the launcher, starting it if need be; see :meth:`Executor.submit`."""
        self.start()
        self._open.update((launch.attempt, False) for launch in launches)
        for first in range(0, len(launches), _BATCH):
            tasks = [request(launch) for launch in launches[first : first + _BATCH]]
            self._send({"op": "run", "tasks": tasks})

    def poll(self, wait: float) -> Sequence[Event]:
        """Return what the launcher told; see :meth:`Executor.poll`. What a dead launcher left behind is ended."""
        if self._socket is None:
            if not self._news:
                time.sleep(wait)
        else:
            self._take_in(0.0 if self._news else wait)
        news, self._news = self._news, []
        return news

    def cancel(self, attempts: Sequence[Attempt]) -> None:
        """Ask the launcher to end attempts; see :meth:`Executor.cancel`."""
        if self._socket is not None:
            self._send({"op": "cancel", "attempts": attempts})

    def recover(self, attempts: Sequence[Attempt]) -> Sequence[Event]:
        """Find attempts again, by the launcher's log and by asking it; see :meth:`Executor.recover`."""
        self._open.update((attempt, False) for attempt in attempts if attempt not in self._open)
        if self._socket is None:
            self._attach()
        alive = self._ask_alive() if self._socket is not None else set()
        self._settle([attempt for attempt in attempts if attempt in self._open], alive)
        news, self._news = self._news, []
        return news

    def close(self) -> None:
        """Leave the launcher to itself."""
        self._disconnect()
        self._bury(os.WNOHANG)

    def render(self, launch: Launch) -> str:
        """Return the shell script that does what the launcher does, limits aside; see :meth:`Executor.render`."""
        resources = launch.resources
        wanted = [f"{resources.cores} cores"]
        if resources.gpus:
            each = f" with {format_size(resources.gpu_memory)} each" if resources.gpu_memory else ""
            wanted.append(f"{resources.gpus} GPUs{each}")
        if resources.memory is not None:
            wanted.append(f"memory {format_size(resources.memory)}")
        if resources.runtime is not None:
            wanted.append(f"runtime {format_span(resources.runtime.total_seconds())}")
        variables = {"OMP_NUM_THREADS": str(resources.threads), **launch.environment}
        if resources.gpus:
            variables.setdefault(PREALLOCATE, os.environ.get(PREALLOCATE, "false"))
        plain = {name: value for name, value in variables.items() if _IDENTIFIER.fullmatch(name)}
        others = [f"{name}={value}" for name, value in variables.items() if name not in plain]
        argv = launch.argv if launch.argv is not None else (*_PYTHON_TASK, ".")
        command = shlex.join(["env", *others, *argv] if others else argv)
        logs = f"> {shlex.quote(str(launch.stdout))} 2> {shlex.quote(str(launch.stderr))}"
        lines = [
            "#!/bin/sh",
            f"# {launch.attempt.task!r}, attempt {launch.attempt.number}: {', '.join(wanted)}",
            f"cd {shlex.quote(str(launch.directory))} || exit",
            *(f"export {name}={shlex.quote(value)}" for name, value in plain.items()),
            f"exec {command} < /dev/null {logs}",
        ]
        return "\n".join(lines) + "\n"

    # the launcher

    def _attach(self) -> None:
        """Connect to a living launcher of this run; without one there is no connection afterwards.

        Raises ExecutorError when the launcher is another user's, on another host, or of another version.
        """
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(address_of(self._run.path))
        except OSError:
            connection.close()
            self._refuse_unreachable_launcher()
            return
        owner = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], sys.byteorder)
        if owner != os.getuid():
            connection.close()
            raise ExecutorError(f"the socket of this run's launcher is held by user {owner}")
        self._use(connection)
        try:
            pid = self._answer("hello")["pid"]
        except ConnectionError:  # it was just leaving
            self._disconnect()
            return
        holder = read_launcher(self._run)
        if holder is None or holder.pid != pid:  # whoever started it died before it could write so
            self._write_holder(pid)

    def _refuse_unreachable_launcher(self) -> None:
        """Make sure that no launcher works on this run, though none answers here.

        Raises ExecutorError when there is one: two would run every task twice.
        """
        holder = self._last_breath()
        if holder is not None:
            raise ExecutorError(
                f"{self._run.name}: its launcher runs on {holder.host} (process {holder.pid}) and cannot be reached "
                f"from here; submit where it can, or remove {holder_path(self._run)} if it is gone"
            )

    def _last_breath(self) -> Holder | None:
        """Give a launcher of this host a moment to end; return the one that lives after that."""
        deadline = time.monotonic() + _LAST_BREATH
        while (holder := read_launcher(self._run)) is not None and holder.is_here and time.monotonic() < deadline:
            time.sleep(0.005)
        return holder

    def _launch(self, listener: socket.socket) -> None:
        """Start a launcher that accepts on this socket, and connect: what is sent waits until it is up."""
        self._refuse_unreachable_launcher()
        self._bury(os.WNOHANG)
        package = Path(__file__).parent.parent
        log = str(self._run.path / "launcher.log")
        argv = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT, str(package), str(self._run.path)]
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(address_of(self._run.path))
            self._child = os.posix_spawn(
                sys.executable,
                argv,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, listener.fileno(), 0),
                    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD),
            )
        except OSError as error:
            connection.close()
            raise ExecutorError(f"the launcher cannot be started: {error}") from error
        self._write_holder(self._child)
        self._use(connection)

    def _write_holder(self, pid: int) -> None:
        content = {"host": socket.gethostname(), "pid": pid, "started": process_started(pid) or ""}
        write_atomically(holder_path(self._run), json.dumps(content))

    def _use(self, connection: socket.socket) -> None:
        self._socket, self._received, self._greeted = connection, b"", False
        machine = {"cores": self._machine.cores, "memory": self._machine.memory, "gpus": self._machine.gpus}
        orders = {
            "python": _PYTHON_TASK,
            "warm": {
                "command": _WARM,
                "plugins": [str(path) for path in self._plugins],
                "preload": self._preload,
            },
        }
        self._send({"op": "hello", "environ": environment_of_tasks(), "machine": machine, "orders": orders})

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._socket is None:
            return
        try:
            self._socket.settimeout(_PATIENCE)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except ConnectionError:  # it died; the next look at the socket finds out and settles what was open
            return
        except TimeoutError as error:
            self._disconnect()
            raise ExecutorError(f"{self._run.name}: the launcher takes no orders") from error

    # what it says

    def _receive(self, wait: float) -> list[dict[str, Any]]:
        """Return the messages that have come, waiting for the first; none when the time is over.

        Raises ConnectionError when the launcher has gone.
        """
        if self._socket is None:
            raise ConnectionError
        try:
            self._socket.settimeout(wait)
            data = self._socket.recv(1 << 20)
        except (BlockingIOError, TimeoutError):
            return []
        if not data:
            raise ConnectionError
        *lines, self._received = (self._received + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def _take_in(self, wait: float) -> None:
        """Turn what the launcher says into news; if it died, settle what was open."""
        try:
            for message in self._receive(wait):
                self._understand(message)
        except ConnectionError:
            self._launcher_died()

    def _understand(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self._note(translate(message))
        elif message["op"] == "hello":
            self._greeted = True
            if message["protocol"] != PROTOCOL:
                raise ExecutorError(
                    f"{self._run.name}: a launcher of another version of socm-like (process {message['pid']}) still "
                    "runs its tasks; wait until they have ended, or use that version"
                )
        elif message["op"] == "replaced":
            raise ExecutorError(f"{self._run.name}: another process has taken over the launcher of this run")
        elif message["op"] == "error":
            raise ExecutorError(f"{self._run.name}: the launcher refuses: {message['message']}")

    def _note(self, event: Event) -> None:
        """Keep an event unless it was known, or is about an attempt nobody asked for."""
        attempt = Attempt(event.task, event.attempt)
        is_running = self._open.get(attempt)
        if is_running is None or (is_running and not event.state.is_final):
            return
        if event.state.is_final:
            del self._open[attempt]
        else:
            self._open[attempt] = True
        self._news.append(event)

    def _answer(self, operation: str) -> dict[str, Any]:
        """Wait for the answer to an operation; news that come before it are kept.

        Raises ConnectionError when the launcher has gone, ExecutorError when it does not answer.
        """
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            answer = None
            for message in self._receive(max(0.01, deadline - time.monotonic())):
                self._understand(message)
                answer = message if message.get("op") == operation else answer
            if answer is not None:
                return answer
        raise ExecutorError(f"{self._run.name}: the launcher has not answered for {format_span(_PATIENCE)}")

    def _ask_alive(self) -> set[Attempt]:
        """Return the attempts that wait or run; none when the launcher has just gone."""
        try:
            self._send({"op": "list"})
            answer = self._answer("list")
        except ConnectionError:
            self._disconnect()
            return set()
        return {Attempt(name, number) for name, number, *_ in (*answer["queued"], *answer["running"])}

    # what a dead one left

    def _launcher_died(self) -> None:
        """Make sure that the launcher is dead, and settle every open attempt."""
        self._disconnect()
        holder = self._last_breath()
        if holder is not None and holder.is_here:
            with suppress(ProcessLookupError):
                os.kill(holder.pid, signal.SIGKILL)  # whatever it still does, nobody would hear of it
            self._last_breath()
        if self._bury(0) > 0 and not self._greeted:
            log = self._run.path / "launcher.log"
            words = log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise ExecutorError(f"the launcher cannot work: {words}; see {log}")
        self._settle(list(self._open), set())

    def _settle(self, attempts: Iterable[Attempt], alive: set[Attempt]) -> None:
        """Learn what the log knows of attempts; those neither ended nor alive are lost, and ended for certain."""
        records = read_records(self._run, list(attempts))
        for attempt_records in records.values():
            for record in attempt_records:
                self._note(translate(record))
        lost: dict[tuple[str, int], tuple[int, float] | None] = {}
        for key, attempt_records in records.items():
            if Attempt(*key) in self._open and Attempt(*key) not in alive:
                starts = [(record["pid"], record["at"]) for record in attempt_records if record["event"] == "start"]
                lost[key] = starts[-1] if starts else None
        if lost:
            end_survivors(str(self._run.path), lost)
        for key in lost:
            self._note(event_at(time.time(), *key, TaskState.LOST, reason=LAUNCHER_DIED))

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _bury(self, options: int) -> int:
        """Take note of the end of a launcher that this process started; return its exit status, 0 if unknown."""
        pid, status = os.waitpid(self._child, options) if self._child else (0, 0)
        if pid:
            self._child = 0
        return os.waitstatus_to_exitcode(status)
