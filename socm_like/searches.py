"""Searches while a run goes on: the trials they ask for become tasks, and what becomes of these is told to them."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from socm_like.contract import read_regular
from socm_like.errors import SocmError, StoreError
from socm_like.experience import experience_of
from socm_like.faults import shown
from socm_like.identity import FileDigests
from socm_like.journal import Record, TaskState, store_errors
from socm_like.labels import cut
from socm_like.outcome import find_result
from socm_like.plan import Plan, task_data, task_of
from socm_like.recipe import TaskMaker, blame, recipe_of
from socm_like.registry import Registry
from socm_like.store import RunDirectory, write_atomically
from socm_like.task import Task
from socm_like.trials import trial_task, trial_workflow
from socm_like.workflow import STEPS, History, Trial, Workflow

TRIALS = "trials.json"
"""In the directory of a search: all its trials, written before its own work begins."""
MOST = 10_000
"""Trials that a search may ask for at once; an endless generator is found out by it."""
PATIENCE = 100
"""Trials in a row that a search had asked for before; after so many it will not ask for anything new."""

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class SearchError(SocmError):
    """A search that cannot go on; the message says why."""


@dataclass
class Search:
    """One search, open as long as it may ask for more."""

    task: Task
    plan: Plan
    run: RunDirectory
    registry: Registry
    digests: FileDigests
    trials: list[Task] = field(default_factory=list)
    """The tasks it has asked for, oldest first."""
    is_due: bool = True
    """Whether something has happened that it should be told."""

    def __post_init__(self) -> None:
        if self.task.search is None:
            raise SearchError("it drives no workflow")
        self._recipe = recipe_of(self.task.search)
        predict = experience_of(self.plan.store, (self._recipe.kind,)).predict
        self._maker = TaskMaker(self.registry, str(self.plan.store), self.plan.machine, self.digests.of, predict)
        self._workflow = self.registry[self.task.kind].model_validate(self.task.fields)
        self._workflows: dict[str, Workflow] = {}
        self._ended: dict[str, tuple[int, TaskState, Trial]] = {}
        """Trials that have ended, as they were told: they are asked about four times a second, and change no more."""
        self._asked: dict[str, None] = {}
        """Names of the parameters it has set."""
        self._known = {trial.id for trial in self.trials}
        self._repeated = 0
        """How many of the trials asked for last had been asked for before."""
        self.directory = Path(self.run.partial(self.task.folder))
        with store_errors(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)

    def more(self, records: Mapping[str, Record]) -> list[Task]:
        """Return the further trials that the search asks for, each written down first. Raises SearchError."""
        self.is_due = False
        with self._blaming("extend"):
            wanted = list(islice(self._workflow.extend(self.history(records)), MOST + 1))
            if len(wanted) > MOST:
                raise ValueError(f"it asks for more than {MOST} trials at once")
            made = [self._trial(len(self.trials) + index, workflow) for index, workflow in enumerate(wanted)]
            for task in made:
                self._count_repeats(task)
        if made:
            self._write_down(made)
            self.trials.extend(made)
        return made

    def stops(self, records: Mapping[str, Record]) -> list[str]:
        """Return the trials that are not worth going on with. Raises SearchError."""
        if not any(records[trial.name].state is TaskState.RUNNING for trial in self.trials):
            return []
        with self._blaming("stops"):
            indexes = list(islice(self._workflow.stops(self.history(records)), len(self.trials) + 1))
            for index in indexes:
                if type(index) is not int or not 0 <= index < len(self.trials):
                    raise ValueError(f"{shown(index)} is no index of its {len(self.trials)} trials")
            return [self.trials[index].name for index in indexes]

    @contextmanager
    def _blaming(self, method: str) -> Iterator[None]:
        """Turn whatever a kind raises into a SearchError: it ends its search, and nothing else."""
        try:
            yield
        except (Exception, SystemExit) as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:  # not the kind's fault, and it can be mended
                remedy = "make room or fix the permissions, then submit again"
                raise StoreError(f"{error.filename or self.directory}: {error.strerror}; {remedy}") from error
            raise SearchError(f"{self.task.kind}.{method}: {blame(error)}") from error

    def _count_repeats(self, task: Task) -> None:
        self._repeated = self._repeated + 1 if task.id in self._known else 0
        self._known.add(task.id)
        if self._repeated == PATIENCE:
            raise ValueError(f"its last {PATIENCE} trials had all been asked for before, so it would never end")

    def finish(self, records: Mapping[str, Record]) -> None:
        """Leave the table of all trials for the work that ends the search."""
        rows = [
            {
                "task": trial.task,
                "state": trial.state.value,
                "parameters": dict(trial.parameters),
                "metrics": dict(trial.metrics),
                "steps": [list(step) for step in trial.steps],
                "reason": trial.reason,
                "folder": None if trial.folder is None else str(trial.folder),
                "started": records[trial.task].started,
                "ended": records[trial.task].ended,
            }
            for trial in self.history(records).trials
        ]
        write_atomically(self.directory / TRIALS, json.dumps({"trials": rows}))

    def history(self, records: Mapping[str, Record]) -> History:
        """Return what the search may look at."""
        trials = tuple(self._told(task, records[task.name]) for task in self.trials)
        return History(self.directory, trials, self._make)

    def _told(self, task: Task, record: Record) -> Trial:
        known = self._ended.get(task.name)
        if known is not None and known[:2] == (record.attempt, record.state):
            return known[2]
        trial = self._looked_up(task, record)
        if record.state.is_final:
            self._ended[task.name] = (record.attempt, record.state, trial)
        return trial

    def _looked_up(self, task: Task, record: Record) -> Trial:
        if task.name not in self._workflows:
            self._workflows[task.name] = self.registry[task.kind].model_validate(task.fields)
        result = find_result(task, self.plan.store) if record.state.is_success else None
        folder = self.plan.store / task.folder
        is_withdrawn = record.state is TaskState.CANCELLED  # it alone: nobody is asked anything when the run is ended
        return Trial(
            task=task.name,
            workflow=self._workflows[task.name],
            state=TaskState.FAILED if is_withdrawn else record.state,
            metrics={} if result is None else result["metrics"],
            steps=tuple(_steps(folder if result is not None else Path(self.run.partial(task.folder)))),
            folder=None if result is None else folder,
            reason=record.reason or "",
        )

    def _make(self, parameters: Mapping[str, Any]) -> Workflow:
        workflow = trial_workflow(self._recipe, self._maker, parameters)
        self._asked.update(dict.fromkeys(parameters))
        return workflow

    def _trial(self, number: int, workflow: Workflow) -> Task:
        if not isinstance(workflow, Workflow) or workflow.kind not in self.registry:
            raise ValueError(f"{shown(workflow)} is no workflow of a registered kind; return what history.make gave")
        inner = self.task.name.removeprefix(self.task.workflow)[1:-1]
        label = ",".join(part for part in (inner, f"{self.task.workflow}={number}") if part)
        name = f"{self._recipe.workflow}[{cut(label)}]"
        task = trial_task(self._recipe, self._maker, workflow, name=name, swept=tuple(self._asked))
        self._workflows[name] = workflow
        return replace(task, trial_of=self.task.name)

    def _write_down(self, tasks: Sequence[Task]) -> None:
        with store_errors(self.run.trials), self.run.trials.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(task_data(task)) + "\n" for task in tasks)
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True, slots=True)
class Wish:
    """What one search asks for at one moment."""

    search: str
    trials: Sequence[Task] = ()
    """Tasks to be added; they have been written down."""
    stops: Sequence[str] = ()
    """Tasks to be ended."""
    is_over: bool = False
    """Whether it wants nothing more, so that its own work can begin."""
    problem: str = ""
    """Why it cannot go on."""


@dataclass
class Searches:
    """The searches of a run that are open."""

    plan: Plan
    run: RunDirectory
    digests: FileDigests
    _open: dict[str, Search] = field(default_factory=dict)
    _over: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self._open)

    def open(self, task: Task, trials: list[Task], registry: Callable[[], Registry]) -> str:
        """Let a search begin, or go on with the trials it has; return why it cannot, or an empty string."""
        try:
            search = Search(task, self.plan, self.run, registry(), self.digests, trials)
        except (SocmError, ValueError, LookupError) as error:
            return f"the search cannot begin: {error}"
        self._open[task.name] = search
        return ""

    def is_over(self, name: str) -> bool:
        """Whether a search wants nothing more."""
        return name in self._over

    def tell(self, name: str) -> None:
        """Note that something has become of a trial of this search."""
        if name in self._open:
            self._open[name].is_due = True

    def close(self, names: Iterable[str] | None = None) -> None:
        """Let these searches ask for nothing more, or all of them."""
        for name in list(self._open) if names is None else names:
            self._open.pop(name, None)

    def ask(self, records: Mapping[str, Record], *, whom_to_stop: bool) -> Iterator[Wish]:
        """Yield what the searches ask for: those to which something happened, and of all whom to stop, if wanted."""
        for name, search in list(self._open.items()):
            try:
                trials = search.more(records) if search.is_due else []
                stops = search.stops(records) if whom_to_stop and not trials else []
                is_over = not trials and all(records[trial.name].state.is_final for trial in search.trials)
                if is_over:
                    search.finish(records)
            except SearchError as error:
                del self._open[name]
                yield Wish(name, problem=str(error))
                continue
            if is_over:
                del self._open[name]
                self._over.add(name)
            if trials or stops or is_over:
                yield Wish(name, trials, stops, is_over)


def written_trials(run: RunDirectory) -> list[Task]:
    """Return the tasks that the searches of a run have asked for; a line that was cut short is taken away.

    Raises StoreError when the file is damaged.
    """
    try:
        trials = [task_of(data) for data in run.read_trials()]
    except (LookupError, TypeError, ValueError) as error:
        problem = f"damaged ({type(error).__name__}: {error})"
        raise StoreError(f"{run.trials}: {problem}; move it away, and the searches start anew") from error
    with store_errors(run.trials):
        try:
            with run.trials.open("rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
        except FileNotFoundError:
            pass
    return trials


def forget_trials(run: RunDirectory, tasks: Iterable[Task]) -> None:
    """Let the searches among these tasks begin anew: what they asked for is taken off the list, their files go."""
    with store_errors(run.trials):
        run.trials.unlink(missing_ok=True)
    for task in tasks:
        if task.search is not None:
            shutil.rmtree(run.partial(task.folder), ignore_errors=True)


def _steps(folder: Path) -> Iterator[tuple[int, float]]:
    """Yield what a task has reported so far; a line that is just being written is left for later."""
    try:
        text = read_regular(str(folder / STEPS)).decode(errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        try:
            found = json.loads(line)
            step, value = found["step"], found["value"]
            if type(step) is int and type(value) in (int, float):
                yield step, float(value)
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            continue
