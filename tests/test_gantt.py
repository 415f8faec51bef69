"""The picture of a plan: its rows, its curve, its words, and whether it stays a file one can open."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.results.gantt import gantt_svg
from socm_like.results.gantt_layout import (
    Held,
    averaged,
    bars_on,
    least_rows,
    mean,
    merged,
    ticks,
    utilisation,
)
from socm_like.schedule import Job, Limits, Node, Placement, Schedule, Share, make_schedule

SVG = "{http://www.w3.org/2000/svg}"
GIB = 2**30
LAPTOP = Node("laptop", 8, 16 * GIB)
THREE = (
    Job("simulate", 120, threads=4, memory=GIB),
    Job("map", 300, ("simulate",), threads=2, memory=4 * GIB),
    Job("plot", 30, ("map",), memory=GIB),
)


def pictured(
    jobs: list[Job] | tuple[Job, ...], *nodes: Node, deadline: float | None = None, title: str = "plan"
) -> str:
    """The picture of a plan; what comes before [ in the name of a job is its workflow."""
    schedule = make_schedule(jobs, nodes)
    workflow_of = {job.name: job.name.partition("[")[0] for job in jobs}
    return gantt_svg(
        schedule, nodes, workflow_of=workflow_of, title=title, deadline=deadline, critical=schedule.critical_path
    )


def texts(svg: str) -> list[str]:
    """All that is written, without tooltips."""
    found = []
    for text in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        parts = [
            text.text or "",
            *((part.tail or "") if part.tag == f"{SVG}title" else part.text or "" for part in text),
        ]
        found.append(" ".join(filter(None, parts)))
    return found


def rectangles(svg: str) -> list[tuple[str, float, float, float, float]]:
    """Tooltip, left, top, right and bottom of every bar, outlined ones without their inset."""
    found = []
    for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect"):
        title = rect.find(f"{SVG}title")
        if title is not None:
            x, y, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
            found.append((title.text or "", x, y, x + width, y + height))
    return found


def placed(name: str, start: float, end: float, cores: int, node: int = 0) -> Held:
    share = Share(node, cores, 0, 0)
    return Held(Placement(name, start, end, (share,)), share, name[0], False)


def rows_of(*held: Held, cores: int = 8, least: int = 1) -> list[tuple[str, int, int]]:
    return [(bar.placement.job, bar.row, bar.rows) for bar in bars_on(held, cores, least)]


def test_job_takes_the_lowest_free_rows_and_the_wider_goes_first() -> None:
    found = rows_of(placed("a", 0, 2, 2), placed("b", 0, 5, 3), placed("c", 2, 3, 1), placed("d", 2, 3, 4))
    assert found == [("b", 0, 3), ("a", 3, 2), ("d", 3, 4), ("c", 7, 1)]


def test_job_without_enough_adjacent_rows_is_split_over_the_largest_gaps() -> None:
    held = [placed("a", 0, 2, 3), placed("b", 0, 9, 2), placed("c", 0, 2, 2), placed("d", 0, 9, 1)]
    assert rows_of(*held) == [("a", 0, 3), ("b", 3, 2), ("c", 5, 2), ("d", 7, 1)]
    assert rows_of(*held, placed("e", 2, 3, 4))[4:] == [("e", 0, 3), ("e", 5, 1)]


def test_job_of_no_time_holds_no_rows() -> None:
    assert rows_of(placed("a", 1, 1, 8), placed("b", 1, 2, 8), placed("c", 1, 1, 5)) == [
        ("a", 0, 8), ("c", 0, 5), ("b", 0, 8),
    ]  # fmt: skip


def test_narrow_jobs_are_raised_as_far_as_all_still_fit() -> None:
    held = [placed("a", 0, 2, 1), placed("b", 1, 3, 1), placed("c", 2, 4, 50)]
    assert least_rows(held, 128, 60) == 60
    assert least_rows(held, 128, 90) == 64
    assert least_rows([*held, placed("d", 0, 9, 68)], 128, 60) == 10
    assert least_rows([], 128, 4) == 4


_HELD = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 6), st.integers(1, 6)).map(
        lambda drawn: Job(f"{'xyz'[drawn[2] % 3]}{drawn[0]}", drawn[1], threads=drawn[2], earliest=drawn[0])
    ),
    max_size=25,
    unique_by=lambda job: job.name,
)


@given(_HELD, st.integers(1, 4), st.sampled_from([0.0, 1.0]))
def test_rows_never_overlap_in_time_and_add_up_to_the_cores(jobs: list[Job], wanted: int, gap: float) -> None:
    schedule = make_schedule(jobs, [LAPTOP])
    held = [Held(item, item.shares[0], item.job[0], False) for item in schedule.placements]
    least = least_rows(held, 8, wanted)
    bars = list(bars_on(held, 8, least))

    for item in held:
        rows = sum(bar.rows for bar in bars if bar.placement == item.placement)
        assert rows == max(item.share.cores, least)
    for found in (bars, merged(bars, gap)):
        assert sum(bar.count for bar in found) == len(bars)
        assert all(bar.row >= 0 and bar.row + bar.rows <= 8 for bar in found)
        for one, other in combinations(found, 2):
            apart = one.end <= other.start or other.end <= one.start
            empty = one.start == one.end or other.start == other.end
            assert apart or empty or one.row + one.rows <= other.row or other.row + other.rows <= one.row


def test_only_neighbours_of_one_workflow_and_the_same_rows_are_merged() -> None:
    held = [placed("a1", 0, 2, 4), placed("a2", 2, 3, 4), placed("b", 3, 4, 4), placed("a3", 4, 5, 4)]
    held += [placed("a4", 5, 6, 8), placed("a5", 6.5, 7, 8)]
    bars = list(bars_on(held, 8))
    assert [(bar.start, bar.end, bar.count) for bar in merged(bars, 0.1)] == [
        (0, 3, 2), (3, 4, 1), (4, 5, 1), (5, 6, 1), (6.5, 7, 1),
    ]  # fmt: skip
    assert [(bar.start, bar.end, bar.count) for bar in merged(bars, 0.5)][-1] == (5, 7, 2)


@given(_HELD, st.sampled_from(["cores", "memory", "gpus"]))
def test_utilisation_is_what_a_count_at_each_instant_finds(jobs: list[Job], resource: str) -> None:
    nodes = [LAPTOP, Node("other", 4, GIB, 1)]
    limited = [Job(job.name, job.seconds, threads=job.threads, memory=job.threads * GIB) for job in jobs]
    planned = make_schedule(limited, nodes, Limits(max_jobs=3))
    schedule = Schedule(planned.placements, planned.makespan, (), 0, 0, "", resource, 0, 0)
    capacity = sum(getattr(node, resource) for node in nodes)

    steps = utilisation(schedule, nodes)

    assert (steps[0][0], steps[-1][0]) == (0.0, planned.makespan)
    for (time, value), (then, _) in pairwise(steps):
        middle = (time + then) / 2
        running = [share for p in planned.placements if p.start <= middle < p.end for share in p.shares]
        assert value == sum(getattr(share, resource) for share in running) / capacity
    work = sum(
        (p.end - p.start) * getattr(share, resource) for p in planned.placements for share in p.shares
    ) / capacity  # fmt: skip
    assert mean(steps) * planned.makespan == pytest.approx(work)
    if planned.makespan:
        assert mean(averaged(steps, 7)) == pytest.approx(mean(steps))


def test_averages_over_bins() -> None:
    steps = [(0.0, 1.0), (1.0, 0.0), (3.0, 0.5), (4.0, 0.0)]
    assert averaged(steps, 2) == [(0.0, 0.5), (2.0, 0.25), (4.0, 0.0)]


@pytest.mark.parametrize(
    ("end", "unit", "labels"),
    [
        (0.3, "ms", "0 50 100 150 200 250 300"),
        (12, "s", "0 2 4 6 8 10 12"),
        (100, "s", "0 15 30 45 60 75 90"),
        (450, "min", "0 1 2 3 4 5 6 7"),
        (7200, "min", "0 15 30 45 60 75 90 105 120"),
        (20 * 3600, "h", "0 3 6 9 12 15 18"),
        (9 * 86400, "d", "0 2 4 6 8"),
    ],
)
def test_ticks_are_steps_that_people_count_in(end: float, unit: str, labels: str) -> None:
    found = ticks(end)
    assert (found.unit, " ".join(found.labels)) == (unit, labels)


def test_every_job_has_its_rectangle_and_none_overlap() -> None:
    jobs = [Job(f"w{i % 3}[x={i}]", 50 + 7 * (i % 11), threads=1 + i % 4, memory=GIB) for i in range(60)]
    jobs.append(Job("wide", 40, ranks=14))
    svg = pictured(jobs, LAPTOP, Node("other", 8, 64 * GIB))
    found = rectangles(svg)

    assert {tooltip.partition("\n")[0] for tooltip, *_ in found} == {job.name for job in jobs}
    for one, other in combinations(found, 2):
        apart = one[3] <= other[1] + 1e-6 or other[3] <= one[1] + 1e-6
        assert apart or one[4] <= other[2] + 1e-6 or other[4] <= one[2] + 1e-6
    assert all(24 <= left < right <= 876 for _, left, _, right, _ in found)
    assert any(text.startswith("wide\n") and "on each of 2 nodes" in text for text, *_ in found)
    assert "w0 20" in texts(svg)


def test_many_jobs_are_merged_and_the_picture_says_so() -> None:
    jobs = [Job(f"w{i // 3000}[x={i}]", 60, threads=4) for i in range(6000)]
    svg = pictured(jobs, *(Node(f"n{i}", 64, GIB) for i in range(4)))
    found = rectangles(svg)
    counts = [int(text.split(" tasks of ")[0].replace(",", "")) for text, *_ in found if " tasks of " in text]

    assert sum(counts) + len(found) - len(counts) == 6000
    note = f"6,000 tasks in {len(found)} rectangles: tasks of one workflow that follow each other on the same cores are"
    assert texts(svg)[-1] == f"{note} merged."
    assert len(svg) < 200_000


def test_file_of_very_many_different_jobs_stays_small() -> None:
    shares = [(Share(node, 1 + node % 3, GIB, 0),) for node in range(16)]
    placements = [
        Placement(f"j{i}", (i // 160) * 9.0 + i % 7, (i // 160) * 9.0 + i % 7 + 1 + i % 3, shares[i % 16])
        for i in range(40_000)
    ]
    schedule = Schedule(tuple(placements), 2300.0, (), 0, 2000.0, "cores", "cores", 0, 0)
    svg = gantt_svg(
        schedule,
        [Node(f"n{i}", 64, 64 * GIB) for i in range(16)],
        workflow_of={placement.job: f"w{number % 7}" for number, placement in enumerate(placements)},
        title="many",
    )
    assert len(svg) < 2_000_000
    assert "Too many rectangles for a tooltip on each." in texts(svg)


def test_nodes_beyond_the_first_are_counted() -> None:
    svg = pictured([Job(f"a[{i}]", 10, threads=8) for i in range(40)], *(Node(f"n{i}", 8, GIB) for i in range(40)))
    assert "n31" in texts(svg)
    assert "n32" not in texts(svg)
    assert texts(svg)[-1] == "The first 32 of 40 nodes are drawn; 8 are not, and 8 tasks run only there."


def test_small_workflows_share_a_colour() -> None:
    jobs = [Job(f"w{i}[{copy}]", 10) for i in range(12) for copy in range(1 + (i < 8))]
    svg = pictured(jobs, LAPTOP)
    assert [text for text in texts(svg) if "other" in text] == ["4 other workflows 4"]


@pytest.mark.parametrize(
    ("deadline", "label"),
    [
        (400, "deadline 6 min 40 s, missed by 50 s"),
        (500, "deadline 8 min 20 s"),
        (7200, "deadline 2 h 00 min →"),
    ],
)
def test_deadline_is_told_and_drawn_where_it_is_near(deadline: float, label: str) -> None:
    svg = pictured(THREE, LAPTOP, deadline=deadline)
    assert [text for text in texts(svg) if "deadline" in text] == [label]
    assert svg.count('stroke-dasharray="5 3"') == (deadline < 600)


def test_picture_is_xml_whatever_the_names() -> None:
    name = '<a> & "b" \x00\ud800 ☂'
    svg = pictured([Job(name * 9, 1), Job("</svg>", 2)], Node(name * 5, 4, GIB), title="\x1b]0;x" + "<long>" * 60)
    assert {tooltip.partition("\n")[0] for tooltip, *_ in rectangles(svg)} == {
        '<a> & "b" ?? ☂' * 9, "</svg>",
    }  # fmt: skip
    assert max(map(len, texts(svg))) < 100


def test_job_of_no_time_alone_is_drawn() -> None:
    assert [tooltip for tooltip, *_ in rectangles(pictured([Job("only", 0)], LAPTOP))] == [
        "only\n0 s – 0 s\n1 core, 0 B"
    ]


def test_no_jobs_is_nothing_to_plan() -> None:
    assert texts(pictured([], LAPTOP)) == ["plan", "nothing to plan"]


def test_picture_of_three_jobs_is_this_text() -> None:
    assert pictured(THREE, LAPTOP, deadline=500, title="sky & maps") == GOLDEN


GOLDEN = """\
<svg xmlns="http://www.w3.org/2000/svg" width="900" height="398" viewBox="0 0 900 398" font-family="Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif">
<title>sky &amp; maps</title>
<rect width="100%" height="100%" fill="white"/>
<text x="24" y="34" font-size="16" font-weight="bold" fill="#1d2733">sky &amp; maps</text>
<text x="24" y="53" font-size="12" fill="#5b6671">3 tasks · 1 node of 8 cores · takes 7 min 30 s · lower bound 7 min 30 s (critical path) · 0.125 node-hours</text>
<g><title>simulate: 1 task</title><rect x="24" y="65" width="10" height="10" fill="#77aadd" stroke="none" stroke-width="1.4"/><text x="39" y="74" font-size="11" fill="#1d2733">simulate<tspan dx="5" fill="#5b6671">1</tspan></text></g>
<g><title>map: 1 task</title><rect x="116.41" y="65" width="10" height="10" fill="#ee8866" stroke="none" stroke-width="1.4"/><text x="131.41" y="74" font-size="11" fill="#1d2733">map<tspan dx="5" fill="#5b6671">1</tspan></text></g>
<g><title>plot: 1 task</title><rect x="181.76" y="65" width="10" height="10" fill="#eedd88" stroke="none" stroke-width="1.4"/><text x="196.76" y="74" font-size="11" fill="#1d2733">plot<tspan dx="5" fill="#5b6671">1</tspan></text></g>
<g><title>the chain of tasks that takes longest</title><rect x="246.05" y="65.7" width="8.6" height="8.6" fill="white" stroke="#1d2733" stroke-width="1.4"/><text x="260.35" y="74" font-size="11" fill="#1d2733">critical path<tspan dx="5" fill="#5b6671"></tspan></text></g>
<rect x="84" y="100" width="792" height="128" fill="#f4f6f8"/>
<text x="76" y="162" font-size="11" text-anchor="end" fill="#1d2733"><title>laptop: 8 cores, 16 GiB</title>laptop</text>
<text x="76" y="175" font-size="10" text-anchor="end" fill="#5b6671">8 cores</text>
<rect x="84" y="262" width="792" height="92" fill="#f4f6f8"/>
<path d="M84 100V228M84 262V354" stroke="#dce1e6" stroke-width="0.8"/>
<path d="M272.2 100V228M272.2 262V354" stroke="#dce1e6" stroke-width="0.8"/>
<path d="M460.4 100V228M460.4 262V354" stroke="#dce1e6" stroke-width="0.8"/>
<path d="M648.59 100V228M648.59 262V354" stroke="#dce1e6" stroke-width="0.8"/>
<path d="M836.79 100V228M836.79 262V354" stroke="#dce1e6" stroke-width="0.8"/>
<path d="M84 354v4M272.2 354v4M460.4 354v4M648.59 354v4M836.79 354v4" stroke="#5b6671" stroke-width="0.8"/>
<text x="84" y="370" font-size="10" text-anchor="middle" fill="#5b6671">0</text>
<text x="272.2" y="370" font-size="10" text-anchor="middle" fill="#5b6671">2</text>
<text x="460.4" y="370" font-size="10" text-anchor="middle" fill="#5b6671">4</text>
<text x="648.59" y="370" font-size="10" text-anchor="middle" fill="#5b6671">6</text>
<text x="836.79" y="370" font-size="10" text-anchor="middle" fill="#5b6671">8</text>
<text x="480" y="385" font-size="10" text-anchor="middle" fill="#5b6671">time from the start (min)</text>
<g fill="#77aadd" stroke="#1d2733">
<rect x="84.7" y="164.7" width="186.8" height="62.6" stroke-width="1.4"><title>simulate
0 s – 2 min 00 s
4 cores, 1 GiB</title></rect>
</g>
<g fill="#ee8866" stroke="#1d2733">
<rect x="272.9" y="196.7" width="469.09" height="30.6" stroke-width="1.4"><title>map
2 min 00 s – 7 min 00 s
2 cores, 4 GiB</title></rect>
</g>
<g fill="#eedd88" stroke="#1d2733">
<rect x="743.39" y="212.7" width="45.65" height="14.6" stroke-width="1.4"><title>plot
7 min 00 s – 7 min 30 s
1 core, 1 GiB</title></rect>
</g>
<text x="89" y="199.5" font-size="10" fill="#1d2733" pointer-events="none">simulate</text>
<text x="277.2" y="215.5" font-size="10" fill="#1d2733" pointer-events="none">map</text>
<text x="747.69" y="223.5" font-size="10" fill="#1d2733" pointer-events="none">plot</text>
<path class="use" d="M84 354V308H272.2V331H742.69V342.5H789.74V354z" fill="#c3cbd3"/>
<text x="76" y="357.5" font-size="10" text-anchor="end" fill="#5b6671">0%</text>
<text x="76" y="311.5" font-size="10" text-anchor="end" fill="#5b6671">50%</text>
<text x="76" y="265.5" font-size="10" text-anchor="end" fill="#5b6671">100%</text>
<text x="84" y="253" font-size="11" text-anchor="start" fill="#1d2733">cores in use</text>
<path d="M84 325.63h705.74M173.04 249h18" stroke="#1d2733" stroke-width="1.2"/>
<text x="196.04" y="253" font-size="11" text-anchor="start" fill="#1d2733">mean 31%</text>
<path d="M84 325.63h705.74M272.21 249h18" stroke="#1d2733" stroke-width="1.2" stroke-dasharray="1.5 3"/>
<text x="295.21" y="253" font-size="11" text-anchor="start" fill="#1d2733">the lower bound allows 31%</text>
<path d="M868.16 96V228M868.16 262V354" stroke="#1d2733" stroke-width="1.2" stroke-dasharray="5 3"/>
<text x="817.2" y="92" font-size="11" text-anchor="middle" fill="#1d2733">deadline 8 min 20 s</text>
</svg>
"""  # noqa: E501


def test_a_job_that_was_split_is_one_task_and_closed_hours_are_shaded() -> None:
    share = (Share(0, 2, 0, 0),)
    parts = tuple(Placement("long[1]", start, start + 10.0, share) for start in (0.0, 30.0))
    schedule = make_schedule([Job("long[1]", 40, threads=2)], [LAPTOP])
    svg = gantt_svg(
        replace(schedule, placements=parts), [LAPTOP], workflow_of={"long[1]": "long"}, title="t",
        closed=((10.0, 30.0), (50.0, 60.0)),
    )  # fmt: skip
    shown = texts(svg)
    assert any(text.startswith("1 task · 1 node of 8 cores") for text in shown)
    assert "Shaded: outside the preferred hours." in shown
    assert [title for title, *_ in rectangles(svg)[-2:]] == [
        "long[1]\n0 s – 10 s\n2 cores, 0 B", "long[1]\n30 s – 40 s\n2 cores, 0 B",
    ]  # fmt: skip
    (shade,) = (path for path in ElementTree.fromstring(svg).iter(f"{SVG}path") if path.get("class") == "closed")
    assert shade.attrib["d"].count("z") == 2


def test_parts_of_one_job_that_are_joined_count_once() -> None:
    bars = [*bars_on([placed("a", 0, 2, 2), placed("a", 2, 4, 2), placed("a2", 4, 6, 2)], 8)]
    assert [bar.count for bar in merged(bars[:2], 0.0)] == [1]
    assert [bar.count for bar in merged(bars, 0.0)] == [2]
