"""Records of finished tasks: written by real runs, read back whatever has become of them, and learned from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_runs import CAMPAIGN, campaign

from socm_like.errors import StoreError
from socm_like.experience import Experience, Foresight, experience_of
from socm_like.growth import larger_request
from socm_like.journal import Event, Record, TaskState
from socm_like.measurements import (
    FILE,
    Measurement,
    Recorder,
    Sizes,
    measurement_of,
    read_measurement,
    read_measurements,
)
from socm_like.resources import Machine, Prediction, Resources
from socm_like.store import RunDirectory
from socm_like.task import Task

SWEEP = f"""
[campaign]
name = "sweep"
[campaign.hold]
kind = "command"
command = ["{sys.executable}", "-c", "import sys; x = bytearray(b'1') * (int(sys.argv[1]) * 2**20)", "{{size}}"]
[campaign.hold.sweep]
size = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
"""
NEXT = SWEEP.replace("10, 20, 30, 40, 50, 60, 70, 80, 90, 100", "25, 120")

GROWING = f"""
import sys
from typing import ClassVar
from pathlib import Path
from socm_like.resources import Resources
from socm_like.workflow import Workflow

class Grow(Workflow):
    version: ClassVar[str] = "VERSION"
    size: int
    def estimate(self, context):
        return Resources(memory=30 * 2**20, runtime="1 min")
    def get_command(self, **kwargs):
        program = "import sys; x = bytearray(b'1') * (int(sys.argv[1]) * 2**20)"
        return [{sys.executable!r}, "-c", program, str(self.size)]
