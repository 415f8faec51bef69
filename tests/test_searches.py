"""Searches in real runs: killed, interrupted, failing, cancelled, damaged; no trial is lost and none is run twice."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from real_runs import campaign, reasons, start, states, status, wait_until

SEARCH = """
[campaign.search]
kind = "optimize"
workflow = "train"
metric = "loss"
trials = 6
sampler = "grid"
outputs = { trials = "trials.csv", best = "best.json", study = "study.journal" }
space.x = [0, 1, 2, 3, 4, 5]
"""
DONE = {"search": "done", **{f"train[search={number}]": "done" for number in range(6)}}

PLUGIN = '''
import os, signal
from pathlib import Path
from typing import ClassVar
from socm_like.workflow import Result, Workflow

class Walk(Workflow):
    """Tries x = 0, 1, 2, ... one after the other."""
    kind: ClassVar[str] = "walk"
    driven: ClassVar[str] = "workflow"
    workflow: str
    count: int = 3
    fault: str = ""

    def extend(self, history):
        if any(not trial.state.is_final for trial in history.trials):
            return []
        match self.fault:
            case "raises": raise RuntimeError("no idea")
            case "exits": raise SystemExit(3)
            case "number": return [history.make({"x": 1}), 5]
            case "single": return history.make({"x": 1})
            case "nothing": return None
            case "same": return [history.make({"x": 1})]
            case "endless": return iter(lambda: history.make({"x": 1}), None)
            case "unknown": return [history.make({"y": 1})]
            case "killed" if Path("FLAG").exists() and len(history.trials) == 2: os.kill(os.getpid(), signal.SIGKILL)
        return [] if len(history.trials) >= self.count else [history.make({"x": len(history.trials)})]

    def stops(self, history):
        if self.fault == "stops":
            raise LookupError("who?")
        return {"minus": [-1], "beyond": [7], "text": ["0"], "none": None}.get(self.fault, [])

    def run(self, directory):
        return Result(metrics={"trials": self.count})
'''


def train(script: str, extra: str = "") -> str:
    """A table ``train`` whose trials append their x to ``ledger`` beside the campaign file, and then run a script."""
    command = json.dumps(["sh", "-c", f"echo {{x}} >> ../../../ledger; {script}"])
    return f'[campaign.train]\nkind = "command"\ncommand = {command}\nparameters.x = 0\n{extra}\n'


LOSS = "echo '{\"loss\": '{x}'}' > m.json"
TRAIN = train(LOSS, 'metrics = "m.json"')


def named(name: str, *tables: str) -> str:
    return f'[campaign]\nname = "{name}"\n' + "".join(tables)


def walk(**values: Any) -> str:
    keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in {"workflow": "train", **values}.items())
    return f'[campaign.search]\nkind = "walk"\n{keys}'


def with_plugin(folder: Path, *tables: str) -> str:
    (folder / "walk.py").write_text(PLUGIN.replace("FLAG", str(folder / "kill")))
    return '[campaign]\nname = "walk"\nplugins = ["walk.py"]\n' + "".join(tables)


def ledger(folder: Path) -> list[str]:
    path = folder / "ledger"
    return path.read_text().split() if path.exists() else []


def run_directory(folder: Path) -> Path:
    (run,) = (folder / "runs/campaigns").iterdir()
    return run


def output(folder: Path, name: str) -> Path:
    (path,) = folder.glob(f"runs/optimize/*/{name}")
    return path


def study(folder: Path) -> list[tuple[str, Any]]:
    """Return the state and x of every trial of Optuna's study, as Optuna itself reads it."""
    program = (
        "import sys, json, optuna; from optuna.storages import JournalStorage; "
        "from optuna.storages.journal import JournalFileBackend as File; optuna.logging.set_verbosity(40)\n"
        "study = optuna.load_study(study_name='search', storage=JournalStorage(File(sys.argv[1])))\n"
        "print(json.dumps([[trial.state.name, trial.params['x']] for trial in study.trials]))"
    )
    words = [sys.executable, "-W", "ignore", "-c", program, str(output(folder, "study.journal"))]
    return [tuple(item) for item in json.loads(subprocess.run(words, capture_output=True, check=True).stdout)]


