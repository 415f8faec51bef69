"""A fit that was killed goes on to the same bits; a checkpoint of another fit is refused with what differs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from numpy.typing import NDArray
from socm_workflows.fit.checkpoint import Checkpoint, describe, differences, problem_of
from socm_workflows.fit.solver.iteration import Progress
from socm_workflows.fit.solver.solution import Solution, solve
from socm_workflows.fit.sources import array_source, open_source

Floats = NDArray[np.float64]

NAMES = ("a", "b", "c", "d")
START = (2.0, 1.0, 0.5, 0.1)

CHILD = """
import json, sys
from pathlib import Path
import jax.numpy as jnp
from socm_workflows.fit.checkpoint import Checkpoint, problem_of
from socm_workflows.fit.solver.solution import solve
from socm_workflows.fit.sources import open_source

def two_decays(x, a, b, c, d):
    return a * jnp.exp(-b * x) + c * jnp.exp(-d * x)

start = (2.0, 1.0, 0.5, 0.1)
source = open_source(sys.argv[1], 0, 1, block_points=1000)
checkpoint = Checkpoint(Path(sys.argv[2]), problem_of(two_decays, source, start), every=int(sys.argv[3]))

def watch(progress):
    checkpoint(progress)
    print(progress.evaluations, flush=True)
    sys.stdin.readline()

