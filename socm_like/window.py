"""Off-peak windows: the ``[schedule]`` table, and when a task starts so that it runs in preferred hours.

A moment is preferred when a clock on the wall of the table's zone shows preferred hours, a weekend or a holiday. Only
that is read in local time; spans are computed in UTC, because Python's difference of two datetimes of one zone ignores
a change of the clocks between them (docs.python.org, ``datetime``). So 22:00-08:00 lasts 9 h on the night the clocks go
forward and 11 h on the night they go back; an end that the clocks jump over is the moment of the jump, and an hour
that they show twice is preferred twice. Nothing here reads the time: ``now`` is always passed in.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import BeforeValidator, Field, ValidationInfo, WrapValidator, model_validator
from pydantic import ValidatorFunctionWrapHandler as _Handler

from socm_like.errors import UsageError, suggest
from socm_like.fields import Duration, Model
from socm_like.units import format_span, parse_span

WEEK = timedelta(days=7)
"""How long a task waits at the most under ``degrade`` without a ``max_wait``: every regular window opens in a week."""

YEAR = timedelta(days=366)
"""How far ahead windows are looked for, and the longest runtime that is placed."""

_DAY = timedelta(days=1)
_TICK = timedelta.resolution
_LAST = datetime(9999, 12, 30, tzinfo=UTC)  # local times near it are still dates
_HOURS = re.compile(r"\s*(\d{1,2}):([0-5]\d)\s*-\s*(\d{1,2}):([0-5]\d)\s*")
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def _parse_hours(text: str) -> tuple[timedelta, timedelta]:
    """Return both ends of ``22:00-08:00`` as spans since midnight."""
    match = _HOURS.fullmatch(text)
    if match is None:
        raise ValueError(f'write hours as "22:00-08:00", got {text!r}')
    begin, end = (timedelta(hours=int(match[i]), minutes=int(match[i + 1])) for i in (1, 3))
    if begin >= _DAY or end > _DAY:
        raise ValueError(f"hours begin from 00:00 to 23:59 and end by 24:00, got {text!r}")
    if begin == end:
        raise ValueError(f'the two ends are equal (write "00:00-24:00" for the whole day), got {text!r}')
    return begin, end


def _as_hours(value: Any) -> Any:
    texts = () if value is None else (value,) if isinstance(value, str) else value
    if not isinstance(texts, tuple | list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f'write hours as "22:00-08:00", or a list of them, got {value!r}')
    for text in texts:
        _parse_hours(text)
    return texts


def _as_date(value: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            return date.fromisoformat(value)
    except ValueError as error:
        raise ValueError(f"there is no such day: {value!r} ({error})") from error
    raise ValueError(f'write a date as "2026-12-25", got {value!r}')


def _as_zone(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    name = find_local_timezone(os.environ, Path("/etc")) if value == "local" else value
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        known = available_timezones()
        hint = suggest(name, known) if known else "; this machine has no time zones: pip install tzdata"
        found = f"{name!r} (of this machine)" if value == "local" else repr(name)
        raise ValueError(f'unknown time zone {found}: write a name such as "Europe/Berlin" or "UTC"{hint}') from error
    return name


def _or_zero(value: Any, handler: _Handler, info: ValidationInfo) -> Any:
    is_text, is_span = isinstance(value, str), isinstance(value, timedelta)
    if (is_text and value.lstrip().startswith("-")) or (is_span and value < timedelta(0)):
        found = repr(value) if is_text else _span(value)
        raise ValueError(f'a wait cannot be negative (write "0 s" to start at once), got {found}')
    is_number = isinstance(value, float) and not (info.context or {}).get("from_file")  # as JSON gives it back
    seconds = parse_span(value) if is_text else value
    return timedelta(0) if not seconds and (is_text or is_span or is_number) else handler(value)


Wait = Annotated[Duration, WrapValidator(_or_zero)]
"""A time span that may be zero."""


class WindowTable(Model):
    """``[schedule]``: when tasks run by preference; a table without keys prefers every hour."""

    preferred_hours: Annotated[tuple[str, ...], BeforeValidator(_as_hours)] = ("22:00-08:00",)
    """Hours of every day, ``"22:00-08:00"`` or a list of several; an empty list for weekends and holidays only."""
    weekends: Annotated[bool, Field(strict=True)] = False
    """Saturdays and Sundays are preferred from midnight to midnight."""
    holidays: tuple[Annotated[date, BeforeValidator(_as_date)], ...] = ()
    """Days that are preferred from midnight to midnight."""
    timezone: Annotated[str, BeforeValidator(_as_zone)] = Field(default="local", validate_default=True)
    """An IANA name; ``local`` stands for this machine's zone, and is replaced by its name when the table is read."""
    max_wait: Wait | None = None
    """The longest time from now to the start, a year at the most."""
    on_unsatisfied: Literal["degrade", "wait", "fail"] = "degrade"
    """What happens to a task that no window holds within ``max_wait``: it is split at the ends of windows if it can
    be restarted and else runs on peak for as short as possible, or waits longer, or is refused."""

    @model_validator(mode="before")
    @classmethod
    def _prefer_every_hour_without_keys(cls, data: Any) -> Any:
        return {"preferred_hours": ("00:00-24:00",)} if data == {} else data

    @model_validator(mode="after")
    def _prefer_something(self) -> WindowTable:
        if not (self.preferred_hours or self.weekends or self.holidays):
            raise ValueError('nothing is preferred: write preferred_hours = "22:00-08:00", weekends = true or holidays')
        return self

    def __str__(self) -> str:
        days = ["weekends"] * self.weekends + ["holidays"] * bool(self.holidays)
        return f"{', '.join((*self.preferred_hours, *days))} in {self.timezone}"


