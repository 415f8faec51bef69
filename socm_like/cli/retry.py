"""``campaign retry``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from socm_like.cli.options import run_argument, store_option
from socm_like.cli.running import run_session
from socm_like.errors import UsageError, suggest
from socm_like.plan import read_plan
from socm_like.store import find_run
from socm_like.submission import open_run


@click.command("retry")
@run_argument
@click.option("--task", "tasks", multiple=True, metavar="TASK", help="Only this task; may be repeated.")
@store_option
def command(run: str | None, tasks: tuple[str, ...], store: Path) -> None:
    """Run again what failed, and what was skipped because of it.

    RUN is the latest by default. Tasks that succeeded are not touched; each new try is a new attempt.
    """
    directory = find_run(store, run)
    plan = read_plan(directory.read_plan())
    names = {task.name for task in plan.tasks}
    for task in tasks:
        if task not in names:
            raise UsageError(f"{directory.name} has no task {task!r}{suggest(task, names)}")
    with open_run(plan) as session:
        sys.exit(run_session(plan, session, retry=tasks or names))
