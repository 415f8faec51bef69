"""The answer of a fit depends on neither where its data are nor how they are cut; fits go on after an interruption."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import Array
from numpy.typing import NDArray
from socm_workflows.fit.solver import passes, reductions, resident
from socm_workflows.fit.solver.formula import ModelFunction
from socm_workflows.fit.solver.iteration import Progress
from socm_workflows.fit.solver.least_squares import Stop, Tolerances
from socm_workflows.fit.solver.options import Strategy
from socm_workflows.fit.solver.passes import ArraySource, Block
from socm_workflows.fit.solver.solution import Solution, solve

Floats = NDArray[np.float64]

NAMES = ("amplitude", "rate", "offset")
START = (2.0, 1.0, 0.3)


def decay(x: Array, amplitude: Array, rate: Array, offset: Array) -> Array:
    return amplitude * jnp.exp(-rate * x) + offset


def data_of(count: int, noise: float, seed: int = 5) -> tuple[Floats, Floats]:
    x = np.linspace(0, 5, count)
    return x, 2.5 * np.exp(-1.3 * x) + 0.5 + noise * np.random.default_rng(seed).normal(size=count)


class Cuts:
    """A source that gives its points in blocks of the lengths asked for, again and again."""

    def __init__(self, x: Floats, y: Floats, sigma: Floats | None, lengths: list[int]) -> None:
        self._arrays = (x, y, sigma)
        self._lengths = lengths

    @property
    def n(self) -> int | None:
        return None

    @property
    def k(self) -> int:
        return 1 if self._arrays[0].ndim == 1 else len(self._arrays[0])

    def blocks(self) -> Iterator[Block]:
        x, y, sigma = self._arrays
        begin = turn = 0
        while begin < y.size:
            end = begin + self._lengths[turn % len(self._lengths)]
            yield x[..., begin:end].copy(), y[begin:end].copy(), None if sigma is None else sigma[begin:end].copy()
            begin, turn = end, turn + 1


def assert_same(found: Solution, standard: Solution) -> None:
    """1e-6 standard errors, and the covariance to 1e-6."""
    assert (found.converged, found.at_bound) == (standard.converged, standard.at_bound)
    assert standard.covariance is not None
    assert found.covariance is not None
    errors = np.sqrt(np.diag(standard.covariance))
    free = np.isfinite(errors)
    assert np.max(np.abs(found.parameters - standard.parameters)[free] / errors[free]) < 1e-6
    np.testing.assert_array_equal(found.parameters[~free], standard.parameters[~free])
    np.testing.assert_allclose(found.covariance, standard.covariance, rtol=1e-6)
    np.testing.assert_allclose(found.rss, standard.rss, rtol=1e-9)
    assert (found.points, found.degrees_of_freedom) == (standard.points, standard.degrees_of_freedom)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sigma": {"sigma": True, "absolute_sigma": True},
    "bound": {"upper": [2.3, np.inf, np.inf]},
    "bounds": {"lower": [-np.inf, 1.5, 0.6], "start": (2.0, 1.6, 0.7)},
    "robust": {"loss": "soft_l1", "f_scale": 0.1},
    "sandwich": {"loss": "cauchy", "f_scale": 2.0, "covariance": "sandwich"},
}


@settings(max_examples=12, deadline=None)
@given(
    noise=st.sampled_from([1e-6, 0.05, 1.0, 3.0]),
    chunks=st.integers(1, 1000),
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=4),
)
@pytest.mark.parametrize("case", OPTIONS)
def test_the_answer_does_not_depend_on_the_strategy(case: str, noise: float, chunks: int, lengths: list[int]) -> None:
    x, y = data_of(5000, noise)
    options = {"start": START, "names": NAMES, **OPTIONS[case]}
    sigma = np.where(np.arange(x.size) % 3, 0.1, 0.3) * noise if options.pop("sigma", False) else None
    start = options.pop("start")
    standard = solve(decay, x, y, start, sigma=sigma, **options)
    if noise <= 1:
        assert standard.converged
    if not standard.converged or standard.covariance is None:
        return
    size = -(-x.size // chunks)
    assert_same(solve(decay, x, y, start, sigma=sigma, strategy="chunked", chunk_points=size, **options), standard)
    assert_same(solve(decay, None, None, start, source=Cuts(x, y, sigma, lengths), **options), standard)


def test_an_active_bound_is_held_and_said_in_every_strategy() -> None:
    x, y = data_of(5000, 0.05)
    for strategy in get_args(Strategy):
        found = solve(decay, x, y, START, names=NAMES, upper=[2.3, np.inf, np.inf], strategy=strategy)
        assert found.parameters[0] == 2.3
        assert found.at_bound == ("amplitude",)
        assert found.degrees_of_freedom == 5000 - 2


@pytest.mark.parametrize("count", [reductions.MOST_RESIDENT - 1, reductions.MOST_RESIDENT + 1, 3 * passes.PIECE + 17])
def test_one_program_and_passes_over_pieces_give_one_answer(count: int) -> None:
    x, y = data_of(count, 0.05)
    standard = solve(decay, x, y, START, names=NAMES)
    assert_same(solve(decay, None, None, START, names=NAMES, source=Cuts(x, y, None, [9973])), standard)
    assert_same(
        solve(decay, x[3:], y[3:], START, names=NAMES), solve(decay, x[3:].copy(), y[3:].copy(), START, names=NAMES)
    )


def test_blocks_that_are_cut_otherwise_give_the_same_bits() -> None:
    x, y = data_of(2 * passes.PIECE + 1001, 0.3)
    first, second = (
        solve(decay, None, None, START, names=NAMES, source=Cuts(x, y, None, lengths))
        for lengths in ([777], [90001, 5])
    )
    assert first.parameters.tobytes() == second.parameters.tobytes()
    assert first.rss == second.rss


def two_decays(x: Array, a: Array, b: Array, c: Array, d: Array) -> Array:
    return a * jnp.exp(-b * x) + c * jnp.exp(-d * x)


@pytest.mark.parametrize("count", [200, 3000])
def test_columns_too_near_to_be_squared_give_the_answer_of_qr(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.linspace(0, 5, count)
    y = np.exp(-x) + np.exp(-1.05 * x) + 1e-7 * np.random.default_rng(1).normal(size=count)
    start, names = (0.9, 0.99, 1.1, 1.06), ("a", "b", "c", "d")
    refined = solve(two_decays, x, y, start, names=names, strategy="chunked", chunk_points=100)
    assert refined.accumulation == "refined"
    assert refined.condition > 1e4
    monkeypatch.setattr(reductions, "FEW_POINTS", count)
    whole = solve(two_decays, x, y, start, names=names)
    assert whole.accumulation == "qr"
    assert_same(refined, whole)


@pytest.mark.parametrize("strategy", ["standard", "chunked"])
def test_what_the_data_do_not_determine_is_said_in_every_strategy(strategy: Any) -> None:
    def sum_of_rates(x: Array, a: Array, b: Array, c: Array) -> Array:
        return a * jnp.exp(-(b + c) * x)

    x, y = data_of(2000, 0.05)
    found = solve(sum_of_rates, x, y - 0.5, (2.0, 0.5, 0.5), names=("a", "b", "c"), strategy=strategy)
    assert not found.converged
    assert found.undetermined == ("b", "c")
    assert found.reason == "not converged: the data do not determine b, c here"
    assert found.standard_errors is None


def test_running_out_of_iterations_is_said_in_every_strategy() -> None:
    x, y = data_of(2000, 0.05)
    for strategy in get_args(Strategy):
        found = solve(decay, x, y, START, names=NAMES, strategy=strategy, tolerances=Tolerances(max_iterations=2))
        assert (found.converged, found.status, found.iterations) == (False, Stop.MAX_ITERATIONS, 2)


class EndedError(Exception):
    pass


@pytest.mark.parametrize("model", [decay, two_decays])
@pytest.mark.parametrize("strategy", ["standard", "chunked"])
def test_a_fit_that_was_interrupted_goes_on_to_the_same_bits(strategy: Any, model: ModelFunction) -> None:
    x, y = data_of(3000, 0.01)
    names, start = (NAMES, START) if model is decay else (("a", "b", "c", "d"), (2.0, 1.0, 0.5, 0.1))
    options: dict[str, Any] = {"names": names, "strategy": strategy, "chunk_points": 1000}
    seen: list[Progress] = []
    whole = solve(model, x, y, start, callback=seen.append, **options)
    kept: list[str] = []

    def stop_after_three(progress: Progress) -> None:
        kept.append(json.dumps(progress.snapshot()))
        if progress.iteration == 3:
            raise EndedError

    with pytest.raises(EndedError):
        solve(model, x, y, start, callback=stop_after_three, **options)
    later: list[Progress] = []
    resumed = solve(model, x, y, start, callback=later.append, resume=json.loads(kept[-1]), **options)
    assert [p.iteration for p in later] == [p.iteration for p in seen if p.iteration > 3]
    assert [p.state.tobytes() for p in later] == [p.state.tobytes() for p in seen if p.iteration > 3]
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()
    assert (resumed.iterations, resumed.evaluations, resumed.rss) == (whole.iterations, whole.evaluations, whole.rss)


def test_who_watches_sees_the_cost_fall_and_may_end_the_fit() -> None:
    x, y = data_of(3000, 0.05)
    seen: list[Progress] = []

    def watch(progress: Progress) -> bool:
        seen.append(progress)
        return progress.iteration == 2

    found = solve(decay, x, y, START, names=NAMES, callback=watch)
    assert [progress.iteration for progress in seen] == [0, 1, 2]
    costs = [progress.cost for progress in seen]
    assert costs == sorted(costs, reverse=True)
    np.testing.assert_array_equal(found.parameters, seen[-1].parameters)
    assert (found.converged, found.status) == (False, Stop.INTERRUPTED)
    assert found.reason.startswith("not converged: ended from outside after 2 iterations at relative offset ")


def test_a_snapshot_of_another_fit_is_refused() -> None:
    x, y = data_of(300, 0.05)
    seen: list[Progress] = []
    solve(decay, x, y, START, names=NAMES, callback=seen.append)
    with pytest.raises(ValueError) as error:
        solve(two_decays, x, y, (2.0, 1.0, 0.5, 0.1), names=("a", "b", "c", "d"), resume=seen[0].snapshot())
    assert str(error.value) == "resume: the snapshot has 3 parameters, and the fit 4"
    with pytest.raises(ValueError) as error:
        solve(decay, x, y, START, names=NAMES, resume={"state": 1})
    assert str(error.value) == "resume: this is no snapshot of a fit; take one from Progress.snapshot()"


def test_a_source_that_changes_between_passes_is_found_out() -> None:
    x, y = data_of(300, 0.05)

    class Melting(Cuts):
        def blocks(self) -> Iterator[Block]:
            self._lengths = [self._lengths[0] - 1]
            yield x[: self._lengths[0]], y[: self._lengths[0]], None

    with pytest.raises(ValueError) as error:
        solve(decay, None, None, START, names=NAMES, source=Melting(x, y, None, [300]))
    assert str(error.value) == "the source gave 299 points in one pass and 298 in another; it must repeat"


def test_a_model_that_mixes_points_is_refused_where_points_are_apart() -> None:
    def centred(x: Array, a: Array, b: Array) -> Array:
        return a * (x - jnp.mean(x)) + b

    x, y = data_of(300, 0.05)
    assert solve(centred, x, y, (1.0, 1.0), names=("a", "b")).accumulation == "qr"
    with pytest.raises(ValueError, match=r'^strategy = "chunked" needs a model that gives each point its value'):
        solve(centred, x, y, (1.0, 1.0), names=("a", "b"), strategy="chunked")
    with pytest.raises(ValueError, match=r"^a source needs a model that gives each point its value"):
        solve(centred, None, None, (1.0, 1.0), names=("a", "b"), source=ArraySource(x, y))


def test_several_predictors_come_in_blocks_of_rows() -> None:
    def plane(x: Array, a: Array, b: Array, c: Array) -> Array:
        return a * x[0] + b * x[1] + c

    random = np.random.default_rng(3)
    x = random.normal(size=(2, 4000))
    y = 2 * x[0] - 3 * x[1] + 1 + 0.1 * random.normal(size=4000)
    standard = solve(plane, x, y, (0.0, 0.0, 0.0), names=("a", "b", "c"))
    np.testing.assert_allclose(standard.parameters, [2, -3, 1], atol=0.02)
    assert_same(
        solve(plane, None, None, (0.0, 0.0, 0.0), names=("a", "b", "c"), source=Cuts(x, y, None, [37])), standard
    )


def test_fits_of_another_length_and_other_numbers_compile_nothing() -> None:
    def own(x: Array, amplitude: Array, rate: Array, offset: Array) -> Array:
        return decay(x, amplitude, rate, offset)

    def programs() -> tuple[int, ...]:
        functions: tuple[Any, ...] = (resident.minimise, passes.sum_piece, passes.advance_sums, passes.place_of)
        return tuple(function._cache_size() for function in functions)

    for first, others in ((900, (1024, 600, 513)), (passes.PIECE + 1, (2 * passes.PIECE, 3 * passes.PIECE + 7))):
        solve(own, *data_of(first, 0.05), START, names=NAMES)
        there = programs()
        for count in others:
            solve(own, *data_of(count, 0.1, seed=count), (2.1, 1.1, 0.2), names=NAMES, upper=[9.0, 9.0, 9.0])
        assert programs() == there


def test_sums_of_many_pieces_lose_nothing() -> None:
    total = passes.CompensatedSum()
    terms = [1e16, 1.0, -1e16, 3.0, 1e-9]
    for term in terms:
        total.add(np.array([term, 2 * term]))
    np.testing.assert_array_equal(total.value(), [4 + 1e-9, 8 + 2e-9])


def test_passes_count_the_points_of_a_source() -> None:
    x, y = data_of(1234, 0.05)
    found = solve(decay, None, None, START, names=NAMES, source=Cuts(x, y, None, [100]))
    assert found.points == 1234
    with pytest.raises(ValueError, match=r"^the data came from a source and are not kept"):
        _ = found.fitted
