"""Tasks + Machine -> Plan: who runs where, in which order, and how long it takes at least."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from socm_like.campaign import Campaign
from socm_like.errors import StoreError
from socm_like.experience import experience_of
from socm_like.identity import FileDigests, digest
from socm_like.policy import Policy
from socm_like.resources import Machine, Prediction, Resources
from socm_like.settings import Execution
from socm_like.sizes import runtime_of
from socm_like.task import Task
from socm_like.tasks import resolve
from socm_like.window import WindowTable

SCHEMA = 1

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
_TASK_FIELDS = tuple(each.name for each in fields(Task))
_OPTIONAL = frozenset(("inputs", "ancestors", "swept", "batch", "search", "trial_of", "predicted", "stated", "family"))
"""Fields that a plan leaves out where they are empty."""
_SPANS = ("runtime", "typical_runtime")


@dataclass(frozen=True)
class Plan:
    """What one run will do: a value, written to ``plan.json`` whole."""

    campaign: str
    source: Path
    """The campaign file."""
    settings: tuple[str, ...]
    """The ``--set`` arguments it was loaded with."""
    store: Path
    deadline: timedelta | None
    machine: Machine
    execution: Execution
    plugins: tuple[Path, ...]
    preload: tuple[str, ...]
    """Modules that the warm process of the Python tasks imports."""
    tasks: tuple[Task, ...]
    """Each after the tasks it depends on."""
    window: WindowTable | None = None
    """When tasks run by preference."""
    policy: Policy = field(default_factory=Policy)
    """Which tasks come first, how many at once, what all may cost."""
    notes: tuple[str, ...] = ()
    """What one should know of its sweeps: combinations that were taken out, and why."""

    @property
    def run_name(self) -> str:
        """The campaign's name and 8 hex characters of what will be computed, not of where, how fast, in which order."""
        planned = (task for task in self.tasks if not task.trial_of)
        content = sorted((task.name, task.id, sorted(task.dependencies)) for task in planned)
        return f"{self.campaign}-{digest(content)[:8]}"

    def to_json(self) -> str:
        """Return the plan as one JSON document; ``tasks`` come one per line."""
        head = {
            "schema": SCHEMA,
            "campaign": self.campaign,
            "run": self.run_name,
            "source": str(self.source),
            "settings": list(self.settings),
            "store": str(self.store),
            "deadline": self.deadline.total_seconds() if self.deadline else None,
            "machine": self.machine.model_dump(mode="json"),
            "execution": self.execution.model_dump(mode="json"),
            "plugins": [str(path) for path in self.plugins],
            "preload": list(self.preload),
            "window": None if self.window is None else self.window.model_dump(mode="json"),
            "policy": self.policy.model_dump(mode="json", exclude_defaults=True),
            "notes": list(self.notes),
        }
        lines = ",\n".join(_ENCODE(task_data(task)) for task in self.tasks)
        return f'{json.dumps(head)[:-1]}, "tasks": [\n{lines}\n]}}\n'


def task_data(task: Task) -> dict[str, Any]:
    """Return a task as JSON, without what is empty and may be missing."""
    data = {name: value for name in _TASK_FIELDS if (value := getattr(task, name)) or name not in _OPTIONAL}
    data["resources"] = task.resources.model_dump(mode="json", exclude_none=True)
    if task.predicted is not None:
        data["predicted"] = task.predicted.model_dump(mode="json", exclude_none=True)
    return data


