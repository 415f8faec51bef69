"""Off-peak windows: right through nights that are 9 or 11 hours long, and honest about time on peak."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from socm_like.faults import faults_of
from socm_like.units import parse_span
from socm_like.window import (
    Decision,
    Interval,
    NoWindowError,
    WindowTable,
    choose_start,
    find_local_timezone,
    held_text,
    is_preferred,
    next_change,
    preferred_intervals,
)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NIGHTS: dict[str, Any] = {"preferred_hours": "22:00-08:00"}
WEEKENDS: dict[str, Any] = {**NIGHTS, "weekends": True}
AT_ONCE = "starts now: in preferred hours"


def table(zone: str = "Europe/Berlin", **keys: Any) -> WindowTable:
    return WindowTable.model_validate({"timezone": zone, **keys}, context={"from_file": True})


def at(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


def decide(now: str, runtime: str, window: WindowTable, restartable: bool = False) -> Decision:
    span = timedelta(seconds=parse_span(runtime))
    return choose_start(at(now, window.timezone), span, window, restartable=restartable)


def local(decision: Decision, zone: str = "Europe/Berlin") -> str:
    return decision.start.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")


NO_12_HOURS = (
    "no window until Wed 10:00 CET holds 12 h 00 min "
    "(the longest is 10 h 00 min, from Mon 22:00 CET; preferred: 22:00-08:00 in Europe/Berlin)"
)

# zone, table, now, runtime -> start, hours on peak, reason
GOLDEN: dict[str, tuple[str, dict[str, Any], str, str, str, float, str]] = {
    "9 h on Monday": (
        *("Europe/Berlin", NIGHTS, "2026-11-23T10:00", "9 h"),
        *("2026-11-23T22:00+01:00", 0.0, "held until Mon 22:00 CET (in 12 h 00 min)"),
    ),
    "12 h on Monday": (
        *("Europe/Berlin", {**NIGHTS, "max_wait": "48 h"}, "2026-11-23T10:00", "12 h"),
        *("2026-11-23T22:00+01:00", 2.0, f"degraded: on_peak <= 2.0 h; {NO_12_HOURS}"),
    ),
    "12 h on Thursday": (
        *("Europe/Berlin", {**WEEKENDS, "max_wait": "48 h"}, "2026-11-26T10:00", "12 h"),
        *("2026-11-27T22:00+01:00", 0.0, "held until Fri 22:00 CET (in 1 d 12 h)"),
    ),
    "58 h on Thursday": (
        *("Europe/Berlin", WEEKENDS, "2026-11-26T10:00", "58 h"),
        *("2026-11-27T22:00+01:00", 0.0, "held until Fri 22:00 CET (in 1 d 12 h)"),
    ),
    "9.5 h before the night of 9 h": (
        *("Europe/Berlin", NIGHTS, "2026-03-28T10:00", "9.5 h"),
        *("2026-03-29T22:00+02:00", 0.0, "held until Sun 22:00 CEST (in 1 d 11 h)"),
    ),
    "9 h in the night of 9 h": (
        *("Europe/Berlin", NIGHTS, "2026-03-28T10:00", "9 h"),
        *("2026-03-28T22:00+01:00", 0.0, "held until Sat 22:00 CET (in 12 h 00 min)"),
    ),
    "11 h in the night of 11 h": (
        *("Europe/Berlin", NIGHTS, "2026-10-24T10:00", "11 h"),
        *("2026-10-24T22:00+02:00", 0.0, "held until Sat 22:00 CEST (in 12 h 00 min)"),
    ),
    "enough is left": (
        *("Europe/Berlin", NIGHTS, "2026-11-24T01:30", "6.5 h"),
        *("2026-11-24T01:30+01:00", 0.0, AT_ONCE),
    ),
    "too little is left": (
        *("Europe/Berlin", NIGHTS, "2026-11-24T01:30", "6.6 h"),
        *("2026-11-24T22:00+01:00", 0.0, "held until Tue 22:00 CET (in 20 h 30 min)"),
    ),
    "holidays join the nights": (
        *("Europe/Berlin", {**NIGHTS, "holidays": ["2026-12-25", "2026-12-24"]}, "2026-12-21T10:00", "58 h"),
        *("2026-12-23T22:00+01:00", 0.0, "held until Wed 22:00 CET (in 2 d 12 h)"),
    ),
    "a day off joins a weekend": (
        *("Europe/Berlin", {**WEEKENDS, "holidays": ["2026-12-25"]}, "2026-12-21T10:00", "82 h"),
        *("2026-12-24T22:00+01:00", 0.0, "held until Thu 22:00 CET (in 3 d 12 h)"),
    ),
    "no wait at all, on peak": (
        *("UTC", {**NIGHTS, "max_wait": "0 s"}, "2026-11-23T10:00", "1 h", "2026-11-23T10:00+00:00", 1.0),
        "degraded: on_peak <= 1.0 h; no window until Mon 10:00 UTC holds 1 h 00 min "
        "(none opens; preferred: 22:00-08:00 in UTC)",
    ),
    "no wait at all, preferred": (
        *("UTC", {**NIGHTS, "max_wait": "0 s"}, "2026-11-23T07:00", "1 h"),
        *("2026-11-23T07:00+00:00", 0.0, AT_ONCE),
    ),
    "all day": (
        *("Europe/Berlin", {"preferred_hours": "00:00-24:00"}, "2026-03-28T10:00", "300 d"),
        *("2026-03-28T10:00+01:00", 0.0, AT_ONCE),
    ),
    "a zone that never changes its clocks": (
        *("Asia/Kolkata", NIGHTS, "2026-03-28T10:00", "10 h"),
        *("2026-03-28T22:00+05:30", 0.0, "held until Sat 22:00 IST (in 12 h 00 min)"),
    ),
    "a leap day": (
        *("Europe/Berlin", {"preferred_hours": [], "holidays": ["2028-02-29"]}, "2028-02-27T10:00", "24 h"),
        *("2028-02-29T00:00+01:00", 0.0, "held until Tue 00:00 CET (in 1 d 14 h)"),
    ),
    "years away": (
        *("Europe/Berlin", NIGHTS, "2406-03-25T09:00", "9.5 h"),
        *("2406-03-26T22:00+02:00", 0.0, "held until Sun 22:00 CEST (in 1 d 12 h)"),
    ),
    "the southern night of 9 h": (
        *("Australia/Sydney", NIGHTS, "2026-10-03T10:00", "9.5 h"),
        *("2026-10-04T22:00+11:00", 0.0, "held until Sun 22:00 AEDT (in 1 d 11 h)"),
    ),
    "the southern night of 11 h": (
        *("Australia/Sydney", NIGHTS, "2026-04-04T10:00", "11 h"),
        *("2026-04-04T22:00+11:00", 0.0, "held until Sat 22:00 AEDT (in 12 h 00 min)"),
    ),
    "an end in the hour that is skipped": (
        *("Europe/Berlin", {"preferred_hours": "02:30-08:00"}, "2026-03-29T00:00", "5 h"),
        *("2026-03-29T03:00+02:00", 0.0, "held until Sun 03:00 CEST (in 2 h 00 min)"),
    ),
    "an end in the hour that comes twice": (
        *("Europe/Berlin", {"preferred_hours": "02:30-08:00"}, "2026-10-25T00:00", "5.5 h"),
        *("2026-10-25T02:30+01:00", 0.0, "held until Sun 02:30 CET (in 3 h 30 min)"),
    ),
    "several windows a day": (
        *("UTC", {"preferred_hours": ["12:00-13:30", "20:00-06:00"]}, "2026-11-23T10:00", "1 h"),
        *("2026-11-23T12:00+00:00", 0.0, "held until Mon 12:00 UTC (in 2 h 00 min)"),
    ),
    "windows that touch and overlap": (
        *("UTC", {"preferred_hours": ["06:00-08:00", "20:00-06:00", "07:00-08:30"]}, "2026-11-23T10:00", "12.5 h"),
        *("2026-11-23T20:00+00:00", 0.0, "held until Mon 20:00 UTC (in 10 h 00 min)"),
    ),
    "no keys": (
        "UTC",
        {"preferred_hours": "00:00-24:00"},
        "2026-11-23T10:00",
        "9 h",
        "2026-11-23T10:00+00:00",
        0.0,
        AT_ONCE,
    ),
    "a wait beyond max_wait": (
        *("UTC", {**NIGHTS, "max_wait": "5 h", "on_unsatisfied": "wait"}, "2026-11-23T10:00", "9 h"),
        *(
            "2026-11-23T22:00+00:00",
            0.0,
            "held until Mon 22:00 UTC (in 12 h 00 min), longer than max_wait (5 h 00 min)",
        ),
    ),
    "a wait of months for the night of 11 h": (
        *("Europe/Berlin", {**NIGHTS, "on_unsatisfied": "wait"}, "2026-11-23T10:00", "11 h"),
        *("2027-10-30T22:00+02:00", 0.0, "held until Sat 2027-10-30 22:00 CEST (in 341 d 11 h)"),
    ),
}
Case = tuple[str, dict[str, Any], str, str, str, float, str]
PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[2])
import test_window
print(json.dumps([test_window.answer(case) for case in json.loads(sys.argv[1])]))
"""


