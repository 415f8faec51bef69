"""Starts: spread evenly, the same for the same seed, within bounds, in no unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from socm_workflows.fit.search.sampling import SAMPLERS, draw_starts, get_sampler
from socm_workflows.fit.strategy import streaming_config

every_sampler = pytest.mark.parametrize("name", SAMPLERS)


@given(st.integers(1, 200), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_a_latin_hypercube_has_one_point_in_each_slice_of_every_axis(n: int, dimensions: int, seed: int) -> None:
    points = get_sampler("lhs")(n, dimensions, seed)
    for column in np.floor(points * n).astype(int).T:
        assert sorted(column) == list(range(n))


@every_sampler
@pytest.mark.parametrize("n", [1, 2, 5, 64, 100])
def test_points_lie_in_the_cube_and_are_the_same_for_the_same_seed(name: str, n: int) -> None:
    points = get_sampler(name)(n, 3, 7)
    assert points.shape == (n, 3)
    assert ((points >= 0) & (points < 1)).all()
    assert (points == get_sampler(name)(n, 3, 7)).all()
    assert (points != get_sampler(name)(n, 3, 8)).any()


def test_sequences_fill_the_cube_evenly() -> None:
    # reference/nlsq.md, check 26
    assert np.abs(get_sampler("sobol")(64, 2, 0).mean(axis=0) - 0.5).max() < 0.15
    assert np.abs(get_sampler("halton")(100, 3, 0).mean(axis=0) - 0.5).max() < 0.1


def test_a_sobol_sequence_of_any_length_begins_the_longer_one() -> None:
    assert (get_sampler("sobol")(5, 4, 3) == get_sampler("sobol")(8, 4, 3)[:5]).all()


def test_the_names_are_those_that_a_configuration_takes() -> None:
    assert tuple(SAMPLERS) == streaming_config.SAMPLERS


def test_names_are_read_in_any_case_and_an_unknown_one_is_refused() -> None:
    assert get_sampler("LHS") is get_sampler("lhs")
    with pytest.raises(ValueError) as caught:
        get_sampler("sobl")
    assert str(caught.value) == "sampler is 'sobl'; did you mean 'sobol'? (one of lhs, sobol, halton)"


@every_sampler
@given(data=st.data())
def test_starts_begin_with_the_users_and_stay_within_bounds(name: str, data: st.DataObject) -> None:
    finite = st.floats(-1e6, 1e6)
    low, start, high = sorted(data.draw(st.tuples(finite, finite, finite)))
    lower = data.draw(st.sampled_from([low, -np.inf]))
    upper = data.draw(st.sampled_from([high, np.inf]))
    factor = data.draw(st.floats(0.01, 10))
    starts = draw_starts([start, 1.0], ([lower, 0], [upper, 2]), n_starts=16, sampler=name, scale_factor=factor)
    assert starts.shape == (16, 2)
    assert tuple(starts[0]) == (start, 1.0)
    assert ((starts[:, 0] >= lower) & (starts[:, 0] <= upper)).all()
    assert ((starts[:, 1] >= 0) & (starts[:, 1] <= 2)).all()


@given(st.sampled_from([2.0**-60, 2.0**-30, 2.0**40]))
def test_starts_know_no_unit(unit: float) -> None:
    plain = draw_starts([3.0, -2.0, 5.0], ([-np.inf, -np.inf, 1.0], [np.inf, 0.0, 9.0]), n_starts=20)
    scaled = draw_starts(
        np.multiply([3.0, -2.0, 5.0], unit),
        (np.multiply([-np.inf, -np.inf, 1.0], unit), np.multiply([np.inf, 0.0, 9.0], unit)),
        n_starts=20,
    )
    np.testing.assert_allclose(scaled / unit, plain, rtol=1e-12)


def test_without_bounds_starts_reach_ten_times_the_users_on_both_sides() -> None:
    starts = draw_starts([1.0], n_starts=200)[:, 0] - 1.0
    assert 9 < starts.max() <= 10
    assert -10 <= starts.min() < -9
    assert np.abs(np.median(starts)) < 0.1


def test_bounds_fill_their_box_and_a_smaller_factor_a_part_around_the_start() -> None:
    bounds = ([0.0], [10.0])
    assert np.histogram(draw_starts([1.0], bounds, n_starts=101)[1:], 10, (0, 10))[0].tolist() == [10] * 10
    near = draw_starts([5.0], bounds, n_starts=101, scale_factor=0.2)
    assert (near.min() >= 4, near.max() <= 6) == (True, True)
    edge = draw_starts([0.5], bounds, n_starts=101, scale_factor=0.2)
    assert (edge.min() >= 0, edge.max() <= 2) == (True, True)
    middle = draw_starts([0.5], bounds, n_starts=101, scale_factor=0.2, center_on_p0=False)[1:]
    assert (middle.min() >= 4, middle.max() <= 6) == (True, True)


@pytest.mark.parametrize("sign", [1, -1])
def test_bounds_decades_apart_are_filled_evenly_in_the_logarithm(sign: int) -> None:
    bounds = sorted([sign * 1e-3, sign * 1e3])
    starts = draw_starts([sign * 1.0], ([bounds[0]], [bounds[1]]), n_starts=61)[1:, 0]
    assert np.histogram(np.log10(sign * starts), 6, (-3, 3))[0].tolist() == [10] * 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_starts": 0}, "n_starts is 0: write a whole number of at least 1"),
        ({"scale_factor": -1.0}, "scale_factor is -1.0: write a positive number"),
        ({"bounds": (2, 1)}, "bounds of parameter 0 are 2 and 1: the lower one first"),
        ({"bounds": (2, 3)}, "p0 of parameter 0 is 1, not within its bounds 2 and 3"),
        ({"p0": [np.nan]}, "p0 of parameter 0 is nan, not within its bounds -inf and inf"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        draw_starts(**{"p0": [1.0], "n_starts": 3, **arguments})  # type: ignore[arg-type]
    assert str(caught.value) == message
