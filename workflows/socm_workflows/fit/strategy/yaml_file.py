"""``nlsq.yaml``: what a directory says about the fits that are started in it.

::

    workflow:
      goal: robust
      memory_limit_gb: 16.0
      enable_checkpointing: true
      checkpoint_dir: ./checkpoints    # relative to this file
    tolerances:
      ftol: 1e-10
      xtol: 1e-10
      gtol: 1e-10
    cluster:
      type: pbs
      nodes: 4
      gpus_per_node: 2

``workflow`` takes the other fields of WorkflowConfig too, and ``preset``, which lies below them. YAML itself takes
``1e-10`` for text, because it has no point; here a number is what looks like one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from socm_like.errors import suggest
from socm_workflows.fit.strategy.configuration import StatedCluster, WorkflowConfig
from socm_workflows.fit.strategy.presets import get_preset

FILE_NAME = "nlsq.yaml"
LARGEST = 2**20
"""Bytes of the largest file that is read."""
CLUSTER_TYPES = ("pbs", "slurm", "lsf")

_TOLERANCES = ("gtol", "ftol", "xtol")
_WORKFLOW = tuple(
    item.name for item in fields(WorkflowConfig) if item.name not in (*_TOLERANCES, "cluster", "description")
)
TABLES = {
    "workflow": ("preset", *_WORKFLOW),
    "tolerances": _TOLERANCES,
    "cluster": ("type", "nodes", "gpus_per_node"),
}

_WHOLE = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WORDS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, "null": None, "~": None}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One key of one table."""

    table: str
    key: str
    value: Any
    line: int


_Read: TypeAlias = tuple[list[_Entry], list[str]]


def read_yaml(path: Path) -> WorkflowConfig:
    """Return what a file says.

    Raises ValueError: every fault of the file, each with its line; OSError: it cannot be read.
    """
    entries, faults = _read(path)
    said: dict[str, Any] = {}
    cluster: dict[str, Any] = {}
    below = WorkflowConfig()
    for entry in entries:
        where = f"{path}:{entry.line}: {entry.table}.{entry.key}"
        try:
            if entry.table == "cluster":
                cluster[entry.key] = _cluster_value(entry.key, entry.value, where)
            elif entry.key == "preset":
                below = get_preset(str(entry.value), where)
            else:
                said[entry.key] = _checked(entry, path.parent)
        except ValueError as error:
            text = str(error)
            faults.append(text if text.startswith(where) else f"{path}:{entry.line}: {entry.table}.{text}")
    keys = {entry.key for entry in entries if entry.table == "cluster"}
    if keys and "type" not in keys:
        faults.append(f"{path}: cluster has no type (one of {', '.join(CLUSTER_TYPES)})")
    if not faults:
        try:
            return WorkflowConfig(**said, cluster=StatedCluster(**cluster) if cluster else None).over(below)
        except ValueError as error:
            faults = [f"{path}: {error}"]
    raise ValueError("\n".join(faults))


def read_folder(folder: Path | None = None) -> WorkflowConfig:
    """Return what ``nlsq.yaml`` of a folder (this one by default) says: nothing where there is none."""
    path = (Path.cwd() if folder is None else folder) / FILE_NAME
    return read_yaml(path) if path.is_file() else WorkflowConfig()


def _checked(entry: _Entry, folder: Path) -> Any:
    """Return a value as WorkflowConfig takes it. Raises ValueError, naming the key."""
    value = getattr(WorkflowConfig(**{entry.key: entry.value}), entry.key)
    return folder / value if entry.key == "checkpoint_dir" and value is not None else value


def _cluster_value(key: str, value: Any, where: str) -> Any:
    if key == "type":
        if value not in CLUSTER_TYPES:
            raise ValueError(
                f"{where} is {value!r}{suggest(str(value), CLUSTER_TYPES)} (one of {', '.join(CLUSTER_TYPES)})"
            )
        return value
    least = 1 if key == "nodes" else 0
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{where} is {value!r}: write a whole number of at least {least}")
    return value


def _read(path: Path) -> _Read:
    """Return the entries of a file and what is wrong with its form."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: larger than {LARGEST >> 20} MiB")
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    if root is None:
        return [], []
    if not isinstance(root, yaml.MappingNode):
        return [], [f"{path}:{_line(root)}: write the tables {', '.join(TABLES)}"]
    entries: list[_Entry] = []
    faults: list[str] = []
    for name, line, node in _items(root, path, "the file", faults):
        if name not in TABLES:
            faults.append(f"{path}:{line}: no table {name!r}{suggest(name, TABLES)} (tables: {', '.join(TABLES)})")
        elif isinstance(node, yaml.MappingNode):
            entries += _table(name, node, path, faults)
        elif _scalar(node) is not None:
            faults.append(f"{path}:{line}: {name} is a table: write its keys below it")
    return entries, faults


def _table(name: str, node: yaml.MappingNode, path: Path, faults: list[str]) -> list[_Entry]:
    entries = []
    for key, line, value in _items(node, path, name, faults):
        allowed = TABLES[name]
        if key not in allowed:
            near = suggest(key, allowed)
            faults.append(f"{path}:{line}: {name} has no key {key!r}{near} (keys: {', '.join(sorted(allowed))})")
        elif not isinstance(value, yaml.ScalarNode):
            faults.append(f"{path}:{line}: {name}.{key} is a single value")
        elif (read := _scalar(value)) is not None:
            entries.append(_Entry(name, key, read, line))
    return entries


def _items(node: yaml.MappingNode, path: Path, where: str, faults: list[str]) -> Iterator[tuple[str, int, yaml.Node]]:
    """Yield key, line and value, each key once."""
    seen: set[str] = set()
    for key, value in node.value:
        name = str(key.value)
        if name in seen:
            faults.append(f"{path}:{_line(key)}: {where} has {name!r} twice")
            continue
        seen.add(name)
        yield name, _line(key), value


def _scalar(node: yaml.Node) -> Any:
    """Return a value: text in quotes stays text; None says nothing."""
    if not isinstance(node, yaml.ScalarNode):
        return node.value
    text = str(node.value)
    if node.style in ("'", '"'):
        return text
    if text.lower() in ("", *_WORDS):
        return _WORDS.get(text.lower())
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
