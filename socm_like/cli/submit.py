"""``campaign submit``."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from socm_like.cli.loading import plan_run
from socm_like.cli.options import campaign_argument, campaign_store_option
from socm_like.cli.running import run_session
from socm_like.errors import RunHeldError, StoreError
from socm_like.executors.base import Attempt, Launch
from socm_like.logs import tail
from socm_like.plan import Plan
from socm_like.store import RunDirectory, read_holder
from socm_like.submission import executor_of, open_run, run_directory


@click.command("submit")
@campaign_argument
@campaign_store_option
@click.option("--dry-run", is_flag=True, help="Print the scripts that would be run; write nothing.")
@click.option("--detach", is_flag=True, help="Leave the run to a process in the background.")
@click.option("--fresh", is_flag=True, help="Compute every task again, whatever results there are.")
def command(
    file: Path, settings: tuple[str, ...], store: Path | None, *, dry_run: bool, detach: bool, fresh: bool
) -> None:
    """Run a campaign, or go on with it where it stopped.

    FILE is campaign.toml by default. Exit status 0: every task succeeded; 1: some did not; 2: the campaign is
    wrong, or somebody else runs it.
    """
    plan, digests = plan_run(file, settings, store)
    if dry_run:
        _print_scripts(plan)
        return
    digests.save()
    if detach:
        _detach(plan, file, [*_overrides(settings), *(["--fresh"] if fresh else [])])
        return
    with open_run(plan, file.read_text(encoding="utf-8")) as session:
        sys.exit(run_session(plan, session, fresh=fresh))


def _print_scripts(plan: Plan) -> None:
    run = run_directory(plan)
    executor = executor_of(plan, run)
    for task in plan.tasks:
        stdout = run.log(task.workflow, task.name, 1, "out")
        launch = Launch(
            attempt=Attempt(task.name, 1),
            argv=task.argv,
            directory=plan.store / task.folder,
            stdout=stdout,
            stderr=stdout.with_suffix(".err"),
            resources=task.resources,
            environment=task.environment,
        )
        click.echo(f"# task {task.name}")
        click.echo(executor.render(launch))


def _overrides(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def _detach(plan: Plan, file: Path, options: Sequence[str]) -> None:
    """Start this command again as a process of its own session, and wait until it holds the run."""
    run = run_directory(plan)
    holder = read_holder(run)
    if holder is not None:
        raise RunHeldError(f"{run.name} is held by {holder}; watch it with: campaign status {run.name}")
    run.path.mkdir(parents=True, exist_ok=True)
    log = run.path / "runner.log"
    with log.open("w") as output:
        words = [sys.executable, "-m", "socm_like.cli", "submit", str(file), "--store", str(plan.store), *options]
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    _wait_until_held(run, process, log)
    click.echo(f"{run.name} runs in the background (process {process.pid}, log {log})")
    click.echo(f"watch it: campaign status --watch {run.name}")


def _wait_until_held(run: RunDirectory, process: subprocess.Popen[bytes], log: Path) -> None:
    while process.poll() is None:
        holder = read_holder(run)
        if holder is not None and holder.pid == process.pid:
            return
        time.sleep(0.05)
    if process.returncode not in (0, 1):
        raise StoreError("\n".join(tail(log, 20)))
