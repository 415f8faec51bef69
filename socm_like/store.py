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
import socket
import time
from dataclasses import dataclass
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


def file_name(text: str) -> str:
    """Return ``text`` as one file name: no separators or control characters, never too long, never shared.

    A name that had to be changed ends in a piece of its own hash, so two names never meet in one file.
    """
    clean = "".join("_" if char == "/" or not char.isprintable() else char for char in text)
    if clean == text and len(clean.encode("utf-8", "surrogateescape")) <= NAME_LIMIT and not clean.startswith("."):
        return clean
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = clean.encode("utf-8", "ignore")[: NAME_LIMIT - 10].decode("utf-8", "ignore").lstrip(".")
    return f"{kept}~{digest}"


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by new text; a reader sees the old or the new one, never half."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with store_errors(path):
        temporary.write_text(text)
        temporary.replace(path)


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
    def requests(self) -> Path:
        """What other processes ask of the one that holds the lock."""
        return self.path / "requests"

    def log(self, workflow: str, task: str, attempt: int, stream: str) -> Path:
        """Where an attempt's ``out`` or ``err`` stream goes."""
        return self.path / "logs" / file_name(workflow) / f"{file_name(task)}.{attempt}.{stream}"

    def read_plan(self) -> dict[str, Any]:
        """Return the plan as plain data.

        Raises StoreError when it is missing or damaged.
        """
        try:
            plan: dict[str, Any] = json.loads(self.plan.read_bytes())
        except FileNotFoundError as error:
            raise StoreError(f"{self.path}: no plan.json here; this is not a run") from error
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.plan}: {error}; submit the campaign again to write it anew") from error
        return plan


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

    A campaign's name, or the beginning of a run's name, is enough where it fits one run.
    Raises UsageError naming the runs there are.
    """
    if name is not None and (Path(name) / "plan.json").is_file():
        return RunDirectory(Path(name).resolve())
    runs = runs_in(store)
    if not runs:
        raise UsageError(f"no run in {store}; start one with: campaign submit campaign.toml")
    if name is None:
        return runs[-1]
    matches = [run for run in runs if run.name == name] or [run for run in runs if run.name.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    names = [run.name for run in matches or runs]
    problem = "fits several runs" if matches else "is no run"
    raise UsageError(f"{name!r} {problem} of {store}; there are: {', '.join(names)}{suggest(name, names)}")


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a run."""

    host: str
    pid: int
    started: str
    """Start time of the process in clock ticks since boot, with the boot id: a reused pid differs."""
    token: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def is_here(self) -> bool:
        """Whether the holder runs, or ran, on this host."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether that very process still exists; to be asked on its own host only."""
        return process_started(self.pid) == self.started


def process_started(pid: int) -> str | None:
    """Return what tells this process from a later one with the same pid, or None when there is none (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    after_name = stat.rpartition(")")[2].split()
    return None if after_name[0] in "ZX" else f"{after_name[19]}@{boot}"


def read_holder(run: RunDirectory) -> Holder | None:
    """Return the live holder of a run, or None when nobody works on it."""
    holder = _read_lock(run.lock)
    return holder if holder is not None and _seems_alive(run, holder) else None


def _read_lock(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise StoreError(f"{path}: damaged lock; if nothing works on this run, remove the file") from error


def _seems_alive(run: RunDirectory, holder: Holder) -> bool:
    if holder.is_here:
        return holder.is_alive
    try:
        silent = time.time() - run.lock.stat().st_mtime
    except FileNotFoundError:
        return False
    return silent < STALE_AFTER


class RunLock:
    """Makes this process the one writer of a run, from :meth:`acquire` to :meth:`release`."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._holder = Holder(socket.gethostname(), os.getpid(), process_started(os.getpid()) or "", uuid4().hex)
        self._last_sign = 0.0

    def acquire(self) -> Holder | None:
        """Take the lock; return the dead holder it was taken over from, if any.

        Raises RunHeldError naming the live holder; nothing has been written then.
        """
        dead = None
        while not self._create():
            holder = _read_lock(self._run.lock)
            if holder is None:
                continue
            if _seems_alive(self._run, holder):
                name = self._run.name
                raise RunHeldError(f"{name} is held by {holder}; watch it with: campaign status {name}")
            dead = holder
            self._remove(holder)
        self._last_sign = time.monotonic()
        return dead

    def release(self) -> None:
        """Give the run back."""
        self._remove(self._holder)

    def sign(self) -> None:
        """Show that the holder is alive; hosts that cannot see its process go by this."""
        now = time.monotonic()
        if now - self._last_sign >= HEARTBEAT:
            self._last_sign = now
            with store_errors(self._run.lock):
                os.utime(self._run.lock)

    def _create(self) -> bool:
        """Create the lock with its content in one step: link(2) is atomic on network file systems too."""
        temporary = self._run.path / f"lock.{self._holder.token}"
        content = {name: getattr(self._holder, name) for name in ("host", "pid", "started", "token")}
        with store_errors(self._run.lock):
            temporary.write_text(json.dumps(content))
            try:
                os.link(temporary, self._run.lock)
            except FileExistsError:
                return False
            finally:
                temporary.unlink()
        return True

    def _remove(self, holder: Holder) -> None:
        """Remove the lock if it is still this holder's; a faster third party's lock is put back."""
        aside = self._run.path / f"lock.{uuid4().hex}.old"
        try:
            self._run.lock.rename(aside)
        except FileNotFoundError:
            return
        if _read_lock(aside) != holder:
            os.link(aside, self._run.lock)
        aside.unlink()