def attempts(folder: Path) -> dict[str, int]:
    return {task["task"]: task["attempts"] for task in status(folder)["tasks"]}


def launcher_of(folder: Path) -> int:
    return int(json.loads((run_directory(folder) / "launcher.pid").read_text())["pid"])


# kills


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_search_whose_runner_is_killed_ends_with_every_trial_run_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    text = named("kills", train(f"sleep 0.1; {LOSS}", 'metrics = "m.json"'), SEARCH)
    (tmp_path / "campaign.toml").write_text(text)
    for count in sorted(chance.sample(range(1, 6), 2)):
        runner = start(tmp_path)
        wait_until(lambda: len(ledger(tmp_path)) >= count)  # noqa: B023 - called before the next
        with pytest.raises(subprocess.TimeoutExpired):
            runner.wait(chance.uniform(0, 0.1))  # the moment of the kill is the point, not a synchronisation
        runner.kill()
        runner.wait()
        assert status(tmp_path)["state"] == "interrupted"

    answer = campaign(tmp_path, "submit")

    assert answer.returncode == 0, answer.stderr
    assert sorted(ledger(tmp_path)) == ["0", "1", "2", "3", "4", "5"]
    assert states(tmp_path) == DONE
    assert set(attempts(tmp_path).values()) == {1}
    assert study(tmp_path) == [("COMPLETE", x) for x in range(6)]
    assert json.loads(output(tmp_path, "best.json").read_text())["value"] == 0.0


@pytest.mark.slow
def test_a_search_whose_launcher_dies_too_repeats_only_what_was_under_way(tmp_path: Path) -> None:
    script = f"while [ {{x}} = 3 -a ! -e ../../../go ]; do sleep 0.02; done; {LOSS}"
    (tmp_path / "campaign.toml").write_text(
        named("both", train(script, 'metrics = "m.json"'), SEARCH, "in_flight = 1\n")
    )
    runner = start(tmp_path)
    wait_until(lambda: ledger(tmp_path)[-1:] == ["3"])
    wait_until(lambda: states(tmp_path).get("train[search=3]") == "running")
    runner.kill()
    runner.wait()
    os.kill(launcher_of(tmp_path), signal.SIGKILL)
    (tmp_path / "go").touch()

    answer = campaign(tmp_path, "submit")

    assert answer.returncode == 0, answer.stderr
    assert states(tmp_path) == DONE
    assert Counter(ledger(tmp_path)) == {"0": 1, "1": 1, "2": 1, "3": 2, "4": 1, "5": 1}
    assert study(tmp_path) == [("COMPLETE", x) for x in range(6)]


