"""How a run stands: its plan and a replay of its journal, whether or not anybody is working on it.

Standard library only, so that ``campaign status`` starts at once.
"""

from __future__ import annotations

import gc
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from socm_like.batch import leader_of, of_member
from socm_like.contract import RESULT, broken_contract
from socm_like.errors import StoreError, UsageError, listed, suggest
from socm_like.executors.launcher_log import observe
from socm_like.journal import Event, Record, TaskState, read_events, replay
from socm_like.store import Holder, RunDirectory, read_holder
from socm_like.units import parse_instant

PLAN_SCHEMA = 1
FAILURES = frozenset(
    {
        TaskState.FAILED, TaskState.TIMEOUT, TaskState.OOM,
        TaskState.NODE_FAIL, TaskState.LOST, TaskState.INVALID,
    }
)  # fmt: skip
"""What went wrong by itself: neither asked for (cancelled) nor only a consequence (skipped)."""

_OPEN = frozenset({TaskState.QUEUED, TaskState.RUNNING})


class RunState(StrEnum):
    """Where a whole run stands."""

    RUNNING = "running"
    """A live process holds it."""
    DONE = "done"
    """Every task is done or cached."""
    FAILED = "failed"
    """Finished, and some task went wrong."""
    CANCELLED = "cancelled"
    """Finished, nothing went wrong, but some task was withdrawn."""
    INTERRUPTED = "interrupted"
    """Not finished, and nobody works on it."""


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task: what the plan says about it, and what has become of it."""

    task: str
    workflow: str
    kind: str
    id: str
    state: TaskState
    attempts: int
    """How many were launched."""
    reason: str | None
    attempt: int | None
    """The last attempt that was launched, which is the one whose logs matter; None when there was none."""
    started: str | None
    """ISO-8601 UTC; None when the present attempt has not run."""
    ended: str | None
    """ISO-8601 UTC; None before the end."""
    folder: str
    """Where its outputs are, relative to the store."""
    dependencies: tuple[str, ...]
    cores: int
    memory: int
    """Bytes kept free for it; 0 when nobody knows."""
    gpus: int
    expected: float | None
    """Seconds it was planned to take: as stated, learned or estimated; None when nobody knows."""
    parameters: Mapping[str, Any]
    held_until: float | None = None
    """Seconds since the epoch; None unless it is held."""
    ancestors: Mapping[str, str] = field(default_factory=dict)
    """Workflow -> the task of it that a ``for_each`` or a shared sweep led here from."""
    swept: tuple[str, ...] | None = None
    """The parameters that a sweep or a ``for_each`` varied; None when the plan does not say."""
    trial_of: str = ""
    """The search that asked for it while the run went on."""
    cpu: float | None = None
    """Seconds of all cores that the present attempt used; None before its end, or when nobody measured."""
    peak_memory: int | None = None
    """Bytes; None like ``cpu``."""
    peak_gpu_memory: int | None = None
    """Bytes of the GPU of which it used most; None like ``cpu``, and where no GPU was used."""

    def to_json(self) -> dict[str, Any]:
        """Return the part that ``--json`` promises."""
        return {
            "task": self.task,
            "workflow": self.workflow,
            "kind": self.kind,
            "id": self.id,
            "state": self.state.value,
            "attempts": self.attempts,
            "reason": self.reason,
        }

    def runtime(self, now: float) -> float | None:
        """Return the seconds the present attempt has run, or None when it has not started."""
        if self.started is None:
            return None
        return max(0.0, (now if self.ended is None else parse_instant(self.ended)) - parse_instant(self.started))


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One run at one moment."""

    directory: RunDirectory
    campaign: str
    source: Path
    """The campaign file it was submitted from."""
    capacity: tuple[int, int, int]
    """Cores, bytes of memory and GPUs of the machine it was planned for."""
    deadline: float | None
    """Seconds from its start, as the campaign states it."""
    state: RunState
    holder: Holder | None
    started: str | None
    """ISO-8601 UTC of the first news; None before any."""
    last_news: str | None
    """ISO-8601 UTC of the latest news."""
    tasks: tuple[TaskStatus, ...]
    """In the order of the plan: each after the tasks it depends on."""

    @property
    def run(self) -> str:
        """The run's name."""
        return self.directory.name

    @property
    def counts(self) -> Counter[TaskState]:
        """How many tasks are in each state."""
        return Counter(task.state for task in self.tasks)

    @property
    def failures(self) -> tuple[TaskStatus, ...]:
        """The tasks that went wrong; how a trial ends is for its search to judge."""
        return tuple(task for task in self.tasks if task.state in FAILURES and not task.trial_of)

    def to_json(self, tasks: Iterable[TaskStatus] | None = None) -> dict[str, Any]:
        """Return what ``campaign status --json`` prints; ``tasks`` narrows the listing, not the counts."""
        counts = self.counts
        return {
            "campaign": self.campaign,
            "run": self.run,
            "state": self.state.value,
            "counts": {state.value: counts[state] for state in TaskState if counts[state]},
            "tasks": [task.to_json() for task in (self.tasks if tasks is None else tasks)],
        }

    def log(self, task: TaskStatus, stream: str) -> Path | None:
        """Return where the last attempt's ``out`` or ``err`` stream went, or None when nothing was launched."""
        return None if task.attempt is None else self.directory.log(task.workflow, task.task, task.attempt, stream)


