"""The only loop: ready -> submit -> poll -> journal. One runner per run, made sure of by its lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from socm_like.batch import batch_detail
from socm_like.clock import LONGEST_WAIT, Clock
from socm_like.executors.base import Attempt, Executor, Launch
from socm_like.flight import Flight
from socm_like.frontier import Frontier
from socm_like.growth import Retries
from socm_like.identity import FileDigests, digest_cache
from socm_like.journal import Event, Journal, Record, TaskState
from socm_like.ledger import Ledger, Outcome, Watcher
from socm_like.neighbours import Neighbours
from socm_like.outcome import is_to_be_tried_again
from socm_like.plan import Plan
from socm_like.quota import Quota
from socm_like.registry import Registry
from socm_like.requests import read_requests
from socm_like.searches import Searches, forget_trials, written_trials
from socm_like.shared import Batch, batches
from socm_like.store import RunDirectory, RunLock
from socm_like.task import Task
from socm_like.waiting import Waiting, next_pieces, request_now
from socm_like.workplace import Workplace

AHEAD = 128
"""Attempts handed over beyond the machine's cores, so that no core waits for this process."""


@dataclass
class Runner:
    """Brings every task of a plan to a final state. Whoever makes it holds the run's lock."""

    plan: Plan
    run: RunDirectory
    journal: Journal
    lock: RunLock
    open_executor: Callable[[], Executor]
    open_registry: Callable[[], Registry]
    """Returns the kinds; asked for only where a search or a batch needs them."""
    watcher: Watcher
    clock: Clock = field(default_factory=Clock)
    workplace: Workplace | None = None
    """Where attempts work; by default directories of the store."""
    interrupted: bool = False
    """Set from a signal handler: stop launching, cancel what runs, leave."""

    tasks: dict[str, Task] = field(init=False)
    records: dict[str, Record] = field(init=False)

    def __post_init__(self) -> None:
        self.tasks = {task.name: task for task in (*self.plan.tasks, *written_trials(self.run))}
        self._ledger = Ledger(self.journal, self.watcher, self.clock.time, self.tasks)
        self.records = self._ledger.records
        self._frontier = Frontier(tuple(self.tasks.values()), self.plan.policy.priority)
        digests = FileDigests(digest_cache(self.plan.store))
        self._flight = Flight()
        self._same: dict[str, list[str]] = {}
        """Identity in flight, or of an open search -> further tasks that want the same result."""
        self._waiting = Waiting(self.plan.window, self.clock.time)
        self._searches = Searches(self.plan, self.run, digests)
        self._quota = Quota(self.plan.policy, self.tasks, self.journal.events)
        self._retries = Retries(self.plan.execution, self.plan.machine)
        self._executor: Executor | None = None
        self._kinds = cache(self.open_registry)
        self._cancelling = False
        self._workplace = self.workplace or Workplace(self.plan, self.run, digests)
        self._looked_at_requests = 0.0
        self._is_time_to_look = False

    def go(self, retry: Iterable[str] = (), cancel: Sequence[str] = (), *, fresh: bool = False) -> Outcome:
        """Run until every task is final or the run is interrupted; names in ``retry`` are attempted again.

        With ``cancel``, those tasks are ended where they run or wait, and nothing is started. With ``fresh``, every
        task is computed again, whatever results there are.

        Raises StoreError when the disk refuses: tasks that run go on, and submitting again finds them.
        """
        try:
            if fresh:
                self._begin_anew()
            self._take_up(set(retry), revive=not cancel)
            if cancel:
                self._cancel(cancel, "cancelled on request")
                self._cancelling = True
            self._ledger.write()  # a neighbour reads there what this run will try again
            self._waiting.neighbours = Neighbours(self.run, self.lock.take_turn())
            while True:
                self._look_around()
                self._drive_searches()
                self._launch()
                if not self._flight:
                    for name, why in self._quota.refused():
                        self._finish(name, TaskState.CANCELLED, why)
                if not (self._flight or self._waiting or self._searches or self._quota):
                    break
                wait = min(self.clock.longest_wait, self._waiting.pause())
                if self._flight:
                    for event in self._engine().poll(wait):
                        self._observe(event)
                elif self._waiting:
                    self.clock.sleep(wait)
                self.watcher.tick()
            self._ledger.write(commit=True)
        finally:
            if self._executor is not None:
                self._executor.close()
        trials = {name: task for name, task in self.tasks.items() if task.trial_of}
        return Outcome(self.records, trials, self._cancelling)

    # taking up

    def _take_up(self, retry: set[str], *, revive: bool) -> None:
        """Bring the replayed state up to date: what still stands, what is tried again, what became of launches."""
        open_attempts: dict[Attempt, None] = {}
        for task in self.tasks.values():
            record = self.records[task.name]
            if record.state in (TaskState.QUEUED, TaskState.RUNNING):
                open_attempts[self._flight.take_up(task.name, record)] = None
                self._quota.go_on(task, record)
                self._same.setdefault(task.id, [])
            elif revive and is_to_be_tried_again(task, self.records, retry, self.plan.store):
                more = self._retries.on_request(task, record)
                self._ledger.begin_again(task.name, fresh=self._ledger.is_fresh(task), more=more)
            elif record.state is TaskState.DONE and self._ledger.is_fresh(task):
                self._ledger.renewed.add(task.id)
        for task in self.tasks.values():
            parents = [self.records[parent] for parent in task.dependencies]
            missing = self._frontier.count_missing(task, self.records)
            if not self.records[task.name].state.is_final and task.name not in self._flight:
                if any(parent.state.is_final and not parent.state.is_success for parent in parents):
                    self._skip(task.name)
                elif missing == 0:
                    self._frontier.push(task.name)
        if open_attempts:
            for event in self._engine().recover(list(open_attempts)):
                self._observe(event)

    def _begin_anew(self) -> None:
        """Begin a fresh attempt at every task, and the searches from nothing; what still runs is ended first."""
        self._take_up(set(), revive=False)
        self._end(self._flight.names, TaskState.CANCELLED, "computed anew")
        while self._flight:
            for event in self._engine().poll(self.clock.longest_wait):
                self._observe(event)
        self._same.clear()
        self._ledger.renewed.clear()
        for task in self.plan.tasks:
            self._ledger.begin_again(task.name, fresh=True)
        self._ledger.write(commit=True)  # before anything is removed
        forget_trials(self.run, self.plan.tasks)
        for name in [name for name, task in self.tasks.items() if task.trial_of]:
            del self.tasks[name]
        self._ledger.set_aside(self.tasks)
        self._frontier = Frontier(self.plan.tasks, self.plan.policy.priority)

    # launching

    def _launch(self) -> None:
        """Hand over as many ready tasks as the machine can take soon."""
        cores = len(self.plan.machine.cores)
        processes = self._flight.processes
        room = cores + AHEAD - processes
        if processes < cores:  # cores idle: a few at once, the rest while those run
            room -= self._hand_over(cores - processes)
        if room >= AHEAD // 2:  # hand over in large pieces: each costs a sync
            self._hand_over(room)
        self._ledger.write()

    def _hand_over(self, room: int) -> int:
        """Hand over ready tasks with their intent on disk first; return how many processes that makes."""
        launches: list[Launch] = []
        for free in (*self._waiting.released(), *self._quota.released()):
            self._frontier.push(free)
        while len(launches) < room and not self._cancelling:
            name = self._frontier.pop()
            if name is None:
                break
            if not self._is_to_be_launched(name):
                continue
            self._engine()  # starts while the first directories are made
            launches.extend(self._prepare_all(name))
        if launches:
            self._ledger.write(commit=True)
            self._engine().submit(launches)
        return len(launches)

    def _is_to_be_launched(self, name: str) -> bool:
        """Whether a ready task has to run; otherwise it has got another state, or a place to wait."""
        task = self.tasks[name]
        if self.records[name].state.is_final:
            return False
        if task.id in self._same and not self._searches.is_over(name):
            self._same[task.id].append(name)
        elif self._ledger.takes_results(task) and self._workplace.has_result(task):
            self._finish(name, TaskState.CACHED)
        elif problem := self._workplace.changed_input(task):
            self._finish(name, TaskState.INVALID, problem)
        elif (wait := self._waiting.reason(task, self.records[name])) is not None:
            if wait.state.is_final:
                self._finish(name, wait.state, wait.detail["reason"])
            elif wait.state is not self.records[name].state:
                self._ledger.note(name, wait.state, **wait.detail)
        elif task.search is not None and not self._searches.is_over(name):
            self._same[task.id] = []
            trials = [trial for trial in self.tasks.values() if trial.trial_of == name]
            if problem := self._searches.open(task, trials, self._kinds):
                self._finish(name, TaskState.FAILED, problem)
        elif self._quota.start(task, self.records[name]):
            self._same.setdefault(task.id, [])
            return True
        return False

    def _prepare_all(self, name: str) -> list[Launch]:
        """Return the launch of a task; where it can share a process, those of all ready tasks that can share it."""
        task = self.tasks[name]
        names = [name]
        if task.batch and not self.records[name].wishes("alone"):
            names += self._frontier.take(task.batch, self._is_to_be_launched)
        alone = [n for n in names if len(names) == 1 or self.records[n].wishes("alone")]
        found = [Batch((self.tasks[n],), request_now(self.tasks[n], self.records[n], self.clock.time())) for n in alone]
        if together := [self.tasks[n] for n in names if n not in alone]:
            found += batches(together, self._kinds(), self.plan.machine, self.plan.execution.batch_size)
        return [self._prepare(batch) for batch in found]

    def _prepare(self, batch: Batch) -> Launch:
        """Make the directories of a process, and journal that its tasks are about to be launched."""
        attempts = {task.name: self.records[task.name].attempt for task in batch.tasks}
        leader = (batch.tasks[0].name, attempts[batch.tasks[0].name])
        launch = self._workplace.prepare(batch, attempts, max(self._frontier.urgency(name) for name in attempts))
        detail = batch_detail(leader, len(attempts)) if len(attempts) > 1 else {}
        self._flight.start(leader, attempts)
        for name in attempts:
            self._ledger.note(name, TaskState.QUEUED, **detail)
        return launch

    def _engine(self) -> Executor:
        if self._executor is None:
            self._executor = self.open_executor()
        return self._executor

    # news

    def _observe(self, event: Event) -> None:
        """Take in one observation; of a process that tasks share, for each of them."""
        members = self._flight.concerned(event)
        if members is None:
            self._take_in(event)
            return
        for name in members:
            told = self._workplace.event_of_member(event, self.tasks[name], self.records[name])
            self._take_in(told, alone=event.state not in (TaskState.LOST, TaskState.NODE_FAIL))

    def _take_in(self, event: Event, *, alone: bool = False) -> None:
        """Take in what happened to one task; what ended is concluded, retried or passed on to its descendants."""
        record = self.records.get(event.task)
        if record is None or event.attempt != record.attempt or record.state.is_final:
            return  # news of an attempt that is over
        if not event.state.is_final:
            if record.state is not event.state:
                self._ledger.record(event)
                self._quota.saw(event)
            return
        task = self.tasks[event.task]
        is_fresh = self._ledger.is_fresh(task)
        event = self._workplace.conclude(task, self._flight.as_asked(event), record, replaces=is_fresh)
        self._flight.land(task.name)
        self._quota.saw(event)
        self._quota.end(task)
        if is_fresh and event.state is TaskState.DONE:
            self._ledger.renewed.add(task.id)
        is_bystander = self._flight.is_unasked(event)
        is_suspect = alone and event.state is TaskState.LOST
        is_wanted = event.state.is_success or self._cancelling or self._flight.is_to_end(task.name)
        more = {} if is_bystander or is_suspect else None if is_wanted else self._next_request(task, event)
        if more is not None:  # nobody in this session wanted it to end
            self._ledger.record(event)
            is_alone = is_suspect or record.wishes("alone") or bool(more)
            self._ledger.begin_again(task.name, fresh=is_fresh, alone=is_alone, more=more)
            self._frontier.push(task.name)
        else:
            self._ledger.record(event)
            self._pass_on(task.name)
        self._flight.forget_request(task.name)
        self._release(task)

    def _next_request(self, task: Task, event: Event) -> Mapping[str, Any] | None:
        """Return what the attempt after one that ended badly asks for, or None where there is to be none."""
        record = self.records[task.name]
        rest = next_pieces(record, event.state)
        return self._retries.after(task, record, event) if rest is None else rest

    def _release(self, task: Task) -> None:
        """Let those go on that waited for the result of this task."""
        for name in self._same.pop(task.id, []):
            self._frontier.push(name)

    def _finish(self, name: str, state: TaskState, reason: str | None = None) -> None:
        """Give a task that does not run its final state."""
        self._ledger.note(name, state, reason=reason)
        self._pass_on(name)
        self._release(self.tasks[name])

    def _pass_on(self, name: str) -> None:
        """Let the children of a task that has just ended go, or skip them."""
        is_success = self.records[name].state.is_success
        self._searches.tell(self.tasks[name].trial_of)
        for child in self._frontier.children(name):
            if self.records[child].state.is_final:
                continue
            if not is_success:
                self._skip(child)
            elif self._frontier.satisfy(child):
                self._frontier.push(child)

    def _skip(self, name: str) -> None:
        """Mark a task and all that depend on it as skipped, each naming the ancestor to blame."""
        for skipped in self._frontier.below(name):
            if not self.records[skipped].state.is_final:
                blamed = self._frontier.blame(skipped, self.records)
                reason = f"needs {blamed}, which is {self.records[blamed].state}"
                self._ledger.note(skipped, TaskState.SKIPPED, reason=reason)

    # searches

    def _drive_searches(self) -> None:
        """Tell the searches what has happened, and do what they ask for."""
        if self._cancelling:
            self._searches.close()
            return
        for wish in self._searches.ask(self.records, whom_to_stop=self._is_time_to_look):
            for trial in wish.trials:
                self._add(trial)
            self._end(wish.stops, TaskState.PRUNED, "its search has seen better")
            if wish.problem:
                self._finish(wish.search, TaskState.FAILED, wish.problem)
            elif wish.is_over:
                self._frontier.push(wish.search)

    def _add(self, task: Task) -> None:
        """Take in a task that a search has just asked for."""
        self.tasks[task.name] = task
        self._frontier.add(task)
        if self._ledger.begin(task.name) or self._ledger.is_fresh(task):
            self._ledger.begin_again(task.name, fresh=self._ledger.is_fresh(task))
        self._frontier.push(task.name)

    # requests and interrupts

    def _look_around(self) -> None:
        self.lock.sign()
        if self.interrupted and not self._cancelling:
            self._cancel(list(self.tasks), "interrupted")
            self._cancelling = True
        now = time.monotonic()
        self._is_time_to_look = now - self._looked_at_requests >= LONGEST_WAIT
        if self._is_time_to_look:
            self._looked_at_requests = now
            self._look_ahead()
            for request in read_requests(self.run):
                self._cancelling = self._cancelling or not request
                self._cancel(request or list(self.tasks), "cancelled on request")

    def _look_ahead(self) -> None:
        """Order anew what waits, where tasks that have ended teach that others take longer or shorter than planned."""
        foresight = self._workplace.foresight
        waiting = (
            t for t in self.tasks.values() if t.name not in self._flight and not self.records[t.name].state.is_final
        )
        if foresight.update(waiting):
            self._frontier.rerank(list(self.tasks.values()), foresight.seconds_of)

    def _cancel(self, asked: Sequence[str], reason: str) -> None:
        """End tasks, and with a search the trials it has asked for."""
        wanted = set(asked)
        names = [*asked, *(task.name for task in self.tasks.values() if task.trial_of in wanted)]
        self._searches.close(asked)
        self._end(names, TaskState.CANCELLED, reason)
        for name in names:
            self._waiting.forget(name)
            self._quota.forget(name)
            if name in self.records and name not in self._flight and not self.records[name].state.is_final:
                self._ledger.note(name, TaskState.CANCELLED, reason=reason)
        for name in names:
            if name in self.records and self.records[name].state is TaskState.CANCELLED:
                self._pass_on(name)
                if self.tasks[name].search is not None:
                    self._release(self.tasks[name])

    def _end(self, names: Sequence[str], state: TaskState, reason: str) -> None:
        """Ask for tasks in flight to be ended; with each goes the process it shares."""
        if attempts := self._flight.ask_to_end(names, self.records, state, reason):
            self._engine().cancel(attempts)
