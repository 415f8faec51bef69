"""What one fit does, decided: :func:`resolve_settings` lays all that was said over each other and picks a strategy.

From the weakest to the strongest: the defaults, ``nlsq.yaml``, the variables ``NLSQ_*``, and the arguments, which are
the preset or ``workflow=``, then ``config=``, then the other keywords. A goal rules tolerances and starts: one that is
stated drops those that were stated below it, and gives those that nobody states.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from socm_like.errors import suggest
from socm_workflows.fit.strategy.budget import (
    SAFETY_FACTOR,
    ChunkedConfig,
    MemoryBudget,
    MemoryBudgetSelector,
    Selection,
    StrategyConfig,
    memory_to_count_on,
)
from socm_workflows.fit.strategy.configuration import StatedCluster, WorkflowConfig, read_environment
from socm_workflows.fit.strategy.memory import AvailableMemory
from socm_workflows.fit.strategy.memory_model import FitSize
from socm_workflows.fit.strategy.presets import WORKFLOW_PRESETS, get_preset
from socm_workflows.fit.strategy.streaming_config import HybridStreamingConfig
from socm_workflows.fit.strategy.tiers import (
    GOALS,
    AdaptiveTolerances,
    DatasetSizeTier,
    OptimizationGoal,
    WorkflowTier,
    calculate_adaptive_tolerances,
    read_goal,
)
from socm_workflows.fit.strategy.yaml_file import read_folder

MULTISTART = 10
"""Starts of a fit that is told to make several, but not how many."""

Asked = str | WorkflowTier | WorkflowConfig | HybridStreamingConfig | None
"""What ``workflow=`` and ``config=`` take."""


@dataclass(frozen=True)
class Settings:
    """What one fit does; nothing is left open."""

    strategy: WorkflowTier
    strategy_config: StrategyConfig
    why: str
    """Why this strategy, in one sentence."""
    budget: MemoryBudget
    goal: OptimizationGoal | None
    tolerances: AdaptiveTolerances
    n_starts: int
    """Starts, the user's own among them: 1 is a single fit."""
    sampler: str
    seed: int
    center_on_p0: bool
    scale_factor: float
    confirms: bool
    """Whether the fit is repeated from its solution, to see that it stays there."""
    max_nfev: int | None
    """Evaluations of the model on all data at most; None leaves it to the solver."""
    checkpoint_dir: Path | None
    """Where the state is written; None with the strategy streaming_checkpoint: make one
    (:func:`create_checkpoint_directory`)."""
    cluster: StatedCluster | None
    """What nlsq.yaml says about a cluster. A fit runs on one node; this is for those who submit."""
    stated: WorkflowConfig
    """All that was said, the strongest on top."""

    @property
    def size_tier(self) -> DatasetSizeTier:
        """The tier of the number of points."""
        return DatasetSizeTier.of(self.budget.size.points)

    @property
    def chunk_size(self) -> int:
        """Points that are on the device together."""
        config = self.strategy_config
        return self.budget.size.points if config is None else config.chunk_size

    @property
    def multistart(self) -> bool:
        """Whether there are several starts."""
        return self.n_starts > 1


def resolve_settings(
    size: FitSize,
    arguments: WorkflowConfig | None = None,
    *,
    workflow: Asked = "auto",
    preset: str | None = None,
    config: Asked = None,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
    available: AvailableMemory | float | None = None,
) -> Settings:
    """Return what a fit of that size does.

    ``arguments`` are the keywords of ``fit`` that were given. ``folder`` is where ``nlsq.yaml`` may be, this directory
    by default; ``environ`` holds the variables. ``available`` counts on that memory instead of what is left here.

    Raises ValueError: what was said is wrong, with where it stands.
    """
    asked = read_asked(config, "config")
    stated = WorkflowConfig()
    for layer in (
        read_folder(folder),
        read_environment(os.environ if environ is None else environ),
        read_asked(workflow, "workflow"),
        WorkflowConfig() if preset is None else get_preset(preset),
    ):
        stated = layer.over(stated)
    if isinstance(config, HybridStreamingConfig) and stated.tier is WorkflowTier.STREAMING_CHECKPOINT:
        asked = replace(asked, tier=None)  # it says no more than that data are streamed
    stated = (arguments or WorkflowConfig()).over(asked.over(stated))
    goal = None if stated.goal is None else read_goal(stated.goal, "goal")
    streaming = next((value for value in (config, workflow) if isinstance(value, HybridStreamingConfig)), None)
    selection = _configured(_select(size, stated, goal, available), stated, streaming)
    return _settle(selection, stated, goal)


def read_asked(asked: Asked, where: str) -> WorkflowConfig:
    """Return what ``workflow=`` or ``config=`` says: ``auto``, ``auto_global``, a preset, a strategy, or a value.

    Raises ValueError: no such word, naming ``where`` it stands.
    """
    if asked is None or asked == "auto":
        return WorkflowConfig()
    if isinstance(asked, WorkflowConfig):
        return asked
    if isinstance(asked, HybridStreamingConfig):
        return _of_streaming(asked)
    if isinstance(asked, WorkflowTier):
        return WorkflowConfig(tier=asked)
    if not isinstance(asked, str):
        raise ValueError(f"{where} is {asked!r}: write a word, a WorkflowConfig or a HybridStreamingConfig")
    word = asked.lower()
    if word == "auto_global":
        return WorkflowConfig(goal=OptimizationGoal.GLOBAL)
    if word in WORKFLOW_PRESETS:
        return WORKFLOW_PRESETS[word]
    tiers = [tier.value for tier in WorkflowTier]
    if word in tiers:
        return WorkflowConfig(tier=WorkflowTier(word))
    words = [*dict.fromkeys(["auto", "auto_global", *tiers, *WORKFLOW_PRESETS])]
    raise ValueError(f"{where} is {asked!r}{suggest(word, words)} (one of {', '.join(words)})")


