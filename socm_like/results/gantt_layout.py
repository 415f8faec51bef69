"""What a Gantt chart shows, before it is drawn: bars on rows of cores, use over time, ticks."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from socm_like.schedule import Node, Placement, Schedule, Share

LANES = 32
"""Nodes that are drawn."""
SEPARATE = 5_000
"""Rectangles that are drawn as they are; of more, those of one workflow that touch are joined."""
TOOLTIPS = 9_000
"""Rectangles that still get a tooltip each, which makes 1.7 MB; more are lines without."""
GAPS = (0.25, 1.0)
"""Widths of the gaps that are closed, the next where the first is not enough."""
NARROWEST = 0.8
"""Least width of a rectangle, also of a job that takes no time."""
VISIBLE = 3.0
"""Least height of a rectangle, where its lane has room."""
_UNITS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 0.001))
_STEPS = (
    *(power * factor for power in (0.001, 0.01, 0.1) for factor in (1.0, 2.0, 5.0)),
    1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0,
    3600.0, 7200.0, 10800.0, 21600.0, 43200.0,
    *(86400.0 * power * factor for power in (1, 10, 100, 1000) for factor in (1.0, 2.0, 5.0)),
)  # fmt: skip
"""Seconds between two ticks."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle of a lane: adjacent rows, from start to end, held by one job or by several of one workflow."""

    node: int
    row: int
    """The first of its rows, from 0 at the bottom of the lane."""
    rows: int
    start: float
    end: float
    workflow: str
    critical: bool
    placement: Placement
    """The job, or the first of several."""
    share: Share
    count: int = 1
    """Jobs that it stands for."""


@dataclass(frozen=True, slots=True)
class Held:
    """A job on one node, with what tells its colour and outline."""

    placement: Placement
    share: Share
    workflow: str
    critical: bool

    @property
    def empty(self) -> bool:
        """Whether it takes no time, and so needs no rows of its own."""
        return self.placement.end <= self.placement.start


@dataclass(frozen=True, slots=True)
class Lane:
    """Where one node is drawn; its height stands for its cores."""

    node: Node
    top: float
    height: float

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.top + self.height

    @property
    def per_core(self) -> float:
        """Height of one row."""
        return self.height / self.node.cores


@dataclass(frozen=True, slots=True)
class Axis:
    """Time from left to right."""

    left: float
    right: float
    end: float

    @property
    def per_unit(self) -> float:
        """Seconds from one unit of length to the next."""
        return self.end / (self.right - self.left)

    def x(self, seconds: float) -> float:
        """Return where an instant is."""
        return self.left + (self.right - self.left) * seconds / self.end


@dataclass(frozen=True, slots=True)
class Packing:
    """The rectangles of a chart, and what must be said of them."""

    bars: tuple[Bar, ...]
    joined: bool
    """Whether some stand for several jobs."""
    raised: bool
    """Whether some are higher than their jobs have cores."""


@dataclass(frozen=True, slots=True)
class Ticks:
    """Where an axis of time is marked, in a unit that makes the numbers short."""

    seconds: tuple[float, ...]
    labels: tuple[str, ...]
    unit: str


def lanes_of(nodes: Sequence[Node], top: float) -> list[Lane]:
    """Return lanes as high as their nodes have cores, but none too low to be read."""
    shown = nodes[:LANES]
    per_core = min(16.0, 240.0 / max(node.cores for node in shown), 460.0 / sum(node.cores for node in shown))
    least = 14.0 if len(shown) > 12 else 28.0
    lanes = []
    for node in shown:
        lanes.append(Lane(node, top, max(least, per_core * node.cores)))
        top = lanes[-1].bottom + 4.0
    return lanes


def held_by_node(
    schedule: Schedule, workflow_of: Mapping[str, str], critical: Collection[str]
) -> dict[int, list[Held]]:
    """Return for each node by its index what runs there."""
    held: dict[int, list[Held]] = {}
    for placement in schedule.placements:
        for share in placement.shares:
            item = Held(placement, share, workflow_of[placement.job], placement.job in critical)
            held.setdefault(share.node, []).append(item)
    return held


