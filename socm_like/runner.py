"""The only loop: ready -> submit -> poll -> journal. One runner per run, made sure of by its lock."""

from __future__ import annotations

import heapq
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from socm_like.errors import StoreError
from socm_like.executors.base import Attempt, Executor, Launch
from socm_like.identity import FileDigests, digest_cache
from socm_like.journal import Event, Journal, Record, TaskState, event_at, replay, store_errors
from socm_like.outcome import changed_input, conclude, find_result, prepare
from socm_like.plan import Plan, upward_ranks
from socm_like.store import RunDirectory, RunLock
from socm_like.task import Task

POLL = 0.25
"""Longest wait for news, in seconds; requests and interrupts are looked at in between."""
AHEAD = 128
"""Attempts handed over beyond the machine's cores, so that no core waits for this process."""
COMMIT = 0.5
"""Longest time in seconds that news waits to be synced; launches wait for the sync of their intent."""


class Watcher(Protocol):
    """Whoever wants to see the run go by."""

    def saw(self, event: Event, record: Record) -> None:
        """Take note of an event that was journalled and of what its task now amounts to."""

    def tick(self) -> None:
        """Use the chance to draw; called four times a second."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run stands when the runner leaves it."""

    records: Mapping[str, Record]
    interrupted: bool

    @property
    def counts(self) -> Counter[TaskState]:
        """How many tasks are in each state."""
        return Counter(record.state for record in self.records.values())

    @property
    def succeeded(self) -> bool:
        """Whether every task is done or cached."""
        return all(record.state.is_success for record in self.records.values())


