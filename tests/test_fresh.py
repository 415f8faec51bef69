"""``campaign submit --fresh``: all is computed again, once, whatever results there are and whenever it is killed."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from pathlib import Path

from real_runs import CAMPAIGN, campaign, reasons, start, states, status, wait_until
from test_searches import DONE, SEARCH, TRAIN, attempts, ledger, named, run_directory, study, train

LINE = """
[campaign.{name}]
kind = "command"
command = ["sh", "-c", "echo {word} >> ../../../ledger; {script} date +%s%N > out.txt", "{more}"]
outputs.out = "out.txt"
"""


def table(name: str, word: str = "", script: str = "", more: str = "") -> str:
    return LINE.format(name=name, word=word or name, script=script, more=more)


def fresh(folder: Path) -> subprocess.Popen[bytes]:
    """Start ``campaign submit --fresh``, unseen."""
    words = [*CAMPAIGN, "submit", "--fresh"]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def outputs(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.glob("runs/command/*/out.txt")}


def test_every_task_is_computed_again_once_and_results_are_replaced(tmp_path: Path) -> None:
    tables = table("a"), table("twin", "a"), table("b", more="output://a/out.txt")
    assert campaign(tmp_path, "submit", text=named("all", *tables)).returncode == 0
    before = outputs(tmp_path)
    assert Counter(ledger(tmp_path)) == {"a": 1, "b": 1}

    answer = campaign(tmp_path, "submit", "--fresh")

    assert answer.returncode == 0, answer.stderr
    assert Counter(ledger(tmp_path)) == {"a": 2, "b": 2}
    assert len(before) == len(outputs(tmp_path)) == 2
    assert not before & outputs(tmp_path)
    assert sorted(states(tmp_path).values()) == ["cached", "done", "done"]
    assert sorted(path.name for path in tmp_path.glob("runs/command/*") if len(path.name) != 12) == []
    assert "nothing to do" in campaign(tmp_path, "submit").stdout


def test_fresh_works_in_a_campaign_that_has_never_run_here(tmp_path: Path) -> None:
    text = named("first", TRAIN, SEARCH, "in_flight = 6\n")
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    assert campaign(tmp_path, "submit", "--fresh", text=text.replace("first", "second")).returncode == 0

    assert states(tmp_path) == DONE
    assert Counter(ledger(tmp_path)) == {str(x): 2 for x in range(6)}


def test_the_old_result_stands_when_a_fresh_attempt_fails_and_retry_computes_it(tmp_path: Path) -> None:
    text = named(
        "fails", table("a", script="test ! -e ../../../broken || exit 1;"), table("b", more="output://a/out.txt")
    )
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    before = outputs(tmp_path)
    (tmp_path / "broken").touch()

    assert campaign(tmp_path, "submit", "--fresh").returncode == 1

    assert states(tmp_path) == {"a": "failed", "b": "skipped"}
    assert outputs(tmp_path) == before
    assert [row["metrics"] for row in json.loads(campaign(tmp_path, "results", "--json").stdout)] == [{}, {}]
    assert campaign(tmp_path, "submit").returncode == 1
    (tmp_path / "broken").unlink()
    assert campaign(tmp_path, "retry").returncode == 0
    assert states(tmp_path) == {"a": "done", "b": "done"}
    assert Counter(ledger(tmp_path)) == {"a": 3, "b": 2}
    assert not before & outputs(tmp_path)


def test_a_fresh_attempt_that_removes_its_directory_is_not_done_with_the_old_result(tmp_path: Path) -> None:
    text = named("gone", table("a", script="if [ -e ../../../bad ]; then rm -r $PWD; exit 0; fi;"))
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    before = outputs(tmp_path)
    (tmp_path / "bad").touch()
    assert campaign(tmp_path, "submit", "--fresh").returncode == 1
    assert states(tmp_path) == {"a": "invalid"}
    assert reasons(tmp_path) == {"a": "its directory has gone: the task, or somebody, removed it"}
    assert outputs(tmp_path) == before


WAIT = "while [ -e ../../../wait ]; do sleep 0.02; done;"


def interrupted(folder: Path, number: signal.Signals) -> None:
    """Submit afresh what has run once, and end the runner while ``b`` of ``a``, ``b``, ``c`` runs."""
    tables = table("a"), table("b", script=WAIT, more="output://a/out.txt"), table("c", more="output://b/out.txt")
    assert campaign(folder, "submit", text=named("half", *tables)).returncode == 0
    (folder / "wait").touch()
    runner = fresh(folder)
    wait_until(lambda: ledger(folder)[3:] == ["a", "b"])
    wait_until(lambda: states(folder)["b"] == "running")
    runner.send_signal(number)
    runner.wait(60)


def test_what_was_to_be_computed_again_still_is_after_a_kill(tmp_path: Path) -> None:
    interrupted(tmp_path, signal.SIGKILL)
    (tmp_path / "wait").unlink()

    assert campaign(tmp_path, "submit").returncode == 0
    assert states(tmp_path) == {"a": "done", "b": "done", "c": "done"}
    assert Counter(ledger(tmp_path)) == {"a": 2, "b": 2, "c": 2}


def test_what_was_to_be_computed_again_still_is_after_an_interrupt(tmp_path: Path) -> None:
    interrupted(tmp_path, signal.SIGINT)
    assert states(tmp_path) == {"a": "done", "b": "cancelled", "c": "cancelled"}
    (tmp_path / "wait").unlink()

    assert campaign(tmp_path, "submit").returncode == 0
    assert states(tmp_path) == {"a": "done", "b": "done", "c": "done"}
    assert Counter(ledger(tmp_path)) == {"a": 2, "b": 3, "c": 2}


def test_status_of_a_dead_run_does_not_take_an_old_result_for_that_of_a_fresh_attempt(tmp_path: Path) -> None:
    script = f"if [ -e ../../../wait ]; then {WAIT} touch ../../../ended; exit 0; fi;"
    assert campaign(tmp_path, "submit", text=named("status", table("a", script=script))).returncode == 0
    (tmp_path / "wait").touch()
    runner = fresh(tmp_path)
    wait_until(lambda: ledger(tmp_path) == ["a", "a"])
    runner.kill()
    runner.wait()
    (tmp_path / "wait").unlink()
    wait_until((tmp_path / "ended").exists)
    wait_until(lambda: states(tmp_path)["a"] != "running")
    assert states(tmp_path) == {"a": "invalid"}
    assert campaign(tmp_path, "submit").returncode == 1
    assert reasons(tmp_path) == {"a": "the declared output out.txt (out) is missing"}


def test_a_search_begins_anew_and_what_a_dead_runner_left_of_it_is_ended(tmp_path: Path) -> None:
    script = f"{WAIT} echo '{{\"loss\": '{{x}}'}}' > m.json; echo {{x}} >> ../../../ended"
    text = named("anew", train(script, 'metrics = "m.json"'), SEARCH)
    (tmp_path / "wait").touch()
    (tmp_path / "campaign.toml").write_text(text)
    runner = start(tmp_path)
    wait_until(lambda: len(ledger(tmp_path)) == 2)
    runner.kill()
    runner.wait()
    again = fresh(tmp_path)
    wait_until(lambda: len(ledger(tmp_path)) == 4)
    (tmp_path / "wait").unlink()

    assert again.wait(60) == 0
    assert Counter(ledger(tmp_path)) == {"0": 2, "1": 2, "2": 1, "3": 1, "4": 1, "5": 1}
    assert sorted((tmp_path / "ended").read_text().split()) == ["0", "1", "2", "3", "4", "5"]
    assert states(tmp_path) == DONE
    assert study(tmp_path) == [("COMPLETE", x) for x in range(6)]


def test_a_fresh_search_that_is_killed_computes_each_trial_again_once(tmp_path: Path) -> None:
    script = f"if [ {{x}} = 3 ]; then {WAIT} fi; echo '{{\"loss\": '{{x}}'}}' > m.json"
    text = named("killed", train(script, 'metrics = "m.json"'), SEARCH, "in_flight = 1\n")
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    (tmp_path / "wait").touch()
    runner = fresh(tmp_path)
    wait_until(lambda: ledger(tmp_path)[6:] == ["0", "1", "2", "3"])
    runner.kill()
    runner.wait()
    (tmp_path / "wait").unlink()

    assert campaign(tmp_path, "submit").returncode == 0
    assert Counter(ledger(tmp_path)) == {str(x): 2 for x in range(6)}
    assert states(tmp_path) == DONE
    assert "nothing to do" in campaign(tmp_path, "submit").stdout


def test_a_kill_between_the_wish_and_the_forgetting_leaves_no_old_trial_standing(tmp_path: Path) -> None:
    assert campaign(tmp_path, "submit", text=named("window", TRAIN, SEARCH)).returncode == 0
    with (run_directory(tmp_path) / "journal.jsonl").open("a") as journal:
        event = {"at": "2026-11-21T00:00:00Z", "task": "search", "attempt": 2, "state": "planned", "fresh": True}
        journal.write(json.dumps(event) + "\n")

    assert campaign(tmp_path, "submit").returncode == 0
    assert Counter(ledger(tmp_path)) == {str(x): 2 for x in range(6)}
    assert states(tmp_path) == DONE
    assert attempts(tmp_path)["search"] == 2


def test_two_fresh_searches_of_the_same_points_compute_each_once(tmp_path: Path) -> None:
    other = SEARCH.replace("campaign.search", "campaign.worst") + 'direction = "maximize"\nin_flight = 1\n'
    text = named("two", TRAIN, SEARCH, "in_flight = 6\n", other)
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    assert campaign(tmp_path, "submit", "--fresh").returncode == 0
    assert Counter(ledger(tmp_path)) == {str(x): 2 for x in range(6)}
    assert Counter(states(tmp_path).values()) == {"done": 8, "cached": 6}


def test_fresh_in_the_background(tmp_path: Path) -> None:
    assert campaign(tmp_path, "submit", text=named("back", table("a"))).returncode == 0
    assert campaign(tmp_path, "submit", "--fresh", "--detach").returncode == 0
    wait_until(lambda: not (run_directory(tmp_path) / "lock").exists())
    assert ledger(tmp_path) == ["a", "a"]
    assert status(tmp_path)["state"] == "done"


def test_fresh_touches_nothing_of_a_run_that_somebody_holds(tmp_path: Path) -> None:
    (tmp_path / "wait").touch()
    (tmp_path / "campaign.toml").write_text(named("held", table("a", script=WAIT)))
    runner = start(tmp_path)
    wait_until(lambda: ledger(tmp_path) == ["a"])
    for words in (["--fresh"], ["--fresh", "--detach"]):
        answer = campaign(tmp_path, "submit", *words)
        assert answer.returncode == 2
        assert f"{run_directory(tmp_path).name} is held by process {runner.pid} on " in answer.stderr
    (tmp_path / "wait").unlink()
    assert runner.wait(60) == 0
    assert ledger(tmp_path) == ["a"]
