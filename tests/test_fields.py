"""Field types: units are demanded of files, and every refusal says what to write instead."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from socm_like.fields import Bytes, Duration, Model, NotIdentity, Query

FROM_FILE = {"from_file": True}


class Table(Model):
    memory: Bytes | None = None
    runtime: Duration | None = None
    query: Query = ""
    ratio: float = 0.0


def fault(table: dict[str, Any], context: dict[str, bool] | None = None) -> str:
    with pytest.raises(ValidationError) as caught:
        Table.model_validate(table, context=context)
    (error,) = caught.value.errors()
    return str(error["msg"]).removeprefix("Value error, ")


def test_a_file_writes_sizes_and_spans_with_units() -> None:
    table = Table.model_validate({"memory": "8 GiB", "runtime": "20 min"}, context=FROM_FILE)
    assert table == Table(memory=8_589_934_592, runtime=timedelta(minutes=20))


def test_python_may_pass_bytes_and_timedeltas_and_text() -> None:
    assert Table(memory=8).memory == 8
    assert Table(runtime=timedelta(seconds=3)).runtime == timedelta(seconds=3)
    assert Table.model_validate({"memory": "1 kB", "runtime": "1 h"}) == Table(memory=1000, runtime=timedelta(hours=1))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"memory": 8}, 'a size needs a number and a unit (write "8 GiB", not 8)'),
        ({"memory": 1.5}, 'a size needs a number and a unit (write "1.5 GiB", not 1.5)'),
        ({"memory": True}, 'a size needs a number and a unit (write "8 GiB"), got True'),
        ({"memory": [8]}, 'a size needs a number and a unit (write "8 GiB"), got [8]'),
        ({"memory": "8"}, "a size needs a number and a unit (kB, MB, GB, TB, KiB, MiB, GiB, TiB), got '8'"),
        ({"memory": "1e400 B"}, "a size must be finite, got '1e400 B'"),
        ({"memory": "0 GiB"}, "Input should be greater than 0"),
        ({"runtime": 20}, 'a time span needs a number and a unit (write "20 min", not 20)'),
        ({"runtime": False}, 'a time span needs a number and a unit (write "8 min"), got False'),
        ({"runtime": "20"}, "a time span needs a number and a unit (s, min, h, d, w), got '20'"),
        ({"runtime": "PT20M"}, "a time span needs a number and a unit (s, min, h, d, w), got 'PT20M'"),
        ({"runtime": "0 s"}, "a time span must be longer than zero, got 0 s"),
        ({"runtime": "1e400 s"}, "a time span must be finite, got '1e400 s'"),
        ({"runtime": "1e300 s"}, "a time span must be shorter than 999999999 d, got '1e300 s'"),
        ({"ratio": float("nan")}, "Input should be a finite number"),
        ({"ratio": float("inf")}, "Input should be a finite number"),
        ({"memroy": "8 GiB"}, "Extra inputs are not permitted"),
    ],
)
def test_a_file_is_told_what_to_write_instead(table: dict[str, Any], message: str) -> None:
    assert fault(table, FROM_FILE) == message


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"memory": 0}, "Input should be greater than 0"),
        ({"memory": -1}, "Input should be greater than 0"),
        ({"memory": True}, 'a size needs a number and a unit (write "8 GiB"), got True'),
        ({"runtime": timedelta(0)}, "a time span must be longer than zero, got 0 s"),
        ({"runtime": timedelta(hours=-2)}, "a time span must be longer than zero, got -2 h 00 min"),
    ],
)
def test_python_is_refused_what_means_nothing(table: dict[str, Any], message: str) -> None:
    assert fault(table) == message


def test_a_table_is_frozen() -> None:
    with pytest.raises(ValidationError, match="Instance is frozen"):
        Table().memory = 1  # type: ignore[misc]


@given(st.integers(1, 2**60), st.timedeltas(timedelta(microseconds=1), timedelta(days=10_000)))
def test_json_is_read_back_to_the_same_table(memory: int, runtime: timedelta) -> None:
    table = Table(memory=memory, runtime=runtime, query="pwv > 2")
    assert Table.model_validate_json(table.model_dump_json()) == table


def test_json_has_float_seconds_and_python_keeps_the_timedelta() -> None:
    table = Table(memory=1, runtime=timedelta(minutes=20))
    assert table.model_dump_json() == '{"memory":1,"runtime":1200.0,"query":"","ratio":0.0}'
    assert table.model_dump()["runtime"] == timedelta(minutes=20)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "obs_id='x' and pwv > 2",
        'subtype = "cmb"',
        "obs_id IN ('a', 'b') OR NOT (timestamp BETWEEN 1 AND 2)",
        "obs_id IN (SELECT obs_id FROM tags WHERE tag = 'deep')",
        "hour(timestamp) < 6",
        "name LIKE '%;%'",
        "note = '--'",
        "file:///data/observations.txt",
        "file://anything; at ( all",
    ],
)
def test_a_condition_on_unknown_columns_is_accepted_as_it_stands(query: str) -> None:
    assert Table(query=query).query == query


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("pwv >", "incomplete input"),
        ("1; drop table x", "You can only execute one statement at a time"),
        ("pwv; drop table x", 'near ";": syntax error'),
        ("pwv > 2); drop table x; --", 'near ")": syntax error'),
        ("1) OR (1", 'near ")": syntax error'),
        ("1) UNION SELECT (1", 'near ")": syntax error'),
        ("SELECT 1", 'near "SELECT": syntax error'),
        ("pwv > 2 ORDER BY pwv", 'near "ORDER": syntax error'),
        ("pwv > 2 -- dry", "incomplete input"),
        ("pwv > 2 /* dry", "incomplete input"),
        ("1 THEN 2 END --", 'near "THEN": syntax error'),
        ("obs_id = 'x", 'unrecognized token: "\'x"'),
        ("pwv > 2 AND", "incomplete input"),
        ("(pwv > 2", "incomplete input"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_parsers_words(query: str, problem: str) -> None:
    assert fault({"query": query}) == f"not an SQL condition: {problem} in {query!r}"


@given(st.text(max_size=30))
def test_any_text_is_a_condition_or_a_validation_error(query: str) -> None:
    try:
        assert Table(query=query).query == query
    except ValidationError as error:
        assert len(error.errors()) == 1


def test_the_mark_of_a_field_that_is_no_identity_stays_readable() -> None:
    class Marked(Model):
        progress: Annotated[bool, NotIdentity()] = False

    assert [type(marker) for marker in Marked.model_fields["progress"].metadata] == [NotIdentity]
