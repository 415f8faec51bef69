"""A plan in virtual time: the real runner, journal, retries and policy on nodes that are only imagined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

from socm_like.errors import StoreError
from socm_like.executors.base import Attempt, Launch
from socm_like.executors.behaviour import Behaviour, Expected, Work
from socm_like.executors.simulated import SimulatedExecutor, Stretch, VirtualClock
from socm_like.identity import FileDigests, digest_cache
from socm_like.journal import Event, Journal, Record, TaskState
from socm_like.plan import Plan
from socm_like.registry import Registry
from socm_like.resources import Machine
from socm_like.runner import Runner
from socm_like.schedule import Node
from socm_like.shared import Batch
from socm_like.sizes import memory_of, runtime_of
from socm_like.store import RunDirectory, RunLock
from socm_like.task import Task
from socm_like.units import parse_instant
from socm_like.workplace import Workplace

RESOURCES = ("cores", "memory", "gpus")
_NOWHERE = Path("/dev/null")


@dataclass(frozen=True, slots=True)
class Simulation:
    """How a campaign went that never ran."""

    start: float
    """Seconds since the epoch."""
    makespan: float
    """Seconds from the start to the end of the last task."""
    states: Mapping[str, TaskState]
    """How each task ended."""
    attempts: int
    """Attempts at tasks; those of tasks that share a process count each."""
    retries: int
    """Attempts after the first."""
    core_hours: float
    """Cores x hours that attempts held, those that came to nothing among them."""
    bottleneck: str
    """The resource that was used most for what there is of it: ``cores``, ``memory`` or ``gpus``."""
    utilisation: float
    """Of the bottleneck, from the start to the end."""
    problems: Mapping[str, str]
    """Task that ended badly by itself -> why."""
    placements: tuple[Stretch, ...]
    """Each attempt on its nodes, in the order of their ends."""
    held: Mapping[str, float] = field(default_factory=dict)
    """Task -> seconds that the schedule window held it."""
    idle: float = 0.0
    """Seconds in which the window held tasks and nothing ran."""
    notes: tuple[str, ...] = ()
    """Where the simulation is simpler than the run."""

    @property
    def end(self) -> float:
        """When the last task ends, seconds since the epoch."""
        return self.start + self.makespan

    @property
    def counts(self) -> Counter[TaskState]:
        """How many tasks end in each state."""
        return Counter(self.states.values())

    @property
    def succeeded(self) -> bool:
        """Whether every task is done or cached."""
        return all(state.is_success for state in self.states.values())


def simulate(
    plan: Plan,
    nodes: Sequence[Node],
    behaviour: Behaviour,
    start: float,
    open_registry: Callable[[], Registry] | None = None,
    *,
    within: Path | None = None,
) -> Simulation:
    """Return how a plan goes on these nodes from ``start`` on; the same for the same arguments and store.

    What has a result in the store counts as cached; nothing is written there. Tasks share processes as they would
    where ``open_registry`` says how their kinds do that, otherwise each has its own. The journal is in a folder that
    goes with the simulation, ``within`` this one or where the system keeps such.
    """
    plan, notes = _imagined(plan, nodes, is_batched=open_registry is not None)
    clock = VirtualClock(start)
    witness = _Witness()
    with TemporaryDirectory(prefix="campaign-simulation-", dir=within) as folder:
        run = RunDirectory(Path(folder) / "campaigns" / "simulation")
        run.path.mkdir(parents=True)
        lock = RunLock(run)
        lock.acquire()
        journal = _UnsyncedJournal(run.journal)
        try:
            workplace = ImaginedWorkplace(plan, run, behaviour)
            executor = SimulatedExecutor(nodes, clock, behaviour, workplace.work_of)
            registry = open_registry or _no_registry
            runner = Runner(plan, run, journal, lock, lambda: executor, registry, witness, clock, workplace)
            outcome = runner.go()
        finally:
            journal.close()
    simulation = _summed_up(outcome.records, executor.stretches, nodes, (start, clock.time()))
    return replace(simulation, notes=notes, **witness.told(executor.stretches))


class ImaginedWorkplace(Workplace):
    """Where attempts of a simulation work: nowhere. It knows what they take, and believes what it is told of them."""

    def __init__(self, plan: Plan, run: RunDirectory, behaviour: Behaviour) -> None:
        super().__init__(plan, run, FileDigests(digest_cache(plan.store)))
        self._behaviour = behaviour
        self._work: dict[Attempt, Work] = {}
        self._gone: dict[str, float] = {}
        """Restartable task -> seconds that it need not do again."""

    def work_of(self, launch: Launch) -> Work:
        """Return what an attempt takes that was prepared here."""
        return self._work[launch.attempt]

    def prepare(self, batch: Batch, attempts: Mapping[str, int], priority: float) -> Launch:
        """Return how to launch the process of some tasks; make nothing."""
        leader = batch.tasks[0]
        attempt = Attempt(leader.name, attempts[leader.name])
        is_alone = len(batch.tasks) == 1
        self._work[attempt] = self._work_alone(attempt, leader, batch) if is_alone else self._work_together(batch)
        reserved = memory_of(leader) if is_alone and batch.resources.memory is None else None
        return Launch(
            attempt=attempt,
            argv=leader.argv,
            directory=_NOWHERE,
            stdout=_NOWHERE,
            stderr=_NOWHERE,
            resources=batch.resources,
            priority=priority,
            reserved_memory=reserved,
        )

    def _work_alone(self, attempt: Attempt, task: Task, batch: Batch) -> Work:
        """Return what an attempt takes; a kind that goes on from where it was is one piece of work for all attempts."""
        asked, seconds = batch.resources, runtime_of(task)
        limit = float("inf") if asked.runtime is None else asked.runtime.total_seconds()
        known = [size for size in (memory_of(task), task.resources.memory) if size is not None]
        is_guess = asked.runtime == task.resources.runtime and is_guessed(task)
        expected = Expected(seconds, min(known, default=0), limit, is_guess)
        if not task.restartable:
            return self._behaviour.work_of(attempt, expected)
        gone = self._gone.get(task.name, 0.0)
        work = self._behaviour.work_of(attempt, expected)
        whole = self._behaviour.work_of(Attempt(task.name, 1), expected).seconds
        return replace(work, seconds=max(whole - gone, 0.0))

    def _work_together(self, batch: Batch) -> Work:
        """Return what a process of several tasks takes: what their kind estimates, else one after the other."""
        stated = batch.resources.runtime
        seconds = sum(map(runtime_of, batch.tasks)) if stated is None else stated.total_seconds()
        expected = Expected(seconds, batch.resources.memory or 0, seconds, is_guess=True)
        leader = Attempt(f"{batch.tasks[0].name} and {len(batch.tasks) - 1} more", 1)
        return replace(self._behaviour.work_of(leader, expected), fails=float("inf"))

    def changed_input(self, task: Task) -> str:  # noqa: ARG002 - nobody reads it
        """Return an empty string: nothing is read."""
        return ""

    def conclude(self, task: Task, event: Event, record: Record, *, replaces: bool) -> Event:  # noqa: ARG002 - no results
        """Return the event as it is; of a restartable task note what it has done."""
        if event.state is TaskState.TIMEOUT and task.restartable and record.started is not None:
            lasted = parse_instant(event.at) - parse_instant(record.started)
            self._gone[task.name] = self._gone.get(task.name, 0.0) + lasted
        return event

    def event_of_member(self, event: Event, task: Task, record: Record) -> Event:
        """Return what becomes of one of the tasks of a process: what ends before its time is lost for all of them."""
        member = Attempt(task.name, record.attempt)
        state, detail = event.state, event.detail
        if state is TaskState.DONE and self._behaviour.work_of(member, Expected(1.0)).fails <= 1.0:
            state, detail = TaskState.FAILED, {"reason": "failed, as the simulation would have it"}
        elif state.is_final and state not in (TaskState.DONE, TaskState.CANCELLED):
            state, detail = TaskState.LOST, {"reason": f"its process ended: {event.detail.get('reason', event.state)}"}
        return Event(event.at, *member, state, detail)


class _UnsyncedJournal(Journal):
    """A journal that nobody needs after a crash."""

    def commit(self) -> None:
        """Leave it to the system when to write."""


class _Held(TypedDict):
    held: Mapping[str, float]
    idle: float


class _Witness:
    """Sees which tasks the window held, and until when."""

    def __init__(self) -> None:
        self._held: list[tuple[str, float, float]] = []

    def saw(self, event: Event, record: Record) -> None:  # noqa: ARG002 - the protocol of a watcher
        """Take note of a task that is held."""
        if event.state is TaskState.HELD:
            self._held.append((event.task, parse_instant(event.at), parse_instant(event.detail["until"])))

    def tick(self) -> None:
        """Draw nothing."""

    def told(self, stretches: Sequence[Stretch]) -> _Held:
        """Return for how long each task was held, and how long nothing ran because of that."""
        held: dict[str, float] = {}
        for task, since, until in self._held:
            held[task] = held.get(task, 0.0) + until - since
        ran = [(stretch.start, stretch.end) for stretch in stretches]
        waited = [(since, until) for _, since, until in self._held]
        return {"held": held, "idle": _covered([*waited, *ran]) - _covered(ran)}


def is_guessed(task: Task) -> bool:
    """Whether the time limit of a task is all that is known of its time."""
    return task.resources.runtime is not None and task.resources.runtime.total_seconds() == runtime_of(task)


def machine_of(name: str, nodes: Sequence[Node]) -> Machine:
    """Return nodes as the one machine that a plan knows."""
    memories = [node.gpu_memory for node in nodes if node.gpus and node.gpu_memory]
    return Machine(
        name=name,
        cores=tuple(range(sum(node.cores for node in nodes))),
        memory=sum(node.memory for node in nodes),
        gpus=tuple(map(str, range(sum(node.gpus for node in nodes)))),
        gpu_memory=max(memories, default=None),
    )


def _imagined(plan: Plan, nodes: Sequence[Node], *, is_batched: bool) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan that is simulated, and how it differs."""
    notes = []
    searches = sum(task.search is not None for task in plan.tasks)
    if searches:
        notes.append(f"{_counted(searches, 'search', 'searches')} simulated as one task each: trials are not known yet")
    shared = sum(bool(task.batch) for task in plan.tasks)
    if shared and not is_batched:
        notes.append(f"{_counted(shared, 'task')} that could share processes simulated one by one")
    elif shared:
        notes.append(f"{_counted(shared, 'task')} share processes as they would; one takes what its kind estimates")
    if searches or (shared and not is_batched):
        tasks = tuple(replace(task, search=None, batch=task.batch if is_batched else "") for task in plan.tasks)
        plan = replace(plan, tasks=tasks)
    return replace(plan, machine=machine_of(plan.machine.name, nodes)), tuple(notes)


