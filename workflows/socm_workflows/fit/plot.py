"""One picture of a fit: data and model, residuals, and the parameters in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from socm_workflows.fit.data import Sample
from socm_workflows.fit.solution import Solution
from socm_workflows.fit.trust_region import ModelFunction

DATA = "#30363d"
CURVE = "#0b6fb8"
WARNING = "#b3261e"
QUIET = "#8a9199"
CURVE_POINTS = 500
FEW_POINTS = 60
"""Up to here points are drawn large and with their error bars."""
MANY_POINTS = 5000
"""From here on their density is drawn instead."""


def draw_fit(
    fit: Solution, sample: Sample, model: ModelFunction, *, names: Sequence[str], title: str, path: Path
) -> None:
    """Write a PNG with data and model above the residuals, and the parameters beside them.

    With one predictor the model is a curve over it; with several, observed values are drawn against fitted ones.
    """
    figure = Figure(figsize=(9.0, 5.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 1), width_ratios=(1, 0.4))
    above, side = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[:, 1])
    below = figure.add_subplot(grid[1, 0], sharex=above)
    if sample.x.ndim == 1:
        across, label = sample.x, sample.x_label
        _draw_curve(above, fit, sample, model)
    else:
        across, label = fit.fitted, f"fitted {sample.y_label}"
        ends = [float(across.min()), float(across.max())]
        above.plot(ends, ends, color=CURVE, linewidth=1.6, zorder=3, label="observed = fitted")
    _draw_points(above, across, sample.y, sample.sigma, "data")
    _draw_residuals(below, across, fit, sample)
    above.set_ylabel(sample.y_label, parse_math=False)
    above.tick_params(labelbottom=False)
    above.legend(frameon=False, fontsize="small")
    below.set_xlabel(label, parse_math=False)
    words, color = (title, DATA) if fit.converged else (f"{title}: not converged", WARNING)
    above.set_title(words, color=color, parse_math=False)
    _write_words(side, fit, names)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels([above, below])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_curve(axes: Axes, fit: Solution, sample: Sample, model: ModelFunction) -> None:
    grid = np.linspace(sample.x.min(), sample.x.max(), CURVE_POINTS)
    try:
        curve = np.asarray(jax.jit(model)(grid, *fit.parameters))
    except (TypeError, ValueError):  # the model holds arrays of the length of the data
        order = np.argsort(sample.x)
        grid, curve = sample.x[order], fit.fitted[order]
    color, label = (CURVE, "fit") if fit.converged else (WARNING, "where it stopped")
    axes.plot(grid, curve, color=color, linewidth=1.6, zorder=3, label=label)


def _draw_points(
    axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], sigma: NDArray[np.float64] | None, label: str
) -> None:
    if x.size > MANY_POINTS:
        counts, *_, image = axes.hist2d(x, y, bins=(240, 100), cmin=1, cmap="Greys", norm=LogNorm())
        image.set_clim(0.3, 20 * np.nanmax(counts))
        axes.plot([], [], "s", color=QUIET, label=f"density of {label}")
        return
    if x.size > FEW_POINTS:
        axes.plot(x, y, ".", color=DATA, markersize=5, alpha=0.7, markeredgewidth=0, label=label)
        return
    axes.errorbar(
        x,
        y,
        yerr=sigma,
        fmt="o",
        color=DATA,
        markersize=4.5,
        elinewidth=0.9,
        markerfacecolor="white",
        label=label,
        zorder=4,
    )


def _draw_residuals(axes: Axes, across: NDArray[np.float64], fit: Solution, sample: Sample) -> None:
    residuals = sample.y - fit.fitted
    if sample.sigma is not None:
        residuals = residuals / sample.sigma
    axes.axhline(0, color=CURVE if fit.converged else WARNING, linewidth=1.2, zorder=3)
    if fit.degrees_of_freedom > 0:
        spread = math.sqrt(fit.rss / fit.degrees_of_freedom)
        for level in (-spread, spread):
            axes.axhline(level, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)), zorder=3)
    _draw_points(axes, across, residuals, None, "residuals")
    axes.set_ylabel("residual" if sample.sigma is None else "residual / sigma")


def _write_words(axes: Axes, fit: Solution, names: Sequence[str]) -> None:
    axes.set_axis_off()
    errors = [None] * len(names) if fit.standard_errors is None else [float(e) for e in fit.standard_errors]
    lines = [
        f"{name} = {measured(float(value), error)}"
        for name, value, error in zip(names, fit.parameters, errors, strict=True)
    ]
    spread = math.sqrt(fit.rss / fit.degrees_of_freedom) if fit.degrees_of_freedom > 0 else math.nan
    lines += ["", f"points {fit.fitted.size}", f"degrees of freedom {fit.degrees_of_freedom}"]
    lines += [f"sum of squares {fit.rss:.6g}"] + ([] if math.isnan(spread) else [f"residual spread {spread:.3g}"])
    lines += [f"iterations {fit.iterations}"]
    axes.text(0, 1, "\n".join(lines), va="top", fontsize="small", linespacing=1.5, color=DATA)
    color = QUIET if fit.converged else WARNING
    axes.text(0, 0, fit.reason.replace("; ", "\n"), va="bottom", fontsize="x-small", color=color, wrap=True)


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
