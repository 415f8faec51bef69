"""Quality and cost of the planner: makespan over lower bound, utilisation with wrong estimates, CPU time and growth.

    python benchmarks/planner.py [--campaigns 200] [--sizes 1000 10000 100000] [--worst 10] [--socm PYTHON]

Campaigns are random with fixed seeds: five shapes, 1 to 64 nodes of 64 cores, 256 GiB and 4 GPUs. The peer is SOCM: its
ratios on one pool of cores, quoted from our measurement of SOCM 0.1, against ours on jobs of the same distribution; and
with --socm, a Python in which so_campaign_manager is installed, both planners on the same jobs.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from socm_like.schedule import Job, Limits, Node, Schedule, make_schedule
from socm_like.schedule.bound import chains_of, lower_bound
from socm_like.schedule.dispatch import dispatch
from socm_like.schedule.load import make_load
from socm_like.schedule.search import first_turns

GIB = 2**30
Shape = Callable[[random.Random, int], list[tuple[int, ...]]]


def independent(_: random.Random, count: int) -> list[tuple[int, ...]]:
    return [()] * count


def layered(source: random.Random, count: int) -> list[tuple[int, ...]]:
    """Return about sqrt(count) layers, each job with 1 to 3 parents in the layer before."""
    width = max(round(math.sqrt(count)), 1)

    def parents(layer: int) -> tuple[int, ...]:
        return tuple(
            sorted({source.randrange((layer - 1) * width, layer * width) for _ in range(source.randint(1, 3))})
        )

    return [parents(job // width) if job >= width else () for job in range(count)]


def fan(_: random.Random, count: int) -> list[tuple[int, ...]]:
    """Return one root, one sink and everything between them."""
    return [(), *[(0,)] * (count - 2), tuple(range(1, count - 1))]


def chains(_: random.Random, count: int) -> list[tuple[int, ...]]:
    """Return chains of ten."""
    return [(job - 1,) if job % 10 else () for job in range(count)]


def scattered(source: random.Random, count: int) -> list[tuple[int, ...]]:
    """Return up to 3 parents anywhere among the 100 jobs before."""
    return [
        tuple(sorted({source.randrange(max(0, job - 100), job) for _ in range(source.randint(0, 3))})) if job else ()
        for job in range(count)
    ]


SHAPES: dict[str, Shape] = {
    "independent": independent, "layered": layered, "fan": fan, "chains": chains, "scattered": scattered,
}  # fmt: skip


def campaign(source: random.Random, shape: str, count: int) -> list[Job]:
    """Return jobs of 1 to 32 cores, 10 minutes to 4 hours, 1 to 6 GiB per core, 30 % of them with 1 to 4 GPUs."""
    jobs = []
    for number, parents in enumerate(SHAPES[shape](source, count)):
        cores = source.choice((1, 2, 4, 8, 12, 16, 24, 32))
        jobs.append(
            Job(
                name=f"t{number}", seconds=source.uniform(600, 14400), threads=cores,
                dependencies=tuple(f"t{parent}" for parent in parents),
                memory=min(round(cores * source.uniform(1, 6) * GIB), 256 * GIB),
                gpus=source.choice((1, 1, 2, 4)) if source.random() < 0.3 else 0,
            )
        )  # fmt: skip
    return jobs


def nodes(count: int) -> list[Node]:
    return [Node(f"n{number}", cores=64, memory=256 * GIB, gpus=4) for number in range(count)]


def quality(campaigns: int, worst: int) -> None:
    rows: list[tuple[float, str, Schedule]] = []
    for seed in range(campaigns):
        source = random.Random(seed)
        shape = list(SHAPES)[seed % len(SHAPES)]
        count, hosts = round(10 ** source.uniform(1.5, 3)), source.choice((1, 2, 4, 8, 16, 32, 64))
        plan = make_schedule(campaign(source, shape, count), nodes(hosts))
        rows.append((plan.ratio, f"{shape} {count} jobs, {hosts} nodes, bound by {plan.bound}", plan))
    rows.sort(key=lambda row: -row[0])
    ratios = [row[0] for row in rows]
    above = sum(ratio > 1.05 for ratio in ratios)
    print(f"makespan / lower bound, {campaigns} campaigns: median {statistics.median(ratios):.4f}, "
          f"mean {statistics.mean(ratios):.4f}, worst {ratios[0]:.4f}, {above} above 1.05")  # fmt: skip
    worked = [ratio for ratio, _, plan in rows if plan.bound != "critical path"]
    print(f"  {len(worked)} bound by work: median {statistics.median(worked):.4f}, worst {max(worked):.4f}")
    for shape in SHAPES:
        part = [row[0] for row in rows if row[1].startswith(shape)]
        print(f"  {shape:12} median {statistics.median(part):.4f} worst {max(part):.4f}")
    for ratio, title, plan in rows[:worst]:
        print(f"  {ratio:.3f} {title}: {plan.reason}")


def online(campaigns: int) -> None:
    """Dispatch by estimates that are wrong by a factor exp(N(0, 0.5)); the jobs take what they take."""
    reached = []
    for seed in range(campaigns):
        source = random.Random(10_000 + seed)
        shape = list(SHAPES)[seed % len(SHAPES)]
        count, hosts = round(10 ** source.uniform(2, 3)), source.choice((1, 2, 4, 8, 16, 32, 64))
        jobs, machine = campaign(source, shape, count), nodes(hosts)
        true = make_load(jobs, machine, Limits())
        guessed = make_load(jobs, machine, Limits())
        guessed.seconds[:] = [seconds * math.exp(source.gauss(0, 0.5)) for seconds in true.seconds]
        order = next(first_turns(guessed, machine, chains_of(guessed)))
        table = dispatch(guessed, machine, Limits(), order, actual=true.seconds)
        bound = lower_bound(true, machine, Limits(), chains_of(true))
        reached.append(bound.seconds / table.makespan)
    print(f"bottleneck utilisation / what the bound allows, estimates off by log-sigma 0.5, {campaigns} campaigns: "
          f"median {statistics.median(reached):.3f}, worst {min(reached):.3f}")  # fmt: skip


SOCM = {
    224: (1.148, 1.173, 1.318, 1.200, 1.198, 1.186),
    448: (1.065, 1.094, 1.096, 1.128, 1.165, 1.137),
    1120: (1.116, 1.048, 1.000, 1.076, 1.351, 1.113),
    3359: (1.000, 1.019, 1.000, 1.000, 1.000, 1.220),
}
"""Makespan / lower bound of SOCM's planner: independent, layered, fan-out, of 100 and of 1,000 jobs each."""


