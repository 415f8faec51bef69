"""Which point to try next: what a sampler suggests, unless it was tried before or the driven workflow refuses it.

A proposal depends on the trials so far, the seed and the number of the trial, and on nothing that dies with a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial

from socm_like.workflow import History, Workflow
from socm_workflows.optimize.outcome import Verdict, judge
from socm_workflows.optimize.space import Point, Space, Value, count_points, every_point, from_unit
from socm_workflows.optimize.study import Aim, add_asked, quiet

SAMPLER_TRIES = 3
"""How often a sampler is asked for a point that is new; then points are drawn at random."""
RANDOM_TRIES = 1000
"""How often a point is drawn at random before the search gives up."""
FEW = 10_000
"""Up to this many points of a finite space are counted out rather than drawn."""

Key = tuple[Value, ...]
Suggest = Callable[[Sequence[FrozenTrial], Aim, Point, int], Point]
"""Takes the trials so far, what is sought, the values that are given, and a seed; returns the whole point."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search goes about it."""

    trials: int
    """In all."""
    in_flight: int
    """At a time."""
    seed: int
    start: Sequence[Point]
    """What the first trials are given."""
    suggest: Suggest | None
    """The sampler; None for the points of a finite space in order."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for as the next trial."""

    trials: Sequence[FrozenTrial]
    """All trials so far, those in flight among them; the next one has the number after theirs."""
    aim: Aim
    given: Point
    """The values that are not to be chosen."""
    seed: int

    @property
    def is_answered(self) -> bool:
        """Whether nothing is left to choose."""
        return self.given.keys() == self.aim.space.keys()

    def seed_of(self, attempt: int) -> int:
        """Return a seed of its own for each trial and attempt."""
        return int(np.random.SeedSequence((self.seed, len(self.trials), attempt)).generate_state(1)[0])


@dataclass(frozen=True, slots=True)
class Proposal:
    """A point, and the workflow that tries it."""

    point: Point
    workflow: Workflow


def ask(study: optuna.Study, aim: Aim, history: History, plan: Plan) -> list[Workflow]:
    """Return the workflows to run beside those in flight, and add to the study those that are new to it.

    What the study has beyond the history comes first: it was asked for, but the runner died before it knew.
    Raises ValueError when the driven workflow refuses what it must take.
    """
    verdicts = [judge(trial.state, trial.metrics, trial.reason, aim.metric).verdict for trial in history.trials]
    room = plan.in_flight - verdicts.count(Verdict.RUNNING)
    trials = study.get_trials(deepcopy=False)
    workflows = [_make(trial.params, history.make) for trial in trials[len(verdicts) :][: max(room, 0)]]
    while len(workflows) < room and len(trials) < plan.trials:
        given = plan.start[len(trials)] if len(trials) < len(plan.start) else {}
        proposal = propose(Question(trials, aim, given, plan.seed), plan.suggest, history.make)
        if proposal is None:
            break
        add_asked(study, aim, proposal.point)
        workflows.append(proposal.workflow)
        trials = study.get_trials(deepcopy=False)
    return workflows


def propose(
    question: Question, suggest: Suggest | None, make: Callable[[Mapping[str, Value]], Workflow]
) -> Proposal | None:
    """Return the first candidate that is new and that the driven workflow takes; None where no point is left.

    Without ``suggest`` the points of a finite space are gone through in order.
    Raises ValueError with the workflow's reason when it refuses the values that are given, or everything.
    """
    space = question.aim.space
    tried = {_key(trial.params, space) for trial in question.trials}
    if question.is_answered and _key(question.given, space) not in tried:
        return Proposal(question.given, _make(question.given, make))
    refusal: ValueError | None = None
    for point in _candidates(question, suggest, tried):
        key = _key(point, space)
        if key in tried:
            continue
        try:
            return Proposal(point, _make(point, make))
        except ValueError as error:
            refusal = refusal or error
            tried.add(key)
    count = count_points(space)
    is_counted_out = count is not None and len(tried) >= count
    if refusal is not None and not (is_counted_out and question.trials):
        raise refusal
    return None


def suggest_random(trials: Sequence[FrozenTrial], aim: Aim, given: Point, seed: int) -> Point:  # noqa: ARG001 - Suggest
    """Return a point drawn uniformly, along the logarithm where the scale is."""
    return _draw(aim.space, given, np.random.default_rng(seed))


def suggest_tpe(trials: Sequence[FrozenTrial], aim: Aim, given: Point, seed: int) -> Point:
    """Return what Optuna's tree-structured Parzen estimator suggests; trials in flight count as bad ones."""
    with quiet():
        study = optuna.create_study(direction=aim.direction, sampler=TPESampler(seed=seed, constant_liar=True))
        study.add_trials(trials)
        if given:
            study.enqueue_trial(given)
        return study.ask(aim.distributions).params


def _candidates(question: Question, suggest: Suggest | None, tried: set[Key]) -> Iterator[Point]:
    """Return points to try, those with the given values first; not all of them are new."""
    space = question.aim.space
    given = {} if question.is_answered else question.given
    if suggest is None:
        return chain(_matching(space, given), every_point(space))
    suggested = (
        suggest(question.trials, question.aim, given, question.seed_of(attempt)) for attempt in range(SAMPLER_TRIES)
    )
    generator = np.random.default_rng(question.seed_of(SAMPLER_TRIES))
    count = count_points(space)
    if count is None or count > FEW:
        return chain(suggested, (_draw(space, given, generator) for _ in range(RANDOM_TRIES)))
    return chain(suggested, _shuffled(space, given, tried, generator), _shuffled(space, {}, tried, generator))


def _shuffled(space: Space, given: Point, tried: set[Key], generator: np.random.Generator) -> Iterator[Point]:
    points = [point for point in _matching(space, given) if _key(point, space) not in tried]
    for index in generator.permutation(len(points)):
        yield points[index]


def _matching(space: Space, given: Point) -> Iterator[Point]:
    return (point for point in every_point(space) if point.items() >= given.items())


def _draw(space: Space, given: Point, generator: np.random.Generator) -> Point:
    drawn = {name: from_unit(axis, float(generator.random())) for name, axis in space.items()}
    return {**drawn, **given}


def _key(point: Mapping[str, Value], space: Space) -> Key:
    return tuple(point[name] for name in space)


def _make(point: Point, make: Callable[[Mapping[str, Value]], Workflow]) -> Workflow:
    try:
        return make(point)
    except ValueError as error:
        raise ValueError(f"the driven workflow refuses {point}: {error}") from error
