"""The journal: state is a replay, in any order; and no crash, full disk or damage passes unnoticed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from graphlib import TopologicalSorter
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.errors import StoreError
from socm_like.journal import (
    FINAL,
    REACHABLE,
    SCHEMA,
    SUCCESS,
    TRANSITIONS,
    Event,
    Journal,
    Record,
    TaskState,
    event_at,
    read_events,
    replay,
)

NOON = 1795262400.0
EVENTS = (
    event_at(NOON, "simulate[seed=1]", 1, TaskState.QUEUED),
    event_at(NOON + 1, "simulate[seed=1]", 1, TaskState.RUNNING, pid=17),
    event_at(NOON + 2, "täsk \n\u2028 \udc80", 1, TaskState.SKIPPED, reason='"simulate" failed\r\n'),
    event_at(NOON + 3, "simulate[seed=1]", 1, TaskState.DONE, exit_code=0, peak_memory=2**40, cpu=0.25),
)


def written(path: Path, events: Sequence[Event] = EVENTS) -> bytes:
    journal = Journal(path)
    journal.append(events)
    journal.close()
    return path.read_bytes()


# The transition table


def test_the_transition_table_is_what_the_design_says() -> None:
    not_run = "cached cancelled skipped"
    ends = "cancelled done failed invalid lost node_fail oom pruned timeout"
    assert {str(state): " ".join(sorted(following)) for state, following in TRANSITIONS.items()} == {
        "planned": " ".join(sorted(f"blocked held queued {not_run}".split())),
        "blocked": " ".join(sorted(f"held queued {not_run}".split())),
        "held": " ".join(sorted(f"queued {not_run}".split())),
        "queued": " ".join(sorted(f"running {ends}".split())),
        "running": ends,
        "lost": "cancelled done failed invalid node_fail oom pruned timeout",
        **{str(state): "" for state in FINAL if state is not TaskState.LOST},
    }


def test_the_transition_table_has_every_state_and_no_cycle() -> None:
    assert set(TRANSITIONS) == set(TaskState)
    assert set(TopologicalSorter(TRANSITIONS).static_order()) == set(TaskState)


def test_every_state_is_reached_from_planned_and_every_open_state_can_end() -> None:
    assert REACHABLE[TaskState.PLANNED] == set(TaskState) - {TaskState.PLANNED}
    assert all(REACHABLE[state] & FINAL for state in set(TaskState) - FINAL)


def test_only_done_and_cached_let_dependent_tasks_start() -> None:
    assert {state for state in TaskState if state.is_success} == {TaskState.DONE, TaskState.CACHED} == SUCCESS
    assert {state for state in TaskState if not state.is_final} == {
        TaskState.PLANNED,
        TaskState.BLOCKED,
        TaskState.HELD,
        TaskState.QUEUED,
        TaskState.RUNNING,
    }


# Replay


def attempts(draw: st.DrawFn, task: str) -> Iterator[Event]:
    """Walk the transition table, attempt after attempt; a walk may stop anywhere."""
    for attempt in range(1, draw(st.integers(1, 3)) + 1):
        state = TaskState.PLANNED
        while following := sorted(TRANSITIONS[state] - {TaskState.BLOCKED}):
            state = draw(st.sampled_from(following))
            reason = draw(st.none() | st.sampled_from(["killed", "disk full"]))
            at = NOON + draw(st.integers(0, 9))
            yield event_at(at, task, attempt, state, reason=reason, pid=attempt)
            if state.is_final and draw(st.booleans()):
                break
            if draw(st.integers(0, 5)) == 0:
                break


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Return true histories of up to three tasks, one behind the other."""
    tasks = draw(st.lists(st.sampled_from(["a", "b", "c[x=1]"]), min_size=1, unique=True))
    return [event for task in tasks for event in attempts(draw, task)]


def summary(record: Record) -> tuple[TaskState, int, set[int], str | None, str | None, str | None]:
    return record.state, record.attempt, record.launched, record.started, record.ended, record.reason


def expected(history: Sequence[Event]) -> tuple[TaskState, int, set[int], str | None, str | None, str | None]:
    """Say what the events of one task, in order, add up to: read off the last attempt."""
    last = [event for event in history if event.attempt == history[-1].attempt]
    launched = {event.attempt for event in history if event.state in (TaskState.QUEUED, TaskState.RUNNING)}
    started = next((event.at for event in last if event.state is TaskState.RUNNING), None)
    ended = last[-1].at if last[-1].state in FINAL else None
    return last[-1].state, last[-1].attempt, launched, started, ended, last[-1].detail.get("reason")


@given(histories())
def test_a_true_history_replays_to_its_last_attempt(history: list[Event]) -> None:
    records = replay(history)
    tasks = {event.task for event in history}
    assert {task: summary(record) for task, record in records.items()} == {
        task: expected([event for event in history if event.task == task]) for task in tasks
    }


