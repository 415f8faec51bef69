"""What an unfriendly reader of our promises found; each case was once a wrong answer, a hang or a traceback."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from real_runs import CAMPAIGN, campaign, reasons, start, states, status, wait_until


def one(script: str, name: str = "one", extra: str = "") -> str:
    """A campaign of one task ``a`` that runs a shell script."""
    command = json.dumps(["sh", "-c", script])
    return f'[campaign]\nname = "{name}"\n[campaign.a]\nkind = "command"\ncommand = {command}\n{extra}\n'


def test_two_campaigns_at_work_on_the_same_task_do_not_meet(tmp_path: Path) -> None:
    script = "for i in 1 2 3 4 5 6; do echo $i >> out; sleep 0.2; done"
    folders = [tmp_path / name for name in ("first", "second")]
    runners = []
    for folder in folders:
        folder.mkdir()
        text = one(script, folder.name, 'outputs = { out = "out" }')
        (folder / "campaign.toml").write_text(text.replace("[campaign.a]", 'store = "../store"\n[campaign.a]'))
        runners.append(start(folder))
    assert [runner.wait(60) for runner in runners] == [0, 0]
    (out,) = tmp_path.glob("store/command/*/out")
    assert out.read_text().split() == ["1", "2", "3", "4", "5", "6"]


def test_input_that_changes_while_a_task_runs_makes_it_invalid(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one")
    text = """
    [campaign]
    name = "changing"
    [campaign.a]
    kind = "command"
    command = ["sh", "-c", "touch ../../../on; until [ -e ../../../go ]; do sleep 0.05; done; cat $0", "in.txt"]
    [campaign.late]
    kind = "command"
    command = ["cat", "in.txt"]
    depends_on = ["b"]
    [campaign.b]
    kind = "command"
    command = ["sh", "-c", "until [ -e ../../../go ]; do sleep 0.05; done"]
    """
    (tmp_path / "campaign.toml").write_text(text)
    runner = start(tmp_path)
    wait_until((tmp_path / "on").exists)
    (tmp_path / "in.txt").write_text("two")
    (tmp_path / "go").touch()

    assert runner.wait(60) == 1
    problem = f"its input {tmp_path}/in.txt has changed since the campaign was submitted; submit again"
    assert states(tmp_path) == {"a": "invalid", "b": "done", "late": "invalid"}
    assert reasons(tmp_path) == {"a": problem, "b": None, "late": problem}


def test_task_that_removes_its_directory_is_invalid_and_harms_nobody(tmp_path: Path) -> None:
    text = one("rm -rf $PWD") + '[campaign.b]\nkind = "command"\ncommand = ["sleep", "0.3"]\n'
    assert campaign(tmp_path, "submit", text=text).returncode == 1
    assert states(tmp_path) == {"a": "invalid", "b": "done"}
    assert reasons(tmp_path)["a"] == "its directory has gone: the task, or somebody, removed it"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("mkfifo m.json", "m.json cannot be read: not a regular file"),
        ("mkdir m.json", "m.json cannot be read: Is a directory"),
        ("head -c 100000 /dev/zero | tr '\\0' '[' > m.json", "m.json is nested too deeply"),
        ("truncate -s 100M m.json", "m.json cannot be read: larger than 64 MiB"),
    ],
)
def test_strange_file_of_metrics_is_invalid_and_harms_nobody(tmp_path: Path, script: str, reason: str) -> None:
    assert campaign(tmp_path, "submit", text=one(script, extra='metrics = "m.json"'), timeout=60).returncode == 1
    assert (states(tmp_path), reasons(tmp_path)) == ({"a": "invalid"}, {"a": reason})


def test_output_that_links_into_the_working_directory_is_invalid(tmp_path: Path) -> None:
    text = one("echo hi > t; ln -s $PWD/t o; ln -s t fine", extra='outputs = { fine = "fine", o = "o" }')
    assert campaign(tmp_path, "submit", text=text).returncode == 1
    assert reasons(tmp_path)["a"] == (
        "the declared output o links into the task's own directory, which moves; link relatively"
    )


def test_cancelling_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    campaign(tmp_path, "submit", text=one("true"))
    (journal,) = tmp_path.glob("runs/campaigns/*/journal.jsonl")
    before = journal.read_bytes()

    answer = campaign(tmp_path, "cancel")

    assert (answer.returncode, answer.stdout) == (
        0,
        f"{journal.parent.name}: nothing runs or waits; nothing cancelled\n",
    )
    assert journal.read_bytes() == before


def test_reason_that_cannot_be_printed_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "from socm_like import Workflow\n"
        "class OddWorkflow(Workflow):\n"
        "    def run(self, directory):\n"
        "        raise ValueError('\\ud800 bad \\x1b[31m red')\n"
    )
    answer = campaign(tmp_path, "submit", text='[campaign]\nname = "odd"\nplugins = ["odd.py"]\n[campaign.odd]\n')
    assert answer.returncode == 1
    assert "failed odd: ValueError: \\ud800 bad \\x1b[31m red\n" in answer.stdout
    assert "run again what failed: campaign retry odd-" in answer.stdout


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
@pytest.mark.parametrize("command", ["submit", "status", "results"])
def test_answer_that_cannot_be_written_is_no_traceback(tmp_path: Path, command: str, redirection: str) -> None:
    campaign(tmp_path, "submit", text=one("true"))
    line = f"{CAMPAIGN[0]} -m socm_like.cli {command} {redirection}"
    answer = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in answer.stderr
    if redirection == ">/dev/full":
        assert (answer.returncode, answer.stderr) == (1, "cannot write the answer: No space left on device\n")


def test_damaged_request_is_named(tmp_path: Path) -> None:
    campaign(tmp_path, "submit", text=one("false"))
    (run,) = (tmp_path / "runs/campaigns").iterdir()
    (run / "requests").mkdir(exist_ok=True)
    (run / "requests" / "1-1.json").write_text("garbage")
    answer = campaign(tmp_path, "retry")
    assert answer.returncode == 1
    assert answer.stderr.endswith(f"{run}/requests/1-1.json: not a request of ours; remove the file\n")


def test_store_of_the_campaign_file_is_found_by_the_commands_that_look(tmp_path: Path) -> None:
    text = one("false").replace("[campaign.a]", 'store = "my store"\n[campaign.a]')
    answer = campaign(tmp_path, "submit", text=text)
    assert status(tmp_path)["counts"] == {"failed": 1}
    (hint,) = (line for line in answer.stdout.splitlines() if line.startswith("run again"))
    assert "--store" not in hint
    elsewhere = campaign(tmp_path, "submit", "--store", "other place")
    (hint,) = (line for line in elsewhere.stdout.splitlines() if line.startswith("run again"))
    assert hint.endswith(f" --store '{tmp_path}/other place'")
