"""The command ``campaign``: one module per subcommand, imported when it is called."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import NoReturn

import click

from socm_like.errors import CampaignError, PluginError, SocmError, UsageError, suggest

COMMANDS: Mapping[str, str] = {
    "init": "Write a commented starter campaign.",
    "check": "Read a campaign and report every fault.",
    "plan": "Show tasks, sizes, order and the critical path.",
    "submit": "Run a campaign, or go on with it.",
    "status": "Show how a run stands.",
    "logs": "Show what a task printed.",
    "cancel": "End a run or some of its tasks.",
    "retry": "Run again what failed.",
    "results": "Show results as a table.",
    "artifacts": "List what tasks left, remove what is old, link TensorBoard files.",
    "graph": "Draw the dependency graph.",
    "kinds": "List kinds of workflows, or describe one.",
    "machines": "List machines, or describe one.",
    "estimates": "Show how well sizes were predicted.",
    "completion": "Print the shell code that completes commands.",
}


class _Commands(click.Group):
    """A group that knows its commands by name and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"socm_like.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"no command {args[0]!r}{suggest(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"campaign {import_module('importlib.metadata').version('socm-like')}")
        context.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def cli() -> None:
    """Run campaigns of computations: write a campaign.toml, submit it, watch its status."""


def main() -> None:
    """Run the command line; every error of ours is one message, exit status 1 or 2."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - for as long as the process lives
    try:
        cli.main()
        sys.stdout.flush()
    except SocmError as error:
        click.echo(str(error), err=True)
        sys.exit(2 if isinstance(error, UsageError | CampaignError | PluginError) else 1)
    except BrokenPipeError:
        _leave(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        click.echo(f"cannot write the answer: {error.strerror}", err=True)
        _leave(1)


def _leave(status: int) -> NoReturn:
    """Exit without a second try to write what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)