@given(histories(), st.data())
def test_any_order_and_repetition_replays_to_the_same_records(history: list[Event], data: st.DataObject) -> None:
    repeated = data.draw(st.lists(st.sampled_from(history), max_size=10)) if history else []
    shuffled = data.draw(st.permutations([*history, *repeated]))
    assert replay(shuffled) == replay(history)


@given(histories(), st.data())
def test_a_replay_in_two_pieces_is_the_replay_of_the_whole(history: list[Event], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(history)))
    assert replay(history[cut:], replay(history[:cut])) == replay(history)


@given(histories(), st.data())
def test_the_same_news_reported_again_later_changes_nothing(history: list[Event], data: st.DataObject) -> None:
    again = [Event("2999-01-01T00:00:00.000000Z", e.task, e.attempt, e.state, {"reason": "late"}) for e in history]
    shuffled = data.draw(st.permutations([*history, *again]))
    assert replay(shuffled) == replay(history)


def test_a_task_nothing_happened_to_is_planned() -> None:
    assert summary(Record()) == (TaskState.PLANNED, 1, set(), None, None, None)


def test_a_late_event_never_moves_a_state_back() -> None:
    for earlier, later in product(TaskState, TaskState):
        if later in REACHABLE[earlier]:
            events = [event_at(NOON, "a", 1, later, reason="end"), event_at(NOON + 1, "a", 1, earlier, reason="late")]
            record = replay(events)["a"]
            assert (record.state, record.reason) == (later, "end")


def test_nothing_moves_an_ended_attempt_except_the_exit_record_of_a_lost_one() -> None:
    for end, later in product(FINAL - {TaskState.LOST}, TaskState):
        record = replay([event_at(NOON, "a", 1, end), event_at(NOON + 1, "a", 1, later)])["a"]
        assert record.state is end
    found = replay([event_at(NOON, "a", 1, TaskState.LOST), event_at(NOON + 1, "a", 1, TaskState.DONE)])["a"]
    assert (found.state, found.ended) == (TaskState.DONE, "2026-11-21T12:00:01.000000Z")


def test_news_of_an_earlier_attempt_moves_nothing_but_is_counted_as_launched() -> None:
    retry = event_at(NOON, "a", 2, TaskState.HELD)
    late = event_at(NOON + 1, "a", 1, TaskState.RUNNING)
    assert summary(replay([retry, late])["a"]) == (TaskState.HELD, 2, {1}, None, None, None)


def test_a_retry_forgets_how_the_attempt_before_went() -> None:
    events = [
        event_at(NOON, "a", 1, TaskState.RUNNING),
        event_at(NOON + 1, "a", 1, TaskState.OOM, reason="too big"),
        event_at(NOON + 2, "a", 2, TaskState.QUEUED),
    ]
    assert summary(replay(events)["a"]) == (TaskState.QUEUED, 2, {1, 2}, None, None, None)


# Lines


def test_an_event_is_one_line_of_json_with_its_details_beside() -> None:
    event = event_at(NOON, "a", 2, TaskState.FAILED, reason="exit status 3", exit_code=3, signal=None)
    assert event.line() == (
        '{"at":"2026-11-21T12:00:00.000000Z","task":"a","attempt":2,"state":"failed",'
        '"reason":"exit status 3","exit_code":3}\n'
    )


@pytest.mark.parametrize("name", ["at", "task", "attempt", "state"])
def test_a_detail_cannot_hide_what_the_event_says(name: str) -> None:
    event = Event("2026-11-21T12:00:00.000000Z", "a", 1, TaskState.DONE, {name: "other"})
    with pytest.raises(ValueError) as caught:
        event.line()
    assert str(caught.value) == f"a detail may not be called {name}"


def test_a_detail_that_json_cannot_carry_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(EVENTS)
    with pytest.raises(ValueError):
        journal.append([EVENTS[0], event_at(NOON, "a", 1, TaskState.DONE, cpu=float("nan"))])
    journal.close()
    assert read_events(journal.path) == list(EVENTS)


# Files


def test_a_journal_begins_with_its_schema_and_is_read_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert written(path).splitlines()[0] == b'{"schema": 1}'
    assert read_events(path) == list(EVENTS)
    reopened = Journal(path)
    assert reopened.events == list(EVENTS)
    reopened.append([])
    reopened.close()
    assert written(path, ()) == path.read_bytes()


def test_an_absent_journal_has_no_events_and_reading_makes_none(tmp_path: Path) -> None:
    assert read_events(tmp_path / "journal.jsonl") == []
    assert list(tmp_path.iterdir()) == []


