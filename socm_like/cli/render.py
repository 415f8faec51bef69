"""What the commands print: aligned tables, coloured states, JSON. Colours go where a person looks, and only there."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import combining, east_asian_width

import click

from socm_like.journal import TaskState
from socm_like.logs import printable
from socm_like.units import format_span

GAP = "  "
NARROWEST = 12
"""Columns are cut to this width at the least."""

_COLOURS: Mapping[str, str] = {
    "done": "green",
    "cached": "green",
    "running": "cyan",
    "queued": "blue",
    "held": "blue",
    "failed": "red",
    "timeout": "red",
    "oom": "red",
    "node_fail": "red",
    "lost": "red",
    "invalid": "red",
    "cancelled": "yellow",
    "pruned": "yellow",
    "interrupted": "yellow",
    "skipped": "yellow",
}
"""State of a task or a run -> colour; what has not begun has none."""

_ORDER = (
    TaskState.DONE, TaskState.CACHED, TaskState.RUNNING, TaskState.QUEUED, TaskState.HELD, TaskState.PLANNED,
    TaskState.BLOCKED, TaskState.FAILED, TaskState.INVALID, TaskState.TIMEOUT, TaskState.OOM, TaskState.NODE_FAIL,
    TaskState.LOST, TaskState.CANCELLED, TaskState.PRUNED, TaskState.SKIPPED,
)  # fmt: skip

_QUANTITY = re.compile(r"-?|[-+]?\d[\d.,]*(?:e[-+]?\d+)?%?(?: ?[A-Za-z]{1,3}(?: \d\d (?:s|min|h))?)?")


class Cell(NamedTuple):
    """Text of a table with a colour of its own."""

    text: str
    colour: str = ""
    dim: bool = False


def coloured(text: str, colour: str = "", *, bold: bool = False, dim: bool = False) -> str:
    """Return text in a colour, or as it is when NO_COLOR is set; click drops colours where no terminal listens."""
    if os.environ.get("NO_COLOR") or not (colour or bold or dim):
        return text
    return click.style(text, fg=colour or None, bold=bold or None, dim=dim or None)


def state_cell(state: str) -> Cell:
    """Return the state of a task or a run in its colour."""
    colour = _COLOURS.get(state, "")
    return Cell(str(state), colour, dim=not colour)


def state_text(state: str) -> str:
    """Return the state of a task or a run, coloured."""
    return _painted(state_cell(state), str(state))


def state_colour(state: str) -> str:
    """Return the name of the colour of a state, or an empty string."""
    return _COLOURS.get(state, "")


def counts_line(counts: Mapping[TaskState, int]) -> str:
    """Return ``12 done, 3 running, 1 failed``, coloured; ``no tasks`` when there are none."""
    parts = []
    for state in _ORDER:
        if counts.get(state):
            cell = state_cell(state)
            parts.append(_painted(cell, f"{counts[state]} {state}"))
    return ", ".join(parts) or "no tasks"


def terminal_width() -> int | None:
    """Return the columns of the terminal that stdout goes to, or None when it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(headers: Sequence[str], rows: Sequence[Sequence[str | Cell]], width: int | None = None) -> str:
    """Return rows as aligned columns: quantities to the right, the widest columns cut until all fits the terminal."""
    return "\n".join(table_lines(headers, rows, width))


def table_lines(headers: Sequence[str], rows: Sequence[Sequence[str | Cell]], width: int | None = None) -> list[str]:
    """Return the lines of :func:`table`; without a width it is the terminal's."""
    width = terminal_width() if width is None else width
    cells = [[_cell(cell) for cell in row] for row in rows]
    to_right = [
        any(row[index].text for row in cells) and all(_QUANTITY.fullmatch(row[index].text) for row in cells)
        for index in range(len(headers))
    ]
    widths = [
        max([text_width(header), *(text_width(row[index].text) for row in cells)])
        for index, header in enumerate(headers)
    ]
    if width is not None:
        widths = _narrowed(widths, to_right, width)
    head = [Cell(header, dim=True) for header in headers]
    return [_line(row, widths, to_right) for row in [head, *cells]]


def text_width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def cut(text: str, width: int, *, keep_end: bool = False) -> str:
    """Return text no wider than ``width``, with ``…`` for what was left out at its end or in its middle."""
    if text_width(text) <= width:
        return text
    behind = (width - 1) // 2 if keep_end else 0
    return f"{_prefix(text, width - 1 - behind)}…{_prefix(text[::-1], behind)[::-1]}"


def short_span(seconds: float) -> str:
    """Return a time span for a column: hundredths of a second are the least that is shown."""
    return f"{seconds:.2f} s" if 0 <= seconds < 9.95 else format_span(seconds)


def shown_path(path: Path) -> str:
    """Return a path as a person would type it here: relative when it lies below the current directory."""
    here = Path.cwd()
    return printable(str(path.relative_to(here) if path.is_relative_to(here) else path))


def print_json(value: Any) -> None:
    """Print strict JSON, indented on a terminal."""
    click.echo(json.dumps(value, allow_nan=False, indent=2 if sys.stdout.isatty() else None))


def _cell(cell: str | Cell) -> Cell:
    cell = cell if isinstance(cell, Cell) else Cell(cell)
    return cell if cell.text.isprintable() else cell._replace(text=printable(cell.text).replace("\t", " "))


def _line(row: Sequence[Cell], widths: Sequence[int], to_right: Sequence[bool]) -> str:
    parts = []
    for index, cell in enumerate(row):
        text = cut(cell.text, widths[index], keep_end=index == 0)
        space = " " * (widths[index] - text_width(text))
        is_last = not any(other.text for other in row[index + 1 :])
        parts.append(
            space + _painted(cell, text) if to_right[index] else _painted(cell, text) + ("" if is_last else space)
        )
        if is_last:
            break
    return GAP.join(parts)


def _painted(cell: Cell, text: str) -> str:
    return coloured(text, cell.colour, dim=cell.dim) if text else text


def _narrowed(widths: Sequence[int], to_right: Sequence[bool], width: int) -> list[int]:
    """Return the widths with the widest text columns cut, as far as that may go, until the sum fits."""
    narrowed = list(widths)
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
    while excess > 0:
        candidates = [index for index in range(len(widths)) if not to_right[index] and narrowed[index] > NARROWEST]
        if not candidates:
            break
        widest = max(candidates, key=lambda index: narrowed[index])
        narrowed[widest] -= 1
        excess -= 1
    return narrowed


def _prefix(text: str, width: int) -> str:
    end, taken = 0, 0
    while end < len(text) and taken + (step := text_width(text[end])) <= width:
        end, taken = end + 1, taken + step
    return text[:end]
