"""The memory of a fit: what there is, what it needs, which strategy follows."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from socm_workflows.fit.solver import accumulation, passes, reductions, resident
from socm_workflows.fit.strategy import memory_model
from socm_workflows.fit.strategy.budget import ChunkedConfig, MemoryBudget, MemoryBudgetSelector
from socm_workflows.fit.strategy.memory import AvailableMemory, available_memory
from socm_workflows.fit.strategy.memory_model import FitSize
from socm_workflows.fit.strategy.streaming_config import HybridStreamingConfig
from socm_workflows.fit.strategy.tiers import OptimizationGoal, WorkflowTier

GIB = 2**30
points = st.integers(1, 10**10)
parameters = st.integers(1, 60)
gigabytes = st.floats(0.01, 1000)


def machine(root: Path, files: dict[str, str]) -> Path:
    """Return a root whose kernel says what the files say."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


HOST = {"proc/meminfo": "MemTotal:       33554432 kB\nMemFree: 1 kB\nMemAvailable:   16777216 kB\n"}


@pytest.mark.parametrize(
    ("n_points", "n_params", "data", "jacobian"),
    [(10**6, 5, 0.0149012, 0.0372529), (10**8, 10, 1.4901, 7.4506), (10**9, 5, 14.9012, 37.2529)],
)
def test_data_and_jacobian_are_those_of_nlsq(n_points: int, n_params: int, data: float, jacobian: float) -> None:
    # nlsq 0.7.6, MemoryBudget.compute(..., memory_limit_gb=16): reference/nlsq.md, check 17
    budget = MemoryBudget.compute(n_points, n_params, available=16)
    assert budget.data_gb == pytest.approx(data, rel=1e-4)
    assert budget.jacobian_gb == pytest.approx(jacobian, rel=1e-4)
    assert budget.threshold_gb == 12


def test_the_peak_holds_the_data_but_no_jacobian() -> None:
    few, many = (MemoryBudget.compute(10**8, n_params, available=16) for n_params in (2, 20))
    assert few.data_gb < few.peak_gb < 1.5 * few.data_gb
    assert many.peak_gb - few.peak_gb < 0.05 * (many.jacobian_gb - few.jacobian_gb)


@given(points, parameters, gigabytes)
def test_the_peak_exceeds_the_data_and_of_many_points_streaming_needs_least(
    n_points: int, n_params: int, available: float
) -> None:
    budget = MemoryBudget.compute(n_points, n_params, available=available)
    assert budget.peak_gb > budget.data_gb
    if n_points >= 5_000_000:  # more than the buffers of what reads
        assert budget.peak_of(WorkflowTier.STREAMING, 1000) <= budget.peak_of(WorkflowTier.CHUNKED, 1000)
    assert budget.fits_in_memory == (budget.peak_gb <= budget.threshold_gb)


@given(st.integers(2**17 + 1, 10**10), parameters)
def test_a_point_more_costs_its_own_bytes(n_points: int, n_params: int) -> None:
    here, more = (memory_model.standard_peak(FitSize(n, n_params)) for n in (n_points, n_points + 1))
    assert more - here == 16


def test_a_model_of_whole_arrays_needs_rows_of_the_jacobian() -> None:
    few, many = (FitSize(n, 5, is_pointwise=False) for n in (1_000_000, 2_000_000))
    assert many.resident_bytes - few.resident_bytes == (4 * 5 + 8 + 5 * 7) * 10**6 * 8


def test_a_covariance_of_the_data_counts_with_its_square() -> None:
    size = FitSize(10_000, 3, sigma_dimensions=2)
    assert size.given_bytes == (2 * 10_000 + 10_000**2) * 8
    assert size.copied_bytes > 2 * 10_000**2 * 8


