"""The executor contract: submit, poll, cancel, recover, render. Batch-wise, synchronous, no threads of ours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from socm_like.journal import Event
from socm_like.resources import Resources


class Attempt(NamedTuple):
    """The name of one execution: how it is found again after a crash of ours."""

    task: str
    number: int


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything an executor needs to run one attempt of one task."""

    attempt: Attempt
    argv: tuple[str, ...] | None
    """The program, or None for a Python task, which is described by ``task.json`` in ``directory``."""
    directory: Path
    """The working directory; it exists, and holds ``task.json``."""
    stdout: Path
    stderr: Path
    resources: Resources
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables added to the environment of whoever submitted the campaign."""
    priority: float = 0.0
    """Higher starts first."""
    grace: float = 10.0
    """Seconds between SIGTERM and SIGKILL."""
    reserved_memory: int | None = None
    """Bytes kept free for it where it asks for no limit, or less than its limit; None: what ``resources.memory`` says.

    More than the machine has means all of it. What ends it is the limit, not this.
    """


class Executor(ABC):
    """Runs attempts somewhere; every method may raise ExecutorError, and then nothing it was asked for is certain."""

    @abstractmethod
    def submit(self, launches: Sequence[Launch]) -> None:
        """Hand attempts over; after the return each will be observed to end, even if this process dies.

        The caller has journalled the intent; after an exception, :meth:`recover` tells what was accepted.
        """

    @abstractmethod
    def poll(self, wait: float) -> Sequence[Event]:
        """Return what happened since the last call, waiting up to ``wait`` seconds for the first news.

        States: running, done (exit status 0), failed, timeout, oom, node_fail, cancelled, lost.
        """

    @abstractmethod
    def cancel(self, attempts: Sequence[Attempt]) -> None:
        """Ask for attempts to be ended; each is still observed, as cancelled or as what it became before."""

    @abstractmethod
    def recover(self, attempts: Sequence[Attempt]) -> Sequence[Event]:
        """Return what became of attempts a former process submitted; one nobody knows is ``lost``.

        No event is returned for an attempt that still waits its turn.
        """

    @abstractmethod
    def render(self, launch: Launch) -> str:
        """Return the shell script that does what :meth:`submit` would do with this launch."""

    @abstractmethod
    def close(self) -> None:
        """Let go: attempts that still run go on running."""
