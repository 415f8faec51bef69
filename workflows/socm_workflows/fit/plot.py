"""One picture of a fit: data and model, residuals, the way there, and the parameters in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from socm_workflows.fit.data import Sample
from socm_workflows.fit.solver.formula import ModelFunction
from socm_workflows.fit.solver.solution import Solution

Floats = NDArray[np.float64]

DATA = "#30363d"
CURVE = "#0b6fb8"
WARNING = "#b3261e"
QUIET = "#8a9199"
MEANS = "#d9730d"
CURVE_POINTS = 600
FEW_POINTS = 60
"""Up to here points are drawn large."""
MANY_BARS = 250
"""Up to here points have their error bars."""
MANY_POINTS = 5000
"""From here on their density is drawn instead, and means of the residuals."""
BINS = 40
FEWEST = 10
"""Points of a bin whose mean is drawn."""
LOG_X, LOG_Y = 50.0, 100.0
"""Ratios of the largest to the smallest value from which on an axis of positive values is logarithmic."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What is drawn."""

    sample: Sample
    """All points, or some of them."""
    fitted: Floats
    """The model at these points."""
    total: int
    """Points that were fitted."""

    @property
    def residuals(self) -> Floats:
        """Of these points, in units of sigma if there is one."""
        apart = self.sample.y - self.fitted
        return apart if self.sample.sigma is None else apart / self.sample.sigma


@dataclass(frozen=True, slots=True)
class Way:
    """How a fit came to its end."""

    history: Mapping[int, float] = field(default_factory=dict)
    """Cost after each step."""
    ends: Sequence[float] = ()
    """Costs where several starts ended."""


def draw_fit(
    fit: Solution,
    picture: Picture,
    model: ModelFunction,
    *,
    names: Sequence[str],
    title: str,
    way: Way,
    path: Path,
) -> None:
    """Write a PNG: data and model above the residuals; beside them the parameters, and the cost
    by iteration, or where several starts ended.

    With one predictor the model is a curve over it; with several, observed values are drawn against fitted ones. Axes
    of positive values over decades are logarithmic.
    """
    figure = Figure(figsize=(9.6, 5.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(2.6, 1), width_ratios=(1, 0.42))
    above = figure.add_subplot(grid[0, 0])
    below = figure.add_subplot(grid[1, 0], sharex=above)
    side, corner = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
    sample = picture.sample
    is_curve = sample.x.ndim == 1
    across, label = (sample.x, sample.x_label) if is_curve else (picture.fitted, f"fitted {sample.y_label}")
    if is_curve and _spans(across, LOG_X) and np.median(across) < across.max() / 10:  # evenly spaced x stay so
        above.set_xscale("log")
    if is_curve and _spans(sample.y, LOG_Y):
        above.set_yscale("log")
    if is_curve:
        _draw_curve(above, fit, picture, model)
    else:
        ends = [float(across.min()), float(across.max())]
        above.plot(ends, ends, color=CURVE, linewidth=1.6, zorder=5, label="observed = fitted")
    _draw_points(above, across, sample.y, sample.sigma, "data")
    _draw_residuals(below, across, picture, fit)
    above.set_ylabel(sample.y_label, parse_math=False)
    above.tick_params(labelbottom=False)
    above.legend(frameon=False, fontsize="small")
    below.set_xlabel(label, parse_math=False)
    words, color = (title, DATA) if fit.converged else (f"{title}: not converged", WARNING)
    above.set_title(words, color=color, parse_math=False, loc="left", fontsize="medium")
    _write_words(side, fit, names, picture)
    _draw_way(corner, way)
    for axes in (above, below, corner):
        axes.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels([above, below])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _spans(values: Floats, ratio: float) -> bool:
    """Return whether values are positive and so many times apart."""
    return bool(values.min() > 0 and values.max() > ratio * values.min())


def _draw_curve(axes: Axes, fit: Solution, picture: Picture, model: ModelFunction) -> None:
    x = picture.sample.x
    space = np.geomspace if axes.get_xscale() == "log" else np.linspace
    grid = space(x.min(), x.max(), CURVE_POINTS)
    try:
        curve = np.asarray(jax.jit(model)(grid, *fit.parameters))
    except (TypeError, ValueError):  # the model holds arrays of the length of the data
        order = np.argsort(x)
        grid, curve = x[order], picture.fitted[order]
    color, label = (CURVE, "fit") if fit.converged else (WARNING, "where it stopped")
    axes.plot(grid, curve, color=color, linewidth=1.6, zorder=5, label=label)


def _draw_points(axes: Axes, x: Floats, y: Floats, sigma: Floats | None, label: str) -> None:
    if x.size > MANY_POINTS:
        _draw_density(axes, x, y, label)
        return
    is_few, has_bars = x.size <= FEW_POINTS, sigma is not None and x.size <= MANY_BARS
    style = {"markersize": 4.5, "markerfacecolor": "white"} if is_few else {"markersize": 2.6, "markeredgewidth": 0}
    axes.errorbar(
        x, y, yerr=sigma if has_bars else None, fmt="o", color=DATA, elinewidth=0.8 if is_few else 0.5,
        alpha=1.0 if is_few else 0.75, label=label, zorder=4, **style,
    )  # fmt: skip


def _draw_density(axes: Axes, x: Floats, y: Floats, label: str) -> None:
    bins = [_edges(x, 240, axes.get_xscale()), _edges(y, 100, axes.get_yscale())]
    counts, *_, image = axes.hist2d(x, y, bins=bins, cmin=1, cmap="Greys", norm=LogNorm())
    image.set_clim(0.3, 20 * np.nanmax(counts))
    axes.plot([], [], "s", color=QUIET, label=f"density of {label}")


def _edges(values: Floats, count: int, scale: str) -> Floats:
    low, high = float(values.min()), float(values.max())
    if scale == "log":
        return np.geomspace(low, high, count + 1)
    room = 0.0 if high > low else max(abs(low), 1.0) * 1e-6
    return np.linspace(low - room, high + room, count + 1)


def _draw_residuals(axes: Axes, across: Floats, picture: Picture, fit: Solution) -> None:
    residuals = picture.residuals
    axes.axhline(0, color=CURVE if fit.converged else WARNING, linewidth=1.2, zorder=3)
    if fit.degrees_of_freedom > 0 and residuals.size > 1:
        spread = math.sqrt(float(np.mean(residuals**2)))
        for level in (-spread, spread):
            axes.axhline(level, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)), zorder=3)
    _draw_points(axes, across, residuals, None, "residuals")
    if across.size > MANY_POINTS:
        _draw_means(axes, across, residuals)
    axes.set_ylabel("residual" if picture.sample.sigma is None else "residual / sigma")


