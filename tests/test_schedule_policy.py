"""The planner under policies: windows, priorities and caps, by an independent sweep over time and by known answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_schedule import campaigns, check_shares, check_use, node, overlaps, pools, queue_limits

from socm_like.schedule import Job, Limits, Node, Placement, PlacementError, Schedule, make_schedule, refusals
from socm_like.schedule.dispatch import dispatch, large_on
from socm_like.schedule.load import Load, demand_of, make_load
from socm_like.schedule.model import Gate

CAPS = {"maps": 2, "maps.deep": 1, "spectra": 3}
PERIOD, OPEN = 20.0, 12.0
"""A window that opens every 20 s for 12 s, the first at 5 s."""


def opening(ready: float) -> tuple[float, float]:
    """Return the window in which an instant lies, or the next."""
    first = math.floor((ready - 5) / PERIOD) * PERIOD + 5
    return (first, first + OPEN) if ready < first + OPEN else (first + PERIOD, first + PERIOD + OPEN)


def release(ready: float, seconds: float) -> float:
    """Return the first second from which a job fits into one window."""
    start, end = opening(ready)
    start = max(start, ready)
    if seconds > OPEN:
        return start
    return start if start + seconds <= end else end - OPEN + PERIOD


def split(ready: float, seconds: float) -> tuple[float, float]:
    start, end = opening(ready)
    start = max(start, ready)
    return start, math.inf if start + seconds <= end else end


@st.composite
def governed(draw: st.DrawFn, *, splitting: bool = False) -> list[Job]:
    """Return jobs with priorities and caps."""
    jobs = []
    for job in draw(campaigns()):
        changes = {
            "priority": draw(st.sampled_from([0, 0, 1, -2])),
            "caps": draw(st.sampled_from([(), (), ("maps",), ("maps.deep", "maps"), ("spectra", "maps")])),
            "splits": splitting and draw(st.booleans()),
            "limit": draw(st.sampled_from([None, job.seconds + 1])),
        }
        jobs.append(changed(job, **changes))
    return jobs


def changed(job: Job, **changes: object) -> Job:
    fields = {name: getattr(job, name) for name in Job.__dataclass_fields__}
    return Job(**{**fields, **changes})


def check_caps(placements: Sequence[Placement], jobs: Sequence[Job], caps: dict[str, int]) -> None:
    members = {name: {job.name for job in jobs if name in job.caps} for name in caps}
    for instant in {placement.start for placement in placements}:
        running = [placement.job for placement in overlaps(placements, instant)]
        assert all(len(names.intersection(running)) <= caps[cap] for cap, names in members.items())


def check_edges(plan: Schedule, jobs: Sequence[Job]) -> dict[str, tuple[float, float]]:
    """Return for each job that runs when it is ready and when it starts, after a look at its edges and its length."""
    spans: dict[str, list[Placement]] = {}
    for placement in plan.placements:
        spans.setdefault(placement.job, []).append(placement)
    found = {}
    for job in (job for job in jobs if job.name in spans):
        parts = spans[job.name]
        parents = [spans[parent] for parent in job.dependencies]
        ready = max([job.earliest, *(parts[-1].end for parts in parents)])
        found[job.name] = ready, parts[0].start
        assert parts[0].start >= ready
        assert sum(part.end - part.start for part in parts) == pytest.approx(job.seconds)
        assert all(before.end <= after.start for before, after in pairwise(parts))
    return found


@given(governed(), pools(), queue_limits())
def test_caps_windows_edges_and_nodes_are_kept_at_every_instant(
    jobs: list[Job], nodes: list[Node], queue: Limits
) -> None:
    limits = Limits(queue.max_jobs, queue.max_cores, CAPS, queue.walltime)
    if any(refusals(job, nodes, limits) for job in jobs):
        with pytest.raises(PlacementError):
            make_schedule(jobs, nodes, limits, release=release)
        return
    plan = make_schedule(jobs, nodes, limits, release=release)
    assert {placement.job for placement in plan.placements} == {job.name for job in jobs}
    assert len(plan.placements) == len(jobs)
    by_name = {job.name: job for job in jobs}
    for name, (ready, start) in check_edges(plan, jobs).items():
        held = max(by_name[name].seconds, by_name[name].limit or 0)
        assert start >= release(ready, held)
    for placement in plan.placements:
        check_shares(placement, by_name[placement.job], nodes)
    check_use(plan.placements, nodes, limits)
    check_caps(plan.placements, jobs, CAPS)
    assert plan.lower_bound <= plan.makespan * (1 + 1e-9)
    assert make_schedule(jobs, nodes, limits, release=release) == plan


@given(governed(splitting=True), pools(), queue_limits())
def test_a_job_that_splits_runs_as_long_as_it_takes_and_stops_at_the_ends_of_windows(
    jobs: list[Job], nodes: list[Node], queue: Limits
) -> None:
    limits = Limits(queue.max_jobs, queue.max_cores, CAPS, queue.walltime)
    if any(refusals(job, nodes, limits) for job in jobs):
        return
    plan = make_schedule(jobs, nodes, limits, release=release, split=split)
    check_edges(plan, jobs)
    check_use(plan.placements, nodes, limits)
    check_caps(plan.placements, jobs, CAPS)
    splitting = {job.name for job in jobs if job.splits}
    for name in splitting:
        *before, _ = (placement for placement in plan.placements if placement.job == name)
        assert all(part.end <= opening(part.start)[1] + 1e-9 for part in before)
    assert plan.lower_bound <= plan.makespan * (1 + 1e-9)


def free_beside(placements: Sequence[Placement], nodes: Sequence[Node], instant: float) -> list[Node]:
    """Return the nodes with what is left of them at an instant by these placements."""
    left = [[offered.cores, offered.memory, offered.gpus] for offered in nodes]
    for placement in overlaps(placements, instant):
        for share in placement.shares:
            left[share.node][0] -= share.cores
            left[share.node][1] -= share.memory
            left[share.node][2] -= share.gpus
    columns = zip(nodes, left, strict=True)
    return [Node(offered.name, rest[0], rest[1], rest[2], offered.gpu_memory) for offered, rest in columns]


def urgency(jobs: Sequence[Job]) -> dict[str, int]:
    """Return the priority of each job, or of the most urgent that waits for it; parents come first in the list."""
    found = {job.name: job.priority for job in jobs}
    for job in reversed(jobs):
        for parent in job.dependencies:
            found[parent] = max(found[parent], found[job.name])
    return found


def overtaken(jobs: Sequence[Job], nodes: Sequence[Node], placements: Sequence[Placement]) -> list[tuple[str, str]]:
    """Return the pairs in which a job starts while a more urgent one is ready and finds room in its place."""
    placed, urgent = {placement.job: placement for placement in placements}, urgency(jobs)
    pairs = []
    for later in placements:
        instant = later.start
        for first in jobs:
            ready = max([first.earliest, *(placed[parent].end for parent in first.dependencies)])
            if ready > instant or placed[first.name].start <= instant or urgent[first.name] <= urgent[later.job]:
                continue
            running = [p for p in overlaps(placements, instant) if urgent[p.job] >= urgent[first.name]]
            running += [p for p in overlaps(placements, instant) if p not in running and p.start < instant]
            counts = {cap: sum(cap in jobs_by(jobs, p.job).caps for p in running) for cap in first.caps}
            if any(counts[cap] >= CAPS[cap] for cap in first.caps):
                continue
            demand = demand_of(first, nodes)
            free = free_beside(running, nodes, instant)
            if demand.whole:
                empty = [a for a, b in zip(free, nodes, strict=True) if (a.cores, a.memory) == (b.cores, b.memory)]
                fits = sum(demand.fits(offered) for offered in empty) >= demand.pieces
            else:
                fits = sum(demand.slots(offered) for offered in free) >= demand.pieces
            if fits:
                pairs.append((later.job, first.name))
    return pairs


def jobs_by(jobs: Sequence[Job], name: str) -> Job:
    return next(job for job in jobs if job.name == name)


def placements_of(load: Load, nodes: Sequence[Node], limits: Limits, *, promises: bool) -> list[Placement]:
    order = sorted(load.order, key=lambda job: -load.priorities[job])
    table = dispatch(load, nodes, limits, order, promises=promises)
    return [Placement(load.names[job], *run) for job, run in table.runs()]


def lasting(job: Job) -> Job:
    """Return a job that takes some time: one of none starts and ends at an instant, which the sweep cannot tell."""
    return changed(job, seconds=max(job.seconds, 0.5), limit=None)


@given(governed(), pools())
def test_without_promises_no_job_starts_in_the_place_of_a_more_urgent_one(jobs: list[Job], nodes: list[Node]) -> None:
    jobs, limits = [lasting(job) for job in jobs], Limits(caps=CAPS)
    if any(refusals(job, nodes, limits) for job in jobs):
        return
    placements = placements_of(make_load(jobs, nodes, limits), nodes, limits, promises=False)
    assert overtaken(jobs, nodes, placements) == []


@given(governed(), pools())
def test_only_a_promise_to_one_as_urgent_lets_a_less_urgent_job_start_first(jobs: list[Job], nodes: list[Node]) -> None:
    jobs, limits = [lasting(job) for job in jobs], Limits(caps=CAPS)
    if any(refusals(job, nodes, limits) for job in jobs):
        return
    plan = make_schedule(jobs, nodes, limits)
    placed, urgent = {placement.job: placement for placement in plan.placements}, urgency(jobs)
    is_large = large_on(nodes)
    for later, first in overtaken(jobs, nodes, plan.placements):
        instant = placed[later].start
        assert any(
            is_large(demand_of(job, nodes)) and placed[job.name].start >= instant and urgent[job.name] >= urgent[first]
            for job in jobs
        )


@given(governed(), pools(), st.lists(st.sampled_from([0.0, 0.3, 1.0, 4.0]), min_size=14, max_size=14))
def test_wrong_estimates_break_neither_caps_nor_windows(
    jobs: list[Job], nodes: list[Node], factors: list[float]
) -> None:
    limits = Limits(caps=CAPS)
    if any(refusals(job, nodes, limits) for job in jobs):
        return
    load = make_load(jobs, nodes, limits)
    actual = [job.seconds * factor for job, factor in zip(jobs, factors, strict=False)]
    table = dispatch(load, nodes, limits, load.order, actual=actual, gate=Gate(release))
    placements = [Placement(load.names[job], *run) for job, run in table.runs()]
    assert len(placements) == len(jobs)
    check_use(placements, nodes, limits)
    check_caps(placements, jobs, CAPS)
    for job in load.order:
        ready = max([load.earliest[job], *(table.ends[parent] for parent in load.parents[job])])
        assert table.starts[job] >= release(ready, load.limits[job])


def starts(plan: Schedule) -> dict[str, float]:
    return {placement.job: placement.start for placement in plan.placements}


def test_the_higher_priority_comes_first_and_so_does_what_it_waits_for() -> None:
    jobs = [
        *(Job(f"long{n}", 50, threads=8) for n in range(3)),
        Job("input", 5, threads=8),
        Job("urgent", 5, ("input",), threads=8, priority=1),
    ]
    plan = make_schedule(jobs, [node()])
    assert starts(plan) == {"input": 0.0, "urgent": 5.0, "long0": 10.0, "long1": 60.0, "long2": 110.0}


def test_an_urgent_job_is_not_held_back_by_the_promise_to_a_large_one() -> None:
    jobs = [
        Job("running", 10, threads=5),
        Job("large", 50, threads=8),
        Job("input", 2, threads=3),
        Job("urgent", 30, ("input",), threads=3, priority=1),
    ]
    plan = make_schedule(jobs, [node()])
    assert starts(plan)["urgent"] == 2.0
    equal = make_schedule([changed(job, priority=0) for job in jobs], [node()])
    assert starts(equal)["large"] <= 10.0


def test_a_cap_bounds_the_plan_and_is_named_as_its_cause() -> None:
    jobs = [Job(f"m{n}", 10, caps=("maps",)) for n in range(8)]
    plan = make_schedule(jobs, [node()], Limits(caps={"maps": 2}))
    assert (plan.makespan, plan.lower_bound, plan.bound, plan.reason) == (40.0, 40.0, "concurrency of maps", "")


def test_what_a_cap_leaves_idle_is_explained() -> None:
    jobs = [*(Job(f"m{n}", 10, caps=("maps",)) for n in range(3)), Job("last", 5, ("m0", "m1", "m2"))]
    plan = make_schedule(jobs, [node(cores=2)], Limits(caps={"maps": 2}))
    assert (plan.makespan, plan.lower_bound) == (25.0, 20.0)
    other = make_schedule([Job(f"m{n}", 10 + n, caps=("maps",)) for n in range(5)], [node()], Limits(caps={"maps": 3}))
    assert other.bound == "concurrency of maps"
    assert "because of the concurrency of maps (3 at once)" in other.reason


def test_a_small_job_finds_its_way_past_large_ones_of_its_cap() -> None:
    jobs = [
        Job("other", 10, threads=7, priority=1),
        *(Job(f"wide{n}", 9, threads=8, caps=("maps",)) for n in range(2)),
        Job("narrow", 1, threads=1, caps=("maps",)),
    ]
    plan = make_schedule(jobs, [node()], Limits(caps={"maps": 1}))
    assert (starts(plan)["narrow"], plan.makespan) == (0.0, 28.0)


def test_a_name_that_is_no_cap_and_a_cap_of_nothing_are_refused() -> None:
    jobs = [Job("a", 1, caps=("map",)), Job("b", 1, caps=("maps",))]
    with pytest.raises(PlacementError) as caught:
        make_schedule(jobs, [node()], Limits(caps={"maps": 0}))
    assert caught.value.faults == (
        "a: counts for 'map', which is no cap",
        "b: at most 0 jobs of 'maps' may run at once",
    )


def test_the_window_holds_a_job_and_is_told_as_the_reason() -> None:
    jobs = [Job("first", 10, threads=8), Job("second", 6, ("first",), threads=8)]
    plan = make_schedule(jobs, [node()], release=release)
    assert starts(plan) == {"first": 5.0, "second": 25.0}
    assert (plan.lower_bound, plan.makespan) == (21.0, 31.0)
    assert plan.reason == "cores are idle 48% of the time: 48% because the window holds what is ready"


def test_a_job_is_asked_for_once_when_it_is_ready() -> None:
    asked: list[tuple[float, float]] = []

    def remember(ready: float, seconds: float) -> float:
        asked.append((ready, seconds))
        return ready + 5

    jobs = [Job("a", 10, limit=20), Job("b", 3, ("a",), earliest=40)]
    load = make_load(jobs, [node()], Limits())
    table = dispatch(load, [node()], Limits(), [0, 1], gate=Gate(remember))
    assert (asked, table.starts) == ([(0.0, 20.0), (40.0, 3.0)], [5.0, 45.0])


def test_a_job_that_splits_goes_on_in_the_next_window() -> None:
    jobs = [Job("long", 30, threads=8, splits=True), Job("after", 1, ("long",))]
    plan = make_schedule(jobs, [node()], release=release, split=split)
    assert [(placement.job, placement.start, placement.end) for placement in plan.placements] == [
        ("long", 5.0, 17.0), ("long", 25.0, 37.0), ("long", 45.0, 51.0), ("after", 51.0, 52.0),
    ]  # fmt: skip


def never(limit: float) -> Callable[[float, float], float]:
    return lambda ready, seconds: math.inf if seconds > limit else ready


def test_what_no_window_will_hold_is_named_and_the_rest_is_planned() -> None:
    jobs = [Job("a", 5), Job("big", 50, ("a",)), Job("next", 5, ("big",)), Job("b", 7)]
    plan = make_schedule(jobs, [node()], release=never(10))
    assert (plan.refused, plan.skipped) == ((("big", 5.0),), ("next",))
    assert (starts(plan), plan.makespan, plan.lower_bound) == ({"a": 0.0, "b": 0.0}, 7.0, 7.0)


def test_nothing_but_what_no_window_will_hold_is_an_empty_plan() -> None:
    plan = make_schedule([Job("a", 50)], [node()], release=never(10))
    assert (plan.refused, plan.placements, plan.makespan) == ((("a", 0.0),), (), 0.0)


def timetable(jobs: Sequence[Job], nodes: Sequence[Node], limits: Limits) -> dict[str, float]:
    """Return the starts of one pass that takes the jobs by priority, of equals in the order of the list."""
    load = make_load(jobs, nodes, limits)
    order = sorted(range(len(jobs)), key=lambda job: -load.priorities[job])
    return dict(zip(load.names, dispatch(load, nodes, limits, order).starts, strict=True))


def test_an_urgent_job_that_waited_takes_the_place_that_is_promised_to_a_less_urgent_one() -> None:
    jobs = [
        Job("input", 1, threads=1, priority=1),
        Job("urgent", 30, ("input",), threads=3, priority=1),
        Job("until10", 10, threads=4),
        Job("until2", 2, threads=2),
        Job("promised", 5, threads=8),
        Job("beside", 1, threads=1),
    ]
    found = timetable(jobs, [node()], Limits())
    assert (found["urgent"], found["promised"]) == (2.0, 32.0)


def test_what_a_promise_kept_away_starts_at_once_when_the_promise_is_given_up() -> None:
    jobs = [
        Job("input", 5, threads=1, priority=1),
        Job("urgent", 30, ("input",), threads=1, priority=1, caps=("maps",)),
        Job("first", 10, threads=7),
        Job("second", 10, threads=7),
        Job("promised", 5, exclusive_nodes=2, caps=("maps",)),
        Job("kept", 30, threads=1),
    ]
    found = timetable(jobs, [node("n0"), node("n1")], Limits(caps={"maps": 1}))
    assert (found["urgent"], found["kept"], found["promised"]) == (5.0, 5.0, 35.0)


def test_what_lasts_as_long_as_a_walltime_fits_into_one_that_opens_at_any_second() -> None:
    lengths = {"a": 7.8, "b": 7.1, "c": 10.0, "d": 10.0, "e": 10.0}
    jobs = [Job(name, seconds, threads=8 if name in "abe" else 5) for name, seconds in lengths.items()]
    plan = make_schedule(jobs, [node()], Limits(walltime=10.0))
    assert {placement.job for placement in plan.placements} == set(lengths)
    assert len(plan.pilots) == 5


def test_a_window_that_stops_a_job_when_it_starts_holds_nothing() -> None:
    plan = make_schedule(
        [Job("a", 5, splits=True), Job("b", 1)], [node()], release=release, split=lambda ready, _: (ready, ready)
    )
    assert (plan.refused, starts(plan)) == ((("a", 0.0),), {"b": 5.0})
