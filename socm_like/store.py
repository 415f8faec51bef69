"""Where things are on disk: the store, its run directories, and the lock that makes one writer.

::

    runs/<kind folder>/<id>/                a task's outputs, found by identity
    runs/campaigns/<name>-<8 hex>/          one run: campaign.toml plan.json journal.jsonl lock logs/ requests/

Standard library only, so that ``campaign status`` starts at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from socm_like.errors import RunHeldError, StoreError, UsageError, suggest
from socm_like.journal import store_errors

NAME_LIMIT = 120
"""Bytes of a file name made from a task name; the file systems we meet allow 255."""
HEARTBEAT = 10.0
"""Seconds between two signs of life of a lock."""
STALE_AFTER = 60.0
"""Seconds without a sign of life after which a lock of another host counts as dead."""

_HASHED = re.compile(r"~[0-9a-f]{16}")


@lru_cache(maxsize=1024)
def file_name(text: str) -> str:
    """Return ``text`` as one file name: no separators or control characters, never too long, never shared.

    A name that had to be changed, or looks as if it had been, ends in 16 digits of its own hash: two names do not
    meet in one file, not even among a million long ones.
    """
    clean = "".join("_" if char == "/" or not char.isprintable() else char for char in text)
    is_short = len(clean.encode()) <= NAME_LIMIT
    if clean == text and is_short and clean != "" and not clean.startswith(".") and not _HASHED.fullmatch(clean[-17:]):
        return clean
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    kept = clean.encode()[: NAME_LIMIT - 17].decode("utf-8", "ignore").lstrip(".")
    return f"{kept}~{digest}"


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by new text, in UTF-8; a reader sees the old or the new one, never half.

    Raises StoreError; the old file then stands, and nothing else is left behind.
    """
    temporary = path.with_name(f"{path.name}.{uuid4().hex[:16]}.tmp")  # pids meet where hosts share a folder
    with store_errors(path):
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """One run on disk; the file names inside are fixed here and nowhere else."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name, ``<campaign>-<8 hex>``."""
        return self.path.name

    @property
    def store(self) -> Path:
        """The store this run belongs to."""
        return self.path.parent.parent

    @property
    def campaign(self) -> Path:
        """The campaign file as it was submitted, verbatim."""
        return self.path / "campaign.toml"

    @property
    def plan(self) -> Path:
        """The plan."""
        return self.path / "plan.json"

    @property
    def journal(self) -> Path:
        """The truth."""
        return self.path / "journal.jsonl"

    @property
    def lock(self) -> Path:
        """Who works on this run."""
        return self.path / "lock"

    @property
    def trials(self) -> Path:
        """The tasks that searches asked for while the run went on, one per line, oldest first."""
        return self.path / "trials.jsonl"

    @property
    def requests(self) -> Path:
        """What other processes ask of the one that holds the lock."""
        return self.path / "requests"

    def log(self, workflow: str, task: str, attempt: int, stream: str) -> Path:
        """Where an attempt's ``out`` or ``err`` stream goes."""
        return Path(f"{self.path}/logs/{file_name(workflow)}/{file_name(task)}.{attempt}.{stream}")

    def partial(self, folder: str) -> str:
        """Where attempts at a task work until one is known to be good; no two runs share it."""
        return f"{self.store}/{folder}.{hashlib.sha256(self.name.encode()).hexdigest()[:8]}.partial"

    def read_plan(self) -> dict[str, Any]:
        """Return the plan as plain data, the tasks that searches asked for since among its tasks.

        Raises StoreError when it is missing or damaged.
        """
        try:
            plan: dict[str, Any] = json.loads(self.plan.read_bytes())
        except FileNotFoundError as error:
            raise StoreError(f"{self.path}: no plan.json here; this is not a run") from error
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.plan}: {error}; submit the campaign again to write it anew") from error
        if trials := self.read_trials():
            plan["tasks"] = [*plan["tasks"], *trials]
        return plan

    def read_trials(self) -> list[dict[str, Any]]:
        """Return the tasks that searches asked for; a line that a crash cut short was never acted on.

        Raises StoreError when a line before the last is damaged.
        """
        try:
            lines = self.trials.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        try:
            return [json.loads(line) for line in lines[:-1]]
        except ValueError as error:
            raise StoreError(f"{self.trials}: damaged ({error}); move it away, and the searches start anew") from error


