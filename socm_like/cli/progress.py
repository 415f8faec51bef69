"""Live progress of a run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module

import click

from socm_like.journal import Event, Record, TaskState
from socm_like.logs import printable
from socm_like.plan import Plan
from socm_like.store import RunDirectory
from socm_like.units import format_span

EVERY_TASK = 200
"""Up to this many tasks each one's end is a line; beyond, a line tells the counts once in a while."""
LINE_INTERVAL = 2.0


class Progress:
    """What has happened so far; draws nothing."""

    def __init__(self, plan: Plan, run: RunDirectory) -> None:
        self.plan = plan
        self.run = run
        self.total = len(plan.tasks)
        self.ended = 0
        """Tasks that reached their final state in this session."""
        self.counts: Counter[TaskState] = Counter()
        self.running: dict[str, float] = {}
        self._workflow = {task.name: task.workflow for task in plan.tasks}
        self._states: dict[str, TaskState] = {}
        self._begun = time.monotonic()
        self._measured = 0
        """Tasks that were seen to run and to end."""

    def begin(self, records: Mapping[str, Record]) -> None:
        """Take over where the records stand."""
        self._states = {name: record.state for name, record in records.items()}
        self.total = len(records)
        self.counts = Counter(self._states.values())

    def saw(self, event: Event, record: Record) -> None:
        """Count an event."""
        before = self._states.get(event.task)
        if before is None:  # a search has just asked for it
            self.total += 1
        else:
            self.counts[before] -= 1
        self.counts[record.state] += 1
        self._states[event.task] = record.state
        if record.state is TaskState.RUNNING:
            self.running[event.task] = time.monotonic()
        elif record.state.is_final:
            self.running.pop(event.task, None)
            self.ended += 1
            self._measured += record.started is not None

    def tick(self) -> None:
        """Nothing to draw."""

    @property
    def elapsed(self) -> str:
        """Time since the session began."""
        return format_span(time.monotonic() - self._begun)

    @property
    def finished(self) -> int:
        """Tasks in a final state, earlier sessions included."""
        return sum(number for state, number in self.counts.items() if state.is_final)

    @property
    def time_left(self) -> str:
        """Time left if the rest goes like what ended so far, or an empty string."""
        left = self.total - self.finished
        spent = time.monotonic() - self._begun
        if not self._measured or left == 0:
            return ""
        return f"about {format_span(spent * left / self._measured)} left"

    def problems(self) -> str:
        """Return ``2 failed, 1 timeout``, or an empty string."""
        bad = {state: number for state, number in self.counts.items() if state.is_final and not state.is_success}
        return ", ".join(f"{number} {state}" for state, number in sorted(bad.items()) if number)


class Lines(Progress):
    """Plain lines on stderr: one per task that ends, or the counts now and then when there are many."""

    def __init__(self, plan: Plan, run: RunDirectory) -> None:
        super().__init__(plan, run)
        self._last_line = time.monotonic()

    def saw(self, event: Event, record: Record) -> None:
        """Count an event, and tell the end of a task."""
        super().saw(event, record)
        if record.state.is_final and (self.total <= EVERY_TASK or not record.state.is_success):
            reason = f": {printable(record.reason)}" if record.reason else ""
            click.echo(f"[{self.finished}/{self.total}] {record.state} {event.task}{reason}", err=True)

    def tick(self) -> None:
        """Tell the counts, if it is time to."""
        now = time.monotonic()
        if self.total > EVERY_TASK and now - self._last_line >= LINE_INTERVAL:
            self._last_line = now
            parts = [f"{self.finished} of {self.total}", self.problems(), self.time_left]
            click.echo(", ".join(part for part in parts if part), err=True)


@contextmanager
def open_progress(plan: Plan, run: RunDirectory) -> Iterator[Progress]:
    """Show progress on stderr for as long as the context lasts."""
    if not sys.stderr.isatty():
        yield Lines(plan, run)
        return
    bar = import_module("socm_like.cli.bar")  # rich is loaded only where there is a terminal to draw on
    with bar.open_bar(plan, run) as progress:
        yield progress