def against_socm() -> None:
    print(
        "one pool of cores, U(10, 240) min, 8 to 112 cores: SOCM -> ours, makespan / max(critical path, work / cores)"
    )
    print("  cores   indep 100       indep 1000      layered 100     layered 1000    fan 100         fan 1000")
    for cores, theirs in SOCM.items():
        cells = []
        cases = [(shape, count) for shape in ("independent", "layered", "fan") for count in (100, 1000)]
        for (shape, count), their in zip(cases, theirs, strict=True):
            source = random.Random(1)
            jobs = [
                Job(f"t{number}", source.uniform(600, 14400), tuple(f"t{parent}" for parent in parents),
                    threads=source.choice((8, 16, 32, 64, 112)))
                for number, parents in enumerate(SHAPES[shape](source, count))
            ]  # fmt: skip
            plan = make_schedule(jobs, [Node("pool", cores, 0)])
            work = sum(job.seconds * job.threads for job in jobs) / cores
            plain = max(work, plan.critical_path_seconds)
            cells.append(f"{their:.3f} -> {plan.makespan / plain:.3f}")
        print(f"  {cores:5}   " + "  ".join(cells))


def beside_socm(python: Path, campaigns: int) -> None:
    """Print how much longer SOCM's plans take on one node of 64 cores, jobs that ask cores only."""
    cases, shapes = [], []
    for seed in range(campaigns):
        source = random.Random(seed)
        shapes.append(list(SHAPES)[seed % len(SHAPES)])
        jobs = campaign(source, shapes[-1], round(10 ** source.uniform(1.5, 3)))
        cases.append([Job(job.name, job.seconds, job.dependencies, threads=job.threads) for job in jobs])
    asked = [
        [(job.seconds, job.threads, [int(parent[1:]) for parent in job.dependencies]) for job in jobs]
        for jobs in cases
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:  # where it leaves its logs
        words = [python.absolute(), Path(__file__).absolute().with_name("planner_socm.py")]
        document = json.dumps({"cores": 64, "cases": asked})
        answer = subprocess.run(words, input=document, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    theirs = json.loads(answer.stdout.splitlines()[-1])
    plans = [make_schedule(jobs, [Node("n0", cores=64, memory=0)]) for jobs in cases]
    longer = [their / plan.makespan for their, plan in zip(theirs, plans, strict=True)]
    above = statistics.median(their / plan.lower_bound for their, plan in zip(theirs, plans, strict=True))
    ours = statistics.median(plan.ratio for plan in plans)
    quarters = statistics.quantiles(longer, n=4)
    print(f"SOCM's makespan / ours, one node of 64 cores, the same {campaigns} campaigns: median {quarters[1]:.3f}, "
          f"quartiles {quarters[0]:.3f} and {quarters[2]:.3f}, from {min(longer):.3f} to {max(longer):.3f}; "
          f"over the lower bound {above:.3f} and {ours:.3f}")  # fmt: skip
    for shape in SHAPES:
        part = [ratio for ratio, name in zip(longer, shapes, strict=True) if name == shape]
        print(f"  {shape:12} median {statistics.median(part):.3f}")


def cost(sizes: Sequence[int]) -> None:
    """Print CPU seconds where work, not the longest chain, bounds the makespan: the case with most waiting jobs."""
    for shape, hosts in (("independent", 32), ("layered", 8), ("scattered", 4), ("fan", 64)):
        points = []
        for size in sizes:
            jobs = campaign(random.Random(size), shape, size)
            start = time.process_time()
            plan = make_schedule(jobs, nodes(hosts))
            points.append((size, time.process_time() - start))
            print(f"  {shape:12} {size:7} jobs, {hosts:2} nodes: {points[-1][1]:7.3f} s CPU, ratio {plan.ratio:.4f}")
        if len(points) > 1:
            (first, early), (last, late) = points[0], points[-1]
            print(f"  {shape:12} growth exponent {math.log(late / early) / math.log(last / first):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--worst", type=int, default=10)
    parser.add_argument("--socm", type=Path, metavar="PYTHON", help="a Python with so_campaign_manager")
    arguments = parser.parse_args()
    quality(arguments.campaigns, arguments.worst)
    online(arguments.campaigns)
    against_socm()
    if arguments.socm is not None:
        beside_socm(arguments.socm, arguments.campaigns)
    cost(arguments.sizes)


if __name__ == "__main__":
    main()
