"""``campaign cancel``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from socm_like.cli.loading import find_plan
from socm_like.cli.options import run_argument, store_option, task_option
from socm_like.cli.running import run_session
from socm_like.errors import StoreError
from socm_like.journal import read_events, replay
from socm_like.plan import Plan
from socm_like.requests import write_request
from socm_like.status import read_status
from socm_like.store import RunDirectory, read_holder
from socm_like.submission import open_run

PATIENCE = 60.0
"""Seconds the runner gets to act on a request."""


@click.command("cancel")
@run_argument
@task_option
@store_option
def command(run: str | None, tasks: tuple[str, ...], store: Path) -> None:
    """End a run, or some of its tasks.

    RUN is the latest by default. Submitting the campaign again goes on from there.
    """
    directory, plan = find_plan(store, run, tasks)
    names = tasks or tuple(task.name for task in plan.tasks)
    if read_holder(directory) is None:
        _cancel_here(directory, plan, names)
        return
    write_request(directory, tasks)
    _wait(directory, set(names))
    click.echo(f"{directory.name}: cancelled")


def _cancel_here(directory: RunDirectory, plan: Plan, names: Sequence[str]) -> None:
    """Cancel tasks of a run that no process holds: what its launcher still runs, and what waits."""
    states = {task.task: task.state for task in read_status(directory).tasks}
    if all(states[name].is_final for name in names):
        click.echo(f"{directory.name}: nothing runs or waits; nothing cancelled")
        return
    with open_run(plan) as session:
        run_session(plan, session, cancel=names)


def _wait(directory: RunDirectory, tasks: set[str]) -> None:
    """Wait until the process that holds the run has ended the tasks."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        records = replay(read_events(directory.journal))
        if all(name in records and records[name].state.is_final for name in tasks):
            return
        if read_holder(directory) is None:
            return
        time.sleep(0.2)
    raise StoreError(f"{directory.name}: the runner has not answered in {PATIENCE:.0f} s; see campaign status")