def answer(case: Case) -> list[str | float]:
    zone, keys, now, runtime, *_ = case
    decision = decide(now, runtime, table(zone, **keys))
    assert decision.is_degraded is (decision.on_peak > timedelta(0))
    return [local(decision, zone), decision.on_peak / HOUR, decision.reason]


@pytest.mark.parametrize("case", GOLDEN.values(), ids=GOLDEN)
def test_a_task_starts_where_a_window_holds_it(case: Case) -> None:
    assert answer(case) == list(case[4:])


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_the_zone_of_the_machine_changes_no_answer(
    zone: str, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    child = run_python(PROGRAM, json.dumps(list(GOLDEN.values())), Path(__file__).parent, TZ=zone)
    assert child.stderr == ""
    assert json.loads(child.stdout) == [list(case[4:]) for case in GOLDEN.values()]


def test_without_a_table_and_without_keys_a_task_starts_now() -> None:
    now = at("2026-11-23T10:00")
    assert choose_start(now, 9 * HOUR, None, restartable=False) == Decision(
        (Interval(now, now + 9 * HOUR),), timedelta(0), False, "starts now: no hours are preferred"
    )
    empty = WindowTable()
    assert empty.preferred_hours == ("00:00-24:00",)
    assert choose_start(now, 9 * HOUR, empty, restartable=False).start == now
    assert WindowTable.model_validate_json(empty.model_dump_json()) == empty


def test_a_table_with_keys_prefers_nights_unless_it_says_otherwise() -> None:
    assert table().preferred_hours == ("22:00-08:00",)
    assert table(preferred_hours=[], weekends=True).preferred_hours == ()


def test_a_task_that_can_be_restarted_is_split_at_the_ends_of_windows() -> None:
    decision = decide("2026-11-23T10:00", "12 h", table(max_wait="48 h"), restartable=True)
    assert decision == Decision(
        pieces=(
            Interval(at("2026-11-23T21:00", "UTC"), at("2026-11-24T07:00", "UTC")),
            Interval(at("2026-11-24T21:00", "UTC"), at("2026-11-24T23:00", "UTC")),
        ),
        on_peak=timedelta(0),
        is_degraded=True,
        reason=f"degraded: split into 2 pieces at the ends of windows; {NO_12_HOURS}",
    )
    assert (decision.start, decision.end) == (at("2026-11-23T21:00", "UTC"), at("2026-11-24T23:00", "UTC"))


def test_a_task_whose_first_window_opens_too_late_is_not_split() -> None:
    decision = decide("2026-11-23T10:00", "12 h", table(max_wait="11 h"), restartable=True)
    assert (len(decision.pieces), local(decision), decision.on_peak) == (1, "2026-11-23T21:00+01:00", 2 * HOUR)


def test_only_the_first_piece_has_to_start_within_max_wait() -> None:
    decision = decide("2026-11-23T21:00", "24 h", table(max_wait="1 h"), restartable=True)
    assert [piece.length / HOUR for piece in decision.pieces] == [10.0, 10.0, 4.0]


def test_a_split_that_would_take_more_than_a_year_is_no_answer() -> None:
    decision = decide("2026-11-23T22:00", "200 d", table(), restartable=True)
    assert len(decision.pieces) == 1
    assert decision.is_degraded


@pytest.mark.parametrize(
    ("now", "runtime", "max_wait", "start", "hours"),
    [
        ("2026-11-23T10:00", "30 h", "3 d", "2026-11-23T22:00+01:00", 14.0),  # of equals, the most preferred time first
        ("2026-11-23T23:00", "12 h", "6 h", "2026-11-23T23:00+01:00", 3.0),  # any later is worse
        ("2026-11-23T10:00", "12 h", "11 h", "2026-11-23T21:00+01:00", 2.0),  # the overlap at the end may vanish
        ("2026-11-23T10:00", "12 h", "35 h", "2026-11-23T22:00+01:00", 2.0),  # not Tuesday 21:00, which ties
        ("2026-11-23T10:00", "1 h", "2 h", "2026-11-23T10:00+01:00", 1.0),  # waiting would gain nothing
        ("2026-11-24T07:59", "1 h", "1 h", "2026-11-24T07:59+01:00", 59 / 60),
    ],
)
def test_a_degraded_task_starts_with_the_least_time_on_peak(
    now: str, runtime: str, max_wait: str, start: str, hours: float
) -> None:
    decision = decide(now, runtime, table(max_wait=max_wait))
    assert (local(decision), decision.on_peak / HOUR) == (start, hours)


def test_the_bound_that_is_printed_is_rounded_up() -> None:
    decision = decide("2026-11-24T07:57", "2 h", table(max_wait="0 s"))
    assert decision.on_peak == timedelta(hours=1, minutes=57)
    assert decision.reason.startswith("degraded: on_peak <= 2.0 h; ")


def test_a_degraded_task_without_max_wait_waits_a_week_at_the_most() -> None:
    decision = decide("2026-10-12T10:00", "11 h", table())
    assert (local(decision), decision.on_peak) == ("2026-10-12T22:00+02:00", HOUR)
    assert decide("2026-10-18T10:00", "11 h", table()).on_peak == timedelta(0)


def test_fail_says_what_was_asked_what_there_is_and_what_to_change() -> None:
    with pytest.raises(NoWindowError) as caught:
        decide("2026-11-23T10:00", "12 h", table(max_wait="48 h", on_unsatisfied="fail"), restartable=True)
    remedy = 'widen preferred_hours, ask for a shorter runtime or write on_unsatisfied = "degrade"'
    assert str(caught.value) == f"{NO_12_HOURS}; raise max_wait, {remedy}"


def test_wait_fails_when_no_window_of_a_year_is_long_enough() -> None:
    with pytest.raises(NoWindowError) as caught:
        decide("2026-11-23T10:00", "9.5 h", table("Asia/Kolkata", preferred_hours="22:00-07:00", on_unsatisfied="wait"))
    assert str(caught.value) == (
        "no window until Wed 2027-11-24 10:00 IST holds 9 h 30 min "
        "(the longest is 9 h 00 min, from Mon 22:00 IST; preferred: 22:00-07:00 in Asia/Kolkata); "
        'widen preferred_hours, ask for a shorter runtime or write on_unsatisfied = "degrade"'
    )


def test_a_holiday_that_is_long_past_opens_no_window() -> None:
    window = table(preferred_hours=[], holidays=[date(2020, 12, 25)], on_unsatisfied="fail")
    with pytest.raises(NoWindowError, match=r"\(none opens; preferred: holidays in Europe/Berlin\)"):
        decide("2026-11-23T10:00", "1 h", window)
    assert next_change(window, at("2026-11-23T10:00")) is None


def test_the_end_of_the_calendar_is_no_accident() -> None:
    assert not is_preferred(table(), at("9999-12-29T12:00"))
    assert next_change(table(), at("9999-12-29T12:00")) == at("9999-12-29T22:00")
    with pytest.raises(NoWindowError):
        decide("9999-12-29T12:00", "12 h", table(on_unsatisfied="wait"))


@pytest.mark.parametrize(("runtime", "text"), [(timedelta(0), "0 s"), (-HOUR, "-1 h 00 min")])
def test_a_runtime_of_nothing_is_refused(runtime: timedelta, text: str) -> None:
    with pytest.raises(ValueError, match=f"^a runtime must be longer than zero, got {text}$"):
        choose_start(at("2026-11-23T10:00"), runtime, table(), restartable=False)


def test_a_runtime_of_more_than_a_year_is_refused() -> None:
    with pytest.raises(NoWindowError, match=r"^a runtime of 400 d 00 h cannot be placed: the longest is 366 d 00 h$"):
        decide("2026-11-23T10:00", "400 d", table())


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^an instant needs a time zone, got 2026-11-23T10:00:00$"):
        is_preferred(table(), datetime(2026, 11, 23, 10))


def spans(window: WindowTable, start: str, end: str) -> list[tuple[str, float]]:
    zone = ZoneInfo(window.timezone)
    found = preferred_intervals(window, at(start, window.timezone), at(end, window.timezone))
    return [(i.start.astimezone(zone).isoformat(timespec="minutes"), i.length / HOUR) for i in found]


def test_nights_last_as_long_as_clocks_make_them() -> None:
    assert spans(table(), "2026-03-28T12:00", "2026-03-29T12:00") == [("2026-03-28T22:00+01:00", 9.0)]
    assert spans(table(), "2026-10-24T12:00", "2026-10-25T12:00") == [("2026-10-24T22:00+02:00", 11.0)]
    assert spans(table(**WEEKENDS), "2026-11-27T12:00", "2026-11-30T12:00") == [("2026-11-27T22:00+01:00", 58.0)]


def test_an_end_in_the_skipped_hour_is_the_moment_of_the_jump() -> None:
    early, late = table(preferred_hours="22:00-02:30"), table(preferred_hours="02:30-06:00")
    assert spans(early, "2026-03-28T12:00", "2026-03-29T12:00") == [("2026-03-28T22:00+01:00", 4.0)]
    assert spans(late, "2026-03-28T12:00", "2026-03-29T12:00") == [("2026-03-29T03:00+02:00", 3.0)]


def test_an_hour_shown_twice_is_preferred_twice() -> None:
    assert spans(table(preferred_hours="22:00-02:30"), "2026-10-24T12:00", "2026-10-25T12:00") == [
        ("2026-10-24T22:00+02:00", 4.5),
        ("2026-10-25T02:00+01:00", 0.5),
    ]


def test_a_day_that_a_zone_never_had_is_in_no_window() -> None:
    weekend = table("Pacific/Apia", preferred_hours=[], weekends=True, holidays=["2011-12-30"])
    assert spans(weekend, "2011-12-29T00:00", "2012-01-03T00:00") == [("2011-12-31T00:00+14:00", 48.0)]


def test_a_window_ends_without_its_last_moment() -> None:
    tick = timedelta.resolution
    opens, closes = at("2026-11-23T22:00"), at("2026-11-24T08:00")
    moments = (opens.astimezone(UTC) - tick, opens, closes.astimezone(UTC) - tick, closes)
    assert [is_preferred(table(), moment) for moment in moments] == [False, True, True, False]


@pytest.mark.parametrize(
    ("now", "change"),
    [
        ("2026-11-23T10:00", "2026-11-23T22:00"),
        ("2026-11-23T22:00", "2026-11-24T08:00"),
        ("2026-11-24T08:00", "2026-11-24T22:00"),
        ("2026-11-27T23:00", "2026-11-30T08:00"),
    ],
)
def test_the_next_change_is_after_now(now: str, change: str) -> None:
    assert next_change(table(**WEEKENDS), at(now)) == at(change)


def test_where_all_is_preferred_nothing_changes() -> None:
    assert next_change(table(preferred_hours="00:00-24:00"), at("2026-11-23T10:00")) is None
    assert next_change(table(preferred_hours=["08:00-22:00", "22:00-08:00"]), at("2026-11-23T10:00")) is None


@pytest.mark.parametrize(
    ("zone", "now", "until", "text"),
    [
        ("Europe/Berlin", "2026-11-23T10:40", "2026-11-23T22:00", "held until Mon 22:00 CET (in 11 h 20 min)"),
        ("Europe/Berlin", "2026-11-23T10:00", "2026-11-30T22:00", "held until Mon 2026-11-30 22:00 CET (in 7 d 12 h)"),
        ("America/Sao_Paulo", "2026-11-23T21:59", "2026-11-23T22:00", "held until Mon 22:00 UTC-03 (in 1 min 00 s)"),
        ("UTC", "2026-11-23T22:00", "2026-11-23T21:00", "held until Mon 21:00 UTC (in 0 s)"),
    ],
)
def test_a_person_reads_until_when_a_task_is_held(zone: str, now: str, until: str, text: str) -> None:
    assert held_text(table(zone), at(now, zone), at(until, zone)) == text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"preferred_hours": "22-8"}, "preferred_hours: write hours as \"22:00-08:00\", got '22-8'"),
        (
            {"preferred_hours": "25:00-08:00"},
            "preferred_hours: hours begin from 00:00 to 23:59 and end by 24:00, got '25:00-08:00'",
        ),
        (
            {"preferred_hours": ["20:00-22:00", "24:00-08:00"]},
            "preferred_hours: hours begin from 00:00 to 23:59 and end by 24:00, got '24:00-08:00'",
        ),
        (
            {"preferred_hours": "08:00-08:00"},
            "preferred_hours: the two ends are equal (write \"00:00-24:00\" for the whole day), got '08:00-08:00'",
        ),
        (
            {"preferred_hours": 22},
            'preferred_hours: write hours as "22:00-08:00", or a list of them, got 22',
        ),
        (
            {"timezone": "Europe/Berlni"},
            'timezone: unknown time zone \'Europe/Berlni\': write a name such as "Europe/Berlin" or "UTC"; '
            "did you mean 'Europe/Berlin'?",
        ),
        ({"timezone": ""}, 'timezone: unknown time zone \'\': write a name such as "Europe/Berlin" or "UTC"'),
        ({"timezone": "../UTC"}, None),
        ({"timezone": "Europe"}, None),
        ({"timezone": 1}, "timezone: write text in quotes, got 1"),
        ({"max_wait": "-5 h"}, "max_wait: a wait cannot be negative (write \"0 s\" to start at once), got '-5 h'"),
        (
            {"max_wait": timedelta(hours=-5)},
            'max_wait: a wait cannot be negative (write "0 s" to start at once), got -5 h 00 min',
        ),
        ({"max_wait": 48}, 'max_wait: a time span needs a number and a unit (write "48 min", not 48)'),
        ({"max_wait": 0.0}, 'max_wait: a time span needs a number and a unit (write "0.0 min", not 0.0)'),
        ({"max_wait": "48"}, "max_wait: a time span needs a number and a unit (s, min, h, d, w), got '48'"),
        ({"holidays": ["25.12.2026"]}, "holidays.0: write a date as \"2026-12-25\", got '25.12.2026'"),
        (
            {"holidays": ["2026-02-29"]},
            "holidays.0: there is no such day: '2026-02-29' (day is out of range for month)",
        ),
        ({"holidays": [20261225]}, 'holidays.0: write a date as "2026-12-25", got 20261225'),
        ({"holidays": "2026-12-25"}, "holidays: write a list, got '2026-12-25'"),
        ({"weekends": "yes"}, "weekends: write true or false, got 'yes'"),
        ({"on_unsatisfied": "degrad"}, None),
        (
            {"preferred_hours": []},
            'nothing is preferred: write preferred_hours = "22:00-08:00", weekends = true or holidays',
        ),
        ({"weekend": True}, None),
    ],
)
def test_a_table_is_told_what_to_write_instead(keys: dict[str, Any], message: str | None) -> None:
    with pytest.raises(ValidationError) as caught:
        WindowTable.model_validate({"timezone": "UTC", **keys}, context={"from_file": True})
    ((_, found),) = faults_of(caught.value, WindowTable, keys)
    if message is None:
        (key,) = keys
        assert key in found
    else:
        assert found == message


