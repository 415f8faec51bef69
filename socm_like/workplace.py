"""Where attempts work: their directories and logs, made before they are launched."""

from __future__ import annotations

import os
from collections.abc import Mapping
from os.path import basename
from pathlib import Path

from socm_like.batch import of_member
from socm_like.executors.base import Attempt, Launch
from socm_like.experience import Foresight, experience_of
from socm_like.identity import FileDigests
from socm_like.journal import Event, Record, store_errors
from socm_like.measurements import InputSizes, Recorder, measurement_of
from socm_like.outcome import Place, changed_input, conclude, find_result, prepare
from socm_like.plan import Plan
from socm_like.shared import Batch
from socm_like.sizes import memory_of
from socm_like.store import RunDirectory
from socm_like.task import Task
from socm_like.waiting import next_pieces


class Workplace:
    """The directories that the attempts of one run work in, and what they leave there."""

    def __init__(self, plan: Plan, run: RunDirectory, digests: FileDigests) -> None:
        self._plan = plan
        self._run = run
        self._digests = digests
        self._grace = plan.execution.grace.total_seconds()
        self._recorder = Recorder(run)
        self._inputs = InputSizes()
        kinds = {task.kind for task in plan.tasks}
        self.foresight = Foresight(lambda: experience_of(plan.store, kinds))
        """How long tasks are expected to take, by those that have ended here."""
        self._folders: set[str] = set()
        """Folders that are known to exist."""

    def prepare(self, batch: Batch, attempts: Mapping[str, int], priority: float) -> Launch:
        """Make the directories of the tasks of one process; return how to launch it.

        ``attempts`` holds the number of each task's present attempt. Raises StoreError.
        """
        leader = batch.tasks[0]
        out, err = (self._run.log(leader.workflow, leader.name, attempts[leader.name], end) for end in ("out", "err"))
        partials = [self._run.partial(task.folder) for task in batch.tasks]
        for task, partial in zip(batch.tasks, partials, strict=True):
            self._make(partial[: partial.rindex("/")])
            self._make(str(self._run.log(task.workflow, task.name, 1, "out").parent))
            prepare(task, partial, self._plan.plugins, partials if task is leader and len(partials) > 1 else ())
            if task is not leader:
                for shared in (out, err):
                    _link(self._run.log(task.workflow, task.name, attempts[task.name], shared.suffix[1:]), shared)
        if leader.batch:
            _unlink(out, err)
        return Launch(
            attempt=Attempt(leader.name, attempts[leader.name]),
            argv=leader.argv,
            directory=Path(partials[0]),
            stdout=out,
            stderr=err,
            resources=batch.resources,
            environment=leader.environment,
            priority=priority,
            grace=self._grace,
            reserved_memory=_reserved(batch),
        )

    def has_result(self, task: Task) -> bool:
        """Whether a finished result of this very task is there."""
        return find_result(task, self._plan.store) is not None

    def changed_input(self, task: Task) -> str:
        """Return which input is no longer what the task's identity says it is, or an empty string."""
        return changed_input(task, self._digests)

    def conclude(self, task: Task, event: Event, record: Record, *, replaces: bool) -> Event:
        """Return what an attempt that ended amounts to, its result in its place; see :func:`outcome.conclude`.

        What it used is on record then, too. ``record`` is the task's before the event.
        """
        place = Place(self._run.partial(task.folder), self._plan.store, replaces)
        is_cut = next_pieces(record, event.state) is not None  # by the end of a window: no limit was too low
        measured = None if is_cut else measurement_of(task, record, event, self._inputs.of(task.inputs))
        sizes = {} if measured is None else measured.sizes()
        ended = conclude(task, event, record, place, self._digests, sizes=sizes)
        if measured is not None and ended.state is event.state:
            self._recorder.add(measured)
            self.foresight.take(task, measured)
        return ended

    def event_of_member(self, event: Event, task: Task, record: Record) -> Event:
        """Return what the end or the progress of a process that tasks share means for one of them."""
        return of_member(event, task.name, record, self._run.partial(task.folder), f"{self._plan.store}/{task.folder}")

    def _make(self, folder: str) -> None:
        if folder not in self._folders:
            with store_errors(folder):
                os.makedirs(folder, exist_ok=True)
            self._folders.add(folder)


def _reserved(batch: Batch) -> int | None:
    """Return the bytes to keep free for a process, where that is not its limit: what tasks like it needed."""
    leader = batch.tasks[0]
    is_as_planned = len(batch.tasks) == 1 and batch.resources.memory == leader.resources.memory
    return memory_of(leader) if is_as_planned else None


def _unlink(*logs: Path) -> None:
    """Make way for logs: a link that an earlier journal's attempt left would lead into the log of another task."""
    for log in logs:
        with store_errors(log):
            log.unlink(missing_ok=True)


def _link(log: Path, shared: Path) -> None:
    """Let the log of a task be that of the process it shares."""
    _unlink(log)
    with store_errors(log):
        target = basename(shared) if log.parent == shared.parent else os.path.relpath(shared, log.parent)
        os.symlink(target, log)
