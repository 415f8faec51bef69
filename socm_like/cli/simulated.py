"""``campaign plan --simulate``: when a campaign is expected to end, by running it in virtual time."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from socm_like.campaign import Campaign
from socm_like.cli.loading import plan_loaded
from socm_like.cli.render import counts_line, print_json, table
from socm_like.document import read_document
from socm_like.errors import UsageError
from socm_like.executors.behaviour import Behaviour
from socm_like.machine_file import LOCAL, MachineFile
from socm_like.plan import Plan
from socm_like.registry import Registry
from socm_like.schedule import Node, Placement, Schedule
from socm_like.simulation import Simulation, is_guessed, simulate
from socm_like.sizes import has_runtime
from socm_like.store import write_atomically
from socm_like.timeline import Offer, cheapest, nodes_of, offers
from socm_like.units import format_instant, format_size, format_span

RUNS = 5
"""Runs where chance has a part."""
MOST_RUNS = 10_000
SHOWN = 5
"""Problems that are told in full."""

_F = TypeVar("_F", bound=Callable[..., Any])


class _Range(click.FloatRange):
    """Numbers from 0 on; ``nan``, which is neither less nor more than anything, is not among them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        if number != number:  # noqa: PLR0124 - not a number
            self.fail(f"{number} is not in the range {self._describe_range()}.", param, ctx)
        return number


NOISE = _Range(min=0, max=10)
RATE = _Range(min=0, max=1e6)


def simulation_options(function: _F) -> _F:
    """Add ``--simulate`` and what it takes, as the fields of :class:`Asked`."""
    for option in (
        click.option("--nodes", type=click.IntRange(min=1), help="With --machine and --simulate: so many nodes."),
        click.option(
            "--runs", type=click.IntRange(1, MOST_RUNS), help=f"Simulate so often.  [default: {RUNS}, 1 if certain]"
        ),
        click.option("--seed", type=click.IntRange(min=0), help="Of the first run; each further one has the next."),
        click.option("--failures", type=RATE, metavar="RATE", help="Simulate failures of nodes, per node-hour."),
        click.option("--noise", type=NOISE, metavar="SIGMA", help="Simulate times off by exp(N(0, SIGMA))."),
        click.option("--simulate", is_flag=True, help="Run the campaign in virtual time, from now on."),
    ):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be simulated, as the options say."""

    simulate: bool = False
    noise: float | None = None
    failures: float | None = None
    seed: int | None = None
    runs: int | None = None
    nodes: int | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to simulate. Raises UsageError for an option that needs ``--simulate``."""
        if not self.simulate:
            for name in ("noise", "failures", "seed", "runs", "nodes"):
                if getattr(self, name) is not None:
                    raise UsageError(f"--{name} is about a simulation; add --simulate")
        return self.simulate

    def behaviours(self) -> list[Behaviour]:
        """Return how attempts and nodes behave in each run; one run is enough where every one would be the same."""
        first = Behaviour(self.seed or 0, self.noise or 0.0, node_failures=self.failures or 0.0, unpadded="run_on")
        runs = self.runs or (1 if first.is_certain else RUNS)
        return [replace(first, seed=first.seed + number) for number in range(runs)]


@dataclass(frozen=True, slots=True)
class _Scene:
    """What a plan is simulated on."""

    plan: Plan
    nodes: tuple[Node, ...]
    where: str
    walltime: float | None = None
    """Seconds of one allocation there."""


def show_simulation(
    asked: Asked, scene_of: Callable[[Asked], _Scene], figure: Path | None = None, *, as_json: bool
) -> int:
    """Print how a plan goes, in several runs where chance has a part; return the exit status.

    1: in the median run the deadline is missed or a task does not succeed.
    """
    scene, behaviours, now = scene_of(asked), asked.behaviours(), time.time()
    kinds = (lambda: _registry_of(scene.plan)) if any(task.batch for task in scene.plan.tasks) else None
    with _ends_in_order() as folder:
        found = [simulate(scene.plan, scene.nodes, each, now, kinds, within=folder) for each in behaviours]
    chosen = _median(found)
    if figure is not None:
        write_atomically(figure, _picture(scene, chosen))
    if as_json:
        print_json(_data(scene, behaviours, found))
    else:
        _show(scene, behaviours, found)
    return 0 if chosen.succeeded and _keeps(scene.plan, chosen) is not False else 1


@contextmanager
def _ends_in_order() -> Iterator[Path]:
    """Give a folder for simulations; let SIGTERM end this process as an exception does, so that it goes with it.

    One for all of them: an interrupt while that of one is being removed leaves part of it.
    """
    former = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        with TemporaryDirectory(prefix="campaign-simulations-") as folder:
            yield Path(folder)
    finally:
        signal.signal(signal.SIGTERM, former)