def pack(held: Mapping[int, Sequence[Held]], lanes: Sequence[Lane], axis: Axis) -> Packing:
    """Return the bars of all lanes; of more than ``SEPARATE`` those that touch are joined, wider gaps as need be."""
    rows = [max(math.ceil(VISIBLE / lane.per_core), 1) for lane in lanes]
    least = [least_rows(held.get(n, ()), lane.node.cores, rows[n]) for n, lane in enumerate(lanes)]
    raised = any(item.share.cores < least[n] for n in range(len(lanes)) for item in held.get(n, ()))
    separate = [list(bars_on(held.get(n, ()), lane.node.cores, least[n])) for n, lane in enumerate(lanes)]
    found = separate
    for gap in GAPS:
        if sum(map(len, found)) <= (SEPARATE if found is separate else TOOLTIPS):
            break
        found = [merged(bars, gap * axis.per_unit) for bars in separate]
    bars = tuple(bar for lane in found for bar in lane)
    return Packing(bars, any(bar.count > 1 for bar in bars), raised)


def least_rows(held: Sequence[Held], cores: int, wanted: int) -> int:
    """Return how many rows the narrowest jobs can have, at most ``wanted``, so that all still fit on the lane.

    A job that takes all memory of a node and one of its 128 cores would be a hair on a low lane.
    """
    changes = sorted(
        change
        for item in held
        if not item.empty
        for change in ((item.placement.start, 1, item.share.cores), (item.placement.end, -1, item.share.cores))
    )
    changes.sort(key=lambda change: change[:2])

    def fits(least: int) -> bool:
        return max(accumulate(sign * max(asked, least) for _, sign, asked in changes), default=0) <= cores

    low, high = 1, max(min(wanted, cores), 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def bars_on(held: Iterable[Held], cores: int, least: int = 1) -> Iterator[Bar]:
    """Yield the bars of one node: each job on the lowest adjacent rows that are free from its start on.

    First fit over time, the wider of two that start together first. Where enough rows are free but not side by side,
    a job gets several bars, on the largest gaps.
    """
    free = (1 << cores) - 1
    running: list[tuple[float, int]] = []
    for item in sorted(held, key=_turn):
        while running and running[0][0] <= item.placement.start:
            free |= heapq.heappop(running)[1]
        asked = min(max(item.share.cores, least), cores)
        spans = [(lowest, asked)] if (lowest := _first_fit(free, asked)) is not None else _spread(free, asked)
        for row, rows in spans:
            yield Bar(
                item.share.node, row, rows, item.placement.start, item.placement.end,
                item.workflow, item.critical, item.placement, item.share,
            )  # fmt: skip
            if not item.empty:
                taken = (1 << rows) - 1 << row
                free &= ~taken
                heapq.heappush(running, (item.placement.end, taken))


def _turn(item: Held) -> tuple[float, bool, int, str, str]:
    return item.placement.start, not item.empty, -item.share.cores, item.workflow, item.placement.job


def _first_fit(free: int, asked: int) -> int | None:
    """Return the lowest row from which so many are free: each shift doubles the run that a set bit stands for."""
    run = 1
    while run < asked and free:
        step = min(run, asked - run)
        free &= free >> step
        run += step
    return (free & -free).bit_length() - 1 if free else None


def _spread(free: int, asked: int) -> list[tuple[int, int]]:
    """Return gaps that hold so many rows together; where too few are free, the lowest rows, free or not."""
    gaps: list[tuple[int, int]] = []
    row = 0
    while free >> row:
        row += (free >> row & -(free >> row)).bit_length() - 1
        rest = ~(free >> row)
        rows = (rest & -rest).bit_length() - 1
        gaps.append((row, rows))
        row += rows
    if sum(rows for _, rows in gaps) < asked:
        return [(0, asked)]
    spans = []
    for row, rows in sorted(gaps, key=lambda gap: -gap[1]):
        spans.append((row, min(rows, asked)))
        asked -= min(rows, asked)
        if not asked:
            break
    return spans


def merged(bars: Iterable[Bar], gap: float) -> list[Bar]:
    """Return the bars of one node in the order of their starts, those that touch joined.

    Two are joined when they have the same rows, workflow and outline, and no more than ``gap`` seconds and no other
    bar between them.
    """
    joined: list[Bar] = []
    jobs: list[set[str]] = []
    """Of each its jobs: the parts of a job that was split count once."""
    latest: dict[int, int] = {}
    for bar in bars:
        rows = range(bar.row, bar.row + bar.rows)
        number = latest.get(bar.row, -1)
        if number >= 0 and _touch(joined[number], bar, gap) and all(latest.get(row) == number for row in rows):
            before = joined[number]
            jobs[number].add(bar.placement.job)
            joined[number] = replace(before, end=max(before.end, bar.end), count=len(jobs[number]))
        else:
            latest.update(dict.fromkeys(rows, len(joined)))
            joined.append(bar)
            jobs.append({bar.placement.job})
    return joined


def _touch(before: Bar, bar: Bar, gap: float) -> bool:
    alike = (before.row, before.rows, before.workflow, before.critical) == (
        bar.row,
        bar.rows,
        bar.workflow,
        bar.critical,
    )
    return alike and bar.start - before.end <= gap


def box_of(bar: Bar, lanes: Sequence[Lane], axis: Axis) -> tuple[float, float, float, float]:
    """Return left, top, width and height; edges are rounded, not sizes, so that neighbours stay apart."""
    lane = lanes[bar.node]
    left, right = round(axis.x(bar.start), 2), round(axis.x(bar.end), 2)
    top = round(lane.bottom - (bar.row + bar.rows) * lane.per_core, 2)
    bottom = round(lane.bottom - bar.row * lane.per_core, 2)
    return min(left, axis.right - NARROWEST), top, max(right - left, NARROWEST), bottom - top


def utilisation(schedule: Schedule, nodes: Sequence[Node]) -> list[tuple[float, float]]:
    """Return when the used fraction of the bottleneck changes and what it is from then on; the last is the end."""
    amount = _amounts[schedule.bottleneck]
    capacity = sum(amount(node) for node in nodes)
    changes: dict[float, int] = {0.0: 0, schedule.makespan: 0}
    for placement in schedule.placements:
        used = sum(amount(share) for share in placement.shares)
        changes[placement.start] = changes.get(placement.start, 0) + used
        changes[placement.end] = changes.get(placement.end, 0) - used
    steps: list[tuple[float, float]] = []
    total = 0
    for time in sorted(changes):
        total += changes[time]
        steps.append((time, total / capacity if capacity else 0.0))
    return steps


_amounts: dict[str, Callable[[Node | Share], int]] = {
    "cores": lambda held: held.cores,
    "memory": lambda held: held.memory,
    "gpus": lambda held: held.gpus,
}


def mean(steps: Sequence[tuple[float, float]]) -> float:
    """Return the mean of a step function from its first to its last time; 0 where that is no time."""
    span = steps[-1][0] - steps[0][0]
    return sum((then - time) * value for (time, value), (then, _) in pairwise(steps)) / span if span > 0 else 0.0


def averaged(steps: Sequence[tuple[float, float]], bins: int) -> list[tuple[float, float]]:
    """Return a step function of so many steps of equal length, each the mean over it."""
    width = steps[-1][0] / bins
    sums = [0.0] * bins
    for (time, value), (then, _) in pairwise(steps):
        place = min(int(time / width), bins - 1)
        while place < bins and place * width < then:
            sums[place] += value * max(min(then, (place + 1) * width) - max(time, place * width), 0.0)
            place += 1
    return [*((place * width, total / width) for place, total in enumerate(sums)), steps[-1]]


def ticks(end: float, most: int = 8) -> Ticks:
    """Return marks from 0 to at most ``end`` seconds, in steps that people count in."""
    step = next((step for step in _STEPS if end <= most * step), end / most)
    unit, seconds = next(((name, size) for name, size in _UNITS if step >= size), _UNITS[-1])
    marks = tuple(number * step for number in range(int(end / step * (1 + 1e-9)) + 1))
    return Ticks(marks, tuple(f"{mark / seconds:.6g}" for mark in marks), unit)
