"""A run under the eyes of a person: signals, progress, and the summary at the end."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType

import click

from socm_like.cli.options import default_store
from socm_like.cli.progress import Progress, open_progress
from socm_like.journal import Record, TaskState
from socm_like.ledger import Outcome
from socm_like.logs import printable, tail
from socm_like.plan import Plan
from socm_like.runner import Runner
from socm_like.store import RunDirectory
from socm_like.submission import Session, registry_of, started_executor

LOG_LINES = 5
"""Last lines of a failed task's log in the summary."""
SHOWN = 20
"""Failures told in full; the rest are counted."""


def run_session(
    plan: Plan, session: Session, retry: Iterable[str] = (), cancel: Sequence[str] = (), *, fresh: bool = False
) -> int:
    """Run what the session holds, show it, sum it up; return the exit status."""
    if session.taken_over_from is not None:
        click.echo(f"{session.taken_over_from} is gone; going on with {session.run.name}", err=True)
    with open_progress(plan, session.run) as progress:
        engine = partial(started_executor, plan, session.run)
        kinds = partial(registry_of, plan, session.run)
        runner = Runner(plan, session.run, session.journal, session.lock, engine, kinds, progress)
        known = [name for name, task in runner.tasks.items() if not (fresh and task.trial_of)]
        progress.begin({name: record for name, record in runner.records.items() if name in known})
        with _interruptible(runner):
            outcome = runner.go(retry, cancel, fresh=fresh)
    _summarise(plan, session.run, outcome, progress)
    return 0 if outcome.succeeded else 1


@contextmanager
def _interruptible(runner: Runner) -> Iterator[None]:
    """Let the first Ctrl-C (or SIGTERM) end the run in order, the second end this process at once."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if runner.interrupted:
            raise KeyboardInterrupt
        runner.interrupted = True
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        click.echo(f"\n{name}: cancelling what runs; once more to leave at once", err=True)

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        click.echo("left; tasks may still be ending. Look with: campaign status", err=True)
        sys.exit(1)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _summarise(plan: Plan, run: RunDirectory, outcome: Outcome, progress: Progress) -> None:
    total = len(outcome.records)
    counts = ", ".join(f"{number} {state}" for state, number in sorted(outcome.counts.items()))
    if progress.ended == 0 and outcome.succeeded:
        click.echo(f"{run.name}: nothing to do; {total} task{'s'[: total != 1]}: {counts}")
    else:
        click.echo(f"{run.name}: {total} task{'s'[: total != 1]} in {progress.elapsed}: {counts}")
    failures = [
        (task, outcome.records[task.name])
        for task in plan.tasks
        if not task.trial_of and _is_worth_telling(outcome.records[task.name].state)
    ]
    for task, record in failures[:SHOWN]:
        _tell(run, task.workflow, task.name, record)
    if len(failures) > SHOWN:
        click.echo(f"and {len(failures) - SHOWN} more; see them all: {command_line('status --failed', run)}")
    if failures:
        click.echo(f"run again what failed: {command_line('retry', run)}")
    elif outcome.interrupted:
        click.echo(f"go on: campaign submit {shlex.quote(str(plan.source))}")
    else:
        click.echo(f"results: {command_line('results', run)}    files: {run.path}")


def command_line(command: str, run: RunDirectory) -> str:
    """Return what to type to look at a run from here."""
    store = "" if run.store == default_store() else f" --store {shlex.quote(str(run.store))}"
    return f"campaign {command} {shlex.quote(run.name)}{store}"


def _is_worth_telling(state: TaskState) -> bool:
    return state.is_final and not state.is_success and state not in (TaskState.SKIPPED, TaskState.CANCELLED)


def _tell(run: RunDirectory, workflow: str, task: str, record: Record) -> None:
    """Print one failure: its reason, the last lines of its log, and where the log is."""
    click.echo(f"{click.style(record.state.value, fg='red')} {task}: {printable(record.reason or 'no reason given')}")
    for stream in ("err", "out"):
        log = run.log(workflow, task, record.attempt, stream)
        lines = tail(log, LOG_LINES)
        if lines:
            for line in lines:
                click.echo(f"    | {line[:200]}")
            click.echo(f"    log: {log}")
            return
    click.echo(f"    it printed nothing; log: {run.log(workflow, task, record.attempt, 'err')}")