def test_single_precision_data_are_half_as_large_as_given_and_are_copied() -> None:
    single, double = (FitSize(10**7, 3, itemsize=itemsize) for itemsize in (4, 8))
    assert (single.given_bytes, double.given_bytes) == (80_000_000, 160_000_000)
    assert (single.copied_bytes, double.copied_bytes) == (160_000_000, 0)
    assert MemoryBudget.compute(10**7, 3, dtype=np.float32, available=8).size == single


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_points": 0}, "n_points is 0: n_points must be positive, a whole number"),
        ({"n_points": 2.5}, "n_points is 2.5: n_points must be positive, a whole number"),
        ({"n_params": -1}, "n_params is -1: n_params must be positive, a whole number"),
        ({"n_features": 0}, "n_features is 0: n_features must be positive, a whole number"),
        ({"safety_factor": 0}, "safety_factor is 0: write a number above 0, at most 1"),
        ({"safety_factor": 1.5}, "safety_factor is 1.5: write a number above 0, at most 1"),
        ({"memory_limit_gb": -4}, "memory_limit_gb is -4: write a positive number of GB, such as 16"),
        ({"available": 0.0}, "available is 0.0: write a positive number of GB, such as 16"),
        ({"sigma_dimensions": 3}, "sigma_dimensions is 3: 0, 1 or 2"),
    ],
)
def test_a_number_out_of_range_is_named(arguments: dict[str, float], message: str) -> None:
    values: dict[str, float] = {"n_points": 1000, "n_params": 5, **arguments}
    with pytest.raises(ValueError) as caught:
        MemoryBudget.compute(**values)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_a_budget_cannot_be_changed() -> None:
    budget = MemoryBudget.compute(1000, 5, safety_factor=1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        budget.peak_gb = 0.0  # type: ignore[misc]
    assert budget.threshold_gb == budget.available_gb


class TestSelection:
    @pytest.mark.parametrize(
        ("n_points", "n_params", "available", "expected"),
        [
            (10**8, 10, 1, WorkflowTier.STREAMING),
            (10**4, 5, 64, WorkflowTier.STANDARD),
            (5 * 10**6, 10, 64, WorkflowTier.STANDARD),
            (5 * 10**6, 10, 0.3, WorkflowTier.CHUNKED),
            (10**9, 5, 16, WorkflowTier.STREAMING),
            (10**9, 5, 2, WorkflowTier.STREAMING_CHECKPOINT),
        ],
    )
    def test_the_strategy_follows_from_size_and_memory(
        self, n_points: int, n_params: int, available: float, expected: WorkflowTier
    ) -> None:
        strategy, config = MemoryBudgetSelector(safety_factor=0.75).select(n_points, n_params, available=available)
        assert strategy is expected
        kinds = {WorkflowTier.STANDARD: type(None), WorkflowTier.CHUNKED: ChunkedConfig}
        assert type(config) is kinds.get(expected, HybridStreamingConfig)

    @given(points, parameters, gigabytes)
    def test_the_decision_tree_is_the_one_of_the_page(self, n_points: int, n_params: int, available: float) -> None:
        selection = MemoryBudgetSelector().select(n_points, n_params, available=available)
        budget = selection.budget
        if budget.data_gb > budget.threshold_gb:
            assert selection.strategy.startswith("streaming")
            is_long = budget.data_gb > 4 * budget.threshold_gb
            assert (selection.strategy is WorkflowTier.STREAMING_CHECKPOINT) == is_long
        elif budget.peak_gb > budget.threshold_gb:
            assert selection.strategy is WorkflowTier.CHUNKED
        else:
            assert selection.strategy is WorkflowTier.STANDARD
            assert selection.config is None

    @given(points, parameters, gigabytes, gigabytes)
    def test_chunks_are_clamped_grow_with_memory_and_shrink_with_parameters(
        self, n_points: int, n_params: int, available: float, more: float
    ) -> None:
        def chunk(tier: WorkflowTier, n_params: int, available: float) -> int:
            budget = MemoryBudget.compute(n_points, n_params, available=available)
            config = MemoryBudgetSelector().follow(budget, tier, "asked for").config
            assert config is not None
            return config.chunk_size

        for tier in (WorkflowTier.CHUNKED, WorkflowTier.STREAMING):
            here = chunk(tier, n_params, available)
            assert 1_000 <= here <= 1_000_000
            assert chunk(tier, n_params, available + more) >= here
            assert chunk(tier, n_params + 5, available) <= here

    def test_checkpoints_are_made_where_asked_for_and_not_where_refused(self) -> None:
        select = MemoryBudgetSelector().select
        assert select(10**8, 10, available=1, checkpoints=True).strategy is WorkflowTier.STREAMING_CHECKPOINT
        assert select(10**9, 5, available=2, checkpoints=False).strategy is WorkflowTier.STREAMING

    def test_a_frugal_goal_takes_the_column_of_the_lowest_tier_whatever_the_memory(self) -> None:
        goal = OptimizationGoal.MEMORY_EFFICIENT
        chosen = [
            MemoryBudgetSelector().select(n_points, 5, available=512, goal=goal).strategy
            for n_points in (9_999, 10_000, 999_999, 1_000_000, 10**8)
        ]
        assert chosen == ["standard", "chunked", "chunked", "streaming", "streaming"]

    def test_a_selection_says_why(self) -> None:
        memory = AvailableMemory(16 * GIB, "cgroup v2")
        select = MemoryBudgetSelector().select
        assert select(10**9, 5, available=memory).why == (
            "the data of 14.9 GB exceed the threshold of 12 GB (cgroup v2)"
        )
        assert select(10**9, 5, available=memory, checkpoints=True).why == (
            "the data of 14.9 GB exceed the threshold of 12 GB (cgroup v2), and checkpoints are asked for"
        )
        assert select(10**11, 5, available=memory).why == (
            "the data of 1.49e+03 GB exceed the threshold of 12 GB (cgroup v2) more than 4 times over"
        )
        peak = MemoryBudget.compute(1000, 5, available=memory).peak_gb
        assert select(1000, 5, available=memory).why == (
            f"the peak of {peak:.3g} GB is within the threshold of 12 GB (cgroup v2)"
        )

    def test_a_safety_factor_out_of_range_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"^safety_factor is 0: write a number above 0, at most 1$"):
            MemoryBudgetSelector(safety_factor=0)