def _counted(number: int, word: str, words: str = "") -> str:
    return f"{number} {word if number == 1 else words or word + 's'}"


def _no_registry() -> Registry:
    raise StoreError("the simulation has no kinds at hand; a fault of the simulation")


def _summed_up(
    records: Mapping[str, Record], stretches: Sequence[Stretch], nodes: Sequence[Node], span: tuple[float, float]
) -> Simulation:
    makespan = span[1] - span[0]
    used = dict.fromkeys(RESOURCES, 0.0)
    for stretch in stretches:
        for share in stretch.shares:
            for name in RESOURCES:
                used[name] += getattr(share, name) * (stretch.end - stretch.start)
    offered = {name: makespan * sum(getattr(node, name) for node in nodes) for name in RESOURCES}
    busy = {name: used[name] / offered[name] if offered[name] else 0.0 for name in RESOURCES}
    bottleneck = max(RESOURCES, key=lambda name: busy[name])
    launched = [len(record.launched) for record in records.values()]
    return Simulation(
        start=span[0],
        makespan=makespan,
        states={name: record.state for name, record in records.items()},
        attempts=sum(launched),
        retries=sum(number - 1 for number in launched if number),
        core_hours=used["cores"] / 3600,
        bottleneck=bottleneck,
        utilisation=busy[bottleneck],
        problems={name: record.reason or "" for name, record in records.items() if _ended_badly(record.state)},
        placements=tuple(stretches),
    )


def _ended_badly(state: TaskState) -> bool:
    return state.is_final and not state.is_success and state is not TaskState.SKIPPED


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return how many seconds lie in at least one of the spans."""
    total, reached = 0.0, float("-inf")
    for since, until in sorted(spans):
        total += max(0.0, until - max(since, reached))
        reached = max(reached, until)
    return total
