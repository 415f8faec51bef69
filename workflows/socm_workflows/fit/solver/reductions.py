"""Which reduction a fit gets, and by which methods: chosen from points, model, weights and strategy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from socm_workflows.fit.solver.accumulation import Method
from socm_workflows.fit.solver.case import Case, check_model, make_formula
from socm_workflows.fit.solver.formula import Formula, ModelFunction, points_of
from socm_workflows.fit.solver.iteration import Reduction
from socm_workflows.fit.solver.least_squares import Tolerances
from socm_workflows.fit.solver.options import Options
from socm_workflows.fit.solver.passes import PIECE, ArraySource, BlockPasses, BlockSource
from socm_workflows.fit.solver.pointwise import is_pointwise
from socm_workflows.fit.solver.resident import Resident, bucket_of, pack_numbers, padded

Floats = NDArray[np.float64]

FEW_POINTS = 256
"""Up to here QR costs no more than sums do, and bears any condition."""
MOST_RESIDENT = 2**17
"""Points beyond which passes over pieces, by several threads and without a copy, are faster than one program."""
PREDICTED = 2**20
"""Points at which the model is evaluated at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A fit whose data are ready to be passed over."""

    formula: Formula
    reduction: Reduction
    methods: tuple[Method, ...]
    """The first one, and the one to go on with where that is not accurate enough."""
    x: Floats | None
    """None where the data come from a source."""
    count: int | None
    """Points; None where a source is still to be counted."""

    def points(self) -> int:
        """Return the number of points."""
        if self.count is None and isinstance(self.reduction, BlockPasses):
            return self.reduction.count or 0
        return self.count or 0

    def sample(self) -> Floats | None:
        """Return x if it is at hand."""
        return self.x

    def predictor(self, parameters: Floats) -> Callable[[], Floats]:
        """Return what gives the model at parameters."""
        return partial(predict, self.formula.model, self.x, parameters)


def predict(model: ModelFunction, x: Floats | None, parameters: Floats) -> Floats:
    """Return the model at all points, (n,).

    Raises ValueError: the points are not at hand.
    """
    if x is None:
        raise ValueError("the data came from a source and are not kept: evaluate the model at the points you want")
    if x.shape[-1] <= PREDICTED or not treats_points_apart(model, 1 if x.ndim == 1 else len(x), parameters.size):
        return np.asarray(model(jnp.asarray(x), *parameters))
    cuts = range(0, x.shape[-1], PREDICTED)
    return np.concatenate([np.asarray(model(jnp.asarray(x[..., at : at + PREDICTED]), *parameters)) for at in cuts])


@lru_cache(maxsize=1024)
def treats_points_apart(model: ModelFunction, rows: int, size: int) -> bool:
    """Return whether a model is pointwise; remembered, because tracing costs milliseconds."""
    return is_pointwise(model, rows, size)


def prepare(model: ModelFunction, case: Case, tolerances: Tolerances, options: Options) -> Prepared:
    """Return how a case that can begin is fitted.

    Raises ValueError: the strategy does not go with the model or with sigma; or see ``make_formula``.
    """
    count, size = case.y.size, case.start.size
    formula = make_formula(model, case.x.shape, size, jac=options.jac, loss=options.loss)
    is_apart = case.sigma is None or case.sigma.ndim == 1
    is_apart = is_apart and treats_points_apart(model, 1 if case.x.ndim == 1 else len(case.x), size)
    if options.strategy != "standard":
        if not is_apart:
            raise ValueError(
                f'strategy = "{options.strategy}" needs a model that gives each point its value from that point alone, '
                'and a sigma for each point; use strategy = "standard"'
            )
        source = ArraySource(case.x, case.y, case.sigma, options.chunk_points or PIECE)
        return _by_passes(formula, case, source, tolerances, options)
    if is_apart and count > MOST_RESIDENT:
        return _by_passes(formula, case, ArraySource(case.x, case.y, case.sigma), tolerances, options)
    length = bucket_of(count) if is_apart else count
    is_whole = case.sigma is None or case.sigma.ndim == 2
    sigma = case.sigma if case.sigma is None or is_whole else padded(case.sigma, length)
    points = points_of(padded(case.x, length), padded(case.y, length), sigma)
    told = pack_numbers(
        case.lower, case.upper, tolerances, f_scale=options.f_scale, count=count,
        turns=np.inf if options.callback is None else 1,
    )  # fmt: skip
    squares = is_apart and count > FEW_POINTS
    methods = (Method.GRAM, Method.REFINED) if squares else (Method.QR,)
    return Prepared(formula, Resident(formula, points, told), methods, case.x, count)


def prepare_source(
    model: ModelFunction, case: Case, source: BlockSource, tolerances: Tolerances, options: Options
) -> Prepared:
    """Return how the data of a source are fitted; those of the case are empty.

    Raises ValueError: the model does not treat each point by itself, is no model, or see ``make_formula``.
    """
    shape = (PIECE,) if source.k == 1 else (source.k, PIECE)
    check_model(model, shape, case.start.size)
    if not treats_points_apart(model, source.k, case.start.size):
        raise ValueError("a source needs a model that gives each point its value from that point alone")
    formula = make_formula(model, shape, case.start.size, jac=options.jac, loss=options.loss)
    return _by_passes(formula, case, source, tolerances, options)


def _by_passes(formula: Formula, case: Case, source: BlockSource, tolerances: Tolerances, options: Options) -> Prepared:
    told = pack_numbers(case.lower, case.upper, tolerances, f_scale=options.f_scale, count=PIECE)
    is_at_hand = isinstance(source, ArraySource) and source.x is case.x
    passes = BlockPasses(formula, source, told)
    return Prepared(formula, passes, (Method.GRAM, Method.REFINED), case.x if is_at_hand else None, source.n)
