"""``campaign results``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from socm_like.cli.options import json_option, run_argument, store_option
from socm_like.cli.render import Cell, coloured, counts_line, print_json, state_cell, table, terminal_width
from socm_like.errors import UsageError, listed, suggest
from socm_like.logs import printable
from socm_like.results.table import Columns, Row, columns_of, is_short, read_results, readable, to_csv
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
    parameters = [name for name in columns.varying(columns.parameters) if len(rows) > 1]
    wanted = [
        name
        for name in (*parameters, *columns.varying(columns.metrics))
        if is_short(values.get(name) for values in columns.values)
    ]
    cells = {name: readable([values.get(name) for values in columns.values]) for name in wanted}
    names = [row.task for row in rows]
    states = [state_cell(row.state) for row in rows]
    fitting = _fitting(wanted, cells, max(map(len, ["task", *names])) + max(map(len, [row.state for row in rows])) + 2)
    body: list[tuple[str | Cell, ...]] = [
        (names[index], states[index], *(cells[name][index] for name in fitting)) for index in range(len(rows))
    ]
    click.echo(table(("task", "state", *fitting), body))
    _print_constants(columns, len(rows))
    return len(wanted) - len(fitting)


def _fitting(names: Sequence[str], cells: dict[str, list[str]], taken: int) -> list[str]:
    """Return the first columns that fit the terminal beside task and state; at least one."""
    room = terminal_width()
    if room is None:
        return list(names)
    fitting: list[str] = []
    for name in names:
        taken += 2 + min(40, max(map(len, [name, *cells[name]])))
        if taken > room and fitting:
            break
        fitting.append(name)
    return fitting


def _print_constants(columns: Columns, rows: int) -> None:
    """Print the metrics that all tasks agree on, in one line."""
    if rows < 2:
        return
    varying = columns.varying(columns.metrics)
    present = {name: value for values in columns.values for name, value in values.items()}
    same = {name: present[name] for name in columns.metrics if name not in varying and is_short([present[name]])}
    if same:
        facts = ", ".join(f"{name} = {printable(readable([value])[0])}" for name, value in same.items())
        click.echo(coloured(f"the same in all: {facts}", dim=True))