class TestAvailableMemory:
    def test_it_is_what_the_kernel_calls_available(self, tmp_path: Path) -> None:
        found = available_memory(root=machine(tmp_path, HOST), environ={})
        assert found == AvailableMemory(16 * GIB, "memory available")
        assert str(found) == "16 GiB (memory available)"

    def test_a_cgroup_of_version_2_leaves_its_limit_less_what_is_used_beyond_cache(self, tmp_path: Path) -> None:
        root = machine(
            tmp_path,
            {
                **HOST,
                "proc/self/cgroup": "0::/job/step\n",
                "sys/fs/cgroup/job/memory.max": f"{8 * GIB}\n",
                "sys/fs/cgroup/job/memory.current": f"{6 * GIB}\n",
                "sys/fs/cgroup/job/memory.stat": f"anon 1\ninactive_file {5 * GIB}\nactive_file 1\n",
                "sys/fs/cgroup/job/step/memory.max": "max\n",
                "sys/fs/cgroup/job/step/memory.current": f"{6 * GIB}\n",
            },
        )
        assert available_memory(root=root, environ={}) == AvailableMemory(7 * GIB, "cgroup v2")

    def test_a_cgroup_of_version_1_is_read_too_and_without_limit_changes_nothing(self, tmp_path: Path) -> None:
        files = {
            **HOST,
            "proc/self/cgroup": "5:cpu:/\n4:memory:/container\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GIB}\n",
            "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GIB}\n",
        }
        root = machine(tmp_path, files)
        assert available_memory(root=root, environ={}) == AvailableMemory(2 * GIB, "cgroup v1")
        machine(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"})
        assert available_memory(root=root, environ={}).source == "memory available"

    def test_a_limit_counts_when_it_is_the_least_and_an_argument_replaces_the_variable(self, tmp_path: Path) -> None:
        root = machine(tmp_path, HOST)
        environ = {"NLSQ_MEMORY_LIMIT_GB": "2.5"}
        assert available_memory(root=root, environ=environ) == AvailableMemory(round(2.5 * GIB), "NLSQ_MEMORY_LIMIT_GB")
        assert available_memory(4, root=root, environ=environ) == AvailableMemory(4 * GIB, "memory_limit_gb")
        assert available_memory(100, root=root, environ=environ).source == "memory available"

    @pytest.mark.parametrize("text", ["sixteen", "-1", "0", "nan", "inf", "16 GB"])
    def test_a_wrong_variable_is_named(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ValueError) as caught:
            available_memory(root=machine(tmp_path, HOST), environ={"NLSQ_MEMORY_LIMIT_GB": text})
        assert str(caught.value) == f"NLSQ_MEMORY_LIMIT_GB is {text!r}: write a positive number of GB, such as 16"

    def test_on_a_gpu_it_is_jax_share_of_the_smallest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\necho '0, GPU-a, 8192'\necho '1, GPU-b, 4096'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=":")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        root = machine(tmp_path, HOST)
        found = available_memory(platform="gpu", root=root, environ={})
        assert found == AvailableMemory(3 * GIB, "75% of GPU memory")
        fraction = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}
        assert available_memory(platform="gpu", root=root, environ=fraction).bytes == 2 * GIB
        assert available_memory(platform="cpu", root=root, environ={}).source == "memory available"

    def test_this_machine_has_some(self) -> None:
        assert 0 < available_memory(environ={}).gb < 100_000


