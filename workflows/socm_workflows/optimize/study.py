"""The record of a search: an Optuna study in a file, kept in step with the history of the run.

Trial ``k`` of the study is trial ``k`` of the history. The run is the truth: what the study lacks is added from it, and
a study that contradicts it is written anew. What the study has beyond it was asked for when the runner died, before
that was on record; it is asked for again.
"""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from socm_like.workflow import History, Trial, Workflow
from socm_workflows.optimize.outcome import Outcome, Verdict, judge
from socm_workflows.optimize.space import Axis, Choices, Point, Space, find_parameter

NAME = "search"
"""Of the study in its file."""
STOPPED = "stopped"
"""User attribute of a trial that the pruner has given up."""
REASON = "reason"
"""User attribute of a trial that failed."""
LOCK_PATIENCE = 3
"""Seconds after which a lock counts as left behind by a process that died; the runner is the only writer."""

_STATES = {
    Verdict.RUNNING: TrialState.RUNNING,
    Verdict.COMPLETE: TrialState.COMPLETE,
    Verdict.PRUNED: TrialState.PRUNED,
    Verdict.FAILED: TrialState.FAIL,
}


@dataclass(frozen=True, slots=True)
class Aim:
    """What is sought, and where."""

    space: Space
    metric: str
    direction: Literal["minimize", "maximize"]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The space as Optuna has it."""
        return {name: _distribution(axis) for name, axis in self.space.items()}


@dataclass(frozen=True, slots=True)
class Pruning:
    """When to give a trial up."""

    pruner: str
    """``none``, ``median`` or ``successive-halving``."""
    warmup_trials: int
    """Trials that must have succeeded first."""
    warmup_steps: int
    """Steps every trial may make."""
    reduction_factor: int
    """Of successive halving: one of so many goes on to the next rung."""

    def make(self) -> BasePruner:
        """Return Optuna's pruner."""
        if self.pruner == "median":
            return MedianPruner(n_startup_trials=self.warmup_trials, n_warmup_steps=self.warmup_steps)
        if self.pruner == "successive-halving":
            return SuccessiveHalvingPruner(min_resource=self.warmup_steps, reduction_factor=self.reduction_factor)
        return NopPruner()


