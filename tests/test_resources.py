"""What tasks ask for, and what machines offer."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from socm_like.resources import Machine, ResourcePatch, Resources, detect_machine

GIB = 2**30
SMALL = Machine(name="small", cores=(0, 1, 5), memory=8 * GIB, gpus=("0",))


def test_a_task_asks_for_one_core_and_nothing_else_unless_told() -> None:
    resources = Resources()
    assert resources.model_dump() == {
        "ranks": 1,
        "threads": 1,
        "memory": None,
        "runtime": None,
        "gpus": 0,
        "gpu_memory": None,
    }
    assert resources.cores == 1


def test_cores_are_ranks_times_threads() -> None:
    assert Resources(ranks=3, threads=4).cores == 12


@pytest.mark.parametrize("field", ["ranks", "threads", "memory"])
def test_nothing_can_be_asked_for_in_zero_pieces(field: str) -> None:
    with pytest.raises(ValidationError, match="Input should be greater than 0"):
        Resources.model_validate({field: 0})


def test_a_patch_overrides_what_it_states_and_the_rest_stands() -> None:
    estimate = Resources(ranks=2, threads=3, memory=GIB, runtime=timedelta(hours=1), gpus=1, gpu_memory=GIB)
    patch = ResourcePatch.model_validate(
        {"memory": "8 GiB", "runtime": "20 min", "gpus": 0}, context={"from_file": True}
    )
    assert estimate.patched(patch) == Resources(
        ranks=2, threads=3, memory=8 * GIB, runtime=timedelta(minutes=20), gpus=0, gpu_memory=GIB
    )


def test_an_empty_patch_changes_nothing() -> None:
    assert Resources(ranks=2).patched(ResourcePatch()) == Resources(ranks=2)


def test_a_patch_of_every_field_replaces_every_field() -> None:
    patch = ResourcePatch(ranks=5, threads=6, memory=7, runtime=timedelta(1), gpus=9, gpu_memory=10)
    assert Resources().patched(patch).model_dump() == patch.model_dump()
    assert ResourcePatch.model_fields.keys() == Resources.model_fields.keys()


def test_a_task_that_fits_exactly_is_not_refused() -> None:
    assert SMALL.refusals(Resources(ranks=3, memory=8 * GIB, gpus=1)) == []


def test_every_reason_why_a_task_never_fits_is_named() -> None:
    assert SMALL.refusals(Resources(ranks=2, threads=2, memory=16 * GIB, gpus=2)) == [
        "asks 4 cores, small has 3",
        "asks 16 GiB of memory, small has 8 GiB",
        "asks 2 GPUs, small has 1",
    ]


def test_a_task_whose_memory_nobody_stated_fits_any_memory() -> None:
    assert Machine(name="tiny", cores=(0,), memory=1).refusals(Resources()) == []


def test_this_machine_offers_the_cores_of_the_affinity_mask_and_no_more_than_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    machine = detect_machine()
    assert machine.name == "local"
    assert machine.cores == tuple(sorted(os.sched_getaffinity(0)))
    assert 0 < machine.memory <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine.gpus == ()


def test_a_process_bound_to_one_core_offers_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(allowed)})
        assert detect_machine().cores == (max(allowed),)
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("", ()), ("-1", ()), ("2", ("2",)), ("0, 3", ("0", "3")), ("GPU-8932f937", ("GPU-8932f937",))],
)
def test_gpus_are_narrowed_by_cuda_visible_devices(
    visible: str, gpus: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert detect_machine().gpus == gpus


@pytest.mark.parametrize(
    ("script", "gpus"),
    [
        ("echo 0; echo 1", ("0", "1")),
        ("echo No devices were found; exit 6", ()),
        ("echo NVIDIA-SMI has failed; exit 9", ()),
    ],
)
def test_gpus_are_those_nvidia_smi_lists(
    script: str, gpus: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\n[ "$*" = "--query-gpu=index --format=csv,noheader" ] || exit 2\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert detect_machine().gpus == gpus


def test_without_nvidia_smi_there_are_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert detect_machine().gpus == ()
