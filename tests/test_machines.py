"""``campaign machines``: the real program; the page about it; the files in a wheel."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from test_docs import ROOT, follow
from test_machine_file import SHIPPED, SMALL


def campaign(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **variables}
    return subprocess.run(
        [sys.executable, "-m", "socm_like.cli", "machines", *words],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip


def test_the_list_shows_every_machine_and_every_type_of_nodes(tmp_path: Path) -> None:
    lines = campaign(tmp_path).stdout.splitlines()
    rows = [" ".join(line.split()) for line in lines]
    assert rows[0] == "machine nodes cores memory GPUs longest what it is"
    assert rows[1].startswith("local 1 ")
    assert rows[2:9] == [
        "laptop 1 8 16 GiB - - a laptop of one's own",
        "perlmutter 3072 128 477 GiB - 2 d NERSC's Perlmutter, CPU and GPU nodes",
        "gpu 1536 64 238 GiB 4 2 d NVIDIA A100, 37.3 GiB each",
        "gpu80 256 64 238 GiB 4 2 d NVIDIA A100, 74.5 GiB each",
        "slurm 10 32 119 GiB - 1 d a template to copy, for any Slurm cluster",
        "tiger3 492 112 931 GiB - 15 d Princeton's Tiger 3, CPU nodes",
        "universe 28 224 931 GiB - 30 d SO:UK's Universe",
    ]
    assert rows[9:11] == ["", "Cores, memory and GPUs are of one node; the longest is that of a job."]
    assert " ".join(rows[11:]).endswith("; gpus: CUDA_VISIBLE_DEVICES shows none.")


@pytest.mark.parametrize("words", [(), ("perlmutter",), ("tiger3",), ("local",)])
def test_everything_fits_a_terminal_of_80_columns(words: tuple[str, ...], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "NO_COLOR": "1"}
    environment.pop("COLUMNS", None)
    program = [sys.executable, "-m", "socm_like.cli", "machines", *words]
    child = subprocess.Popen(program, cwd=tmp_path, stdout=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the terminal has no other end any more
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert child.wait(60) == 0
    paths = ("  file ", "https://")
    wide = [line for line in shown.decode().splitlines() if len(line) > 80 and not line.startswith(paths)]
    assert (len(shown) > 300, wide) == (True, [])


def test_a_machine_is_shown_with_its_limits_and_sources(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(
        SMALL + 'min_nodes = 2\ncost_per_node_hour = 0.5\n[schedule]\nweekends = true\n'
        '[sources]\n"nodes" = "sinfo, 2026-11-21"\n'
    )  # fmt: skip
    assert (
        campaign(tmp_path, "m.toml").stdout
        == """\
small
  file       m.toml
  scheduler  slurm

nodes
type  nodes  cores  memory
cpu       2      8  16 GiB

partitions, the preferred first (nodes of one job; jobs and cores of one user)
partition  type  time  nodes   cost
main       cpu    1 h  from 2   0.5

schedule
key       value
weekends  yes

where the figures come from
sinfo, 2026-11-21
    nodes.cpu: count, cores, memory
not stated
    partitions.main: walltime, min_nodes, cost_per_node_hour
"""
    )


def test_json_is_the_model_in_bytes_and_seconds(tmp_path: Path) -> None:
    listed = json.loads(campaign(tmp_path, "--json").stdout)
    assert [machine["name"] for machine in listed] == ["local", *SHIPPED]
    assert listed[0]["file"] is None
    tiger = json.loads(campaign(tmp_path, "tiger3", "--json").stdout)
    assert tiger == listed[4]
    assert tiger["file"] == str(ROOT / "campaigns/machines/tiger3.toml")
    assert tiger["nodes"]["cpu"]["memory"] == 10**12
    assert tiger["partitions"]["vshort"]["walltime"] == 18000.0


def test_a_wrong_name_and_a_wrong_file_exit_with_2(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(SMALL.replace("cores", "cors"))
    wrong = campaign(tmp_path, "m.toml")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.splitlines()[0] == "m.toml:4: the required key 'nodes.cpu.cores' is missing"
    unknown = campaign(tmp_path, "univers")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.endswith("did you mean 'universe'?\n")


def test_names_complete_and_after_them_files(tmp_path: Path) -> None:
    def completed(word: str) -> list[str]:
        variables = {
            **os.environ,
            "_CAMPAIGN_COMPLETE": "bash_complete",
            "COMP_WORDS": f"campaign machines {word}",
            "COMP_CWORD": "2",
        }
        program = "from socm_like.cli import cli; cli(prog_name='campaign')"
        child = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, env=variables
        )
        return child.stdout.split()

    assert completed("") == [f"plain,{name}" for name in ("local", *SHIPPED)]
    assert completed("l") == ["plain,local", "plain,laptop"]
    assert completed("./m") == ["file,./m"]


def test_the_page_on_machines_does_what_it_says(tmp_path: Path) -> None:
    assert follow(ROOT / "docs/machines.rst", tmp_path) == 5


@pytest.mark.slow
def test_a_wheel_brings_its_machines(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    words = [sys.executable, "-m", "socm_like.cli", "machines", "tiger3", "--json"]
    child = subprocess.run(words, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(child.stdout)["file"] == str(tmp_path / "site/socm_like/machines/tiger3.toml")
