"""The live screen of ``campaign submit`` on a terminal; the only module that loads rich."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from socm_like.cli.progress import Progress
from socm_like.journal import Event, Record, TaskState
from socm_like.logs import printable
from socm_like.plan import Plan
from socm_like.store import RunDirectory
from socm_like.units import format_span


class Bar(Progress):
    """A bar, the running tasks and the failures, redrawn in place on a terminal."""

    def __init__(self, plan: Plan, run: RunDirectory, live: Live) -> None:
        super().__init__(plan, run)
        self._live = live
        self._failed: list[str] = []
        self._drawn = 0.0

    def saw(self, event: Event, record: Record) -> None:
        """Count an event, and keep a failure for the screen."""
        super().saw(event, record)
        if record.state.is_final and not record.state.is_success and record.state is not TaskState.SKIPPED:
            self._failed.append(f"{record.state} {event.task}: {printable(record.reason or '')}")
        self.tick()

    def tick(self) -> None:
        """Draw, ten times a second at the most."""
        now = time.monotonic()
        if now - self._drawn >= 0.1:
            self._drawn = now
            self._live.update(self._screen(), refresh=True)

    def _screen(self) -> RenderableType:
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=self.total, completed=self.finished, width=40)
        head.add_row(self.run.name, bar, f"{self.finished}/{self.total}", self.elapsed, self.time_left)
        lines: list[RenderableType] = [head]
        now = time.monotonic()
        shown = list(self.running.items())[:8]
        for name, since in shown:
            lines.append(Text(f"  running  {name}  {format_span(now - since)}", style="cyan"))
        if len(self.running) > len(shown):
            lines.append(Text(f"  and {len(self.running) - len(shown)} more", style="cyan"))
        lines.extend(Text(f"  {failure}", style="red") for failure in self._failed[-5:])
        return Group(*lines)


@contextmanager
def open_bar(plan: Plan, run: RunDirectory) -> Iterator[Bar]:
    """Draw on stderr for as long as the context lasts; the screen is left as it was."""
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        yield Bar(plan, run, live)
