"""Options that several commands share."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from socm_like.store import runs_in

_F = TypeVar("_F", bound=Callable[..., Any])


def _absolute(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Path | None:
    return None if value is None else Path(value).absolute()


def _runs(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    store = context.params.get("store") or default_store()
    return [CompletionItem(run.name) for run in runs_in(store) if run.name.startswith(incomplete)]


def default_store() -> Path:
    """Return where runs are kept when nobody says: ``store`` of ./campaign.toml, else ./runs."""
    try:
        text = Path("campaign.toml").read_text(encoding="utf-8")
        stated = tomllib.loads(text)["campaign"]["store"] if "store" in text else None
    except (OSError, ValueError, KeyError, TypeError):  # no campaign here that says so; submitting tells what is wrong
        stated = None
    return Path(stated if isinstance(stated, str) else "runs").absolute()


def _store_or_default(context: click.Context, parameter: click.Parameter, value: str | None) -> Path:
    return _absolute(context, parameter, value) or default_store()


def store_option(function: _F) -> _F:
    """Add ``--store``: an absolute ``store`` for commands that look at runs."""
    return click.option(
        "--store", metavar="PATH", envvar="SOCM_STORE", default=None, callback=_store_or_default,
        help="Where runs are kept.  [default: $SOCM_STORE, else store in ./campaign.toml, else ./runs]",
    )(function)  # fmt: skip


def campaign_store_option(function: _F) -> _F:
    """Add ``--store``: an absolute ``store``, or None to let the campaign file decide."""
    return click.option(
        "--store", metavar="PATH", envvar="SOCM_STORE", default=None, callback=_absolute,
        help="Where runs are kept.  [default: $SOCM_STORE, else [campaign] store, else ./runs]",
    )(function)  # fmt: skip


def run_argument(function: _F) -> _F:
    """Add an optional ``run``: a run's name, the beginning of one, or its directory."""
    return click.argument("run", required=False, default=None, shell_complete=_runs)(function)


def campaign_argument(function: _F) -> _F:
    """Add ``file``, the campaign file, ``campaign.toml`` by default, and ``settings`` from ``--set``."""
    function = click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a key: campaign.maps.maxiter=50."
    )(function)
    return click.argument(
        "file", type=click.Path(path_type=Path, dir_okay=False), default=Path("campaign.toml"), required=False
    )(function)


def json_option(function: _F) -> _F:
    """Add ``--json``, as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def task_option(function: _F) -> _F:
    """Add ``--task``, as ``tasks``: some tasks of a run instead of all."""
    return click.option("--task", "tasks", multiple=True, metavar="TASK", help="Only this task; may be repeated.")(
        function
    )
