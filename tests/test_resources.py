"""What tasks ask for, and what machines offer."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from socm_like.resources import Machine, ResourcePatch, Resources, detect, detect_machine

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


FOUR = "; ".join(f"echo {n}, GPU-{n}a{n}b-11, {40960 + n}" for n in range(4))
"""What nvidia-smi prints of four GPUs."""


@dataclass(frozen=True)
class Probe:
    """A /proc and /sys with 64 GiB of RAM, and a PATH on which there is only what a test puts there."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    log: pytest.LogCaptureFixture

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def groups(self, groups: str, limits: Mapping[str, str]) -> None:
        self.write("proc/self/cgroup", groups)
        for name, limit in limits.items():
            self.write(f"sys/fs/cgroup/{name}", limit)

    def nvidia_smi(self, script: str) -> None:
        program = self.folder / "bin/nvidia-smi"
        question = "--query-gpu=index,uuid,memory.total --format=csv,noheader,nounits"
        program.write_text(f'#!/bin/sh\n[ "$*" = "{question}" ] || exit 2\n{script}\n')
        program.chmod(0o755)

    def show(self, visible: str) -> None:
        self.monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Probe:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = Probe(tmp_path, monkeypatch, caplog)
    found.write("proc/meminfo", f"MemTotal:       {64 * 2**20} kB\nMemFree: 1 kB\n")
    found.write("sys/devices/system/cpu/online", "0-31,64-95\n")
    return found


def test_cores_are_those_of_the_affinity_mask(probe: Probe) -> None:
    cores = tuple(sorted(os.sched_getaffinity(0)))
    found = detect(probe.root)
    assert found.machine == Machine(name="local", cores=cores, memory=64 * GIB)
    assert found.cores == f"affinity, {len(cores)} of 64"
    assert found.memory == "all RAM, no cgroup limits it"
    assert found.gpus == "no nvidia-smi"


@pytest.mark.parametrize(
    ("groups", "limits", "memory", "how"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{24 * GIB}\n"}, 24, "v2"),
        ("0::/a/b\n", {"a/b/memory.max": f"{8 * GIB}\n", "a/memory.max": f"{24 * GIB}\n"}, 8, "v2"),
        ("0::/\n", {"memory.max": f"{3 * GIB}\n"}, 3, "v2"),
        ("0::/../x\n", {"memory.max": f"{3 * GIB}\n"}, 3, "v2"),
        ("0::/a\n", {"unified/a/memory.max": f"{5 * GIB}\n"}, 5, "v2"),
        (
            "12:cpu:/x\n9:hugetlb,memory:/slurm/job\n0::/\n",
            {"memory/slurm/job/memory.limit_in_bytes": f"{2**63 - 4096}\n",
             "memory/slurm/memory.limit_in_bytes": f"{4 * GIB}\n"}, 4, "v1",
        ),
        # A container sees its own group as the topmost, and what it makes itself below it.
        ("4:memory:/docker/id\n", {"memory/memory.limit_in_bytes": f"{2 * GIB}\n"}, 2, "v1"),
        ("4:memory:/docker/id/own\n", {"memory/own/memory.limit_in_bytes": f"{GIB}\n"}, 1, "v1"),
    ],
)  # fmt: skip
def test_memory_is_the_tightest_limit_up_to_the_topmost_group(
    groups: str, limits: dict[str, str], memory: int, how: str, probe: Probe
) -> None:
    probe.groups(groups, limits)
    found = detect(probe.root)
    assert found.machine.memory == memory * GIB
    assert found.memory == f"cgroup {how} limit of {memory} GiB, of 64 GiB RAM"


@pytest.mark.parametrize(
    ("groups", "limits"),
    [
        ("", {}),
        ("nonsense\n3:memory\n\n", {}),
        ("0::/a\n", {"memory.max": f"{2**60}\n", "a/memory.max": "many\n"}),
        ("0::/a\n", {"a/memory.max": "0\n"}),
    ],
)
def test_a_limit_that_is_none_leaves_all_memory(groups: str, limits: dict[str, str], probe: Probe) -> None:
    probe.groups(groups, limits)
    found = detect(probe.root)
    assert (found.machine.memory, found.memory) == (64 * GIB, "all RAM, no cgroup limits it")