def test_a_journal_cut_at_any_byte_opens_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    whole = written(path)
    after = event_at(NOON + 9, "b", 1, TaskState.CACHED)
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = list(EVENTS[: max(0, whole[:cut].count(b"\n") - 1)])
        assert read_events(path) == kept
        assert path.read_bytes() == whole[:cut]
        journal = Journal(path)
        assert journal.events == kept
        journal.append([after])
        journal.close()
        assert read_events(path) == [*kept, after]
        assert path.read_bytes().startswith(b'{"schema": 1}\n')


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b"\0\0\0", "Expecting value: line 1 column 1 (char 0)"),
        (b"\xff\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b'{"at":"x"', "Expecting ',' delimiter: line 1 column 10 (char 9)"),
        (b"[1]", "not an object"),
        (b"null", "not an object"),
        (b'{"at":"x","attempt":1}', "no task"),
        (b'{"at":"x","task":"a","attempt":1,"state":"warp"}', "'warp' is not a valid TaskState"),
        (b'{"at":"x","task":"a","attempt":"1","state":"done"}', "attempt must be a count from 1, not '1'"),
        (b'{"at":"x","task":"a","attempt":0,"state":"done"}', "attempt must be a count from 1, not 0"),
        (b'{"at":"x","task":"a","attempt":true,"state":"done"}', "attempt must be a count from 1, not True"),
        (b'{"at":"x","task":["a"],"attempt":1,"state":"done"}', "at and task must be text"),
        (b'{"at":1.5,"task":"a","attempt":1,"state":"done"}', "at and task must be text"),
    ],
)
@pytest.mark.parametrize("read", [read_events, Journal])
def test_a_damaged_line_inside_is_named_by_its_number(
    line: bytes, problem: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"
    lines = written(path).split(b"\n")
    lines[2] = line
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(StoreError) as caught:
        read(path)
    remedy = "restore it from a copy, or remove it: results are found in the store"
    assert str(caught.value) == f"{path}:3: damaged journal line ({problem}); {remedy}"
    assert path.read_bytes() == b"\n".join(lines)


def test_a_damaged_whole_line_at_the_end_is_damage_and_a_torn_one_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    whole = written(path)
    path.write_bytes(whole + b'{"at')
    assert read_events(path) == list(EVENTS)
    path.write_bytes(whole + b'{"at\n')
    with pytest.raises(StoreError, match=r"journal\.jsonl:6: damaged journal line"):
        read_events(path)


@pytest.mark.parametrize("schema", [SCHEMA + 1, 99])
@pytest.mark.parametrize("read", [read_events, Journal])
def test_a_newer_schema_is_refused(schema: int, read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{{"schema": {schema}}}\nwhatever it means\n')
    with pytest.raises(StoreError) as caught:
        read(path)
    assert str(caught.value) == (f"{path}:1: journal schema {schema}, this program reads 1; use a newer socm-like")
    assert path.read_text() == f'{{"schema": {schema}}}\nwhatever it means\n'


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"[campaign]", b"\n", b"[1]\n", b'{"schema": true}\n', b'{"a": 1}\n'])
@pytest.mark.parametrize("read", [read_events, Journal])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(
    data: bytes, read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(data)
    with pytest.raises(StoreError) as caught:
        read(path)
    first = data.removesuffix(b"\n")
    assert str(caught.value) == f"{path}:1: not a journal: {first!r}"
    assert path.read_bytes() == data


def test_a_journal_that_cannot_be_read_or_made_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        read_events(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory"
    absent = tmp_path / "absent" / "journal.jsonl"
    with pytest.raises(StoreError) as caught:
        Journal(absent)
    assert str(caught.value) == (
        f"{absent}: No such file or directory; make room or fix the permissions, then submit again"
    )


def test_a_closed_journal_takes_nothing_more(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.close()
    journal.close()
    with (tmp_path / "next").open("wb"), pytest.raises(StoreError) as caught:  # "next" takes the closed file's number
        journal.append(EVENTS)
    assert str(caught.value) == (
        f"{journal.path}: Bad file descriptor; make room or fix the permissions, then submit again"
    )
    assert (tmp_path / "next").read_bytes() == b""


# A disk that fills: a limit on the size of files, always; and a small tmpfs where this machine lets us mount one

FILL = """
import json, resource, signal, subprocess, sys
from pathlib import Path
from socm_like.errors import StoreError
from socm_like.journal import Journal, TaskState, event_at, read_events

kind, folder = sys.argv[1], Path(sys.argv[2])
path, filler = folder / "journal.jsonl", folder / "filler"
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def fill():
    if kind == "limit":
        return limit(20_000)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    filler.write_bytes(bytes(40_000))

def make_room():
    return limit(resource.RLIM_INFINITY) if kind == "limit" else filler.unlink()

def batch(number):
    return [event_at(number, f"task {number}.{part}", 1, TaskState.QUEUED, reason="x" * 700) for part in range(3)]

fill()
journal, events, found = Journal(path), [], {}
try:
    for number in range(100):
        journal.append(batch(number))
        events += batch(number)
except StoreError as error:
    found["error"] = str(error)
found["batches"] = number
found["intact"] = read_events(path) == events
found["whole"] = path.read_bytes() == b'{"schema": 1}\\n' + "".join(event.line() for event in events).encode()
make_room()
journal.append(batch(number))
journal.commit()
found["goes on"] = read_events(path) == events + batch(number)
print(json.dumps(found))
"""


def tmpfs_prefix(folder: Path) -> list[str] | None:
    """Return how to start a process that may mount a tmpfs seen by nobody else, if there is a way."""
    for prefix in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        try:
            words = [*prefix, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
            if subprocess.run(words, capture_output=True).returncode == 0:
                return prefix
        except FileNotFoundError:
            return None
    return None


@pytest.mark.parametrize("kind", ["limit", "tmpfs"])
def test_a_full_disk_leaves_the_journal_whole_and_room_lets_it_go_on(kind: str, tmp_path: Path) -> None:
    prefix = tmpfs_prefix(tmp_path) if kind == "tmpfs" else []
    kind, prefix = ("limit", []) if prefix is None else (kind, prefix)
    words = [*prefix, sys.executable, "-c", FILL, kind, str(tmp_path)]
    child = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert child.stderr == ""
    problem = "No space left on device" if kind == "tmpfs" else "File too large"
    advice = "make room or fix the permissions, then submit again"
    found = json.loads(child.stdout)
    assert found.pop("batches") > 0
    assert found == {
        "error": f"{tmp_path / 'journal.jsonl'}: {problem}; {advice}",
        "intact": True,
        "whole": True,
        "goes on": True,
    }


FULL_AT_ONCE = """
import resource, sys
from pathlib import Path
from socm_like.errors import StoreError
from socm_like.journal import Journal

path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (5, resource.RLIM_INFINITY))
try:
    Journal(path)
except StoreError as error:
    print(error)
print(path.read_bytes())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(Journal(path).events)
"""


def test_a_journal_that_cannot_even_begin_leaves_an_empty_file(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"
    child = run_python(FULL_AT_ONCE, path)
    advice = "make room or fix the permissions, then submit again"
    assert (child.stdout, child.stderr) == (f"{path}: File too large; {advice}\nb''\n[]\n", "")


# Crashes

WRITE_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
from socm_like.journal import Journal, TaskState, event_at

journal = Journal(Path(sys.argv[1]))
for number in count(len(journal.events)):
    journal.append([event_at(number, "a", number + 1, TaskState.QUEUED, reason="x" * 5000)])
    if number % 3 == 0:
        journal.commit()
    print(number, flush=True)
"""


def test_what_was_appended_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for acknowledgements in (1, 7, 20, 3):
        words = [sys.executable, "-c", WRITE_FOR_EVER, str(path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            numbers = [int(child.stdout.readline()) for _ in range(acknowledgements)]
            child.kill()
            numbers += map(int, child.stdout)
        assert child.returncode == -signal.SIGKILL
        events = read_events(path)
        assert len(events) > numbers[-1]
        assert [event.attempt for event in events] == list(range(1, len(events) + 1))


INTERRUPT = """
import resource, signal, sys
from pathlib import Path
from socm_like.errors import StoreError
from socm_like.journal import Journal, TaskState, event_at, read_events

path = Path(sys.argv[1])
journal = Journal(path)
event = event_at(0, "a", 1, TaskState.QUEUED, reason="x" * 300)
signal.signal(signal.SIGALRM, signal.default_int_handler)
interrupts = 0
for delay in range(300):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + delay * 1e-6)
        for _ in range(100_000):
            journal.append([event])
    except KeyboardInterrupt:
        interrupts += 1
events = read_events(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, resource.RLIM_INFINITY))
try:
    journal.append([event])
except StoreError as error:
    print(interrupts, read_events(path) == events)
"""


def test_interrupts_at_any_moment_leave_the_journal_whole(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    child = run_python(INTERRUPT, tmp_path / "journal.jsonl")
    assert (child.stdout, child.stderr) == ("300 True\n", "")


def test_the_journal_and_the_store_need_the_standard_library_only(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    program = "import sys, socm_like.journal, socm_like.store; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    child = run_python(program)
    foreign = {"pydantic", "click", "rich", "jax", "numpy", "scipy", "h5py", "matplotlib", "hypothesis", "sqlite3"}
    assert child.stderr == ""
    assert foreign & set(child.stdout.split()) == set()
