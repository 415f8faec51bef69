"""A machine as data: ``tiger3.toml`` -> MachineFile: nodes, partitions, limits, and where each figure comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from socm_like.document import Document, KeyPath, dotted, read_document
from socm_like.errors import CampaignError, Fault, UsageError, listed, suggest
from socm_like.faults import faults_of, in_order, shown
from socm_like.fields import Bytes, Duration, Model
from socm_like.resources import Detection, Machine, Resources, detect

LOCAL = "local"
"""The name of this machine, which is detected and has no file."""
NOT_STATED = "not stated"

_FOLDERS = (Path(__file__).parent / "machines", Path(__file__).parents[1] / "campaigns" / "machines")
"""Where the shipped files lie: in an installed package, in the repository."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_FIGURES = ("nodes", "partitions")
"""The tables whose numbers have sources."""


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Count = Annotated[int, Field(strict=True, gt=0)]
"""A whole number of things, at least one."""
Truth = Annotated[bool, Field(strict=True)]
Words = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
"""A list of words; files may write one word without the brackets."""


class Nodes(Model):
    """``[nodes.<type>]``: nodes of one type; the figures but ``count`` are of one node."""

    count: Count
    cores: Count
    """Physical cores that jobs may use."""
    memory: Bytes
    gpus: Annotated[int, Field(strict=True, ge=0)] = 0
    gpu_memory: Bytes | None = None
    """Memory of one GPU."""
    gpu_model: str = ""
    features: Words = ()
    """What the scheduler calls these nodes."""


class Partition(Model):
    """``[partitions.<name>]``: one way into the machine, a partition or a QoS; ``None`` means no limit of its own."""

    nodes: Annotated[Words, Field(min_length=1)]
    """The types of nodes it leads to."""
    walltime: Duration
    """The longest a job may run."""
    min_nodes: Count | None = None
    """Nodes of one job at the least."""
    max_nodes: Count | None = None
    """Nodes of one job at the most."""
    max_jobs: Count | None = None
    """Jobs of one user at a time."""
    max_cores: Count | None = None
    """Cores of one user at a time."""
    partition: str = ""
    """What sbatch calls the partition; the name of the table, unless that is a QoS."""
    qos: str = ""
    constraint: str = ""
    """Features a job must ask for."""
    cost_per_node_hour: Annotated[float, Field(strict=True, ge=0)] | None = None
    """What the site charges, in units of its own."""


class Schedule(Model):
    """``[schedule]``: when the site would rather have jobs run."""

    preferred_hours: Words = ()
    weekends: Truth | None = None
    holidays: Annotated[tuple[str | date, ...], BeforeValidator(_as_tuple)] | Truth | None = None
    timezone: str = ""


class _Cluster(Machine):
    """All of a cluster as one."""

    def refusals(self, resources: Resources) -> Sequence[str]:  # noqa: ARG002 - that of a machine
        return ()


class MachineFile(Model):
    """One machine: its nodes, the ways into it in order of preference, and where each figure comes from."""

    name: str = Field(min_length=1)
    doc: str = ""
    scheduler: Literal["local", "slurm"]
    launcher: Literal["", "srun", "mpiexec"] = ""
    """What starts the ranks of a task."""
    account: str = ""
    """The account that jobs are charged to; empty for the user's own default."""
    timezone: str = ""
    """Where the machine stands, as ``Europe/London``."""
    nodes: dict[str, Nodes] = Field(min_length=1)
    partitions: dict[str, Partition] = Field(default_factory=dict)
    schedule: Schedule | None = None
    sources: dict[str, str] = Field(default_factory=dict)
    """Dotted name of a figure or a table -> a document and a date, or ``assumed``."""

    def figures(self) -> Iterator[str]:
        """Yield the dotted name of every figure that the file states."""
        for group in _FIGURES:
            for name, table in getattr(self, group).items():
                for field in type(table).model_fields:
                    value = getattr(table, field)
                    if field in table.model_fields_set and not isinstance(value, str | tuple):
                        yield f"{group}.{name}.{field}"

    def source_of(self, figure: str) -> str:
        """Return where a figure comes from: its own source, else that of its table, else ``not stated``."""
        while figure and figure not in self.sources:
            figure = figure.rpartition(".")[0]
        return self.sources.get(figure, NOT_STATED)

    def partitions_of(self, nodes: str) -> Mapping[str, Partition]:
        """Return the ways to nodes of a type, the preferred first."""
        return {name: partition for name, partition in self.partitions.items() if nodes in partition.nodes}

    def as_one(self) -> Machine:
        """Return all of the machine as one; that of a cluster takes every task: its partitions say what they cannot."""
        nodes = self.nodes.values()
        kind = Machine if self.scheduler == LOCAL else _Cluster
        return kind(
            name=self.name,
            cores=tuple(range(max(node.cores * node.count for node in nodes))),
            memory=max(node.memory * node.count for node in nodes),
            gpus=tuple(map(str, range(max(node.gpus * node.count for node in nodes)))),
            gpu_memory=max((node.gpu_memory for node in nodes if node.gpu_memory is not None), default=None),
        )