def test_a_system_without_proc_and_sys_is_asked_itself(probe: Probe) -> None:
    machine = detect_machine(probe.folder / "nothing")
    assert machine.memory == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("visible", "gpus", "memory", "how"),
    [
        (None, ("0", "1", "2", "3"), 40960, "nvidia-smi"),
        ("2", ("2",), 40962, "nvidia-smi lists 4, CUDA_VISIBLE_DEVICES shows 1"),
        ("3, 1", ("3", "1"), 40961, "nvidia-smi lists 4, CUDA_VISIBLE_DEVICES shows 2"),
        ("GPU-2a,GPU-3a3b-11", ("GPU-2a", "GPU-3a3b-11"), 40962, "nvidia-smi lists 4, CUDA_VISIBLE_DEVICES shows 2"),
        ("MIG-1234", ("MIG-1234",), None, "nvidia-smi lists 4, CUDA_VISIBLE_DEVICES shows 1"),
        ("", (), None, "CUDA_VISIBLE_DEVICES shows none"),
        ("-1,2", (), None, "CUDA_VISIBLE_DEVICES shows none"),
        ("0,-1,2", ("0",), 40960, "nvidia-smi lists 4, CUDA_VISIBLE_DEVICES shows 1"),
    ],
)
def test_gpus_are_those_listed_and_shown(
    visible: str | None, gpus: tuple[str, ...], memory: int | None, how: str, probe: Probe
) -> None:
    probe.nvidia_smi(FOUR)
    if visible is not None:
        probe.show(visible)
    found = detect(probe.root)
    assert (found.machine.gpus, found.machine.gpu_memory) == (gpus, None if memory is None else memory * 2**20)
    assert (found.gpus, probe.log.messages) == (how, [])


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("1,7,2", ("1",)), ("GPU-9", ()), ("GPU-", ()), ("0,0", ("0",)), ("0,GPU-0a", ("0",)), ("cuda:0", ())],
)
def test_a_gpu_that_is_not_there_ends_what_is_shown_as_it_does_in_cuda(
    visible: str, gpus: tuple[str, ...], probe: Probe
) -> None:
    probe.nvidia_smi(FOUR)
    probe.show(visible)
    assert detect(probe.root).machine.gpus == gpus
    assert probe.log.messages == [
        f"counting on {len(gpus)} GPUs: nvidia-smi lists 4, not all of CUDA_VISIBLE_DEVICES = {visible}"
    ]


def test_without_nvidia_smi_a_variable_makes_no_gpu(probe: Probe) -> None:
    probe.show("0,1")
    assert detect(probe.root).machine.gpus == ()
    assert probe.log.messages == ["counting on no GPU: CUDA_VISIBLE_DEVICES is 0,1, but there is no nvidia-smi"]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo No devices were found; exit 6", "nvidia-smi failed (exit status 6): No devices were found"),
        ("echo NVIDIA-SMI has failed >&2; exit 9", "nvidia-smi failed (exit status 9): NVIDIA-SMI has failed"),
        ("echo 0, GPU-1", "nvidia-smi lists '0, GPU-1', not index, uuid and memory"),
        ("echo hello", "nvidia-smi lists 'hello', not index, uuid and memory"),
    ],
)
def test_an_nvidia_smi_that_fails_is_told_and_counts_no_gpu(script: str, told: str, probe: Probe) -> None:
    probe.nvidia_smi(script)
    found = detect(probe.root)
    assert (found.machine.gpus, found.gpus, probe.log.messages) == ((), told, [f"counting on no GPU: {told}"])


def test_an_nvidia_smi_that_cannot_be_run_counts_no_gpu(probe: Probe) -> None:
    probe.nvidia_smi("")
    (probe.folder / "bin/nvidia-smi").write_text("#!/no/such/shell\n")
    assert detect(probe.root).machine.gpus == ()
    assert [message.partition(":")[0] for message in probe.log.messages] == ["counting on no GPU"]


def test_an_nvidia_smi_that_lists_nothing_leaves_nothing(probe: Probe) -> None:
    probe.nvidia_smi("true")
    assert detect_machine(probe.root).gpus == ()
    probe.show("MIG-1234")
    assert detect_machine(probe.root).gpus == ()


def test_gpus_whose_memory_is_not_their_own_have_none(probe: Probe) -> None:
    probe.nvidia_smi("echo '0, GPU-1, [N/A]'; echo '1, GPU-2, 40960'")
    found = detect_machine(probe.root)
    assert (found.gpus, found.gpu_memory) == (("0", "1"), None)


def test_an_nvidia_smi_that_hangs_is_given_up_with_its_children(probe: Probe) -> None:
    pipe = probe.folder / "pipe"
    os.mkfifo(pipe)
    probe.nvidia_smi(f"/bin/cat {pipe}; echo 0, GPU-1, 40960")
    begin = time.monotonic()
    found = detect(probe.root, patience=0.2)
    assert time.monotonic() - begin < 5
    assert (found.machine.gpus, found.gpus) == ((), "nvidia-smi did not answer within 0.2 s")
    assert probe.log.messages == ["counting on no GPU: nvidia-smi did not answer within 0.2 s"]
    with pytest.raises(OSError, match="No such device or address"):  # nobody reads the pipe any more
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)


def test_a_task_that_needs_more_memory_than_a_gpu_has_is_refused() -> None:
    machine = Machine(name="m", cores=(0,), memory=GIB, gpus=("0",), gpu_memory=40 * GIB)
    assert machine.refusals(Resources(gpus=1, gpu_memory=80 * GIB)) == [
        "asks 80 GiB of memory on each GPU, m has 40 GiB"
    ]
    assert machine.refusals(Resources(gpus=1, gpu_memory=40 * GIB)) == []
    assert machine.refusals(Resources(gpus=0, gpu_memory=80 * GIB)) == []
    unknown = Machine(name="m", cores=(0,), memory=GIB, gpus=("0",))
    assert unknown.refusals(Resources(gpus=1, gpu_memory=80 * GIB)) == []
