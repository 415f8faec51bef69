"""A task that goes on from where it was is stopped at the end of a window and goes on in the next; in virtual time."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from socm_like.campaign import load_campaign
from socm_like.executors.behaviour import Behaviour
from socm_like.identity import FileDigests
from socm_like.journal import Event, Record, TaskState, event_at
from socm_like.measurements import read_measurements
from socm_like.plan import make_plan
from socm_like.resources import Machine
from socm_like.simulation import Simulation, simulate
from socm_like.store import RunDirectory
from socm_like.timeline import nodes_of
from socm_like.waiting import next_pieces, pieces_of, request_now
from socm_like.workplace import Workplace

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 11, 23, 10, tzinfo=BERLIN)
MACHINE = Machine(name="here", cores=(0, 1), memory=8 * 2**30)
KIND = """
from typing import ClassVar
from socm_like import Workflow

class Chain(Workflow):
    restartable: ClassVar[bool] = {restartable}
    def get_command(self, **_):
        return "true"
"""
TEXT = """
[campaign]
plugins = ["kinds.py"]
[schedule]
preferred_hours = "22:00-08:00"
timezone = "Europe/Berlin"
{more}
[campaign.chain]
resources = {{ runtime = "{runtime}" }}
"""


def simulated(folder: Path, runtime: str, *, restartable: bool = True, more: str = "") -> Simulation:
    (folder / "kinds.py").write_text(KIND.format(restartable=restartable))
    (folder / "campaign.toml").write_text(TEXT.format(runtime=runtime, more=more))
    plan = make_plan(load_campaign(folder / "campaign.toml"), folder / "runs", MACHINE, FileDigests())
    return simulate(plan, nodes_of(plan.machine), Behaviour(), MONDAY.timestamp())


def stretches(simulation: Simulation) -> list[tuple[datetime, timedelta]]:
    """Return when each attempt began, by the clock on the wall, and how long it took."""
    return [
        (datetime.fromtimestamp(stretch.start, BERLIN), timedelta(seconds=stretch.end - stretch.start))
        for stretch in simulation.placements
    ]


def test_a_task_longer_than_a_night_runs_in_several_nights(tmp_path: Path) -> None:
    simulation = simulated(tmp_path, "25 h")
    assert simulation.states == {"chain": TaskState.DONE}
    night = timedelta(hours=10)
    monday = datetime(2026, 11, 23, 22, tzinfo=BERLIN)
    assert stretches(simulation) == [
        (monday, night),
        (monday + timedelta(days=1), night),
        (monday + timedelta(days=2), timedelta(hours=5)),
    ]
    assert simulation.attempts == 3


def test_a_task_that_cannot_go_on_is_not_stopped(tmp_path: Path) -> None:
    simulation = simulated(tmp_path, "12 h", restartable=False)
    assert stretches(simulation) == [(datetime(2026, 11, 23, 22, tzinfo=BERLIN), timedelta(hours=12))]
    assert simulation.attempts == 1


def test_a_task_that_fits_a_night_is_one_piece(tmp_path: Path) -> None:
    assert simulated(tmp_path, "9 h").attempts == 1


# one decision, by itself


def held(pieces: list[list[float]]) -> Record:
    record = Record()
    record.apply(event_at(0.0, "t", 1, TaskState.PLANNED, memory=5))
    record.apply(event_at(1.0, "t", 1, TaskState.HELD, until="2026-11-23T21:00:00.000000Z", pieces=pieces))
    return record


def test_what_was_granted_goes_with_the_pieces_that_are_left() -> None:
    record = held([[0.0, 100.0], [500.0, 20.0]])
    assert next_pieces(record, TaskState.TIMEOUT) == {"memory": 5, "pieces": [[500.0, 20.0]]}
    assert next_pieces(record, TaskState.OOM) is None
    assert next_pieces(held([[0.0, 100.0]]), TaskState.TIMEOUT) is None  # the last piece ends as any task does


def test_no_limit_was_exceeded_where_the_end_of_a_window_stopped_a_task(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(KIND.format(restartable=True))
    (tmp_path / "campaign.toml").write_text(TEXT.format(runtime="2 h", more=""))
    plan = make_plan(load_campaign(tmp_path / "campaign.toml"), tmp_path / "runs", MACHINE, FileDigests())
    run = RunDirectory(tmp_path / "runs" / "campaigns" / "one")
    run.path.mkdir(parents=True)
    for pieces, states in (([[0.0, 100.0], [500.0, 20.0]], []), ([[500.0, 20.0]], [TaskState.TIMEOUT])):
        record = held(pieces)
        record.apply(event_at(2.0, "t", 1, TaskState.RUNNING))
        end = event_at(90.0, "t", 1, TaskState.TIMEOUT)
        Workplace(plan, run, FileDigests()).conclude(plan.tasks[0], end, record, replaces=False)
        assert [each.state for each in read_measurements(tmp_path / "runs").get("chain", [])] == states


@pytest.mark.parametrize(("now", "seconds"), [(0.0, 100.0), (30.0, 70.0), (99.0, 60.0), (10_000.0, 60.0)])
def test_a_piece_that_begins_late_ends_with_its_window(tmp_path: Path, now: float, seconds: float) -> None:
    (tmp_path / "kinds.py").write_text(KIND.format(restartable=True))
    (tmp_path / "campaign.toml").write_text(TEXT.format(runtime="2 h", more=""))
    plan = make_plan(load_campaign(tmp_path / "campaign.toml"), tmp_path / "runs", MACHINE, FileDigests())
    asked = request_now(plan.tasks[0], held([[0.0, 100.0], [500.0, 20.0]]), now)
    assert asked.runtime == timedelta(seconds=seconds)


def test_the_pieces_of_an_attempt_are_those_it_was_held_for_before_those_it_was_planned_with() -> None:
    record = held([[0.0, 100.0], [500.0, 20.0]])
    record.apply(Event("2026-11-24T00:00:00.000000Z", "t", 2, TaskState.PLANNED, {"pieces": [[500.0, 20.0]]}))
    assert pieces_of(record) == [[500.0, 20.0]]
    assert pieces_of(Record()) == []