def _draw_means(axes: Axes, x: Floats, residuals: Floats) -> None:
    """Draw the mean of the residuals in each bin, with its standard error: what the model misses, if it does."""
    edges = _edges(x, BINS, axes.get_xscale())
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, BINS - 1)
    counts, sums, squares = (np.bincount(place, w, BINS) for w in (None, residuals, residuals**2))
    full = counts >= FEWEST
    means = sums[full] / counts[full]
    errors = np.sqrt(np.maximum(squares[full] / counts[full] - means**2, 0) / (counts[full] - 1))
    middle = np.sqrt(edges[1:] * edges[:-1]) if axes.get_xscale() == "log" else (edges[1:] + edges[:-1]) / 2
    axes.errorbar(
        middle[full], means, yerr=errors, fmt="o", color=MEANS, markersize=2.5, elinewidth=0.8, zorder=6,
        label="mean of each bin",
    )  # fmt: skip
    axes.legend(frameon=False, fontsize="x-small", loc="upper right")


def _draw_way(axes: Axes, way: Way) -> None:
    """Draw the cost after each step, where a rejected step leaves it as it was; or the costs where starts ended."""
    ends = sorted(cost for cost in way.ends if math.isfinite(cost))
    steps, costs = list(way.history), list(way.history.values())
    if len(ends) > 1:
        steps, costs = list(range(1, len(ends) + 1)), ends
    if len(costs) < 2:
        axes.set_axis_off()
        return
    axes.plot(steps, costs, ".-", color=CURVE, linewidth=1.0, markersize=4)
    if min(costs) > 0 and max(costs) > 3 * min(costs):
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlabel("start, the best first" if len(ends) > 1 else "iteration")
    axes.set_ylabel("cost at its end" if len(ends) > 1 else "cost")
    axes.tick_params(labelsize="small")


def _write_words(axes: Axes, fit: Solution, names: Sequence[str], picture: Picture) -> None:
    axes.set_axis_off()
    errors = [None] * len(names) if fit.standard_errors is None else [float(e) for e in fit.standard_errors]
    lines = [
        f"{name} = {measured(float(value), error)}"
        for name, value, error in zip(names, fit.parameters, errors, strict=True)
    ]
    drawn = picture.sample.y.size
    some = f"  ({drawn:,} of them drawn)" if drawn < picture.total else ""
    lines += ["", f"points {picture.total:,}{some}"]
    if fit.degrees_of_freedom > 0:
        ratio = fit.rss / fit.degrees_of_freedom
        is_chi = picture.sample.sigma is not None
        lines += [f"reduced chi square {ratio:.4g}" if is_chi else f"residual spread {math.sqrt(ratio):.4g}"]
    lines += [f"sum of squares {fit.rss:.6g}", f"iterations {fit.iterations}"]
    axes.text(0, 1, "\n".join(lines), va="top", fontsize="small", linespacing=1.5, color=DATA, parse_math=False)
    color = QUIET if fit.converged else WARNING
    reason = fit.reason.replace("; ", "\n")
    axes.text(0, 0, reason, va="bottom", fontsize="x-small", color=color, wrap=True, parse_math=False)


def measured(value: float, error: float | None) -> str:
    """Return ``value ± error`` with two digits of the error, or the value alone where there is none."""
    if error is None or not math.isfinite(error) or error <= 0:
        return f"{value:.6g}"
    largest = max(abs(value), error)
    exponent = 0 if 1e-3 <= largest < 1e5 else math.floor(math.log10(largest))
    value, error = value / 10.0**exponent, error / 10.0**exponent
    digits = min(max(1 - math.floor(math.log10(error)), 0), 15)
    text = f"{value:.{digits}f} ± {error:.{digits}f}"
    return text if exponent == 0 else f"({text})e{exponent:+03d}"
