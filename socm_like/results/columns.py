"""Rows as columns: what each is called, which of them tell tasks apart, and rows in the order of one of them.

Standard library only, so that ``campaign results`` starts at once.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from socm_like.errors import UsageError, listed, suggest
from socm_like.results.table import Row

FACTS: Mapping[str, Callable[[Row], Any]] = {
    "task": lambda row: row.task,
    "workflow": lambda row: row.workflow,
    "kind": lambda row: row.kind,
    "state": lambda row: row.state.value,
    "attempts": lambda row: row.attempts,
    "started": lambda row: row.started,
    "ended": lambda row: row.ended,
    "wall_seconds": lambda row: row.wall,
    "cpu_seconds": lambda row: row.cpu,
    "peak_memory_bytes": lambda row: row.peak_memory,
    "peak_gpu_memory_bytes": lambda row: row.peak_gpu_memory,
}
"""Columns that every table has."""

_LEADING = ("task", "workflow", "kind", "state")
"""The facts that stand before the parameters; the others stand behind the metrics."""
_READABLE, _READABLE_SWEPT = 16, 40
"""Characters of a list or a table that a cell holds at the most."""

_K = TypeVar("_K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Columns:
    """The flattened values of some rows: what the columns are called, and each row's values by column."""

    ancestors: tuple[str, ...]
    """Parameters of ancestors, ``workflow.name``."""
    parameters: tuple[str, ...]
    metrics: tuple[str, ...]
    values: tuple[Mapping[str, Any], ...]
    """Also the facts."""
    swept: tuple[str, ...]
    """Parameters, of ancestors first, that a sweep is known to have varied."""
    others: tuple[str, ...]
    """Further parameters that may tell tasks apart: not those of ancestors that are known not to be swept, and not
    the paths of what ancestors left."""
    short: Mapping[str, str]
    """Column of an ancestor -> its name without the workflow, where nothing else is called so."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every column, in the order of the tidy table."""
        behind = [name for name in FACTS if name not in _LEADING]
        return (*_LEADING, *self.ancestors, *self.parameters, *self.metrics, *behind)

    def column(self, name: str) -> list[Any]:
        """Return a column's value of each row, None where it has none."""
        return [values.get(name) for values in self.values]

    def find(self, name: str) -> str | None:
        """Return the column of that name or short name, None when there is none."""
        if name in self.names:
            return name
        return next((column for column, short in self.short.items() if short == name), None)

    def differs(self, name: str) -> bool:
        """Whether a reader can tell rows apart by a column; a value that stands alone counts."""
        cells = readable(self.column(name))
        return sum(name in values for values in self.values) < 2 or len(set(cells)) > 1 + ("" in cells)

    def is_readable(self, name: str) -> bool:
        """Whether a column holds no list or table that is too long for a cell."""
        most = _READABLE_SWEPT if name in self.swept else _READABLE
        return all(
            not isinstance(value, list | Mapping) or len(exact(value)) <= most
            for value in (values[name] for values in self.values if name in values)
        )

    def telling(self) -> list[str]:
        """Return the parameters to show: those that were swept, then others that differ between rows."""
        others = self.others if len(self.values) > 1 else ()
        return [
            *(name for name in self.swept if self.is_readable(name)),
            *(name for name in others if self.is_readable(name) and self.differs(name)),
        ]