def find_local_timezone(environment: Mapping[str, str], folder: Path) -> str:
    """Return the IANA name of this machine's zone: from TZ, else from localtime or timezone in a folder (``/etc``).

    Raises ValueError when it has no such name. Source: tzset(3), localtime(5).
    """
    if "TZ" in environment:
        return environment["TZ"].removeprefix(":").rpartition("zoneinfo/")[2] or "UTC"
    localtime = folder / "localtime"
    try:
        links = (localtime.readlink(), localtime.resolve()) if localtime.is_symlink() else ()
        names = [str(link).rpartition("zoneinfo/")[2] for link in links if "zoneinfo/" in str(link)]
        if names:
            return names[0]
        if (folder / "timezone").exists():
            return (folder / "timezone").read_text(encoding="utf-8").strip()
        if not localtime.exists():
            return "UTC"
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'this machine does not tell its time zone ({error}): write timezone = "..."') from error
    raise ValueError(f'this machine does not name its time zone ({localtime} is no link): write timezone = "..."')


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """The time from one instant to another, in UTC, without the last."""

    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """How long it lasts."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Decision:
    """When a task runs, and why then; every instant is in UTC."""

    pieces: tuple[Interval, ...]
    """One, or several of a task that is split at the ends of windows; they last as long as its runtime together."""
    on_peak: timedelta
    """Time outside preferred hours, if the task takes as long as its runtime allows."""
    is_degraded: bool
    reason: str

    @property
    def start(self) -> datetime:
        """The start of the first piece."""
        return self.pieces[0].start

    @property
    def end(self) -> datetime:
        """The end of the last piece."""
        return self.pieces[-1].end


class NoWindowError(UsageError):
    """No window is long enough and opens soon enough; nothing has been decided for this task."""


def preferred_intervals(window: WindowTable, start: datetime, end: datetime) -> Iterator[Interval]:
    """Yield the preferred time between two instants, the earliest first; two intervals never touch.

    Cost: some microseconds per day, when it is asked for.
    """
    merged: Interval | None = None
    for interval in _preferred_by_day(window, _utc(start), _utc(end)):
        if merged is None:
            merged = interval
        elif interval.start <= merged.end:
            merged = Interval(merged.start, max(merged.end, interval.end))
        else:
            yield merged
            merged = interval
    if merged is not None:
        yield merged


def is_preferred(window: WindowTable, at: datetime) -> bool:
    """Whether an instant lies in preferred hours."""
    return any(preferred_intervals(window, at, _utc(at) + _TICK))


def next_change(window: WindowTable, at: datetime) -> datetime | None:
    """Return the first instant after ``at`` when preferred hours begin or end, None if that is not within a year."""
    at = _utc(at)
    horizon = _after(at, YEAR)
    first = next(preferred_intervals(window, at, horizon), None)
    if first is None:
        return None
    change = first.end if first.start == at else first.start
    return change if change < horizon else None


def choose_start(now: datetime, runtime: timedelta, window: WindowTable | None, *, restartable: bool) -> Decision:
    """Return the earliest start within ``max_wait`` from which the whole task fits into one window, or what is second.

    Raises NoWindowError when none fits and the table says ``fail``, none within a year when it says ``wait``, and
    always for a runtime of more than a year.
    """
    now = _utc(now)
    if runtime <= timedelta(0):
        raise ValueError(f"a runtime must be longer than zero, got {_span(runtime)}")
    if window is None:
        return Decision((Interval(now, now + runtime),), timedelta(0), False, "starts now: no hours are preferred")
    if runtime > YEAR:
        raise NoWindowError(f"a runtime of {_span(runtime)} cannot be placed: the longest is {_span(YEAR)}")
    latest = _latest_start(now, window)
    intervals = preferred_intervals(window, now, _after(latest, runtime))
    fit = next((i.start for i in intervals if i.length >= runtime), None)
    if fit is not None:
        return Decision((Interval(fit, fit + runtime),), timedelta(0), False, _waiting(now, fit, window))
    preferred = tuple(preferred_intervals(window, now, _after(latest, runtime)))
    why = _why_none_fits(now, latest, runtime, window, preferred)
    if window.on_unsatisfied != "degrade":
        wait = "raise max_wait, " if window.on_unsatisfied == "fail" and window.max_wait is not None else ""
        remedy = 'widen preferred_hours, ask for a shorter runtime or write on_unsatisfied = "degrade"'
        raise NoWindowError(f"{why}; {wait}{remedy}")
    pieces = _split(now, latest, runtime, window) if restartable else ()
    if pieces:
        split = f"degraded: split into {len(pieces)} pieces at the ends of windows; {why}"
        return Decision(pieces, timedelta(0), True, split)
    start, on_peak = _least_on_peak(now, latest, runtime, preferred)
    tenths = -(-on_peak // timedelta(minutes=6))  # of an hour, rounded up: a bound
    reason = f"degraded: on_peak <= {tenths / 10:.1f} h; {why}"
    return Decision((Interval(start, start + runtime),), on_peak, True, reason)


def held_text(window: WindowTable, now: datetime, until: datetime) -> str:
    """Return what a person reads of a task that waits: ``held until Mon 22:00 CET (in 11 h 20 min)``."""
    wait = max(_utc(until) - _utc(now), timedelta(0))
    return f"held until {_moment(now, until, window)} (in {_span(wait)})"


def _utc(at: datetime) -> datetime:
    if at.utcoffset() is None:
        raise ValueError(f"an instant needs a time zone, got {at.isoformat()}")
    return at.astimezone(UTC)


def _after(at: datetime, span: timedelta) -> datetime:
    """Return an instant plus a span, but not beyond the calendar."""
    return at + min(span, _LAST - at)


def _steady(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[tuple[Interval, timedelta]]:
    """Yield the time between two instants in parts of a day at the most, each with its one difference from UTC."""

    def offset(at: datetime) -> timedelta:
        return at.astimezone(zone).utcoffset() or timedelta(0)

    while start < min(end, _LAST):
        stop = min(_after(start, _DAY), end)
        same, other = start, stop - _TICK
        if offset(same) != offset(other):
            while other - same > _TICK:
                middle = same + (other - same) // 2
                same, other = (middle, other) if offset(middle) == offset(start) else (same, middle)
            stop = other
        yield Interval(start, stop), offset(start)
        start = stop


def _preferred_by_day(window: WindowTable, start: datetime, end: datetime) -> Iterator[Interval]:
    """Yield preferred intervals in order of their starts; they may touch and overlap."""
    daily = []
    for begin, stop in map(_parse_hours, window.preferred_hours):
        daily += [(begin, stop)] if begin < stop else [(timedelta(0), stop), (begin, _DAY)]
    daily, whole_day = sorted(daily), [(timedelta(0), _DAY)]
    holidays = frozenset(window.holidays)
    for part, offset in _steady(ZoneInfo(window.timezone), start, end):
        low, high = ((at + offset).replace(tzinfo=None) for at in (part.start, part.end))
        midnight = datetime.combine(low.date(), time())
        while midnight < high:
            is_free = (window.weekends and midnight.weekday() >= 5) or midnight.date() in holidays
            for begin, stop in whole_day if is_free else daily:
                first, last = max(midnight + begin, low), min(midnight + stop, high)
                if first < last:
                    yield Interval(*((wall - offset).replace(tzinfo=UTC) for wall in (first, last)))
            midnight += _DAY


def _latest_start(now: datetime, window: WindowTable) -> datetime:
    if window.on_unsatisfied == "wait":
        return _after(now, YEAR)
    unlimited = WEEK if window.on_unsatisfied == "degrade" else YEAR
    return _after(now, min(YEAR, unlimited if window.max_wait is None else window.max_wait))


def _split(now: datetime, latest: datetime, runtime: timedelta, window: WindowTable) -> tuple[Interval, ...]:
    """Return the earliest pieces inside windows that last as long as the runtime; none if a year has too few."""
    pieces: list[Interval] = []
    left = runtime
    for interval in preferred_intervals(window, now, _after(now, YEAR)):
        if not pieces and interval.start > latest:
            break
        pieces.append(Interval(interval.start, min(interval.end, interval.start + left)))
        left -= pieces[-1].length
        if not left:
            return tuple(pieces)
    return ()


def _least_on_peak(
    now: datetime, latest: datetime, runtime: timedelta, preferred: tuple[Interval, ...]
) -> tuple[datetime, timedelta]:
    """Return the start with the least time on peak, and that time.

    A later start sheds a moment at its front and takes one on at its end. So a start on peak never gets worse until a
    window opens, and one in a window never gets better until it closes: only now, openings and the latest start count.
    The runtime is an upper bound: of equals, the start with the longest preferred time ahead spends least on peak when
    the task ends early, so it is where a window opens, not before. Nothing to gain: now.
    """
    starts = [interval.start for interval in preferred]
    totals = list(accumulate((interval.length for interval in preferred), initial=timedelta(0)))

    def preferred_before(at: datetime) -> timedelta:
        index = bisect_right(starts, at) - 1
        return totals[index] + min(at - starts[index], preferred[index].length) if index >= 0 else timedelta(0)

    def cost(start: datetime) -> tuple[timedelta, timedelta, datetime]:
        on_peak = runtime - (preferred_before(start + runtime) - preferred_before(start))
        index = bisect_right(starts, start) - 1
        ahead = max(preferred[index].end - start, timedelta(0)) if index >= 0 else timedelta(0)
        return on_peak, -ahead, start

    on_peak, ahead, start = min(map(cost, (now, *(start for start in starts if start < latest), latest)))
    if not ahead:  # on peak at first: the later, the more of it lies at the end
        start = now if on_peak == runtime else latest
    return start, on_peak


def _why_none_fits(
    now: datetime, latest: datetime, runtime: timedelta, window: WindowTable, preferred: tuple[Interval, ...]
) -> str:
    there = "none opens"
    longest = max((i for i in preferred if i.start <= latest), key=lambda i: i.length, default=None)
    if longest is not None:
        there = f"the longest is {_span(longest.length)}, from {_moment(now, longest.start, window)}"
    return f"no window until {_moment(now, latest, window)} holds {_span(runtime)} ({there}; preferred: {window})"


def _waiting(now: datetime, start: datetime, window: WindowTable) -> str:
    if start == now:
        return "starts now: in preferred hours"
    longest = window.max_wait
    beyond = f", longer than max_wait ({_span(longest)})" if longest is not None and start - now > longest else ""
    return held_text(window, now, start) + beyond


def _moment(now: datetime, at: datetime, window: WindowTable) -> str:
    """Return an instant as the zone's clocks show it, with the date from the sixth day on."""
    local = at.astimezone(ZoneInfo(window.timezone))
    name = local.tzname() or ""
    day = "" if at - now < timedelta(days=6) else f"{local.date().isoformat()} "
    return f"{_WEEKDAYS[local.weekday()]} {day}{local:%H:%M} {'UTC' * (name[:1] in ('+', '-'))}{name}"


def _span(span: timedelta) -> str:
    return format_span(span.total_seconds())