def here(campaign: Campaign, store: Path | None) -> Callable[[Asked], _Scene]:
    """Return how to find the machine of the campaign itself to simulate on. Raises UsageError with ``--nodes``."""

    def scene_of(asked: Asked) -> _Scene:
        if asked.nodes is not None:
            raise UsageError("--nodes counts the nodes of a machine file; add --machine NAME")
        plan, _ = plan_loaded(campaign, store)
        return _Scene(plan, tuple(nodes_of(plan.machine)), _described(nodes_of(plan.machine), plan.machine.name))

    return scene_of


def on_nodes_of(machine: MachineFile, campaign: Campaign, store: Path | None) -> Callable[[Asked], _Scene]:
    """Return how to find nodes of a machine file: of the partition that is recommended, or the first that will do."""

    def scene_of(asked: Asked) -> _Scene:
        plan, _ = plan_loaded(campaign, store, machine.as_one())
        found = list(offers(plan, machine))
        possible = [offer for offer in found if not offer.faults]
        if not possible:
            problems = [f"{offer.name}: {fault}" for offer in found for fault in offer.faults[:SHOWN]]
            raise UsageError("\n".join([f"no partition of {machine.name} takes all tasks", *problems]))
        chosen = cheapest(found)
        offer = possible[0] if chosen is None else chosen[0]
        count = asked.nodes or _fitting(offer)
        if count > offer.most:
            raise UsageError(f"--nodes {count}: an allocation in {offer.name} has {offer.most} nodes at the most")
        nodes = tuple(replace(offer.node, name=f"{offer.node.name}{number}") for number in range(count))
        return _Scene(plan, nodes, _described(nodes, f"{machine.name}, {offer.name}"), offer.walltime)

    return scene_of


def _fitting(offer: Offer) -> int:
    """Return the nodes that are recommended for the deadline, else those that take least time."""
    if offer.recommendation is not None and offer.recommendation.allocation is not None:
        return offer.recommendation.allocation.nodes
    return min(offer.choices, key=lambda choice: choice.makespan).nodes


def _described(nodes: Sequence[Node], where: str) -> str:
    first, number = nodes[0], len(nodes)
    gpus = f", {first.gpus} GPUs" if first.gpus else ""
    return f"{where}: {number} node{'s'[: number != 1]} of {first.cores} cores, {format_size(first.memory)}{gpus}"


def _registry_of(plan: Plan) -> Registry:
    registry = Registry.load(plan.plugins)
    registry.declare(read_document(plan.source, plan.settings))
    return registry


