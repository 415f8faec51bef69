"""``campaign logs``."""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

from socm_like.cli.options import store_option
from socm_like.cli.render import shown_path
from socm_like.errors import StoreError, UsageError
from socm_like.journal import TaskState
from socm_like.logs import printable
from socm_like.status import RunState, RunStatus, TaskStatus, find_task, read_status
from socm_like.store import find_run
from socm_like.units import format_size

CHUNK = 1 << 16
"""Bytes read at a time."""
SEARCHED = 1 << 24
"""Bytes looked through for the last lines; a log may be one endless line."""
LOOK = 0.2
"""Seconds between two looks at a log that grows."""
LOOK_AT_RUN = 1.0
"""Seconds between two looks at the run."""

_Decoder = codecs.getincrementaldecoder("utf-8")


@click.command("logs")
@click.argument("task")
@click.option("--run", metavar="RUN", default=None, help="The run.  [default: the latest]")
@store_option
@click.option("--attempt", type=click.IntRange(min=1), default=None, help="Which attempt.  [default: the last]")
@click.option("--out", "only_out", is_flag=True, help="Only what it wrote to stdout.")
@click.option("--err", "only_err", is_flag=True, help="Only what it wrote to stderr.")
@click.option("--tail", "lines", metavar="N", type=click.IntRange(min=0), default=None, help="Only the last N lines.")
@click.option("--follow", "-f", "is_followed", is_flag=True, help="Go on until the attempt ends.")
@click.option("--path", "only_path", is_flag=True, help="Print where the logs are, not what they say.")
def command(
    *, task: str, run: str | None, store: Path, attempt: int | None, only_out: bool, only_err: bool,
    lines: int | None, is_followed: bool, only_path: bool,
) -> None:  # fmt: skip
    """Show what a task printed.

    TASK is a task's name, or a workflow's that has one task. Control characters are shown escaped; the raw bytes
    are in the files that --path names.
    """
    status = read_status(find_run(store, run))
    found = find_task(status, task)
    with suppress(KeyboardInterrupt):
        if is_followed:
            status, found = _wait_for_start(status, found)
        number = _attempt(status, found, attempt)
        streams = ("out", "err") if only_out == only_err else ("out",) if only_out else ("err",)
        logs = [_Log(status.directory.log(found.workflow, found.task, number, stream)) for stream in streams]
        if only_path:
            click.echo("\n".join(str(log.path) for log in logs))
            return
        _require_any(logs, is_followed)
        screen = _Screen(has_titles=len(logs) > 1 and (is_followed or all(log.size() for log in logs)))
        for log in logs:
            if lines is not None and not log.seek_last(lines):
                click.echo(
                    f"{shown_path(log.path)}: {lines} lines are more than {format_size(SEARCHED)}; this is their end",
                    err=True,
                )
            screen.show(log)
        if is_followed:
            _follow(status, found, number, logs, screen)
        for log in logs:
            screen.end(log)


def _attempt(status: RunStatus, task: TaskStatus, wanted: int | None) -> int:
    """Return the attempt to show.

    Raises UsageError when it has not been launched, saying why.
    """
    if task.attempt is None:
        where = {
            TaskState.CACHED: f"; an earlier run left its result in {status.directory.store / task.folder}",
            TaskState.SKIPPED: f": {task.reason}",
            TaskState.BLOCKED: f": it {task.reason}",
        }.get(task.state, "")
        raise UsageError(f"{task.task} has no logs: it is {task.state} and was not launched in this run{where}")
    if wanted is not None and wanted > task.attempt:
        raise UsageError(f"{task.task} has no attempt {wanted}; the last is {task.attempt}")
    return wanted or task.attempt


def _require_any(logs: Sequence[_Log], is_followed: bool) -> None:
    if not is_followed and not any(log.path.exists() for log in logs):
        raise StoreError(f"no log: {' and '.join(shown_path(log.path) for log in logs)} should be there")


