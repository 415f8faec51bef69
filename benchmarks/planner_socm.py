"""Makespans of SOCM's planner, asked for by ``planner.py --socm``; runs where so_campaign_manager is installed.

Reads ``{"cores": 64, "cases": [[[seconds, cores, [parents]], ...], ...]}`` and prints the list of makespans.
"""

from __future__ import annotations

import json
import logging
import sys

from socm.core import DAG, Resource, Workflow  # type: ignore[import-not-found, unused-ignore]
from socm.planner import HeftPlanner  # type: ignore[import-not-found, unused-ignore]

SILENT = logging.getLogger("silent")
"""Its own log, tens of megabytes for 1,000 jobs, is no part of the comparison."""
SILENT.disabled = True


def makespan(case: list[tuple[float, int, list[int]]], cores: int) -> float:
    """Return when the last job of its plan ends, after a look that no edge is broken."""
    campaign = DAG()
    for number, (_, _, parents) in enumerate(case):
        campaign.add_workflow(Workflow(name=f"t{number}", id=number, depends=[f"t{parent}" for parent in parents]))
    for number, (_, _, parents) in enumerate(case):
        for parent in parents:
            campaign.add_dependency(parent, number)
    asked = {
        number: {"req_cpus": wide, "req_memory": 0.0, "req_walltime": seconds}
        for number, (seconds, wide, _) in enumerate(case)
    }
    planner = HeftPlanner(resources=Resource(name="pool", nodes=1, cores_per_node=cores, memory_per_node=1))
    planner._logger = SILENT
    result = planner.plan(campaign, asked, execution_schema="batch", requested_resources=cores)
    plan = result.batches[0].plan if hasattr(result, "batches") else result[0]
    ends = {entry.workflow.id: entry.end_time for entry in plan}
    starts = {entry.workflow.id: entry.start_time for entry in plan}
    assert all(ends[parent] <= starts[number] + 1e-6 for number, job in enumerate(case) for parent in job[2])
    return float(max(ends.values()))


def main() -> None:
    asked = json.load(sys.stdin)
    print(json.dumps([makespan(case, asked["cores"]) for case in asked["cases"]]))


if __name__ == "__main__":
    main()
