"""Callbacks: what they write, when they stop a fit, and that their faults cost none."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from socm_workflows.fit.function.callbacks import (
    CallbackChain,
    EarlyStopping,
    IterationLogger,
    ProgressBar,
    StopOptimization,
    notify,
)


def feed(callback: EarlyStopping, costs: list[float]) -> int | None:
    """Return the number of the call that stops, None if none does."""
    for number, cost in enumerate(costs, start=1):
        try:
            callback(number, cost, (1.0,), {})
        except StopOptimization:
            return number
    return None


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_a_cost_that_does_not_fall_for_three_iterations_stops_the_fit(unit: float) -> None:
    costs = [cost * unit for cost in (100, 50, 25, 25, 25, 25)]
    assert feed(EarlyStopping(patience=3), costs) == 6
    assert feed(EarlyStopping(patience=3), costs[:5]) is None


def test_a_fall_by_less_than_min_delta_is_none() -> None:
    assert feed(EarlyStopping(patience=2, min_delta=1.0), [100, 99.5, 99.3]) == 3


@pytest.mark.parametrize("arguments", [{"patience": 0}, {"min_delta": -1.0}, {"min_delta": float("nan")}])
def test_early_stopping_refuses_what_it_cannot_do(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(arguments))} is .*: write a"):
        EarlyStopping(**arguments)  # type: ignore[arg-type]


def test_a_fit_learns_who_stopped_it_and_goes_on_after_a_fault() -> None:
    def stop(iteration: int, cost: float, parameters: Sequence[float], info: Mapping[str, float]) -> None:
        raise StopOptimization("enough")

    def fault(iteration: int, cost: float, parameters: Sequence[float], info: Mapping[str, float]) -> None:
        raise KeyError("x")

    assert notify(None, 1, 2.0, (1.0,), {}) is None
    assert notify(stop, 1, 2.0, (1.0,), {}) == "enough"
    with pytest.warns(RuntimeWarning, match=r"^Callback raised exception: KeyError: 'x'$"):
        assert notify(fault, 1, 2.0, (1.0,), {}) is None
    assert notify(CallbackChain(stop, EarlyStopping()), 1, 2.0, (1.0,), {}) == "enough"


def test_a_chain_calls_all_even_when_the_first_stops(tmp_path: Path) -> None:
    stream = io.StringIO()
    chain = CallbackChain(EarlyStopping(patience=1), ProgressBar(stream=stream))
    chain(1, 2.0, (1.0,), {})
    with pytest.raises(StopOptimization, match=r"^the cost has not fallen by more than 0 for 1 iterations$"):
        chain(2, 2.0, (1.0,), {})
    assert stream.getvalue().startswith("fit: iteration 1  cost 2.000000e+00\n")
    chain.close()


def test_the_logger_writes_a_line_per_iteration(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for mode in ("w", "a"):
        with IterationLogger(path, mode=mode, log_params=True) as logger:
            logger(3, 0.5, (1.25, -2.0), {"gradient_norm": 1e-3, "nfev": 4})
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    words = [word for word in lines[1].split("  ") if not word.endswith(" s")]
    assert words == [
        "iteration 3", "cost 5.000000000e-01", "gradient_norm 1.000e-03", "nfev 4", "parameters 1.25 -2",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"^mode is 'r': write 'w' for a new file, 'a' to append$"):
        IterationLogger(path, mode="r")


def test_progress_goes_to_stderr_and_shows_the_last_iteration(capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar(max_iterations=3, description="decay")
    for iteration in (1, 2, 3):
        bar(iteration, 4.0, (1.0,), {"gradient_norm": 0.5})
    bar.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "decay: iteration 1 of 3  cost 4.000000e+00  gradient 5.00e-01"
    assert err.splitlines()[-1] == "decay: iteration 3 of 3  cost 4.000000e+00  gradient 5.00e-01"