@dataclass(slots=True)
class _Log:
    """One stream of one attempt, read from the front to wherever it ends at the moment."""

    path: Path
    position: int = 0
    _decoder: codecs.IncrementalDecoder = field(default_factory=lambda: _Decoder("replace"))
    _held: str = ""
    """A carriage return at the end of what was read: a newline may follow."""

    def size(self) -> int:
        """Return the bytes there are now."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def seek_last(self, lines: int) -> bool:
        """Go to where the last lines begin; return False where that lies too far from the end to be looked for."""
        self.position = self.size()
        if lines == 0 or self.position == 0:
            return True
        lowest = max(0, self.position - SEARCHED)
        wanted = lines + 1  # the newline that ends the last line begins none
        with self.path.open("rb") as file:
            file.seek(self.position - 1)
            if file.read(1) != b"\n":
                wanted = lines
            while self.position > lowest:
                start = max(lowest, self.position - CHUNK)
                file.seek(start)
                chunk = file.read(self.position - start)
                inside = chunk.count(b"\n")
                if inside >= wanted:
                    self.position = start + _place_from_end(chunk, wanted) + 1
                    return True
                wanted -= inside
                self.position = start
        return lowest == 0

    def news(self) -> Iterator[str]:
        """Yield what follows, ready to print."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self.position)
            while chunk := file.read(CHUNK):
                self.position += len(chunk)
                text = self._held + self._decoder.decode(chunk)
                self._held = "\r" if text.endswith("\r") else ""
                yield shown(text.removesuffix("\r"))

    def rest(self) -> str:
        """Return what was held back because more might have followed."""
        return shown(self._held + self._decoder.decode(b"", final=True))


def _place_from_end(chunk: bytes, number: int) -> int:
    """Return where the ``number``-th newline from the end stands."""
    place = len(chunk)
    for _ in range(number):
        place = chunk.rfind(b"\n", 0, place)
    return place


def shown(text: str) -> str:
    """Return text that cannot disturb a terminal: all but newlines and tabs escaped; CRLF is a newline."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(line if line.isprintable() else printable(line) for line in lines)


@dataclass(slots=True)
class _Screen:
    """Prints logs, with a title whenever another one speaks."""

    has_titles: bool
    _speaker: Path | None = None
    _ends_line: bool = True

    def show(self, log: _Log) -> bool:
        """Print what is new in a log; return whether anything was."""
        is_news = False
        for text in log.news():
            is_news = True
            self._say(log, text)
        return is_news

    def end(self, log: _Log) -> None:
        """Print what was held back of a log that grows no more."""
        rest = log.rest()
        if rest:
            self._say(log, rest)
        if self._speaker == log.path and not self._ends_line and sys.stdout.isatty():
            click.echo()  # so that the prompt does not stand behind the last word

    def _say(self, log: _Log, text: str) -> None:
        if self.has_titles and self._speaker != log.path:
            gap = "" if self._speaker is None else "\n" if self._ends_line else "\n\n"
            click.echo(f"{gap}==> {shown_path(log.path)} <==")
        self._speaker = log.path
        click.echo(text, nl=False)
        self._ends_line = text.endswith("\n") if text else self._ends_line


def _wait_for_start(status: RunStatus, task: TaskStatus) -> tuple[RunStatus, TaskStatus]:
    if task.attempt is None and not task.state.is_final:
        click.echo(f"{task.task} is {task.state}; waiting for its start", err=True)
    while task.attempt is None and not task.state.is_final and status.state is RunState.RUNNING:
        time.sleep(LOOK_AT_RUN)
        status = read_status(status.directory)
        task = find_task(status, task.task)
    return status, task


def _follow(status: RunStatus, task: TaskStatus, number: int, logs: Sequence[_Log], screen: _Screen) -> None:
    """Print what is new until the attempt is over and everything it wrote has been printed."""
    is_over, looked = _is_over(status, task, number), time.monotonic()
    while True:
        is_news = [screen.show(log) for log in logs]
        if not any(is_news):
            if is_over:
                return
            time.sleep(LOOK)
        if not is_over and time.monotonic() - looked > LOOK_AT_RUN:
            status = read_status(status.directory)
            is_over, looked = _is_over(status, find_task(status, task.task), number), time.monotonic()


def _is_over(status: RunStatus, task: TaskStatus, number: int) -> bool:
    """Whether an attempt writes no more: a later one began, it ended, or it has not begun and nobody is there."""
    if task.attempt != number or task.state.is_final or task.state is TaskState.PLANNED:
        return True
    return task.state is not TaskState.RUNNING and status.state is not RunState.RUNNING