def test_the_formula_knows_the_solver() -> None:
    for size in (1, 2, 3, 5, 10, 20, 50):
        model = FitSize(1000, size)
        assert (model.sums, model.lanes) == (accumulation.sums_count(size), accumulation.lanes_for(size))
    for n_points in (1, 16, 17, 1000, 2**17):
        assert FitSize(n_points, 3).padded_points == resident.bucket_of(n_points)
    assert memory_model.PIECE == passes.PIECE
    assert (memory_model.MOST_RESIDENT, memory_model.FEW_POINTS) == (reductions.MOST_RESIDENT, reductions.FEW_POINTS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_points", "n_params", "strategy"),
    [(200, 3, "standard"), (20_000, 5, "standard"), (3_000_000, 3, "standard"), (3_000_000, 3, "streaming")],
)
def test_the_peak_that_is_predicted_is_within_a_factor_of_the_one_measured(
    n_points: int, n_params: int, strategy: str
) -> None:
    path = Path(__file__).parents[1] / "benchmarks" / "fit_memory.py"
    argv = ["--points", str(n_points), "--parameters", str(n_params), "--strategy", strategy, "--json"]
    child = subprocess.run([sys.executable, path, *argv], capture_output=True, text=True, timeout=300)
    assert child.stderr == ""
    predicted, measured = json.loads(child.stdout)
    assert 1 / 1.3 < predicted / measured < 1.3


def test_the_whole_layer_loads_without_jax_and_the_formula_without_numpy(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    modules = "strategy.budget function.callbacks strategy.cluster strategy.configuration strategy.presets "
    modules += "search.sampling strategy.selection strategy.settings strategy.streaming_config strategy.tiers"
    program = """
import importlib, sys
importlib.import_module("socm_workflows.fit.strategy.memory_model")
print("numpy" in sys.modules)
for name in sys.argv[1].split():
    importlib.import_module("socm_workflows.fit." + name)
print("jax" in sys.modules)
"""
    child = run_python(program, modules)
    assert (child.stdout, child.stderr) == ("False\nFalse\n", "")
