"""Why a makespan stays above its lower bound, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from socm_like.schedule.dispatch import Timetable
from socm_like.schedule.load import Demand, Load
from socm_like.schedule.model import Node, Share
from socm_like.units import format_size, format_span


def why_above(load: Load, nodes: Sequence[Node], table: Timetable, bottleneck: str) -> str:
    """Return what the idle part of the bottleneck waited for.

    Idle time while ready jobs waited is fragmentation: what was free did not fit any of them. Idle time while none
    waited is the shape of the graph: there was nothing to start.
    """
    fragmented, starved, last_wait = _idle(load, nodes, table, bottleneck)
    verb = "is" if bottleneck == "memory" else "are"
    parts = []
    if starved >= 0.01:
        last = load.names[max(range(len(load.names)), key=lambda job: table.ends[job])]
        parts.append(
            f"{starved:.0%} while no ready job waited: from {format_span(last_wait)} on only running jobs and what "
            f"depends on them are left, {last!r} ends last"
        )
    if fragmented >= 0.01:
        longest = max(range(len(load.names)), key=lambda job: table.starts[job] - _ready(load, table, job))
        parts.append(
            f"{fragmented:.0%} while what was free on the nodes was too little for those that waited, "
            f"as for {load.names[longest]!r} ({_asked(load.demands[longest])})"
        )
    return f"{bottleneck} {verb} idle {fragmented + starved:.0%} of the time: {'; '.join(parts)}"


def _asked(demand: Demand) -> str:
    parts = [f"{demand.pieces} x"] if demand.pieces > 1 else []
    parts += ["a whole node"] if demand.whole else [f"{demand.cores} cores"]
    parts += [f"{format_size(demand.memory)}"] if demand.memory else []
    parts += [f"{demand.gpus} GPUs"] if demand.gpus else []
    return ", ".join(parts).replace(" x,", " x")


def _ready(load: Load, table: Timetable, job: int) -> float:
    return max([load.earliest[job], *(table.ends[parent] for parent in load.parents[job])])


def _idle(load: Load, nodes: Sequence[Node], table: Timetable, bottleneck: str) -> tuple[float, float, float]:
    """Return what fraction is idle with and without a ready job waiting, and when the last one waited."""
    capacity = sum(getattr(node, bottleneck) for node in nodes)
    changes: list[tuple[float, int, int]] = []
    for job, shares in enumerate(table.shares):
        ready = _ready(load, table, job)
        held = sum(_held(share, bottleneck) for share in shares)
        changes += [
            (ready, 1, 0), (table.starts[job], -1, held), (table.ends[job], 0, -held),
        ]  # fmt: skip
    changes.sort()
    waiting = used = 0
    fragmented = starved = last_wait = 0.0
    for (time, more, taken), (following, _, _) in pairwise(changes):
        waiting, used = waiting + more, used + taken
        idle = (capacity - used) * (following - time)
        if waiting:
            fragmented += idle
            last_wait = following if following > time else last_wait
        else:
            starved += idle
    whole = capacity * table.makespan or 1.0
    return fragmented / whole, starved / whole, last_wait


def _held(share: Share, resource: str) -> int:
    return {"cores": share.cores, "memory": share.memory, "gpus": share.gpus}[resource]