def find_machine(resource: str, folder: Path) -> MachineFile:
    """Return ``local``, a shipped machine by its name, or that of a ``.toml`` file, a path relative to ``folder``.

    Raises UsageError when there is no such machine, CampaignError with every fault of its file.
    """
    if resource == LOCAL:
        return detected(detect())
    files = shipped_machines()
    rest = "or the path of a .toml file"
    known = f"known machines: {listed([LOCAL, *files])}, {rest}"
    if "/" in resource or resource.endswith(".toml"):
        path = folder / resource
        if not path.is_file():
            raise UsageError(f"no machine file {path}; {known}")
        return read_machine(path)
    if resource not in files:
        beside = f"{resource}.toml"
        guess = f"; did you mean {beside!r}?" if (folder / beside).is_file() else suggest(resource, [LOCAL, *files])
        raise UsageError(f"unknown machine {resource!r}; {known}{guess}")
    return read_machine(files[resource])


def shipped_machines() -> dict[str, Path]:
    """Return the name and the file of every shipped machine, sorted by name."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def detected(detection: Detection) -> MachineFile:
    """Return a detected machine as a file would state it; its sources say how it was detected."""
    machine = detection.machine
    figures: dict[str, Any] = {"count": 1, "cores": len(machine.cores), "memory": machine.memory}
    sources = {"count": "this machine", "cores": detection.cores, "memory": detection.memory, "gpus": detection.gpus}
    figures["gpus"] = len(machine.gpus)
    if machine.gpu_memory is not None:
        figures["gpu_memory"] = machine.gpu_memory
        sources["gpu_memory"] = "nvidia-smi, the smallest"
    return MachineFile(
        name=machine.name,
        doc="this machine, detected",
        scheduler="local",
        nodes={LOCAL: Nodes(**figures)},
        sources={f"nodes.{LOCAL}.{figure}": source for figure, source in sources.items()},
    )


def read_machine(path: Path) -> MachineFile:
    """Return the machine of a file. Raises CampaignError with every fault."""
    document = read_document(path)
    return _Reader(document).read()


_M = TypeVar("_M", bound=Model)


class _Reader:
    """One reading of a machine file, collecting what is wrong."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._data = dict(document.data)
        self._faults = list(document.faults)

    def read(self) -> MachineFile:
        """Return the machine. Raises CampaignError with every fault."""
        if "sources" in self._data:
            self._data["sources"] = self._sources(self._data["sources"])
        machine: MachineFile | None = None
        try:
            machine = MachineFile.model_validate(self._data, context={"from_file": True})
        except ValidationError as error:
            for key, message in faults_of(error, MachineFile, self._data):
                self._fault(key, message)
        nodes, partitions = self._tables("nodes", Nodes), self._tables("partitions", Partition)
        self._check_scheduler(nodes)
        for name, table in nodes.items():
            if not table.gpus and (table.gpu_memory or table.gpu_model):
                self._fault(("nodes", name), f"nodes.{name}: a GPU is described, but gpus is 0; write how many")
        self._check_types()
        for name, partition in partitions.items():
            self._check_partition(name, partition, nodes)
        if self._faults or machine is None:
            raise CampaignError(in_order(self._faults))
        return machine

    def _fault(self, key: KeyPath, message: str) -> None:
        self._faults.append(Fault(self._document.where(key), message))

    def _tables(self, group: str, model: type[_M]) -> dict[str, _M]:
        """Return the tables of a group that can be read; what is wrong with the others has been told."""
        found = {}
        tables = self._data.get(group)
        for name, table in tables.items() if isinstance(tables, dict) else ():
            if not _NAME.fullmatch(name):
                rule = "use letters, digits, '-' and '_'; what sbatch calls it is partition or qos"
                self._fault((group, name), f"{shown(name)} cannot name a table of {group}; {rule}")
            try:
                found[name] = model.model_validate(table, context={"from_file": True})
            except ValidationError:
                continue
        return found

    def _check_scheduler(self, nodes: Mapping[str, Nodes]) -> None:
        scheduler = self._data.get("scheduler")
        if scheduler == "slurm" and not self._data.get("partitions"):
            self._fault(("scheduler",), 'scheduler "slurm" needs a partition: add a table such as [partitions.main]')
        if scheduler == "local" and "partitions" in self._data:
            self._fault(("partitions",), 'scheduler "local" has no partitions; remove them, or write "slurm"')
        if scheduler == "local" and sum(table.count for table in nodes.values()) > 1:
            self._fault(("nodes",), 'scheduler "local" runs on one node; write count = 1, or scheduler "slurm"')

    def _check_types(self) -> None:
        """Report every type of nodes that is not there, also in a partition with other faults."""
        known, partitions = self._data.get("nodes"), self._data.get("partitions")
        if not isinstance(known, dict) or not isinstance(partitions, dict):
            return
        for name, table in partitions.items():
            words = _as_tuple(table.get("nodes")) if isinstance(table, dict) else ()
            for word in words if isinstance(words, list | tuple) else ():
                if isinstance(word, str) and word not in known:
                    key = ("partitions", name, "nodes")
                    there = f"known types: {listed(known)}{suggest(word, known)}"
                    self._fault(key, f"{dotted(key)}: no [nodes.{word}]; {there}")

    def _check_partition(self, name: str, partition: Partition, nodes: Mapping[str, Nodes]) -> None:
        place: KeyPath = ("partitions", name)
        if set(partition.nodes) <= nodes.keys() and partition.max_nodes is not None:
            total = sum(nodes[word].count for word in dict.fromkeys(partition.nodes))
            if partition.max_nodes > total:
                problem = f"{partition.max_nodes} nodes of one job, but {' and '.join(partition.nodes)} has {total}"
                self._fault((*place, "max_nodes"), f"{dotted(place)}.max_nodes: {problem}")
        if partition.min_nodes and partition.max_nodes and partition.min_nodes > partition.max_nodes:
            problem = f"{partition.min_nodes} is more than max_nodes, {partition.max_nodes}"
            self._fault((*place, "min_nodes"), f"{dotted(place)}.min_nodes: {problem}")

    def _sources(self, table: Any) -> Any:
        """Return ``[sources]`` by dotted name, those that can be read."""
        if not isinstance(table, dict):
            return table
        known = {".".join(map(str, key)) for key, _ in _written((), self._stated())}
        found = {}
        for key, value in _leaves((), table):
            figure = ".".join(map(str, key))
            problem = f"{dotted(('sources', *key))}: "
            if not isinstance(value, str) or not value.strip():
                self._fault(
                    ("sources", *key), f'{problem}write a document and a date, or "assumed", got {shown(value)}'
                )
            elif figure not in known:
                self._fault(("sources", *key), f"{problem}this file states no {figure!r}{suggest(figure, known)}")
            else:
                found[figure] = value
        return found

    def _stated(self) -> dict[str, Any]:
        """Return what the file says of the machine itself."""
        return {key: value for key, value in self._data.items() if key != "sources"}


def _written(key: KeyPath, table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    """Yield every key and value of a table, and of the tables in it."""
    for name, value in table.items():
        yield (*key, name), value
        if isinstance(value, dict):
            yield from _written((*key, name), value)


def _leaves(key: KeyPath, table: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    """Yield every key and value that is no table itself."""
    return ((path, value) for path, value in _written(key, table) if not isinstance(value, dict))
