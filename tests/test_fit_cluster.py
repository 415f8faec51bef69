"""The nodes of a job: what PBS, Slurm and LSF say in the environment, and nothing that they do not say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from socm_workflows.fit.strategy.cluster import ClusterDetector, ClusterInfo, create_checkpoint_directory, expand_nodes
from socm_workflows.fit.strategy.selection import create_distributed_config


@pytest.fixture(autouse=True)
def no_gpus_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def detect(**environ: object) -> ClusterInfo | None:
    return ClusterDetector({name: str(value) for name, value in environ.items()}).detect()


class TestPbs:
    def test_the_node_file_has_a_line_per_process(self, tmp_path: Path) -> None:
        names = [f"node{number:03d}" for number in (6, 1, 4, 2, 5, 3)]
        path = tmp_path / "nodes"
        path.write_text("".join(f"{name}\n" * 8 for name in names))
        found = detect(PBS_NODEFILE=path, PBS_JOBID="12345.server")
        assert found == ClusterInfo(
            scheduler="pbs",
            node_list=tuple(names),
            job_id="12345.server",
            gpus_per_node=0,
            details={"PBS_NODEFILE": str(path), "PBS_JOBID": "12345.server"},
        )
        assert (found.node_count, found.total_gpus) == (6, 0)

    def test_without_nodes_there_is_no_cluster(self, tmp_path: Path) -> None:
        path = tmp_path / "nodes"
        path.write_text("\n  \n")
        assert detect(PBS_NODEFILE=path) is None
        assert detect(PBS_NODEFILE=tmp_path / "missing") is None
        assert detect() is None

    def test_gpus_are_those_that_pbs_names(self, tmp_path: Path) -> None:
        path = tmp_path / "nodes"
        path.write_text("a\nb\n")
        found = detect(PBS_NODEFILE=path, PBS_NGPUS=4)
        assert found is not None
        assert (found.gpus_per_node, found.total_gpus) == (4, 8)


class TestSlurm:
    def test_a_list_of_nodes_is_expanded(self) -> None:
        found = detect(SLURM_JOB_NODELIST="gpu[01-03,7],login", SLURM_JOB_ID=42, SLURM_NNODES=5, SLURM_GPUS_ON_NODE=2)
        assert found is not None
        assert (found.scheduler, found.job_id) == ("slurm", "42")
        assert found.node_list == ("gpu01", "gpu02", "gpu03", "gpu7", "login")
        assert (found.gpus_per_node, found.total_gpus) == (2, 10)

    def test_gpus_are_counted_by_their_names_and_are_none_where_nobody_names_any(self) -> None:
        named, unnamed = detect(SLURM_JOB_NODELIST="a", SLURM_JOB_GPUS="0,2,3"), detect(SLURM_JOB_NODELIST="a")
        assert named is not None
        assert unnamed is not None
        assert (named.gpus_per_node, unnamed.gpus_per_node) == (3, 0)

    def test_a_list_that_does_not_match_the_number_of_nodes_is_refused(self) -> None:
        with pytest.raises(ValueError) as caught:
            detect(SLURM_JOB_NODELIST="a[1-2]", SLURM_NNODES=3)
        assert str(caught.value) == "SLURM_JOB_NODELIST is 'a[1-2]', 2 nodes, but SLURM_NNODES is 3"


class TestLsf:
    def test_hosts_and_slots_stand_in_turn(self) -> None:
        found = detect(LSB_MCPU_HOSTS="batch01 1 node07 42 node03 42", LSB_HOSTS="ignored", LSB_JOBID=9)
        assert found is not None
        assert (found.scheduler, found.job_id, found.node_list) == ("lsf", "9", ("batch01", "node07", "node03"))

    def test_a_name_per_slot_does_too(self) -> None:
        found = detect(LSB_HOSTS="b a a b")
        assert found is not None
        assert found.node_list == ("b", "a")

    def test_a_list_that_is_no_pairs_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"^LSB_MCPU_HOSTS is 'a b': it should be names and slots in turn$"):
            detect(LSB_MCPU_HOSTS="a b")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("one", ["one"]),
        ("a,b", ["a", "b"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("n[009-011]", ["n009", "n010", "n011"]),
        ("n[08,10-11]", ["n08", "n10", "n11"]),
        ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
        ("c[0-1].example,d", ["c0.example", "c1.example", "d"]),
    ],
)
def test_lists_of_slurm_expand_as_scontrol_shows_them(text: str, names: list[str]) -> None:
    assert expand_nodes(text) == names


@given(st.sets(st.integers(0, 999), min_size=1, max_size=20))
def test_every_number_in_brackets_is_a_node(numbers: set[int]) -> None:
    ordered = sorted(numbers)
    assert expand_nodes(f"n[{','.join(f'{n:03d}' for n in ordered)}]") == [f"n{n:03d}" for n in ordered]
    assert expand_nodes(f"n[{ordered[0]:03d}-{ordered[-1]:03d}]") == [
        f"n{n:03d}" for n in range(ordered[0], ordered[-1] + 1)
    ]


@pytest.mark.parametrize("text", ["a[1-2", "a]1[", "a[[1]]", "a[]", "a[2-1]", "a[x]", "a[1--2]", "a[0-999999999]"])
def test_a_list_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^SLURM_JOB_NODELIST (is|has) ") as caught:
        expand_nodes(text, "SLURM_JOB_NODELIST")
    assert re.search(r"brackets do not match|write ranges as in \[01-03,7\]", str(caught.value))


def test_a_cluster_survives_json() -> None:
    info = ClusterInfo("slurm", ("a", "b"), "7", 2, {"SLURM_JOB_ID": "7"})
    assert ClusterInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info


def test_many_gpus_make_more_starts_and_several_nodes_make_checkpoints() -> None:
    large = create_distributed_config(ClusterInfo("pbs", tuple("abcdef"), gpus_per_node=8))
    assert (large.n_starts, large.enable_checkpointing, large.tier) == (20, True, "streaming_checkpoint")
    assert large.chunk_size is not None
    assert 100_000 <= large.chunk_size <= 1_000_000
    small = create_distributed_config(ClusterInfo("pbs", ("a",), gpus_per_node=2))
    assert (small.n_starts, small.enable_checkpointing, small.tier) == (10, False, "streaming")


def test_a_directory_for_checkpoints_is_named_after_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = create_checkpoint_directory(tmp_path)
    assert made.is_dir()
    assert made.parent == tmp_path / "nlsq_checkpoints"
    assert re.fullmatch(r"\d{8}_\d{6}", made.name)
    monkeypatch.chdir(tmp_path)
    assert create_checkpoint_directory().parent == tmp_path / "nlsq_checkpoints"
