"""A plan as SVG: who runs where and when, one lane per node, and how much of the bottleneck is in use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from socm_like.results.gantt_layout import (
    LANES,
    TOOLTIPS,
    Axis,
    Bar,
    Lane,
    Packing,
    averaged,
    box_of,
    held_by_node,
    lanes_of,
    mean,
    pack,
    ticks,
    utilisation,
)
from socm_like.results.svg_text import safe, text_width
from socm_like.schedule import Node, Schedule
from socm_like.units import format_size, format_span

WIDTH = 900.0
"""Of the picture; all lengths are SVG user units, CSS pixels at scale 1."""
MARGIN = 24.0
OUTLINES = 500
"""Rectangles of one workflow on the critical path that are outlined also where the others are mere lines."""
NAMED = 80
"""Jobs whose rectangles carry their names, where these fit."""
BINS = 2_400
"""Steps of that curve at most."""
AREA = 92.0
"""Height of the curve of utilisation."""

PALETTE = ("#77aadd", "#ee8866", "#eedd88", "#44bb99", "#ffaabb", "#99ddff", "#bbcc33", "#aaaa00")
"""One colour per workflow, told apart by the colour-blind, dark text readable on each.

Source: P. Tol, Colour Schemes, SRON/EPS/TN/09-002, the "light" scheme.
"""
OTHERS = "#b4bac1"
"""The colour of all workflows beyond these."""
_INK, _SOFT, _FAINT, _LANE = "#1d2733", "#5b6671", "#dce1e6", "#f4f6f8"
_LATE, _SHADE = "#b3261e", "#5b6671"
_FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True, slots=True)
class _Key:
    """One entry of the legend."""

    label: str
    number: str
    tooltip: str
    fill: str
    stroke: str = "none"


def gantt_svg(
    schedule: Schedule,
    nodes: Sequence[Node],
    *,
    workflow_of: Mapping[str, str],
    title: str,
    deadline: float | None = None,
    critical: Collection[str] = (),
    closed: Sequence[tuple[float, float]] = (),
) -> str:
    """Return the plan as one SVG document that needs no other file.

    ``workflow_of`` names the workflow of every job, ``critical`` the jobs that get an outline, ``deadline`` is in
    seconds from the start, ``closed`` are the spans outside the window, which are shaded. A rectangle is as high as
    the cores of its job; where all jobs of a lane can be higher without overlap, none is too low to be seen.
    """
    if not schedule.placements:
        text = f'<text x="{MARGIN:g}" y="68" font-size="12" fill="{_SOFT}">nothing to plan</text>'
        return "\n".join([*_head(title, 92.0), text, "</svg>"]) + "\n"
    fills, keys = _colours(schedule, workflow_of, set(critical))
    legend, top = _legend(keys, 74.0)
    lanes = lanes_of(nodes, top + 26.0)
    names = _names(lanes)
    axis = _axis(schedule, names, deadline)
    base = lanes[-1].bottom + 34.0
    packing = pack(held_by_node(schedule, workflow_of, set(critical)), lanes, axis)
    notes = [*_notes(schedule, nodes, packing), *(["Shaded: outside the preferred hours."] if closed else [])]
    height = base + AREA + 44.0 + 15.0 * len(notes) + (6.0 if notes else 0.0)
    summary = f'<text x="{MARGIN:g}" y="53" font-size="12" fill="{_SOFT}">{safe(_summary(schedule, nodes))}</text>'
    body = [
        summary,
        *legend,
        *_lane_marks(axis, lanes, names),
        *_grid(axis, lanes, base),
        *_shades(axis, lanes, base, closed),
        *_rectangles(packing.bars, lanes, axis, fills),
        *_area(schedule, nodes, axis, base),
        *(_upright(axis.x(start), lanes, base, _SOFT) for start in schedule.pilots[1:]),
        *(() if deadline is None else _deadline(schedule, axis, lanes, base, deadline)),
        *(_text(note, MARGIN, base + AREA + 58 + 15 * n, "start", _SOFT, size=10) for n, note in enumerate(notes)),
    ]
    return "\n".join([*_head(title, height), *body, "</svg>"]) + "\n"


def _head(title: str, height: float) -> list[str]:
    size = f'width="{WIDTH:g}" height="{height:.0f}" viewBox="0 0 {WIDTH:g} {height:.0f}"'
    shown = _cut(title, 16.0, (WIDTH - 2 * MARGIN) / 1.06)
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONT}">',
        f"<title>{safe(title)}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{MARGIN:g}" y="34" font-size="16" font-weight="bold" fill="{_INK}">{safe(shown)}</text>',
    ]


def _summary(schedule: Schedule, nodes: Sequence[Node]) -> str:
    sizes = {node.cores for node in nodes}
    each = f" of {_count(sizes.pop(), 'core')}" if len(sizes) == 1 else ""
    bound = schedule.bound.replace("gpus", "GPUs")
    parts = [
        _count(len({placement.job for placement in schedule.placements}), "task"),
        f"{_count(len(nodes), 'node')}{each}",
        f"takes {format_span(schedule.makespan)}",
        f"lower bound {format_span(schedule.lower_bound)} ({bound})",
        f"{schedule.node_hours:.3g} node-hours",
    ]
    return " · ".join(parts)


def _colours(
    schedule: Schedule, workflow_of: Mapping[str, str], critical: Collection[str]
) -> tuple[dict[str, str], list[_Key]]:
    """Return the colour of each workflow and the legend: the largest workflows in the order of their starts."""
    jobs = dict.fromkeys(placement.job for placement in schedule.placements)
    counts = Counter(workflow_of[job] for job in jobs)
    largest = {name for name, _ in counts.most_common(len(PALETTE))}
    fills = dict(zip((name for name in counts if name in largest), PALETTE, strict=False))
    keys = [
        _Key(_cut(name, 11.0, 170.0), f"{counts[name]:,}", f"{name}: {_count(counts[name], 'task')}", fill)
        for name, fill in fills.items()
    ]
    rest = [name for name in counts if name not in fills]
    if rest:
        number = sum(counts[name] for name in rest)
        keys.append(_Key(_count(len(rest), "other workflow"), f"{number:,}", ", ".join(rest[:50]), OTHERS))
        fills.update(dict.fromkeys(rest, OTHERS))
    if any(job in critical for job in jobs):
        keys.append(_Key("critical path", "", "the chain of tasks that takes longest", "white", _INK))
    return fills, keys


def _legend(keys: Iterable[_Key], y: float) -> tuple[list[str], float]:
    """Return the legend in as many lines as it needs, and the last of them."""
    parts, x = [], MARGIN
    for key in keys:
        width = 20.0 + text_width(key.label + key.number, 11.0)
        if x > MARGIN and x + width > WIDTH - MARGIN:
            x, y = MARGIN, y + 18.0
        inset = 0.7 if key.stroke != "none" else 0.0
        side = _number(10.0 - 2 * inset)
        parts.append(
            f'<g><title>{safe(key.tooltip)}</title><rect x="{_number(x + inset)}" y="{_number(y - 9 + inset)}" '
            f'width="{side}" height="{side}" fill="{key.fill}" stroke="{key.stroke}" stroke-width="1.4"/>'
            f'<text x="{_number(x + 15)}" y="{_number(y)}" font-size="11" fill="{_INK}">{safe(key.label)}'
            f'<tspan dx="5" fill="{_SOFT}">{key.number}</tspan></text></g>'
        )
        x += width + 14.0
    return parts, y


def _axis(schedule: Schedule, names: Iterable[str], deadline: float | None) -> Axis:
    end = schedule.makespan
    if deadline is not None and end < deadline <= 1.6 * end:
        end = deadline * 1.01
    width = max(52.0, *(text_width(name, 11.0) for name in names))
    return Axis(MARGIN + width + 8.0, WIDTH - MARGIN, end or 1.0)


def _names(lanes: Sequence[Lane]) -> list[str]:
    """Return what the lanes are called: without their domain where that tells them apart, and no longer than fits."""
    names = [lane.node.name for lane in lanes]
    hosts = [name.partition(".")[0] for name in names]
    return [_cut(name, 11.0, 130.0) for name in (hosts if len(set(hosts)) == len(set(names)) else names)]


def _lane_marks(axis: Axis, lanes: Sequence[Lane], names: Sequence[str]) -> Iterator[str]:
    width = _number(axis.right - axis.left)
    for lane, shown in zip(lanes, names, strict=True):
        cores = _count(lane.node.cores, "core")
        tooltip = f"{safe(lane.node.name)}: {cores}, {format_size(lane.node.memory)}"
        tooltip += f", {_count(lane.node.gpus, 'GPU')}" if lane.node.gpus else ""
        yield (
            f'<rect x="{_number(axis.left)}" y="{_number(lane.top)}" width="{width}" height="{_number(lane.height)}" '
            f'fill="{_LANE}"/>'
        )
        both = lane.height >= 28.0
        middle = lane.top + lane.height / 2
        name = f"<title>{tooltip}</title>{safe(shown)}"
        yield _text(name, axis.left - 8, middle - 2 if both else middle + 4, "end", _INK)
        if both:
            yield _text(cores, axis.left - 8, middle + 11, "end", _SOFT, size=10)


def _grid(axis: Axis, lanes: Sequence[Lane], base: float) -> Iterator[str]:
    """Yield the lines and numbers of the time axis that both parts share."""
    width, bottom = _number(axis.right - axis.left), base + AREA
    yield f'<rect x="{_number(axis.left)}" y="{_number(base)}" width="{width}" height="{AREA:g}" fill="{_LANE}"/>'
    marks = ticks(axis.end)
    places = [axis.x(seconds) for seconds in marks.seconds]
    yield from (_upright(x, lanes, base, _FAINT) for x in places)
    lines = "".join(f"M{_number(x)} {_number(bottom)}v4" for x in places)
    yield f'<path d="{lines}" stroke="{_SOFT}" stroke-width="0.8"/>'
    for x, label in zip(places, marks.labels, strict=True):
        yield _text(label, x, bottom + 16, "middle", _SOFT, size=10)
    middle = (axis.left + axis.right) / 2
    yield _text(f"time from the start ({marks.unit})", middle, bottom + 31, "middle", _SOFT, size=10)


def _shades(axis: Axis, lanes: Sequence[Lane], base: float, closed: Iterable[tuple[float, float]]) -> Iterator[str]:
    """Yield the hours outside the window as one path, over the lanes and the area."""
    parts = ((lanes[0].top, lanes[-1].bottom), (base, base + AREA))
    boxes = "".join(
        f"M{_number(axis.x(start))} {_number(top)}H{_number(axis.x(min(end, axis.end)))}V{_number(bottom)}"
        f"H{_number(axis.x(start))}z"
        for start, end in closed if start < axis.end
        for top, bottom in parts
    )  # fmt: skip
    if boxes:
        yield f'<path class="closed" d="{boxes}" fill="{_SHADE}" fill-opacity="0.16"/>'


def _upright(x: float, lanes: Sequence[Lane], base: float, colour: str, above: float = 0.0) -> str:
    """Return a line through the lanes and the area below them, not through the words between; dashed where it
    rises above them."""
    down = f"M{_number(x)} {_number(lanes[0].top - above)}V{_number(lanes[-1].bottom)}"
    dashes = ' stroke-width="1.2" stroke-dasharray="5 3"' if above else ' stroke-width="0.8"'
    return f'<path d="{down}M{_number(x)} {_number(base)}V{_number(base + AREA)}" stroke="{colour}"{dashes}/>'


def _rectangles(bars: Sequence[Bar], lanes: Sequence[Lane], axis: Axis, fills: Mapping[str, str]) -> Iterator[str]:
    """Yield the bars by colour, those of the critical path last; as mere lines where they are too many."""
    groups: dict[tuple[bool, str], list[Bar]] = {}
    for bar in bars:
        groups.setdefault((bar.critical, fills[bar.workflow]), []).append(bar)
    for critical, fill in sorted(groups):
        members = groups[critical, fill]
        if len(bars) > TOOLTIPS and (not critical or len(members) > OUTLINES):
            yield from _lines(members, lanes, axis, _INK if critical else fill)
            continue
        yield f'<g fill="{fill}" stroke="{_INK if critical else "white"}">'
        yield from (_rectangle(bar, lanes, axis) for bar in members)
        yield "</g>"
    if len(bars) <= NAMED:
        yield from filter(None, (_named(bar, lanes, axis) for bar in bars))


def _rectangle(bar: Bar, lanes: Sequence[Lane], axis: Axis) -> str:
    left, top, width, height = box_of(bar, lanes, axis)
    small = min(width, height) < 3.0
    line = 0.0 if small else 0.6
    if bar.critical:
        line = 0.7 if small else 1.4
        inset = 0.0 if small else 0.7
        left, top, width, height = left + inset, top + inset, width - 2 * inset, height - 2 * inset
    return (
        f'<rect x="{_number(left)}" y="{_number(top)}" width="{_number(width)}" height="{_number(height)}" '
        f'stroke-width="{line:g}"><title>{_tooltip(bar)}</title></rect>'
    )


def _lines(bars: Iterable[Bar], lanes: Sequence[Lane], axis: Axis, colour: str) -> Iterator[str]:
    """Yield the bars as lines of their height, one path per height: a tenth of the size, without tooltips."""
    paths: dict[str, list[str]] = {}
    for bar in bars:
        left, top, width, height = box_of(bar, lanes, axis)
        move = f"M{_number(left)} {_number(top + height / 2)}h{_number(width)}"
        paths.setdefault(_number(bar.rows * lanes[bar.node].per_core), []).append(move)
    for thickness, moves in paths.items():
        yield f'<path d="{"".join(moves)}" stroke="{colour}" stroke-width="{thickness}"/>'


def _tooltip(bar: Bar) -> str:
    span = f"{format_span(bar.start)} – {format_span(bar.end)}"
    if bar.count > 1:
        return f"{bar.count:,} tasks of {safe(bar.workflow)}\n{span}"
    parts = [_count(bar.share.cores, "core"), format_size(bar.share.memory)]
    parts += [_count(bar.share.gpus, "GPU")] if bar.share.gpus else []
    nodes = len(bar.placement.shares)
    parts += [f"on each of {nodes} nodes"] if nodes > 1 else []
    return f"{safe(bar.placement.job)}\n{span}\n{', '.join(parts)}"


def _named(bar: Bar, lanes: Sequence[Lane], axis: Axis) -> str:
    left, top, width, height = box_of(bar, lanes, axis)
    name = bar.placement.job if bar.count == 1 else bar.workflow
    label = _cut(name, 10.0, width - 10.0)
    if height < 13.0 or (label != name and len(label) < 9):
        return ""
    return (
        f'<text x="{_number(left + 5)}" y="{_number(top + height / 2 + 3.5)}" font-size="10" fill="{_INK}" '
        f'pointer-events="none">{safe(label)}</text>'
    )


def _area(schedule: Schedule, nodes: Sequence[Node], axis: Axis, base: float) -> Iterator[str]:
    """Yield the use of the bottleneck over time, its mean, and what that would be in a plan as short as the bound.

    Steps finer than the picture shows are averaged over a third of a unit.
    """
    exact = utilisation(schedule, nodes)
    used = mean(exact)
    steps = averaged(exact, BINS) if len(exact) > BINS else exact
    bottom = base + AREA

    def y(value: float) -> float:
        return bottom - AREA * min(value, 1.0)

    path = [f"M{_number(axis.x(0.0))} {_number(bottom)}"]
    path += [f"V{_number(y(value))}H{_number(axis.x(then))}" for (_, value), (then, _) in pairwise(steps)]
    yield f'<path class="use" d="{"".join(path)}V{_number(bottom)}z" fill="#c3cbd3"/>'
    for value in (0.0, 0.5, 1.0):
        yield _text(f"{value:.0%}", axis.left - 8, y(value) + 3.5, "end", _SOFT, size=10)
    label = f"{schedule.bottleneck.replace('gpus', 'GPUs')} in use"
    yield _text(label, axis.left, base - 9, "start", _INK)
    x, end = axis.left + text_width(label, 11.0) + 16, axis.x(schedule.makespan) - axis.left
    allowed = min(used * schedule.ratio, 1.0)
    for label, value, dashes in (
        (f"mean {used:.0%}", used, ""),
        (f"the lower bound allows {allowed:.0%}", allowed, ' stroke-dasharray="1.5 3"'),
    ):
        path = [f"M{_number(axis.left)} {_number(y(value))}h{_number(end)}", f"M{_number(x)} {_number(base - 13)}h18"]
        yield f'<path d="{"".join(path)}" stroke="{_INK}" stroke-width="1.2"{dashes}/>'
        yield _text(label, x + 23, base - 9, "start", _INK)
        x += 39 + text_width(label, 11.0)


def _deadline(schedule: Schedule, axis: Axis, lanes: Sequence[Lane], base: float, deadline: float) -> Iterator[str]:
    late = schedule.makespan > deadline
    colour = _LATE if late else _INK
    label = f"deadline {format_span(deadline)}"
    label += f", missed by {format_span(schedule.makespan - deadline)}" if late else ""
    top = lanes[0].top
    if deadline > axis.end:
        yield _text(f"{label} →", axis.right, top - 8, "end", colour)
        return
    x = axis.x(deadline)
    yield _upright(x, lanes, base, colour, above=4.0)
    half = text_width(label, 11.0) / 2
    yield _text(label, min(max(x, axis.left + half), axis.right - half), top - 8, "middle", colour)


def _notes(schedule: Schedule, nodes: Sequence[Node], packing: Packing) -> list[str]:
    notes = []
    jobs = {placement.job for placement in schedule.placements}
    if len(nodes) > LANES:
        shown = {p.job for p in schedule.placements if any(share.node < LANES for share in p.shares)}
        hidden = len(jobs - shown)
        text = f"The first {LANES} of {len(nodes):,} nodes are drawn; {len(nodes) - LANES:,} are not"
        notes.append(f"{text}, and {_count(hidden, 'task')} run only there." if hidden else f"{text}.")
    if packing.joined:
        count = f"{len(jobs):,} tasks in {len(packing.bars):,} rectangles"
        notes.append(f"{count}: tasks of one workflow that follow each other on the same cores are merged.")
    if len(packing.bars) > TOOLTIPS:
        notes.append("Too many rectangles for a tooltip on each.")
    if packing.raised:
        notes.append("Tasks of few cores are drawn higher than their cores where their lane has room.")
    if len(schedule.pilots) > 1:
        notes.append(f"Vertical lines: the plan goes on in a new allocation, {len(schedule.pilots)} in all.")
    return notes


def _text(content: str, x: float, y: float, anchor: str, fill: str, *, size: int = 11) -> str:
    """Return a text; the content is XML already."""
    place = f'x="{_number(x)}" y="{_number(y)}" font-size="{size}" text-anchor="{anchor}" fill="{fill}"'
    return f"<text {place}>{content}</text>"


def _number(value: float) -> str:
    return f"{round(value, 2) + 0.0:.7g}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s'[: number != 1]}"


def _cut(text: str, size: float, width: float) -> str:
    """Return the text, or as much of its beginning and end as fits."""
    if text_width(text, size) <= width:
        return text
    kept = min(len(text) - 1, int(width / size / 0.4))
    while kept > 1:
        shorter = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if text_width(shorter, size) <= width:
            return shorter
        kept -= 1
    return "…"
