"""How a fit is made, apart from data, start and tolerances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from socm_workflows.fit.solver.iteration import Callback
from socm_workflows.fit.solver.loss import LossFunction

Strategy = Literal["standard", "chunked", "streaming"]
CovarianceKind = Literal["naive", "sandwich"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a fit is made, apart from data, start and tolerances."""

    loss: str | LossFunction = "linear"
    """linear, soft_l1, huber, cauchy, arctan, or rho(z) -> (3, m) in jax.numpy, as in SciPy."""
    f_scale: float = 1.0
    """Residual, in units of sigma, from which on the loss differs from a square."""
    jac: Callable[..., Any] | None = None
    """``jac(x, *parameters)`` -> (n, p), in jax.numpy; None to differentiate the model."""
    strategy: Strategy = "standard"
    """Where the data are while they are fitted; the answer does not depend on it."""
    chunk_points: int | None = None
    """Points that are looked at together, where the strategy is not standard; None for what suits the cache."""
    callback: Callback | None = None
    """Receives a :class:`~socm_workflows.fit.solver.iteration.Progress` after each step; ends the iteration by True."""
    resume: Mapping[str, Any] | None = None
    """``Progress.snapshot()`` of the same fit, to go on from."""
    covariance: CovarianceKind = "naive"
    """naive: SciPy's ``s^2 (J^T W J)^-1``. sandwich: ``(J^T W J)^-1 J^T psi^2 J (J^T W J)^-1``, right also where the
    residuals have not the spread that the loss or sigma assumes (White 1980, Econometrica 48, 817-838; Huber 1967,
    Proc. 5th Berkeley Symp. 1, 221-233)."""
