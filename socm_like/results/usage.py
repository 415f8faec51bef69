"""Who uses what in a store: which folders and inputs the plans of its runs name, and which runs are live.

Standard library only, so that ``campaign artifacts`` starts at once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from socm_like.errors import StoreError
from socm_like.executors.launcher_log import read_launcher
from socm_like.journal import TaskState
from socm_like.status import PLAN_SCHEMA, read_status
from socm_like.store import RunDirectory, read_holder


class Planned(NamedTuple):
    """What a plan says about one folder."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True, eq=False)
class RunUsage:
    """One run: what its plan refers to, and how much it is in use itself. Each reading is a value of its own."""

    name: str
    news: float
    """Seconds since the epoch of the last change of its plan or journal."""
    is_live: bool
    """Whether a process works on it, or its launcher still runs tasks though that process died."""
    folders: Mapping[str, Planned]
    """Folders of its tasks, relative to the store."""
    inputs: frozenset[str] = frozenset()
    """Files and folders of the store that its tasks name as plain inputs, relative to the store."""

    @property
    def mark(self) -> str:
        """What the names of the partial folders it leaves contain; see :meth:`RunDirectory.partial`."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:8]


class Usage:
    """All runs of a store, to be asked who uses a folder."""

    def __init__(self, runs: Iterable[RunUsage], problems: Iterable[str] = (), starting: str = "") -> None:
        self.runs = tuple(runs)
        self.problems = tuple(problems)
        """One sentence per run of which nobody can tell what it refers to."""
        self.starting = starting
        """A run that a live process holds and that has no plan yet, or an empty string."""
        self.planned: dict[str, Planned] = {}
        """Every folder that some plan names."""
        self._by_path: dict[str, list[RunUsage]] = {}
        self._by_input: dict[str, list[RunUsage]] = {}
        self._by_mark: dict[str, list[RunUsage]] = {}
        self._live_parents: set[str] = set()
        for run in self.runs:
            self._add(run)

    def _add(self, run: RunUsage) -> None:
        self.planned.update(run.folders)
        self._by_mark.setdefault(run.mark, []).append(run)
        for path in {*run.folders, *(parent for inner in run.inputs for parent in parents(inner))}:
            self._by_path.setdefault(path, []).append(run)
        for path in run.inputs:
            self._by_input.setdefault(path, []).append(run)
        if run.is_live:
            self._live_parents.update(parent for path in run.folders for parent in parents(path))

    def users(self, folder: str) -> list[RunUsage]:
        """Return the runs that name a folder, something in it, or something around it as an input."""
        around = (self._by_input.get(path, ()) for path in (folder, *parents(folder)))
        return list(dict.fromkeys([*self._by_path.get(folder, ()), *(run for runs in around for run in runs)]))

    def left_by(self, mark: str) -> list[RunUsage]:
        """Return the run whose partial folders have this mark, if it is still there."""
        return self._by_mark.get(mark, [])

    def holds_live_folders(self, folder: str) -> bool:
        """Whether a live run has tasks with folders below this one."""
        return folder in self._live_parents


def parents(path: str) -> Iterator[str]:
    """Yield the folders around a relative path, the nearest first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


class UsageReader:
    """Reads the usage of a store again and again; a plan that has not changed is parsed once."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._plans: dict[str, tuple[tuple[int, int, int], Mapping[str, Planned], frozenset[str]]] = {}

    def read(self) -> Usage:
        """Return the usage as it is now; what cannot be read is among its problems."""
        runs, problems, starting = [], [], ""
        for name in self._names():
            run = RunDirectory(self._store / "campaigns" / name)
            try:
                holder = read_holder(run)  # before the plan: who starts a run holds it first
                if run.plan.exists():
                    runs.append(self._read_run(run, is_held=holder is not None))
                elif holder is not None:
                    starting = name
                elif run.journal.exists():
                    problems.append(f"{run.path}: its plan.json is gone; {_advice(run)}")
            except StoreError as error:
                problems.append(str(error))
            except OSError as error:
                problems.append(f"{run.path}: cannot be read: {error.strerror}; {_advice(run)}")
        return Usage(runs, problems, starting)

    def _names(self) -> list[str]:
        try:
            with os.scandir(self._store / "campaigns") as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self._store / 'campaigns'}: cannot be read: {error.strerror}") from error

    def _read_run(self, run: RunDirectory, *, is_held: bool) -> RunUsage:
        try:
            found = run.plan.stat()
            news = max(found.st_mtime, run.journal.stat().st_mtime if run.journal.exists() else 0.0)
            signature = (found.st_ino, found.st_size, found.st_mtime_ns)
            if run.name not in self._plans or self._plans[run.name][0] != signature:
                self._plans[run.name] = (signature, *self._read_plan(run))
            is_live = is_held or _launcher_runs_tasks(run)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise StoreError(f"{run.plan}: damaged ({problem}); {_advice(run)}") from error
        return RunUsage(run.name, news, is_live, *self._plans[run.name][1:])

    def _read_plan(self, run: RunDirectory) -> tuple[Mapping[str, Planned], frozenset[str]]:
        plan = run.read_plan()
        if plan["schema"] != PLAN_SCHEMA:
            raise StoreError(f"{run.plan}: plan schema {plan['schema']}, this program reads {PLAN_SCHEMA}")
        folders = {task["folder"]: Planned(task["kind"], task["id"]) for task in plan["tasks"]}
        if not all(isinstance(text, str) for folder, task in folders.items() for text in (folder, *task)):
            raise TypeError("a folder, kind or id is no text")
        return folders, frozenset(self._inputs(plan))

    def _inputs(self, plan: Mapping[str, Any]) -> Iterator[str]:
        """Yield the inputs that lie in the store, which may have been moved since."""
        places = {f"{place}/" for place in (plan["store"], self._store, self._store.resolve())}
        for path in {path for task in plan["tasks"] for path in task.get("inputs", ())}:
            for place in places:
                if path.startswith(place):
                    yield path.removeprefix(place).strip("/")


def _advice(run: RunDirectory) -> str:
    return f"submit the campaign again to write it anew, or remove {run.path} if nothing needs it"


def _launcher_runs_tasks(run: RunDirectory) -> bool:
    """Whether tasks go on though nobody holds the run; a launcher lives some seconds longer than its last task."""
    if read_launcher(run) is None:
        return False
    return any(task.state in (TaskState.QUEUED, TaskState.RUNNING) for task in read_status(run).tasks)
