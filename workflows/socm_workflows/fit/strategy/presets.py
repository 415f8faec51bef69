"""WORKFLOW_PRESETS: named configurations, as the pages list them.

Where NLSQ's code has other numbers of starts than its pages (quality 20, large_robust 10, streaming none), the pages
hold. A strategy named here is what is taken if it fits into memory; where it does not, the next frugal one that does,
which changes no answer.

The presets of kinetics, SAXS and XPCS were example functions of NLSQ (``examples/scripts/08_workflow_system/09`` to
``11``); their numbers are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from socm_like.errors import suggest
from socm_workflows.fit.strategy.configuration import WorkflowConfig
from socm_workflows.fit.strategy.tiers import OptimizationGoal, WorkflowTier


def _domain(tolerance: float, n_starts: int, sampler: str, description: str) -> WorkflowConfig:
    return WorkflowConfig(
        gtol=tolerance, ftol=tolerance, xtol=tolerance,
        multistart=True, n_starts=n_starts, sampler=sampler, description=description,
    )  # fmt: skip


WORKFLOW_PRESETS: Mapping[str, WorkflowConfig] = MappingProxyType(
    {
        "standard": WorkflowConfig(tier=WorkflowTier.STANDARD, multistart=False, description="general use"),
        "quality": WorkflowConfig(
            tier=WorkflowTier.STANDARD, goal=OptimizationGoal.QUALITY, multistart=True, n_starts=10,
            description="results to publish: tighter tolerances, 10 starts, confirmed by a second fit",
        ),
        "fast": WorkflowConfig(
            tier=WorkflowTier.STANDARD, goal=OptimizationGoal.FAST, multistart=False, description="quick exploration",
        ),
        "large_robust": WorkflowConfig(
            tier=WorkflowTier.CHUNKED, goal=OptimizationGoal.ROBUST, multistart=True, n_starts=5,
            description="large data sets in memory",
        ),
        "streaming": WorkflowConfig(
            tier=WorkflowTier.STREAMING, goal=OptimizationGoal.ROBUST, multistart=True, n_starts=5,
            description="data larger than memory",
        ),
        "hpc_distributed": WorkflowConfig(
            tier=WorkflowTier.STREAMING, goal=OptimizationGoal.ROBUST, multistart=True, n_starts=10,
            enable_checkpointing=True, description="jobs on a cluster, each on its node",
        ),
        "robust": WorkflowConfig(
            goal=OptimizationGoal.ROBUST, multistart=True, n_starts=5, description="a start that may be poor",
        ),
        "global": WorkflowConfig(
            goal=OptimizationGoal.GLOBAL, multistart=True, n_starts=20, description="several minima",
        ),
        "memory_efficient": WorkflowConfig(
            goal=OptimizationGoal.MEMORY_EFFICIENT, multistart=False, description="as little memory as can be",
        ),
        "hpc": WorkflowConfig(
            tier=WorkflowTier.STREAMING_CHECKPOINT, goal=OptimizationGoal.ROBUST, multistart=True, n_starts=10,
            enable_checkpointing=True, description="jobs on a cluster that may be ended and go on",
        ),
        "kinetics": _domain(1e-8, 20, "lhs", "rate constants, Michaelis-Menten"),
        "kinetics_quality": _domain(1e-10, 30, "sobol", "rate constants to publish"),
        "saxs": _domain(1e-9, 10, "lhs", "form factors of small-angle scattering"),
        "saxs_quality": _domain(1e-10, 20, "sobol", "form factors to publish"),
        "xpcs": _domain(1e-8, 15, "sobol", "correlation functions of XPCS"),
        "xpcs_quality": _domain(1e-10, 25, "sobol", "correlation functions to publish"),
    }
)  # fmt: skip


def get_preset(name: str, where: str = "preset") -> WorkflowConfig:
    """Return the preset of that name, in any case. Raises ValueError, naming ``where`` it stands."""
    preset = WORKFLOW_PRESETS.get(name.lower())
    if preset is None:
        near = suggest(name.lower(), WORKFLOW_PRESETS)
        raise ValueError(f"{where} is {name!r}{near} (one of {', '.join(WORKFLOW_PRESETS)})")
    return preset
