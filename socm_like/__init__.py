"""A campaign manager for computational science: campaign.toml in, results out.

The names here are imported when first used, so that ``campaign status`` need not load what it does not show.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from socm_like.errors import CampaignError as CampaignError
    from socm_like.errors import SocmError as SocmError
    from socm_like.fields import Bytes as Bytes
    from socm_like.fields import Duration as Duration
    from socm_like.fields import NotIdentity as NotIdentity
    from socm_like.fields import Query as Query
    from socm_like.registry import registered_workflows as registered_workflows
    from socm_like.resources import Machine as Machine
    from socm_like.resources import Resources as Resources
    from socm_like.workflow import EstimateContext as EstimateContext
    from socm_like.workflow import Result as Result
    from socm_like.workflow import Workflow as Workflow

_HOME = {
    "Bytes": "fields",
    "CampaignError": "errors",
    "Duration": "fields",
    "EstimateContext": "workflow",
    "Machine": "resources",
    "NotIdentity": "fields",
    "Query": "fields",
    "Resources": "resources",
    "Result": "workflow",
    "SocmError": "errors",
    "Workflow": "workflow",
    "registered_workflows": "registry",
}

__all__ = [
    "Bytes",
    "CampaignError",
    "Duration",
    "EstimateContext",
    "Machine",
    "NotIdentity",
    "Query",
    "Resources",
    "Result",
    "SocmError",
    "Workflow",
    "registered_workflows",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'socm_like' has no attribute {name!r}")
    return getattr(import_module(f"socm_like.{_HOME[name]}"), name)