def test_all_faults_of_a_table_are_reported_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        table("Mars", preferred_hours="8-9", holidays=["x", "2026-12-25", "y"], max_wait=1)
    assert [error["loc"] for error in caught.value.errors()] == [
        *(("preferred_hours",), ("holidays", 0), ("holidays", 2), ("timezone",), ("max_wait",))
    ]


@pytest.mark.parametrize(
    "keys", [{"max_wait": "0 s"}, {"max_wait": "2 d", **WEEKENDS, "holidays": [date(2026, 12, 25)]}]
)
def test_a_table_comes_back_from_json_as_it_was(keys: dict[str, Any]) -> None:
    window = table(**keys)
    assert WindowTable.model_validate_json(window.model_dump_json()) == window


def test_the_zone_of_the_machine_is_named_when_the_table_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert str(WindowTable(weekends=True)) == "22:00-08:00, weekends in Asia/Tokyo"
    monkeypatch.setenv("TZ", "CET-1CEST")
    with pytest.raises(ValidationError, match=r"unknown time zone 'CET-1CEST' \(of this machine\): write a name"):
        WindowTable(weekends=True)


def test_the_zone_of_the_machine_is_found_where_systems_keep_it(tmp_path: Path) -> None:
    for value, name in {
        ":Europe/Berlin": "Europe/Berlin",
        "/usr/share/zoneinfo/Asia/Tokyo": "Asia/Tokyo",
        "": "UTC",
    }.items():
        assert find_local_timezone({"TZ": value}, tmp_path) == name
    assert find_local_timezone({}, tmp_path) == "UTC"
    localtime = tmp_path / "localtime"
    localtime.write_bytes(b"TZif2")
    with pytest.raises(ValueError, match=r"does not name its time zone .* write timezone = "):
        find_local_timezone({}, tmp_path)
    (tmp_path / "timezone").write_text("Europe/Paris\n")
    assert find_local_timezone({}, tmp_path) == "Europe/Paris"
    (tmp_path / "timezone").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"does not tell its time zone .* write timezone = "):
        find_local_timezone({}, tmp_path)
    localtime.unlink()
    localtime.symlink_to("../usr/share/zoneinfo/America/Argentina/Ushuaia")
    assert find_local_timezone({}, tmp_path) == "America/Argentina/Ushuaia"


ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Casablanca"]
)
QUARTERS = st.integers(0, 95).map(lambda n: f"{n // 4:02d}:{n % 4 * 15:02d}")
HOURS = st.tuples(QUARTERS, QUARTERS).filter(lambda ends: ends[0] != ends[1]).map("-".join)
# Around the nights when Berlin, New York, Lord Howe and Casablanca change their clocks, and any time.
NOWS = st.one_of(
    st.sampled_from(["2026-03-27", "2026-10-23", "2026-03-06", "2026-10-30", "2026-04-03", "2026-10-02", "2026-02-13"])
    .flatmap(lambda day: st.integers(0, 4000).map(lambda n: at(day, "UTC") + timedelta(minutes=n))),
    st.integers(0, 10_000_000).map(lambda n: at("2024-01-01", "UTC") + timedelta(minutes=n)),
)  # fmt: skip
TABLES = st.builds(
    lambda zone, hours, weekends, holiday, wait: WindowTable(
        timezone=zone,
        preferred_hours=tuple(hours),
        weekends=weekends,
        holidays=holiday,
        max_wait=timedelta(minutes=wait),
    ),
    ZONES,
    st.lists(HOURS, min_size=1, max_size=2),
    st.booleans(),
    st.lists(st.sampled_from([date(2026, 3, 29), date(2026, 10, 26), date(2026, 10, 23)]), max_size=2).map(tuple),
    st.integers(0, 3 * 1440),
)
RUNTIMES = st.integers(1, 2400).map(lambda n: timedelta(minutes=n))


