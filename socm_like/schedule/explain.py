"""Why a makespan stays above its lower bound, in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from socm_like.schedule.load import Demand, Load
from socm_like.schedule.model import Limits, Node, Share
from socm_like.schedule.timetable import Timetable
from socm_like.units import format_size, format_span


def why_above(load: Load, nodes: Sequence[Node], limits: Limits, table: Timetable, bottleneck: str) -> str:
    """Return what the idle part of the bottleneck waited for.

    Idle time while released jobs waited is fragmentation, what was free did not fit any of them, or a cap was full for
    all of them. Idle time while none waited is the window that held them, or the shape of the graph: there was nothing
    to start.
    """
    idle = _idle(load, nodes, limits, table, bottleneck)
    verb = "is" if bottleneck == "memory" else "are"
    parts = []
    if idle.held >= 0.01:
        parts.append(f"{idle.held:.0%} because the window holds what is ready")
    if idle.capped >= 0.01:
        names = [name for number, name in enumerate(limits.caps) if number in idle.full]
        shown = " and ".join(f"{name} ({limits.caps[name]} at once)" for name in names)
        parts.append(f"{idle.capped:.0%} because of the concurrency of {shown}")
    if idle.starved >= 0.01:
        last = load.names[max(range(len(load.names)), key=lambda job: table.ends[job])]
        parts.append(
            f"{idle.starved:.0%} while no ready job waited: from {format_span(idle.last_wait)} on only running jobs "
            f"and what depends on them are left, {last!r} ends last"
        )
    if idle.fragmented >= 0.01:
        longest = max(range(len(load.names)), key=lambda job: table.starts[job] - table.released[job])
        parts.append(
            f"{idle.fragmented:.0%} while what was free on the nodes was too little for those that waited, "
            f"as for {load.names[longest]!r} ({_asked(load.demands[longest])})"
        )
    return f"{bottleneck} {verb} idle {idle.total:.0%} of the time: {'; '.join(parts)}"


def _asked(demand: Demand) -> str:
    parts = [f"{demand.pieces} x"] if demand.pieces > 1 else []
    parts += ["a whole node"] if demand.whole else [f"{demand.cores} cores"]
    parts += [f"{format_size(demand.memory)}"] if demand.memory else []
    parts += [f"{demand.gpus} GPUs"] if demand.gpus else []
    return ", ".join(parts).replace(" x,", " x")


def _ready(load: Load, table: Timetable, job: int) -> float:
    return max([load.earliest[job], *(table.ends[parent] for parent in load.parents[job])])


@dataclass
class _Idle:
    """Fractions of the bottleneck over the makespan, by what it waited for."""

    fragmented: float = 0.0
    capped: float = 0.0
    held: float = 0.0
    starved: float = 0.0
    last_wait: float = 0.0
    """When the last ready job waited."""
    full: set[int] = field(default_factory=set)
    """Caps that kept all back that waited."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.fragmented + self.capped + self.held + self.starved


class _Sweep:
    """Who waits, and for what, from one instant to the next."""

    def __init__(self, limits: Limits) -> None:
        self.free = list(limits.caps.values())
        self.waiting: Counter[tuple[int, ...]] = Counter()
        """Caps of released jobs that have not started -> how many there are."""
        self.held = 0
        self.used = 0

    def change(self, step: _Step) -> None:
        """Take over what happens at an instant."""
        _, held, released, running, taken, caps = step
        self.held += held
        self.used += taken
        self.waiting[caps] += released
        for cap in caps:
            self.free[cap] -= running

    def blamed(self) -> set[int] | None:
        """Return the full caps that keep back all who wait, or None when one waits for room."""
        full: set[int] = set()
        for caps, count in self.waiting.items():
            if count > 0:
                blocked = [cap for cap in caps if self.free[cap] <= 0]
                if not blocked:
                    return None
                full.update(blocked)
        return full


_Step = tuple[float, int, int, int, int, tuple[int, ...]]
"""Instant; one held more, one released more, one running more, how much more is in use; caps of the job."""


def _steps(load: Load, table: Timetable, bottleneck: str) -> list[_Step]:
    steps: list[_Step] = []
    for job, (start, end, shares) in table.runs():
        caps, taken = load.caps[job], sum(_held(share, bottleneck) for share in shares)
        if start == table.starts[job]:
            ready, released = _ready(load, table, job), table.released[job]
            steps += [(ready, 1, 0, 0, 0, ()), (released, -1, 1, 0, 0, caps), (start, 0, -1, 0, 0, caps)]
        steps += [(start, 0, 0, 1, taken, caps), (end, 0, 0, -1, -taken, caps)]
    for parts in table.parts.values():
        for (_, stopped, _), (start, _, _) in pairwise(parts):
            steps += [(stopped, 1, 0, 0, 0, ()), (start, -1, 0, 0, 0, ())]
    steps.sort()
    return steps


def _idle(load: Load, nodes: Sequence[Node], limits: Limits, table: Timetable, bottleneck: str) -> _Idle:
    """Return what fraction is idle, for each reason; between its parts a job is held by the window."""
    capacity = sum(getattr(node, bottleneck) for node in nodes)
    whole = capacity * table.makespan or 1.0
    sweep, idle = _Sweep(limits), _Idle()
    for step, (following, *_) in pairwise(_steps(load, table, bottleneck)):
        sweep.change(step)
        if following == step[0]:
            continue
        part = (capacity - sweep.used) * (following - step[0]) / whole
        full = sweep.blamed()
        if full is None:
            idle.fragmented += part
            idle.last_wait = following
        elif full:
            idle.capped += part
            idle.full |= full
            idle.last_wait = following
        elif sweep.held:
            idle.held += part
        else:
            idle.starved += part
    return idle


def _held(share: Share, resource: str) -> int:
    return {"cores": share.cores, "memory": share.memory, "gpus": share.gpus}[resource]
