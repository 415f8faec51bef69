"""The planner against an independent sweep over time, small cases with known answers, and requests nobody can meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socm_like.schedule import (
    Job,
    Limits,
    Node,
    Placement,
    PlacementError,
    Schedule,
    allocations,
    make_schedule,
    recommend,
    refusals,
)
from socm_like.schedule.dispatch import dispatch
from socm_like.schedule.load import make_load

GIB = 2**30
SECONDS = st.one_of(st.sampled_from([0.0, 1.0, 2.0, 5.0]), st.floats(0, 10, allow_subnormal=False))


def node(name: str = "n0", cores: int = 8, memory: int = 16 * GIB, gpus: int = 2, gpu_memory: int = 40 * GIB) -> Node:
    return Node(name, cores, memory, gpus, gpu_memory)


@st.composite
def campaigns(draw: st.DrawFn) -> list[Job]:
    """Return jobs each of which fits on two of the nodes of :func:`pools`."""
    jobs: list[Job] = []
    for number in range(draw(st.integers(0, 14))):
        parents = draw(st.sets(st.integers(0, number - 1), max_size=2)) if number else set()
        asked = draw(st.sampled_from(["plain", "plain", "gpu", "ranks", "spread", "gang"]))
        ranks = {"ranks": draw(st.integers(2, 4)), "spread": draw(st.integers(5, 8))}.get(asked, 1)
        jobs.append(
            Job(
                name=f"j{number}",
                seconds=draw(SECONDS),
                dependencies=tuple(f"j{parent}" for parent in sorted(parents)),
                ranks=ranks,
                threads=2 if ranks > 1 else draw(st.integers(1, 8)),
                memory=draw(st.integers(0, 16)) * GIB + draw(st.integers(-1, 0)) if ranks == 1 else 3 * GIB,
                gpus=draw(st.integers(1, 2)) if asked == "gpu" else 0,
                gpu_memory=draw(st.sampled_from([0, 30 * GIB])),
                exclusive_nodes=draw(st.integers(1, 2)) if asked == "gang" else 0,
                earliest=draw(st.sampled_from([0.0, 0.0, 0.0, 3.5])),
            )
        )
    return [job if job.memory >= 0 else Job(job.name, job.seconds, job.dependencies) for job in jobs]


@st.composite
def pools(draw: st.DrawFn) -> list[Node]:
    extra = st.sampled_from([node(), node(cores=16, memory=64 * GIB, gpus=0), node(cores=4, memory=8 * GIB, gpus=1)])
    kinds = [node(), node(), *draw(st.lists(extra, max_size=3))]
    return [Node(f"n{number}", k.cores, k.memory, k.gpus, k.gpu_memory) for number, k in enumerate(kinds)]


@st.composite
def queue_limits(draw: st.DrawFn) -> Limits:
    return Limits(
        max_jobs=draw(st.sampled_from([None, 1, 3])),
        max_cores=draw(st.sampled_from([None, 32, 40])),
        walltime=draw(st.sampled_from([None, 10.0, 25.0])),
    )


def overlaps(placements: Sequence[Placement], instant: float) -> list[Placement]:
    return [placement for placement in placements if placement.start <= instant < placement.end]


def check(plan: Schedule, jobs: Sequence[Job], nodes: Sequence[Node], limits: Limits) -> None:
    """Compare a plan with what its jobs ask, whom they wait for, and what there is."""
    by_name = {job.name: job for job in jobs}
    placed = {placement.job: placement for placement in plan.placements}
    assert Counter(placement.job for placement in plan.placements) == Counter(list(by_name))
    for name, placement in placed.items():
        job = by_name[name]
        assert placement.start >= job.earliest
        assert placement.end == placement.start + job.seconds
        assert all(placed[parent].end <= placement.start for parent in job.dependencies)
        check_shares(placement, job, nodes)
    check_use(plan.placements, nodes, limits)
    if limits.walltime is not None:
        for placement in plan.placements:
            opened = max(start for start in plan.pilots if start <= placement.start)
            assert placement.end <= opened + limits.walltime
            assert all(start >= placement.end for start in plan.pilots if start > placement.start)
    assert plan.makespan == max((placement.end for placement in plan.placements), default=0.0)
    assert plan.lower_bound <= plan.makespan * (1 + 1e-9)
    assert plan.utilisation <= 1 + 1e-9


def check_use(placements: Sequence[Placement], nodes: Sequence[Node], limits: Limits) -> None:
    """Look at every start, the only instants at which more is used than before."""
    for instant in {placement.start for placement in placements}:
        running = overlaps(placements, instant)
        shares = [share for placement in running for share in placement.shares]
        for index, offered in enumerate(nodes):
            here = [share for share in shares if share.node == index]
            assert sum(share.cores for share in here) <= offered.cores
            assert sum(share.memory for share in here) <= offered.memory
            assert sum(share.gpus for share in here) <= offered.gpus
        assert len(running) <= (limits.max_jobs or len(placements))
        assert sum(share.cores for share in shares) <= (limits.max_cores or 10**9)


def check_shares(placement: Placement, job: Job, nodes: Sequence[Node]) -> None:
    held = [nodes[share.node] for share in placement.shares]
    assert len({share.node for share in placement.shares}) == len(placement.shares)
    assert all(job.gpu_memory <= offered.gpu_memory for offered in held if job.gpus)
    if job.exclusive_nodes:
        whole = [(offered.cores, offered.memory, offered.gpus) for offered in held]
        assert [(share.cores, share.memory, share.gpus) for share in placement.shares] == whole
        assert len(held) == job.exclusive_nodes
        return
    parts = gcd(job.ranks, job.gpus) if job.gpus else job.ranks
    assert sum(share.cores for share in placement.shares) == job.ranks * job.threads
    assert sum(share.gpus for share in placement.shares) == job.gpus
    assert job.memory <= sum(share.memory for share in placement.shares) < job.memory + parts
    assert all(share.cores % job.threads == 0 for share in placement.shares)


@given(campaigns(), pools(), queue_limits())
def test_no_node_is_over_committed_and_every_edge_and_limit_is_kept(
    jobs: list[Job], nodes: list[Node], limits: Limits
) -> None:
    faults = [job.name for job in jobs if refusals(job, nodes, limits)]
    if faults:
        with pytest.raises(PlacementError) as caught:
            make_schedule(jobs, nodes, limits)
        assert [fault.partition(":")[0] for fault in caught.value.faults] == faults
        return
    plan = make_schedule(jobs, nodes, limits)
    check(plan, jobs, nodes, limits)
    assert make_schedule(jobs, nodes, limits) == plan


@given(campaigns(), pools(), pools())
def test_more_nodes_are_not_refused(jobs: list[Job], nodes: list[Node], more: list[Node]) -> None:
    both = [*nodes, *more]
    if not any(refusals(job, nodes) for job in jobs):
        check(make_schedule(jobs, both), jobs, both, Limits())


def test_nothing_to_do_takes_no_time() -> None:
    plan = make_schedule([], [node()])
    assert (plan.placements, plan.makespan, plan.critical_path, plan.ratio, plan.reason) == ((), 0.0, (), 1.0, "")


def test_jobs_of_no_length_run_in_the_order_of_their_edges() -> None:
    jobs = [Job(f"j{number}", 0.0, (f"j{number - 1}",) if number else (), threads=8) for number in range(50)]
    plan = make_schedule(jobs, [node()])
    assert (plan.makespan, len(plan.placements)) == (0.0, 50)


KNOWN: dict[str, tuple[list[Job], list[Node], float]] = {
    "four halves on one node": ([Job(f"j{n}", 10, threads=4) for n in range(4)], [node()], 20),
    "a chain beside a heap": (
        [Job("a", 5, threads=4), Job("b", 5, ("a",), threads=4), *(Job(f"x{n}", 2, threads=4) for n in range(5))],
        [node()],
        10,
    ),
    "memory binds, not cores": ([Job(f"j{n}", 10, memory=8 * GIB) for n in range(4)], [node()], 20),
    "GPUs bind, not cores": ([Job(f"j{n}", 10, gpus=1) for n in range(4)], [node()], 20),
    "24 cores fill the hole that a slot grid leaves": (
        [Job("a", 60, threads=100), Job("b", 60, threads=100), Job("c", 60, threads=24)],
        [node(cores=224)],
        60,
    ),
    "two thirds do not share a node": ([Job(f"j{n}", 10, threads=6) for n in range(3)], [node()], 30),
    "a gang of two and a small one": (
        [Job("gang", 10, exclusive_nodes=2), Job("small", 10)],
        [node("n0"), node("n1")],
        20,
    ),
    "ranks spread where one node is too small": (
        [Job("wide", 10, ranks=12), Job("narrow", 10, threads=4)],
        [node("n0"), node("n1")],
        10,
    ),
    "partition 3 3 2 2 2 on two": (
        [Job(f"j{n}", seconds, threads=8) for n, seconds in enumerate([3, 3, 2, 2, 2])],
        [node("n0"), node("n1")],
        6,
    ),
}


@pytest.mark.parametrize(("jobs", "nodes", "optimum"), KNOWN.values(), ids=KNOWN.keys())
def test_small_cases_reach_the_optimum(jobs: list[Job], nodes: list[Node], optimum: float) -> None:
    plan = make_schedule(jobs, nodes)
    check(plan, jobs, nodes, Limits())
    assert plan.makespan == optimum


def test_jobs_of_more_than_half_a_node_raise_the_bound() -> None:
    plan = make_schedule([Job(f"j{n}", 10, threads=5) for n in range(4)], [node("n0"), node("n1")])
    assert (plan.lower_bound, plan.bound, plan.makespan, plan.reason) == (20.0, "wide jobs (cores)", 20.0, "")
    assert (plan.bottleneck, plan.utilisation) == ("cores", 4 * 5 * 10 / (2 * 8 * 20))


def test_the_critical_path_is_named_and_node_hours_count_all_nodes() -> None:
    jobs = [Job("a", 3600), Job("b", 3600, ("a",)), Job("c", 1800, ("a",))]
    plan = make_schedule(jobs, [node("n0"), node("n1")])
    assert (plan.critical_path, plan.critical_path_seconds, plan.node_hours) == (("a", "b"), 7200.0, 4.0)


def test_a_wide_job_is_not_starved_by_a_stream_of_small_ones() -> None:
    small = [Job(f"s{n}", 10 + n % 7, threads=1) for n in range(200)]
    jobs = [*small, Job("wide", 60, threads=8), Job("after", 500, ("wide",))]
    plan = make_schedule(jobs, [node()])
    check(plan, jobs, [node()], Limits())
    wide = next(placement for placement in plan.placements if placement.job == "wide")
    assert wide.start == 0.0


def test_a_promised_start_is_kept_and_short_jobs_run_before_it() -> None:
    jobs = [
        Job("running", 100, threads=5),
        Job("root", 1, threads=3),
        Job("wide", 900, ("root",), threads=8),
        *(Job(f"s{n}", 30 + n, threads=1) for n in range(9)),
    ]
    load = make_load(jobs, [node()], Limits())
    table = dispatch(load, [node()], Limits(), range(len(jobs)))
    assert table.starts[2] == 100
    assert sum(end <= 100 for end in table.ends[3:]) == 7
    alone = dispatch(load, [node()], Limits(), range(len(jobs)), promises=False)
    assert alone.starts[2] > 100


@given(campaigns(), pools(), st.lists(st.sampled_from([0.0, 0.3, 1.0, 4.0]), min_size=14, max_size=14))
def test_jobs_that_take_longer_or_shorter_than_expected_over_commit_nothing(
    jobs: list[Job], nodes: list[Node], factors: list[float]
) -> None:
    if any(refusals(job, nodes) for job in jobs):
        return
    load = make_load(jobs, nodes, Limits())
    actual = [job.seconds * factor for job, factor in zip(jobs, factors, strict=False)]
    table = dispatch(load, nodes, Limits(), load.order, actual=actual)
    columns = zip(load.names, table.starts, table.ends, table.shares, strict=True)
    placements = [Placement(*column) for column in columns]
    check_use(placements, nodes, Limits())
    assert table.ends == [start + seconds for start, seconds in zip(table.starts, actual, strict=True)]
    assert all(table.ends[parent] <= table.starts[job] for job in load.order for parent in load.parents[job])


def test_a_walltime_cuts_the_plan_into_allocations_at_whole_jobs() -> None:
    jobs = [Job(f"j{n}", 40, threads=8) for n in range(5)]
    limits = Limits(walltime=100)
    plan = make_schedule(jobs, [node()], limits)
    check(plan, jobs, [node()], limits)
    assert plan.pilots == (0.0, 80.0, 160.0)


IMPOSSIBLE: dict[str, tuple[Job, Limits, str]] = {
    "cores": (
        Job("big", 1, threads=9), Limits(),
        "big: asks 9 cores on one node, thin has 8; asks 9 cores on one node, fat has 4",
    ),
    "memory": (
        Job("big", 1, memory=40 * GIB), Limits(),
        "big: asks 40 GiB of memory on one node, thin has 16 GiB; asks 40 GiB of memory on one node, fat has 32 GiB",
    ),
    "gpus": (
        Job("big", 1, gpus=3), Limits(),
        "big: asks 3 GPUs on one node, thin has 0; asks 3 GPUs on one node, fat has 2",
    ),
    "gpu memory": (
        Job("big", 1, gpus=1, gpu_memory=80 * GIB), Limits(),
        "big: asks 1 GPUs on one node, thin has 0; asks 80 GiB on each GPU, fat has 40 GiB",
    ),
    "both on one node": (
        Job("big", 1, threads=8, gpus=1), Limits(),
        "big: asks 1 GPUs on one node, thin has 0; asks 8 cores on one node, fat has 4",
    ),
    "ranks": (Job("big", 1, ranks=13), Limits(), "big: asks 13 parts of 1 cores at once, 2 nodes hold 12 of them"),
    "gang": (Job("big", 1, exclusive_nodes=3), Limits(), "big: asks 3 whole nodes at once, 2 nodes hold 2 of them"),
    "walltime": (Job("big", 90), Limits(walltime=60), "big: takes 1 min 30 s, the walltime is 1 min 00 s"),
    "max_cores": (Job("big", 1, threads=6), Limits(max_cores=4), "big: holds 6 cores, at most 4 may be in use at once"),
    "max_jobs": (Job("big", 1), Limits(max_jobs=0), "big: at most 0 jobs may run at once"),
    "length": (Job("big", float("nan")), Limits(), "big: seconds must be 0 or more and finite, got nan"),
    "endless": (Job("big", float("inf")), Limits(), "big: seconds must be 0 or more and finite, got inf"),
    "no ranks": (Job("big", 1, ranks=0), Limits(), "big: ranks must be 1 or more, got 0"),
    "circle of one": (Job("big", 1, ("big",)), Limits(), "big: depends on itself: big -> big"),
    "unknown parent": (Job("big", 1, ("small",)), Limits(), "big: depends on 'small', which is no job"),
}  # fmt: skip


@pytest.mark.parametrize(("job", "limits", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_what_can_never_run_is_refused_by_name_resource_and_reason(job: Job, limits: Limits, message: str) -> None:
    nodes = [Node("n0", 8, 16 * GIB, kind="thin"), Node("n1", 4, 32 * GIB, 2, 40 * GIB, kind="fat")]
    with pytest.raises(PlacementError) as caught:
        make_schedule([job, Job("fine", 1)], nodes, limits)
    assert str(caught.value).splitlines()[0] == message


def test_no_nodes_take_no_jobs() -> None:
    assert refusals(Job("a", 1), []) == ("there are no nodes",)


def test_a_circle_is_named_from_job_to_job() -> None:
    jobs = [Job("a", 1), Job("b", 1, ("a", "d")), Job("c", 1, ("b",)), Job("d", 1, ("c",)), Job("e", 1, ("d",))]
    with pytest.raises(PlacementError) as caught:
        make_schedule(jobs, [node()])
    assert str(caught.value) == "b: depends on itself: b -> d -> c -> b"


def test_two_jobs_of_one_name_are_refused() -> None:
    with pytest.raises(PlacementError) as caught:
        make_schedule([Job("a", 1), Job("a", 2)], [node()])
    assert str(caught.value) == "a: there are 2 jobs of this name"


def test_of_many_faults_twenty_are_listed() -> None:
    with pytest.raises(PlacementError) as caught:
        make_schedule([Job(f"j{n}", 1, threads=9) for n in range(25)], [node()])
    lines = str(caught.value).splitlines()
    assert (len(caught.value.faults), len(lines), lines[-1]) == (25, 21, "and 5 more")


def test_a_plan_far_above_its_bound_says_why() -> None:
    plan = make_schedule([Job(f"j{n}", 10, threads=3) for n in range(3)], [node()])
    assert (plan.makespan, plan.lower_bound, plan.bound) == (20.0, 15.0, "wide jobs (cores)")
    assert plan.reason == (
        "cores are idle 44% of the time: 31% while no ready job waited: from 10 s on only running jobs and what "
        "depends on them are left, 'j2' ends last; 12% while what was free on the nodes was too little for those that "
        "waited, as for 'j2' (3 cores)"
    )


def test_allocations_double_until_the_critical_path_is_reached() -> None:
    rows = allocations([Job(f"j{n}", 3600, threads=8) for n in range(8)], node(), bounds=(1, 100))
    assert [(row.nodes, row.makespan, row.node_hours, row.pilots) for row in rows] == [
        (1, 28800.0, 8.0, 1), (2, 14400.0, 8.0, 1), (4, 7200.0, 8.0, 1), (8, 3600.0, 8.0, 1),
    ]  # fmt: skip


def test_the_smallest_allocation_that_keeps_the_deadline_is_recommended() -> None:
    jobs = [Job(f"j{n}", 3600, threads=8) for n in range(9)]
    found = recommend(jobs, node(), bounds=(1, 100), deadline=4 * 3600)
    assert found.allocation is not None
    assert (found.allocation.nodes, found.allocation.makespan) == (3, 3 * 3600.0)
    assert found.reason == "3 nodes take 3 h 00 min, 9 node-hours"


def test_one_walltime_too_short_means_several_allocations() -> None:
    jobs = [Job(f"j{n}", 3600, threads=8) for n in range(6)]
    found = recommend(jobs, node(), bounds=(1, 2), deadline=4 * 3600, limits=Limits(walltime=2 * 3600))
    assert found.allocation is not None
    assert (found.allocation.nodes, found.allocation.pilots) == (2, 2)


def test_a_deadline_that_cannot_be_kept_says_what_forbids_it() -> None:
    chain = [Job("a", 3600), Job("b", 3600, ("a",))]
    assert recommend(chain, node(), bounds=(1, 9), deadline=3600).reason == (
        "the chain a -> b alone takes 2 h 00 min, the deadline is 1 h 00 min"
    )
    wide = [Job(f"j{n}", 3600, threads=8) for n in range(9)]
    assert recommend(wide, node(), bounds=(1, 2), deadline=3600).reason == (
        "2 nodes take at least 4 h 30 min (cores), more are not offered"
    )
    assert recommend(wide, node(), bounds=(1, 2), deadline=4.6 * 3600).reason == (
        "the best schedule found takes 5 h 00 min, on 2 nodes of 2"
    )


def test_a_gang_is_never_recommended_fewer_nodes_than_it_takes() -> None:
    found = recommend([Job("gang", 60, exclusive_nodes=5)], node(), bounds=(1, 20), deadline=10_000)
    assert found.allocation is not None
    assert found.allocation.nodes == 5