def on_wall(window: WindowTable, moment: datetime) -> bool:
    """Whether the wall clock shows a preferred minute: the definition, read without the module under test."""
    wall = moment.astimezone(ZoneInfo(window.timezone))
    clock = f"{wall:%H:%M}"
    if wall.date() in window.holidays or (window.weekends and wall.weekday() in (5, 6)):
        return True
    ends = [hours.split("-") for hours in window.preferred_hours]
    return any(b <= clock < e if b < e else clock >= b or clock < e for b, e in ends)


@settings(max_examples=60)
@given(NOWS, RUNTIMES, TABLES, st.booleans())
def test_no_start_that_was_allowed_has_less_time_on_peak(
    now: datetime, runtime: timedelta, window: WindowTable, restartable: bool
) -> None:
    assert window.max_wait is not None
    wait, length = (span // timedelta(minutes=1) for span in (window.max_wait, runtime))
    minutes = range(wait + length + 1)
    peak = [not on_wall(window, now + timedelta(minutes=minute)) for minute in minutes]
    total = [0]
    for is_on_peak in peak:
        total.append(total[-1] + is_on_peak)
    counted = {start: total[start + length] - total[start] for start in range(wait + 1)}
    decision = choose_start(now, runtime, window, restartable=restartable)
    on_peak = decision.on_peak / timedelta(minutes=1)
    assert on_peak <= min(counted[start] for start in range(0, wait + 1, 5))
    assert now <= decision.start <= now + window.max_wait
    if len(decision.pieces) == 1:
        start = (decision.start - now) // timedelta(minutes=1)
        assert decision.start == now + timedelta(minutes=start)
        assert on_peak == counted[start]
        assert decision.is_degraded is (min(counted.values()) > 0)
    else:
        assert restartable
        assert min(counted.values()) > 0


@settings(max_examples=60)
@given(NOWS, RUNTIMES, TABLES)
def test_pieces_lie_in_windows_never_overlap_and_last_as_long_as_the_runtime(
    now: datetime, runtime: timedelta, window: WindowTable
) -> None:
    decision = choose_start(now, runtime, window, restartable=True)
    assert sum((piece.length for piece in decision.pieces), timedelta(0)) == runtime
    assert all(piece.start < piece.end for piece in decision.pieces)
    assert all(before.end < after.start for before, after in pairwise(decision.pieces))
    assert {end.tzinfo for piece in decision.pieces for end in (piece.start, piece.end)} == {UTC}
    assume(not decision.on_peak)
    for piece in decision.pieces:
        minutes = range(piece.length // timedelta(minutes=1))
        assert all(on_wall(window, piece.start + timedelta(minutes=minute)) for minute in minutes)


@settings(max_examples=60)
@given(NOWS, TABLES)
def test_intervals_ascend_and_change_where_the_next_change_says(now: datetime, window: WindowTable) -> None:
    found = list(preferred_intervals(window, now, now + 5 * DAY))
    assert all(interval.start < interval.end for interval in found)
    assert all(before.end < after.start for before, after in pairwise(found))
    change = next_change(window, now)
    assert change is None or now < change
    if change is not None:
        assert is_preferred(window, change) is on_wall(window, change) is not is_preferred(window, now)
        assert is_preferred(window, change - timedelta.resolution) is is_preferred(window, now)


@settings(max_examples=60)
@given(NOWS, RUNTIMES, TABLES, st.integers(0, 600))
def test_a_later_submission_never_finds_an_earlier_window(
    now: datetime, runtime: timedelta, window: WindowTable, minutes: int
) -> None:
    waiting = window.model_copy(update={"on_unsatisfied": "wait"})
    try:
        first = choose_start(now, runtime, waiting, restartable=False)
        second = choose_start(now + timedelta(minutes=minutes), runtime, waiting, restartable=False)
    except NoWindowError:
        return
    assert first.start <= second.start
    assert first.on_peak == second.on_peak == timedelta(0)
