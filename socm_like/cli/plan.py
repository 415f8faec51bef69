"""``campaign plan``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from socm_like.cli.loading import plan_campaign
from socm_like.cli.options import campaign_argument, campaign_store_option, json_option
from socm_like.cli.render import table
from socm_like.outcome import find_result
from socm_like.plan import Plan, critical_path, runtime_of, upward_ranks
from socm_like.task import Task
from socm_like.units import format_size, format_span

SHOWN = 60
"""Tasks listed one by one; of a larger plan the workflows are listed."""


@click.command("plan")
@campaign_argument
@campaign_store_option
@json_option
@click.option("--all", "show_all", is_flag=True, help="List every task of a large plan.")
def command(file: Path, settings: tuple[str, ...], store: Path | None, as_json: bool, show_all: bool) -> None:
    """Show the tasks in the order they start, their sizes, and the critical path; nothing is written.

    FILE is campaign.toml by default.
    """
    plan, _ = plan_campaign(file, settings, store)
    if as_json:
        click.echo(json.dumps(_data(plan), indent=2))
        return
    ordered = _in_start_order(plan)
    machine = plan.machine
    gpus = f", {len(machine.gpus)} GPUs" if machine.gpus else ""
    click.echo(f"{plan.run_name} on {machine.name}: {len(machine.cores)} cores, {format_size(machine.memory)}{gpus}")
    click.echo()
    if show_all or len(ordered) <= SHOWN:
        rows = [_row(task, plan) for task in ordered]
        click.echo(table(("task", "kind", "cores", "memory", "gpus", "time", "needs", ""), rows))
    else:
        click.echo(table(("workflow", "kind", "tasks", "cores", "memory", "gpus", "time"), _workflow_rows(ordered)))
    if plan.notes:
        click.echo("\n" + "\n".join(plan.notes))
    click.echo()
    _tell_times(plan)


def _in_start_order(plan: Plan) -> list[Task]:
    """Return the tasks as the runner would take them: parents first, then the longest chain behind."""
    ranks = upward_ranks(plan.tasks)
    return sorted(plan.tasks, key=lambda task: -ranks[task.name])


def _row(task: Task, plan: Plan) -> tuple[str, ...]:
    needs = ", ".join(task.dependencies[:3]) + (
        f" and {len(task.dependencies) - 3} more" if len(task.dependencies) > 3 else ""
    )
    cached = "cached" if find_result(task, plan.store) is not None else ""
    return (task.name, task.kind, *_size(task), needs, cached)


def _size(task: Task) -> tuple[str, str, str, str]:
    resources = task.resources
    return (
        str(resources.cores),
        format_size(resources.memory) if resources.memory else "-",
        str(resources.gpus) if resources.gpus else "-",
        format_span(resources.runtime.total_seconds()) if resources.runtime else "-",
    )


def _workflow_rows(tasks: list[Task]) -> list[tuple[str, ...]]:
    by_workflow: dict[str, list[Task]] = {}
    for task in tasks:
        by_workflow.setdefault(task.workflow, []).append(task)
    return [
        (name, members[0].kind, str(len(members)), *_size(max(members, key=runtime_of)))
        for name, members in by_workflow.items()
    ]


def _tell_times(plan: Plan) -> None:
    path = critical_path(plan.tasks)
    shown = [task.name for task in path]
    if len(shown) > 8:
        shown = [*shown[:4], f"({len(shown) - 7} more)", *shown[-3:]]
    longest = sum(runtime_of(task) for task in path)
    busiest = sum(runtime_of(task) * task.resources.cores for task in plan.tasks) / len(plan.machine.cores)
    click.echo(f"critical path  {format_span(longest)}: {' -> '.join(shown)}")
    click.echo(f"at least       {format_span(max(longest, busiest))} on {len(plan.machine.cores)} cores")
    unstated = sum(task.resources.runtime is None for task in plan.tasks)
    if unstated:
        click.echo(f"               ({unstated} of {len(plan.tasks)} tasks state no runtime; each counts as 1 min)")
    if plan.deadline is not None:
        verdict = "met" if max(longest, busiest) <= plan.deadline.total_seconds() else "cannot be met"
        click.echo(f"deadline       {format_span(plan.deadline.total_seconds())}: {verdict}")


def _data(plan: Plan) -> dict[str, Any]:
    path = critical_path(plan.tasks)
    return {
        "campaign": plan.campaign,
        "run": plan.run_name,
        "machine": plan.machine.model_dump(mode="json"),
        "critical_path": [task.name for task in path],
        "critical_path_seconds": sum(runtime_of(task) for task in path),
        "deadline": plan.deadline.total_seconds() if plan.deadline else None,
        "notes": list(plan.notes),
        "tasks": [
            {
                "task": task.name,
                "workflow": task.workflow,
                "kind": task.kind,
                "id": task.id,
                "folder": str(plan.store / task.folder),
                "dependencies": list(task.dependencies),
                "resources": task.resources.model_dump(mode="json"),
                "argv": None if task.argv is None else list(task.argv),
                "parameters": dict(task.parameters),
            }
            for task in _in_start_order(plan)
        ],
    }
