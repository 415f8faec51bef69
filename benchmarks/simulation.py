"""Cost of the simulation: CPU time and memory of a campaign of about a month in virtual time, with failures of nodes.

    python benchmarks/simulation.py [--sizes 1000 10000 100000]

Chains of ten tasks on a hundredth as many nodes of 64 cores, 512 GiB and 4 GPUs; times off by log-sigma 0.3, one
failure per 1,000 node-hours. The real runner, journal and retries do the work. The peer is our own planner, which
places the same tasks once, without runner and journal, where it is asked for no more than 10,000 of them.
"""

from __future__ import annotations

import argparse
import math
import random
import resource
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from socm_like.executors.behaviour import Behaviour
from socm_like.plan import Plan
from socm_like.resources import Resources
from socm_like.schedule import Node, make_schedule
from socm_like.settings import Execution
from socm_like.simulation import machine_of, simulate
from socm_like.task import Task
from socm_like.timeline import jobs_of
from socm_like.window import WindowTable

GIB = 2**30
DAY = 86400.0
MONDAY = 1_795_424_400.0
"""2026-11-23, 10:00 in Berlin."""
PLANNED = 10_000
"""Tasks up to which the peer is asked."""


def tasks(count: int) -> list[Task]:
    source = random.Random(count)
    made = []
    for number in range(count):
        cores = source.choice((1, 2, 4, 8, 16, 32, 64))
        made.append(
            Task(
                name=f"t{number}", workflow="w", kind="command", id=f"t{number}", folder=f"command/t{number}",
                dependencies=(f"t{number - 1}",) if number % 10 else (),
                resources=Resources(
                    threads=cores, memory=round(cores * source.uniform(1, 6) * GIB),
                    gpus=source.choice((1, 1, 2, 4)) if source.random() < 0.3 else 0,
                    runtime=timedelta(hours=source.uniform(1, 50)),
                ),
                argv=("true",), environment={}, outputs={}, metrics="", restartable=False, parameters={}, fields={},
            )
        )  # fmt: skip
    return made


def plan_of(store: Path, count: int, nodes: Sequence[Node], window: WindowTable | None) -> Plan:
    return Plan(
        campaign="month", source=store / "campaign.toml", settings=(), store=store, deadline=None,
        machine=machine_of("cluster", nodes), execution=Execution(), plugins=(), preload=(),
        tasks=tuple(tasks(count)), window=window,
    )  # fmt: skip


def measure(store: Path, count: int, window: WindowTable | None) -> float:
    """Simulate one campaign, print what it cost and how it went; return the CPU seconds."""
    nodes = [Node(f"n{number}", 64, 512 * GIB, 4, 40 * GIB) for number in range(max(count // 100, 1))]
    plan = plan_of(store, count, nodes, window)
    behaviour = Behaviour(noise=0.3, node_failures=1e-3, unpadded="run_on")
    start = time.process_time()
    found = simulate(plan, nodes, behaviour, MONDAY)
    seconds = time.process_time() - start
    states = ", ".join(f"{number} {state}" for state, number in sorted(found.counts.items()))
    held = f", {len(found.held)} held by the window" if window is not None else ""
    each = 1e6 * seconds / found.attempts
    print(f"{count:7} tasks, {len(nodes):4} nodes: {seconds:6.2f} s CPU, {each:4.0f} us per attempt; "
          f"{found.makespan / DAY:.1f} days of virtual time, {found.bottleneck} {100 * found.utilisation:.0f} % busy, "
          f"{found.retries} retries, {states}{held}")  # fmt: skip
    if count <= PLANNED and window is None:
        start = time.process_time()
        planned = make_schedule(jobs_of(plan.tasks), nodes)
        cost = time.process_time() - start
        exact = simulate(plan, nodes, Behaviour(), MONDAY)
        ratio = exact.makespan / planned.makespan
        print(f"        the planner takes {cost:.2f} s CPU, a ratio of {seconds / cost:.1f}; "
              f"without noise and failures the simulation ends after {ratio:.3f} x the planned time")  # fmt: skip
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000])
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        store = Path(folder) / "runs"
        costs = [(size, measure(store, size, None)) for size in arguments.sizes]
        if len(costs) > 1:
            (first, early), (last, late) = costs[0], costs[-1]
            print(f"growth exponent {math.log(late / early) / math.log(last / first):.2f}")
        nights = WindowTable(preferred_hours=("20:00-08:00",), weekends=True, timezone="Europe/Berlin")
        measure(store, arguments.sizes[-1], nights)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
