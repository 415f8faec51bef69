"""``campaign results``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from socm_like.cli.options import json_option, run_argument, store_option
from socm_like.cli.render import (
    Cell,
    coloured,
    counts_line,
    cut,
    print_json,
    state_cell,
    table,
    terminal_width,
    text_width,
)
from socm_like.errors import UsageError, listed, suggest
from socm_like.logs import printable
from socm_like.results.table import Row, columns_of, is_short, read_results, readable, to_csv
from socm_like.status import RunStatus, TaskStatus, read_status
from socm_like.store import find_run


@click.command("results")
@run_argument
@store_option
@click.option("--workflow", metavar="NAME", default=None, help="Only this workflow or group.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with every column.")
@json_option
def command(run: str | None, store: Path, workflow: str | None, as_csv: bool, as_json: bool) -> None:
    """Show what the tasks of a run computed: parameters and metrics, one table per workflow.

    RUN is the latest by default. The table shows the columns that differ between tasks and as many as fit the
    terminal; --csv and --json show all.
    """
    if as_csv and as_json:
        raise UsageError("--csv or --json, not both")
    status = read_status(find_run(store, run))
    results = read_results(status, _chosen(status, workflow))
    if as_json:
        print_json([row.to_json() for row in results.rows])
    elif as_csv:
        click.echo(to_csv(results.rows).encode("utf-8", "backslashreplace").decode(), nl=False)
    else:
        _print_tables(results.rows)
    for problem in results.problems:
        click.echo(problem, err=True)
    sys.exit(1 if results.problems else 0)


def _chosen(status: RunStatus, workflow: str | None) -> Sequence[TaskStatus]:
    if workflow is None:
        return status.tasks
    chosen = [task for task in status.tasks if f"{task.workflow}.".startswith(f"{workflow}.")]
    if not chosen:
        known = {task.workflow for task in status.tasks}
        there = f"there are: {listed(known)}{suggest(workflow, known)}"
        raise UsageError(f"{workflow!r} is no workflow of {status.run}; {there}")
    return chosen


def _print_tables(rows: Sequence[Row]) -> None:
    members = _tables(rows)
    hidden = 0
    for index, (workflow, own) in enumerate(members.items()):
        count = f"{len(own)} task{'s'[: len(own) != 1]}"
        click.echo(("\n" if index else "") + f"{coloured(printable(workflow), bold=True)}  {own[0].kind}, {count}")
        if any(row.metrics for row in own):
            hidden += _print_table(own)
        else:
            click.echo(f"no metrics; {counts_line(Counter(row.state for row in own))}")
    if hidden:
        click.echo(f"\n{hidden} columns do not fit; see all: campaign results --csv", err=True)


def _tables(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each table by its title: those of one workflow, or of one kind in one group."""
    together: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        group = row.workflow.rpartition(".")[0]
        together.setdefault((group or row.workflow, row.kind if group else ""), []).append(row)
    tables: dict[str, list[Row]] = {}
    for (group, kind), own in together.items():
        is_group = len({row.workflow for row in own}) > 1
        title = f"{group}.*" if is_group else own[0].workflow
        tables[title if title not in tables else f"{title} ({kind})"] = own
    return tables


def _print_table(rows: Sequence[Row]) -> int:
    """Print the table of one workflow; return how many columns that differ did not fit."""
    columns = columns_of(rows)
    values = {
        name: [row[name] for row in columns.values if name in row] for name in (*columns.parameters, *columns.metrics)
    }
    short = [name for name in values if is_short(values[name])]
    cells = {name: readable([row.get(name) for row in columns.values]) for name in short}
    varying = [name for name in short if len(values[name]) < 2 or len(set(cells[name])) > 1 + ("" in cells[name])]
    parameters = [name for name in varying if name in columns.parameters and len(rows) > 1]
    metrics = [name for name in varying if name in columns.metrics]
    names, states = [row.task for row in rows], [state_cell(row.state) for row in rows]
    room = _room_beside(names, [row.state for row in rows])
    fitting = _fitting(parameters, metrics, {name: 2 + max(map(len, [name, *cells[name]])) for name in varying}, room)
    body: list[tuple[str | Cell, ...]] = [
        (names[index], states[index], *(cells[name][index] for name in fitting)) for index in range(len(rows))
    ]
    click.echo(table(("task", "state", *fitting), body))
    if len(rows) > 1:
        _print_constants({name: values[name][0] for name in columns.metrics if name in short and name not in varying})
    return len(parameters) + len(metrics) - len(fitting)


def _room_beside(names: Sequence[str], states: Sequence[str]) -> int | None:
    """Return the width that tasks and states leave on the terminal, or None where there is no end to it."""
    width = terminal_width()
    if width is None:
        return None
    return width - max(map(text_width, ["task", *names])) - max(map(len, ["state", *states])) - len("  ")


def _fitting(
    parameters: Sequence[str], metrics: Sequence[str], widths: Mapping[str, int], room: int | None
) -> list[str]:
    """Return the columns to show: half the room for parameters at first, then metrics, then more parameters."""
    if room is None:
        return [*parameters, *metrics]
    chosen: set[str] = set()
    for names, share in ((parameters, room // 2 if metrics else room), (metrics, room), (parameters, room)):
        taken = sum(widths[name] for name in chosen)
        for name in names:
            if name not in chosen and taken + widths[name] <= share:
                chosen.add(name)
                taken += widths[name]
    return [name for name in (*parameters, *metrics) if name in chosen]


def _print_constants(same: Mapping[str, Any]) -> None:
    """Print the metrics that all tasks agree on."""
    if not same:
        return
    facts = ", ".join(f"{name} = {cut(printable(readable([value])[0]), 40)}" for name, value in same.items())
    text = f"the same in all: {facts}"
    width = terminal_width()
    click.echo(coloured(text if width is None else click.wrap_text(text, width), dim=True))
