"""Compare the fits of the NIST campaign with the certified values, and write table, text, plot and metrics.

    python certify.py DATA_FOLDER RESULT.json ...

Digits are ``-log10(|value - certified| / |certified|)``, at most 11 because NIST prints 11, and the least over the
parameters. Exits 1 when a fit says it converged with fewer than 6 digits, when a start 2 has fewer than 6, or when a
result is missing.
"""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MOST_DIGITS = 11.0
ENOUGH_DIGITS = 6.0


@dataclass(frozen=True)
class Certificate:
    """What the header of a data file certifies; lists are in the order of the parameters."""

    starts: tuple[tuple[float, ...], tuple[float, ...]]
    parameters: tuple[float, ...]
    standard_errors: tuple[float, ...]
    rss: float


@dataclass(frozen=True)
class Row:
    """One fit against its certificate."""

    dataset: str
    start: int
    digits: float
    error_digits: float
    rss_digits: float
    converged: bool
    iterations: int
    reason: str

    @property
    def is_good(self) -> bool:
        """Whether the parameters have enough digits."""
        return self.digits >= ENOUGH_DIGITS


def read_certificate(path: Path) -> Certificate:
    """Return the starting and certified values in the header of a NIST file."""
    header = path.read_text().splitlines()[:60]
    pattern = re.compile(r"\s*b\d+\s*=" + r"\s+(\S+)" * 4)
    values = [tuple(map(float, match.groups())) for line in header if (match := pattern.match(line))]
    first, second, parameters, errors = zip(*values, strict=True)
    rss = next(line.partition(":")[2] for line in header if line.startswith("Residual Sum of Squares"))
    return Certificate((first, second), parameters, errors, float(rss))


def digits(found: Sequence[float | None], certified: Sequence[float]) -> float:
    """Return how many digits agree, the least over the values; 0 where a value is missing."""
    if any(value is None for value in found):
        return 0.0
    error = max(
        abs(value - true) / abs(true) for value, true in zip(found, certified, strict=True) if value is not None
    )
    return MOST_DIGITS if error == 0 else min(max(-math.log10(error), 0.0), MOST_DIGITS)


def compare(result: dict[str, Any], folder: Path) -> Row:
    """Return the row of one ``result.json``; the start is found by its ``p0``."""
    dataset = Path(result["parameters"]["data"]).stem
    certificate = read_certificate(folder / f"{dataset}.dat")
    metrics = result["metrics"]
    start = certificate.starts.index(tuple(result["parameters"]["p0"].values())) + 1
    return Row(
        dataset=dataset,
        start=start,
        digits=round(digits(list(metrics["parameters"].values()), certificate.parameters), 2),
        error_digits=round(digits(list(metrics["standard_errors"].values()), certificate.standard_errors), 2),
        rss_digits=round(digits([metrics["rss"]], [certificate.rss]), 2),
        converged=metrics["converged"],
        iterations=metrics["iterations"],
        reason=metrics["reason"],
    )


def find_faults(rows: Sequence[Row], folder: Path) -> list[str]:
    """Return what makes the campaign fail."""
    found = {(row.dataset, row.start) for row in rows}
    wanted = [(path.stem, start) for path in sorted(folder.glob("*.dat")) for start in (1, 2)]
    faults = [f"{dataset} start {start}: no result" for dataset, start in wanted if (dataset, start) not in found]
    for row in rows:
        if row.converged and not row.is_good:
            faults.append(f"{row.dataset} start {row.start}: called converged with {row.digits} digits")
        elif row.start == 2 and not row.is_good:
            faults.append(f"{row.dataset} start 2: {row.digits} digits, {row.reason}")
    return faults


def write_text(rows: Sequence[Row], faults: Sequence[str]) -> str:
    """Return the table, the faults, and one line that sums up."""
    lines = [f"{'data set':10} start  digits  s.e.   rss  iterations"]
    for row in rows:
        numbers = f"{row.digits:6.1f}  {row.error_digits:4.1f}  {row.rss_digits:4.1f}  {row.iterations:10d}"
        lines.append(f"{row.dataset:10} {row.start:5d}  {numbers}" + ("" if row.converged else f"  {row.reason}"))
    good = sum(row.is_good for row in rows)
    errors = sum(row.error_digits >= 4 for row in rows)
    wrong = sum(row.converged and not row.is_good for row in rows)
    lines += ["", *faults] if faults else [""]
    lines.append(
        f"{good} of {len(rows)} fits have 6 certified digits or more; {errors} have 4 or more in the standard errors; "
        f"{wrong} wrong answers are called converged"
    )
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write a chart of the digits of both starts of each data set."""
    names = list(dict.fromkeys(row.dataset for row in rows))
    figure = Figure(figsize=(7.5, 8.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for start, color, shift in ((1, "#0b6fb8", -0.2), (2, "#7fb3d5", 0.2)):
        found = {row.dataset: row.digits for row in rows if row.start == start}
        places = np.array([index for index, name in enumerate(names) if name in found]) + shift
        axes.barh(places, list(found.values()), height=0.38, color=color, label=f"start {start}")
    axes.axvline(ENOUGH_DIGITS, color="#b3261e", linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, MOST_DIGITS)
    axes.set_xlabel("certified digits, the least over the parameters (NIST prints 11)")
    axes.set_title("NIST StRD nonlinear regression")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path)


def main(folder: Path, results: Sequence[Path]) -> int:
    """Write everything into the current folder; return the exit code."""
    rows = sorted((compare(json.loads(path.read_text()), folder) for path in results), key=_order)
    faults = find_faults(rows, folder)
    with Path("certified.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    text = write_text(rows, faults)
    Path("certified.txt").write_text(text)
    draw(rows, Path("certified.png"))
    summary = {
        "fits": len(rows),
        "good": sum(row.is_good for row in rows),
        "least_digits": min((row.digits for row in rows), default=0.0),
        "wrong_but_converged": sum(row.converged and not row.is_good for row in rows),
        "not_converged": sum(not row.converged for row in rows),
    }
    Path("metrics.json").write_text(json.dumps(summary))
    print(text, end="")
    return 1 if faults else 0


def _order(row: Row) -> tuple[str, int]:
    return row.dataset.lower(), row.start


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]]))
