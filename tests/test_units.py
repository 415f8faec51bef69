"""Sizes, time spans and instants as text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.units import format_instant, format_size, format_span, parse_instant, parse_size, parse_span


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1 B", 1),
        ("1kB", 1000),
        ("1 KB", 1000),
        ("500 MB", 500_000_000),
        ("2 GB", 2_000_000_000),
        ("1 TB", 10**12),
        ("1 PB", 10**15),
        ("1 KiB", 1024),
        ("8 GiB", 8_589_934_592),
        ("1.5 TiB", 1_649_267_441_664),
        ("1 PiB", 2**50),
        (" 8  MiB ", 8_388_608),
        (".5 KiB", 512),
        ("2. KiB", 2048),
        ("1e3 B", 1000),
        ("0 B", 0),
    ],
)
def test_a_size_is_read_in_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", " ", "8", "GiB", "8 gib", "8 kb", "8 Gb", "8 kiB", "-8 GiB", "8 GiB 1", "8,5 GiB", "0x8 GiB", "nan B"]
)
def test_a_size_without_a_number_or_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_size(text)
    units = "kB, MB, GB, TB, KiB, MiB, GiB, TiB"
    assert str(caught.value) == f"a size needs a number and a unit ({units}), got {text!r}"


def test_a_size_beyond_every_number_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        parse_size("1e400 GiB")
    assert str(caught.value) == "a size must be finite, got '1e400 GiB'"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20 min", 1200.0),
        ("1 h 30 min", 5400.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
        ("1 week", 604800.0),
        ("1.5 hours", 5400.0),
        ("250 ms", 0.25),
        (".5s", 0.5),
        ("1e3 sec", 1000.0),
        ("02:00:00", 7200.0),
        ("100:59:01", 363541.0),
        (" 3 days ", 259200.0),
        ("0 s", 0.0),
    ],
)
def test_a_time_span_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "20", "min", "1 h 30", "20 mins", "1 M", "-5 s", "01:30", "1:60:00", "1 h, 30 min", "PT20M", "1.5.5 h"],
)
def test_a_time_span_without_a_number_or_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_span(text)
    assert str(caught.value) == f"a time span needs a number and a unit (s, min, h, d, w), got {text!r}"


def test_a_time_span_beyond_every_number_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        parse_span("1e400 s")
    assert str(caught.value) == "a time span must be finite, got '1e400 s'"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1000, "1000 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (999 * 1024, "999 KiB"),
        (1000 * 1024, "1000 KiB"),
        (1023 * 1024, "1023 KiB"),
        (2**20 - 1, "1 MiB"),
        (8 * 2**30, "8 GiB"),
        (10 * 2**40, "10 TiB"),
        (5000 * 2**50, "5000 PiB"),
    ],
)
def test_a_size_is_written_without_an_exponent(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.314, "0.31 s"),
        (9.94, "9.9 s"),
        (9.95, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185.0, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7800.0, "2 h 10 min"),
        (86399.6, "1 d 00 h"),
        (356400.0, "4 d 03 h"),
        (-5.0, "-5 s"),
        (-7800.0, "-2 h 10 min"),
    ],
)
def test_a_time_span_is_written_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert format_span(seconds) == text


@given(st.integers(0, 2**53))
def test_a_size_in_bytes_is_read_back_exactly(size: int) -> None:
    assert parse_size(f"{size} B") == size


@given(st.integers(1, 2**60))
def test_a_size_is_read_back_to_three_digits(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.005)


@given(st.floats(0.001, 1e9))
def test_a_time_span_is_read_back_to_less_than_its_last_digit(seconds: float) -> None:
    last_digit = 3600.0 if seconds >= 86399.5 else 60.0 if seconds >= 3599.5 else 0.5 if seconds >= 9.95 else 0.05
    assert abs(parse_span(format_span(seconds)) - seconds) <= min(last_digit + 0.5, seconds / 2)


@given(st.text(max_size=20))
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except ValueError as error:
        assert str(error).endswith(f", got {text!r}")


@given(st.text(alphabet="0123456789.:e+ smhdinw", max_size=20))
def test_any_text_is_a_time_span_or_a_value_error(text: str) -> None:
    try:
        assert parse_span(text) >= 0.0
    except ValueError as error:
        assert str(error).endswith(f", got {text!r}")


def test_an_instant_is_written_in_utc_with_microseconds() -> None:
    assert format_instant(1795255200.0) == "2026-11-21T10:00:00.000000Z"
    assert format_instant(1795255200.123456) == "2026-11-21T10:00:00.123456Z"


@pytest.mark.parametrize("text", ["2026-11-21T10:00:00Z", "2026-11-21T11:00:00+01:00", "2026-11-21 10:00:00.000000Z"])
def test_an_instant_is_read_in_any_time_zone(text: str) -> None:
    assert parse_instant(text) == 1795255200.0


def test_an_instant_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        parse_instant("2026-11-21T10:00:00")
    assert str(caught.value) == ("an instant needs a time zone (write 2026-11-21T10:00:00Z), got '2026-11-21T10:00:00'")


@given(st.datetimes(datetime(1971, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC)))
def test_an_instant_is_read_back_to_the_microsecond(instant: datetime) -> None:
    assert format_instant(parse_instant(format_instant(instant.timestamp()))) == format_instant(instant.timestamp())
