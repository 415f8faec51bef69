"""``campaign kinds``."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from socm_like.campaign import load_campaign
from socm_like.cli.kind_fields import FieldDescription, describe_fields, first_line, origin_of, schema_of
from socm_like.cli.options import json_option
from socm_like.cli.render import Cell, coloured, print_json, table, terminal_width
from socm_like.errors import PluginError, UsageError, listed, suggest
from socm_like.registry import Registry
from socm_like.workflow import Workflow


@click.command("kinds")
@click.argument("kind", required=False, default=None)
@click.option(
    "--campaign", "file", type=click.Path(path_type=Path, dir_okay=False), default=None,
    help="Include the kinds of this campaign file and its plug-ins.",
)  # fmt: skip
@click.option(
    "--plugin", "plugins", type=click.Path(path_type=Path, dir_okay=False), multiple=True,
    help="Include the kinds of this .py or .toml file; may be repeated.",
)  # fmt: skip
@json_option
def command(*, kind: str | None, file: Path | None, plugins: tuple[Path, ...], as_json: bool) -> None:
    """List the kinds of workflows, or describe one: its fields, their types, units and defaults.

    With --json a kind is its JSON schema.
    """
    registry = _registry(file, plugins)
    if kind is None:
        sys.exit(_list(registry, as_json=as_json))
    if kind not in registry:
        raise UsageError(f"unknown kind {kind!r}; known kinds: {listed(registry)}{suggest(kind, registry)}")
    workflow = registry[kind]
    if as_json:
        print_json(schema_of(kind, workflow))
    else:
        _describe(kind, workflow)


def _registry(file: Path | None, plugins: Sequence[Path]) -> Registry:
    """Return the installed kinds and those of the files; what is wrong with the campaign is told on stderr."""
    if file is None:
        return Registry.load(plugins)
    campaign = load_campaign(file)
    for fault in campaign.faults:
        click.echo(str(fault), err=True)
    if not plugins:
        return campaign.registry
    registry = Registry.load([*campaign.plugins, *plugins])
    registry.declare(campaign.document)
    return registry


def _list(registry: Registry, *, as_json: bool) -> int:
    """Print every kind in one line; return the exit status."""
    rows: list[tuple[str, str, str, str]] = []
    problems = []
    for kind in registry:
        try:
            workflow = registry[kind]
        except PluginError as error:
            problems.append(str(error))
        else:
            rows.append((kind, first_line(workflow), origin_of(workflow), workflow.version))
    if as_json:
        names = ("kind", "doc", "from", "version")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        body: list[tuple[str | Cell, ...]] = [(kind, doc, Cell(origin, dim=True)) for kind, doc, origin, _ in rows]
        click.echo(table(("kind", "what it does", "from"), body))
    for problem in problems:
        click.echo(problem, err=True)
    return 1 if problems else 0


def _describe(kind: str, workflow: type[Workflow]) -> None:
    runs = "Python" if workflow.runs_python() else "a program"
    click.echo(f"{coloured(kind, bold=True)}  version {workflow.version}, runs {runs}, from {origin_of(workflow)}")
    click.echo()
    click.echo(plain(inspect.cleandoc(workflow.__doc__ or "(not described)")))
    own, common = describe_fields(workflow)
    click.echo()
    click.echo(f"[campaign.{kind if '.' not in kind else 'x'}]")
    if not own:
        click.echo("no fields of its own")
    for field in own:
        _print_field(field)
    click.echo()
    click.echo(coloured("every workflow has", bold=True))
    rows = [(field.name, field.type, Cell(first_sentence(plain(field.doc)), dim=True)) for field in common]
    click.echo(table(("field", "type", ""), rows))


def plain(text: str) -> str:
    """Return a docstring without its markup."""
    return text.replace("``", "")


def first_sentence(text: str) -> str:
    """Return a text up to its first full stop or semicolon."""
    return re.split(r"; |\. |\n", text, maxsplit=1)[0].removesuffix(".")


def _print_field(field: FieldDescription) -> None:
    unit = f", in {field.unit}" if field.unit else ""
    limits = f", {field.limits}" if field.limits else ""
    must = coloured("required", "yellow") if field.is_required else f"default {field.default}"
    click.echo(f"  {coloured(field.name, 'cyan')}: {field.type}{unit}{limits}; {must}")
    width = (terminal_width() or 100) - 6
    for line in click.wrap_text(plain(field.doc), width, preserve_paragraphs=True).splitlines():
        click.echo(f"      {line}".rstrip())