"""
ESTIMATED = """
[campaign]
name = "grow"
plugins = ["grow.py"]
[campaign.grow]
[campaign.grow.sweep]
size = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
"""


def planned(folder: Path, text: str, *words: str) -> dict[str, Any]:
    """Return what ``campaign plan --json`` says of a campaign."""
    (folder / "next.toml").write_text(text)
    answer = campaign(folder, "plan", "next.toml", "--json", "--store", "runs", *words)
    assert answer.stdout, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def records(folder: Path) -> list[dict[str, Any]]:
    (path,) = (folder / "runs" / "campaigns").glob(f"*/{FILE}")
    return [json.loads(line) for line in path.read_text().splitlines()]


def result_of(folder: Path, kind: str) -> dict[str, Any]:
    path = next((folder / "runs" / kind).glob("*/result.json"))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def a_measurement(size: int, *, seconds: float = 1.0, **changes: Any) -> Measurement:
    plain = Measurement(
        kind="hold",
        family="1",
        state=TaskState.DONE,
        parameters={"size": size},
        input_bytes=0,
        cores=1,
        gpus=0,
        asked=Sizes(memory=10**9),
        predicted=Sizes(),
        used=Sizes(memory=size * 10**6, runtime=seconds),
    )
    return plain._replace(**changes)


def a_task(name: str = "hold", **changes: Any) -> Task:
    plain = Task(
        name=name, workflow="hold", kind="hold", id="0" * 64, folder="hold/0", dependencies=(), argv=("true",),
        resources=Resources(memory=10**9), environment={}, outputs={}, metrics="", restartable=False,
        parameters={"size": 5}, fields={}, family="1",
    )  # fmt: skip
    return replace(plain, **changes)


def machine(memory: int = 8 * 10**9) -> Machine:
    return Machine(name="here", cores=(0, 1), memory=memory, gpus=("0",), gpu_memory=10**9)


def running(attempt: int = 1) -> Record:
    record = Record()
    record.apply(Event("2026-11-21T10:00:00.000000Z", "hold", attempt, TaskState.RUNNING))
    return record


def test_a_sweep_of_processes_teaches_what_the_next_one_needs(tmp_path: Path) -> None:
    before = planned(tmp_path, NEXT)
    assert [task["predicted"] for task in before["tasks"]] == [None, None]
    answer = campaign(tmp_path, "submit", text=SWEEP)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    after = planned(tmp_path, NEXT)
    assert after["run"] == before["run"]  # a prediction is no part of an identity
    assert [task["id"] for task in after["tasks"]] != []
    assert {task["id"] for task in after["tasks"]} == {task["id"] for task in before["tasks"]}
    needed = {task["parameters"]["size"]: task["predicted"] for task in after["tasks"]}
    for size in (25, 120):
        assert needed[size]["records"] == 10
        assert size * 2**20 < needed[size]["memory"] < 1.5 * (size + 12) * 2**20
    assert all(
        task["resources"]["memory"] is None for task in after["tasks"]
    )  # nobody stated a limit: none is enforced
    shown = campaign(tmp_path, "plan", "next.toml", "--store", "runs").stdout
    assert "* learned from 10 finished tasks" in shown
    assert "state no runtime" not in shown


def test_every_finished_task_records_what_it_asked_was_predicted_and_used(tmp_path: Path) -> None:
    text = SWEEP + '[campaign.hold.resources]\nmemory = "400 MiB"\nruntime = "2 min"\n'
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    found = {record["parameters"]["size"]: record for record in records(tmp_path)}
    assert sorted(found) == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    for size, record in found.items():
        assert record["asked"] == {"memory": 400 * 2**20, "runtime": 120.0}
        assert record["predicted"] == {}
        assert size * 2**20 < record["used"]["memory"] < (size + 40) * 2**20
        assert 0 < record["used"]["runtime"] < 120
        assert record["used"]["cpu"] > 0
    result = result_of(tmp_path, "command")
    assert result["asked"] == {"memory": 400 * 2**20, "runtime": 120.0}
    assert (result["predicted"], result["used"]["memory"]) == ({}, result["peak_memory"])
    (tmp_path / "more.toml").write_text(text.replace("10, 20, 30", "15, 25, 35"))
    assert campaign(tmp_path, "submit", "more.toml", "--store", "runs").returncode == 0
    lines = [json.loads(line) for path in tmp_path.rglob(FILE) for line in path.read_text().splitlines()]
    assert {line["predicted"]["records"] for line in lines if line["predicted"]} == {10}


def test_an_estimate_that_was_too_low_is_raised_and_a_users_word_stands(tmp_path: Path) -> None:
    (tmp_path / "grow.py").write_text(GROWING.replace("VERSION", "1"))
    answer = campaign(tmp_path, "submit", text=ESTIMATED)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    larger = ESTIMATED.replace("1, 2, 3, 4, 5, 6, 7, 8, 9, 10", "1, 20")
    small, large = sorted(planned(tmp_path, larger)["tasks"], key=lambda task: task["parameters"]["size"])
    assert small["resources"]["memory"] == 30 * 2**20  # the larger of both
    assert large["resources"]["memory"] == max(30 * 2**20, large["predicted"]["memory"])
    stated = larger + '[campaign.grow.resources]\nmemory = "20 MiB"\n'
    assert {task["resources"]["memory"] for task in planned(tmp_path, stated)["tasks"]} == {20 * 2**20}


def test_a_new_version_of_a_kind_begins_to_learn_anew(tmp_path: Path) -> None:
    (tmp_path / "grow.py").write_text(GROWING.replace("VERSION", "1"))
    assert campaign(tmp_path, "submit", text=ESTIMATED).returncode == 0
    assert all(task["predicted"] for task in planned(tmp_path, ESTIMATED)["tasks"])
    (tmp_path / "grow.py").write_text(GROWING.replace("VERSION", "2"))
    assert not any(task["predicted"] for task in planned(tmp_path, ESTIMATED)["tasks"])


def test_another_command_is_not_predicted_from_this_one(tmp_path: Path) -> None:
    assert campaign(tmp_path, "submit", text=SWEEP).returncode == 0
    other = SWEEP.replace("bytearray(b'1')", "bytearray(b'2')")
    assert not any(task["predicted"] for task in planned(tmp_path, other)["tasks"])


def test_a_prediction_never_asks_for_more_than_the_machine_has(tmp_path: Path) -> None:
    assert campaign(tmp_path, "submit", text=SWEEP).returncode == 0
    small = NEXT + '[execution]\nmemory = "64 MiB"\n'
    predicted = {task["predicted"]["memory"] for task in planned(tmp_path, small)["tasks"]}
    assert max(predicted) == 64 * 2**20


def test_an_attempt_that_ran_out_of_memory_is_on_record_and_teaches_nothing(tmp_path: Path) -> None:
    hungry = f"""
