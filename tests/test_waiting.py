"""``[schedule]``: tasks are held until a window opens, by a clock that the test moves; nobody waits in earnest."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from real_runs import campaign, reasons, states

from socm_like.campaign import load_campaign
from socm_like.clock import Clock
from socm_like.identity import FileDigests
from socm_like.journal import Event, Record
from socm_like.plan import make_plan
from socm_like.resources import detect_machine
from socm_like.runner import Runner
from socm_like.submission import open_run, registry_of, started_executor
from socm_like.units import parse_instant

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 11, 23, 10, tzinfo=BERLIN).timestamp()

NIGHTS = """
[campaign]
name = "nights"
[schedule]
preferred_hours = "22:00-08:00"
weekends = true
timezone = "Europe/Berlin"
max_wait = "48 h"
[campaign.long]
kind = "command"
command = "/bin/true"
resources = { runtime = "9 h" }
"""


@dataclass
class Hours(Clock):
    """Time that passes when the runner looks around: ten minutes each time it draws."""

    now: float
    ends: float = float("inf")
    """The runner is interrupted then."""
    interrupt: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now

    def saw(self, event: Event, record: Record) -> None:
        """See nothing."""

    def tick(self) -> None:
        self.now += 600
        if self.now >= self.ends:
            self.interrupt()


def run(folder: Path, text: str, clock: Hours) -> list[dict[str, Any]]:
    """Run a campaign by that clock; return the events of its journal."""
    (folder / "campaign.toml").write_text(text)
    plan = make_plan(load_campaign(folder / "campaign.toml"), folder / "runs", detect_machine(), FileDigests())
    with open_run(plan, text) as session:
        engine = partial(started_executor, plan, session.run)
        kinds = partial(registry_of, plan, session.run)
        runner = Runner(plan, session.run, session.journal, session.lock, engine, kinds, clock, clock)
        clock.interrupt = partial(setattr, runner, "interrupted", True)
        runner.go()
    journal = (session.run.journal).read_text().splitlines()[1:]
    return [json.loads(line) for line in journal]


def held(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["until"], event["reason"]) for event in events if event["state"] == "held"]


def queued(events: list[dict[str, Any]]) -> list[datetime]:
    times = [parse_instant(event["at"]) for event in events if event["state"] == "queued"]
    return [datetime.fromtimestamp(at, BERLIN) for at in times]


def test_a_nine_hour_job_of_monday_morning_is_held_until_the_evening(tmp_path: Path) -> None:
    events = run(tmp_path, NIGHTS, Hours(MONDAY))
    assert held(events) == [("2026-11-23T21:00:00.000000Z", "held until Mon 22:00 CET (in 12 h 00 min)")]
    (at,) = queued(events)
    assert (at.day, at.hour) == (23, 22)
    assert events[-1]["state"] == "done"


def test_a_job_that_no_night_holds_is_degraded_on_record(tmp_path: Path) -> None:
    events = run(tmp_path, NIGHTS.replace("9 h", "12 h"), Hours(MONDAY))
    ((until, reason),) = held(events)
    assert until == "2026-11-23T21:00:00.000000Z"
    assert "degraded: on_peak <= 2.0 h" in reason
    assert next(event["on_peak"] for event in events if event["state"] == "held") == 7200


def test_a_job_that_fits_now_starts_now(tmp_path: Path) -> None:
    evening = datetime(2026, 11, 23, 22, 30, tzinfo=BERLIN).timestamp()
    events = run(tmp_path, NIGHTS, Hours(evening))
    assert held(events) == []
    assert [event["state"] for event in events] == ["queued", "running", "done"]


def test_a_job_that_must_not_run_on_peak_fails_and_says_what_to_change(tmp_path: Path) -> None:
    strict = NIGHTS.replace("9 h", "12 h").replace("[campaign.long]", 'on_unsatisfied = "fail"\n[campaign.long]')
    (failed,) = run(tmp_path, strict.replace("weekends = true", ""), Hours(MONDAY))
    assert failed["state"] == "failed"
    assert "12 h" in failed["reason"] and "10 h" in failed["reason"]


def test_the_hour_that_was_decided_outlives_the_runner(tmp_path: Path) -> None:
    first = run(tmp_path, NIGHTS, Hours(MONDAY, ends=MONDAY + 3600))
    assert [event["state"] for event in first] == ["held", "cancelled"]
    tuesday_noon = MONDAY + 26 * 3600
    again = run(tmp_path, NIGHTS, Hours(tuesday_noon))
    assert [event["state"] for event in again[2:]] == ["planned", "held", "queued", "running", "done"]
    assert (queued(again)[0].day, queued(again)[0].hour) == (24, 22)  # it was cancelled, so it is decided anew


def test_a_task_that_is_held_says_so_and_can_be_cancelled(tmp_path: Path) -> None:
    run(tmp_path, NIGHTS, Hours(MONDAY, ends=MONDAY + 3600))
    assert states(tmp_path) == {"long": "cancelled"}
    assert reasons(tmp_path) == {"long": "interrupted"}
    faulty = NIGHTS.replace("22:00-08:00", "22-8").replace('"48 h"', "48")
    answer = campaign(tmp_path, "check", text=faulty)
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[:2] == [
        "campaign.toml:5: schedule: preferred_hours: write hours as \"22:00-08:00\", got '22-8'",
        'campaign.toml:8: schedule: max_wait: a time span needs a number and a unit (write "48 min", not 48)',
    ]
