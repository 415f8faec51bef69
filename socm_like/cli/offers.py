"""``campaign plan --machine``: what the partitions of a machine would take, and what a deadline needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from socm_like.campaign import Campaign
from socm_like.cli.loading import plan_loaded
from socm_like.cli.render import coloured, print_json, table
from socm_like.errors import UsageError
from socm_like.machine_file import MachineFile
from socm_like.plan import Plan
from socm_like.schedule import Allocation
from socm_like.timeline import Offer, cheapest, core_hours_of, offers, refusing
from socm_like.units import format_size, format_span

REASONS = 5
"""Reasons shown why a partition cannot run a plan."""


def show_offers(campaign: Campaign, machine: MachineFile, store: Path | None, *, as_json: bool) -> int:
    """Print what each partition of a machine offers a campaign, and which to take; return the exit status.

    1: no partition can run it, none keeps the deadline, or it takes more core-hours than its budget.
    """
    plan, _ = plan_loaded(campaign, store, machine.as_one())
    found = list(offers(plan, machine))
    chosen, budget = cheapest(found), budget_line(plan)
    if as_json:
        partitions = [_data(offer) for offer in found]
        print_json({"partitions": partitions, "recommendation": _chosen(chosen), "core_hours": core_hours_of(plan)})
    else:
        _print(plan, machine, found)
        click.echo()
        if budget:
            click.echo(budget)
        click.echo(_verdict(plan, machine, found, chosen))
    possible = any(not offer.faults for offer in found)
    return 0 if possible and (plan.deadline is None or chosen) and not exceeds_budget(plan) else 1


def exceeds_budget(plan: Plan) -> bool:
    """Whether the tasks of a plan together take more core-hours than its policy allows."""
    return plan.policy.core_hours is not None and core_hours_of(plan) > plan.policy.core_hours


def budget_line(plan: Plan) -> str:
    """Return what a plan takes of its budget; empty where it has none."""
    if plan.policy.core_hours is None:
        return ""
    return f"budget {plan.policy.core_hours:.5g} core-hours: this plan takes {core_hours_of(plan):.5g}"


def _verdict(plan: Plan, machine: MachineFile, found: Sequence[Offer], chosen: tuple[Offer, Allocation] | None) -> str:
    """Return the last line: what to take for the deadline, or why there is nothing to take."""
    if all(offer.faults for offer in found):
        return f"no partition of {machine.name} can run it"
    if plan.deadline is None:
        return 'without a deadline nothing is recommended; write one, as deadline = "12 h"'
    deadline = format_span(plan.deadline.total_seconds())
    if chosen is None:
        return f"no partition of {machine.name} keeps the deadline of {deadline}"
    offer, row = chosen
    price = "" if offer.cost_per_node_hour is None else f", cost {offer.cost(row):.3g}"
    each = "1 allocation" if row.pilots == 1 else f"{row.pilots} allocations, one after the other,"
    nodes = f"{row.nodes} node{'s'[: row.nodes != 1]}"
    words = f"{offer.name}, {nodes} in {each} of {_minutes(_asked(offer, row))}"
    return f"take {words}: {format_span(row.makespan)} of {deadline}, {row.node_hours:.3g} node-hours{price}"


def _minutes(seconds: float) -> str:
    """Return a walltime to ask for, never less than so many seconds."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _asked(offer: Offer, row: Allocation) -> float:
    """Return the walltime to ask for: of the only allocation the plan's own, of several the longest there is."""
    return row.makespan if row.pilots == 1 or offer.walltime is None else offer.walltime


def refuse_what_fits_nowhere(plan: Plan, machine: MachineFile) -> None:
    """Raise UsageError where no partition of a machine can run a plan, with the reasons of each."""
    found = list(refusing(plan, machine))
    if all(offer.faults for offer in found):
        told = [f"{offer.name}: {line}" for offer in found for line in _grouped(offer.faults)]
        raise UsageError("\n".join([f"no partition of {machine.name} can run {plan.campaign}", *told]))


def _print(plan: Plan, machine: MachineFile, found: Sequence[Offer]) -> None:
    tasks = f"{len(plan.tasks)} task{'s'[: len(plan.tasks) != 1]}"
    click.echo(f"{plan.campaign} on {machine.name}: {tasks}")
    for offer in found:
        node = f"{offer.node.cores} cores, {format_size(offer.node.memory)}"
        node += f", {offer.node.gpus} GPUs" if offer.node.gpus else ""
        count = f"{offer.least} to {offer.most}" if offer.least > 1 else f"up to {offer.most}"
        count = f"at least {offer.least}" if offer.least > offer.most else count
        limits = f"{count} node{'s'[: max(offer.least, offer.most) != 1]} of {node}"
        limits += "" if offer.walltime is None else f", {format_span(offer.walltime)} at a time"
        click.echo(f"\n{coloured(offer.name, bold=True)}  {limits}")
        if offer.faults:
            click.echo("cannot run it: " + "\n  ".join(_grouped(offer.faults)))
            continue
        click.echo(table(("nodes", "takes", "node-hours", "of the bound", "allocations", "cost"), _rows(offer)))
        if offer.recommendation is not None and plan.deadline is not None:
            deadline = format_span(plan.deadline.total_seconds())
            word = "deadline" if offer.recommendation.allocation else "deadline cannot be kept"
            click.echo(f"{word} {deadline}: {offer.recommendation.reason}")


def _grouped(faults: Sequence[str]) -> list[str]:
    """Return one line for all tasks that cannot run for the same reason, and how many more reasons there are."""
    names: dict[str, list[str]] = {}
    for name, _, reason in (fault.partition(": ") for fault in faults):
        names.setdefault(reason, []).append(name)
    lines = [
        f"{who[0]}{f' and {len(who) - 1} more tasks' if len(who) > 1 else ''}{': ' if reason else ''}{reason}"
        for reason, who in names.items()
    ]
    more = len(lines) - REASONS
    return [*lines[:REASONS], *([f"and {more} more reasons; --json gives all"] if more > 0 else [])]


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
        "least_nodes": offer.least,
        "most_nodes": offer.most,
        "walltime_seconds": offer.walltime,
        "problem": "\n".join(offer.faults) or None,
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


def _chosen(chosen: tuple[Offer, Allocation] | None) -> dict[str, Any] | None:
    if chosen is None:
        return None
    offer, row = chosen
    return {
        "partition": offer.name,
        "nodes": row.nodes,
        "allocations": row.pilots,
        "walltime_seconds": _asked(offer, row),
        "makespan_seconds": row.makespan,
        "node_hours": row.node_hours,
        "cost": None if offer.cost_per_node_hour is None else offer.cost(row),
    }
