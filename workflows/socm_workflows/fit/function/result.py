"""What a fit returns: parameters and covariance, and all that can be said about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from socm_workflows.fit.data import Sample
from socm_workflows.fit.function.fitted import Fitted
from socm_workflows.fit.function.statistics import (
    Quality,
    error_of_curve,
    information,
    jacobian_at,
    quality_of,
    quantile,
    rank_of,
)

Floats = NDArray[np.float64]
DRAWN = 200_000
"""Points of a picture, and of what diagnostics are computed from, at most."""


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What may be wrong with a fit."""

    condition: float
    """Of the columns of J of the free parameters, each of unit length: beyond 1e8 a parameter is hardly determined."""
    rank: int
    """Combinations of the parameters that the data determine, bounds aside."""
    undetermined: tuple[str, ...]
    at_bound: tuple[str, ...]
    correlations: Floats
    """(p, p); nan where there is no standard error."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class FitResult(Fitted):
    """The result of a fit. ``popt, pcov = result`` unpacks it; :class:`Fitted` has what the iteration left.

    What needs a pass over the data is computed when it is first asked for.
    """

    @cached_property
    def quality(self) -> Quality:
        """Sums over the residuals."""
        return quality_of(self.model, self.popt, self.dataset.blocks())

    @property
    def r_squared(self) -> float:
        """See :class:`~socm_workflows.fit.function.statistics.Quality`."""
        return self.quality.r_squared

    @property
    def adj_r_squared(self) -> float:
        """``1 - (1 - R^2) (n - 1) / (n - p)`` (Draper and Smith 1998, section 5.2), p counting a constant."""
        freedom = self.points - self.popt.size
        return 1 - (1 - self.r_squared) * (self.points - 1) / freedom if freedom > 0 else float("nan")

    @property
    def rmse(self) -> float:
        """Root of the mean square of the residuals, in the unit of y."""
        return self.quality.rmse

    @property
    def mae(self) -> float:
        """Mean of the absolute residuals, in the unit of y."""
        return self.quality.mae

    @property
    def aic(self) -> float:
        """``n ln(chi2 / n) + 2 p``; see :func:`~socm_workflows.fit.function.statistics.information`."""
        return self._information(2 * self.popt.size)

    @property
    def bic(self) -> float:
        """``n ln(chi2 / n) + p ln n``; see :func:`~socm_workflows.fit.function.statistics.information`."""
        return self._information(self.popt.size * float(np.log(self.points)))

    def _information(self, penalty: float) -> float:
        chi_square = self.solution.rss if self.dataset.sigma_dimensions == 2 else self.quality.chi_square
        return information(chi_square, self.points, penalty)

    @property
    def fitted(self) -> Floats:
        """The model at the data, (n,); for a source, gone through now."""
        parts = [np.asarray(self.model(jnp.asarray(x), *self.popt)) for x, _, _ in self._blocks()]
        return np.concatenate(parts) if parts else np.empty(0)

    @property
    def residuals(self) -> Floats:
        """``y - f``, (n,), in the unit of y; computed now, 8 bytes a point."""
        parts = [y - np.asarray(self.model(jnp.asarray(x), *self.popt)) for x, y, _ in self._blocks()]
        return np.concatenate(parts) if parts else np.empty(0)

    @property
    def fun(self) -> Floats:
        """``(f - y) / sigma``, (n,), SciPy's sign; whitened with a covariance."""
        if self.dataset.sigma_dimensions == 2:
            return np.asarray(np.linalg.solve(np.linalg.cholesky(self.dataset.sigma), -self.residuals), float)
        spread = self.dataset.sigma
        return -self.residuals if spread is None else -self.residuals / spread

    def _blocks(self) -> Iterator[tuple[Floats, Floats, Floats | None]]:
        if self.dataset.source is None and self.points <= DRAWN:
            data = self.dataset
            return iter([(np.asarray(data.x, float), np.asarray(data.y, float), None)])
        return self.dataset.blocks()

    def predict(self, x: ArrayLike | None = None) -> Floats:
        """Return the model at points, (m,); at the data by default."""
        return self.fitted if x is None else np.asarray(self.model(jnp.asarray(x, float), *self.popt))

    def confidence_intervals(self, level: float = 0.95) -> Floats:
        """Return lower and upper ends for each parameter, (p, 2): ``popt -+ t perr``.

        ``t`` is the quantile of Student's t with ``n - p`` degrees of freedom, or of the normal distribution with
        ``absolute_sigma`` (Seber and Wild 1989, "Nonlinear regression", section 5.1). Linear in the parameters.
        """
        width = self._quantile(level) * self.perr
        return np.column_stack([self.popt - width, self.popt + width])

    def confidence_band(self, x: ArrayLike | None = None, level: float = 0.95) -> Floats:
        """Return lower and upper ends of where the true curve is at each point, (m, 2): ``f -+ t sqrt(g^T C g)``,
        ``g`` the derivative of the model (Seber and Wild 1989, section 5.1)."""
        fitted, error, _ = self._curve(x)
        width = self._quantile(level) * error
        return np.column_stack([fitted - width, fitted + width])

    def prediction_interval(
        self, x: ArrayLike | None = None, level: float = 0.95, sigma: ArrayLike | None = None
    ) -> Floats:
        """Return lower and upper ends of where a new y is at each point, (m, 2): ``f -+ t sqrt(s^2 + g^T C g)``.

        ``s`` is the standard deviation of the new y: that of the residuals, times ``sigma`` (one number or one per
        point) where the fit had one (Seber and Wild 1989, section 5.1).
        """
        fitted, error, own = self._curve(x)
        spread = own if sigma is None else np.asarray(sigma, float)
        scale = 1.0
        if not (self.absolute_sigma and self.dataset.sigma_dimensions):
            scale = float(np.sqrt(2 * self.cost / self.degrees_of_freedom)) if self.degrees_of_freedom else np.inf
        width = self._quantile(level) * np.sqrt((scale * spread) ** 2 + error**2)
        return np.column_stack([fitted - width, fitted + width])

    def _quantile(self, level: float) -> float:
        return quantile(level, self.degrees_of_freedom, is_known=self.absolute_sigma)

    def _curve(self, x: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
        """Return the model, its standard error, and sigma at points, each (m,)."""
        if x is None and self.dataset.source is not None:
            raise ValueError("the data came from a source and are not kept: give x")
        at = np.asarray(self.dataset.x if x is None else x, float)
        own = np.ones(at.shape[-1])
        if x is None and self.dataset.sigma is not None:
            own = self.dataset.sigma if self.dataset.sigma.ndim == 1 else np.sqrt(np.diag(self.dataset.sigma))
        elif self.dataset.sigma_dimensions == 1:
            own = np.full(at.shape[-1], float(np.sqrt(1 / np.mean(1 / np.square(self.dataset.sigma)))))
        jacobian = jacobian_at(self.model, self.popt, at)
        return self.predict(at), error_of_curve(jacobian, self.pcov), own

    def diagnostics(self) -> Diagnostics:
        """Return condition, rank, correlations and what is remarkable; of at most ``DRAWN`` points."""
        x, _, sigma = self.dataset.sample(DRAWN, 0)
        jacobian = jacobian_at(self.model, self.popt, x)
        if sigma is not None and np.ndim(sigma) == 1:
            jacobian = jacobian / np.asarray(sigma)[:, None]
        rank = rank_of(jacobian)
        correlations = np.full(self.pcov.shape, np.nan)
        if np.all(np.isfinite(self.perr[self.perr > 0])) and self.solution.covariance is not None:
            with np.errstate(invalid="ignore", divide="ignore"):
                correlations = self.pcov / self.perr / self.perr[:, None]
        return Diagnostics(
            self.solution.condition, rank, self.solution.undetermined, self.at_bound, correlations,
            tuple(self._warnings(correlations)),
        )  # fmt: skip

    def _warnings(self, correlations: Floats) -> Iterator[str]:
        if not self.converged:
            yield self.message
        if self.at_bound:
            yield f"on a bound, so that the others' errors hold only with it there: {', '.join(self.at_bound)}"
        if 1e8 < self.solution.condition < np.inf:
            yield f"the condition of J is {self.solution.condition:.1e}: some combination is hardly determined"
        for i, j in zip(*np.nonzero(np.abs(np.triu(np.nan_to_num(correlations), 1)) > 0.99), strict=True):
            yield f"{self.names[i]} and {self.names[j]} are correlated by {correlations[i, j]:.4f}"
        if self.multistart is not None and self.multistart.reached_best == 1:
            yield f"only 1 of {self.multistart.n_starts} starts reached the best minimum: more may find a better one"
        if self.confirmed is False:
            yield "a second fit, begun one standard error away, did not come back to the same minimum"

    def plot(self, path: Path | str = "fit.png", title: str | None = None) -> Path:
        """Write a PNG with data, model and residuals, and return its path; of at most ``DRAWN`` points."""
        x, y, sigma = self.dataset.sample(DRAWN, 0)
        spread = np.sqrt(np.diag(sigma)) if sigma is not None and np.ndim(sigma) == 2 else sigma
        from socm_workflows.fit.plot import Picture, Way, draw_fit  # noqa: PLC0415 - Matplotlib takes half a second

        picture = Picture(Sample(x, y, spread, "x", "y"), self.predict(x), self.points)
        way = Way(ends=() if self.multistart is None else [float(cost) for cost in self.multistart.costs])
        name = title or str(getattr(self.model, "__name__", "fit"))
        draw_fit(self.solution, picture, self.model, names=self.names, title=name, way=way, path=Path(path))
        return Path(path)

    def _lines(self) -> Iterator[str]:
        for name, value, error in zip(self.names, self.popt, self.perr, strict=True):
            tail = " (on a bound)" if name in self.at_bound else f" ± {error:.2g}"
            yield f"  {name} = {value:.6g}{tail}"

    def __repr__(self) -> str:
        head = f"FitResult: {self.message.partition(';')[0]}"
        shown = [*self._lines()]
        more = [f"  and {len(shown) - 10} more"] if len(shown) > 10 else []
        return "\n".join([head, *shown[:10], *more])

    def summary(self) -> str:
        """Return a page of text: the parameters, the quality, how it was fitted."""
        low_high = self.confidence_intervals()
        rows = [
            f"  {name:<16} {value:>14.7g} {error:>12.3g}   [{low:.6g}, {high:.6g}]"
            for name, value, error, (low, high) in zip(self.names, self.popt, self.perr, low_high, strict=True)
        ]
        search = self.multistart
        starts = [] if search is None else [
            f"starts     {search.n_starts} ({search.sampler}, seed {search.seed}), {search.candidates} costs; "
            f"{search.reached_best} reached the best minimum, {search.given_up} given up"
        ]  # fmt: skip
        times = ", ".join(f"{phase} {seconds:.3g} s" for phase, seconds in self.seconds.items())
        return "\n".join([
            self.message,
            f"  {'parameter':<16} {'value':>14} {'error':>12}   95 % confidence",
            *rows,
            f"points     {self.points}, degrees of freedom {self.degrees_of_freedom}",
            f"quality    cost {self.cost:.6g}, R2 {self.r_squared:.6f}, rmse {self.rmse:.4g}, "
            f"AIC {self.aic:.2f}, BIC {self.bic:.2f}",
            f"fitted by  {self.strategy} ({self.strategy_reason}), {self.accumulation}, "
            f"{self.nit} steps, {self.passes} passes",
            *starts,
            f"time       {times}",
            *(f"note       {line}" for line in self._notes()),
        ])  # fmt: skip

    def _notes(self) -> Iterator[str]:
        return (line for line in self.diagnostics().warnings if line != self.message)
