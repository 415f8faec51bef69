"""Whether the end of an iteration is a minimum that one may trust, and what the data do not determine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from socm_workflows.fit.solver.least_squares import State, Stop, Tolerances
from socm_workflows.fit.solver.loss import EPSILON

Floats = NDArray[np.float64]

STALLED_OFFSET = 1e-6
"""A stalled iteration counts as converged up to here: the minimum is ``1e-6 sqrt(n - p)`` standard errors away."""
NEGATIVE_CURVATURE = 1e-8
"""The Hessian, scaled by the norms of the columns of J, has no eigenvalue below minus this at a minimum."""


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """The free columns of R, scaled to unit length: ``R_free = U s V^T diag(norms)``."""

    singular: Floats
    right: Floats
    norms: Floats
    undetermined: NDArray[np.bool_]
    """Which free parameters take part in a combination that the data do not determine."""

    @property
    def condition(self) -> float:
        """Condition of the scaled columns; inf where they are dependent."""
        return float(self.singular[0] / self.singular[-1]) if self.singular.size and self.singular[-1] > 0 else np.inf


def factor_of(columns: Floats) -> Factor:
    """Return the factor of the free columns of a triangle."""
    norms = np.linalg.norm(columns, axis=0)
    scaled = columns / np.where(norms > 0, norms, 1.0)
    _, singular, right = np.linalg.svd(scaled, full_matrices=False)
    missing = singular <= 10 * max(norms.size, 1) * EPSILON * max(singular, default=0.0)
    loose = np.any(np.abs(right[missing]) > 0.1, axis=0) if missing.any() else np.zeros(norms.size, bool)
    return Factor(singular, right, norms, loose | (norms == 0))


def inverse_of(factor: Factor) -> Floats:
    """Return ``(J^T J)^-1 = C^-1 V s^-2 V^T C^-1`` of the free parameters, ``C`` the column norms."""
    root = factor.right.T / factor.singular / factor.norms[:, None]
    inverse: Floats = root @ root.T
    return inverse


def obstacle_of(state: State, factor: Factor, bend: Floats | None, names: Sequence[str]) -> str:
    """Return why the end is no minimum that one may trust, or an empty string; ``bend`` is ``S``, (free, free)."""
    undetermined = [name for name, loose in zip(names, factor.undetermined, strict=True) if loose]
    offset = f"relative offset {state.offset:.1e}"
    if undetermined:
        return f"not converged: the data do not determine {', '.join(undetermined)} here"
    if state.stop == Stop.MAX_ITERATIONS:
        return f"not converged: stopped after {state.iterations} iterations at {offset}"
    if state.stop == Stop.INTERRUPTED:
        return f"not converged: ended from outside after {state.iterations} iterations at {offset}"
    if state.stop == Stop.STALLED and state.offset > STALLED_OFFSET:
        return f"not converged: no step lowers the sum of squares, yet this is no minimum ({offset})"
    if bend is None:
        return ""
    hessian = (factor.right.T * factor.singular**2) @ factor.right
    hessian = hessian + bend / factor.norms / factor.norms[:, None]
    if hessian.size and np.all(np.isfinite(hessian)):
        values, vectors = np.linalg.eigh(hessian)
        if values[0] < -NEGATIVE_CURVATURE * max(1.0, abs(values[-1])):
            name = names[int(np.argmax(np.abs(vectors[:, 0])))]
            return f"not converged: a stationary point but no minimum, the sum of squares falls along {name}"
    return ""


def success_of(stop: int, relative_offset: float, tolerances: Tolerances) -> str:
    """Return by which test the iteration converged."""
    offset = f"relative offset {relative_offset:.1e}"
    match stop:
        case Stop.GRADIENT:
            return f"converged: {offset} is within gtol {tolerances.gtol:.1e}"
        case Stop.ROUNDING:
            return f"converged: {offset} is within the rounding error of the model"
        case Stop.REDUCTION:
            return (
                f"converged: a full step changed the sum of squares by less than ftol {tolerances.ftol:.1e}; {offset}"
            )
        case Stop.STEP:
            return f"converged: a full step changed no parameter by more than xtol {tolerances.xtol:.1e}; {offset}"
        case _:
            return f"converged: no step lowers the sum of squares beyond rounding; {offset}"
