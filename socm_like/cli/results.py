"""``campaign results``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
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
    shown_path,
    state_cell,
    table,
    terminal_width,
    text_width,
)
from socm_like.errors import UsageError, listed, suggest
from socm_like.journal import TaskState, store_errors
from socm_like.logs import printable
from socm_like.results.columns import Columns, columns_of, in_order_of, readable, tables_of
from socm_like.results.export import EXPORTS, heading, to_csv
from socm_like.results.table import Row, read_results
from socm_like.status import RunStatus, TaskStatus, read_status
from socm_like.store import find_run, write_atomically

_ENDINGS = {
    ".txt": "table", ".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex", ".parquet": "parquet"
}  # fmt: skip
"""The format of ``--output`` where no option names one."""
_DIGITS = 6
_NO_LIMIT = 1_000_000
"""Columns of a terminal that is none."""


@click.command("results")
@run_argument
@store_option
@click.option("--workflow", metavar="NAME", default=None, help="Only this workflow or group.")
@click.option("--state", "states", metavar="STATE,…", default=None, help="Only tasks in these states: done,cached.")
@click.option("--sort", "order", metavar="COLUMN", default=None, help="Order by this column; -COLUMN for falling.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=None, help="Only the first N tasks.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with every column and every digit.")
@json_option
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown tables.")
@click.option("--latex", "as_latex", is_flag=True, help="Print LaTeX tables, for the package booktabs.")
@click.option(
    "--parquet", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), default=None,
    help="Write a Parquet file with every column.",
)  # fmt: skip
@click.option(
    "--output", "-o", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), default=None,
    help="Write to a file, in the format of its ending where no option names one.",
)  # fmt: skip
@click.option("--all-columns", is_flag=True, help="Show every column, however wide the table gets.")
@click.option(
    "--digits", metavar="N", type=click.IntRange(1, 17), default=None,
    help=f"Significant digits in Markdown and LaTeX.  [default: {_DIGITS}]",
)  # fmt: skip
def command(
    *, run: str | None, store: Path, workflow: str | None, states: str | None, order: str | None, limit: int | None,
    as_csv: bool, as_json: bool, as_markdown: bool, as_latex: bool, parquet: Path | None, output: Path | None,
    all_columns: bool, digits: int | None,
) -> None:  # fmt: skip
    """Show what the tasks of a run computed: parameters and metrics, one table per workflow.

    RUN is the latest by default. The table shows the columns that differ between tasks and as many as fit the
    terminal, parameters that a sweep varied first; --csv, --json and --parquet give all, times included.

    The ten best: campaign results --sort loss --limit 10
    """
    stated = {"--csv": as_csv, "--json": as_json, "--markdown": as_markdown, "--latex": as_latex}
    form = _format({**stated, "--parquet": parquet is not None}, output)
    if parquet is not None and output is not None:
        raise UsageError("--parquet FILE and --output FILE: name one file")
    if digits is not None and form not in EXPORTS:
        raise UsageError("--digits goes with --markdown or --latex; --csv, --json and --parquet keep every digit")
    write_parquet = _parquet_writer() if form == "parquet" else None
    status = read_status(find_run(store, run))
    results = read_results(status, _chosen(status, workflow, states))
    rows = results.rows if order is None else in_order_of(results.rows, order)
    rows = rows[:limit]
    target = parquet if parquet is not None else output
    if write_parquet is not None and target is not None:
        _write(target, lambda: write_parquet(rows, target))
    elif output is not None:
        text = _text(rows, form, digits, all_columns=all_columns)
        _write(output, lambda: write_atomically(output, text))
    elif form == "json":
        print_json([row.to_json() for row in rows])
    elif form == "table":
        _print_tables(rows, all_columns=all_columns)
    else:
        click.echo(_text(rows, form, digits, all_columns=all_columns), nl=False)
    for problem in results.problems:
        click.echo(problem, err=True)
    sys.exit(1 if results.problems else 0)


def _format(stated: Mapping[str, bool], output: Path | None) -> str:
    """Return the one format that options name, or else the ending of the output."""
    options = [option for option, is_stated in stated.items() if is_stated]
    if len(options) > 1:
        raise UsageError(f"{', '.join(options[:-1])} and {options[-1]}: name one format")
    if options:
        return options[0].removeprefix("--")
    if output is None:
        return "table"
    if output.suffix not in _ENDINGS:
        raise UsageError(f"--output {output}: the name must end in {', '.join(_ENDINGS)}, or name a format: --csv")
    return _ENDINGS[output.suffix]


def _parquet_writer() -> Callable[[Sequence[Row], Path], None]:
    try:
        write_parquet: Callable[[Sequence[Row], Path], None] = import_module("socm_like.results.parquet").write_parquet
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise UsageError('Parquet needs pyarrow: pip install "socm-like[parquet]"') from error
    return write_parquet


def _chosen(status: RunStatus, workflow: str | None, states: str | None) -> Sequence[TaskStatus]:
    """Return the tasks of a workflow or group in some states; says so when there are none."""
    chosen: Sequence[TaskStatus] = status.tasks
    if workflow is not None:
        chosen = [task for task in chosen if f"{task.workflow}.".startswith(f"{workflow}.")]
        if not chosen:
            known = {task.workflow for task in status.tasks}
            there = f"there are: {listed(known)}{suggest(workflow, known)}"
            raise UsageError(f"{workflow!r} is no workflow of {status.run}; {there}")
    if states is not None:
        wanted = dict.fromkeys(word.strip() for word in states.split(","))
        known = {state.value for state in TaskState}
        for word in wanted:
            if word not in known:
                raise UsageError(f"{word!r} is no state; there are: {listed(known)}{suggest(word, known)}")
        chosen = [task for task in chosen if task.state.value in wanted]
        if not chosen:
            click.echo(f"no task of {workflow or status.run} is {' or '.join(wanted)}", err=True)
    return chosen


def _text(rows: Sequence[Row], form: str, digits: int | None, *, all_columns: bool) -> str:
    """Return rows in a format of text, as UTF-8 can hold it."""
    if form == "table":
        return click.unstyle("".join(part for part, _ in _tables(rows, None, all_columns=all_columns)))
    if form == "json":
        return json.dumps([row.to_json() for row in rows], allow_nan=False, indent=2) + "\n"
    if form == "csv":
        text = to_csv(rows)
    else:
        text = EXPORTS[form](rows, digits=_DIGITS if digits is None else digits, all_columns=all_columns)
    return text.encode("utf-8", "backslashreplace").decode()


def _write(path: Path, write: Callable[[], None]) -> None:
    with store_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write()
    click.echo(f"wrote {shown_path(path.absolute())}", err=True)


def _print_tables(rows: Sequence[Row], *, all_columns: bool) -> None:
    hidden = 0
    for part, left_out in _tables(rows, terminal_width(), all_columns=all_columns):
        click.echo(part, nl=False)
        hidden += left_out
    if hidden:
        found = "1 column does" if hidden == 1 else f"{hidden} columns do"
        click.echo(f"\n{found} not fit; see all: campaign results --all-columns", err=True)


def _tables(rows: Sequence[Row], width: int | None, *, all_columns: bool) -> list[tuple[str, int]]:
    """Return for each table its text and how many columns that differ did not fit."""
    parts = []
    for index, (title, own) in enumerate(tables_of(rows).items()):
        count = f"{len(own)} task{'s'[: len(own) != 1]}"
        head = ("\n" if index else "") + f"{coloured(printable(title), bold=True)}  {own[0].kind}, {count}\n"
        if all_columns:
            text, hidden = _whole_table(columns_of(own)), 0
        elif any(row.metrics for row in own) or _tells_failures(own):
            text, hidden = _fitting_table(own, width)
        else:
            text, hidden = f"no metrics; {counts_line(Counter(row.state for row in own))}", 0
        parts.append((f"{head}{text}\n", hidden))
    return parts


def _tells_failures(rows: Sequence[Row]) -> bool:
    """Whether rows without metrics are worth a table: which parameters of a sweep did not succeed."""
    return all(row.swept and row.state.is_final and not row.state.is_success for row in rows)


def _whole_table(columns: Columns) -> str:
    cells = [
        list(map(state_cell, columns.column(name))) if name == "state" else readable(columns.column(name))
        for name in columns.names
    ]
    body = list(zip(*cells, strict=True))
    return table([heading(columns, name) for name in columns.names], body, _NO_LIMIT)


def _fitting_table(rows: Sequence[Row], width: int | None) -> tuple[str, int]:
    """Return the columns that differ and fit, and how many that differ do not."""
    columns = columns_of(rows)
    parameters = columns.telling()
    metrics = [name for name in columns.metrics if columns.is_readable(name)]
    same = [name for name in metrics if not columns.differs(name)]
    metrics = [name for name in metrics if name not in same]
    cells = {name: readable(columns.column(name)) for name in (*parameters, *metrics)}
    widths = {name: 2 + max(map(len, [heading(columns, name), *cells[name]])) for name in cells}
    names, states = [row.task for row in rows], [state_cell(row.state) for row in rows]
    room = None if width is None else width - _taken_by(names, [row.state for row in rows])
    fitting = _fitting(parameters, metrics, widths, room)
    body: list[tuple[str | Cell, ...]] = [
        (names[index], states[index], *(cells[name][index] for name in fitting)) for index in range(len(rows))
    ]
    text = table(("task", "state", *(heading(columns, name) for name in fitting)), body, width or _NO_LIMIT)
    if len(rows) > 1:
        text += _constants({name: _only(columns, name) for name in same}, width)
    return text, len(parameters) + len(metrics) - len(fitting)


def _only(columns: Columns, name: str) -> Any:
    """Return the value that all rows with such a column have."""
    return next(values[name] for values in columns.values if name in values)


def _taken_by(names: Sequence[str], states: Sequence[str]) -> int:
    """Return the width of the columns of tasks and states."""
    return max(map(text_width, ["task", *names])) + max(map(len, ["state", *states])) + len("  ")


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


def _constants(same: Mapping[str, Any], width: int | None) -> str:
    """Return a line about the metrics that all tasks agree on."""
    if not same:
        return ""
    facts = ", ".join(f"{name} = {cut(printable(readable([value])[0]), 40)}" for name, value in same.items())
    text = f"the same in all: {facts}"
    return "\n" + coloured(text if width is None else click.wrap_text(text, width), dim=True)
