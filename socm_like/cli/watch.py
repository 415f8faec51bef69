"""Watching a run until it ends: a screen redrawn in place, or lines where there is no terminal."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import click

from socm_like.cli.render import coloured, counts_line
from socm_like.status import RunState, RunStatus, read_status
from socm_like.store import RunDirectory
from socm_like.units import format_instant

INTERVAL = 1.0
"""Seconds between two looks; four times as long as a look takes, where that is more."""

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The other screen, no cursor, no wrapping (xterm control sequences, "DEC Private Mode Set")."""
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"


def watch(run: RunDirectory, screen: Callable[[RunStatus, int], Sequence[str]]) -> RunStatus:
    """Show a run until it ends or Ctrl-C; return how it stood last. The terminal is left as it was found.

    ``screen`` returns the lines to show, given the run and how many there is room for.
    """
    if sys.stdout.isatty():
        return _watch_screen(run, screen)
    return _watch_lines(run)


def _watch_screen(run: RunDirectory, screen: Callable[[RunStatus, int], Sequence[str]]) -> RunStatus:
    status = read_status(run)
    if status.state is RunState.RUNNING:
        with _other_screen(), suppress(KeyboardInterrupt):  # Ctrl-C is the usual way to stop watching
            for status in _looks(run):
                room = max(shutil.get_terminal_size().lines - 2, 1)
                _draw(screen(status, room)[:room])
    return status


def _watch_lines(run: RunDirectory) -> RunStatus:
    """Print a line whenever the counts change."""
    status, before = read_status(run), None
    with suppress(KeyboardInterrupt):
        for status in _looks(run):
            line = f"{status.state}: {counts_line(status.counts)}"
            if line != before:
                click.echo(f"{format_instant(time.time())[:19]}Z {line}")
                before = line
    return status


def _looks(run: RunDirectory) -> Iterator[RunStatus]:
    """Yield how the run stands, again and again until it ends; the rarer the more a look costs."""
    while True:
        begun = time.monotonic()
        status = read_status(run)
        cost = time.monotonic() - begun
        yield status
        if status.state is not RunState.RUNNING:
            return
        time.sleep(max(INTERVAL, 4 * cost))


def _draw(lines: Sequence[str]) -> None:
    """Write the lines over the old ones in one go, each cleared behind its end: nothing flickers."""
    shown = [*lines, "", coloured("Ctrl-C stops watching, the run goes on", dim=True)]
    sys.stdout.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in shown) + "\x1b[J")
    sys.stdout.flush()


@contextmanager
def _other_screen() -> Iterator[None]:
    """Switch to the terminal's other screen and back, also around Ctrl-Z and on SIGTERM."""

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def pause(_number: int, _frame: FrameType | None) -> None:
        write(_LEAVE)
        os.kill(os.getpid(), signal.SIGSTOP)
        write(_ENTER)

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    handlers = {signal.SIGTSTP: pause, signal.SIGTERM: end, signal.SIGHUP: end}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    write(_ENTER)
    try:
        yield
    finally:
        write(_LEAVE)
        for number, handler in previous.items():
            signal.signal(number, handler)
