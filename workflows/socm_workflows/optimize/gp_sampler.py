"""Where a Gaussian process expects the largest improvement: the sampler ``gp``, for up to a few hundred trials.

Trials in flight count as if they had given the best value so far (the constant liar CL-min of Ginsbourger, Le Riche &
Carraro 2010, *Kriging is well-suited to parallelize optimization*, section 4.3), those that failed or were pruned as
the worst one, so that the search turns away from them. Neither shapes the lengths of the process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import qmc

from socm_workflows.optimize.gp import Floats, condition, fit_process, log_expected_improvement
from socm_workflows.optimize.space import Choices, Point, Range, Space, from_unit, to_unit
from socm_workflows.optimize.study import Aim

MAX_TRIALS = 300
"""Of more trials the best third and the latest are taken."""
CANDIDATES_LOG2 = 9
"""Points of a Sobol sequence at which the improvement is looked at: 2 to this power."""
LEADERS = 4
"""How many of the best points are looked at more closely, round after round."""
NEARBY = 24
"""Points around each of them, per round."""
SPREADS = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
"""Standard deviation of their distance in each round, in widths of a range."""
SWITCH = 0.2
"""How likely a point nearby has another choice."""


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    """What the process is conditioned on."""

    x: Floats
    """(n, d)."""
    y: Floats
    """(n,): standardised, to be minimised."""
    measured: int
    """How many come first that were measured; of the others it is made believe."""
    incumbent: Point
    """Where the least y was measured."""


def suggest_gp(trials: Sequence[FrozenTrial], aim: Aim, given: Point, seed: int) -> Point:
    """Return the point of the largest expected improvement; a random one while there are too few values to model."""
    generator = np.random.default_rng(seed)
    values = [trial.value for trial in trials if trial.state is TrialState.COMPLETE]
    if len(values) < max(5, 2 * len(aim.space)) or len(set(values)) < 2:
        return {**_point(aim.space, generator.random(len(aim.space))), **given}
    data = _collect(trials, aim)
    theta = fit_process(data.x[: data.measured], data.y[: data.measured])
    process = condition(data.x, data.y, theta)
    tried = {_key(trial.params, aim.space) for trial in trials}

    def best_of(points: Sequence[Point]) -> list[Point]:
        """Return those of the largest improvement, the best first, none of which was tried."""
        fresh = [point for point in points if _key(point, aim.space) not in tried] or points
        encoded = np.array([_encode(point, aim.space) for point in fresh])
        order = np.argsort(-log_expected_improvement(process, float(data.y.min()), encoded), kind="stable")
        return [fresh[int(index)] for index in order[:LEADERS]]

    sobol = qmc.Sobol(len(aim.space), rng=generator).random_base2(CANDIDATES_LOG2)
    leaders = [{**data.incumbent, **given}, *best_of([{**_point(aim.space, position), **given} for position in sobol])]
    for spread in SPREADS:
        around = [{**point, **given} for leader in leaders for point in _nearby(leader, aim.space, spread, generator)]
        leaders = best_of([*leaders, *around])
    return leaders[0]


def _collect(trials: Sequence[FrozenTrial], aim: Aim) -> _Data:
    sign = 1.0 if aim.direction == "minimize" else -1.0
    complete = [(sign * trial.value, trial) for trial in trials if trial.value is not None and _is_complete(trial)]
    if len(complete) > MAX_TRIALS:
        ranked = sorted(complete, key=lambda pair: pair[0])[: MAX_TRIALS // 3]
        numbers = {trial.number for _, trial in ranked}
        others = [pair for pair in complete if pair[1].number not in numbers]
        complete = ranked + others[-(MAX_TRIALS - len(ranked)) :]
    believed = [trial for trial in trials if not _is_complete(trial)][-MAX_TRIALS:]
    y = _standardised(np.array([value for value, _ in complete]))
    told = [float(y.min() if trial.state is TrialState.RUNNING else y.max()) for trial in believed]
    points = [trial.params for trial in (*(trial for _, trial in complete), *believed)]
    x = np.array([_encode(point, aim.space) for point in points])
    return _Data(x, np.r_[y, told], len(complete), dict(points[int(np.argmin(y))]))


def _standardised(values: Floats) -> Floats:
    """Return values with mean 0 and variance 1, after what lies far above the others has been cut down.

    A trial that diverged (1e30 among numbers of order 1) would leave no difference between the good ones.
    """
    scaled = values / max(float(np.abs(values).max()), 1e-300)
    least, upper = float(scaled.min()), float(np.quantile(scaled, 0.75))
    cut = np.minimum(scaled, upper + 3 * (upper - least))
    return np.asarray((cut - cut.mean()) / (cut.std() or 1.0))


def _is_complete(trial: FrozenTrial) -> bool:
    return trial.state is TrialState.COMPLETE


def _nearby(center: Point, space: Space, spread: float, generator: np.random.Generator) -> list[Point]:
    """Return points scattered around one."""
    points: list[Point] = []
    for _ in range(NEARBY):
        point = dict(center)
        for name, axis in space.items():
            if isinstance(axis, Range):
                moved = to_unit(axis, center[name]) + generator.normal(0.0, spread)
                point[name] = from_unit(axis, min(max(float(moved), 0.0), 1.0))
            elif generator.random() < SWITCH:
                point[name] = from_unit(axis, float(generator.random()))
        points.append(point)
    return points


def _encode(point: Point, space: Space) -> list[float]:
    """Return a point's coordinates: one per range; one per option of a choice, two of them at distance 1."""
    encoded: list[float] = []
    for name, axis in space.items():
        if isinstance(axis, Choices):
            encoded += [math.sqrt(0.5) * (option == point[name]) for option in axis.options]
        else:
            encoded.append(to_unit(axis, point[name]))
    return encoded


def _point(space: Space, position: Sequence[float] | Floats) -> Point:
    return {name: from_unit(axis, float(u)) for (name, axis), u in zip(space.items(), position, strict=True)}


def _key(point: Point, space: Space) -> tuple[object, ...]:
    return tuple(point[name] for name in space)