def runs_in(store: Path) -> list[RunDirectory]:
    """Return the runs of a store, the one with the latest news last."""
    folder = store / "campaigns"
    if not folder.is_dir():
        return []
    runs = [RunDirectory(path) for path in folder.iterdir() if (path / "plan.json").is_file()]
    return sorted(runs, key=_last_news)


def _last_news(run: RunDirectory) -> tuple[int, str]:
    times = [path.stat().st_mtime_ns for path in (run.plan, run.journal) if path.exists()]
    return max(times, default=0), run.name


def find_run(store: Path, name: str | None) -> RunDirectory:
    """Return the run of that name or path, or the one with the latest news when no name is given.

    A campaign's name, or else the beginning of a run's name, is enough where it fits one run.
    Raises UsageError naming the runs there are.
    """
    if name is not None and (Path(name) / "plan.json").is_file():
        return RunDirectory(Path(name).resolve())
    runs = runs_in(store)
    if not runs:
        raise UsageError(f"no run in {store}; start one with: campaign submit campaign.toml")
    if name is None:
        return runs[-1]
    matches = (
        [run for run in runs if run.name == name]
        or [run for run in runs if run.name.rpartition("-")[0] == name]
        or [run for run in runs if run.name.startswith(name)]
    )
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UsageError(f"{name!r} fits several runs of {store}: {', '.join(run.name for run in matches)}")
    names = [run.name for run in runs]
    raise UsageError(f"{name!r} is no run of {store}; there are: {', '.join(names)}{suggest(name, names)}")


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a run."""

    host: str
    pid: int
    started: str
    """What :func:`process_started` returned for it: a reused pid differs."""
    token: str = ""
    """Made up for one lock: no other lock, of this process or another, has it."""
    since: int = field(default=0, compare=False)
    """When its holder began to work, nanoseconds since the epoch by the clock of its host; 0: it prepares yet."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_before(self, other: Holder) -> bool:
        """Whether this one began to work before the other; any two processes agree on it."""
        return (self.since, self.token) < (other.since, other.token)

    @property
    def is_here(self) -> bool:
        """Whether the holder's pid means something here: same host, not restarted since, same pid namespace.

        Two machines may share a name, and so may two containers; what cannot be told apart goes by signs of life.
        """
        return self.host == socket.gethostname() and self.started.partition("@")[2] == _pid_world()

    @property
    def is_alive(self) -> bool:
        """Whether that very process still exists; to be asked on its own host only."""
        return process_started(self.pid) == self.started


