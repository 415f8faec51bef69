"""``campaign plan --machine``: what the partitions of a machine would take, and what a deadline needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from socm_like.cli.loading import plan_campaign
from socm_like.cli.render import coloured, print_json, table
from socm_like.machine_file import MachineFile, find_machine
from socm_like.plan import Plan
from socm_like.resources import Machine
from socm_like.timeline import Offer, offers
from socm_like.units import format_size, format_span


def show_offers(file: Path, settings: Sequence[str], store: Path | None, name: str, *, as_json: bool) -> int:
    """Print what each partition of a machine offers a campaign; return the exit status.

    1: no partition can run it, or none keeps the deadline.
    """
    machine = find_machine(name, Path.cwd())
    plan, _ = plan_campaign(file, settings, store, _widest(machine))
    found = list(offers(plan, machine))
    if as_json:
        print_json([_data(offer) for offer in found])
    else:
        _print(plan, machine, found)
    possible = [offer for offer in found if not offer.problem]
    kept = [offer for offer in possible if offer.recommendation is not None and offer.recommendation.allocation]
    return 0 if possible and (plan.deadline is None or kept) else 1


def _widest(machine: MachineFile) -> Machine:
    """Return all of the machine as one: what does not fit here fits nowhere on it."""
    nodes = machine.nodes.values()
    memories = [node.gpu_memory for node in nodes if node.gpu_memory is not None]
    return Machine(
        name=machine.name,
        cores=tuple(range(max(node.cores * node.count for node in nodes))),
        memory=max(node.memory * node.count for node in nodes),
        gpus=tuple(map(str, range(max(node.gpus * node.count for node in nodes)))),
        gpu_memory=max(memories, default=None),
    )


def _print(plan: Plan, machine: MachineFile, found: Sequence[Offer]) -> None:
    tasks = f"{len(plan.tasks)} task{'s'[: len(plan.tasks) != 1]}"
    click.echo(f"{plan.campaign} on {machine.name}: {tasks}")
    for offer in found:
        node = f"{offer.node.cores} cores, {format_size(offer.node.memory)}"
        node += f", {offer.node.gpus} GPUs" if offer.node.gpus else ""
        limits = f"up to {offer.most} nodes of {node}, {format_span(offer.walltime)} at a time"
        click.echo(f"\n{coloured(offer.name, bold=True)}  {limits}")
        if offer.problem:
            click.echo(f"cannot run it: {offer.problem}")
            continue
        click.echo(table(("nodes", "takes", "node-hours", "of the bound", "allocations", "cost"), _rows(offer)))
        if offer.recommendation is not None and plan.deadline is not None:
            deadline = format_span(plan.deadline.total_seconds())
            word = "deadline" if offer.recommendation.allocation else "deadline cannot be kept"
            click.echo(f"{word} {deadline}: {offer.recommendation.reason}")


def _rows(offer: Offer) -> list[tuple[str, ...]]:
    price = offer.cost_per_node_hour
    return [
        (
            str(choice.nodes),
            format_span(choice.makespan),
            f"{choice.node_hours:.3g}",
            f"{choice.ratio:.2f}",
            str(choice.pilots),
            "-" if price is None else f"{choice.node_hours * price:.3g}",
        )
        for choice in offer.choices
    ]


def _data(offer: Offer) -> dict[str, Any]:
    chosen = offer.recommendation.allocation if offer.recommendation is not None else None
    return {
        "partition": offer.name,
        "most_nodes": offer.most,
        "walltime_seconds": offer.walltime,
        "problem": offer.problem or None,
        "choices": [
            {
                "nodes": choice.nodes,
                "makespan_seconds": choice.makespan,
                "node_hours": choice.node_hours,
                "ratio": choice.ratio,
                "allocations": choice.pilots,
            }
            for choice in offer.choices
        ],
        "recommended_nodes": None if chosen is None else chosen.nodes,
        "recommendation": None if offer.recommendation is None else offer.recommendation.reason,
    }
