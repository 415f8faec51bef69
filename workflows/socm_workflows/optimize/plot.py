"""One picture of a search: the value of every trial, and the best so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from socm_workflows.optimize.outcome import Verdict
from socm_workflows.optimize.summary import Entry, Summary

TRIAL = "#8a9199"
BEST = "#0b6fb8"
FAILED = "#b3261e"
PRUNED = "#c77f12"
TEXT = "#30363d"
DECADES = 2.0
"""Positive values that spread further than this are drawn on a logarithmic scale."""


def draw_history(summary: Summary, path: Path) -> None:
    """Write an SVG, the same bytes for the same trials: a dot per value, a line for the best so far.

    A pruned trial stands at the last value it reported; one without any, or failed, at the lower edge.
    """
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    complete = [entry for entry in summary.entries if entry.outcome.value is not None]
    values = [entry.outcome.value or 0.0 for entry in complete]
    numbers = [entry.number for entry in complete]
    axes.plot(numbers, values, "o", color=TRIAL, markersize=4.5, alpha=0.8, label=f"{len(complete)} complete")
    _draw_best(axes, summary, numbers, values)
    _draw_others(axes, summary)
    if values and min(values) > 0 and math.log10(max(values) / min(values)) > DECADES:
        axes.set_yscale("log")
    axes.set_xlim(-0.5, max(len(summary.entries), 2) - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial", color=TEXT)
    axes.set_ylabel(summary.metric, color=TEXT, parse_math=False)
    axes.grid(axis="y", color="#e4e7ea", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(TRIAL)
    axes.tick_params(colors=TEXT)
    figure.legend(loc="outside upper right", ncols=4, frameon=False, fontsize="small", labelcolor=TEXT)
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "search", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})


def _draw_best(axes: Axes, summary: Summary, numbers: Sequence[int], values: Sequence[float]) -> None:
    if not values:
        return
    so_far = list(accumulate(values, min if summary.direction == "minimize" else max))
    end = len(summary.entries) - 0.5
    axes.plot([*numbers, end], [*so_far, so_far[-1]], color=BEST, linewidth=1.8, drawstyle="steps-post",
              label=f"best so far: {so_far[-1]:.6g}")  # fmt: skip
    best = summary.best()
    axes.plot([best.number], [so_far[-1]], "o", color=BEST, markersize=8)


def _draw_others(axes: Axes, summary: Summary) -> None:
    pruned = [entry for entry in summary.entries if entry.outcome.verdict is Verdict.PRUNED]
    failed = [entry for entry in summary.entries if entry.outcome.verdict in (Verdict.FAILED, Verdict.RUNNING)]
    seen = [entry for entry in pruned if _last(entry) is not None]
    unseen = [entry.number for entry in pruned if _last(entry) is None]
    label = f"{len(pruned)} pruned"
    if seen:
        axes.plot([e.number for e in seen], [_last(e) or 0.0 for e in seen], "v", color=PRUNED, markersize=6,
                  markerfacecolor="none", label=label)  # fmt: skip
    edge = axes.get_xaxis_transform()
    if unseen:
        axes.plot(unseen, [0.02] * len(unseen), "v", color=PRUNED, markersize=6, markerfacecolor="none",
                  transform=edge, label="_" if seen else label, clip_on=False)  # fmt: skip
    if failed:
        axes.plot([e.number for e in failed], [0.02] * len(failed), "x", color=FAILED, markersize=6,
                  markeredgewidth=1.6, transform=edge, label=f"{len(failed)} failed", clip_on=False)  # fmt: skip


def _last(entry: Entry) -> float | None:
    finite = [value for _, value in entry.steps if math.isfinite(value)]
    return finite[-1] if finite else None
