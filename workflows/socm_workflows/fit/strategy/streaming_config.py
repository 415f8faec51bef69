"""HybridStreamingConfig: what a user says about a fit of data read a chunk at a time, in NLSQ's names.

Our streaming makes the same iteration as the fit in memory, and gives its answer. There is no warm-up that could run
away, so there is nothing for NLSQ's four layers of defence to defend: fields about normalisation, warm-up, L-BFGS, the
defence and the precision are checked and kept, and have no effect on the result. Who sets one of them by hand is told
so, once, by a :class:`NoEffectWarning`; the named profiles, which set them all, are silent, and
:attr:`HybridStreamingConfig.without_effect` lists them.

Fields of NLSQ that would change the function that is minimised (group variance, residual weights) do not exist here:
a weight of a point is ``sigma``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

_WITHOUT_EFFECT = MappingProxyType({"has_effect": False})

STRATEGIES = ("auto", "bounds", "p0", "none")
PRECISIONS = ("auto", "float32", "float64")
SAMPLERS = ("lhs", "sobol", "halton")

DEFENSE: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "strict": {
            "warm_start_threshold": 0.01, "cost_increase_tolerance": 0.05, "max_warmup_step_size": 0.05,
            "warmup_learning_rate": 5e-4, "warmup_lr_refinement": 1e-7, "warmup_lr_careful": 1e-6,
            "warmup_iterations": 25, "max_warmup_iterations": 60,
        },
        "relaxed": {
            "warm_start_threshold": 0.5, "cost_increase_tolerance": 0.5, "max_warmup_step_size": 0.5,
            "warmup_learning_rate": 3e-3, "warmup_lr_refinement": 1e-5, "warmup_lr_careful": 1e-4,
            "warmup_iterations": 50, "max_warmup_iterations": 120,
        },
        "disabled": {
            "enable_warm_start_detection": False, "enable_adaptive_warmup_lr": False,
            "enable_cost_guard": False, "enable_step_clipping": False,
        },
        "scientific_default": {
            "warm_start_threshold": 0.05, "cost_increase_tolerance": 0.2, "max_warmup_step_size": 0.1,
            "warmup_iterations": 35, "max_warmup_iterations": 100,
            "gauss_newton_tol": 1e-10, "gauss_newton_max_iterations": 200,
        },
    }
)  # fmt: skip
"""What the profiles set: the table of NLSQ's ``hybrid_config.py``, lines 684 to 873."""


class NoEffectWarning(UserWarning):
    """A setting was accepted that has no effect on the result."""


def _inert(default: Any) -> Any:
    return field(default=default, metadata=_WITHOUT_EFFECT)