def columns_of(rows: Sequence[Row]) -> Columns:
    """Return the rows with parameters and metrics flattened to named columns.

    A table of values becomes columns with dotted names; what is deeper stays whole. A name that a parameter and a
    metric share, or that every table uses already, is told apart as ``parameters.x`` and ``metrics.x``; that of an
    ancestor which something else has already, as ``ancestors.workflow.x``.
    """
    above = [
        {
            (workflow, name): value
            for workflow, ancestor in row.ancestors.items()
            for name, value in _flat(ancestor.parameters).items()
        }
        for row in rows
    ]
    parameters = [_flat(row.parameters) for row in rows]
    metrics = [_flat(row.metrics) for row in rows]
    parameter_names = {name: name for values in parameters for name in values}
    metric_names = {name: name for values in metrics for name in values}
    taken = (parameter_names.keys() & metric_names.keys()) | FACTS.keys()
    of_parameter = _told_apart(parameter_names, "parameters", taken)
    of_metric = _told_apart(metric_names, "metrics", taken | set(of_parameter.values()))
    own = {*FACTS, *parameter_names, *metric_names, *of_parameter.values(), *of_metric.values()}
    of_ancestor = _told_apart({key: ".".join(key) for values in above for key in values}, "ancestors", own)
    swept, others = _candidates(rows, parameters, of_ancestor, of_parameter)
    return Columns(
        ancestors=tuple(of_ancestor.values()),
        parameters=tuple(of_parameter.values()),
        metrics=tuple(of_metric.values()),
        values=tuple(
            {name: fact(row) for name, fact in FACTS.items()}
            | {of_ancestor[key]: value for key, value in first.items()}
            | {of_parameter[name]: value for name, value in second.items()}
            | {of_metric[name]: value for name, value in third.items()}
            for row, first, second, third in zip(rows, above, parameters, metrics, strict=True)
        ),
        swept=swept,
        others=others,
        short=_short_names(of_ancestor, own),
    )


def tables_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
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


def in_order_of(rows: Sequence[Row], order: str) -> tuple[Row, ...]:
    """Return rows by rising values of a column, or by falling ones for ``-column``; equals keep their order.

    A row without a value comes last either way; numbers come before texts and texts before lists. A column has the
    name that the table of all rows gives it, or the one that the table of its workflow does.
    Raises UsageError naming the columns there are.
    """
    if not rows:
        return ()
    tables = [(own, columns_of(own)) for own in tables_of(rows).values()]
    tables.append((list(rows), columns_of(rows)))
    falls, name = False, order
    if order.startswith("-") and not any(columns.find(order) for _, columns in tables):
        falls, name = True, order[1:]
    values: dict[str, Any] = {}
    is_known = False
    for own, columns in tables:
        column = columns.find(name)
        if column is not None:
            is_known = True
            found = zip(own, columns.column(column), strict=True)
            values.update({row.task: value for row, value in found if value is not None})
    if not is_known:
        raise UsageError(_no_column(name, [columns for _, columns in tables]))
    present = [row for row in rows if row.task in values]
    present.sort(key=lambda row: _rank(values[row.task]), reverse=falls)
    return (*present, *(row for row in rows if row.task not in values))


def readable(values: Sequence[Any]) -> list[str]:
    """Return one column for the eye: numbers with the same decimals, five digits where they differ in size by little.

    Where sizes differ by more than a factor of 10^6, each number stands with its own exponent. Absolute paths stand
    without the folders that all of them share.
    """
    if len(values) > 1 and all(isinstance(value, str) and value.startswith("/") for value in values):
        shared = os.path.commonpath([os.path.dirname(value) for value in values])  # noqa: PTH120 - text, not files
        return [value.removeprefix(shared).removeprefix("/") for value in values]
    floats = [abs(value) for value in values if isinstance(value, float) and value != 0]
    exponents = [math.floor(math.log10(value)) for value in floats]
    lowest, highest = (min(exponents), max(exponents)) if exponents else (0, 0)
    if lowest < -4 or highest > 6 or highest - lowest > 6:
        return [f"{value:.5g}" if isinstance(value, float) else exact(value) for value in values]
    decimals = max(4 - highest, 2 - lowest, 0)
    texts = [f"{value:.{decimals}f}" if isinstance(value, float) else exact(value) for value in values]
    return _without_common_zeros(texts, values)


