"""``resource = "name"``: where a campaign is to run, changed by one line."""

from __future__ import annotations

from pathlib import Path

from real_runs import campaign, states

from socm_like.resources import detect_machine

TASK = """
[campaign]
resource = "{resource}"
[campaign.a]
kind = "command"
command = "true"
resources = {{ ranks = {ranks}, runtime = "2 h" }}
"""
MINE = """
name = "mine"
scheduler = "local"
[nodes.desk]
count = 1
cores = {cores}
memory = "{memory}"
"""


def test_an_unknown_machine_is_one_fault_and_says_what_there_is(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "check", text=TASK.format(resource="tigre3", ranks=400))
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == (
        "campaign.toml:3: campaign: resource: unknown machine 'tigre3'; known machines: laptop, local, perlmutter, "
        "slurm, tiger3, universe, or the path of a .toml file; did you mean 'tiger3'?\n"
    )


def test_faults_of_a_machine_file_are_told_with_its_lines(tmp_path: Path) -> None:
    (tmp_path / "my machine.toml").write_text(MINE.format(cores=-1, memory="1 GiB"))
    answer = campaign(tmp_path, "check", text=TASK.format(resource="my machine.toml", ranks=1))
    assert answer.returncode == 2
    assert answer.stderr.endswith("my machine.toml:6: nodes.desk.cores: input should be greater than 0, got -1\n")
    assert len(answer.stderr.splitlines()) == 1


def test_a_campaign_for_a_cluster_is_planned_there_and_not_run_here(tmp_path: Path) -> None:
    text = TASK.format(resource="tiger3", ranks=400)
    assert campaign(tmp_path, "check", text=text).returncode == 0
    assert "tiger3" in campaign(tmp_path, "plan").stdout
    answer = campaign(tmp_path, "submit")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == (
        "tiger3 runs jobs through Slurm, which this version plans for (campaign plan) but cannot submit to; "
        "run it here: --set campaign.resource=local\n"
    )
    assert not (tmp_path / "runs").exists()


def test_what_fits_on_no_partition_is_told_per_partition(tmp_path: Path) -> None:
    text = TASK.format(resource="tiger3", ranks=400).replace("2 h", "20 d")
    for word in ("check", "plan"):
        answer = campaign(tmp_path, word, text=text)
        told = answer.stdout + answer.stderr
        assert answer.returncode != 0
        assert all(name in told for name in ("test", "vshort", "short", "medium", "long", "vlong"))
        assert "takes 20 d" in told and "walltime" in told and "15 d" in told


def test_a_machine_of_ones_own_limits_what_runs_here(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE.format(cores=1, memory="1 GiB"))
    text = TASK.format(resource="mine.toml", ranks=1)
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    assert states(tmp_path) == {"a": "done"}
    answer = campaign(tmp_path, "submit", text=TASK.format(resource="mine.toml", ranks=2))
    assert answer.stderr == "campaign.toml:7: campaign.a: a can never run: it asks 2 cores, mine has 1\n"


def test_a_machine_larger_than_this_one_is_refused_when_it_is_to_run(tmp_path: Path) -> None:
    cores = len(detect_machine().cores)
    (tmp_path / "mine.toml").write_text(MINE.format(cores=cores + 1, memory="1 GiB"))
    text = TASK.format(resource="mine.toml", ranks=1)
    assert campaign(tmp_path, "plan", text=text).returncode == 0
    answer = campaign(tmp_path, "submit")
    assert answer.returncode == 2
    assert answer.stderr == (
        f"mine has {cores + 1} cores, this machine {cores}; submit it there, "
        "or run it here: --set campaign.resource=local\n"
    )
