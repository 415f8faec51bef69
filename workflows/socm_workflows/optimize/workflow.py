"""The ``optimize`` kind: what a campaign file says about a search. Nothing here imports Optuna before it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationInfo, field_validator, model_validator

from socm_like.errors import listed, suggest
from socm_like.fields import Duration
from socm_like.resources import Resources
from socm_like.workflow import EstimateContext, History, Result, Workflow
from socm_workflows.optimize.space import Point, grid_problem, read_point, read_space

OUTPUTS = {"trials": "trials.csv", "best": "best.json", "study": "study.journal", "history": "history.svg"}
MEMORY = 500 * 2**20
"""Bytes of a process with Matplotlib and the trials of a search."""


class OptimizeWorkflow(Workflow):
    """Search the parameters of another workflow for the best value of one of its metrics.

    Every trial is a task of that workflow. The next ones are chosen by what the earlier ones gave; a search that was
    interrupted goes on where it was. Leaves all trials, the best one, Optuna's study and a plot.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    kind: ClassVar[str] = "optimize"
    version: ClassVar[str] = "1"
    driven: ClassVar[str] = "workflow"
    preload: ClassVar[tuple[str, ...]] = ("socm_workflows.optimize.plot", "socm_workflows.optimize.summary")

    workflow: str = Field(min_length=1)
    """The workflow whose parameters are searched."""
    metric: str = Field(min_length=1)
    """Which of its metrics is the value of a trial; dots lead into nested ones."""
    space: dict[str, Any]
    """Parameter -> {min, max, scale = "linear" or "log", type = "float" or "int", step}, or a list of choices."""
    trials: PositiveInt
    """How many trials to run, failed and pruned ones among them."""
    direction: Literal["minimize", "maximize"] = "minimize"
    """What the best value is: the least or the largest."""
    sampler: Literal["tpe", "random", "grid", "gp"] = "tpe"
    """What chooses the next point: a Parzen estimator, chance, each point of a grid in turn, or a Gaussian process."""
    in_flight: PositiveInt = 2
    """How many trials run at a time, at the most; the more, the less each one knows of the others."""
    trial_runtime: Duration | None = None
    """Wall-clock limit of each trial; a longer one of the workflow is cut to it."""
    seed: NonNegativeInt = 0
    """Of the sampler."""
    start: tuple[dict[str, Any], ...] = ()
    """Parameters to try first; those that a table leaves out are chosen by the sampler."""
    pruner: Literal["none", "median", "successive-halving"] = "none"
    """What gives up a trial that reports worse values than others did at the same step."""
    warmup_trials: PositiveInt = 5
    """Pruning: how many trials must have succeeded before one is given up."""
    warmup_steps: PositiveInt = 1
    """Pruning: the first step at which a trial may be given up."""
    reduction_factor: int = Field(default=4, ge=2)
    """Successive halving: one of so many trials goes on, for so many times the steps."""
    outputs: dict[str, str] = Field(default=OUTPUTS)
    """What to leave, and where: any of trials, best, study, history."""

    @field_validator("space")
    @classmethod
    def _is_searchable(cls, space: dict[str, Any]) -> dict[str, Any]:
        read_space(space)
        return space

    @field_validator("sampler")
    @classmethod
    def _suits_the_space(cls, sampler: str, info: ValidationInfo) -> str:
        if sampler == "grid" and "space" in info.data:
            problem = grid_problem(read_space(info.data["space"]))
            if problem:
                raise ValueError(problem)
        return sampler

    @field_validator("start")
    @classmethod
    def _starts_inside(cls, start: tuple[dict[str, Any], ...], info: ValidationInfo) -> tuple[dict[str, Any], ...]:
        if "space" not in info.data:
            return start
        space, problems = read_space(info.data["space"]), []
        points: list[Point] = []
        for number, table in enumerate(start):
            try:
                point = read_point(table, space)
                if point in points:
                    raise ValueError(f"the same as table {points.index(point)}")
                points.append(point)
            except ValueError as error:
                problems.append(f"table {number}: {error}")
        if problems:
            raise ValueError("; ".join(problems))
        trials = info.data.get("trials", len(start))
        if len(start) > trials:
            raise ValueError(f"{len(start)} tables for {trials} trials")
        return start

    @field_validator("outputs")
    @classmethod
    def _are_written(cls, outputs: dict[str, str]) -> dict[str, str]:
        unknown = [f"{name!r}{suggest(name, OUTPUTS)}" for name in outputs if name not in OUTPUTS]
        if unknown:
            raise ValueError(f"a search does not write {', '.join(unknown)}; it writes: {listed(OUTPUTS)}")
        return outputs

    @model_validator(mode="after")
    def _has_optuna(self) -> Self:
        if find_spec("optuna") is None:
            raise ValueError('optimize needs optuna: pip install "socm-like[optimize]"')
        return self

    def estimate(self, context: EstimateContext) -> Resources:  # noqa: ARG002 - the same on every machine
        """Return what writing the tables and the plot takes; the trials have estimates of their own."""
        return Resources(memory=MEMORY, runtime=timedelta(minutes=10))

    def extend(self, history: History) -> Sequence[Workflow]:
        """Return as many new trials as there is room for, having told the study how the others ended.

        Raises ValueError when the driven workflow refuses a table of ``start``, or every point that is tried.
        """
        from socm_workflows.optimize import proposal, study  # noqa: PLC0415

        suggest_point: proposal.Suggest | None = None
        if self.sampler == "gp":
            from socm_workflows.optimize.gp_sampler import suggest_gp as suggest_point  # noqa: PLC0415
        elif self.sampler != "grid":
            suggest_point = proposal.suggest_tpe if self.sampler == "tpe" else proposal.suggest_random
        aim = study.Aim(read_space(self.space), self.metric, self.direction)
        start = [read_point(table, aim.space) for table in self.start]
        plan = proposal.Plan(self.trials, self.in_flight, self.seed, start, suggest_point)
        with study.open_study(self._study_file(history.directory), aim, history) as record:
            asked = proposal.ask(record, aim, history, plan)
        return tuple(map(self._limited, asked))

    def probes(self) -> Sequence[Mapping[str, Any]]:
        """Return two corners of the space, and the complete tables of ``start``."""
        space = read_space(self.space)
        complete = [point for table in self.start if (point := read_point(table, space)).keys() == space.keys()]
        return [{name: axis.end(last=last) for name, axis in space.items()} for last in (False, True)] + complete

    def stops(self, history: History) -> Sequence[int]:
        """Return the indexes of running trials that the pruner has given up, also those of earlier calls."""
        if self.pruner == "none" or not any(trial.steps and not trial.state.is_final for trial in history.trials):
            return ()
        from socm_workflows.optimize import study  # noqa: PLC0415

        aim = study.Aim(read_space(self.space), self.metric, self.direction)
        pruning = study.Pruning(self.pruner, self.warmup_trials, self.warmup_steps, self.reduction_factor)
        with study.open_study(self._study_file(history.directory), aim, history) as record:
            return tuple(study.decide_stops(record, pruning, history.trials))

    def run(self, directory: Path) -> Result:
        """Write the outputs from what the runner left in ``trials.json``.

        Raises ValueError with the first reasons when no trial succeeded.
        """
        from socm_workflows.optimize import plot, summary  # noqa: PLC0415

        names = tuple(read_space(self.space))
        found = summary.read_summary(
            directory / "trials.json", names=names, metric=self.metric, direction=self.direction
        )
        metrics = found.metrics()
        writers = {"trials": summary.write_trials, "best": summary.write_best, "history": plot.draw_history}
        for name, write in writers.items():
            if name in self.outputs:
                write(found, directory / self.outputs[name])
        return Result(metrics=metrics)

    def _study_file(self, directory: Path) -> Path:
        path = directory / self.outputs.get("study", OUTPUTS["study"])
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _limited(self, trial: Workflow) -> Workflow:
        limits = [limit for limit in (self.trial_runtime, trial.resources.runtime) if limit is not None]
        if self.trial_runtime is None:
            return trial
        return trial.model_copy(update={"resources": trial.resources.model_copy(update={"runtime": min(limits)})})