def read_status(run: RunDirectory) -> RunStatus:
    """Return how a run stands now, also while whoever worked on it is dead.

    Raises StoreError when its plan or journal is damaged.
    """
    with _no_collection():
        return _read_status(run)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the cycle collector from walking over 10^5 new objects again and again; no cycle is made here."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read_status(run: RunDirectory) -> RunStatus:
    holder = read_holder(run)  # before the journal: a holder that has gone by now has written all it will
    plan = run.read_plan()
    events = read_events(run.journal)
    records = replay(events)
    try:
        if plan["schema"] != PLAN_SCHEMA:
            raise StoreError(f"{run.plan}: plan schema {plan['schema']}, this program reads {PLAN_SCHEMA}")
        news = _catch_up(run, plan["tasks"], records) if holder is None else []
        events += [event for event in news if event.state is not TaskState.LOST]  # found lost now, not lost now
        tasks, machine = _task_statuses(plan["tasks"], records), plan["machine"]
        return RunStatus(
            directory=run,
            campaign=plan["campaign"],
            source=Path(plan["source"]),
            capacity=(len(machine["cores"]), machine["memory"], len(machine["gpus"])),
            deadline=plan["deadline"],
            state=_run_state(holder, tasks, has_lost=any(event.state is TaskState.LOST for event in news)),
            holder=holder,
            started=min((event.at for event in events), default=None),
            last_news=max((event.at for event in events), default=None),
            tasks=tasks,
        )
    except (KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise StoreError(f"{run.plan}: damaged ({problem}); submit the campaign again to write it anew") from error


def find_task(status: RunStatus, name: str) -> TaskStatus:
    """Return the task of that name, or the only task of the workflow of that name.

    Raises UsageError naming what there is.
    """
    members = [task for task in status.tasks if task.task == name] or [
        task for task in status.tasks if task.workflow == name
    ]
    if len(members) == 1:
        return members[0]
    if members:
        raise UsageError(f"{name} has {len(members)} tasks, name one: {listed(task.task for task in members)}")
    known = {task.task for task in status.tasks} | {task.workflow for task in status.tasks}
    raise UsageError(f"{name!r} is no task of {status.run}; there are: {listed(known)}{suggest(name, known)}")


def finite_json(data: bytes) -> Any:
    """Return JSON data; raises ValueError for what is not JSON, NaN and infinite numbers included."""
    return json.loads(data, parse_constant=_refuse, parse_float=_finite)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _run_state(holder: Holder | None, tasks: Sequence[TaskStatus], *, has_lost: bool) -> RunState:
    """Return where the run stands; a task that was lost with its runner is one nobody has tried again yet."""
    states = {task.state for task in tasks}
    if holder is not None:
        return RunState.RUNNING
    if has_lost or not all(state.is_final for state in states):
        return RunState.INTERRUPTED
    states = {task.state for task in tasks if not task.trial_of}
    if all(state.is_success for state in states):
        return RunState.DONE
    return RunState.FAILED if states & FAILURES else RunState.CANCELLED


def _task_statuses(plan: Sequence[Mapping[str, Any]], records: Mapping[str, Record]) -> tuple[TaskStatus, ...]:
    successful = {name for name, record in records.items() if record.state.is_success}
    fresh = Record()
    statuses = []
    for task in plan:
        record = records.get(task["name"], fresh)
        state, reason = record.state, record.reason
        if state is TaskState.PLANNED:
            missing = [name for name in task["dependencies"] if name not in successful]
            if missing:
                state = TaskState.BLOCKED
                reason = f"waits for {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        resources = task["resources"]
        statuses.append(
            TaskStatus(
                task=task["name"],
                workflow=task["workflow"],
                kind=task["kind"],
                id=task["id"],
                state=state,
                attempts=len(record.launched),
                reason=reason,
                attempt=max(record.launched, default=None),
                started=record.started,
                ended=record.ended,
                folder=task["folder"],
                dependencies=tuple(task["dependencies"]),
                cores=resources.get("ranks", 1) * resources.get("threads", 1),
                memory=_planned(task, "memory", "memory") or 0,
                gpus=resources.get("gpus", 0),
                expected=_planned(task, "runtime", "typical_runtime"),
                parameters=task["parameters"],
                ancestors=task.get("ancestors", {}),
                held_until=_held_until(record),
                trial_of=task.get("trial_of", ""),
                swept=tuple(task["swept"]) if task.get("swept") is not None else None,
                cpu=record.detail.get("cpu"),
                peak_memory=record.detail.get("peak_memory"),
                peak_gpu_memory=record.detail.get("peak_gpu_memory"),
            )
        )
    return tuple(statuses)


def _held_until(record: Record) -> float | None:
    return parse_instant(record.detail["until"]) if record.state is TaskState.HELD else None


def _planned(task: Mapping[str, Any], asked: str, learned: str) -> Any:
    """Return what a task counts for, as :mod:`socm_like.sizes` says it: stated, else learned, else estimated."""
    prediction = (task.get("predicted") or {}).get(learned) if asked not in task.get("stated", ()) else None
    return prediction or task["resources"].get(asked)


def _catch_up(run: RunDirectory, plan: Sequence[Mapping[str, Any]], records: dict[str, Record]) -> list[Event]:
    """Take in what happened since the runner died; return it."""
    entries = {task["name"]: task for task in plan}
    members: dict[tuple[str, int], list[str]] = {}
    for name, record in records.items():
        if record.state in _OPEN and name in entries:
            members.setdefault(leader_of(record) or (name, record.attempt), []).append(name)
    if not members:
        return []
    news = []
    for event in observe(run, list(members)):
        for name in members[event.task, event.attempt]:
            record, entry = records[name], entries[name]
            is_shared = leader_of(record) is not None
            places = run.partial(entry["folder"]), f"{run.store}/{entry['folder']}"
            told = of_member(event, name, record, *places) if is_shared else event
            news.append(_judged(told, entry, run))
    replay(news, records)
    return news


def _judged(event: Event, task: Mapping[str, Any], run: RunDirectory) -> Event:
    """Return the event, ``invalid`` instead of ``done`` when the contract is broken: exit status 0 is not enough."""
    if event.state is not TaskState.DONE:
        return event
    problem = _broken_contract(task, run)
    if not problem:
        return event
    return Event(event.at, event.task, event.attempt, TaskState.INVALID, {**event.detail, "reason": problem})


def _broken_contract(task: Mapping[str, Any], run: RunDirectory) -> str:
    """Return what the runner will find wrong when it takes the attempt up again, or an empty string."""
    partial = run.partial(task["folder"])
    if (run.store / task["folder"] / RESULT).exists() and not Path(partial).exists():  # concluded already
        return ""
    return broken_contract(partial, task["outputs"], task["metrics"], runs_python=task["argv"] is None)[0]
