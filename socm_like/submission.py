"""Starting or continuing a run: its directory, its lock, its executor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from socm_like.document import read_document
from socm_like.executors.base import Executor
from socm_like.executors.local import LocalExecutor
from socm_like.journal import Journal, store_errors
from socm_like.plan import Plan
from socm_like.registry import Registry
from socm_like.store import Holder, RunDirectory, RunLock, write_atomically


@dataclass(frozen=True, slots=True)
class Session:
    """A run in the hands of this process."""

    run: RunDirectory
    lock: RunLock
    journal: Journal
    taken_over_from: Holder | None
    """The dead process that held the run before, if one did."""


def run_directory(plan: Plan) -> RunDirectory:
    """Return where the run of a plan lives, whether it exists or not."""
    return RunDirectory(plan.store / "campaigns" / plan.run_name)


@contextmanager
def open_run(plan: Plan, campaign: str | None = None) -> Iterator[Session]:
    """Hold the run of a plan; with the campaign file's text, write it and the plan first.

    Raises RunHeldError when another process holds it, StoreError when the store refuses.
    """
    run = run_directory(plan)
    with store_errors(run.path):
        run.path.mkdir(parents=True, exist_ok=True)
    lock = RunLock(run)
    dead = lock.acquire()
    try:
        if campaign is not None:
            _write_if_changed(run.campaign, campaign)
            _write_if_changed(run.plan, plan.to_json())
        journal = Journal(run.journal)
        try:
            yield Session(run, lock, journal, dead)
        finally:
            journal.close()
    finally:
        lock.release()


def executor_of(plan: Plan, run: RunDirectory) -> LocalExecutor:
    """Return the executor that the plan names, not yet started."""
    return LocalExecutor(run, plan.machine, plugins=plan.plugins, preload=plan.preload)


def started_executor(plan: Plan, run: RunDirectory) -> Executor:
    """Return the executor that the plan names, on its way."""
    executor = executor_of(plan, run)
    executor.start()
    return executor


def registry_of(plan: Plan, run: RunDirectory) -> Registry:
    """Return the kinds of a run: those installed, of its plug-ins, and those its campaign file declares."""
    registry = Registry.load(plan.plugins)
    registry.declare(replace(read_document(run.campaign, plan.settings), path=plan.source))
    return registry


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        write_atomically(path, text)