def _median(found: Sequence[Simulation]) -> Simulation:
    """Return the run in the middle; runs in which a task does not succeed count as the longest."""
    ordered = sorted(found, key=lambda run: (not run.succeeded, run.makespan))
    return ordered[len(ordered) // 2]


def _keeps(plan: Plan, run: Simulation) -> bool | None:
    """Whether a run keeps the deadline; None where there is none."""
    return None if plan.deadline is None else run.succeeded and run.makespan <= plan.deadline.total_seconds()


def _show(scene: _Scene, behaviours: Sequence[Behaviour], found: Sequence[Simulation]) -> None:
    plan, chosen = scene.plan, _median(found)
    tasks = f"{len(plan.tasks)} task{'s'[: len(plan.tasks) != 1]}"
    click.echo(f"{plan.run_name} on {scene.where}; {tasks}, simulated: {behaviours[0]}")
    click.echo()
    if len(found) > 1:
        rows = [_row(behaviour.seed, run) for behaviour, run in zip(behaviours, found, strict=True)]
        click.echo(table(("seed", "takes", "succeed", "others", "retries", "bottleneck", "core-hours"), rows) + "\n")
    times = [run.makespan for run in found]
    span = f"; {format_span(min(times))} to {format_span(max(times))} in {len(found)} runs" if len(found) > 1 else ""
    click.echo(f"ends        {_moment(plan, chosen.end)}, after {format_span(chosen.makespan)}{span}")
    click.echo(f"tasks       {counts_line(chosen.counts)}; {chosen.retries} retries")
    busy = f"{chosen.bottleneck} {100 * chosen.utilisation:.0f} % busy"
    click.echo(f"use         {busy}, {chosen.core_hours:.4g} core-hours")
    if chosen.held:
        longest = format_span(max(chosen.held.values()))
        number = f"{len(chosen.held)} task{'s'[: len(chosen.held) != 1]}"
        click.echo(
            f"window      holds {number}, {longest} at the most; {format_span(chosen.idle)} in which nothing runs"
        )
    if plan.deadline is not None:
        kept = sum(_keeps(plan, run) is True for run in found)
        verdict = "holds" if _keeps(plan, chosen) else "is missed"
        often = f" (kept in {kept} of {len(found)} runs)" if len(found) > 1 else ""
        click.echo(f"deadline    {format_span(plan.deadline.total_seconds())}: {verdict}{often}")
    for note in _notes(scene, chosen, behaviours[0]):
        click.echo(f"note        {note}")
    for name, why in list(chosen.problems.items())[:SHOWN]:
        click.echo(f"{chosen.states[name]}  {name}: {why}")
    if len(chosen.problems) > SHOWN:
        click.echo(f"and {len(chosen.problems) - SHOWN} more; --json names them")


def _notes(scene: _Scene, run: Simulation, behaviour: Behaviour) -> list[str]:
    notes = list(run.notes)
    guessed = sum(is_guessed(task) for task in scene.plan.tasks) if behaviour.noise else 0
    if guessed:
        whose = f"{guessed} of {len(scene.plan.tasks)} tasks"
        notes.append(f"of {whose} the limit is all that is known of their time, so they may run longer here")
    if scene.walltime is not None and run.makespan > scene.walltime:
        notes.append(f"one allocation lasts {format_span(scene.walltime)} at the most; the simulation is not cut there")
    if scene.walltime is None and scene.plan.machine.name != LOCAL:
        name = scene.plan.machine.name
        notes.append(f"all of {name} counts as one node; --machine {name} simulates its nodes")
    unstated = sum(not has_runtime(task) for task in scene.plan.tasks)
    if unstated:
        notes.append(f"{unstated} of {len(scene.plan.tasks)} tasks state no runtime; each counts as 1 min")
    return notes


def _row(seed: int, run: Simulation) -> tuple[str, ...]:
    well = sum(state.is_success for state in run.states.values())
    busy = f"{run.bottleneck} {100 * run.utilisation:.0f} %"
    others = len(run.states) - well
    return (
        str(seed),
        format_span(run.makespan),
        str(well),
        str(others),
        str(run.retries),
        busy,
        f"{run.core_hours:.4g}",
    )


def _moment(plan: Plan, at: float) -> str:
    """Return an instant as clocks show it where the window is, else here."""
    zone = None if plan.window is None else ZoneInfo(plan.window.timezone)
    return f"{datetime.fromtimestamp(at).astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


def _picture(scene: _Scene, run: Simulation) -> str:
    from socm_like.results.gantt import gantt_svg  # noqa: PLC0415 - only where a picture is asked for

    plan = scene.plan
    workflows = {task.name: task.workflow for task in plan.tasks}
    placements = [
        Placement(
            _label(each.attempt.task, each.attempt.number), each.start - run.start, each.end - run.start, each.shares
        )
        for each in run.placements
    ]
    chain = _longest_chain(plan, run)
    busy = run.utilisation * run.makespan
    schedule = Schedule(
        placements=tuple(sorted(placements, key=lambda placement: (placement.start, placement.job))),
        makespan=run.makespan,
        critical_path=(),
        critical_path_seconds=chain,
        lower_bound=max(chain, busy),
        bound="critical path" if chain >= busy else run.bottleneck,
        bottleneck=run.bottleneck,
        utilisation=run.utilisation,
        node_hours=len(scene.nodes) * run.makespan / 3600,
    )
    return gantt_svg(
        schedule,
        scene.nodes,
        workflow_of={_label(*each.attempt): workflows[each.attempt.task] for each in run.placements},
        title=f"{plan.campaign} on {plan.machine.name}, simulated",
        deadline=None if plan.deadline is None else plan.deadline.total_seconds(),
    )


def _label(task: str, number: int) -> str:
    return task if number == 1 else f"{task} (attempt {number})"


def _longest_chain(plan: Plan, run: Simulation) -> float:
    """Return the seconds that the longest chain of tasks took, of each its last attempt."""
    took = {each.attempt.task: each.end - each.start for each in run.placements}
    ends: dict[str, float] = {}
    for task in plan.tasks:
        ends[task.name] = took.get(task.name, 0.0) + max([ends[parent] for parent in task.dependencies], default=0.0)
    return max(ends.values(), default=0.0)


def _data(scene: _Scene, behaviours: Sequence[Behaviour], found: Sequence[Simulation]) -> dict[str, Any]:
    plan, chosen = scene.plan, _median(found)
    times = [run.makespan for run in found]
    return {
        "campaign": plan.campaign,
        "run": plan.run_name,
        "machine": plan.machine.name,
        "nodes": [{"name": node.name, "cores": node.cores, "memory": node.memory} for node in scene.nodes],
        "start": format_instant(chosen.start),
        "end": format_instant(chosen.end),
        "median_seconds": median(times),
        "least_seconds": min(times),
        "most_seconds": max(times),
        "deadline_seconds": None if plan.deadline is None else plan.deadline.total_seconds(),
        "deadline_kept": _keeps(plan, chosen),
        "notes": _notes(scene, chosen, behaviours[0]),
        "problems": dict(chosen.problems),
        "runs": [
            {
                "seed": behaviour.seed,
                "makespan_seconds": run.makespan,
                "states": {state.value: number for state, number in sorted(run.counts.items())},
                "attempts": run.attempts,
                "retries": run.retries,
                "core_hours": run.core_hours,
                "bottleneck": run.bottleneck,
                "utilisation": run.utilisation,
                "held_tasks": len(run.held),
                "longest_held_seconds": max(run.held.values(), default=0.0),
                "idle_seconds": run.idle,
                "deadline_kept": _keeps(plan, run),
            }
            for behaviour, run in zip(behaviours, found, strict=True)
        ],
    }
