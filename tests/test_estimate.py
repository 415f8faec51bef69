"""What is learned from finished tasks: known answers, coverage, and when nothing is said."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socm_like.estimate import ENOUGH, Family, Needs

Fields = Mapping[str, Any]


def family(rows: Sequence[Fields], memory_of: Callable[[Fields], float]) -> Family:
    return Family([(row, Needs(memory_of(row), None, memory_of(row) / 1e6)) for row in rows])


def memory(learned: Family, fields: Fields) -> int:
    prediction = learned.predict(fields)
    assert prediction is not None
    assert prediction.memory is not None
    return prediction.memory


def matrix(row: Fields) -> float:
    """A process of 100 MB that holds an n x n matrix of doubles."""
    return 100e6 + 8 * float(row["n"]) ** 2


def test_a_process_that_holds_a_matrix_is_recovered_within_2_percent() -> None:
    rows = [{"n": round(10 ** (2 + 2 * index / 40))} for index in range(41)]
    learned = family(rows, matrix)
    for n in (150, 800, 3_333, 9_000, 15_000):  # the last lies half beyond the records
        assert memory(learned, {"n": n}) == pytest.approx(matrix({"n": n}), rel=0.02)
    assert learned.memory is not None
    assert learned.memory.floor == pytest.approx(100e6, rel=0.005)


@pytest.mark.parametrize("power", [0.5, 1, 1.5, 3])
def test_a_power_law_is_recovered_within_2_percent(power: float) -> None:
    rows = [{"n": n} for n in range(10, 200, 3)]
    learned = family(rows, lambda row: float(row["n"] ** power))
    assert memory(learned, {"n": 300}) == pytest.approx(math.ceil(300**power), rel=0.02)


def test_a_product_of_fields_and_a_choice_is_recovered_within_2_percent() -> None:
    chance = random.Random(1)
    factor = {"hmc": 1.0, "vi": 3.0, "sgld": 10.0}

    def needed(row: Fields) -> float:
        return 1e4 * float(row["n"] * row["m"]) * factor[row["sampler"]]

    rows = [
        {"n": chance.randint(10, 500), "m": chance.randint(1, 64), "sampler": chance.choice(list(factor))}
        for _ in range(200)
    ]
    learned = family(rows, needed)
    for sampler in factor:
        task = {"n": 77, "m": 12, "sampler": sampler}
        assert memory(learned, task) == pytest.approx(needed(task), rel=0.02)


def noisy(size: int, sigma: float, seed: int, draw: Callable[[random.Random, float], float]) -> float:
    """Return how often 200 further tasks exceed what was predicted from so many."""
    chance = random.Random(seed)

    def one() -> tuple[Fields, Needs]:
        n = chance.randint(100, 10_000)
        return {"n": n, "seed": chance.getrandbits(32)}, Needs(matrix({"n": n}) * draw(chance, sigma), None, None)

    learned = Family([one() for _ in range(size)])
    further = [one() for _ in range(200)]
    found = [(learned.predict(fields), needs.memory) for fields, needs in further]
    known = [(prediction.memory, used) for prediction, used in found if prediction is not None]
    return sum(used > high for high, used in known if high is not None and used is not None) / len(known)


def lognormal(chance: random.Random, sigma: float) -> float:
    return math.exp(chance.gauss(0, sigma))


def heavy(chance: random.Random, sigma: float) -> float:
    """Return the exponential of Student's t with 3 degrees of freedom."""
    chi = sum(chance.gauss(0, 1) ** 2 for _ in range(3)) / 3
    return math.exp(sigma * chance.gauss(0, 1) / math.sqrt(chi))


@pytest.mark.parametrize("size", [20, 50, 200])
@pytest.mark.parametrize("sigma", [0.05, 0.3])
@pytest.mark.parametrize("draw", [lognormal, heavy])
def test_the_high_prediction_covers_between_90_and_100_percent(
    size: int, sigma: float, draw: Callable[[random.Random, float], float]
) -> None:
    exceeded = [noisy(size, sigma, seed, draw) for seed in range(20)]
    assert 0.0 <= sum(exceeded) / len(exceeded) <= 0.1


def test_of_the_smallest_number_of_records_no_more_than_one_in_five_exceeds() -> None:
    exceeded = [noisy(ENOUGH, 0.3, seed, lognormal) for seed in range(60)]
    assert sum(exceeded) / len(exceeded) <= 0.2


def test_half_of_the_tasks_take_longer_than_is_typical() -> None:
    chance = random.Random(3)
    rows = [({"n": n}, Needs(None, None, n * math.exp(chance.gauss(0, 0.5)))) for n in range(1, 400)]
    learned = Family(rows)
    longer = 0
    for n in range(1, 400):
        prediction = learned.predict({"n": n})
        assert prediction is not None
        assert prediction.typical_runtime is not None
        longer += n * math.exp(chance.gauss(0, 0.5)) > prediction.typical_runtime.total_seconds()
    assert 160 <= longer <= 240


def test_one_record_too_few_predicts_nothing() -> None:
    rows = [{"n": n} for n in range(1, ENOUGH + 1)]
    assert family(rows[:-1], lambda row: 5e6).predict({"n": 3}) is None
    prediction = family(rows, lambda row: 5e6).predict({"n": 3})
    assert prediction is not None
    assert prediction.records == ENOUGH


