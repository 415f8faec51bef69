"""``campaign artifacts ls | gc | tb``."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from socm_like.cli.options import json_option, run_argument, store_option
from socm_like.cli.render import GAP, Cell, coloured, cut, print_json, shown_path, table, terminal_width, text_width
from socm_like.errors import UsageError, listed, suggest
from socm_like.results.artifacts import Artifact, ArtifactState, find_artifacts
from socm_like.results.collection import Collection, Decision, Kept, Rule, collect, survey
from socm_like.results.tensorboard import update_links
from socm_like.results.usage import Usage, UsageReader
from socm_like.store import find_run
from socm_like.units import format_size, format_span

DAY = 86400.0
"""Seconds."""
DEFAULT_TTL_DAYS = 30.0
NOBODY = "nobody"
USERS_WIDTH = 27
"""Columns of a terminal for the users at the least, while others are cut: ``lensing-1a2b3c4d and 3 more``."""

_LEAST: Mapping[str, int] = {"used by": 16, "folder": 16, "kind": 12}
"""Columns of a table that may be cut, the one that is cut last first -> the least width of each."""
_MORE = re.compile(r" and \d+ more$")

_ORDERS: Mapping[str, Callable[[Artifact], tuple[Any, ...]]] = {
    "kind": lambda artifact: (artifact.kind, artifact.folder),
    "age": lambda artifact: (artifact.touched, artifact.folder),
    "size": lambda artifact: (-artifact.size, artifact.folder),
    "name": lambda artifact: (artifact.folder,),
}
_REASONS: Mapping[Kept, str] = {
    Kept.LIVE: "{} in use by a live run",
    Kept.YOUNG: "{} not older than {}",
    Kept.RECENT: "{} used by a run not older than {}",
    Kept.HOLDS: "{} around another that stays",
}
_NOT_RESULTS: Mapping[ArtifactState, str] = {
    ArtifactState.PARTIAL: "partial",
    ArtifactState.OLD: "replaced",
    ArtifactState.DAMAGED: "damaged",
    ArtifactState.COLLECTED: "left by an interrupted gc",
}


@click.group("artifacts")
def command() -> None:
    """List what tasks left in the store, remove what is old, link TensorBoard files."""


def _days(_context: click.Context, _parameter: click.Parameter, days: float) -> float:
    if not (math.isfinite(days) and days >= 0):
        raise click.BadParameter(f"a number of days, 0 or more, is needed; got {days:g}")
    return days


_kind_option = click.option("--kind", metavar="KIND", default=None, help="Only artifacts of this kind.")


@command.command("ls", short_help="List artifacts and who uses them.")
@_kind_option
@click.option(
    "--sort", "order", type=click.Choice(list(_ORDERS)), default="kind", show_default=True,
    help="By age, the oldest come first; by size, the largest.",
)  # fmt: skip
@click.option("--unused", "only_unused", is_flag=True, help="Only what no run refers to.")
@json_option
@store_option
def list_command(*, kind: str | None, order: str, only_unused: bool, as_json: bool, store: Path) -> None:
    """List artifacts: kind, identity, folder, age, size, and the runs whose plans refer to each.

    Age is the time since the last change. What an attempt works in or has left is a "partial", listed with its run.
    """
    _check_store(store)
    usage = UsageReader(store).read()
    artifacts = _of_kind(find_artifacts(store, usage.planned), kind)
    chosen = [artifact for artifact in artifacts if not (only_unused and artifact.users(usage))]
    chosen.sort(key=_ORDERS[order])
    if as_json:
        print_json([_to_json(artifact, usage, time.time()) for artifact in chosen])
    elif chosen:
        _print_artifacts(chosen, time.time(), usage)
        click.echo(_totals(chosen, usage))
    else:
        rest = "each is used by a run" if artifacts else "a campaign leaves some: campaign submit campaign.toml"
        click.echo(f"no {'unused ' if artifacts else ''}artifacts in {shown_path(store)}; {rest}", err=True)
    for problem in usage.problems:
        click.echo(f"{problem}\nwhat that run uses is not in the list", err=True)
    sys.exit(1 if usage.problems else 0)


@command.command("gc", short_help="Remove what is old and not in use.")
@click.option(
    "--ttl-days", metavar="DAYS", type=float, envvar="SOCM_TTL_DAYS", default=DEFAULT_TTL_DAYS, callback=_days,
    help=f"Keep what is not older than this.  [default: $SOCM_TTL_DAYS, else {DEFAULT_TTL_DAYS:g}]",
)  # fmt: skip
@click.option("--dry-run", "is_dry", is_flag=True, help="Show what would be removed; remove nothing.")
@_kind_option
@json_option
@store_option
def collect_command(*, ttl_days: float, is_dry: bool, kind: str | None, as_json: bool, store: Path) -> None:
    """Remove artifacts and leftovers of attempts that have not changed for some days.

    What a live run refers to stays in any case, and so does what a run refers to that is itself not older than the
    limit. A campaign that needs a removed result again computes it again.
    """
    _check_store(store)
    rule = Rule(ttl_days * DAY, time.time(), kind)
    if is_dry or kind is not None:
        artifacts, decision = survey(store, rule)
        _of_kind(artifacts, kind)
    collection = Collection(decision) if is_dry else collect(store, rule)
    if as_json:
        print_json(_collection_to_json(collection, rule, is_dry=is_dry))
    else:
        _print_collection(collection, rule, is_dry=is_dry)
    for problem in collection.problems:
        click.echo(problem, err=True)
    sys.exit(1 if collection.problems else 0)


@command.command("tb", short_help="Print a folder for TensorBoard.")
@run_argument
@store_option
def tensorboard_command(run: str | None, store: Path) -> None:
    """Print a folder with a link to each task of a run that has TensorBoard files.

    RUN is the latest by default. Use it as: tensorboard --logdir "$(campaign artifacts tb)"
    """
    directory = find_run(store, run)
    place = update_links(directory)
    if place is None:
        click.echo(f"{directory.name}: no task has TensorBoard files (events.out.tfevents.*)", err=True)
        sys.exit(1)
    click.echo(os.fsencode(place))


def _check_store(store: Path) -> None:
    if not store.is_dir():
        raise UsageError(f"no store at {store}; a campaign makes one: campaign submit campaign.toml")


def _of_kind(artifacts: Sequence[Artifact], kind: str | None) -> Sequence[Artifact]:
    """Return the artifacts of one kind, or all when None.

    Raises UsageError naming the kinds there are.
    """
    kinds = {artifact.kind for artifact in artifacts if artifact.kind}
    if kind is None or not artifacts:
        return artifacts
    if kind not in kinds:
        raise UsageError(f"no artifacts of kind {kind!r}; there are: {listed(kinds)}{suggest(kind, kinds)}")
    return [artifact for artifact in artifacts if artifact.kind == kind]


def _to_json(artifact: Artifact, usage: Usage, now: float) -> dict[str, Any]:
    return {**_facts(artifact, now), "used_by": _names(artifact, usage)}


def _facts(artifact: Artifact, now: float) -> dict[str, Any]:
    return {
        "kind": artifact.kind,
        "id": artifact.id,
        "folder": artifact.folder,
        "state": artifact.state.value,
        "age": max(0.0, now - artifact.touched),
        "size": artifact.size,
    }


def _names(artifact: Artifact, usage: Usage) -> list[str]:
    return sorted(run.name for run in artifact.users(usage))


def _print_artifacts(artifacts: Sequence[Artifact], now: float, usage: Usage | None = None) -> None:
    """Print artifacts as a table, with their users; on a terminal without the columns that tell nothing new."""
    width = terminal_width()
    columns: dict[str, list[str]] = {
        "kind": [artifact.kind or "?" for artifact in artifacts],
        "id": [artifact.id[:12] or "?" for artifact in artifacts],
        "folder": [artifact.folder for artifact in artifacts],
        "age": [_short_age(now - artifact.touched) for artifact in artifacts],
        "size": [format_size(artifact.size) for artifact in artifacts],
        "state": [artifact.state.value for artifact in artifacts],
    }
    if width is not None and all(_is_in_plain_place(artifact) for artifact in artifacts):
        del columns["folder"]
    if width is not None and (usage is not None or all(_is_done(artifact) for artifact in artifacts)):
        del columns["state"]
    if usage is not None:
        names = [_names(artifact, usage) for artifact in artifacts]
        columns["used by"] = [_use(own) for own in names]
        if width is not None:
            columns["used by"] = [_whose(artifact, own) for artifact, own in zip(artifacts, names, strict=True)]
    if width is not None:
        _fit(columns, width)
    texts = zip(*columns.values(), strict=True)
    rows = [[_painted(text, artifact) for text in row] for row, artifact in zip(texts, artifacts, strict=True)]
    click.echo(table(tuple(columns), rows))


def _is_done(artifact: Artifact) -> bool:
    return artifact.state is ArtifactState.DONE


def _painted(text: str, artifact: Artifact) -> str | Cell:
    is_note = not _is_done(artifact) and text.startswith(artifact.state.value)
    return Cell(text, "yellow" if is_note else "", dim=text == NOBODY)


def _use(names: Sequence[str]) -> str:
    """Return ``lensing-1a2b3c4d and 3 more``."""
    if not names:
        return NOBODY
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _whose(artifact: Artifact, names: Sequence[str]) -> str:
    """Return its users, and before them what it is where it is no result."""
    if _is_done(artifact):
        return _use(names)
    return f"{artifact.state.value} of {_use(names)}" if names else artifact.state.value


def _fit(columns: dict[str, list[str]], width: int) -> None:
    """Shorten users, folders and kinds in their middle until all columns fit; ``and 3 more`` stays."""
    needs = {name: max(map(text_width, [name, *texts])) for name, texts in columns.items()}
    flexible = [name for name in _LEAST if name in columns]
    room = width - len(GAP) * (len(columns) - 1) - sum(needs[name] for name in columns if name not in flexible)
    for index, name in enumerate(flexible):
        later = flexible[index + 1 :]
        most = room - sum(min(needs[other], _LEAST[other]) for other in later)
        wished = min(most, USERS_WIDTH) if name == "used by" else most
        share = max(_LEAST[name], wished, room - sum(needs[other] for other in later))
        columns[name] = [_shortened(text, share) for text in columns[name]]
        room -= min(needs[name], share)


def _shortened(text: str, width: int) -> str:
    found = _MORE.search(text)
    rest = found[0] if found else ""
    return cut(text.removesuffix(rest), width - len(rest), keep_end=True) + rest


def _is_in_plain_place(artifact: Artifact) -> bool:
    """Whether kind and identity tell the folder."""
    return artifact.home == f"{artifact.kind}/{artifact.id[:12]}"


def _short_age(seconds: float) -> str:
    """Return ``12 s``, ``3 min``, ``2 h`` or ``41 d``."""
    return " ".join(format_span(max(0, round(seconds))).split()[:2])


def _totals(artifacts: Sequence[Artifact], usage: Usage) -> str:
    text = "; ".join(f"{count}, {size}" for count, size in _sums(artifacts))
    unused = sum(not artifact.users(usage) for artifact in artifacts)
    return coloured(f"{text}; {unused} used by nobody" if unused else text, dim=True)


def _sums(artifacts: Sequence[Artifact]) -> list[tuple[str, str]]:
    """Return ``3 artifacts`` with their size, then ``1 partial`` and so on with theirs."""
    sums = []
    for state in ArtifactState:
        members = [artifact for artifact in artifacts if artifact.state is state]
        if members:
            word = _NOT_RESULTS.get(state) or f"artifact{'s'[: len(members) != 1]}"
            sums.append((f"{len(members)} {word}", _size_of(members)))
    return sums


def _size_of(artifacts: Iterable[Artifact]) -> str:
    return format_size(sum(artifact.size for artifact in artifacts))


def _print_collection(collection: Collection, rule: Rule, *, is_dry: bool) -> None:
    decision = collection.decision
    if decision.removed:
        _print_artifacts(decision.removed, rule.now)
        sums = _sums(decision.removed)
        parts = [count if len(sums) == 1 else f"{count}, {size}" for count, size in sums]
        click.echo(f"{'would free' if is_dry else 'freed'} {format_size(decision.freed)}: {'; '.join(parts)}")
    else:
        click.echo("nothing to remove")
    click.echo(_kept_line(decision.counts, rule.limit))


def _kept_line(counts: Counter[Kept], limit: float) -> str:
    """Return ``kept 5: 3 not older than 30 d, 2 in use by a live run``."""
    span = f"{limit / DAY:g} d"
    reasons = [text.format(counts[reason], span) for reason, text in _REASONS.items() if counts[reason]]
    return f"kept {counts.total()}" + (f": {', '.join(reasons)}" if reasons else "")


def _collection_to_json(collection: Collection, rule: Rule, *, is_dry: bool) -> dict[str, Any]:
    decision: Decision = collection.decision
    return {
        "dry_run": is_dry,
        "ttl_days": rule.limit / DAY,
        "removed": [_facts(artifact, rule.now) for artifact in decision.removed],
        "freed": decision.freed,
        "kept": {reason.value: decision.counts[reason] for reason in _REASONS},
        "problems": list(collection.problems),
    }
