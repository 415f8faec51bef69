"""Where things are on disk, and how they are found again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from socm_like.errors import StoreError, UsageError
from socm_like.store import NAME_LIMIT, RunDirectory, file_name, find_run, runs_in

# File names


@pytest.mark.parametrize(
    "text", ["simulate[seed=1]", "a b", "größe", "x=1.5,y=-2", "a.", "-rf", "$(x)'\"", "a" * NAME_LIMIT, "~12345678"]
)
def test_a_printable_short_name_is_its_own_file_name(text: str) -> None:
    assert file_name(text) == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        (".", ""),
        ("..", ""),
        (".hidden", "hidden"),
        ("a/b", "a_b"),
        ("../../etc", "_.._etc"),
        ("a\nb\0c", "a_b_c"),
        ("a\udc80", "a_"),
        ("x" * (NAME_LIMIT + 1), "x" * (NAME_LIMIT - 17)),
        ("é" * NAME_LIMIT, "é" * ((NAME_LIMIT - 17) // 2)),
        ("a_b~0123456789abcdef", "a_b~0123456789abcdef"),
    ],
)
def test_any_other_name_is_cleaned_and_ends_in_its_hash(text: str, kept: str) -> None:
    assert file_name(text) == f"{kept}~{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


@given(st.text() | st.text(alphabet="./~a", max_size=6) | st.text(alphabet="ab", min_size=NAME_LIMIT - 1))
def test_a_file_name_is_one_short_visible_name(text: str) -> None:
    name = file_name(text)
    assert 0 < len(name.encode()) <= NAME_LIMIT
    assert "/" not in name
    assert not name.startswith(".")
    assert name.isprintable()


@given(st.text(alphabet="./~a\n", max_size=6), st.text(alphabet="./~a\n", max_size=6))
@example("a/b", "a_b")
@example("a/b", "a\nb")
def test_two_names_never_share_a_file(one: str, other: str) -> None:
    assert (file_name(one) == file_name(other)) == (one == other)


def test_a_name_made_up_to_meet_a_changed_one_does_not() -> None:
    assert file_name(file_name("a/b")) != file_name("a/b")


# Files replaced whole


def test_a_file_is_written_in_utf_8_wherever_the_program_runs(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    program = (
        "import sys; from pathlib import Path; from socm_like.store import write_atomically\n"
        "write_atomically(Path(sys.argv[1]), 'm\\u00b2 \\u03c7\\r\\n')"
    )
    child = run_python(program, tmp_path / "plan.json", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (child.returncode, child.stderr) == (0, "")
    assert (tmp_path / "plan.json").read_bytes() == "m² χ\r\n".encode()


REPLACE_FOR_EVER = """
import sys
from itertools import cycle
from pathlib import Path
from socm_like.store import write_atomically

for letter in cycle("ab"):
    write_atomically(Path(sys.argv[1]), letter * 300_000)
    print(letter, flush=True)
"""


def test_a_reader_sees_the_old_file_or_the_new_one_never_half(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    words = [sys.executable, "-c", REPLACE_FOR_EVER, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(300):
            child.stdout.readline()
            data = path.read_bytes()
            assert (len(data), len(set(data))) == (300_000, 1)
        child.kill()


ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from socm_like.errors import StoreError
from socm_like.store import write_atomically

path = Path(sys.argv[1])
write_atomically(path, "old")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(path, "new" * 1000)
except StoreError as error:
    print(error)
print(path.read_text(), sorted(p.name for p in path.parent.iterdir()))
"""


