"""``campaign check``."""

from __future__ import annotations

from pathlib import Path

import click

from socm_like.cli.loading import load, plan_loaded
from socm_like.cli.offers import refuse_what_fits_nowhere
from socm_like.cli.options import campaign_argument, campaign_store_option


@click.command("check")
@campaign_argument
@campaign_store_option
def command(file: Path, settings: tuple[str, ...], store: Path | None) -> None:
    """Read a campaign and report every fault at once; exit status 2 if there is one.

    FILE is campaign.toml by default. Nothing is written.
    """
    campaign = load(file, settings)
    plan, _ = plan_loaded(campaign, store)
    if campaign.machine is not None:
        refuse_what_fits_nowhere(plan, campaign.machine)
    workflows = len({task.workflow for task in plan.tasks})
    tasks = len(plan.tasks)
    click.echo(f"{file}: fine; {workflows} workflow{'s'[: workflows != 1]}, {tasks} task{'s'[: tasks != 1]}")