[campaign]
[campaign.hungry]
kind = "command"
command = ["{sys.executable}", "-c", "import time; x = bytearray(b'1') * (88 * 2**20); time.sleep(0.5)"]
resources = {{ memory = "70 MiB" }}
"""
    assert campaign(tmp_path, "submit", text=hungry).returncode == 0
    *killed, last = records(tmp_path)
    assert [(each["state"], each["limit"], each["asked"]["memory"]) for each in killed] == [
        ("oom", "memory", int(70 * 2**20 * 1.5**number)) for number in range(len(killed))
    ]
    assert killed  # once, and once more where what measures the coverage takes memory, too
    assert last["state"] == "done"
    ((key, lessons),) = experience_of(tmp_path / "runs", {"command"}).lessons.items()
    assert (key[0], len(lessons)) == ("command", 1)


def test_runs_at_the_same_time_each_keep_their_own_records(tmp_path: Path) -> None:
    for number in range(3):
        text = SWEEP.replace('name = "sweep"', f'name = "sweep{number}"').replace("b'1'", f"b'{number}'")
        (tmp_path / f"{number}.toml").write_text(text)
    words = [[*CAMPAIGN, "submit", f"{number}.toml"] for number in range(3)]
    runs = [subprocess.Popen(w, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for w in words]
    assert [run.wait(timeout=120) for run in runs] == [0, 0, 0]
    found = read_measurements(tmp_path / "runs")["command"]
    assert len(found) == 30
    assert len({measurement.family for measurement in found}) == 3


def test_a_line_cut_short_is_dropped_and_the_next_runner_writes_after_it(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "campaigns" / "one")
    run.path.mkdir(parents=True)
    Recorder(run).add(a_measurement(1))
    path = run.path / FILE
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert read_measurements(tmp_path) == {"hold": [a_measurement(1)]}
    Recorder(run).add(a_measurement(2))
    assert read_measurements(tmp_path) == {"hold": [a_measurement(1), a_measurement(2)]}


def test_a_full_disk_is_reported(run_python: Any, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "campaigns" / "one")
    run.path.mkdir(parents=True)
    (run.path / FILE).symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"measurements\.jsonl: No space left on device; make room"):
        Recorder(run).add(a_measurement(1))


def test_damaged_and_foreign_lines_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "campaigns" / "one" / FILE
    path.parent.mkdir(parents=True)
    good = a_measurement(3).line()
    data = json.loads(good)
    wrong: list[Any] = [[], "x", None, -1]
    bad = [
        "", "{", "[]", "null", "7", '{"kind":"hold"}', '{"kind":7}', "\x00\x00", good[:-20],
        good.replace("done", "gone"),
        *(json.dumps({**data, key: value}) for key in data for value in wrong if type(value) is not type(data[key])),
        json.dumps({**data, "used": {"memory": -5}}), json.dumps({**data, "used": {"memory": "5"}}),
        json.dumps({**data, "used": {"memory": 1e-300}}),
    ]  # fmt: skip
    path.write_bytes("\n".join([*bad, good]).encode() + b"\xff\xfe\n")
    kept = read_measurements(tmp_path).get("hold", [])
    assert set(map(repr, kept)) <= {repr(a_measurement(3))}
    path.write_bytes("\n".join([*bad, good]).encode())
    assert read_measurements(tmp_path)["hold"][-1] == a_measurement(3)


@given(st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
def test_no_line_raises(line: bytes) -> None:
    assert read_measurement(line) is None


def test_a_measurement_is_read_as_it_was_written() -> None:
    full = a_measurement(
        5, state=TaskState.OOM, limit="gpu_memory", shared_by=3, resumed=True, cpu=0.25, records=12,
        typical_runtime=3.5, predicted=Sizes(7, 8, 9.5), asked=Sizes(1, 2, 3.5), used=Sizes(4, 5, 6.5), at="now",
        task="x",
    )  # fmt: skip
    assert read_measurement(full.line()) == full


def test_of_ten_thousand_records_a_thousand_from_all_over_the_sweep_count(tmp_path: Path) -> None:
    path = tmp_path / "campaigns" / "one" / FILE
    path.parent.mkdir(parents=True)
    path.write_text("".join(a_measurement(size).line() for size in range(1, 10_001)))
    found = [measurement.parameters["size"] for measurement in read_measurements(tmp_path, ["hold"])["hold"]]
    assert len(found) == 1000
    assert found == sorted(found)
    assert min(found) < 100
    assert max(found) > 9900
    assert read_measurements(tmp_path, ["other"]) == {}
    experience = experience_of(tmp_path, ["hold"])
    learned = experience.family("hold", "1")
    assert learned is not None
    assert learned.count == 1000


def test_a_store_without_runs_has_no_measurements(tmp_path: Path) -> None:
    assert read_measurements(tmp_path / "nowhere") == {}


def test_tasks_that_shared_a_process_and_resumed_ones_are_not_learned_from() -> None:
    alone = a_measurement(1)
    assert alone.is_lesson
    assert not a_measurement(1, shared_by=4).is_lesson
    assert not a_measurement(1, state=TaskState.TIMEOUT).is_lesson
    assert a_measurement(1, resumed=True).needs.seconds is None


def ended(state: TaskState, **detail: Any) -> Event:
    return Event("2026-11-21T10:00:02.500000Z", "hold", 1, state, detail)


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.CANCELLED, TaskState.LOST, TaskState.NODE_FAIL])
def test_an_attempt_that_failed_says_nothing_about_needs(state: TaskState) -> None:
    assert measurement_of(a_task(), running(), ended(state, peak_memory=5), 0) is None


def test_a_measurement_holds_the_limits_of_its_attempt() -> None:
    record = Record()
    record.apply(Event("2026-11-21T09:00:00.000000Z", "hold", 2, TaskState.PLANNED, {"memory": 2 * 10**9}))
    record.apply(Event("2026-11-21T10:00:00.000000Z", "hold", 2, TaskState.RUNNING))
    event = replace(ended(TaskState.DONE, peak_memory=7, peak_gpu_memory=8, cpu=2.0), attempt=2)
    found = measurement_of(a_task(restartable=True), record, event, 99)
    assert found is not None
    assert (found.asked.memory, found.used, found.cpu) == (2 * 10**9, Sizes(7, 8, 2.5), 2.0)
    assert (found.input_bytes, found.resumed) == (99, True)


def prediction(**sizes: Any) -> Prediction:
    return Prediction(records=20, **sizes)


@pytest.mark.parametrize(
    ("learned", "memory", "expected"),
    [(None, 8, 1.5), (1.2, 8, 1.5), (5.0, 8, 5.0), (5.0, 4, 4.0), (0.5, 8, 1.5)],
)
def test_after_oom_a_task_gets_what_tasks_like_it_needed(learned: float | None, memory: int, expected: float) -> None:
    known = None if learned is None else prediction(memory=int(learned * 10**9))
    found = larger_request(a_task(predicted=known), Record(), TaskState.OOM, machine(memory * 10**9))
    assert found == {"memory": int(expected * 10**9)}


def test_after_too_much_gpu_memory_a_task_gets_more_of_that() -> None:
    task = a_task(resources=Resources(memory=10**9, gpus=1, gpu_memory=4 * 10**8), predicted=None)
    assert larger_request(task, Record(), TaskState.OOM, machine(), "gpu_memory") == {"gpu_memory": 6 * 10**8}
    known = replace(task, predicted=prediction(gpu_memory=5 * 10**9))
    assert larger_request(known, Record(), TaskState.OOM, machine(), "gpu_memory") == {"gpu_memory": 10**9}
    full = replace(task, resources=Resources(gpus=1, gpu_memory=10**9))
    assert larger_request(full, Record(), TaskState.OOM, machine(), "gpu_memory") is None


class Watched(Foresight):
    """A run whose records are in memory."""

    def __init__(self) -> None:
        self.taken: list[Measurement] = []
        super().__init__(lambda: Experience(self.taken))

    def take(self, task: Task, measurement: Measurement) -> None:
        self.taken.append(measurement)
        super().take(task, measurement)


def fed(foresight: Foresight, sizes: range, seconds_per_size: float) -> Mapping[int, Task]:
    tasks = {size: a_task(f"hold[{size}]", parameters={"size": size}) for size in range(1, 200)}
    for size in sizes:
        foresight.take(tasks[size], a_measurement(size, seconds=size * seconds_per_size))
    return tasks


def test_what_finishes_during_a_run_changes_what_is_expected_of_the_rest() -> None:
    foresight = Watched()
    tasks = fed(foresight, range(1, 10), 2.0)
    assert not foresight.update(tasks.values())  # nine are too few
    assert foresight.seconds_of(tasks[15]) == 60.0
    foresight.take(tasks[10], a_measurement(10, seconds=20.0))
    assert foresight.update(tasks.values())
    assert foresight.seconds_of(tasks[15]) == pytest.approx(30.0, rel=0.02)
    assert foresight.seconds_of(tasks[150]) == 60.0  # far beyond what has finished
    fed(foresight, range(10, 40), 2.0)
    assert not foresight.update(tasks.values())  # all took as long as expected, or nothing was expected of too few


def test_a_runtime_that_the_user_states_is_not_replaced() -> None:
    stated = a_task(resources=Resources(runtime=timedelta(minutes=5)), stated=("runtime",))
    foresight = Watched()
    fed(foresight, range(1, 30), 2.0)
    assert not foresight.update([stated])
    assert foresight.seconds_of(stated) == 300.0