resume = checkpoint.read()
found = solve(two_decays, None, None, start, names="abcd", source=source, callback=watch, resume=resume)
numbers = [*found.parameters, *found.covariance.ravel(), found.rss, found.optimality]
print(json.dumps([[*map(float.hex, map(float, numbers))], found.iterations, found.evaluations, found.reason]))
"""


def two_decays(x: Array, a: Array, b: Array, c: Array, d: Array) -> Array:
    return a * jnp.exp(-b * x) + c * jnp.exp(-d * x)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    x = np.linspace(0, 5, 3500)
    y = np.exp(-x) + np.exp(-1.3 * x) + 1e-4 * np.random.default_rng(1).normal(size=x.size)
    np.save(tmp_path / "data.npy", np.stack([x, y], axis=1))
    return tmp_path / "data.npy"


def begin(data: Path, checkpoint: Path, every: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-W", "ignore", "-c", CHILD, str(data), str(checkpoint), str(every)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def passes_of(child: subprocess.Popen[str]) -> Iterator[int]:
    """Yield the number of passes after each of them; the child waits until the next one is asked for."""
    assert child.stdin is not None
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("["):
            child.stdout = None
            yield -1
            return
        yield int(line)
        child.stdin.write("\n")
        child.stdin.flush()


def end_of(data: Path, checkpoint: Path) -> tuple[list[int], str]:
    """Return the passes of a fit that is not killed, and its answer."""
    with begin(data, checkpoint, 10**6) as child:
        output, _ = child.communicate("\n" * 1000)
    *passes, answer = output.splitlines()
    return [*map(int, passes)], answer


def test_a_process_that_is_killed_again_and_again_ends_with_the_same_bits(data: Path, tmp_path: Path) -> None:
    passes, answer = end_of(data, tmp_path / "not-killed.json")
    assert len(passes) > 8
    kept = tmp_path / "kept.json"
    seen = []
    for _ in range(3):
        with begin(data, kept, 1) as child:
            for index, count in enumerate(passes_of(child)):
                seen.append(count)
                if index == 2:
                    child.send_signal(signal.SIGKILL)
                    break
        assert child.returncode == -signal.SIGKILL
    assert seen == passes[:9]
    with begin(data, kept, 1) as child:
        output, _ = child.communicate("\n" * 1000)
    *rest, resumed = output.splitlines()
    assert [*map(int, rest)] == passes[9:]
    assert resumed == answer
    assert "converged" in json.loads(answer)[3]


def test_a_process_that_is_killed_after_its_end_gives_that_end_again(data: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    with begin(data, kept, 1) as child:
        first = child.communicate("\n" * 1000)[0].splitlines()[-1]
    with begin(data, kept, 1) as child:
        *passes, again = child.communicate("\n" * 1000)[0].splitlines()
    assert again == first
    assert len(passes) == 1


def fit(source: Any, checkpoint: Callable[[Progress], object], **options: Any) -> Solution:
    return solve(two_decays, None, None, START, names=NAMES, source=source, callback=checkpoint, **options)


def test_checkpoints_are_written_every_few_passes_and_replace_each_other(data: Path, tmp_path: Path) -> None:
    source = open_source(data)
    path = tmp_path / "deep" / "kept.json"
    checkpoint = Checkpoint(path, problem_of(two_decays, source, START), every=3)
    written = []

    def watch(progress: Progress) -> None:
        checkpoint(progress)
        written.append((progress.evaluations, json.loads(path.read_text())["evaluations"]))

    found = fit(source, watch)
    last = written[0][0]
    for passes, kept in written[:-1]:
        last = passes if passes >= last + 3 else last
        assert kept == last
    assert found.converged
    assert written[-1][1] == last
    assert [entry.name for entry in path.parent.iterdir()] == ["kept.json"]
    assert path.stat().st_size < 10_000


def test_what_a_kill_left_of_a_new_file_does_no_harm(data: Path, tmp_path: Path) -> None:
    source = open_source(data)
    checkpoint = Checkpoint(tmp_path / "kept.json", problem_of(two_decays, source, START), every=1)
    whole = fit(source, checkpoint)
    (tmp_path / ".kept.json.77").write_text('{"schema": "socm-fit')
    assert fit(source, checkpoint, resume=checkpoint.read()).parameters.tobytes() == whole.parameters.tobytes()
    checkpoint.remove()
    assert {entry.name for entry in tmp_path.iterdir()} == {"data.npy"}
    assert checkpoint.read() is None


def other_model(x: Array, a: Array, b: Array, c: Array, d: Array) -> Array:
    return a * jnp.exp(-b * x) - c * jnp.exp(-d * x)


def test_a_checkpoint_of_another_fit_is_refused_with_all_that_differs(data: Path, tmp_path: Path) -> None:
    source = open_source(data)
    path = tmp_path / "kept.json"
    fit(source, Checkpoint(path, problem_of(two_decays, source, START), every=1))
    now = problem_of(
        other_model, open_source(data, 1, 0), (2.0, 1.0, 0.5, 0.25), upper=[9, 9, 9, 9], loss="huber", f_scale=0.5
    )
    with pytest.raises(ValueError) as error:
        Checkpoint(path, now).read()
    bounds = "upper was [inf, inf, inf, inf] and is [9.0, 9.0, 9.0, 9.0]"
    here = __name__
    assert str(error.value) == (
        f"{path} is a checkpoint of another fit: data.columns was ['column 0', 'column 1'] and is "
        "['column 1', 'column 0']; f_scale was 1.0 and is 0.5; loss was 'linear' and is 'huber'; "
        f"model.code was {describe(two_decays)['code']!r} and is {describe(other_model)['code']!r}; "
        f"model.name was '{here}:two_decays' and is '{here}:other_model'; "
        f"start was [2.0, 1.0, 0.5, 0.1] and is [2.0, 1.0, 0.5, 0.25]; {bounds}; remove it to begin anew"
    )


def test_a_checkpoint_of_data_that_changed_is_refused(data: Path, tmp_path: Path) -> None:
    source = open_source(data)
    path = tmp_path / "kept.json"
    fit(source, Checkpoint(path, problem_of(two_decays, source, START), every=1))
    numbers = np.load(data)
    numbers[-1, 1] += 1
    np.save(data, numbers)
    with pytest.raises(ValueError) as error:
        Checkpoint(path, problem_of(two_decays, open_source(data), START)).read()
    assert "data.sample was " in str(error.value)
    assert "data.points" not in str(error.value)


NO_CHECKPOINTS = {
    "torn": ('{"schema": "socm-fit-ch', "remove it to begin anew"),
    "list": ("[1]", "is no checkpoint of a fit; write to another file"),
    "other": ('{"schema": "campaign"}', "is no checkpoint of a fit; write to another file"),
    "later": (
        '{"schema": "socm-fit-checkpoint", "version": 2}',
        "has version 2 of checkpoints, this program reads 1; remove it to begin anew",
    ),
}


@pytest.mark.parametrize("case", NO_CHECKPOINTS)
def test_a_file_that_is_no_checkpoint_is_refused(case: str, tmp_path: Path) -> None:
    text, message = NO_CHECKPOINTS[case]
    path = tmp_path / "kept.json"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        Checkpoint(path, {}).read()
    assert str(error.value).startswith(f"{path} ")
    assert str(error.value).endswith(message)


def test_the_interval_must_be_positive(tmp_path: Path) -> None:
    source = array_source(np.linspace(0, 5, 50), np.linspace(1, 0, 50))
    with pytest.raises(ValueError) as error:
        fit(source, Checkpoint(tmp_path / "kept.json", {}, every=0))
    assert str(error.value) == "a checkpoint every 0 passes: write a positive number"


def test_models_are_told_apart_by_their_code_in_every_process() -> None:
    program = "def f(x, a): return a * x if x in {'p', 'q', 'r', 's'} else [a for a in (1, 2)]\n"
    program += "from socm_workflows.fit.checkpoint import describe; print(describe(f)['code'])"
    argv = [sys.executable, "-W", "ignore", "-c", program]
    codes = {subprocess.run(argv, capture_output=True, text=True, check=True).stdout for _ in range(3)}
    assert len(codes) == 1
    assert describe(two_decays)["code"] != describe(other_model)["code"]
    assert describe(jnp.sin) != describe(jnp.cos)
    assert [*differences({"a": {"b": 1}}, {"a": {"b": 1}})] == []