def process_started(pid: int) -> str | None:
    """Return what tells this process from a later one with the same pid, or None when there is none (proc(5)).

    It is the start in clock ticks since boot, and after the ``@`` the boot id and the pid namespace.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    after_name = stat.rpartition(")")[2].split()
    return None if after_name[0] in "ZX" else f"{after_name[19]}@{_pid_world()}"


def _pid_world() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"


def read_holder(run: RunDirectory) -> Holder | None:
    """Return the live holder of a run, or None when nobody works on it."""
    holder = _read_lock(run.lock)
    return holder if holder is not None and _seems_alive(run.lock, holder, time.time()) else None


def _read_lock(path: Path) -> Holder | None:
    try:
        holder = Holder(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise StoreError(f"{path}: damaged lock; if nothing works on this run, remove the file") from error
    are_texts = all(isinstance(text, str) for text in (holder.host, holder.started, holder.token))
    if not (are_texts and type(holder.pid) is int and type(holder.since) is int):
        raise StoreError(f"{path}: damaged lock; if nothing works on this run, remove the file")
    return holder


def _seems_alive(path: Path, holder: Holder, now: float) -> bool:
    if holder.is_here:
        return holder.is_alive
    try:
        silent = now - path.stat().st_mtime
    except FileNotFoundError:
        return False
    return silent < STALE_AFTER


class RunLock:
    """Makes this process the one writer of a run, from :meth:`acquire` to :meth:`release`.

    The lock is only ever created by link(2), which one process wins, replaced by rename(2), or removed by the
    process it names. Whoever replaces a dead holder must first hold the claim to just that holder: a second lock,
    taken in the same way, with the dead holder's token in its name. So a slow process that has read an old lock
    can neither replace nor remove a new one, and there is no moment without a lock for a third to slip in.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._holder = Holder(socket.gethostname(), os.getpid(), process_started(os.getpid()) or "", uuid4().hex)
        self._last_sign = 0.0
        self._now = 0.0

    @property
    def holder(self) -> Holder:
        """This process, as the lock names it."""
        return self._holder

    def acquire(self) -> Holder | None:
        """Take the lock; return the dead holder it was taken over from, if any.

        Raises RunHeldError naming the live holder; nothing has been written then.
        """
        dead = self._take(self._run.lock)
        self._last_sign = time.monotonic()
        return dead

    def take_turn(self) -> Holder:
        """Note on the lock that this process begins to work now, and return it; raises what :meth:`sign` raises."""
        self._check()
        self._holder = replace(self._holder, since=time.time_ns())
        self._replace(self._run.lock)
        return self._holder

    def release(self) -> None:
        """Give the run back; works on a full disk. A lock that another process has taken over stays."""
        if _read_lock(self._run.lock) != self._holder:
            return
        claim = self._claim(self._holder)
        with store_errors(self._run.lock):
            try:
                os.link(self._run.lock, claim)
            except (FileExistsError, FileNotFoundError):  # somebody is just taking it over, or has removed it
                return
            try:
                if _read_lock(self._run.lock) == self._holder:
                    self._run.lock.unlink()
            finally:
                claim.unlink()

    def sign(self) -> None:
        """Show that the holder is alive; hosts that cannot see its process go by this.

        Raises RunHeldError when another process has taken the run over, StoreError when the lock is gone: this
        process must then write nothing more.
        """
        now = time.monotonic()
        if now - self._last_sign < HEARTBEAT:
            return
        self._check()
        with store_errors(self._run.lock):
            os.utime(self._run.lock)
        self._last_sign = now

    def _check(self) -> None:
        """Make sure that the lock still names this process."""
        holder = _read_lock(self._run.lock)
        if holder is None:
            raise StoreError(f"{self._run.lock}: somebody removed the lock; submit again to go on")
        if holder != self._holder:
            raise RunHeldError(f"{self._run.name} was taken over by {holder}, which saw no sign of this process")

    def _take(self, path: Path) -> Holder | None:
        """Make a lock name this process; return the dead holder that it named before, if any."""
        while not self._create(path):
            holder = _read_lock(path)
            if holder is None:
                continue
            if _seems_alive(path, holder, self._now):
                raise RunHeldError(
                    f"{self._run.name} is held by {holder}; watch it with: campaign status {self._run.name}"
                )
            claim = self._claim(holder)
            self._take(claim)
            try:
                if _read_lock(path) == holder:
                    self._replace(path)
                    return holder
            finally:
                claim.unlink(missing_ok=True)
        return None

    def _claim(self, holder: Holder) -> Path:
        return self._run.path / f"lock.{file_name(holder.token)}.heir"

    def _create(self, path: Path) -> bool:
        """Create a lock with its content in one step; return whether nobody else had."""
        with store_errors(path), self._own_lock() as own:
            try:
                os.link(own, path)
            except FileExistsError:
                return own.stat().st_nlink == 2  # a lost answer of the file server, not a rival (open(2), O_EXCL)
        return True

    def _replace(self, path: Path) -> None:
        with store_errors(path), self._own_lock() as own:
            own.replace(path)

    @contextmanager
    def _own_lock(self) -> Iterator[Path]:
        """Write a lock that names this process under a name that nobody looks for, and note the file server's time."""
        own = self._run.path / f"lock.{self._holder.token}.new"
        try:
            with own.open("w", encoding="utf-8") as file:
                file.write(json.dumps(asdict(self._holder)))
                file.flush()
                os.fsync(file.fileno())
            self._now = own.stat().st_mtime  # hosts' clocks may differ by more than STALE_AFTER
            yield own
        finally:
            own.unlink(missing_ok=True)
