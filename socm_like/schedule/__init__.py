"""Who runs where and when: jobs with demands and edges, packed onto nodes. Pure; knows neither tasks nor queues."""

from socm_like.schedule.allocation import Allocation, Recommendation, allocations, check_jobs, recommend
from socm_like.schedule.load import refusals
from socm_like.schedule.model import Job, Limits, Node, Placement, PlacementError, Schedule, Share
from socm_like.schedule.search import make_schedule

__all__ = [
    "Allocation",
    "Job",
    "Limits",
    "Node",
    "Placement",
    "PlacementError",
    "Recommendation",
    "Schedule",
    "Share",
    "allocations",
    "check_jobs",
    "make_schedule",
    "recommend",
    "refusals",
]