@dataclass(frozen=True)
class HybridStreamingConfig:
    """How data are streamed. Frozen; ``dataclasses.replace`` makes another.

    Raises ValueError, naming the field, what was found and what is allowed.
    """

    chunk_size: int = 10_000
    """Points read at a time. More are faster, and take more memory."""
    gauss_newton_tol: float = 1e-8
    """Tolerance: gtol, ftol and xtol of a fit that is given this configuration and no other tolerance."""
    gauss_newton_max_iterations: int = 100
    """Passes over the data at most. A fit that needs more has not converged, and says so."""
    enable_checkpoints: bool = True
    """Whether the state of the fit is written, given a directory."""
    checkpoint_dir: Path | str | None = None
    """Where; None makes one, named after the time, when the strategy is streaming_checkpoint."""
    checkpoint_frequency: int = 100
    """Passes between checkpoints at most. A state is some p^2 numbers: those who write it may do so more often."""
    resume_from_checkpoint: Path | str | None = None
    """A checkpoint to go on from, or a directory with some."""
    callback_frequency: int = 10
    """Iterations between calls of the callback."""
    verbose: int = 1
    """0 is silent, 1 shows progress, 2 every iteration."""
    enable_multistart: bool = False
    n_starts: int = 10
    """Starts, if there are several."""
    multistart_sampler: str = "lhs"
    center_on_p0: bool = True
    scale_factor: float = 1.0
    """Width of the region of starts; see :func:`socm_workflows.fit.search.sampling.draw_starts`."""

    normalize: bool = _inert(True)
    normalization_strategy: str = _inert("auto")
    warmup_iterations: int = _inert(200)
    max_warmup_iterations: int = _inert(500)
    warmup_learning_rate: float = _inert(1e-3)
    loss_plateau_threshold: float = _inert(1e-4)
    gradient_norm_threshold: float = _inert(1e-3)
    lbfgs_history_size: int = _inert(10)
    lbfgs_initial_step_size: float = _inert(0.1)
    enable_warm_start_detection: bool = _inert(True)
    warm_start_threshold: float = _inert(0.01)
    enable_adaptive_warmup_lr: bool = _inert(True)
    warmup_lr_refinement: float = _inert(1e-6)
    warmup_lr_careful: float = _inert(1e-5)
    enable_cost_guard: bool = _inert(True)
    cost_increase_tolerance: float = _inert(0.05)
    enable_step_clipping: bool = _inert(True)
    max_warmup_step_size: float = _inert(0.1)
    trust_region_initial: float = _inert(1.0)
    regularization_factor: float = _inert(1e-10)
    precision: str = _inert("auto")
    """The solver computes in float64."""
    validate_numerics: bool = _inert(True)
    """Numbers that are not finite are always found."""

    def __post_init__(self) -> None:
        faults = [*self._wrong_numbers(), *self._wrong_words()]
        if self.warmup_iterations > self.max_warmup_iterations:
            faults.append(
                f"warmup_iterations is {self.warmup_iterations}, more than "
                f"max_warmup_iterations, {self.max_warmup_iterations}"
            )
        if faults:
            raise ValueError("\n".join(faults))
        names = self.without_effect
        if names and not self._is_profile(names):
            message = f"without effect on the result, which is exact without: {', '.join(names)}"
            warnings.warn(message, NoEffectWarning, stacklevel=3)

    @property
    def without_effect(self) -> tuple[str, ...]:
        """The fields that differ from their defaults and have no effect on the result."""
        return tuple(
            item.name for item in fields(self)
            if not item.metadata.get("has_effect", True) and getattr(self, item.name) != item.default
        )  # fmt: skip

    def effective(self) -> Self:
        """Return the same without the fields that have no effect on the result."""
        acting = [item.name for item in fields(self) if item.metadata.get("has_effect", True)]
        return type(self)(**{name: getattr(self, name) for name in acting})

    def _is_profile(self, names: tuple[str, ...]) -> bool:
        found = {name: getattr(self, name) for name in names}
        return any(found.items() <= profile.items() for profile in DEFENSE.values())

    def _wrong_numbers(self) -> list[str]:
        faults = []
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(item.default, bool):
                if not isinstance(value, bool):
                    faults.append(f"{item.name} is {value!r}: write True or False")
            elif isinstance(item.default, int):
                least = _LEAST.get(item.name, 1)
                if isinstance(value, bool) or not isinstance(value, int) or value < least:
                    faults.append(f"{item.name} is {value!r}: write a whole number of at least {least}")
            elif isinstance(item.default, float):
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                if not is_number or not 0 < value < math.inf:
                    faults.append(f"{item.name} is {value!r}: write a positive number")
        return faults

    def _wrong_words(self) -> list[str]:
        choices = {"normalization_strategy": STRATEGIES, "precision": PRECISIONS, "multistart_sampler": SAMPLERS}
        return [
            f"{name} is {getattr(self, name)!r} (one of {', '.join(words)})"
            for name, words in choices.items()
            if getattr(self, name) not in words
        ]

    @classmethod
    def defense_strict(cls) -> Self:
        """Return the profile for going on from a solution. Its layers of defence are met by the method itself."""
        return cls(**DEFENSE["strict"])

    @classmethod
    def defense_relaxed(cls) -> Self:
        """Return the profile for rough starts. Its layers of defence are met by the method itself."""
        return cls(**DEFENSE["relaxed"])

    @classmethod
    def defense_disabled(cls) -> Self:
        """Return the profile without layers of defence, which the method does without anyway."""
        return cls(**DEFENSE["disabled"])

    @classmethod
    def scientific_default(cls) -> Self:
        """Return the profile for results to publish: tolerance 1e-10, up to 200 passes over the data."""
        return cls(**DEFENSE["scientific_default"])


_LEAST = {"verbose": 0, "warmup_iterations": 0, "max_warmup_iterations": 0}
