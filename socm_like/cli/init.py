"""``campaign init``."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

from socm_like.cli.render import shown_path
from socm_like.errors import UsageError
from socm_like.journal import store_errors

STARTER = ("campaign.toml", "simulate.py", "fit.py", "summary.py")


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=Path(), required=False)
def command(directory: Path) -> None:
    """Write a commented campaign that runs as it stands: three small tasks in Python.

    DIRECTORY is the current one by default. No file is overwritten.
    """
    present = [name for name in STARTER if (directory / name).exists()]
    if present:
        place = shown_path((directory / present[0]).absolute())
        raise UsageError(f"{place} exists, and nothing was written; name another directory: campaign init DIRECTORY")
    with store_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for name in STARTER:
            text = (files("socm_like.cli") / "starter" / name).read_text(encoding="utf-8")
            (directory / name).write_text(text, encoding="utf-8")
    click.echo(f"wrote {', '.join(STARTER)} in {directory.absolute()}\n\nnow type:")
    if directory.absolute() != Path.cwd():
        click.echo(f"  cd {shown_path(directory.absolute())}")
    for words, purpose in (
        ("campaign check", "find faults before anything runs"),
        ("campaign plan", "see the tasks and their order"),
        ("campaign submit", "run them"),
        ("campaign status", "see how they stand"),
        ("campaign results", "see what they found"),
    ):
        click.echo(f"  {words:18}{purpose}")
