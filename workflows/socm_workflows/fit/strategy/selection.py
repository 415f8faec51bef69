"""WorkflowSelector and auto_select_workflow: a whole configuration from the size of a fit, to look at or to change."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import DTypeLike

from socm_workflows.fit.strategy.budget import SAFETY_FACTOR, MemoryBudgetSelector
from socm_workflows.fit.strategy.cluster import ClusterInfo
from socm_workflows.fit.strategy.configuration import WorkflowConfig
from socm_workflows.fit.strategy.memory import AvailableMemory
from socm_workflows.fit.strategy.presets import WORKFLOW_PRESETS
from socm_workflows.fit.strategy.tiers import (
    GOALS,
    OptimizationGoal,
    WorkflowTier,
    calculate_adaptive_tolerances,
    read_goal,
)

MANY_GPUS = 8
"""GPUs of a cluster from which on its fits get 20 starts."""


@dataclass(frozen=True, slots=True)
class WorkflowSelector:
    """Makes the configuration that ``fit`` would take by itself, given nothing but a size and a goal.

    NLSQ's selector had a table of strategies by points and memory. It named strategies for data that fit many times
    over, and multi-start nobody asked for. Here memory decides, and the goal.
    """

    safety_factor: float = SAFETY_FACTOR
    memory_limit_gb: float | None = None

    def select(
        self,
        n_points: int,
        n_params: int,
        n_features: int = 1,
        dtype: DTypeLike = np.float64,
        goal: OptimizationGoal | str | None = None,
        *,
        available: AvailableMemory | float | None = None,
    ) -> WorkflowConfig:
        """Return strategy, tolerances and starts; its ``description`` says why this strategy.

        Raises ValueError as :meth:`MemoryBudget.compute` does.
        """
        read = None if goal is None else read_goal(goal, "goal")
        selection = MemoryBudgetSelector(self.safety_factor).select(
            n_points, n_params, n_features, dtype, self.memory_limit_gb, goal=read, available=available
        )
        tolerances = calculate_adaptive_tolerances(n_points, read)
        n_starts = GOALS[read].n_starts
        config = selection.config
        return WorkflowConfig(
            tier=selection.strategy,
            goal=read,
            **tolerances._asdict(),
            multistart=n_starts > 1,
            n_starts=n_starts,
            safety_factor=self.safety_factor,
            memory_limit_gb=self.memory_limit_gb,
            chunk_size=None if config is None else config.chunk_size,
            enable_checkpointing=selection.strategy is WorkflowTier.STREAMING_CHECKPOINT or None,
            description=selection.why,
        )


def auto_select_workflow(
    n_points: int,
    n_params: int,
    n_features: int = 1,
    dtype: DTypeLike = np.float64,
    goal: OptimizationGoal | str | None = None,
    *,
    memory_limit_gb: float | None = None,
    available: AvailableMemory | float | None = None,
) -> WorkflowConfig:
    """Return what :meth:`WorkflowSelector.select` does with the usual safety factor."""
    selector = WorkflowSelector(memory_limit_gb=memory_limit_gb)
    return selector.select(n_points, n_params, n_features, dtype, goal, available=available)


def create_distributed_config(cluster: ClusterInfo, n_params: int = 10) -> WorkflowConfig:
    """Return a configuration for fits in the jobs of a cluster, each on one node.

    With ``MANY_GPUS`` or more 20 starts, else 10; checkpoints where there are several nodes, of which one may fail.
    Chunks of ten millions over the number of parameters, between 100,000 and 1,000,000 points.
    """
    chunk = min(max(10_000_000 // max(n_params, 1), 100_000), 1_000_000)
    return replace(
        WORKFLOW_PRESETS["hpc_distributed"],
        tier=WorkflowTier.STREAMING_CHECKPOINT if cluster.node_count > 1 else WorkflowTier.STREAMING,
        n_starts=20 if cluster.total_gpus >= MANY_GPUS else 10,
        enable_checkpointing=cluster.node_count > 1,
        chunk_size=chunk,
        description=f"{cluster.node_count} nodes of {cluster.scheduler}",
    )
