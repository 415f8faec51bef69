"""One run, one writer: between real processes, after kill -9, between hosts, and in a race."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

import pytest

from socm_like import store
from socm_like.errors import RunHeldError, StoreError
from socm_like.store import STALE_AFTER, Holder, RunDirectory, RunLock, process_started, read_holder

HOST = socket.gethostname()

OBEY = """
import sys
from pathlib import Path
from socm_like.errors import SocmError
from socm_like.store import RunDirectory, RunLock

lock = RunLock(RunDirectory(Path(sys.argv[1])))
for line in sys.stdin:
    try:
        answer = str(getattr(lock, line.strip())())
    except SocmError as error:
        answer = f"{type(error).__name__}: {error}"
    print(answer, flush=True)
"""


class Contender:
    """Another process with a lock of its own, which does what it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def ask(self, *methods: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.writelines(f"{method}\n" for method in methods)
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def does(self, method: str) -> str:
        self.ask(method)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def contender(run: RunDirectory) -> Iterator[Contender]:
    words = [sys.executable, "-c", OBEY, str(run.path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Contender(process)
        finally:
            process.kill()


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    path = tmp_path / "campaigns" / "fit-0123abcd"
    path.mkdir(parents=True)
    return RunDirectory(path)


def world() -> str:
    return (process_started(os.getpid()) or "").partition("@")[2]


def dead_holder() -> Holder:
    """Return the holder that a process which has just ended would have been."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return Holder(HOST, process.pid, f"1@{world()}", uuid4().hex)


def write_lock(run: RunDirectory, holder: Holder, age: float = 0.0) -> None:
    run.lock.write_text(json.dumps(asdict(holder)))
    os.utime(run.lock, (time.time() - age,) * 2)


def names(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in run.path.iterdir())


def held_by(pid: int, host: str = HOST) -> str:
    return f"fit-0123abcd is held by process {pid} on {host}; watch it with: campaign status fit-0123abcd"


def test_a_free_run_is_taken_and_given_back_without_a_trace(run: RunDirectory) -> None:
    lock = RunLock(run)
    assert read_holder(run) is None
    assert lock.acquire() is None
    assert names(run) == ["lock"]
    holder = read_holder(run)
    assert holder is not None
    assert (holder.host, holder.pid, holder.started) == (HOST, os.getpid(), process_started(os.getpid()))
    lock.release()
    assert names(run) == []
    lock.release()
    assert lock.acquire() is None
    lock.release()


def test_the_second_process_is_told_who_holds_the_run(run: RunDirectory) -> None:
    with contender(run) as first, contender(run) as second:
        assert first.does("acquire") == "None"
        before = run.lock.read_bytes()
        assert second.does("acquire") == f"RunHeldError: {held_by(first.pid)}"
        assert (names(run), run.lock.read_bytes()) == (["lock"], before)
        assert str(read_holder(run)) == f"process {first.pid} on {HOST}"
        assert first.does("release") == "None"
        assert second.does("acquire") == "None"


def test_the_same_process_cannot_take_a_run_twice(run: RunDirectory) -> None:
    RunLock(run).acquire()
    with pytest.raises(RunHeldError) as caught:
        RunLock(run).acquire()
    assert str(caught.value) == held_by(os.getpid())


def test_the_lock_of_a_process_killed_with_9_is_taken_over_and_the_dead_holder_reported(run: RunDirectory) -> None:
    with contender(run) as first, contender(run) as second:
        first.does("acquire")
        first.kill()
        assert read_holder(run) is None
        assert second.does("acquire") == f"process {first.pid} on {HOST}"
        assert names(run) == ["lock"]
        assert str(read_holder(run)) == f"process {second.pid} on {HOST}"


def test_a_zombie_holds_nothing(run: RunDirectory) -> None:
    with contender(run) as first:
        first.does("acquire")
        first.process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
        assert str(RunLock(run).acquire()) == f"process {first.pid} on {HOST}"


def test_a_stopped_process_still_holds_its_run(run: RunDirectory) -> None:
    with contender(run) as first:
        first.does("acquire")
        first.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(RunHeldError) as caught:
            RunLock(run).acquire()
        assert str(caught.value) == held_by(first.pid)


def test_a_reused_pid_is_no_holder(run: RunDirectory) -> None:
    reused = Holder(HOST, os.getpid(), f"1@{world()}", "t")
    write_lock(run, reused)
    assert read_holder(run) is None
    assert RunLock(run).acquire() == reused


@pytest.mark.parametrize(
    ("host", "started"),
    [
        ("elsewhere", f"1@{world()}"),
        (HOST, "1@00000000-0000-0000-0000-000000000000/4026531836"),  # another machine of that name, or a restart
        (HOST, f"1@{world()}0"),  # another container of that name
    ],
)
def test_the_lock_of_another_host_counts_while_it_gives_signs_of_life(
    host: str, started: str, run: RunDirectory
) -> None:
    holder = Holder(host, 17, started, "t")
    write_lock(run, holder)
    assert read_holder(run) == holder
    with pytest.raises(RunHeldError) as caught:
        RunLock(run).acquire()
    assert str(caught.value) == held_by(17, host)
    assert names(run) == ["lock"]
    write_lock(run, holder, age=STALE_AFTER + 1)
    assert read_holder(run) is None
    assert RunLock(run).acquire() == holder
    assert names(run) == ["lock"]


def test_a_sign_of_life_renews_the_lock_once_per_heartbeat(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = RunLock(run)
    lock.acquire()
    os.utime(run.lock, (0, 0))
    lock.sign()
    assert run.lock.stat().st_mtime == 0
    monkeypatch.setattr(store, "HEARTBEAT", 0.0)
    before = time.time() - 1.0
    lock.sign()
    assert run.lock.stat().st_mtime > before


def test_who_was_taken_over_is_told_so_and_leaves_the_new_lock_alone(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "HEARTBEAT", 0.0)
    lock = RunLock(run)
    lock.acquire()
    write_lock(run, Holder("elsewhere", 17, "1@x", "t"), age=30)
    before = run.lock.stat().st_mtime_ns
    with pytest.raises(RunHeldError) as caught:
        lock.sign()
    assert str(caught.value) == (
        "fit-0123abcd was taken over by process 17 on elsewhere, which saw no sign of this process"
    )
    lock.release()
    assert (names(run), run.lock.stat().st_mtime_ns) == (["lock"], before)


def test_a_removed_lock_is_noticed_at_the_next_sign(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "HEARTBEAT", 0.0)
    lock = RunLock(run)
    lock.acquire()
    run.lock.unlink()
    with pytest.raises(StoreError) as caught:
        lock.sign()
    assert str(caught.value) == f"{run.lock}: somebody removed the lock; submit again to go on"
    lock.release()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b'{"host":"h","pid":1}',
        b'{"host":"h","pid":1,"started":"s","token":"t","more":0}',
        b'{"host":"h","pid":"self","started":"s"}',
        b'{"host":1,"pid":1,"started":"s"}',
    ],
)
def test_a_damaged_lock_is_left_alone_and_the_remedy_named(content: bytes, run: RunDirectory) -> None:
    run.lock.write_bytes(content)
    lock = RunLock(run)
    for action in (lock.acquire, lock.release, lambda: read_holder(run)):
        with pytest.raises(StoreError) as caught:
            action()
        assert str(caught.value) == f"{run.lock}: damaged lock; if nothing works on this run, remove the file"
    assert (names(run), run.lock.read_bytes()) == (["lock"], content)


def test_a_lock_that_cannot_be_read_or_made_is_a_store_error(run: RunDirectory, tmp_path: Path) -> None:
    run.lock.mkdir()
    with pytest.raises(StoreError) as caught:
        RunLock(run).acquire()
    assert str(caught.value) == f"{run.lock}: cannot be read: Is a directory"
    absent = RunDirectory(tmp_path / "absent")
    with pytest.raises(StoreError) as caught:
        RunLock(absent).acquire()
    assert str(caught.value) == (
        f"{absent.lock}: No such file or directory; make room or fix the permissions, then submit again"
    )


def test_an_heir_that_died_between_two_steps_is_no_obstacle(run: RunDirectory) -> None:
    dead, heir, heirs_heir = dead_holder(), dead_holder(), dead_holder()
    write_lock(run, dead)
    (run.path / f"lock.{dead.token}.heir").write_text(json.dumps(asdict(heir)))
    (run.path / f"lock.{heir.token}.heir").write_text(json.dumps(asdict(heirs_heir)))
    assert RunLock(run).acquire() == dead
    assert names(run) == ["lock"]


def test_an_heir_that_is_just_taking_over_holds_the_run(run: RunDirectory) -> None:
    dead = dead_holder()
    write_lock(run, dead)
    heir = Holder(HOST, os.getpid(), process_started(os.getpid()) or "", "heir")
    (run.path / f"lock.{dead.token}.heir").write_text(json.dumps(asdict(heir)))
    with pytest.raises(RunHeldError) as caught:
        RunLock(run).acquire()
    assert str(caught.value) == held_by(os.getpid())
    assert json.loads(run.lock.read_text()) == asdict(dead)


ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from socm_like.errors import StoreError
from socm_like.store import RunDirectory, RunLock

run = RunDirectory(Path(sys.argv[1]))
lock = RunLock(run)
lock.acquire()
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
lock.release()
print(list(run.path.iterdir()))
try:
    lock.acquire()
except StoreError as error:
    print(error)
print(list(run.path.iterdir()))
"""


def test_on_a_full_disk_a_run_can_be_given_back_but_not_taken(
    run_python: Callable[..., subprocess.CompletedProcess[str]], run: RunDirectory
) -> None:
    child = run_python(ON_A_FULL_DISK, run.path)
    problem = f"{run.lock}: File too large; make room or fix the permissions, then submit again"
    assert (child.stdout, child.stderr) == (f"[]\n{problem}\n[]\n", "")


# Races


@contextmanager
def contenders(run: RunDirectory, count: int) -> Iterator[list[Contender]]:
    with ExitStack() as stack:
        yield [stack.enter_context(contender(run)) for _ in range(count)]


def test_of_eight_processes_at_a_stale_lock_exactly_one_wins(run: RunDirectory) -> None:
    dead = dead_holder()
    with contenders(run, 8) as rivals:
        refusals = {f"RunHeldError: {held_by(rival.pid)}" for rival in rivals}
        for _ in range(20):
            write_lock(run, dead)
            for rival in rivals:
                rival.ask("acquire")
            answers = [rival.answer() for rival in rivals]
            winners = [rival for rival, answer in zip(rivals, answers, strict=True) if answer == str(dead)]
            assert len(winners) == 1, answers
            assert str(read_holder(run)) == f"process {winners[0].pid} on {HOST}"
            assert {answer for answer in answers if answer != str(dead)} <= refusals
            assert names(run) == ["lock"]
            assert winners[0].does("release") == "None"


RACE = """
import json, os, random, sys, time, uuid
from pathlib import Path
from socm_like.errors import RunHeldError
from socm_like.store import RunDirectory, RunLock

run, turns, dead = RunDirectory(Path(sys.argv[1])), int(sys.argv[2]), json.loads(sys.argv[3])
inside = run.path.parent / "inside"

def dawdle(event, arguments):  # before a step on the file system now and then: any order of steps comes up
    if event in ("open", "os.link", "os.remove", "os.rename") and random.random() < 0.3:
        time.sleep(random.random() * 0.001)

print("ready", flush=True)
sys.stdin.readline()
sys.addaudithook(dawdle)
together = 0
while turns:
    lock = RunLock(run)
    try:
        lock.acquire()
    except RunHeldError:
        continue
    turns -= 1
    try:
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        together += 1
    os.sched_yield()
    inside.unlink(missing_ok=True)
    if turns % 2:
        lock.release()
    else:  # what is left if we die here: our lock, and we are dead
        corpse = run.path.parent / f"{os.getpid()}"
        corpse.write_text(json.dumps({**dead, "token": uuid.uuid4().hex}))
        corpse.replace(run.lock)
print(together, flush=True)
"""


def test_eight_processes_that_take_die_and_release_are_never_two_inside(run: RunDirectory) -> None:
    words = [sys.executable, "-c", RACE, str(run.path), "20", json.dumps(asdict(dead_holder()))]
    with ExitStack() as stack:
        rivals = [
            stack.enter_context(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(8)
        ]
        for rival in rivals:
            stack.callback(rival.kill)
            assert rival.stdout is not None
            assert rival.stdout.readline() == "ready\n"
        for rival in rivals:
            assert rival.stdin is not None
            rival.stdin.write("go\n")
            rival.stdin.flush()
        answers = [rival.communicate(timeout=60)[0] for rival in rivals]
    assert answers == ["0\n"] * 8
    assert names(run) in ([], ["lock"])