def read_plan(data: Mapping[str, Any]) -> Plan:
    """Return the plan that :meth:`Plan.to_json` wrote.

    Raises StoreError when it is not one, or one of another version of this program.
    """
    try:
        if data["schema"] != SCHEMA:
            raise StoreError(f"plan schema {data['schema']}, this program reads {SCHEMA}")
        return Plan(
            campaign=data["campaign"],
            source=Path(data["source"]),
            settings=tuple(data["settings"]),
            store=Path(data["store"]),
            deadline=None if data["deadline"] is None else timedelta(seconds=data["deadline"]),
            machine=Machine.model_validate(data["machine"]),
            execution=Execution.model_validate(
                {**data["execution"], "grace": timedelta(seconds=data["execution"]["grace"])}
            ),
            plugins=tuple(map(Path, data["plugins"])),
            preload=tuple(data["preload"]),
            tasks=tuple(map(task_of, data["tasks"])),
            window=WindowTable.model_validate(data["window"]) if data.get("window") is not None else None,
            policy=Policy.model_validate(data.get("policy", {})),
            notes=tuple(data.get("notes", ())),
        )
    except (LookupError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise StoreError(f"plan.json is damaged ({problem}); submit the campaign again to write it anew") from error


def task_of(data: Mapping[str, Any]) -> Task:
    """Return the task that :func:`task_data` wrote."""
    return Task(
        **{
            **data,
            "dependencies": tuple(data["dependencies"]),
            "swept": tuple(data.get("swept", ())),
            "argv": None if data["argv"] is None else tuple(data["argv"]),
            "resources": Resources.model_validate(_spans(data["resources"])),
            "predicted": Prediction.model_validate(_spans(data["predicted"])) if data.get("predicted") else None,
            "stated": tuple(data.get("stated", ())),
        }
    )


def _spans(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return sizes as a plan states them, with time spans instead of their seconds."""
    return {key: timedelta(seconds=value) if key in _SPANS else value for key, value in data.items()}


def make_plan(campaign: Campaign, store: Path, machine: Machine, digests: FileDigests) -> Plan:
    """Return the plan of a campaign on a machine, with what finished tasks of the store teach; writes nothing.

    Raises CampaignError with every fault, including requests that no part of the machine can meet.
    """
    usable = _capped(machine, campaign.execution)
    store = Path(os.path.abspath(store))  # noqa: PTH100 - resolve() would follow links
    experience = experience_of(store, {entry.kind for entry in campaign.entries.values()})
    resolved = resolve(campaign, store, usable, digests, experience.predict)
    kinds = dict.fromkeys(task.kind for task in resolved.tasks if task.argv is None)
    preload = dict.fromkeys(module for kind in kinds for module in campaign.registry[kind].preload)
    return Plan(
        campaign=campaign.name,
        source=campaign.document.folder / campaign.document.path.name,
        settings=tuple(campaign.document.overrides.values()),
        store=store,
        deadline=campaign.settings.deadline,
        machine=usable,
        execution=campaign.execution,
        plugins=campaign.plugins,
        preload=tuple(preload),
        tasks=resolved.tasks,
        window=campaign.window,
        policy=campaign.policy,
        notes=resolved.notes,
    )


def _capped(machine: Machine, execution: Execution) -> Machine:
    """Return the part of the machine that ``[execution]`` allows."""
    return machine.model_copy(
        update={
            "cores": machine.cores[: execution.cores],
            "memory": min(machine.memory, execution.memory or machine.memory),
        }
    )


def upward_ranks(tasks: Sequence[Task], seconds_of: Callable[[Task], float] = runtime_of) -> dict[str, float]:
    """Return for each task the seconds from its start to the end of the longest chain behind it.

    Source: upward rank without communication cost; Topcuoglu, Hariri & Wu (2002), IEEE TPDS 13(3), eq. 3, p. 264.
    """
    ranks = {task.name: seconds_of(task) for task in tasks}
    longest_after: dict[str, float] = {}
    for task in reversed(tasks):
        ranks[task.name] += longest_after.get(task.name, 0.0)
        for parent in task.dependencies:
            longest_after[parent] = max(longest_after.get(parent, 0.0), ranks[task.name])
    return ranks


def critical_path(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Return the chain of tasks that takes longest, from its first to its last."""
    ranks = upward_ranks(tasks)
    by_name = {task.name: task for task in tasks}
    children: dict[str, list[str]] = {}
    for task in tasks:
        for parent in task.dependencies:
            children.setdefault(parent, []).append(task.name)
    path = []
    heads: Sequence[str] = [task.name for task in tasks if not task.dependencies]
    while heads:
        first = max(heads, key=lambda name: ranks[name])
        path.append(by_name[first])
        heads = children.get(first, [])
    return tuple(path)
