"""Where a fit ended and how it got there: what result.py makes statements about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from socm_workflows.fit.function.datasets import Dataset
from socm_workflows.fit.solver.formula import ModelFunction
from socm_workflows.fit.solver.least_squares import Stop
from socm_workflows.fit.solver.solution import Solution
from socm_workflows.fit.strategy.settings import Settings

if TYPE_CHECKING:
    from socm_workflows.fit.search.multistart import Search

Floats = NDArray[np.float64]
STATUS = {
    Stop.GRADIENT: 1, Stop.ROUNDING: 1, Stop.REDUCTION: 2, Stop.STEP: 3, Stop.STALLED: 2, Stop.MAX_ITERATIONS: 0,
    Stop.INTERRUPTED: -2,
}  # fmt: skip
"""SciPy's numbers: 1 gtol, 2 ftol, 3 xtol, 0 max_nfev, -2 ended by a callback; -1 is any other failure."""


@dataclass(frozen=True, eq=False, repr=False)
class Fitted:
    """The end of a fit. ``popt, pcov = fitted`` unpacks it.

    Where a fit has not converged, ``pcov`` is filled with inf, as SciPy does, ``converged`` is False and ``message``
    says why. Rows and columns of parameters on an active bound are nan: the data do not say how uncertain they are;
    those of the others hold with these parameters where they are.
    """

    solution: Solution
    names: tuple[str, ...]
    model: ModelFunction
    dataset: Dataset
    settings: Settings
    absolute_sigma: bool = False
    multistart: Search | None = None
    """What came of several starts; None with one."""
    confirmed: bool | None = None
    """Whether a second fit, begun one standard error away, ended at the same minimum; None if none was asked for."""
    stopped_by: str | None = None
    """What the callback said that ended the fit."""
    total_nfev: int = 0
    """Evaluations at all points of all fits that were made: of several ends, and to confirm."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By phase."""

    def __iter__(self) -> Iterator[Floats]:
        return iter((self.popt, self.pcov))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, key: int | str) -> Any:
        return getattr(self, key) if isinstance(key, str) else (self.popt, self.pcov)[key]

    @property
    def popt(self) -> Floats:
        """The parameters, (p,)."""
        return self.solution.parameters

    @property
    def x(self) -> Floats:
        """The parameters; the name of scipy.optimize.OptimizeResult."""
        return self.solution.parameters

    @cached_property
    def pcov(self) -> Floats:
        """Their covariance, (p, p); inf where it cannot be had, nan where a parameter is on a bound."""
        size = self.popt.size
        covariance = self.solution.covariance
        return np.full((size, size), np.inf) if covariance is None else covariance

    @cached_property
    def perr(self) -> Floats:
        """Standard errors, (p,): the root of the diagonal of ``pcov``."""
        return np.sqrt(np.diag(self.pcov))

    @property
    def parameters(self) -> dict[str, float]:
        """The parameters by name."""
        return dict(zip(self.names, self.popt.tolist(), strict=True))

    @property
    def cost(self) -> float:
        """Half the sum of squares of the residuals over sigma, or of the loss, as in SciPy's least_squares."""
        return self.solution.cost

    @property
    def optimality(self) -> float:
        """The relative offset: times ``sqrt(n - p)`` the distance to the minimum in standard errors
        (Bates and Watts 1988, "Nonlinear regression analysis", section 2.2.3)."""
        return self.solution.optimality

    @property
    def converged(self) -> bool:
        """Whether this is a minimum."""
        return self.solution.converged

    @property
    def success(self) -> bool:
        """The same as ``converged``, SciPy's name."""
        return self.solution.converged

    @property
    def status(self) -> int:
        """SciPy's number for why the iteration ended: :data:`STATUS`."""
        number = STATUS.get(self.solution.status, -1)
        return number if self.converged or number <= 0 else -1

    @property
    def message(self) -> str:
        """Why the iteration ended, in words."""
        return f"not converged: {self.stopped_by}" if self.stopped_by else self.solution.reason

    @property
    def nfev(self) -> int:
        """Evaluations of the model and its derivatives at all points."""
        return self.solution.evaluations

    @property
    def njev(self) -> int:
        """Evaluations of the derivatives: each comes with one of the model."""
        return self.solution.evaluations

    @property
    def nit(self) -> int:
        """Steps tried."""
        return self.solution.iterations

    @property
    def passes(self) -> int:
        """Passes over the data."""
        return self.solution.passes

    @property
    def points(self) -> int:
        """Points of the data, without those that were omitted."""
        return self.solution.points

    @property
    def degrees_of_freedom(self) -> int:
        """Points less free parameters."""
        return self.solution.degrees_of_freedom

    @property
    def at_bound(self) -> tuple[str, ...]:
        """Names of the parameters on an active bound."""
        return self.solution.at_bound

    @property
    def strategy(self) -> str:
        """standard, chunked, streaming or streaming_checkpoint."""
        return self.settings.strategy.value

    @property
    def strategy_reason(self) -> str:
        """Why this strategy."""
        return self.settings.why

    @property
    def accumulation(self) -> str:
        """How the data were reduced: gram, refined or qr."""
        return self.solution.accumulation

    @property
    def multistart_diagnostics(self) -> dict[str, Any]:
        """NLSQ's words for what came of several starts."""
        if self.multistart is None:
            return {"n_starts_configured": 1, "n_starts_evaluated": 1, "bypassed": True}
        found = self.multistart
        return {
            "n_starts_configured": found.n_starts, "n_starts_evaluated": len(found.starts), "bypassed": False,
            "sampler": found.sampler, "all_losses": [2 * float(cost) for cost in found.costs],
        }  # fmt: skip
