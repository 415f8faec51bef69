"""What tasks left in a store: listed, collected when old, linked for TensorBoard; real stores and real runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_runs import CAMPAIGN, campaign, start, states, wait_until
from test_docs import ROOT, follow

from socm_like.errors import RunHeldError, StoreError
from socm_like.results.artifacts import Artifact, ArtifactState, find_artifacts
from socm_like.results.collection import Kept, Rule, collect, decide, survey
from socm_like.results.usage import Planned, RunUsage, Usage, UsageReader
from socm_like.store import RunDirectory, RunLock

DAY = 86400.0
NOW = 1_800_000_000.0
ID = "1de4af0f40b570ed064a01bb8096be1871a9ff33f82e8339c806a060f3d0325e"


def identity(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def age(path: Path, days: float) -> None:
    """Set the times of a folder and all in it back."""
    at = time.time() - days * DAY
    for inner in (*path.rglob("*"), path):
        os.utime(inner, (at, at), follow_symlinks=False)


def artifact(store: Path, folder: str, *, number: int = 1, kind: str = "command", days: float = 0.0) -> Path:
    path = store / folder
    path.mkdir(parents=True)
    content = json.dumps({"schema": 1, "kind": kind, "id": identity(number)})
    (path / "task.json").write_text(content)
    (path / "result.json").write_text(content)
    age(path, days)
    return path


def run(store: Path, name: str, *folders: str, days: float = 0.0, inputs: tuple[str, ...] = ()) -> RunDirectory:
    directory = RunDirectory(store / "campaigns" / name)
    directory.path.mkdir(parents=True)
    tasks = [
        {
            "name": f"t{index}",
            "kind": "command",
            "id": identity(index),
            "folder": folder,
            "inputs": dict.fromkeys(inputs),
        }
        for index, folder in enumerate(folders)
    ]
    directory.plan.write_text(json.dumps({"schema": 1, "store": str(store), "tasks": tasks}))
    age(directory.path, days)
    return directory


def folders(store: Path) -> list[str]:
    return [found.folder for found in find_artifacts(store, UsageReader(store).read().planned)]


def rule(days: float, kind: str | None = None) -> Rule:
    return Rule(days * DAY, time.time(), kind)


def collected(store: Path, days: float, kind: str | None = None) -> tuple[list[str], dict[str, Kept], tuple[str, ...]]:
    collection = collect(store, rule(days, kind))
    decision = collection.decision
    return [gone.folder for gone in decision.removed], dict(decision.kept), collection.problems


# The store as it is


def test_artifact_is_what_its_files_say_and_its_size_is_that_of_its_regular_files(tmp_path: Path) -> None:
    path = artifact(tmp_path, "command/a")
    (path / "deep").mkdir()
    (path / "deep" / "data").write_bytes(b"x" * 1000)
    (path / "link").symlink_to("deep/data")
    (path / "away").symlink_to(tmp_path.parent)
    os.mkfifo(path / "pipe")
    at = time.time() - 5 * DAY
    os.utime(path, (at, at))
    own = 2 * len((path / "result.json").read_bytes())

    (found,) = find_artifacts(tmp_path, {})

    result = (path / "result.json").stat().st_mtime
    assert found == Artifact("command/a", ArtifactState.DONE, "command", identity(1), 1000 + own, result)


def test_hidden_folders_runs_and_folders_of_others_are_no_artifacts(tmp_path: Path) -> None:
    artifact(tmp_path, ".cache/x")
    artifact(tmp_path, "command/.hidden")
    artifact(tmp_path, "campaigns/x-12345678/y")
    (tmp_path / "notes" / "deep").mkdir(parents=True)
    (tmp_path / "notes" / "result.json").write_text("{}")
    (tmp_path / "elsewhere").symlink_to(artifact(tmp_path.parent / f"{tmp_path.name}-other", "a"))
    assert folders(tmp_path) == []


def test_deeper_and_nested_folders_are_found_and_counted_once(tmp_path: Path) -> None:
    run(tmp_path, "x-12345678", "targets/tgt_a", "targets/tgt_a/run_hmc_b")
    artifact(tmp_path, "targets/tgt_a", number=0, kind="target")
    artifact(tmp_path, "targets/tgt_a/run_hmc_b", number=1, kind="hmc")
    found = find_artifacts(tmp_path, UsageReader(tmp_path).read().planned)
    assert [(each.folder, each.kind, each.inside) for each in found] == [
        ("targets/tgt_a", "target", ""),
        ("targets/tgt_a/run_hmc_b", "hmc", "targets/tgt_a"),
    ]
    assert sum(each.size for each in found) == sum(
        path.stat().st_size for path in (tmp_path / "targets").rglob("*") if path.is_file()
    )


def test_copy_of_an_artifact_among_the_outputs_of_another_is_one_of_its_outputs(tmp_path: Path) -> None:
    outer = artifact(tmp_path, "command/a", days=50)
    artifact(tmp_path, "command/a/b", number=2, days=40)
    os.utime(outer, (0, 0))
    assert folders(tmp_path) == ["command/a"]
    assert collected(tmp_path, 45)[1] == {"command/a": Kept.YOUNG}
    assert collected(tmp_path, 39)[0] == ["command/a"]


def test_leftovers_have_their_state_and_a_partial_has_the_run_that_left_it(tmp_path: Path) -> None:
    directory = run(tmp_path, "x-12345678", "command/a", "command/b")
    names = [Path(directory.partial("command/a")).name, "a.old", "b.00000000.partial", ".a.0123456789abcdef.gc"]
    for name in names:
        artifact(tmp_path, f"command/{name}")
    artifact(tmp_path, "command/b")
    (tmp_path / "command" / "b" / "result.json").write_text("{")
    usage = UsageReader(tmp_path).read()
    found = find_artifacts(tmp_path, usage.planned)
    assert {each.folder: (each.state.value, [user.name for user in each.users(usage)]) for each in found} == {
        "command/.a.0123456789abcdef.gc": ("collected", []),
        f"command/{names[0]}": ("partial", ["x-12345678"]),
        "command/a.old": ("old", ["x-12345678"]),
        "command/b": ("damaged", ["x-12345678"]),
        "command/b.00000000.partial": ("partial", []),
    }


def test_artifact_that_a_run_names_as_a_plain_input_is_used_by_it_also_when_the_store_has_moved(tmp_path: Path) -> None:
    store = tmp_path / "one"
    inputs = (f"{store}/command/a/map.fits", f"{store}/targets", "/etc/passwd")
    run(store, "x-12345678", "command/z", inputs=inputs)
    for folder in ("command/a", "targets/t/u", "command/b"):
        artifact(store, folder)
    for place in (store, tmp_path / "two"):
        if place != store:
            store.rename(place)
        usage = UsageReader(place).read()
        used = [each.folder for each in find_artifacts(place, usage.planned) if each.users(usage)]
        assert used == ["command/a", "targets/t/u"]


# The decision


def test_what_is_old_goes_and_every_other_thing_stays_for_a_reason() -> None:
    def left(folder: str, days: float, inside: str = "") -> Artifact:
        return Artifact(folder, ArtifactState.DONE, "k", ID, 10, NOW - days * DAY, inside)

    task = Planned("k", ID)
    usage = Usage(
        [
            RunUsage("old-1", NOW - 99 * DAY, False, {"k/old": task, "k/recent": task}),
            RunUsage("recent-1", NOW - 30 * DAY, False, {"k/recent": task}),
            RunUsage("live-1", NOW - 99 * DAY, True, {"k/live": task, "k/next/nested": task}),
        ]
    )
    artifacts = (
        left("k/old", 31),
        left("k/old/in", 31, "k/old"),
        left("k/just", 30),
        left("k/recent", 31),
        left("k/live", 99),
        left("k/next", 99),
        left("k/out", 99),
        left("k/out/mid", 99, "k/out"),
        left("k/out/mid/young", 1, "k/out/mid"),
        left("k/out/gone", 99, "k/out"),
    )

    decision = decide(artifacts, usage, Rule(30 * DAY, NOW))

    assert [gone.folder for gone in decision.removed] == ["k/old", "k/old/in", "k/out/gone"]
    assert [gone.folder for gone in decision.roots] == ["k/old", "k/out/gone"]
    assert decision.freed == 30
    assert decision.kept == {
        "k/just": Kept.YOUNG,
        "k/recent": Kept.RECENT,
        "k/live": Kept.LIVE,
        "k/next": Kept.LIVE,
        "k/out/mid/young": Kept.YOUNG,
        "k/out/mid": Kept.HOLDS,
        "k/out": Kept.HOLDS,
    }


_ages = st.floats(0, 100, allow_nan=False)


@given(_ages, st.lists(st.tuples(_ages, st.booleans()), max_size=3), _ages)
def test_only_what_is_old_and_used_by_nothing_recent_or_live_goes(
    days: float, runs: list[tuple[float, bool]], limit: float
) -> None:
    task = {"k/a": Planned("k", ID)}
    usage = Usage([RunUsage(f"r-{index}", NOW - old * DAY, live, task) for index, (old, live) in enumerate(runs)])
    found = Artifact("k/a", ArtifactState.DONE, "k", ID, 1, NOW - days * DAY)
    is_removed = decide([found], usage, Rule(limit * DAY, NOW)).removed == (found,)
    is_old = NOW - (NOW - days * DAY) > limit * DAY
    assert is_removed == (is_old and all(not live and NOW - (NOW - old * DAY) > limit * DAY for old, live in runs))


# Collecting


def test_gc_removes_what_is_old_and_the_folders_that_become_empty(tmp_path: Path) -> None:
    artifact(tmp_path, "group/one/a", days=40)
    artifact(tmp_path, "group/two/b", days=40, number=2)
    artifact(tmp_path, "group/two/c", days=20, number=3)
    artifact(tmp_path, "group/one/a.12345678.partial", days=40)
    artifact(tmp_path, "group/one/a.old", days=40)
    artifact(tmp_path, "group/one/.x.0123456789abcdef.gc")
    gone = ["group/one/.x.0123456789abcdef.gc", "group/one/a", "group/one/a.12345678.partial", "group/one/a.old"]
    would = [each.folder for each in survey(tmp_path, rule(30))[1].removed]
    assert would == [*gone, "group/two/b"]
    assert collected(tmp_path, 30) == ([*gone, "group/two/b"], {"group/two/c": Kept.YOUNG}, ())
    assert sorted(path.name for path in (tmp_path / "group").rglob("*")) == ["c", "result.json", "task.json", "two"]


def test_partial_is_as_young_as_the_newest_thing_at_its_top(tmp_path: Path) -> None:
    path = artifact(tmp_path, "command/a.12345678.partial", days=40)
    (path / "log").touch()
    age(path, 40)
    os.utime(path / "log")
    assert collected(tmp_path, 30)[1] == {"command/a.12345678.partial": Kept.YOUNG}


def test_nested_artifact_that_is_needed_keeps_what_it_is_in_and_goes_with_it_later(tmp_path: Path) -> None:
    recent = run(tmp_path, "new-12345678", "t/a/run_c")
    run(tmp_path, "old-12345678", "t/a", "t/a/run_b", days=99)
    for number, folder in enumerate(("t/a", "t/a/run_b", "t/a/run_c")):
        artifact(tmp_path, folder, number=number)
    age(tmp_path / "t", 99)
    assert collected(tmp_path, 30) == (["t/a/run_b"], {"t/a/run_c": Kept.RECENT, "t/a": Kept.HOLDS}, ())
    age(recent.path, 99)
    age(tmp_path / "t", 99)
    assert collected(tmp_path, 30) == (["t/a", "t/a/run_c"], {}, ())
    assert not (tmp_path / "t").exists()


def test_gc_of_one_kind_leaves_the_others_and_what_holds_them(tmp_path: Path) -> None:
    run(tmp_path, "old-12345678", "t/a", "t/a/b", days=99)
    artifact(tmp_path, "t/a", kind="target")
    artifact(tmp_path, "t/a/b", kind="hmc", number=2)
    artifact(tmp_path, "t/c", kind="target", number=3)
    age(tmp_path / "t", 99)
    assert collected(tmp_path, 30, "target") == (["t/c"], {"t/a": Kept.HOLDS, "t/a/b": Kept.OTHER_KIND}, ())


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1); submit the campaign again "
              "to write it anew"),
        ("[]", "damaged (TypeError: list indices must be integers or slices, not str); submit the campaign again to "
               "write it anew, or remove RUN if nothing needs it"),
        ('{"schema": 1}', "damaged (KeyError: 'tasks'); submit the campaign again to write it anew, or remove RUN if "
                          "nothing needs it"),
        ('{"schema": 9}', "plan schema 9, this program reads 1"),
    ],
)  # fmt: skip
def test_run_whose_plan_cannot_be_read_stops_every_gc(tmp_path: Path, plan: str, problem: str) -> None:
    artifact(tmp_path / "runs", "command/a", days=99)
    directory = run(tmp_path / "runs", "x-12345678")
    directory.plan.write_text(plan)
    text = f"{directory.plan}: {problem.replace('RUN', str(directory.path))}\n"
    for more in ((), ("--dry-run",)):
        answer = campaign(tmp_path, "artifacts", "gc", *more)
        assert (answer.returncode, answer.stdout) == (1, "")
        assert answer.stderr == f"{text}nothing may be removed while nobody can tell what that run needs\n"
    listing = campaign(tmp_path, "artifacts", "ls")
    assert (listing.returncode, listing.stderr) == (1, f"{text}what that run uses is not in the list\n")
    assert "nobody" in listing.stdout
    assert folders(tmp_path / "runs") == ["command/a"]


def test_run_that_has_lost_its_plan_stops_every_gc_and_a_folder_that_never_was_a_run_does_not(tmp_path: Path) -> None:
    artifact(tmp_path, "command/a", days=99)
    directory = run(tmp_path, "x-12345678")
    directory.plan.rename(directory.journal)
    with pytest.raises(StoreError, match=r"x-12345678: its plan\.json is gone; submit the campaign again"):
        collect(tmp_path, rule(30))
    directory.journal.unlink()
    assert collected(tmp_path, 30)[0] == ["command/a"]


def test_live_run_keeps_what_its_plan_names_and_the_folder_it_is_about_to_write_in(tmp_path: Path) -> None:
    directory = run(tmp_path, "x-12345678", "command/a", "later/b", days=99)
    partial_folder = Path(directory.partial("command/c")).relative_to(tmp_path).as_posix()
    for folder in ("command/a", "later/x", partial_folder):
        artifact(tmp_path, folder, days=99)
    lock = RunLock(directory)
    lock.acquire()
    try:
        assert collected(tmp_path, 0) == (["later/x"], {"command/a": Kept.LIVE, partial_folder: Kept.LIVE}, ())
        assert (tmp_path / "later").is_dir()
    finally:
        lock.release()
    assert collected(tmp_path, 0)[0] == ["command/a", partial_folder]


def test_two_gcs_at_once_are_one_too_many(tmp_path: Path) -> None:
    artifact(tmp_path, "command/a", days=99)
    place = RunDirectory(tmp_path / ".cache" / "gc")
    place.path.mkdir(parents=True)
    lock = RunLock(place)
    lock.acquire()
    with pytest.raises(RunHeldError, match=rf"process {os.getpid()} on \S+ collects in {tmp_path} just now; try again"):
        collect(tmp_path, rule(30))
    lock.release()
    assert collected(tmp_path, 30)[0] == ["command/a"]


class _StartsWhenTaken(UsageReader):
    """Lets a run begin, and find an artifact in its place, at the worst moment: after the last look."""

    looks = 0

    def read(self) -> Usage:
        usage = super().read()
        self.looks += 1
        if self.looks == 2:
            run(self._store, "new-12345678", "command/a")
        return usage


class _Touches(UsageReader):
    """Lets an artifact change after it was looked at."""

    looks = 0

    def read(self) -> Usage:
        self.looks += 1
        if self.looks == 2:
            os.utime(self._store / "command" / "a")
        return super().read()


def test_artifact_taken_away_just_when_a_run_began_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact(tmp_path, "command/a", days=99)
    artifact(tmp_path, "command/b", days=99, number=2)
    decision = collect(tmp_path, rule(30), _StartsWhenTaken(tmp_path)).decision
    assert [gone.folder for gone in decision.removed] == ["command/b"]
    assert decision.kept == {"command/a": Kept.RECENT}
    assert folders(tmp_path) == ["command/a"]


def test_artifact_that_changed_after_the_look_stays(tmp_path: Path) -> None:
    artifact(tmp_path, "command/a", days=99)
    decision = collect(tmp_path, rule(30), _Touches(tmp_path)).decision
    assert (decision.removed, decision.kept) == ((), {"command/a": Kept.YOUNG})
    assert folders(tmp_path) == ["command/a"]


def test_links_out_of_the_store_are_removed_and_what_they_point_to_is_not(tmp_path: Path) -> None:
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "data").touch()
    path = artifact(tmp_path / "runs", "command/a")
    (path / "link").symlink_to(outside)
    (path / "file").symlink_to(outside / "data")
    age(path, 99)
    assert collected(tmp_path / "runs", 30)[0] == ["command/a"]
    assert (outside / "data").exists()


def test_folders_that_a_task_made_read_only_go_too(tmp_path: Path) -> None:
    path = artifact(tmp_path / "runs", "command/a")
    (path / "locked" / "deep").mkdir(parents=True)
    (path / "locked" / "deep" / "data").touch()
    age(path, 99)
    (path / "locked" / "deep").chmod(0o000)
    for folder in (path / "locked", path):
        folder.chmod(0o500)
    program = (
        "import os, sys, time; from pathlib import Path\n"
        "from socm_like.results.collection import Rule, collect\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "print(collect(Path(sys.argv[1]), Rule(2592000.0, time.time())).problems)\n"
    )
    if os.getuid() == 0:  # whom no mode stops
        for inner in (*(tmp_path / "runs").rglob("*"), tmp_path / "runs"):
            os.chown(inner, 65534, 65534)
        for around in (tmp_path, *tmp_path.parents):
            if around.stat().st_mode & 0o5 != 0o5:
                around.chmod(around.stat().st_mode | 0o055)
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # it could not write
    child = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "runs"],
        capture_output=True, text=True, timeout=60, check=False, env=unmeasured,
    )  # fmt: skip
    assert (child.stdout, child.stderr) == ("()\n", "")
    assert not (tmp_path / "runs" / "command").exists()


@pytest.mark.slow
def test_ten_thousand_artifacts_are_looked_through_and_removed_in_seconds(tmp_path: Path) -> None:
    names = [f"command/{identity(number)[:12]}" for number in range(10_000)]
    run(tmp_path, "x-12345678", *names, days=99)
    at = time.time() - 99 * DAY
    (tmp_path / "command").mkdir()
    for number, name in enumerate(names):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps({"kind": "command", "id": identity(number)}))
        os.utime(tmp_path / name / "result.json", (at, at))
        os.utime(tmp_path / name, (at, at))
    begun = time.process_time()
    assert len(survey(tmp_path, rule(30))[1].removed) == 10_000
    assert time.process_time() - begun < 5
    assert len(collect(tmp_path, rule(30)).decision.removed) == 10_000
    assert time.process_time() - begun < 15
    assert not (tmp_path / "command").exists()


# The command

TWO = """
[campaign]
name = "two"
[campaign.a]
kind = "command"
command = ["sh", "-c", "echo x >> ../../../ledger; echo data > out.txt"]
outputs = { out = "out.txt" }
[campaign.b]
kind = "command"
command = ["false"]
"""


def test_listing_names_kind_identity_folder_age_size_state_and_users(tmp_path: Path) -> None:
    campaign(tmp_path, "submit", text=TWO)
    answer = campaign(tmp_path, "artifacts", "ls", "--json")
    found = json.loads(answer.stdout)
    (run_path,) = (tmp_path / "runs" / "campaigns").iterdir()
    tasks = {task["name"]: task for task in json.loads((run_path / "plan.json").read_text())["tasks"]}
    mark = sha256(run_path.name.encode()).hexdigest()[:8]
    places = {tasks["a"]["folder"]: ("a", "done"), f"{tasks['b']['folder']}.{mark}.partial": ("b", "partial")}
    assert answer.returncode == 0
    assert [{**each, "age": 0 <= each["age"] < 60} for each in found] == [
        {
            "kind": "command",
            "id": tasks[name]["id"],
            "folder": folder,
            "state": state,
            "age": True,
            "size": sum(path.stat().st_size for path in (tmp_path / "runs" / folder).iterdir()),
            "used_by": [run_path.name],
        }
        for folder, (name, state) in sorted(places.items())
    ]
    lines = campaign(tmp_path, "artifacts", "ls").stdout.splitlines()
    assert lines[0].split() == ["kind", "id", "folder", "age", "size", "state", "used", "by"]
    assert sorted(line.split()[1:3] for line in lines[1:3]) == sorted(
        [tasks[name]["id"][:12], folder] for folder, (name, _) in places.items()
    )
    assert lines[3].startswith("1 artifact, ") and "; 1 partial, " in lines[3]


def made_store(folder: Path) -> None:
    store = folder / "runs"
    artifact(store, "command/old", number=1, days=3)
    artifact(store, "fit/large", number=2, days=1, kind="fit")
    (store / "fit" / "large" / "data").write_bytes(b"x" * 5000)
    age(store / "fit" / "large", 1)
    artifact(store, "command/used", number=3, days=2)
    for number in range(4):
        run(store, f"lensing-{number:08x}", "command/used")


def listed_folders(folder: Path, *words: str) -> list[str]:
    answer = campaign(folder, "artifacts", "ls", "--json", *words)
    assert answer.returncode == 0, answer.stderr
    return [each["folder"].rpartition("/")[2] for each in json.loads(answer.stdout)]


def test_listing_is_sorted_and_narrowed_as_asked(tmp_path: Path) -> None:
    made_store(tmp_path)
    assert listed_folders(tmp_path) == ["old", "used", "large"]
    assert listed_folders(tmp_path, "--sort", "name") == ["old", "used", "large"]
    assert listed_folders(tmp_path, "--sort", "age") == ["old", "used", "large"]
    assert listed_folders(tmp_path, "--sort", "size")[0] == "large"
    assert listed_folders(tmp_path, "--kind", "fit") == ["large"]
    assert listed_folders(tmp_path, "--unused") == ["old", "large"]
    lines = campaign(tmp_path, "artifacts", "ls").stdout.splitlines()
    assert lines[2].endswith("  lensing-00000000 and 3 more")
    assert lines[4] == "3 artifacts, 5.5 KiB; 2 used by nobody"


def test_a_kind_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    made_store(tmp_path)
    for words in (["ls"], ["gc"], ["gc", "--dry-run"]):
        answer = campaign(tmp_path, "artifacts", *words, "--kind", "comand")
        message = "no artifacts of kind 'comand'; there are: command, fit; did you mean 'command'?\n"
        assert (answer.returncode, answer.stdout, answer.stderr) == (2, "", message)


def test_absent_store_is_a_wrong_question_and_an_empty_one_has_no_artifacts(tmp_path: Path) -> None:
    for word in ("ls", "gc"):
        answer = campaign(tmp_path, "artifacts", word)
        message = f"no store at {tmp_path}/runs; a campaign makes one: campaign submit campaign.toml\n"
        assert (answer.returncode, answer.stdout, answer.stderr) == (2, "", message)
    (tmp_path / "runs").mkdir()
    answer = campaign(tmp_path, "artifacts", "ls")
    assert (answer.returncode, answer.stdout) == (0, "")
    assert answer.stderr == "no artifacts in runs; a campaign leaves some: campaign submit campaign.toml\n"
    assert campaign(tmp_path, "artifacts", "ls", "--json").stdout == "[]\n"
    answer = campaign(tmp_path, "artifacts", "gc")
    assert (answer.returncode, answer.stdout) == (0, "nothing to remove\nkept 0\n")


def test_listing_and_collecting_load_nothing_heavy(tmp_path: Path) -> None:
    made_store(tmp_path)
    program = (
        "import atexit, sys\n"
        "heavy = ('pydantic', 'rich', 'numpy', 'networkx', 'matplotlib', 'jax', 'h5py')\n"
        "atexit.register(lambda: print([name for name in heavy if name in sys.modules], file=sys.stderr))\n"
        "from socm_like.cli import main\nmain()"
    )
    for word in ("ls", "gc"):
        answer = subprocess.run(
            [sys.executable, "-c", program, "artifacts", word],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (answer.returncode, answer.stderr) == (0, "[]\n")


@pytest.mark.parametrize("days", ["-1", "nan", "inf", "-0.001"])
@pytest.mark.parametrize("by_environment", [False, True])
def test_a_limit_that_is_no_number_of_days_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: str, by_environment: bool
) -> None:
    made_store(tmp_path)
    if by_environment:
        monkeypatch.setenv("SOCM_TTL_DAYS", days)
    answer = campaign(tmp_path, "artifacts", "gc", *([] if by_environment else ["--ttl-days", days]))
    assert (answer.returncode, answer.stdout) == (2, "")
    problem = f"Invalid value for '--ttl-days': a number of days, 0 or more, is needed; got {days}"
    assert answer.stderr.splitlines()[-1] == f"Error: {problem}"
    assert len(folders(tmp_path / "runs")) == 3


def test_limit_is_30_days_unless_the_environment_or_the_option_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact(tmp_path / "runs", "command/a", days=29.9)
    artifact(tmp_path / "runs", "command/b", days=30.1)

    def would_go(*words: str) -> list[str]:
        answer = json.loads(campaign(tmp_path, "artifacts", "gc", "--dry-run", "--json", *words).stdout)
        return [each["folder"] for each in answer["removed"]]

    assert would_go() == ["command/b"]
    monkeypatch.setenv("SOCM_TTL_DAYS", "29.5")
    assert would_go() == ["command/a", "command/b"]
    assert would_go("--ttl-days", "40") == []


def test_dry_run_shows_just_what_gc_then_removes(tmp_path: Path) -> None:
    made_store(tmp_path)
    dry = json.loads(campaign(tmp_path, "artifacts", "gc", "--ttl-days", "0.5", "--dry-run", "--json").stdout)
    text = campaign(tmp_path, "artifacts", "gc", "--ttl-days", "0.5", "--dry-run").stdout
    assert len(folders(tmp_path / "runs")) == 3
    assert not (tmp_path / "runs" / ".cache").exists()
    real = campaign(tmp_path, "artifacts", "gc", "--ttl-days", "0.5").stdout
    assert [each["folder"] for each in dry["removed"]] == ["command/old", "fit/large"]
    assert (dry["dry_run"], dry["ttl_days"], dry["problems"]) == (True, 0.5, [])
    assert dry["kept"] == {"live": 0, "young": 0, "recent": 1, "holds": 0}
    assert dry["freed"] == sum(each["size"] for each in dry["removed"])
    assert real == text.replace("would free", "freed")
    assert real.splitlines()[-2:] == [
        "freed 5.29 KiB: 2 artifacts",
        "kept 1: 1 used by a run not older than 0.5 d",
    ]
    assert folders(tmp_path / "runs") == ["command/used"]


def test_what_was_removed_is_computed_again_by_the_next_submit(tmp_path: Path) -> None:
    text = TWO.partition("[campaign.b]")[0]
    assert campaign(tmp_path, "submit", text=text).returncode == 0
    assert campaign(tmp_path, "artifacts", "gc").stdout.startswith("nothing to remove\nkept 1: ")
    answer = campaign(tmp_path, "artifacts", "gc", "--ttl-days", "0")
    assert (answer.returncode, answer.stdout.splitlines()[-1]) == (0, "kept 0")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [".cache", "campaigns"]
    assert campaign(tmp_path, "submit").returncode == 0
    assert (states(tmp_path), (tmp_path / "ledger").read_text()) == ({"a": "done"}, "x\nx\n")


LONG = """
[campaign]
name = "long"
[campaign.first]
kind = "command"
command = ["sh", "-c", "echo 1 > out.txt"]
outputs = { out = "out.txt" }
[campaign.second]
kind = "command"
command = ["sh", "-c", "echo 1 > began; while [ ! -e ../../../go ]; do sleep 0.05; done"]
depends_on = ["first"]
"""


@contextmanager
def long_run(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    (folder / "campaign.toml").write_text(LONG)
    runner = start(folder)
    try:
        wait_until(partial(_began, folder))
        yield runner
    finally:
        (folder / "go").touch()
        runner.wait(60)


def _began(folder: Path) -> bool:
    return bool(list(folder.glob("runs/command/*.partial/began")))


def contents(folder: Path) -> list[str]:
    return sorted(str(path) for path in (folder / "runs" / "command").rglob("*"))


def test_live_run_survives_a_gc_of_everything(tmp_path: Path) -> None:
    with long_run(tmp_path) as runner:
        age(tmp_path / "runs" / "command", 99)
        before = contents(tmp_path)
        answer = campaign(tmp_path, "artifacts", "gc", "--ttl-days", "0")
        assert (answer.returncode, answer.stdout) == (0, "nothing to remove\nkept 2: 2 in use by a live run\n")
        assert contents(tmp_path) == before
        (tmp_path / "go").touch()
        assert runner.wait(60) == 0
    assert states(tmp_path) == {"first": "done", "second": "done"}


def test_run_whose_runner_was_killed_survives_as_long_as_its_launcher_runs_tasks(tmp_path: Path) -> None:
    with long_run(tmp_path) as runner:
        os.kill(runner.pid, signal.SIGKILL)
        runner.wait(60)
        age(tmp_path / "runs", 99)
        before = contents(tmp_path)
        answer = campaign(tmp_path, "artifacts", "gc", "--ttl-days", "0")
        assert (answer.returncode, answer.stdout) == (0, "nothing to remove\nkept 2: 2 in use by a live run\n")
        assert contents(tmp_path) == before
        (tmp_path / "go").touch()
        assert campaign(tmp_path, "submit").returncode == 0
    assert states(tmp_path) == {"first": "done", "second": "done"}


def test_killed_gc_leaves_hidden_folders_only_and_the_next_one_finishes(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    for number in range(300):
        path = artifact(store, f"command/{identity(number)[:12]}", number=number)
        for index in range(20):
            (path / f"f{index}").touch()
        age(path, 99)
    gc = subprocess.Popen([*CAMPAIGN, "artifacts", "gc"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    wait_until(lambda: list((store / "command").glob(".*.gc")) or gc.poll() is not None)
    gc.kill()
    gc.wait()
    left = list((store / "command").iterdir())
    assert left
    assert all(path.name.endswith(".gc") or len(list(path.iterdir())) == 22 for path in left)
    assert campaign(tmp_path, "artifacts", "gc").returncode == 0
    assert not (store / "command").exists()


# TensorBoard

BOARDS = """
[campaign]
name = "boards"
[campaign.board]
kind = "command"
command = ["sh", "-c", "mkdir -p deep/er; touch deep/er/events.out.tfevents.1"]
[campaign.none]
kind = "command"
command = ["true"]
[campaign.failed]
kind = "command"
command = ["sh", "-c", "touch events.out.tfevents.2; false"]
"""


def boards(folder: Path) -> Path:
    campaign(folder, "submit", text=BOARDS)
    answer = campaign(folder, "artifacts", "tb")
    (run_path,) = (folder / "runs" / "campaigns").iterdir()
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, f"{run_path}/tb\n", "")
    return run_path / "tb"


def test_tb_prints_a_folder_with_a_relative_link_to_each_task_with_event_files(tmp_path: Path) -> None:
    place = boards(tmp_path)
    assert sorted(path.name for path in place.iterdir()) == ["board", "failed"]
    assert str((place / "board").readlink()).startswith("../../../command/")
    assert (place / "board" / "deep" / "er" / "events.out.tfevents.1").exists()
    assert ".partial" in str((place / "failed").readlink())
    (tmp_path / "runs").rename(tmp_path / "moved")
    moved = campaign(tmp_path, "artifacts", "tb", "boards", "--store", "moved").stdout.strip()
    assert (Path(moved) / "failed" / "events.out.tfevents.2").exists()


def test_tb_removes_links_to_nothing_and_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    place = boards(tmp_path)
    (place / "gone").symlink_to("../../../command/gone")
    (place / "notes").write_text("mine")
    (place / "board").unlink()
    (place / "board").symlink_to("../../../command/elsewhere")
    boards(tmp_path)
    assert sorted(path.name for path in place.iterdir()) == ["board", "failed", "notes"]
    assert (place / "board" / "deep").is_dir()


def test_many_tb_at_once_agree(tmp_path: Path) -> None:
    place = boards(tmp_path)
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    words = [*CAMPAIGN, "artifacts", "tb"]
    processes = [
        subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate(timeout=60) for process in processes] == [(f"{place}\n", "")] * 4
    assert sorted(path.name for path in place.iterdir()) == ["board", "failed"]
    assert not list(place.parent.glob(".tb.*"))


def test_run_without_event_files_has_no_tb(tmp_path: Path) -> None:
    campaign(tmp_path, "submit", text=TWO)
    answer = campaign(tmp_path, "artifacts", "tb")
    (run_path,) = (tmp_path / "runs" / "campaigns").iterdir()
    message = f"{run_path.name}: no task has TensorBoard files (events.out.tfevents.*)\n"
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", message)
    assert not (run_path / "tb").exists()


def test_tb_of_a_run_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    directory = run(tmp_path / "runs", "x-12345678")
    answer = campaign(tmp_path, "artifacts", "tb", "y")
    message = f"'y' is no run of {directory.store}; there are: x-12345678\n"
    assert (answer.returncode, answer.stdout, answer.stderr) == (2, "", message)


# The page


def test_page_does_what_it_says(tmp_path: Path) -> None:
    assert follow(ROOT / "docs" / "artifacts.rst", tmp_path) == 7