def _of_streaming(config: HybridStreamingConfig) -> WorkflowConfig:
    """Return what a configuration for streaming says about other things than streaming."""
    has_checkpoints = config.enable_checkpoints and config.checkpoint_dir is not None
    return WorkflowConfig(
        tier=WorkflowTier.STREAMING_CHECKPOINT if has_checkpoints else WorkflowTier.STREAMING,
        gtol=config.gauss_newton_tol,
        ftol=config.gauss_newton_tol,
        xtol=config.gauss_newton_tol,
        max_nfev=config.gauss_newton_max_iterations,
        multistart=True if config.enable_multistart and config.n_starts > 1 else None,
        n_starts=config.n_starts if config.enable_multistart else None,
        sampler=config.multistart_sampler if config.enable_multistart else None,
        center_on_p0=config.center_on_p0,
        scale_factor=config.scale_factor,
        enable_checkpointing=config.enable_checkpoints if has_checkpoints else None,
        checkpoint_dir=config.checkpoint_dir,
        chunk_size=config.chunk_size,
    )


def _select(
    size: FitSize, stated: WorkflowConfig, goal: OptimizationGoal | None, available: AvailableMemory | float | None
) -> Selection:
    """Return the strategy: the one that is named if it fits, else what the memory allows."""
    selector = MemoryBudgetSelector(stated.safety_factor or SAFETY_FACTOR)
    memory = memory_to_count_on(available, stated.memory_limit_gb)
    budget = MemoryBudget.of(size, memory, selector.safety_factor)
    selection = selector.decide(budget, goal=goal, checkpoints=stated.enable_checkpointing)
    if stated.tier is None:
        return selection
    tier, why = WorkflowTier(stated.tier), f"{stated.tier} was asked for"
    if tier is WorkflowTier.STREAMING and stated.enable_checkpointing:
        tier, why = WorkflowTier.STREAMING_CHECKPOINT, f"{why}, with checkpoints"
    if tier is WorkflowTier.STREAMING_CHECKPOINT and stated.enable_checkpointing is False:
        tier, why = WorkflowTier.STREAMING, f"{why}, without checkpoints"
    order = list(WorkflowTier)
    if order.index(tier) < order.index(selection.strategy) and not _fits(budget, tier):
        return replace(selection, why=f"{why}, but {selection.why}")
    return selector.follow(budget, tier, why, goal=goal)


def _fits(budget: MemoryBudget, tier: WorkflowTier) -> bool:
    """Whether a strategy that the user names fits into all that is available: the safety is theirs to give up."""
    return budget.peak_of(tier, 1) <= budget.available_gb


def _configured(selection: Selection, stated: WorkflowConfig, asked: HybridStreamingConfig | None) -> Selection:
    """Return the selection with the chunks and checkpoints that are stated."""
    config = selection.config
    if config is None:
        return selection
    chunk_size = stated.chunk_size or config.chunk_size
    if isinstance(config, ChunkedConfig):
        return replace(selection, config=ChunkedConfig(chunk_size))
    has_checkpoints = selection.strategy is WorkflowTier.STREAMING_CHECKPOINT
    made = replace(
        config if asked is None else asked.effective(),
        chunk_size=chunk_size,
        enable_checkpoints=has_checkpoints,
        checkpoint_dir=stated.checkpoint_dir if has_checkpoints else None,
    )
    return replace(selection, config=made)


def _settle(selection: Selection, stated: WorkflowConfig, goal: OptimizationGoal | None) -> Settings:
    has_checkpoints = selection.strategy is WorkflowTier.STREAMING_CHECKPOINT
    why = selection.why
    if stated.enable_checkpointing and not has_checkpoints:
        why += "; no checkpoints, which only a stream of data needs"
    adaptive = calculate_adaptive_tolerances(selection.budget.size.points, goal)
    said = {name: value for name in adaptive._fields if (value := getattr(stated, name)) is not None}
    return Settings(
        strategy=selection.strategy,
        strategy_config=selection.config,
        why=why,
        budget=selection.budget,
        goal=goal,
        tolerances=adaptive._replace(**said),
        n_starts=_starts(stated, goal),
        sampler=stated.sampler or "lhs",
        seed=stated.seed or 0,
        center_on_p0=stated.center_on_p0 is not False,
        scale_factor=stated.scale_factor or 1.0,
        confirms=GOALS[goal].confirms,
        max_nfev=stated.max_nfev,
        checkpoint_dir=None if stated.checkpoint_dir is None or not has_checkpoints else Path(stated.checkpoint_dir),
        cluster=stated.cluster,
        stated=stated,
    )


def _starts(stated: WorkflowConfig, goal: OptimizationGoal | None) -> int:
    if stated.multistart is False:
        return 1
    by_goal = GOALS[goal].n_starts
    if stated.n_starts is not None:
        return stated.n_starts
    return MULTISTART if stated.multistart and by_goal == 1 else by_goal
