"""``campaign cancel``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from socm_like.cli.options import run_argument, store_option
from socm_like.cli.running import run_session
from socm_like.errors import StoreError, UsageError, suggest
from socm_like.journal import read_events, replay
from socm_like.plan import read_plan
from socm_like.runner import write_request
from socm_like.store import RunDirectory, find_run, read_holder
from socm_like.submission import open_run

PATIENCE = 60.0
"""Seconds the runner gets to act on a request."""


@click.command("cancel")
@run_argument
@click.option("--task", "tasks", multiple=True, metavar="TASK", help="Only this task; may be repeated.")
@store_option
def command(run: str | None, tasks: tuple[str, ...], store: Path) -> None:
    """End a run, or some of its tasks.

    RUN is the latest by default. Submitting the campaign again goes on from there.
    """
    directory = find_run(store, run)
    plan = read_plan(directory.read_plan())
    names = {task.name for task in plan.tasks}
    for task in tasks:
        if task not in names:
            raise UsageError(f"{directory.name} has no task {task!r}{suggest(task, names)}")
    write_request(directory, tasks)
    if read_holder(directory) is None:
        with open_run(plan) as session:
            run_session(plan, session)
        return
    _wait(directory, set(tasks or names))
    click.echo(f"{directory.name}: cancelled")


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