def test_on_a_full_disk_the_old_file_stands_and_nothing_else_is_left(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    child = run_python(ON_A_FULL_DISK, path)
    assert child.stderr == ""
    assert child.stdout.splitlines() == [
        f"{path}: File too large; make room or fix the permissions, then submit again",
        "old ['plan.json']",
    ]


# Runs


def make_run(store: Path, name: str, plan_at: int, journal_at: int | None = None) -> RunDirectory:
    run = RunDirectory(store / "campaigns" / name)
    run.path.mkdir(parents=True)
    for path, at in ((run.plan, plan_at), (run.journal, journal_at)):
        if at is not None:
            path.write_text("{}")
            os.utime(path, (at, at))
    return run


def test_the_files_of_a_run_have_fixed_names() -> None:
    run = RunDirectory(Path("/runs/campaigns/fit-0123abcd"))
    assert (run.name, run.store) == ("fit-0123abcd", Path("/runs"))
    assert [
        str(path.relative_to(run.path)) for path in (run.campaign, run.plan, run.journal, run.lock, run.requests)
    ] == ["campaign.toml", "plan.json", "journal.jsonl", "lock", "requests"]
    assert run.log("maps", "maps[a/b]", 2, "err").relative_to(run.path) == Path(
        "logs/maps", f"{file_name('maps[a/b]')}.2.err"
    )


def test_two_attempts_never_share_a_log() -> None:
    run = RunDirectory(Path("/runs/campaigns/x"))
    logs = [
        run.log("w", task, attempt, stream) for task in ("a", "a.1") for attempt in (1, 11) for stream in ("out", "err")
    ]
    assert len(set(logs)) == 8


def test_a_plan_is_read_as_plain_data(tmp_path: Path) -> None:
    run = make_run(tmp_path, "fit-1", 1)
    run.plan.write_text('{"tasks": []}')
    assert run.read_plan() == {"tasks": []}


def test_a_missing_plan_says_that_this_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        RunDirectory(tmp_path).read_plan()
    assert str(caught.value) == f"{tmp_path}: no plan.json here; this is not a run"


def test_a_damaged_plan_says_to_submit_again(tmp_path: Path) -> None:
    run = make_run(tmp_path, "fit-1", 1)
    run.plan.write_text('{"tasks": ')
    with pytest.raises(StoreError) as caught:
        run.read_plan()
    assert str(caught.value) == (
        f"{run.plan}: Expecting value: line 1 column 11 (char 10); submit the campaign again to write it anew"
    )


def test_runs_are_listed_by_their_latest_news_and_strangers_are_left_out(tmp_path: Path) -> None:
    assert runs_in(tmp_path / "absent") == []
    old = make_run(tmp_path, "old-1", plan_at=100, journal_at=400)
    new = make_run(tmp_path, "new-1", plan_at=300, journal_at=200)
    fresh = make_run(tmp_path, "fresh-1", plan_at=500)
    (tmp_path / "campaigns" / "notes").mkdir()
    (tmp_path / "campaigns" / "README").touch()
    assert runs_in(tmp_path) == [new, old, fresh]


def test_without_a_name_the_run_with_the_latest_news_is_found(tmp_path: Path) -> None:
    make_run(tmp_path, "a-1", 100)
    latest = make_run(tmp_path, "b-1", 50, 200)
    assert find_run(tmp_path, None) == latest


def test_a_run_is_found_by_name_by_path_by_campaign_and_by_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = make_run(tmp_path, "fit-0123abcd", 1)
    fit_long = make_run(tmp_path, "fit-long-4567abcd", 2)
    for name in ("fit-0123abcd", str(fit.path), "fit", "fit-0"):
        assert find_run(tmp_path, name) == fit
    for name in ("fit-long", "fit-l"):
        assert find_run(tmp_path, name) == fit_long
    monkeypatch.chdir(fit.path)
    assert find_run(Path("/nowhere"), ".") == fit


def test_an_exact_name_beats_a_campaign_of_that_name(tmp_path: Path) -> None:
    exact = make_run(tmp_path, "fit-0123abcd", 1)
    make_run(tmp_path, "fit-0123abcd-4567abcd", 2)
    assert find_run(tmp_path, "fit-0123abcd") == exact


def test_a_name_that_fits_several_runs_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path, "fit-1", 1)
    make_run(tmp_path, "fit-2", 2)
    make_run(tmp_path, "other-1", 3)
    with pytest.raises(UsageError) as caught:
        find_run(tmp_path, "fit")
    assert str(caught.value) == f"'fit' fits several runs of {tmp_path}: fit-1, fit-2"


def test_an_unknown_name_is_refused_with_the_runs_there_are(tmp_path: Path) -> None:
    make_run(tmp_path, "fit-0123abcd", 1)
    make_run(tmp_path, "maps-4567abcd", 2)
    with pytest.raises(UsageError) as caught:
        find_run(tmp_path, "fti-0123abcd")
    assert str(caught.value) == (
        f"'fti-0123abcd' is no run of {tmp_path}; there are: fit-0123abcd, maps-4567abcd; did you mean 'fit-0123abcd'?"
    )


def test_an_empty_store_says_how_to_start_a_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_run(tmp_path, None)
    assert str(caught.value) == f"no run in {tmp_path}; start one with: campaign submit campaign.toml"