def test_a_quantity_that_too_few_records_have_is_left_out() -> None:
    rows = [({"n": n}, Needs(1e6, 2e6 if n < 3 else None, 1.0)) for n in range(1, 30)]
    prediction = Family(rows).predict({"n": 5})
    assert prediction is not None
    assert (prediction.memory, prediction.gpu_memory) == (10**6, None)


def test_what_never_changes_is_predicted_as_it_is() -> None:
    rows = [{"n": n, "name": f"run {n}"} for n in range(1, 60)]
    assert memory(family(rows, lambda row: 123_456_789), {"n": 40, "name": "new"}) == 123_456_789


def test_one_accident_does_not_move_the_prediction() -> None:
    rows = [{"n": n} for n in range(100, 3100, 100)]
    plain = memory(family(rows, matrix), {"n": 1500})
    struck = memory(family(rows, lambda row: matrix(row) * (100 if row["n"] == 700 else 1)), {"n": 1500})
    assert struck == pytest.approx(plain, rel=0.1)


def test_records_of_one_parameter_set_predict_that_set_only() -> None:
    learned = family([{"n": 64, "model": "gauss", "is_wide": True}] * 20, lambda row: 1e8)
    assert memory(learned, {"n": 64, "model": "gauss", "is_wide": True}) == 10**8
    for other in ({"n": 65}, {"model": "line"}, {"is_wide": False}):
        assert learned.predict({"n": 64, "model": "gauss", "is_wide": True, **other}) is None


def test_nothing_is_said_beyond_twice_the_range_of_the_records() -> None:
    learned = family([{"n": n} for n in range(100, 1001, 50)], matrix)
    assert learned.predict({"n": 50}) is not None
    assert learned.predict({"n": 2000}) is not None
    assert learned.predict({"n": 49}) is None
    assert learned.predict({"n": 2001}) is None


def test_a_number_that_changes_nothing_may_be_any() -> None:
    rows = [{"n": n, "seed": n % 17} for n in range(100, 1001, 10)]
    learned = family(rows, matrix)
    expected = memory(learned, {"n": 500, "seed": 3})
    assert memory(learned, {"n": 500, "seed": 10**12}) == pytest.approx(expected, rel=0.05)


def test_a_choice_that_was_never_seen_predicts_nothing_but_a_name_does_not_matter() -> None:
    rows = [{"sampler": "ab"[n % 2], "label": f"label {n}", "data": f"/data/{n % 3}.h5"} for n in range(40)]
    learned = family(rows, lambda row: 1e8 if row["sampler"] == "a" else 2e8)
    assert memory(learned, {"sampler": "b", "label": "new", "data": "/other"}) == pytest.approx(2e8, rel=0.02)
    assert learned.predict({"sampler": "c", "label": "new", "data": "/other"}) is None


def test_a_list_counts_by_its_length() -> None:
    learned = family([{"files": ["x"] * n} for n in range(1, 40)], lambda row: 1e6 * len(row["files"]))
    assert memory(learned, {"files": ["y"] * 20}) == pytest.approx(20e6, rel=0.02)


def test_a_field_that_some_records_lack_is_not_learned_from() -> None:
    rows: list[Fields] = [{"n": n, **({"extra": n} if n % 2 else {})} for n in range(1, 40)]
    assert memory(family(rows, lambda row: 1e6 * row["n"]), {"n": 10}) == pytest.approx(1e7, rel=0.02)


def test_a_task_without_a_field_that_the_records_have_is_not_predicted() -> None:
    learned = family([{"n": n} for n in range(1, 40)], matrix)
    assert learned.predict({}) is None
    assert learned.predict({"n": "12"}) is None
    assert learned.predict({"n": math.nan}) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
FIELDS = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), VALUES, max_size=4)
SIZES = st.none() | st.floats(min_value=1e-6, max_value=1e18)


@settings(max_examples=200)
@given(
    rows=st.lists(st.tuples(FIELDS, st.builds(Needs, SIZES, SIZES, st.none() | st.floats(1e-6, 1e7))), max_size=40),
    task=FIELDS,
)
def test_whatever_the_records_hold_a_prediction_is_positive_or_none(
    rows: list[tuple[Fields, Needs]], task: Fields
) -> None:
    learned = Family(rows)
    for fields in (task, *(fields for fields, _ in rows[:3])):
        prediction = learned.predict(fields)
        if prediction is not None:
            sizes = (prediction.memory, prediction.gpu_memory)
            assert all(size is None or size >= 1 for size in sizes)
            if prediction.runtime is not None and prediction.typical_runtime is not None:
                assert prediction.runtime >= prediction.typical_runtime > prediction.typical_runtime * 0


@given(slope=st.floats(0.1, 3), floor=st.floats(0, 1e9), scale=st.floats(1e3, 1e6), count=st.integers(12, 80))
def test_without_noise_the_records_themselves_are_met_within_30_percent(
    slope: float, floor: float, scale: float, count: int
) -> None:
    rows = [{"n": index + 1} for index in range(count)]

    def needed(row: Fields) -> float:
        return floor + scale * math.pow(row["n"], slope)

    learned = family(rows, needed)
    for row in rows:
        assert 0.95 * needed(row) <= memory(learned, row) <= 1.3 * needed(row)