def test_a_trial_that_was_written_down_and_not_launched_is_launched(tmp_path: Path) -> None:
    text = with_plugin(tmp_path, TRAIN, walk(fault="killed"))
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    lines = (run_directory(tmp_path) / "trials.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 3
    subprocess.run(["rm", "-r", "runs", "ledger"], cwd=tmp_path, check=True)
    (tmp_path / "kill").touch()
    assert campaign(tmp_path, "submit").returncode == -signal.SIGKILL
    (tmp_path / "kill").unlink()
    with (run_directory(tmp_path) / "trials.jsonl").open("a") as file:
        file.write(lines[2])

    answer = campaign(tmp_path, "submit")

    assert answer.returncode == 0, answer.stderr
    assert ledger(tmp_path) == ["0", "1", "2"]
    assert states(tmp_path) == {"search": "done", **{f"train[search={number}]": "done" for number in range(3)}}


@pytest.mark.slow
def test_an_interrupted_search_goes_on_with_the_same_trials(tmp_path: Path) -> None:
    script = f"while [ {{x}} = 2 -a ! -e ../../../go ]; do sleep 0.02; done; {LOSS}"
    (tmp_path / "campaign.toml").write_text(named("stop", train(script, 'metrics = "m.json"'), SEARCH))
    runner = start(tmp_path)
    wait_until(lambda: sorted(ledger(tmp_path)) == ["0", "1", "2", "3", "4", "5"])
    wait_until(lambda: states(tmp_path)["train[search=5]"] == "done")
    runner.send_signal(signal.SIGINT)

    assert runner.wait(60) == 1
    assert states(tmp_path) == {**DONE, "search": "cancelled", "train[search=2]": "cancelled"}
    (tmp_path / "go").touch()
    answer = campaign(tmp_path, "submit")
    assert answer.returncode == 0, answer.stderr
    assert states(tmp_path) == DONE
    assert Counter(ledger(tmp_path)) == {"0": 1, "1": 1, "2": 2, "3": 1, "4": 1, "5": 1}
    assert study(tmp_path) == [("COMPLETE", x) for x in range(6)]


# failures


@pytest.mark.slow
def test_trials_that_go_wrong_are_failures_of_theirs_and_the_search_goes_on(tmp_path: Path) -> None:
    script = (
        "case {x} in 0) exit 1;; 1) sleep 60;; 2) echo '{\"loss\": NaN}' > m.json;; "
        "3) echo '{\"other\": 1}' > m.json;; 4) kill -SEGV $$;; *) echo '{\"loss\": 5}' > m.json;; esac"
    )
    answer = campaign(
        tmp_path, "submit",
        text=named("wrong", train(script, 'metrics = "m.json"'), SEARCH, 'in_flight = 6\ntrial_runtime = "2 s"\n'),
    )  # fmt: skip

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[0].endswith(": 3 done, 2 failed, 1 invalid, 1 timeout")
    assert len(answer.stdout.splitlines()) == 2  # how a trial ends is for its search to judge
    found = status(tmp_path)
    assert found["state"] == "done"
    assert found["counts"] == {"done": 3, "failed": 2, "timeout": 1, "invalid": 1}
    with output(tmp_path, "trials.csv").open() as file:
        rows = [(row["state"], row["reason"]) for row in csv.DictReader(file)]
    assert rows == [
        ("failed", "failed: exit status 1"),
        ("timeout", "timeout: ran longer than its limit of 2 s"),
        ("invalid", "invalid: the metric loss is not a finite number"),
        ("done", "no metric 'loss'; it has: other"),
        ("failed", "failed: signal 11 (SIGSEGV)"),
        ("done", ""),
    ]
    assert [state for state, _ in study(tmp_path)] == ["FAIL"] * 5 + ["COMPLETE"]
    again = campaign(tmp_path, "retry")
    assert (again.returncode, "nothing to do" in again.stdout) == (0, True)
    assert len(again.stdout.splitlines()) == 2


def test_a_search_none_of_whose_trials_succeeded_failed_and_retry_tries_them_again(tmp_path: Path) -> None:
    script = f"test -e ../../../mended || exit 7; {LOSS}"
    text = named("none", train(script, 'metrics = "m.json"'), SEARCH, "in_flight = 6\n")
    answer = campaign(tmp_path, "submit", text=text)

    assert answer.returncode == 1
    assert Counter(states(tmp_path).values()) == {"failed": 7}
    assert reasons(tmp_path)["search"] == (
        "ValueError: none of 6 trials succeeded: 6 failed, 0 pruned; train[search=0]: failed: exit status 7; "
        "train[search=1]: failed: exit status 7; train[search=2]: failed: exit status 7; and 3 more"
    )
    assert campaign(tmp_path, "submit").returncode == 1
    assert len(ledger(tmp_path)) == 6
    (tmp_path / "mended").touch()
    assert campaign(tmp_path, "retry").returncode == 0
    assert states(tmp_path) == DONE
    assert study(tmp_path) == [("COMPLETE", x) for x in range(6)]


def test_a_trial_worse_than_the_others_is_pruned_and_that_is_no_failure(tmp_path: Path) -> None:
    script = (
        f"echo '{{\"step\": 1, \"value\": '{{x}}'}}' > steps.jsonl; if [ {{x}} = 5 ]; then sleep 600; fi; {LOSS}"
    ).replace("{{x}}", "{x}")
    rules = 'in_flight = 1\npruner = "median"\nwarmup_trials = 2\nwarmup_steps = 1\n'
    answer = campaign(
        tmp_path, "submit", text=named("prune", train(script, 'metrics = "m.json"'), SEARCH, rules), timeout=60
    )

    assert answer.returncode == 0, answer.stderr
    assert states(tmp_path) == {**DONE, "train[search=5]": "pruned"}
    assert reasons(tmp_path)["train[search=5]"] == "its search has seen better"
    assert study(tmp_path)[5] == ("PRUNED", 5)
    (row,) = [row for row in json.loads(campaign(tmp_path, "results", "--json").stdout) if row["task"] == "search"]
    assert {key: row["metrics"][key] for key in ("completed", "failed", "pruned")} == {
        "completed": 5, "failed": 0, "pruned": 1,
    }  # fmt: skip
    assert campaign(tmp_path, "retry").returncode == 0
    assert len(ledger(tmp_path)) == 6


@pytest.mark.parametrize("kind", ["pipe", "lines"])
def test_whatever_a_trial_reports_the_runner_goes_on(tmp_path: Path, kind: str) -> None:
    lines = ["[" * 100_000, "5", '{"step": 1}', '{"step": true, "value": 1}', '{"step": 2, "value": NaN}']
    lines += [f'{{"step": 1, "value": {10**400}}}', '{"step": -1, "value": 3}', '{"step": "a", "value": {}}']
    (tmp_path / "steps").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe")
    script = {"pipe": "mkfifo steps.jsonl", "lines": "cp ../../../steps steps.jsonl"}[kind]
    rules = 'in_flight = 2\ntrials = 3\npruner = "median"\nwarmup_trials = 1\n'
    table = SEARCH.replace("trials = 6\n", "")
    answer = campaign(
        tmp_path, "submit", timeout=60,
        text=named("steps", train(f"{script}; sleep 0.5; {LOSS}", 'metrics = "m.json"'), table, rules),
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert len(ledger(tmp_path)) == 3


# limits


def test_no_more_trials_run_than_may_be_in_flight(tmp_path: Path) -> None:
    script = f"date +'+1 %s%N' >> ../../../times; sleep 0.2; date +'-1 %s%N' >> ../../../times; {LOSS}"
    text = named("flight", train(script, 'metrics = "m.json"'), SEARCH, "in_flight = 3\n")
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    times = [line.split() for line in (tmp_path / "times").read_text().splitlines()]
    running, most = 0, 0
    for change, _ in sorted(times, key=lambda entry: int(entry[1])):
        running += int(change)
        most = max(most, running)
    assert len(times) == 12
    assert most == 3 if len(os.sched_getaffinity(0)) >= 3 else most <= 3


# requests


def test_a_cancelled_trial_is_a_failure_to_its_search_and_not_run_again_when_that_is_done(tmp_path: Path) -> None:
    script = f"if [ {{x}} = 1 ]; then sleep 600; fi; {LOSS}"
    text = named("one", train(script, 'metrics = "m.json"'), SEARCH, "in_flight = 1\n")
    (tmp_path / "campaign.toml").write_text(text)
    runner = start(tmp_path)
    wait_until(lambda: ledger(tmp_path) == ["0", "1"])
    assert campaign(tmp_path, "cancel", "--task", "train[search=1]").returncode == 0

    assert runner.wait(60) == 0
    assert states(tmp_path) == {**DONE, "train[search=1]": "cancelled"}
    assert [state for state, _ in study(tmp_path)] == ["COMPLETE", "FAIL", *["COMPLETE"] * 4]
    assert campaign(tmp_path, "submit").stdout.splitlines()[0].endswith("nothing to do; 7 tasks: 1 cancelled, 6 done")
    assert len(ledger(tmp_path)) == 6


def test_a_cancelled_search_takes_its_trials_with_it_and_goes_on_when_submitted(tmp_path: Path) -> None:
    script = f"while [ {{x}} = 1 -a ! -e ../../../go ]; do sleep 0.02; done; {LOSS}"
    wait = "while [ ! -e ../../../go ]; do sleep 0.05; done"
    beside = f'[campaign.beside]\nkind = "command"\ncommand = ["sh", "-c", "{wait}"]\n'
    text = named("whole", train(script, 'metrics = "m.json"'), beside, SEARCH, "in_flight = 1\n")
    (tmp_path / "campaign.toml").write_text(text)
    runner = start(tmp_path)
    wait_until(lambda: ledger(tmp_path) == ["0", "1"])
    assert campaign(tmp_path, "cancel", "--task", "search").returncode == 0
    wait_until(lambda: states(tmp_path)["train[search=1]"] == "cancelled")
    (tmp_path / "go").touch()

    assert runner.wait(60) == 1
    assert states(tmp_path) == {
        "beside": "done", "search": "cancelled", "train[search=0]": "done", "train[search=1]": "cancelled",
    }  # fmt: skip
    assert campaign(tmp_path, "submit").returncode == 0
    assert states(tmp_path) == {**DONE, "beside": "done"}
    assert Counter(ledger(tmp_path)) == {"0": 1, "1": 2, "2": 1, "3": 1, "4": 1, "5": 1}


def test_a_search_of_a_dead_runner_can_be_cancelled(tmp_path: Path) -> None:
    text = named("dead", train("sleep 600"), SEARCH)
    (tmp_path / "campaign.toml").write_text(text)
    runner = start(tmp_path)
    wait_until(lambda: len(ledger(tmp_path)) == 2)
    runner.kill()
    runner.wait()

    campaign(tmp_path, "cancel", "--task", "search", timeout=60)

    assert states(tmp_path) == dict.fromkeys(("search", "train[search=0]", "train[search=1]"), "cancelled")


def test_trials_are_tasks_to_every_command(tmp_path: Path) -> None:
    text = named("all", train(f"echo word {{x}}; {LOSS}", 'metrics = "m.json"'), SEARCH, "in_flight = 1\n")
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    assert campaign(tmp_path, "logs", "train[search=3]", "--out").stdout == "word 3\n"
    rows = json.loads(campaign(tmp_path, "results", "--json").stdout)
    assert {row["task"]: row["metrics"].get("best_value", row["metrics"].get("loss")) for row in rows} == {
        "search": 0.0, **{f"train[search={x}]": x for x in range(6)},
    }  # fmt: skip
    assert campaign(tmp_path, "graph").returncode == 0
    found = status(tmp_path)
    assert [task["task"] for task in found["tasks"]] == list(DONE)
    assert found["counts"] == {"done": 7}


# plug-ins

FAULTS = {
    "raises": "walk.extend: RuntimeError: no idea",
    "exits": "walk.extend: SystemExit: 3",
    "number": "walk.extend: 5 is no workflow of a registered kind; return what history.make gave",
    "single": "walk.extend: ['executable', ''] is no workflow of a registered kind; return what history.make gave",
    "nothing": "walk.extend: TypeError: 'NoneType' object is not iterable",
    "same": "walk.extend: its last 100 trials had all been asked for before, so it would never end",
    "endless": "walk.extend: it asks for more than 10000 trials at once",
    "unknown": "walk.extend: train_unknown: nothing reads 'y' here; "
    "write {y} in its words, or one of: command, inputs, x",
    "stops": "walk.stops: LookupError: who?",
    "minus": "walk.stops: -1 is no index of its 1 trials",
    "beyond": "walk.stops: 7 is no index of its 1 trials",
    "text": "walk.stops: '0' is no index of its 1 trials",
    "none": "walk.stops: TypeError: 'NoneType' object is not iterable",
}


def test_a_search_of_a_faulty_kind_fails_with_the_reason_and_nothing_else_does(tmp_path: Path) -> None:
    tables = []
    for fault in ("", *FAULTS):
        name = f"train_{fault}"
        driven = train("sleep 0.6", f"environment.FAULT = '{fault}'")  # no two faults share a trial
        tables.append(driven.replace("campaign.train", f"campaign.{name}"))
        tables.append(walk(workflow=name, fault=fault).replace("campaign.search", f"campaign.search_{fault}"))
    answer = campaign(tmp_path, "submit", text=with_plugin(tmp_path, *tables), timeout=120)

    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    found = {task["task"]: (task["state"], task["reason"]) for task in status(tmp_path)["tasks"]}
    assert found.pop("search_") == ("done", None)
    assert {name: found[f"search_{name}"] for name in FAULTS} == {
        name: ("failed", reason) for name, reason in FAULTS.items()
    }
    assert {state for name, (state, _) in found.items() if name.startswith("train")} <= {"done", "cached"}


# shapes

SHAPES = """
[kind.fit-line]
command = ["sh", "-c", "cat {data} {extra} > o.txt; echo {x} >> ../../../ledger; echo '{\\"loss\\": '{x}'}' > m.json"]
metrics = "m.json"
outputs = { out = "o.txt" }
[kind.fit-line.fields]
x = { type = "float", default = 1.0 }
data = { type = "path" }
extra = { type = "path" }

[campaign]
name = "shapes"
[campaign.target]
kind = "command"
command = ["sh", "-c", "echo target {size} > t.txt"]
sweep.size = [1, 2]
[campaign.line]
kind = "fit-line"
data = "output://target/t.txt"
extra = "file://extra.txt"
[campaign.one]
kind = "optimize"
workflow = "line"
for_each = "target"
metric = "loss"
trials = 2
in_flight = 1
sampler = "grid"
outputs = { best = "best.json" }
space.x = [3.0, 4.0]
[campaign.two]
kind = "optimize"
workflow = "line"
for_each = "target"
metric = "loss"
trials = 2
in_flight = 1
sampler = "grid"
direction = "maximize"
outputs = { best = "best.json" }
space.x = [4.0, 5.0]
[campaign.after]
kind = "command"
for_each = "one"
command = ["cat", "output://one/best.json"]
"""


def test_two_searches_per_target_drive_one_declared_table_with_references(tmp_path: Path) -> None:
    (tmp_path / "extra.txt").write_text("extra\n")
    answer = campaign(tmp_path, "submit", text=SHAPES)

    assert answer.returncode == 0, answer.stderr + answer.stdout
    found = states(tmp_path)
    assert Counter(ledger(tmp_path)) == {"3.0": 2, "4.0": 2, "5.0": 2}
    trials = {name for name in found if name.startswith("line")}
    assert trials == {
        f"line[size={size},{search}={number}]" for size in (1, 2) for search in ("one", "two") for number in (0, 1)
    }
    assert Counter(found[name] for name in trials) == {"done": 6, "cached": 2}
    rows = {row["task"]: row["metrics"] for row in json.loads(campaign(tmp_path, "results", "--json").stdout)}
    assert {name: rows[name]["best_value"] for name in rows if name.startswith(("one", "two"))} == {
        "one[size=1]": 3.0, "one[size=2]": 3.0, "two[size=1]": 5.0, "two[size=2]": 5.0,
    }  # fmt: skip
    for path in tmp_path.glob("runs/fit-line/*/o.txt"):
        assert path.read_text() in ("target 1\nextra\n", "target 2\nextra\n")


def test_of_two_equal_searches_one_is_computed_and_the_other_cached(tmp_path: Path) -> None:
    twin = SEARCH.replace("campaign.search", "campaign.twin")
    answer = campaign(
        tmp_path, "submit", text=named("twins", TRAIN, SEARCH, "in_flight = 1\n", twin, "in_flight = 1\n")
    )

    assert answer.returncode == 0, answer.stderr
    assert len(ledger(tmp_path)) == 6
    assert states(tmp_path) == {**DONE, "twin": "cached"}
    assert [x for _, x in study(tmp_path)] == list(range(6))


WRONG = {
    'workflow = "trian"\nspace.x = [1]': "9: campaign.search: workflow names 'trian', which this campaign does not "
    "define; there are: g.a, search, swept, train; did you mean 'train'?",
    'workflow = "g"\nspace.x = [1]': "9: campaign.search: workflow takes one workflow; 'g' is a group of g.a",
    'workflow = "search"\nspace.x = [1]': "9: campaign.search: workflow names 'search', which is a search itself",
    'workflow = "swept"\nspace.x = [1]': "9: campaign.search: workflow names 'swept', which has a sweep of its own; "
    "put it on the search instead",
    'workflow = "train"\nspace.xx = [1]': "7: campaign.search: train refuses {'xx': 1}: train: nothing reads 'xx' "
    "here; write {xx} in its words, or one of: command, inputs, x; did you mean 'x'?",
    'workflow = "train"\nspace."resources.memory" = ["much"]': "7: campaign.search: train refuses "
    "{'resources.memory': 'much'}: resources.memory: a size needs a number and a unit "
    "(kB, MB, GB, TB, KiB, MiB, GiB, TiB), got 'much'",
}


@pytest.mark.parametrize("table", WRONG)
def test_what_cannot_be_searched_is_a_fault_of_the_file(tmp_path: Path, table: str) -> None:
    text = (
        '[campaign]\nname = "x"\n[campaign.train]\nkind = "command"\ncommand = ["echo", "{x}"]\nparameters.x = 0\n'
        f'[campaign.search]\nkind = "optimize"\n{table}\nmetric = "loss"\ntrials = 1\n'
        '[campaign.swept]\nkind = "command"\ncommand = ["echo", "{y}"]\nsweep.y = [1, 2]\n'
        '[campaign.g.a]\nkind = "command"\ncommand = ["true"]\n'
    )
    answer = campaign(tmp_path, "check", text=text)
    assert (answer.returncode, answer.stderr) == (2, f"campaign.toml:{WRONG[table]}\n")


def test_nobody_refers_to_a_workflow_whose_only_tasks_are_trials(tmp_path: Path) -> None:
    other = '[campaign.after]\nkind = "command"\ndepends_on = ["train"]\ncommand = ["cat", "output://train/m.json"]\n'
    answer = campaign(tmp_path, "check", text=named("refers", TRAIN, SEARCH, other))
    why = "names 'train', whose only tasks are trials of 'search'; name 'search' instead"
    assert answer.returncode == 2
    assert answer.stderr == (
        f"campaign.toml:19: campaign.after: depends_on {why}\ncampaign.toml:20: campaign.after: command {why}\n"
    )


def test_a_search_without_optuna_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text(named("bare", TRAIN, SEARCH))
    bare = (
        "import importlib.util, sys\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: None if name == 'optuna' else find(name, package)\n"
        "from socm_like.cli import main\nsys.argv = ['campaign', 'check']\nmain()\n"
    )
    answer = subprocess.run([sys.executable, "-c", bare], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert answer.stderr == (
        'campaign.toml:9: campaign.search: optimize needs optuna: pip install "socm-like[optimize]"\n'
    )


# again


def test_a_search_is_found_by_what_it_is_and_its_trials_by_what_they_are(tmp_path: Path) -> None:
    text = named("first", TRAIN, SEARCH)
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    assert "nothing to do; 7 tasks: 7 done" in campaign(tmp_path, "submit").stdout
    assert campaign(tmp_path, "submit", text=text.replace("first", "second")).returncode == 0
    assert states(tmp_path) == {"search": "cached"}
    assert campaign(tmp_path, "submit", text=text.replace("first", "third") + "seed = 9\n").returncode == 0
    assert states(tmp_path) == {**dict.fromkeys(DONE, "cached"), "search": "done"}
    assert len(ledger(tmp_path)) == 6


def test_a_torn_last_line_of_the_trials_is_dropped_and_the_trial_asked_for_again(tmp_path: Path) -> None:
    text = with_plugin(tmp_path, TRAIN, walk(fault="killed"))
    (tmp_path / "kill").touch()
    assert campaign(tmp_path, "submit", text=text).returncode == -signal.SIGKILL
    (tmp_path / "kill").unlink()
    trials = run_directory(tmp_path) / "trials.jsonl"
    whole = trials.read_bytes()
    with trials.open("ab") as file:
        file.write(whole.splitlines()[1][:70])
    assert set(states(tmp_path)) == {"search", "train[search=0]", "train[search=1]"}

    assert campaign(tmp_path, "submit").returncode == 0
    assert ledger(tmp_path) == ["0", "1", "2"]
    assert trials.read_bytes().startswith(whole)
    assert trials.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"name": "tr\n', "Unterminated string starting at: line 1 column 10 (char 9)"),
        (b"{}\n", "KeyError: 'dependencies'"),
        (b"5\n", "TypeError: 'int' object is not a mapping"),
    ],
)
def test_damaged_trials_are_one_clear_message_and_without_them_the_search_starts_anew(
    tmp_path: Path, line: bytes, problem: str
) -> None:
    assert campaign(tmp_path, "submit", text=with_plugin(tmp_path, TRAIN, walk())).returncode == 0
    trials = run_directory(tmp_path) / "trials.jsonl"
    trials.write_bytes(line + trials.read_bytes())

    answer = campaign(tmp_path, "submit")

    assert answer.returncode == 1
    assert answer.stderr == f"{trials}: damaged ({problem}); move it away, and the searches start anew\n"
    trials.unlink()
    assert campaign(tmp_path, "submit").returncode == 0
    assert len(ledger(tmp_path)) == 3


@pytest.mark.slow
def test_full_disk_ends_no_search_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    table = SEARCH.replace("[0, 1, 2, 3, 4, 5]", json.dumps(list(range(40)))).replace("trials = 6", "trials = 40")
    table_of_trials = TRAIN.replace("> m.json", "> ../../../{x}.json; ln -s ../../../{x}.json m.json")
    assert table_of_trials != TRAIN  # a program that finds no room itself has failed, and a failed trial stands
    (tmp_path / "campaign.toml").write_text(named("full", table_of_trials, table))
    store, kept = tmp_path / "runs", tmp_path / "kept"
    for folder in (store, kept):
        folder.mkdir()
    script = (
        f"mount -t tmpfs -o size=300k tmpfs {store}; {sys.executable} -m socm_like.cli submit; code=$?; "
        f"while [ -e {store}/campaigns/*/launcher.pid ]; do sleep 0.05; done; cp -a {store}/. {kept}; exit $code"
    )
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    full = subprocess.run(
        ["unshare", *user, "--mount", "sh", "-c", script],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert full.returncode == 1
    assert "No space left on device; make room or fix the permissions, then submit again" in full.stderr
    assert "Traceback" not in full.stderr
    store.rmdir()
    kept.rename(store)
    assert campaign(tmp_path, "submit").returncode == 0
    assert Counter(states(tmp_path).values()) == {"done": 41}
    assert set(ledger(tmp_path)) == {str(x) for x in range(40)}
