"""``campaign estimates``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from socm_like.accuracy import Accuracy, Ratio, accuracies
from socm_like.cli.options import json_option, store_option
from socm_like.cli.render import Cell, coloured, print_json, shown_path, table, terminal_width
from socm_like.errors import UsageError, suggest
from socm_like.estimate import ENOUGH
from socm_like.measurements import read_measurements
from socm_like.units import format_size, format_span

NONE = "-"
_NAMES = {"memory": "memory", "gpu_memory": "GPU memory", "runtime": "time"}
LABEL = 26
"""Characters of a kind and its program that are shown."""
_LEGEND = (
    "What was used over what was predicted, asked, and learned by now (each task from the others): the median, and how "
    "many used more than that. Padding was asked and not used. Next: what the next task is predicted to need, or the "
    f"fields it depends on; from {ENOUGH} tasks on."
)


@click.command("estimates")
@store_option
@click.option("--kind", metavar="KIND", help="Only tasks of this kind.")
@json_option
def command(*, store: Path, kind: str | None, as_json: bool) -> None:
    """Show how well sizes were predicted and asked for, kind by kind, and what padding costs.

    It rests on the finished tasks of all runs in the store, of each kind the latest thousand.
    """
    found = read_measurements(store)
    if kind is not None and found and kind not in found:
        there = f"there are: {', '.join(sorted(found))}{suggest(kind, found)}"
        raise UsageError(f"{store}: no finished task of kind {kind!r}; {there}")
    chosen = {name: each for name, each in found.items() if kind in (None, name)}
    rows = [row for name in sorted(chosen) for row in accuracies(chosen[name])]
    if as_json:
        print_json([asdict(row) for row in rows])
    elif not rows:
        click.echo(f"no finished task in {shown_path(store)} yet; estimates are learned from those of campaign submit")
    else:
        _show(rows)


def _show(rows: Sequence[Accuracy]) -> None:
    headers = ("kind", "of", "tasks", "predicted", "over", "asked", "over", "padding", "learned", "over", "next")
    body: list[list[str | Cell]] = []
    shown = ("", "")
    for row in rows:
        is_first = (row.kind, row.family) != shown
        shown = (row.kind, row.family)
        label = _shortened(f"{row.kind}: {row.program}") if row.program else row.kind
        body.append(
            [
                Cell(label if is_first else "", "cyan"),
                _NAMES[row.quantity],
                str(row.records),
                *_ratio(row.predicted),
                *_ratio(row.asked),
                _padding(row),
                *_ratio(row.learned),
                _next(row),
            ]
        )
    click.echo(table(headers, body))
    click.echo()
    for line in click.wrap_text(_LEGEND, terminal_width() or 100).splitlines():
        click.echo(coloured(line, dim=True))


def _shortened(label: str) -> str:
    """Return a label that leaves room for the figures: paths without their folders, the rest cut."""
    words = " ".join(word.rpartition("/")[2] or word for word in label.split())
    return words if len(words) <= LABEL else f"{words[: LABEL - 1]}…"


def _ratio(ratio: Ratio | None) -> tuple[str, str]:
    return (NONE, NONE) if ratio is None else (f"{ratio.median:.2f}", f"{100 * ratio.exceeded:.0f}%")


def _padding(row: Accuracy) -> str:
    if row.asked is None:
        return NONE
    return f"{row.padding:.2g} core h" if row.quantity == "runtime" else f"{row.padding:.2g} GiB h"


def _next(row: Accuracy) -> str:
    if row.depends_on:
        return f"by {', '.join(row.depends_on)}"
    if row.next is None:
        return NONE
    return format_span(row.next) if row.quantity == "runtime" else format_size(row.next)