def exact(value: Any) -> str:
    """Return a value for a cell: nothing for None, text as it is, all else as JSON with every digit."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def is_number(value: Any) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _candidates(
    rows: Sequence[Row],
    parameters: Sequence[Mapping[str, Any]],
    of_ancestor: Mapping[tuple[str, str], str],
    of_parameter: Mapping[str, str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the parameters that a sweep varied, and others that may tell rows apart."""
    above: dict[str, dict[str, None]] = {}
    for row in rows:
        for workflow, ancestor in row.ancestors.items():
            if ancestor.swept is not None:
                above.setdefault(workflow, {}).update(dict.fromkeys(ancestor.swept))
    folders = [[ancestor.folder for ancestor in row.ancestors.values() if ancestor.folder] for row in rows]
    inherited = {name for name in of_parameter if _is_inherited([own.get(name) for own in parameters], folders)}
    own = dict.fromkeys(name for row in rows for name in row.swept or ())
    swept = [column for key, column in of_ancestor.items() if _is_within(key[1], above.get(key[0], ()))]
    for name in own:
        swept.extend(of_parameter[flat] for flat in of_parameter if _is_within(flat, [name]) and flat not in inherited)
    of_others = [
        *(column for key, column in of_ancestor.items() if key[0] not in above),
        *(column for flat, column in of_parameter.items() if flat not in inherited),
    ]
    chosen = dict.fromkeys(swept)
    return tuple(chosen), tuple(column for column in of_others if column not in chosen)


def _is_within(flat: str, names: Iterable[str]) -> bool:
    """Whether a flattened parameter is one of those named, a part of one, or has one for a part."""
    return any(flat == name or flat.startswith(f"{name}.") or name.startswith(f"{flat}.") for name in names)


def _is_inherited(values: Sequence[Any], folders: Sequence[Sequence[str]]) -> bool:
    """Whether a parameter holds nothing but paths of what each row's ancestors left; their parameters say more."""
    return all(
        isinstance(value, str) and any(f"{value}/".startswith(f"{folder}/") for folder in above)
        for value, above in zip(values, folders, strict=True)
        if value is not None
    )


def _short_names(of_ancestor: Mapping[tuple[str, str], str], own: Set[str]) -> dict[str, str]:
    called: dict[str, int] = {}
    for _, name in of_ancestor:
        called[name] = called.get(name, 0) + 1
    columns = own | set(of_ancestor.values())
    return {
        column: name
        for (_, name), column in of_ancestor.items()
        if called[name] == 1 and name not in columns - {column}
    }


def _no_column(name: str, tables: Iterable[Columns]) -> str:
    known = {*chain.from_iterable((*columns.names, *columns.short.values()) for columns in tables)}
    behind = [column for column in sorted(known) if column.endswith(f".{name}")]
    near = f"; did you mean {behind[0]!r}?" if behind else suggest(name, known)
    return f"no column is called {name!r}; there are: {listed(known)}{near}"


def _rank(value: Any) -> tuple[int, Any]:
    if isinstance(value, int | float):
        return 0, value
    return (1, value) if isinstance(value, str) else (2, exact(value))


def _told_apart(names: Mapping[_K, str], origin: str, taken: Set[str]) -> dict[_K, str]:
    """Return what each name is called as a column: itself, or behind its origin when the name is taken."""
    called: dict[_K, str] = {}
    used = set(taken)
    for key in sorted(names, key=lambda key: names[key] in taken):  # who keeps its name goes first
        column = names[key]
        while column in used:
            column = f"{origin}.{column}"
        called[key] = column
        used.add(column)
    return {key: called[key] for key in names}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with one level of tables opened, unless that would give two values one name."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value and not any(f"{name}.{key}" in values for key in value):
            flat.update({f"{name}.{key}": item for key, item in value.items()})
        else:
            flat[name] = value
    return flat


def _without_common_zeros(texts: Sequence[str], values: Sequence[Any]) -> list[str]:
    """Return the texts of floats without the zeros that all of them end in."""
    decimals = [text.partition(".")[2] for text, value in zip(texts, values, strict=True) if isinstance(value, float)]
    needed = max((len(part.rstrip("0")) for part in decimals), default=0)
    surplus = max((len(part) for part in decimals), default=0) - max(needed, 1)
    if surplus <= 0:
        return list(texts)
    return [
        text[: len(text) - surplus] if isinstance(value, float) else text
        for text, value in zip(texts, values, strict=True)
    ]
