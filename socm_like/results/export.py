"""Rows as text for other programs and for papers: CSV, Markdown, LaTeX.

Standard library only, so that ``campaign results`` starts at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from socm_like.logs import printable
from socm_like.results.columns import Columns, columns_of, exact, is_number, tables_of
from socm_like.results.table import Row

_LINE_BREAK = re.compile(r"\r\n?|\n")
_MARKDOWN = re.compile(r"[\\|`*~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[])")
"""What would be read as markup; an underscore inside a word and a lone bracket are not."""
_LATEX: Mapping[str, str] = {
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",  # \textquotedbl is an error in the default encoding, OT1
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
}
_LATEX_TEXT = re.compile(r"""[&%$#_{}~^\\<>|"'`]|(?:-(?=-))|(?:,(?=,))""")
"""Special characters, and what would become a dash or a quotation mark with the same character behind it."""


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV with a header; numbers keep every digit, lists and deeper tables are JSON."""
    columns = columns_of(rows)
    lines = [list(columns.names)]
    lines.extend([exact(values.get(name)) for name in columns.names] for values in columns.values)
    return "".join(",".join(map(_quoted, line)) + "\n" for line in lines)


def to_markdown(rows: Sequence[Row], *, digits: int, all_columns: bool) -> str:
    """Return one table in GitHub's dialect per workflow, under its name where there are several."""
    tables = tables_of(rows)
    parts = []
    for title, own in tables.items():
        columns = columns_of(own)
        names = list(columns.names) if all_columns else shown(columns)
        lines = [[markdown_text(heading(columns, name)) for name in names]]
        lines.append(["---:" if _is_numeric(columns.column(name)) else "---" for name in names])
        lines.extend([_markdown_cell(values.get(name), digits) for name in names] for values in columns.values)
        head = f"### {markdown_text(title)}\n\n" if len(tables) > 1 else ""
        parts.append(head + "".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(parts)


def to_latex(rows: Sequence[Row], *, digits: int, all_columns: bool) -> str:
    """Return one ``tabular`` in the manner of booktabs per workflow, each behind a comment that names it."""
    parts = []
    for title, own in tables_of(rows).items():
        columns = columns_of(own)
        names = list(columns.names) if all_columns else shown(columns)
        alignment = "".join("r" if _is_numeric(columns.column(name)) else "l" for name in names)
        head = _latex_line([latex_text(heading(columns, name)) for name in names])
        body = [_latex_line([_latex_cell(values.get(name), digits) for name in names]) for values in columns.values]
        lines = ["\\toprule", head, "\\midrule", *body, "\\bottomrule", "\\end{tabular}"]
        parts.append(f"% {printable(title)}\n\\begin{{tabular}}{{{alignment}}}\n" + "\n".join(lines) + "\n")
    return "\n".join(["% needs \\usepackage{booktabs}\n", *parts]) if parts else ""


def shown(columns: Columns) -> list[str]:
    """Return the columns a document shows: tasks, states unless all succeeded, what tells tasks apart, metrics."""
    states = [] if all(state in ("done", "cached") for state in columns.column("state")) else ["state"]
    return ["task", *states, *columns.telling(), *(name for name in columns.metrics if columns.is_readable(name))]


def heading(columns: Columns, name: str) -> str:
    """Return what a reader calls a column: that of an ancestor by its bare name where nothing else is called so."""
    return columns.short.get(name, name)


def markdown_text(text: str) -> str:
    """Return text that stands in a cell as it is: escaped, on one line."""
    lines = (printable(line).replace("\t", " ") for line in _LINE_BREAK.split(text))
    escaped = (
        _MARKDOWN.sub(lambda found: f"\\{found[0]}", line).replace("&", "&amp;").replace("<", "&lt;").strip()
        for line in lines
    )
    return "<br>".join(escaped)


def latex_text(text: str) -> str:
    """Return text that stands in a cell as it is: escaped, on one line, Unicode kept."""
    line = " ".join(printable(line).replace("\t", " ") for line in _LINE_BREAK.split(text))
    escaped = _LATEX_TEXT.sub(lambda found: _LATEX.get(found[0], f"{found[0]}{{}}"), line)
    return f"{{}}{escaped}" if escaped[:1] in ("[", "*") else escaped  # else an argument of the \\ before it


def latex_number(value: float, digits: int) -> str:
    """Return a number to so many significant digits, whole numbers whole, exponents as powers of ten."""
    text = str(value) if isinstance(value, int) else f"{value:.{digits}g}"
    mantissa, has_exponent, exponent = text.partition("e")
    if has_exponent:
        return rf"${mantissa}\times10^{{{int(exponent)}}}$"
    return f"${text}$" if text.startswith("-") else text  # a hyphen is no minus sign


def _markdown_cell(value: Any, digits: int) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else markdown_text(exact(value))


def _latex_cell(value: Any, digits: int) -> str:
    if value is None:
        return "---"
    return latex_number(value, digits) if is_number(value) else latex_text(exact(value))


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _is_numeric(values: Sequence[Any]) -> bool:
    """Whether a column stands to the right: it has numbers and nothing else."""
    present = [value for value in values if value is not None]
    return bool(present) and all(map(is_number, present))


def _quoted(text: str) -> str:
    """Return text as a field of CSV (RFC 4180); the csv module leaves a lone carriage return bare."""
    return '"' + text.replace('"', '""') + '"' if any(char in text for char in ',"\r\n') else text


EXPORTS: Mapping[str, Callable[..., str]] = {"markdown": to_markdown, "latex": to_latex}
"""The formats for documents, which round numbers and leave columns out."""
