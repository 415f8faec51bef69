"""Whole campaigns through the real command: what is called done, what is not, and what is run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from real_runs import CAMPAIGN, campaign, reasons, start, states, status, wait_until


def one(script: str, name: str = "one", extra: str = "") -> str:
    """A campaign of one task ``a`` that runs a shell script."""
    command = json.dumps(["sh", "-c", script])
    return f'[campaign]\nname = "{name}"\n[campaign.a]\nkind = "command"\ncommand = {command}\n{extra}\n'


DIAMOND = """
[campaign]
name = "diamond"
[campaign.top]
kind = "command"
command = ["sh", "-c", "echo top > out.txt"]
[campaign.bad]
kind = "command"
command = ["sh", "-c", "echo before the end >&2; exit 3", "output://top/out.txt"]
[campaign.good]
kind = "command"
command = ["cat", "output://top/out.txt"]
[campaign.below]
kind = "command"
command = ["true"]
depends_on = ["bad", "good"]
[campaign.lowest]
kind = "command"
command = ["true"]
depends_on = ["below"]
"""


def test_failure_skips_descendants_and_nothing_else(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "submit", text=DIAMOND)

    assert answer.returncode == 1
    assert states(tmp_path) == {
        "top": "done", "bad": "failed", "good": "done", "below": "skipped", "lowest": "skipped",
    }  # fmt: skip
    assert reasons(tmp_path)["lowest"] == "needs bad, which is failed"
    assert reasons(tmp_path)["bad"] == "exit status 3"


def test_summary_names_failure_reason_log_lines_and_log_path(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "submit", text=DIAMOND)

    (log,) = tmp_path.glob("runs/campaigns/*/logs/bad/bad.1.err")
    lines = answer.stdout.splitlines()
    at = lines.index("failed bad: exit status 3")
    assert lines[at + 1 : at + 3] == ["    | before the end", f"    log: {log}"]


def test_finished_run_is_not_run_again(tmp_path: Path) -> None:
    text = '[campaign]\nname = "one"\n[campaign.a]\nkind = "command"\ncommand = ["true"]\n'
    campaign(tmp_path, "submit", text=text)
    (journal,) = tmp_path.glob("runs/campaigns/*/journal.jsonl")
    before = journal.read_bytes()

    answer = campaign(tmp_path, "submit")

    assert answer.returncode == 0
    assert answer.stdout.startswith(f"{journal.parent.name}: nothing to do; 1 task: 1 done")
    assert journal.read_bytes() == before


def test_retry_runs_what_failed_and_what_was_skipped_because_of_it(tmp_path: Path) -> None:
    text = """
    [campaign]
    name = "retry"
    [campaign.fine]
    kind = "command"
    command = ["sh", "-c", "echo x >> ../../../fine.txt"]
    [campaign.flaky]
    kind = "command"
    command = ["sh", "-c", "echo x >> ../../../flaky.txt; test -e ../../../mended"]
    [campaign.after]
    kind = "command"
    command = ["true"]
    depends_on = ["flaky"]
    """
    assert campaign(tmp_path, "submit", text=text).returncode == 1
    (tmp_path / "mended").touch()

    answer = campaign(tmp_path, "retry")

    assert answer.returncode == 0, answer.stderr
    assert states(tmp_path) == {"fine": "done", "flaky": "done", "after": "done"}
    assert (tmp_path / "fine.txt").read_text() == "x\n"
    assert (tmp_path / "flaky.txt").read_text() == "x\nx\n"
    assert {task["task"]: task["attempts"] for task in status(tmp_path)["tasks"]} == {"fine": 1, "flaky": 2, "after": 1}


def test_submitting_again_leaves_a_failed_task_alone(tmp_path: Path) -> None:
    campaign(tmp_path, "submit", text=DIAMOND)

    answer = campaign(tmp_path, "submit")

    assert answer.returncode == 1
    assert {task["attempts"] for task in status(tmp_path)["tasks"] if task["task"] == "bad"} == {1}


def test_plain_failure_is_retried_as_often_as_the_campaign_asks(tmp_path: Path) -> None:
    text = """
    [campaign]
    name = "retries"
    [execution]
    retries = 2
    [campaign.bad]
    kind = "command"
    command = ["sh", "-c", "echo x >> ../../../tries.txt; false"]
    """
    assert campaign(tmp_path, "submit", text=text).returncode == 1
    assert (tmp_path / "tries.txt").read_text() == "x\nx\nx\n"


@pytest.mark.parametrize(
    ("script", "extra", "reason"),
    [
        ("true", 'outputs = { map = "map.fits" }', "the declared output map.fits (map) is missing"),
        ("true", 'metrics = "m.json"', "the declared metrics file m.json is missing"),
        (
            'echo \'{"a": {"b": [1, NaN]}}\' > m.json',
            'metrics = "m.json"',
            "the metric a.b[1] is not a finite number",
        ),
        ("echo '[1]' > m.json", 'metrics = "m.json"', "m.json holds list, not a table of metrics"),
        (
            "echo '{' > m.json",
            'metrics = "m.json"',
            "m.json is not JSON: Expecting property name enclosed in double quotes: line 2 column 1 (char 2)",
        ),
    ],
)
def test_result_that_breaks_its_contract_is_invalid(tmp_path: Path, script: str, extra: str, reason: str) -> None:
    assert campaign(tmp_path, "submit", text=one(script, extra=extra)).returncode == 1
    assert states(tmp_path) == {"a": "invalid"}
    assert reasons(tmp_path) == {"a": reason}
    assert list(tmp_path.glob("runs/command/*/result.json")) == []


def test_file_that_others_refer_to_is_part_of_the_contract(tmp_path: Path) -> None:
    text = """
    [campaign]
    name = "contract"
    [campaign.a]
    kind = "command"
    command = ["true"]
    [campaign.b]
    kind = "command"
    command = ["cat", "output://a/made.txt"]
    """
    assert campaign(tmp_path, "submit", text=text).returncode == 1
    assert reasons(tmp_path) == {
        "a": "the declared output made.txt is missing",
        "b": "needs a, which is invalid",
    }


def test_same_task_in_another_campaign_is_cached(tmp_path: Path) -> None:
    table = 'kind = "command"\ncommand = ["sh", "-c", "echo x >> ../../../count.txt; echo y > y.txt"]\n'
    campaign(tmp_path, "submit", text=f'[campaign]\nname = "first"\n[campaign.a]\n{table}')
    answer = campaign(
        tmp_path, "submit",
        text=f'[campaign]\nname = "second"\n[campaign.other]\n{table}[campaign.b]\nkind = "command"\n'
        'command = ["cat", "output://other/y.txt"]\n',
    )  # fmt: skip

    assert answer.returncode == 0
    assert (tmp_path / "count.txt").read_text() == "x\n"
    assert states(tmp_path) == {"other": "cached", "b": "done"}


def test_task_listed_twice_is_built_once(tmp_path: Path) -> None:
    table = 'kind = "command"\ncommand = ["sh", "-c", "echo x >> ../../../count.txt"]\n'
    answer = campaign(tmp_path, "submit", text=f'[campaign]\nname = "t"\n[campaign.a]\n{table}[campaign.b]\n{table}')

    assert answer.returncode == 0
    assert (tmp_path / "count.txt").read_text() == "x\n"
    assert sorted(states(tmp_path).values()) == ["cached", "done"]


def test_done_task_whose_result_was_deleted_is_computed_again(tmp_path: Path) -> None:
    text = '[campaign]\nname = "gone"\n[campaign.a]\nkind = "command"\ncommand = ["sh", "-c", "echo 1 > x.txt"]\n'
    campaign(tmp_path, "submit", text=text)
    (result,) = tmp_path.glob("runs/command/*/result.json")
    result.unlink()

    assert campaign(tmp_path, "submit").returncode == 0
    assert json.loads(result.read_text())["task"] == "a"
    assert status(tmp_path)["tasks"][0]["attempts"] == 2


def test_priority_follows_the_critical_path(tmp_path: Path) -> None:
    text = """
    [campaign]
    name = "order"
    [execution]
    cores = 1
    [campaign.g]
    kind = "command"
    command = ["sh", "-c", "echo {tag} >> ../../../order.txt"]
    resources = { runtime = "10 s" }
    [campaign.g.short]
    parameters.tag = "short"
    [campaign.g.long]
    parameters.tag = "long"
    resources = { runtime = "1 h" }
    [campaign.g.chain]
    parameters.tag = "chain"
    [campaign.end]
    kind = "command"
    command = ["true"]
    depends_on = ["g.chain"]
    resources = { runtime = "2 h" }
    """
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    assert (tmp_path / "order.txt").read_text().split() == ["chain", "long", "short"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_cancels_journals_and_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    text = """
    [campaign]
    name = "stop"
    [campaign.long]
    kind = "command"
    command = ["sh", "-c", "echo $$ > ../../../pid; exec sleep 600"]
    [campaign.later]
    kind = "command"
    command = ["true"]
    depends_on = ["long"]
    """
    (tmp_path / "campaign.toml").write_text(text)
    process = start(tmp_path)
    wait_until((tmp_path / "pid").exists)
    process.send_signal(number)
    process.wait(60)

    assert process.returncode == 1
    assert states(tmp_path) == {"long": "cancelled", "later": "cancelled"}
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not list(tmp_path.glob("runs/campaigns/*/lock"))


def test_what_was_cancelled_starts_again_when_submitted_again(tmp_path: Path) -> None:
    text = one("touch ../../../on; sleep $(cat ../../../time)")
    (tmp_path / "time").write_text("600")
    (tmp_path / "campaign.toml").write_text(text)
    process = start(tmp_path)
    wait_until((tmp_path / "on").exists)
    assert campaign(tmp_path, "cancel").returncode == 0
    process.wait(60)
    assert states(tmp_path) == {"a": "cancelled"}
    (tmp_path / "time").write_text("0")

    assert campaign(tmp_path, "submit").returncode == 0
    assert states(tmp_path) == {"a": "done"}


def test_second_submit_says_who_holds_the_run(tmp_path: Path) -> None:
    text = one("touch ../../../on; sleep 600")
    (tmp_path / "campaign.toml").write_text(text)
    first = start(tmp_path)
    wait_until((tmp_path / "on").exists)

    second = campaign(tmp_path, "submit")

    first.send_signal(signal.SIGINT)
    first.wait(60)
    assert second.returncode == 2
    (run,) = (tmp_path / "runs/campaigns").iterdir()
    assert f"{run.name} is held by process {first.pid} on " in second.stderr


def test_detached_submit_returns_at_once_and_the_run_goes_on(tmp_path: Path) -> None:
    text = one("while [ ! -e ../../../go ]; do sleep 0.05; done")
    answer = campaign(tmp_path, "submit", "--detach", text=text)
    assert answer.returncode == 0, answer.stderr
    assert status(tmp_path)["state"] == "running"

    (tmp_path / "go").touch()

    (run,) = (tmp_path / "runs/campaigns").iterdir()
    wait_until(lambda: not (run / "lock").exists())
    assert states(tmp_path) == {"a": "done"}


def test_dry_run_prints_scripts_and_writes_nothing(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "submit", "--dry-run", text=DIAMOND)
    assert answer.returncode == 0
    assert "# task top" in answer.stdout
    assert "echo top > out.txt" in answer.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["campaign.toml"]


def test_faults_exit_with_2_and_write_nothing(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "submit", text='[campaign]\nname = "x"\n[campaign.a]\nkind = "comand"\n')
    assert answer.returncode == 2
    assert answer.stderr == (
        "campaign.toml:4: campaign.a: unknown kind 'comand'; known kinds: command, fit, optimize; "
        "did you mean 'command'?\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["campaign.toml"]


def test_names_with_spaces_and_unicode_work_from_end_to_end(tmp_path: Path) -> None:
    folder = tmp_path / "my données ☂"
    folder.mkdir()
    text = """
    [campaign]
    name = "été 2026"
    [campaign."carte du ciel"]
    kind = "command"
    command = ["sh", "-c", "echo ☀ > 'le résultat.txt'"]
    [campaign.suite]
    kind = "command"
    command = ["cat", "output://carte du ciel/le résultat.txt"]
    """
    answer = campaign(folder, "submit", text=text)
    assert answer.returncode == 0, answer.stderr
    assert states(folder) == {"carte du ciel": "done", "suite": "done"}
    assert campaign(folder, "logs", "suite", "--out").stdout == "☀\n"


def test_python_of_a_task_is_the_one_campaign_is_installed_with(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text(one("python3 -c 'import sys; print(sys.prefix)'"))
    bare = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    subprocess.run([*CAMPAIGN, "submit"], cwd=tmp_path, check=True, env={**bare, "PATH": "/usr/bin:/bin"})
    assert campaign(tmp_path, "logs", "a", "--out").stdout == f"{sys.prefix}\n"


def test_activated_environment_decides_which_python_a_task_gets(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text(one("echo $PATH $VIRTUAL_ENV"))
    activated = {**os.environ, "PATH": "/usr/bin:/bin", "VIRTUAL_ENV": "/opt/mine"}
    subprocess.run([*CAMPAIGN, "submit"], cwd=tmp_path, check=True, env=activated)
    assert campaign(tmp_path, "logs", "a", "--out").stdout == "/usr/bin:/bin /opt/mine\n"
