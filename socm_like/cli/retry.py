"""``campaign retry``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from socm_like.cli.loading import find_plan
from socm_like.cli.options import run_argument, store_option, task_option
from socm_like.cli.running import run_session
from socm_like.submission import open_run


@click.command("retry")
@run_argument
@task_option
@store_option
def command(run: str | None, tasks: tuple[str, ...], store: Path) -> None:
    """Run again what failed, and what was skipped because of it.

    RUN is the latest by default. Tasks that succeeded are not touched; each new try is a new attempt.
    """
    _, plan = find_plan(store, run, tasks)
    with open_run(plan) as session:
        sys.exit(run_session(plan, session, retry=tasks or [task.name for task in plan.tasks]))
