"""The dependency graph of a campaign or a run: task by task, or workflow by workflow where there are many."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from socm_like.journal import TaskState
from socm_like.status import FAILURES


class TaskLike(Protocol):
    """What a graph needs to know of a task, planned or run; each comes after the tasks it depends on."""

    @property
    def workflow(self) -> str:
        """Its workflow."""

    @property
    def kind(self) -> str:
        """Its kind."""

    @property
    def dependencies(self) -> tuple[str, ...]:
        """Names of the tasks it depends on."""


@dataclass(frozen=True, slots=True)
class Node:
    """One task, or all tasks of one workflow."""

    name: str
    workflow: str
    label: str
    """What tells the tasks of one workflow apart, or how many there are."""
    kind: str
    state: TaskState | None = None
    """None in a campaign that is only planned; of many tasks the state that matters most."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes, each after those it depends on, and edges from what comes first to what waits for it."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Return what ``campaign graph --json`` prints."""
        nodes = [
            {
                "name": node.name,
                "workflow": node.workflow,
                "label": node.label,
                "kind": node.kind,
                "state": None if node.state is None else node.state.value,
            }
            for node in self.nodes
        ]
        return {"title": self.title, "nodes": nodes, "edges": [list(edge) for edge in self.edges]}

    def to_dot(self) -> str:
        """Return the graph in the DOT language (graphviz.org/doc/info/lang.html)."""
        lines = [
            f"digraph {_quoted(self.title)} {{",
            "  rankdir=LR;",
            '  node [shape=box, style="rounded,filled", fillcolor=white, fontname=Helvetica];',
        ]
        for node in self.nodes:
            parts = (node.workflow, node.label, node.state)
            label = "\n".join(str(part) for part in parts if part)
            fill = f", fillcolor={_quoted(FILLS[node.state])}" if node.state is not None else ""
            lines.append(f"  {_quoted(node.name)} [label={_quoted(label)}{fill}];")
        lines += [f"  {_quoted(first)} -> {_quoted(then)};" for first, then in self.edges]
        return "\n".join([*lines, "}"]) + "\n"


FILLS: Mapping[TaskState, str] = {
    **dict.fromkeys(TaskState, "#f4f5f7"),
    **dict.fromkeys(FAILURES, "#fde3e1"),
    TaskState.DONE: "#def3e2",
    TaskState.CACHED: "#def3e2",
    TaskState.RUNNING: "#d9efff",
    TaskState.QUEUED: "#e8eefc",
    TaskState.HELD: "#e8eefc",
    TaskState.CANCELLED: "#fff1d0",
    TaskState.SKIPPED: "#fff1d0",
}
"""State -> the colour a box is filled with."""

_MATTERS = (
    *sorted(FAILURES), TaskState.RUNNING, TaskState.QUEUED, TaskState.CANCELLED, TaskState.SKIPPED,
    TaskState.HELD, TaskState.PLANNED, TaskState.BLOCKED, TaskState.DONE, TaskState.CACHED,
)  # fmt: skip
"""Of several tasks, the first state here that one of them is in."""


def graph_of_tasks(title: str, tasks: Mapping[str, TaskLike], states: Mapping[str, TaskState]) -> Graph:
    """Return the graph with one node per task; no states for a campaign that is only planned."""
    nodes = tuple(
        Node(name, task.workflow, _label(name, task.workflow), task.kind, states.get(name))
        for name, task in tasks.items()
    )
    edges = tuple((first, name) for name, task in tasks.items() for first in task.dependencies)
    return Graph(title, nodes, edges)


def graph_of_workflows(title: str, tasks: Mapping[str, TaskLike], states: Mapping[str, TaskState]) -> Graph:
    """Return the graph with one node per workflow, which tells how many tasks are in which state."""
    members: dict[str, list[str]] = {}
    edges: dict[tuple[str, str], None] = {}
    for name, task in tasks.items():
        members.setdefault(task.workflow, []).append(name)
        for first in task.dependencies:
            if tasks[first].workflow != task.workflow:
                edges[tasks[first].workflow, task.workflow] = None
    nodes = tuple(
        Node(workflow, workflow, _summary(names, states), tasks[names[0]].kind, _worst(names, states))
        for workflow, names in members.items()
    )
    return Graph(title, nodes, tuple(edges))


def _label(name: str, workflow: str) -> str:
    return name.removeprefix(workflow).removeprefix("[").removesuffix("]")


def _summary(names: Sequence[str], states: Mapping[str, TaskState]) -> str:
    counts = Counter(states[name] for name in names if name in states)
    count = f"{len(names)} task{'s'[: len(names) != 1]}"
    if len(counts) < 2:
        return count
    return f"{count}: " + ", ".join(f"{counts[state]} {state}" for state in _MATTERS if counts[state])


def _worst(names: Sequence[str], states: Mapping[str, TaskState]) -> TaskState | None:
    present = {states[name] for name in names if name in states}
    return next((state for state in _MATTERS if state in present), None)


def _quoted(text: str) -> str:
    """Return text as a DOT string; JSON escapes are understood for quotes, backslashes and newlines."""
    return json.dumps(text, ensure_ascii=False)