@dataclass
class Runner:
    """Brings every task of a plan to a final state. Whoever makes it holds the run's lock."""

    plan: Plan
    run: RunDirectory
    journal: Journal
    lock: RunLock
    open_executor: Callable[[], Executor]
    watcher: Watcher
    clock: Callable[[], float] = time.time
    interrupted: bool = False
    """Set from a signal handler: stop launching, cancel what runs, leave."""

    tasks: dict[str, Task] = field(init=False)
    records: dict[str, Record] = field(init=False)

    def __post_init__(self) -> None:
        self.tasks = {task.name: task for task in self.plan.tasks}
        replayed = replay(self.journal.events)
        self.records = {name: replayed.get(name) or Record() for name in self.tasks}
        self._children: dict[str, list[str]] = {name: [] for name in self.tasks}
        for task in self.plan.tasks:
            for parent in task.dependencies:
                self._children[parent].append(task.name)
        self._missing = {task.name: len(task.dependencies) for task in self.plan.tasks}
        self._ranks = upward_ranks(self.plan.tasks)
        self._ready: list[tuple[float, int, str]] = []
        self._order = {name: index for index, name in enumerate(self.tasks)}
        self._in_flight: set[str] = set()
        self._same: dict[str, list[str]] = {}
        """Identity in flight -> further tasks that want the same result."""
        self._failures: Counter[str] = Counter()
        self._unwritten: list[Event] = []
        self._uncommitted = False
        self._committed = 0.0
        self._executor: Executor | None = None
        self._cancelling = False
        self._folders: set[str] = set()
        self._digests = FileDigests(digest_cache(self.plan.store))
        self._grace = self.plan.execution.grace.total_seconds()
        self._looked_at_requests = 0.0

    def go(self, retry: Iterable[str] = (), cancel: Sequence[str] = ()) -> Outcome:
        """Run until every task is final or the run is interrupted; names in ``retry`` are attempted again.

        With ``cancel``, those tasks are ended where they run or wait, and nothing is started.

        Raises StoreError when the disk refuses: tasks that run go on, and submitting again finds them.
        """
        try:
            self._take_up(set(retry), revive=not cancel)
            if cancel:
                self._cancel(cancel, "cancelled on request")
                self._cancelling = True
            while True:
                self._look_around()
                self._launch()
                if not self._in_flight:
                    break
                for event in self._engine().poll(POLL):
                    self._observe(event)
                self.watcher.tick()
            self._write(commit=True)
        finally:
            if self._executor is not None:
                self._executor.close()
        return Outcome(self.records, self._cancelling)

    # taking up

    def _take_up(self, retry: set[str], *, revive: bool) -> None:
        """Bring the replayed state up to date: what still stands, what is tried again, what became of launches."""
        open_attempts = []
        for task in self.plan.tasks:
            record = self.records[task.name]
            if record.state in (TaskState.QUEUED, TaskState.RUNNING):
                open_attempts.append(Attempt(task.name, record.attempt))
                self._in_flight.add(task.name)
                self._same.setdefault(task.id, [])
            elif revive and self._is_to_be_tried_again(task, record, retry):
                self._note(task.name, TaskState.PLANNED, next_attempt=True)
        for task in self.plan.tasks:
            parents = [self.records[parent] for parent in task.dependencies]
            self._missing[task.name] = sum(not parent.state.is_success for parent in parents)
            if not self.records[task.name].state.is_final and task.name not in self._in_flight:
                if any(parent.state.is_final and not parent.state.is_success for parent in parents):
                    self._skip(task.name)
                elif self._missing[task.name] == 0:
                    self._make_ready(task.name)
        if open_attempts:
            for event in self._engine().recover(open_attempts):
                self._observe(event)

    def _is_to_be_tried_again(self, task: Task, record: Record, retry: set[str]) -> bool:
        if record.state.is_success:
            return find_result(task, self.plan.store) is None
        if record.state in (TaskState.CANCELLED, TaskState.LOST, TaskState.NODE_FAIL):
            return True
        if record.state is TaskState.SKIPPED:
            parents = [self.records[parent].state for parent in task.dependencies]
            return all(state.is_success or not state.is_final for state in parents)
        return record.state.is_final and task.name in retry

    def _make_ready(self, name: str) -> None:
        heapq.heappush(self._ready, (-self._ranks[name], self._order[name], name))

    # launching

    def _launch(self) -> None:
        """Hand over as many ready tasks as the machine can take soon."""
        cores = len(self.plan.machine.cores)
        room = cores + AHEAD - len(self._in_flight)
        if len(self._in_flight) < cores:  # cores idle: a few at once, the rest while those run
            room -= self._hand_over(cores - len(self._in_flight))
        if room >= AHEAD // 2:  # hand over in large pieces: each costs a sync
            self._hand_over(room)
        self._write(commit=time.monotonic() - self._committed > COMMIT)

    def _hand_over(self, room: int) -> int:
        """Hand over ready tasks with their intent on disk first; return how many."""
        launches: list[Launch] = []
        while self._ready and len(launches) < room and not self._cancelling:
            _, _, name = heapq.heappop(self._ready)
            task = self.tasks[name]
            if self.records[name].state.is_final:
                continue
            if task.id in self._same:
                self._same[task.id].append(name)
            elif find_result(task, self.plan.store) is not None:
                self._finish(name, TaskState.CACHED)
            elif problem := changed_input(task, self._digests):
                self._finish(name, TaskState.INVALID, problem)
            else:
                self._engine()  # starts while the first directories are made
                launches.append(self._prepare(task))
                self._same[task.id] = []
                self._in_flight.add(name)
                self._note(name, TaskState.QUEUED)
        if launches:
            self._write(commit=True)
            self._engine().submit(launches)
        return len(launches)

    def _prepare(self, task: Task) -> Launch:
        partial = self.run.partial(task.folder)
        number = self.records[task.name].attempt
        stdout = self.run.log(task.workflow, task.name, number, "out")
        for folder in (partial[: partial.rindex("/")], str(stdout.parent)):
            if folder not in self._folders:
                with store_errors(folder):
                    os.makedirs(folder, exist_ok=True)
                self._folders.add(folder)
        prepare(task, partial, self.plan.plugins)
        return Launch(
            attempt=Attempt(task.name, number),
            argv=task.argv,
            directory=Path(partial),
            stdout=stdout,
            stderr=stdout.with_suffix(".err"),
            resources=task.resources,
            environment=task.environment,
            priority=self._ranks[task.name],
            grace=self._grace,
        )

    def _engine(self) -> Executor:
        if self._executor is None:
            self._executor = self.open_executor()
        return self._executor

    # news

    def _observe(self, event: Event) -> None:
        """Take in one observation; what ended is concluded, retried or passed on to its descendants."""
        record = self.records.get(event.task)
        if record is None or event.attempt != record.attempt or record.state.is_final:
            return  # news of an attempt that is over
        if not event.state.is_final:
            if record.state is not event.state:
                self._record(event)
            return
        task = self.tasks[event.task]
        event = conclude(
            task, event, record.started, self.run.partial(task.folder), store=self.plan.store, digests=self._digests
        )
        self._in_flight.discard(task.name)
        followers = self._same.pop(task.id, [])
        if self._deserves_another_try(event):
            self._record(event)
            self._note(task.name, TaskState.PLANNED, next_attempt=True)
            self._make_ready(task.name)
        else:
            self._record(event)
            self._pass_on(task.name)
        for name in followers:
            self._make_ready(name)

    def _deserves_another_try(self, event: Event) -> bool:
        if event.state.is_success or self._cancelling:
            return False
        execution = self.plan.execution
        limit = {
            TaskState.FAILED: execution.retries,
            TaskState.LOST: execution.lost_retries,
            TaskState.NODE_FAIL: execution.lost_retries,
        }.get(event.state, 0)
        self._failures[event.task] += 1
        return self._failures[event.task] <= limit

    def _finish(self, name: str, state: TaskState, reason: str | None = None) -> None:
        """Give a task that does not run its final state."""
        self._note(name, state, reason=reason)
        self._pass_on(name)

    def _pass_on(self, name: str) -> None:
        """Let the children of a task that has just ended go, or skip them."""
        is_success = self.records[name].state.is_success
        for child in self._children[name]:
            if self.records[child].state.is_final:
                continue
            if is_success:
                self._missing[child] -= 1
                if self._missing[child] == 0:
                    self._make_ready(child)
            else:
                self._skip(child)

    def _skip(self, name: str) -> None:
        """Mark a task and all that depend on it as skipped, each naming the ancestor to blame."""
        stack = [name]
        while stack:
            skipped = stack.pop()
            if self.records[skipped].state.is_final:
                continue
            blamed = self._blame(skipped)
            self._note(skipped, TaskState.SKIPPED, reason=f"needs {blamed}, which is {self.records[blamed].state}")
            stack.extend(self._children[skipped])

    def _blame(self, name: str) -> str:
        for parent in self.tasks[name].dependencies:
            state = self.records[parent].state
            if state is TaskState.SKIPPED:
                return self._blame(parent)
            if state.is_final and not state.is_success:
                return parent
        raise AssertionError(f"{name} has no failed ancestor")

    # requests and interrupts

    def _look_around(self) -> None:
        self.lock.sign()
        if self.interrupted and not self._cancelling:
            self._cancel(list(self.tasks), "interrupted")
            self._cancelling = True
        now = time.monotonic()
        if now - self._looked_at_requests >= POLL:
            self._looked_at_requests = now
            for request in read_requests(self.run):
                self._cancelling = self._cancelling or not request
                self._cancel(request or list(self.tasks), "cancelled on request")

    def _cancel(self, names: Sequence[str], reason: str) -> None:
        running = [name for name in names if name in self._in_flight]
        for name in names:
            if name in self.records and name not in self._in_flight and not self.records[name].state.is_final:
                self._note(name, TaskState.CANCELLED, reason=reason)
        for name in names:
            if name in self.records and self.records[name].state is TaskState.CANCELLED:
                self._pass_on(name)
        if running:
            self._engine().cancel([Attempt(name, self.records[name].attempt) for name in running])

    # journal

    def _note(self, name: str, state: TaskState, reason: str | None = None, *, next_attempt: bool = False) -> None:
        number = self.records[name].attempt + next_attempt
        self._record(event_at(self.clock(), name, number, state, reason=reason))

    def _record(self, event: Event) -> None:
        self.records[event.task].apply(event)
        self._unwritten.append(event)
        self.watcher.saw(event, self.records[event.task])

    def _write(self, *, commit: bool) -> None:
        """Write the news; sync when asked to, and when there is something new to sync."""
        if self._unwritten:
            self.journal.append(self._unwritten)
            self._unwritten.clear()
            self._uncommitted = True
        if commit and self._uncommitted:
            self.journal.commit()
            self._uncommitted = False
            self._committed = time.monotonic()


def read_requests(run: RunDirectory) -> list[list[str]]:
    """Return what other processes asked to be cancelled, oldest first, and take it off the pile.

    Each request is a list of task names; an empty list means the whole run.
    """
    try:
        paths = sorted(run.requests.iterdir())
    except FileNotFoundError:
        return []
    requests = []
    for path in paths:
        if path.suffix == ".json":
            try:
                requests.append([str(name) for name in json.loads(path.read_bytes())["cancel"]])
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"{path}: not a request of ours; remove the file") from error
            path.unlink()
    return requests


def write_request(run: RunDirectory, tasks: Sequence[str]) -> None:
    """Ask whoever runs this run to cancel tasks; none named means all."""
    run.requests.mkdir(exist_ok=True)
    name = f"{time.time_ns()}-{os.getpid()}"
    temporary = run.requests / f"{name}.tmp"
    temporary.write_text(json.dumps({"cancel": list(tasks)}))
    temporary.rename(run.requests / f"{name}.json")