class _File(BaseJournalBackend):
    """Optuna's journal format, read once and appended to once: what is logged in between goes to disk together."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._logs = _read_lines(path)
        self._written = len(self._logs)

    def read_logs(self, log_number_from: int) -> Sequence[dict[str, Any]]:
        """Return the operations from one on."""
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add operations; :meth:`flush` writes them."""
        self._logs += json.loads(json.dumps(logs))

    def flush(self) -> None:
        """Write what has been added, durably."""
        lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in self._logs[self._written :]]
        if lines:
            with self._path.open("ab") as file:
                file.write("".join(lines).encode())
                file.flush()
                os.fsync(file.fileno())
            self._written = len(self._logs)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the operations in a file, and cut it where they end: behind a line that a crash tore."""
    logs: list[dict[str, Any]] = []
    content = path.read_bytes() if path.exists() else b""
    end = 0
    for line in content.splitlines(keepends=True):
        try:
            log = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            log = None
        if not isinstance(log, dict) or "op_code" not in log:
            break
        logs.append(log)
        end += len(line)
    if end < len(content):
        os.truncate(path, end)
    return logs


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from writing log messages and warnings for as long as this lasts."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def open_study(path: Path, aim: Aim, history: History) -> Iterator[optuna.Study]:
    """Yield the study in a file, made if need be and brought up to the history.

    What is done to it is written at the end, and nothing of it after an exception.
    """
    with quiet():
        lock = JournalFileOpenLock(str(path), grace_period=LOCK_PATIENCE)
        lock.acquire()
        try:
            file = _File(path)
            study = _load(file, aim)
            if study is None or not _agrees(study, aim, history):
                path.unlink(missing_ok=True)
                file = _File(path)
                study = _create(file, aim)
            _catch_up(study, aim, history)
            yield study
            file.flush()
        finally:
            lock.release()


def add_asked(study: optuna.Study, aim: Aim, point: Point) -> None:
    """Add a trial that is asked for: one line of the file, so that a crash leaves all of it or nothing."""
    study.add_trial(_make_trial(Outcome(Verdict.RUNNING), point, aim))


def decide_stops(study: optuna.Study, pruning: Pruning, trials: Sequence[Trial]) -> list[int]:
    """Report the new steps of every running trial, and return the indexes of those given up, now or before."""
    pruner = pruning.make()
    stopped = []
    with quiet():
        complete = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        for index, trial in enumerate(trials):
            if trial.state.is_final or study.get_trials(deepcopy=False)[index].state.is_finished():
                continue
            if _is_stopped(study, index, trial, pruner, decides=complete >= pruning.warmup_trials):
                stopped.append(index)
    return stopped


def _is_stopped(study: optuna.Study, index: int, trial: Trial, pruner: BasePruner, *, decides: bool) -> bool:
    """Report the new steps one by one, as the pruner looks at the last one only."""
    storage, identifier = study._storage, study.get_trials(deepcopy=False)[index]._trial_id
    known = storage.get_trial(identifier)
    if STOPPED in known.user_attrs:
        return True
    for step, value in sorted(trial.steps):
        if step in known.intermediate_values:
            continue
        storage.set_trial_intermediate_value(identifier, step, float(value))
        if pruner.prune(study, storage.get_trial(identifier)) and decides:
            storage.set_trial_user_attr(identifier, STOPPED, step)
            return True
    return False


def _load(file: _File, aim: Aim) -> optuna.Study | None:
    try:
        study = optuna.load_study(study_name=NAME, storage=JournalStorage(file))
    except (KeyError, ValueError, TypeError, AssertionError):  # not there, or not what Optuna writes
        return None
    return study if study.direction.name.lower() == aim.direction else None


def _create(file: _File, aim: Aim) -> optuna.Study:
    return optuna.create_study(study_name=NAME, storage=JournalStorage(file), direction=aim.direction)


def _agrees(study: optuna.Study, aim: Aim, history: History) -> bool:
    """Whether the study searches this space, and its trials are the ones that were run."""
    known = study.get_trials(deepcopy=False)
    distributions = aim.distributions
    if any(trial.distributions != distributions for trial in known):
        return False
    return all(
        _is_of(frozen, trial, aim) and _same(trial, frozen.params, history.make)
        for trial, frozen in zip(history.trials, known, strict=False)
    )


def _is_of(frozen: FrozenTrial, trial: Trial, aim: Aim) -> bool:
    """Whether what was told of a trial still holds: one that was lost may turn up after all."""
    verdict = judge(trial.state, trial.metrics, trial.reason, aim.metric).verdict
    return not frozen.state.is_finished() or frozen.state is _STATES[verdict]


def _same(trial: Trial, point: Mapping[str, Any], make: Callable[[Mapping[str, Any]], Workflow]) -> bool:
    fields = trial.parameters
    if all(find_parameter(fields, name) == value for name, value in point.items()):
        return True
    try:  # the kind may write a value otherwise: a path in full, a time in seconds
        return make(point).own_fields() == fields
    except ValueError:
        return False


def _catch_up(study: optuna.Study, aim: Aim, history: History) -> None:
    known = study.get_trials(deepcopy=False)
    for index, trial in enumerate(history.trials):
        outcome = judge(trial.state, trial.metrics, trial.reason, aim.metric)
        if index >= len(known):
            study.add_trial(_make_trial(outcome, read_parameters(trial, aim.space, history.make), aim, trial.steps))
        elif not known[index].state.is_finished() and outcome.verdict is not Verdict.RUNNING:
            _tell(study, known[index], outcome, trial.steps)


def _tell(study: optuna.Study, known: FrozenTrial, outcome: Outcome, steps: Sequence[tuple[int, float]]) -> None:
    storage = study._storage
    for step, value in sorted(steps):
        if step not in known.intermediate_values:
            storage.set_trial_intermediate_value(known._trial_id, step, float(value))
    if outcome.reason:
        storage.set_trial_user_attr(known._trial_id, REASON, outcome.reason)
    study.tell(known.number, outcome.value, state=_STATES[outcome.verdict])


def _make_trial(
    outcome: Outcome, point: Point, aim: Aim, steps: Sequence[tuple[int, float]] = ()
) -> optuna.trial.FrozenTrial:
    last = steps[-1][1] if outcome.verdict is Verdict.PRUNED and steps else None
    return optuna.trial.create_trial(
        state=_STATES[outcome.verdict],
        value=last if last is not None and math.isfinite(last) else outcome.value,
        params=point,
        distributions=aim.distributions,
        user_attrs={REASON: outcome.reason} if outcome.reason else {},
        intermediate_values={step: float(value) for step, value in steps},
    )


def read_parameters(trial: Trial, space: Space, make: Callable[[Mapping[str, Any]], Workflow]) -> Point:
    """Return the point of a space that a workflow was made from.

    A kind may write a value otherwise than it was given; then the choice is the one that gives the same workflow, and a
    number the nearest one of its range.
    """
    fields = trial.parameters
    found = {name: find_parameter(fields, name) for name in space}
    point = {name: _place(axis, found[name]) for name, axis in space.items()}
    for name, axis in space.items():
        if isinstance(axis, Choices) and found[name] not in axis.options:
            for option in axis.options:
                if _gives({**point, name: option}, name, found[name], make):
                    point[name] = option
    return point


def _place(axis: Axis, value: Any) -> Any:
    if isinstance(axis, Choices):
        return axis.options[axis.options.index(value) if value in axis.options else 0]
    return axis.nearest(value) if isinstance(value, int | float) else axis.low


def _gives(point: Point, name: str, value: Any, make: Callable[[Mapping[str, Any]], Workflow]) -> bool:
    try:
        return bool(find_parameter(make(point).own_fields(), name) == value)
    except ValueError:
        return False


def _distribution(axis: Axis) -> BaseDistribution:
    if isinstance(axis, Choices):
        return CategoricalDistribution(axis.options)
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log, step=int(axis.step or 1))
    return FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)
