"""``campaign plan``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from socm_like.campaign import Campaign
from socm_like.cli.loading import load, plan_loaded
from socm_like.cli.offers import budget_line, exceeds_budget, show_offers
from socm_like.cli.options import campaign_argument, campaign_store_option, json_option
from socm_like.cli.render import table
from socm_like.cli.simulated import Asked, here, on_nodes_of, show_simulation, simulation_options
from socm_like.errors import UsageError
from socm_like.machine_file import LOCAL, MachineFile, find_machine
from socm_like.outcome import find_result
from socm_like.plan import Plan, critical_path, upward_ranks
from socm_like.resources import detect_machine
from socm_like.schedule import Schedule
from socm_like.sizes import has_runtime, is_learned, memory_of, runtime_of
from socm_like.store import write_atomically
from socm_like.task import Task
from socm_like.timeline import closed_hours, core_hours_of, nodes_of, refusals_of, remaining, schedule_of
from socm_like.units import format_size, format_span

SCHEDULED = 20_000
"""Tasks up to which the schedule is made; of a larger plan only its bounds are told."""
LEARNED = "*"
"""Marks a size that was learned from finished tasks."""
SHOWN = 60
"""Tasks listed one by one; of a larger plan the workflows are listed."""


@click.command("plan")
@campaign_argument
@campaign_store_option
@json_option
@click.option("--all", "show_all", is_flag=True, help="List every task of a large plan.")
@click.option("--machine", "name", metavar="MACHINE", help="Plan for this machine instead: a name or a file.")
@click.option("--figure", type=click.Path(dir_okay=False, path_type=Path), help="Draw the schedule as an SVG file.")
@simulation_options
def command(
    file: Path,
    settings: tuple[str, ...],
    store: Path | None,
    *,
    as_json: bool,
    show_all: bool,
    name: str | None,
    figure: Path | None,
    **simulation: Any,
) -> None:
    """Show the tasks in the order they start, their sizes, the schedule and its bound.

    FILE is campaign.toml by default. With --machine, what its partitions would take, and for a deadline the fewest
    nodes that keep it. Exit status 1: the deadline is not met, no window will hold a task, or it all takes more
    core-hours than the budget.
    """
    campaign = load(file, settings)
    machine, is_here = _machine(campaign, name)
    if asked := Asked(**simulation):
        scene = here(campaign, store) if machine is None else on_nodes_of(machine, campaign, store)
        sys.exit(show_simulation(asked, scene, figure, as_json=as_json))
    if machine is not None and not is_here:
        if figure is not None:
            raise UsageError(f"--figure draws the plan for one node; with --simulate it draws {machine.name}")
        sys.exit(show_offers(campaign, machine, store, as_json=as_json))
    plan, _ = plan_loaded(campaign, store, detect_machine() if name == LOCAL else None)
    cached = frozenset(task.name for task in plan.tasks if find_result(task, plan.store) is not None)
    left, now = remaining(plan, cached), datetime.now(UTC)
    schedule = schedule_of(left, now) if len(left.tasks) <= SCHEDULED or figure is not None else None
    if figure is not None and schedule is not None:
        write_atomically(figure, _picture(left, schedule, now))
    times = _times_of(left, schedule, now, cached)
    if as_json:
        click.echo(json.dumps(_data(plan, times), indent=2))
    else:
        _show(plan, times, show_all=show_all)
    late = plan.deadline is not None and times.planned > plan.deadline.total_seconds()
    sys.exit(1 if late or times.refusals or exceeds_budget(left) else 0)


def _machine(campaign: Campaign, name: str | None) -> tuple[MachineFile | None, bool]:
    """Return the machine to plan for, None for this one, and whether it is to be planned as one node."""
    if name == LOCAL:
        return None, True
    if name is not None:
        return find_machine(name, Path.cwd()), False
    return campaign.machine, campaign.machine is None or campaign.machine.scheduler == LOCAL


@dataclass(frozen=True, slots=True)
class _Times:
    """How long a plan takes."""

    path: tuple[Task, ...]
    """Its critical path."""
    longest: float
    """Seconds of the critical path."""
    bound: float
    """Seconds that no schedule beats."""
    schedule: Schedule | None
    """None for a plan that is too large to be scheduled in passing."""
    refusals: tuple[str, ...] = ()
    """Tasks that no window will hold, and why."""
    cached: frozenset[str] = frozenset()
    """Tasks that have their results; they take no time."""

    @property
    def planned(self) -> float:
        """Seconds that the schedule takes, or that it takes at least."""
        return self.schedule.makespan if self.schedule is not None else self.bound


def _times_of(plan: Plan, schedule: Schedule | None, now: datetime, cached: frozenset[str]) -> _Times:
    """Return how long what is left to run takes; ``plan`` is of that alone."""
    path = critical_path(plan.tasks)
    longest = sum(runtime_of(task) for task in path)
    if schedule is not None:
        return _Times(path, longest, schedule.lower_bound, schedule, tuple(refusals_of(plan, schedule, now)), cached)
    busiest = sum(runtime_of(task) * task.resources.cores for task in plan.tasks) / len(plan.machine.cores)
    return _Times(path, longest, max(busiest, longest), None, (), cached)


def _show(plan: Plan, times: _Times, *, show_all: bool) -> None:
    ordered = _in_start_order(plan)
    machine = plan.machine
    gpus = f", {len(machine.gpus)} GPUs" if machine.gpus else ""
    click.echo(f"{plan.run_name} on {machine.name}: {len(machine.cores)} cores, {format_size(machine.memory)}{gpus}")
    click.echo()
    if show_all or len(ordered) <= SHOWN:
        rows = [_row(task, cached=task.name in times.cached) for task in ordered]
        click.echo(table(("task", "kind", "cores", "memory", "gpus", "time", "needs", ""), rows))
    else:
        click.echo(table(("workflow", "kind", "tasks", "cores", "memory", "gpus", "time"), _workflow_rows(ordered)))
    if legend := _legend(plan):
        click.echo(legend)
    if plan.notes:
        click.echo("\n" + "\n".join(plan.notes))
    click.echo()
    _tell_times(plan, times)


def _in_start_order(plan: Plan) -> list[Task]:
    """Return the tasks as the runner would take them: parents first, then the longest chain behind."""
    ranks = upward_ranks(plan.tasks)
    return sorted(plan.tasks, key=lambda task: -ranks[task.name])


def _row(task: Task, *, cached: bool) -> tuple[str, ...]:
    needs = ", ".join(task.dependencies[:3]) + (
        f" and {len(task.dependencies) - 3} more" if len(task.dependencies) > 3 else ""
    )
    return (task.name, task.kind, *_size(task), needs, "cached" if cached else "")


def _size(task: Task) -> tuple[str, str, str, str]:
    resources = task.resources
    memory = memory_of(task)
    return (
        str(resources.cores),
        f"{format_size(memory)}{_mark(task, 'memory')}" if memory else "-",
        str(resources.gpus) if resources.gpus else "-",
        f"{format_span(runtime_of(task))}{_mark(task, 'runtime')}" if has_runtime(task) else "-",
    )


def _mark(task: Task, name: str) -> str:
    return LEARNED if is_learned(task, name) else ""


def _legend(plan: Plan) -> str:
    """Return where the marked sizes come from, or an empty string."""
    marked = [task for task in plan.tasks if is_learned(task, "memory") or is_learned(task, "runtime")]
    counts = sorted({task.predicted.records for task in marked if task.predicted is not None})
    if not counts:
        return ""
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{LEARNED} learned from {number} finished tasks: memory that 1 in 20 exceeds, the typical time"


def _workflow_rows(tasks: list[Task]) -> list[tuple[str, ...]]:
    by_workflow: dict[str, list[Task]] = {}
    for task in tasks:
        by_workflow.setdefault(task.workflow, []).append(task)
    return [
        (name, members[0].kind, str(len(members)), *_size(max(members, key=runtime_of)))
        for name, members in by_workflow.items()
    ]


def _tell_times(plan: Plan, times: _Times) -> None:
    schedule, left = times.schedule, remaining(plan, times.cached)
    if times.cached:
        click.echo(f"cached         {len(times.cached)} of {len(plan.tasks)} tasks are cached and take no time")
    shown = [task.name for task in times.path]
    if len(shown) > 8:
        shown = [*shown[:4], f"({len(shown) - 7} more)", *shown[-3:]]
    click.echo(f"critical path  {format_span(times.longest)}: {' -> '.join(shown)}")
    cause = f" ({schedule.bound})" if schedule is not None else ""
    click.echo(f"at least       {format_span(times.bound)} on {len(plan.machine.cores)} cores{cause}")
    if schedule is not None:
        busy = f"{schedule.bottleneck} {100 * schedule.utilisation:.0f} % busy"
        click.echo(f"planned        {format_span(schedule.makespan)}, {busy}, {schedule.node_hours:.3g} node-hours")
        if schedule.reason:
            click.echo(f"               {schedule.reason}")
    unstated = sum(not has_runtime(task) for task in left.tasks)
    if unstated:
        click.echo(f"               ({unstated} of {len(left.tasks)} tasks state no runtime; each counts as 1 min)")
    if plan.deadline is not None:
        seconds = plan.deadline.total_seconds()
        verdict = "met" if times.planned <= seconds else "missed by this plan"
        verdict = "cannot be met" if times.bound > seconds else verdict
        click.echo(f"deadline       {format_span(seconds)}: {verdict}")
    if budget := budget_line(left):
        click.echo(f"budget        {budget.removeprefix('budget')}")
    if times.refusals and schedule is not None:
        skipped = f"; {len(schedule.skipped)} that depend on them are skipped" if schedule.skipped else ""
        click.echo(f"no window      {len(times.refusals)} tasks will fail{skipped}")
        more = len(times.refusals) - SHOWN
        rest = [f"and {more} more; --json names them"] if more > 0 else []
        click.echo("\n".join(f"  {line}" for line in [*times.refusals[:SHOWN], *rest]))


def _picture(plan: Plan, schedule: Schedule, now: datetime) -> str:
    from socm_like.results.gantt import gantt_svg  # noqa: PLC0415 - only where a picture is asked for

    return gantt_svg(
        schedule,
        nodes_of(plan.machine),
        workflow_of={task.name: task.workflow for task in plan.tasks},
        title=f"{plan.campaign} on {plan.machine.name}",
        deadline=None if plan.deadline is None else plan.deadline.total_seconds(),
        critical=schedule.critical_path,
        closed=closed_hours(plan, schedule, now),
    )


def _data(plan: Plan, times: _Times) -> dict[str, Any]:
    schedule = times.schedule
    starts = {p.job: p.start for p in reversed(schedule.placements)} if schedule is not None else {}
    ends = {p.job: p.end for p in schedule.placements} if schedule is not None else {}
    return {
        "campaign": plan.campaign,
        "run": plan.run_name,
        "machine": plan.machine.model_dump(mode="json"),
        "critical_path": [task.name for task in times.path],
        "critical_path_seconds": times.longest,
        "deadline": plan.deadline.total_seconds() if plan.deadline else None,
        "core_hours": core_hours_of(remaining(plan, times.cached)),
        "core_hours_budget": plan.policy.core_hours,
        "no_window": list(times.refusals),
        "notes": list(plan.notes),
        "schedule": None
        if schedule is None
        else {
            "makespan_seconds": schedule.makespan,
            "lower_bound_seconds": schedule.lower_bound,
            "bound": schedule.bound,
            "bottleneck": schedule.bottleneck,
            "utilisation": schedule.utilisation,
            "node_hours": schedule.node_hours,
            "reason": schedule.reason,
        },
        "tasks": [
            {
                "task": task.name,
                "workflow": task.workflow,
                "kind": task.kind,
                "id": task.id,
                "folder": str(plan.store / task.folder),
                "dependencies": list(task.dependencies),
                "resources": task.resources.model_dump(mode="json"),
                "predicted": None if task.predicted is None else task.predicted.model_dump(mode="json"),
                "argv": None if task.argv is None else list(task.argv),
                "parameters": dict(task.parameters),
                "start": starts.get(task.name),
                "end": ends.get(task.name),
                "cached": task.name in times.cached,
            }
            for task in _in_start_order(plan)
        ],
    }
