"""Nonlinear least squares: :func:`fit` in Python, and the ``fit`` kind of a campaign.

The names here are imported when first used, so that a campaign is planned without loading JAX.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from socm_workflows.fit.function.callbacks import CallbackChain as CallbackChain
    from socm_workflows.fit.function.callbacks import EarlyStopping as EarlyStopping
    from socm_workflows.fit.function.callbacks import IterationLogger as IterationLogger
    from socm_workflows.fit.function.callbacks import ProgressBar as ProgressBar
    from socm_workflows.fit.function.callbacks import StopOptimization as StopOptimization
    from socm_workflows.fit.function.fitting import curve_fit as curve_fit
    from socm_workflows.fit.function.fitting import fit as fit
    from socm_workflows.fit.function.result import Diagnostics as Diagnostics
    from socm_workflows.fit.function.result import FitResult as FitResult
    from socm_workflows.fit.search.multistart import Search as Search
    from socm_workflows.fit.search.sampling import get_sampler as get_sampler
    from socm_workflows.fit.search.sampling import halton_sample as halton_sample
    from socm_workflows.fit.search.sampling import latin_hypercube_sample as latin_hypercube_sample
    from socm_workflows.fit.search.sampling import sobol_sample as sobol_sample
    from socm_workflows.fit.solver.passes import ArraySource as ArraySource
    from socm_workflows.fit.solver.passes import BlockSource as BlockSource
    from socm_workflows.fit.strategy.budget import MemoryBudget as MemoryBudget
    from socm_workflows.fit.strategy.budget import MemoryBudgetSelector as MemoryBudgetSelector
    from socm_workflows.fit.strategy.cluster import ClusterDetector as ClusterDetector
    from socm_workflows.fit.strategy.cluster import ClusterInfo as ClusterInfo
    from socm_workflows.fit.strategy.cluster import create_checkpoint_directory as create_checkpoint_directory
    from socm_workflows.fit.strategy.configuration import WorkflowConfig as WorkflowConfig
    from socm_workflows.fit.strategy.memory import available_memory as available_memory
    from socm_workflows.fit.strategy.presets import WORKFLOW_PRESETS as WORKFLOW_PRESETS
    from socm_workflows.fit.strategy.selection import WorkflowSelector as WorkflowSelector
    from socm_workflows.fit.strategy.selection import auto_select_workflow as auto_select_workflow
    from socm_workflows.fit.strategy.selection import create_distributed_config as create_distributed_config
    from socm_workflows.fit.strategy.streaming_config import HybridStreamingConfig as HybridStreamingConfig
    from socm_workflows.fit.strategy.streaming_config import NoEffectWarning as NoEffectWarning
    from socm_workflows.fit.strategy.tiers import AdaptiveTolerances as AdaptiveTolerances
    from socm_workflows.fit.strategy.tiers import DatasetSizeTier as DatasetSizeTier
    from socm_workflows.fit.strategy.tiers import MemoryTier as MemoryTier
    from socm_workflows.fit.strategy.tiers import OptimizationGoal as OptimizationGoal
    from socm_workflows.fit.strategy.tiers import WorkflowTier as WorkflowTier
    from socm_workflows.fit.strategy.tiers import calculate_adaptive_tolerances as calculate_adaptive_tolerances
    from socm_workflows.fit.strategy.tiers import get_memory_tier as get_memory_tier
    from socm_workflows.fit.strategy.tiers import get_total_available_memory_gb as get_total_available_memory_gb

_HOME = {
    "AdaptiveTolerances": "strategy.tiers",
    "ArraySource": "solver.passes",
    "BlockSource": "solver.passes",
    "CallbackChain": "function.callbacks",
    "ClusterDetector": "strategy.cluster",
    "ClusterInfo": "strategy.cluster",
    "DatasetSizeTier": "strategy.tiers",
    "Diagnostics": "function.result",
    "EarlyStopping": "function.callbacks",
    "FitResult": "function.result",
    "HybridStreamingConfig": "strategy.streaming_config",
    "IterationLogger": "function.callbacks",
    "MemoryBudget": "strategy.budget",
    "MemoryBudgetSelector": "strategy.budget",
    "MemoryTier": "strategy.tiers",
    "NoEffectWarning": "strategy.streaming_config",
    "OptimizationGoal": "strategy.tiers",
    "ProgressBar": "function.callbacks",
    "Search": "search.multistart",
    "StopOptimization": "function.callbacks",
    "WORKFLOW_PRESETS": "strategy.presets",
    "WorkflowConfig": "strategy.configuration",
    "WorkflowSelector": "strategy.selection",
    "WorkflowTier": "strategy.tiers",
    "auto_select_workflow": "strategy.selection",
    "available_memory": "strategy.memory",
    "calculate_adaptive_tolerances": "strategy.tiers",
    "create_checkpoint_directory": "strategy.cluster",
    "create_distributed_config": "strategy.selection",
    "curve_fit": "function.fitting",
    "fit": "function.fitting",
    "get_memory_tier": "strategy.tiers",
    "get_sampler": "search.sampling",
    "get_total_available_memory_gb": "strategy.tiers",
    "halton_sample": "search.sampling",
    "latin_hypercube_sample": "search.sampling",
    "sobol_sample": "search.sampling",
}

__all__ = [
    "WORKFLOW_PRESETS",
    "AdaptiveTolerances",
    "ArraySource",
    "BlockSource",
    "CallbackChain",
    "ClusterDetector",
    "ClusterInfo",
    "DatasetSizeTier",
    "Diagnostics",
    "EarlyStopping",
    "FitResult",
    "HybridStreamingConfig",
    "IterationLogger",
    "MemoryBudget",
    "MemoryBudgetSelector",
    "MemoryTier",
    "NoEffectWarning",
    "OptimizationGoal",
    "ProgressBar",
    "Search",
    "StopOptimization",
    "WorkflowConfig",
    "WorkflowSelector",
    "WorkflowTier",
    "auto_select_workflow",
    "available_memory",
    "calculate_adaptive_tolerances",
    "create_checkpoint_directory",
    "create_distributed_config",
    "curve_fit",
    "fit",
    "get_memory_tier",
    "get_sampler",
    "get_total_available_memory_gb",
    "halton_sample",
    "latin_hypercube_sample",
    "sobol_sample",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'socm_workflows.fit' has no attribute {name!r}")
    return getattr(import_module(f"socm_workflows.fit.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
