"""``campaign estimates``, and where ``campaign plan`` and searches show what was learned."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from real_runs import campaign

from socm_like.accuracy import Ratio, accuracies
from socm_like.journal import TaskState
from socm_like.measurements import Measurement, Recorder, Sizes
from socm_like.store import RunDirectory

GIB = 2**30


def finished(number: int, used: float, asked: float | None, predicted: float | None, **changes: Any) -> Measurement:
    plain = Measurement(
        kind="map",
        family="1",
        state=TaskState.DONE,
        parameters={"number": number},
        input_bytes=0,
        cores=4,
        gpus=0,
        asked=Sizes(memory=asked and asked * GIB, runtime=7200.0),
        predicted=Sizes(memory=predicted and predicted * GIB),
        used=Sizes(memory=used * GIB, runtime=3600.0),
        records=0 if predicted is None else 30,
        task=f"map[{number}]",
    )
    return plain._replace(**changes)


def written(folder: Path, measurements: list[Measurement]) -> None:
    run = RunDirectory(folder / "runs" / "campaigns" / "one")
    run.path.mkdir(parents=True)
    recorder = Recorder(run)
    for measurement in measurements:
        recorder.add(measurement)


def test_ratios_padding_and_exceedance_are_those_of_the_records() -> None:
    four = [finished(1, 1, 4, 2), finished(2, 2, 4, 2), finished(3, 3, 4, 2), finished(4, 4, 4, None)]
    cut = finished(5, 4, 4, 2, state=TaskState.OOM, limit="memory")
    memory, runtime = accuracies([*four, cut])
    assert (memory.quantity, memory.records) == ("memory", 4)
    assert memory.predicted == Ratio(3, 1.0, 0.5)  # 3 GiB, and the one that ran out
    assert memory.asked == Ratio(4, 0.625, 0.2)
    assert memory.padding == 3 + 2 + 1  # GiB for an hour each
    assert memory.learned is None  # four are too few
    assert runtime.padding == 4 * 4  # an hour on four cores each
    assert runtime.asked == Ratio(4, 0.5, 0.0)


def test_members_of_a_batch_are_not_judged() -> None:
    assert list(accuracies([finished(1, 1, 4, 2, shared_by=8)])) == []


def test_a_store_in_which_nothing_has_finished_says_so(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "estimates")
    expected = "no finished task in runs yet; estimates are learned from those of campaign submit\n"
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, expected, "")
    assert json.loads(campaign(tmp_path, "estimates", "--json").stdout) == []


def test_the_table_shows_each_kind_and_what_the_next_task_needs(tmp_path: Path) -> None:
    same = [finished(number, 2, 4, 2.5) for number in range(1, 41)]
    grows = [finished(number, number, None, None, kind="fit") for number in range(1, 41)]
    written(tmp_path, [*same, *grows])
    answer = campaign(tmp_path, "estimates")
    assert answer.returncode == 0, answer.stderr
    lines = [" ".join(line.split()) for line in answer.stdout.splitlines()]
    assert lines[0] == "kind of tasks predicted over asked over padding learned over next"
    assert lines[1].startswith("fit memory 40 - - - - -")
    assert lines[1].endswith("by number")
    assert lines[3] == "map memory 40 0.80 0% 0.50 0% 80 GiB h 1.00 0% 2 GiB"
    assert lines[4] == "time 40 - - 0.50 0% 1.6e+02 core h 1.00 0% 1 h 00 min"
    assert max(map(len, answer.stdout.splitlines())) <= 100


def test_json_and_one_kind(tmp_path: Path) -> None:
    written(tmp_path, [finished(1, 2, 4, 2.5), finished(2, 2, 4, 2.5, kind="fit")])
    rows = json.loads(campaign(tmp_path, "estimates", "--json", "--kind", "fit").stdout)
    assert [(row["kind"], row["quantity"], row["records"]) for row in rows] == [
        ("fit", "memory", 1),
        ("fit", "runtime", 1),
    ]
    assert rows[0]["predicted"] == {"count": 1, "median": 0.8, "exceeded": 0.0}
    answer = campaign(tmp_path, "estimates", "--kind", "mop")
    expected = f"{tmp_path}/runs: no finished task of kind 'mop'; there are: fit, map; did you mean 'map'?\n"
    assert (answer.returncode, answer.stderr) == (2, expected)


WORK = """
import json, pathlib, sys
x = bytearray(b"1") * (int(sys.argv[1]) * 2**20)
pathlib.Path("m.json").write_text(json.dumps({"loss": int(sys.argv[1])}))
"""
TABLE = f"""
[campaign.work]
kind = "command"
command = ["{sys.executable}", "work.py", "{{parameters}}"]
metrics = "m.json"
"""
SWEEP = TABLE.replace("{parameters}", "{size}") + "sweep = { size = [10, 15, 20, 25, 30, 35, 40, 45, 50, 60] }\n"
SEARCH = """
[campaign.tune]
kind = "optimize"
workflow = "work"
metric = "loss"
trials = 3
[campaign.tune.space.parameters]
size = { min = 10, max = 60, type = "int" }
"""


def test_the_trials_of_a_search_are_predicted_from_the_tasks_of_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(WORK)
    answer = campaign(tmp_path, "submit", text=f'[campaign]\nname = "sweep"\n{SWEEP}')
    assert answer.returncode == 0, answer.stdout + answer.stderr
    table = TABLE.replace("{parameters}", "{size}") + "parameters = { size = 10 }\n"
    answer = campaign(tmp_path, "submit", text=f'[campaign]\nname = "search"\n{table}{SEARCH}')
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (path,) = (tmp_path / "runs" / "campaigns").glob("search-*/trials.jsonl")
    trials = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(trials) == 3
    for trial in trials:
        needed = trial["parameters"]["size"] * 2**20
        assert trial["predicted"]["records"] >= 10
        assert needed < trial["predicted"]["memory"] < 2 * needed + 30 * 2**20
