"""``campaign completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from socm_like.cli import cli


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the shell code that completes commands, options and run names.

    For example: eval "$(campaign completion bash)"
    """
    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(completion(cli, {}, "campaign", "_CAMPAIGN_COMPLETE").source())
