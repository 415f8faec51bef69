"""The launcher's side of the warm process, which forks Python tasks (:mod:`socm_like.executors.warm`).

Part of the launcher: standard library only, and of that only what loads in a moment.
"""

from __future__ import annotations

import json
import os
import socket

from .launcher_spawn import NotStartedError
from .launcher_tasks import Key, Task

TYPE_CHECKING = False  # the typing module takes as long to load as all the rest
if TYPE_CHECKING:
    from typing import Any


class Warm:
    """One warm process: asked to fork, it answers with the pid, and with the end of each task."""

    def __init__(self, orders: dict[str, Any], environ: dict[bytes, bytes], run: str) -> None:
        """Start the process; it answers ``ready`` when it has imported what tasks need.

        ``orders`` holds its command line and what it imports. Raises NotStartedError.
        """
        self._log = f"{run}/warm.log"
        self._buffer = b""
        self.is_ready = False
        self.is_retired = False
        self.asked: dict[Key, Task] = {}
        """Tasks it was asked to fork and has not answered for."""
        self._link, theirs = socket.socketpair()
        append = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        try:
            self.pid = os.posix_spawn(
                orders["command"][0],
                orders["command"],
                {**environ, b"SOCM_RUN": os.fsencode(run)},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                    (os.POSIX_SPAWN_OPEN, 2, self._log, append, 0o666),
                    (os.POSIX_SPAWN_DUP2, 2, 1),
                ],
                setsid=True,
                setsigmask=(),
            )
        except OSError as error:
            self._link.close()
            raise NotStartedError(f"the warm Python process: {error.strerror}: {orders['command'][0]!r}") from error
        finally:
            theirs.close()
        self._send({"plugins": orders["plugins"], "preload": orders["preload"]})

    def fileno(self) -> int:
        """Return the descriptor to wait on for answers."""
        return self._link.fileno()

    def fork(self, task: Task, variables: dict[str, str], cores: list[int]) -> None:
        """Ask for a task to be started."""
        self.asked[task.key] = task
        self._send(
            {
                "task": task.name,
                "attempt": task.attempt,
                "directory": task.cwd,
                "out": task.out,
                "err": task.err,
                "variables": variables,
                "cores": cores,
                "threads": task.threads,
            }
        )

    def retire(self) -> None:
        """Ask it to leave once its tasks have ended; another one serves what comes."""
        self.is_retired = True
        self._send({"retire": True})

    def receive(self) -> list[dict[str, Any]]:
        """Return the answers that are there, without waiting."""
        try:
            while data := self._link.recv(1 << 16, socket.MSG_DONTWAIT):
                self._buffer += data
        except OSError:  # nothing there now, or nobody there any more: its end is told by wait4
            pass
        *lines, self._buffer = self._buffer.split(b"\n")
        answers = [json.loads(line) for line in lines]
        self.is_ready = self.is_ready or any("ready" in answer for answer in answers)
        return answers

    def last_words(self) -> str:
        """Return the last line it wrote to its log."""
        try:
            with open(self._log, "rb") as file:  # noqa: PTH123 - pathlib loads slowly
                lines = file.read()[-2000:].split(b"\n")
        except OSError:
            return ""
        return next((line.decode(errors="replace") for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        """Close the link; a warm process that still lives takes it as the launcher's death."""
        self._link.close()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._link.sendall(json.dumps(message).encode() + b"\n")
        except OSError:  # it died: wait4 tells, and then what it was asked for ends too
            return
