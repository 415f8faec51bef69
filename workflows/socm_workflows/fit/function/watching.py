"""What is done after each iteration of a fit: its state is kept, and the user's callback is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from socm_workflows.fit.checkpoint import Checkpoint
from socm_workflows.fit.function.callbacks import notify
from socm_workflows.fit.solver.iteration import Progress
from socm_workflows.fit.solver.packing import unpack

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Watch:
    """Follows one iteration of the solver."""

    callback: Callable[..., Any] | None = None
    keeper: Checkpoint | None = None
    reason: str | None = None
    """Why the callback ended the fit."""
    _before: Floats | None = None
    _cost: float = np.inf

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return self.callback is not None or self.keeper is not None

    def __call__(self, progress: Progress) -> bool:
        """Keep the state, call the callback; return whether the fit is to end."""
        if self.keeper is not None:
            self.keeper(progress)
        if self.callback is None:
            return False
        here = unpack(progress.state, progress.parameters.size).here
        gradient = np.asarray(here.triangle).T @ np.asarray(here.projection)
        before = progress.parameters if self._before is None else self._before
        info: dict[str, Any] = {
            "gradient_norm": float(np.max(np.abs(gradient), initial=0.0)),
            "gradient": gradient,
            "nfev": progress.evaluations,
            "step_norm": float(np.linalg.norm(progress.parameters - before)),
            "actual_reduction": self._cost - progress.cost if self._before is not None else 0.0,
            "optimality": progress.optimality,
        }
        self._before, self._cost = progress.parameters, progress.cost
        self.reason = notify(
            self.callback, progress.iteration, progress.cost, cast(Any, progress.parameters.copy()), info
        )
        return self.reason is not None
