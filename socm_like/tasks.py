"""Campaign -> tasks: references resolved, workflows built and expanded, identities computed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from os.path import normpath
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from socm_like.campaign import Campaign, Entry
from socm_like.contract import RESULT
from socm_like.declared_kind import DeclaredWorkflow
from socm_like.document import KeyPath
from socm_like.errors import CampaignError, Fault, listed, suggest
from socm_like.faults import faults_of, in_order, shown
from socm_like.fields import NotIdentity
from socm_like.identity import FileDigests, digest, substitute
from socm_like.labels import labels_of
from socm_like.references import (
    OutputReference,
    Resolver,
    contract_problems,
    output_references,
    path_inputs,
    path_problem,
)
from socm_like.registry import RESERVED_KINDS
from socm_like.resources import Machine, Resources
from socm_like.workflow import EstimateContext, Workflow

_STRUCTURE = {"resources", "depends_on", "for_each", "environment"}
"""Fields that say where and when, not what; the environment counts, merged with the campaign's."""


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of execution, ready to be launched."""

    name: str
    workflow: str
    kind: str
    id: str
    """sha256 of what determines the result, 64 hex characters."""
    folder: str
    """Where its outputs go, relative to the store."""
    dependencies: tuple[str, ...]
    """Names of the tasks that must succeed first."""
    resources: Resources
    argv: tuple[str, ...] | None
    """The program, or None for a Python task."""
    environment: Mapping[str, str]
    outputs: Mapping[str, str]
    """Files that must exist at the end, relative to its folder."""
    metrics: str
    """A JSON file of metrics the program writes, or empty."""
    restartable: bool
    parameters: Mapping[str, Any]
    """The fields of the kind and the free parameters, as JSON; what tables show."""
    fields: Mapping[str, Any]
    """What a Python task is built from again, as JSON."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """The files its identity counts by content: absolute path -> sha256."""


@dataclass(frozen=True, slots=True)
class _Instance:
    """A task with what later workflows need to refer to it."""

    task: Task
    label: str
    bound: Mapping[str, _Instance]
    """Workflow -> the one task of it that ``for_each`` led here from."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """One workflow table, as it reads for one task of the workflow its ``for_each`` names."""

    entry: Entry
    label: str
    bound: Mapping[str, _Instance]
    inputs: set[Path] = field(default_factory=set)
    """The files it names, known once it is built."""


def resolve(campaign: Campaign, store: Path, machine: Machine, digests: FileDigests) -> tuple[Task, ...]:
    """Return the tasks of a campaign, each after the tasks it depends on; ``store`` is an absolute path.

    Raises CampaignError with every fault of the campaign.
    """
    return _Resolution(campaign, store, machine, digests).resolve()


@dataclass
class _Resolution:
    campaign: Campaign
    store: Path
    machine: Machine
    digests: FileDigests
    faults: list[Fault] = field(default_factory=list)
    instances: dict[str, list[_Instance]] = field(default_factory=dict)
    expected: dict[str, dict[str, str]] = field(default_factory=dict)
    """Workflow -> files of it that others refer to."""
    contents: dict[Path, str] = field(default_factory=dict)
    """Input file -> its content's digest; a file counts as it was when first met."""

    def __post_init__(self) -> None:
        self.context = EstimateContext(machine=self.machine)
        self.faults.extend(self.campaign.faults)
        self.around_store = {self.store, *self.store.parents}

    def resolve(self) -> tuple[Task, ...]:
        self._collect_expected()
        for name in _in_order(self.campaign.upstream):
            self.instances[name] = list(self._instances_of(self.campaign.entries[name]))
        tasks = tuple(instance.task for instances in self.instances.values() for instance in instances)
        self._check_folders(tasks)
        if self.faults:
            raise CampaignError(in_order(self.faults))
        return tasks

    def _fault(self, entry: Entry, key: KeyPath, message: str) -> None:
        where = self.campaign.document.where(entry.where(key))
        self.faults.append(Fault(where, f"campaign.{entry.name}: {message}"))

    def _collect_expected(self) -> None:
        """Note which files of each workflow others refer to: they are part of its contract."""
        for entry in self.campaign.entries.values():
            for key, reference in output_references(dict(entry.values)):
                if reference.problem or not reference.path:
                    continue
                for name in self.campaign.members(reference.workflow):
                    self._expect(entry, key, reference, name)

    def _expect(self, entry: Entry, key: KeyPath, reference: OutputReference, name: str) -> None:
        """Expect a file of a workflow that declares none; of one that does, only what it declares can be had."""
        source = self.campaign.entries[name]
        stated = source.values.get("outputs")
        defaults = _table_defaults(self.campaign.registry[source.kind])["outputs"]
        declared = {**defaults, **stated} if isinstance(stated, dict) else defaults
        declared = {output: path.rstrip("/") for output, path in declared.items() if isinstance(path, str)}
        metrics = source.values.get("metrics")
        files = {*declared.values(), RESULT, *([metrics] if isinstance(metrics, str) and metrics else [])}
        if reference.path in declared or reference.path in files:
            return
        if declared and not any(reference.path.startswith(f"{path}/") for path in declared.values()):
            allowed = {*declared, *files}
            there = f"it declares: {listed(allowed)}{suggest(reference.path, allowed)}"
            self._fault(entry, key, f"{reference}: {name} leaves no such file; {there}")
        self.expected.setdefault(name, {})[reference.path] = reference.path

    def _instances_of(self, entry: Entry) -> Iterator[_Instance]:
        source = entry.values.get("for_each")
        parents: Sequence[_Instance | None] = self.instances.get(source, []) if isinstance(source, str) else []
        labels: set[str] = set()
        for parent in parents or [None]:  # a source without tasks has faults; the table is read for its own
            bound = {} if parent is None else {**parent.bound, parent.task.workflow: parent}
            reading = _Reading(entry, "" if parent is None else parent.label, bound)
            workflow = self._build(reading)
            members = [] if workflow is None else self._expand(entry, workflow)
            for member, own_label in members:
                label = ",".join(part for part in (reading.label, own_label) if part)
                label = label if label not in labels else f"{label},{len(labels)}"
                labels.add(label)
                task = self._task(reading, member, label)
                if task is None:
                    return
                yield _Instance(task, label, bound)
            if not members:
                return

    def _build(self, reading: _Reading) -> Workflow | None:
        entry = reading.entry
        kind = self.campaign.registry[entry.kind]

        def outputs(reference: OutputReference) -> Sequence[str]:
            targets = [] if reference.problem else self._targets(reference.workflow, reading.bound)
            if not targets:  # there are faults, which are reported where they are
                return [f"/unresolved/{reference.workflow}/{reference.path}"]
            return [self._path(instance, reference.path) for instance in targets]

        resolver = Resolver(str(self.campaign.document.folder), outputs, reading.inputs)
        values = resolver.resolve(kind, entry.values)
        for name, default in _table_defaults(kind).items():
            if isinstance(values.get(name), dict):
                values[name] = {**default, **values[name]}
        for key, problem in (*resolver.problems, *contract_problems(values)):
            self._fault(entry, key, f"{'.'.join(map(str, key))}: {problem}")
        try:
            workflow = kind.model_validate(values, context={"from_file": True})
        except ValidationError as error:
            for key, message in faults_of(error, kind, values):
                self._fault(entry, key, message)
            return None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in may raise anything; it is a fault
            self._fault(entry, (), f"{entry.kind} cannot be built: {_blame(error)}")
            return None
        return workflow

    def _expand(self, entry: Entry, workflow: Workflow) -> list[tuple[Workflow, str]]:
        """Return the workflows that one stands for, each with its label."""
        try:
            members = list(workflow.expand())
            if not members:
                raise ValueError("there is no task in it")
            for member in members:
                if type(member) is not type(workflow):
                    self._check_kind(member)
            return list(zip(members, labels_of(members), strict=True))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in may raise anything; it is a fault
            self._fault(entry, (), f"{entry.kind} cannot be expanded: {_blame(error)}")
            return []

    def _check_kind(self, member: Any) -> None:
        registry = self.campaign.registry
        if not isinstance(member, Workflow) or member.kind not in registry or registry[member.kind] is not type(member):
            found = f"a {type(member).__name__}" if isinstance(member, Workflow) else shown(member)
            raise ValueError(f"{found} is no workflow of a registered kind")

    def _targets(self, name: str, bound: Mapping[str, _Instance]) -> list[_Instance]:
        """Return the tasks a name stands for: the bound one of a ``for_each`` ancestor, else all."""
        found: list[_Instance] = []
        for member in self.campaign.members(name):
            found.extend([bound[member]] if member in bound else self.instances.get(member, []))
        return found

    def _path(self, instance: _Instance, path: str) -> str:
        folder = f"{self.store}/{instance.task.folder}"
        return f"{folder}/{normpath(instance.task.outputs.get(path, path))}" if path else folder

    def _task(self, reading: _Reading, workflow: Workflow, label: str) -> Task | None:
        entry, kind = reading.entry, type(workflow)
        name = f"{entry.name}[{label}]" if label else entry.name
        found = {
            instance.task.name: instance.task
            for upstream in self.campaign.upstream[entry.name]
            for instance in self._targets(upstream, reading.bound)
        }  # a dict keeps the order and drops repetitions
        step = "estimate"
        try:
            resources = workflow.estimate(self.context).patched(workflow.resources)
            for reason in self.machine.refusals(resources):
                self._fault(entry, ("resources",), f"{name} can never run: it {reason}")
            step = "get_command"
            argv = None if kind.runs_python() else workflow.argv(name, resources)
            step = "identity"
            fields = workflow.model_dump(mode="json", exclude=_STRUCTURE)
            inputs = self._inputs(workflow, reading.inputs)
            identity = self._identity(workflow, fields, inputs, found.values())
            step = "folder"
            folder = workflow.folder(identity)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plug-in may raise anything; it is a fault
            place: KeyPath = ("command",) if step == "get_command" and "command" in entry.values else ()
            is_told = isinstance(error, ValueError) or (isinstance(error, OSError) and error.filename)
            self._fault(entry, place, _blame(error) if is_told else f"{entry.kind}.{step}: {_blame(error)}")
            return None
        task = Task(
            name=name,
            workflow=entry.name,
            kind=entry.kind if kind is self.campaign.registry[entry.kind] else kind.kind,
            id=identity,
            folder=folder,
            dependencies=tuple(found),
            resources=resources,
            argv=argv,
            environment={**self.campaign.environment, **workflow.environment},
            outputs={**self.expected.get(entry.name, {}), **workflow.outputs},
            metrics=workflow.metrics,
            restartable=workflow.restartable,
            parameters={**{key: fields[key] for key in _own_field_names(kind)}, **workflow.parameters},
            fields=fields,
            inputs=inputs,
        )
        problems = list(_problems(workflow, task))
        for key, problem in problems:
            self._fault(entry, key, problem)
        return None if problems else task

    def _inputs(self, workflow: Workflow, named: Iterable[Path]) -> dict[str, str]:
        """Return the sha256 of every file whose content determines the result."""
        files = {*named, *path_inputs(workflow, str(self.store)), *workflow.files}
        return {str(path): self._digest(path) for path in sorted(files)}

    def _identity(
        self, workflow: Workflow, fields: Mapping[str, Any], inputs: Mapping[str, str], upstream: Collection[Task]
    ) -> str:
        """Return the digest of what determines the result; where things lie is replaced by what they are."""
        tokens = {f"{self.store}/{task.folder}": f"output:{task.id}" for task in upstream}
        tokens.update({path: f"sha256:{found}" for path, found in inputs.items()})
        irrelevant = _irrelevant(type(workflow))
        content: dict[str, Any] = {
            "fields": {
                name: value
                for name, value in fields.items()
                if name not in irrelevant and (value or name not in Workflow.model_fields)
            },  # without what every workflow has and this one leaves empty: there may be more of it one day
            "environment": {**self.campaign.environment, **workflow.environment},
        }
        if isinstance(workflow, DeclaredWorkflow):
            content["command"] = workflow.command_template
        return digest(
            {
                **(substitute(content, tokens) if tokens else content),
                "kind": workflow.kind,
                "version": workflow.version,
                "inputs": sorted(task.id for task in upstream),
                "files": sorted(inputs.values()),  # so that a path missed in a field costs a run, not a stale result
            }
        )

    def _digest(self, path: Path) -> str:
        if path in self.around_store:
            raise ValueError(f"the input {path} holds the store {self.store}, which changes with every run")
        if path not in self.contents:
            self.contents[path] = self.digests.of(path)
        return self.contents[path]

    def _check_folders(self, tasks: Iterable[Task]) -> None:
        """Report tasks that would write into one folder though they compute different things."""
        holders: dict[str, Task] = {}
        for task in tasks:
            other = holders.setdefault(task.folder, task)
            if other.id != task.id:
                problem = f"{task.name} and {other.name} have the folder {task.folder}; make the identity part of it"
                self._fault(self.campaign.entries[task.workflow], (), problem)


def _problems(workflow: Workflow, task: Task) -> Iterator[tuple[KeyPath, str]]:
    """Yield what is wrong with what a class makes of its fields: the key it belongs to, and the problem."""
    contract = {"environment": workflow.environment, "outputs": workflow.outputs, "metrics": workflow.metrics}
    for key, problem in contract_problems(contract):
        yield key, f"{'.'.join(map(str, key))}: {problem}"
    for word in task.argv or ():
        if not isinstance(word, str) or "\0" in word:
            yield (), f"a command is words of text without NUL, got {shown(word)}"
    if not isinstance(task.folder, str) or path_problem(task.folder, "folder") or task.folder.startswith("."):
        yield (), f"{task.kind}.folder returned {shown(task.folder)}, which is no folder inside the store"
    elif task.folder.split("/")[0] in RESERVED_KINDS:
        yield (), f"{task.kind}.folder returned {shown(task.folder)}, which belongs to runs"


def _blame(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"cannot read {error.filename}: {error.strerror}"
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


@cache
def _table_defaults(kind: type[Workflow]) -> Mapping[str, Mapping[str, str]]:
    """Return what a kind has in the tables that a campaign adds to, rather than replaces."""
    fields = ((name, kind.model_fields[name]) for name in ("environment", "outputs", "parameters"))
    return {name: field.get_default(call_default_factory=True, validated_data={}) for name, field in fields}


@cache
def _own_field_names(workflow: type[Workflow]) -> tuple[str, ...]:
    return workflow.own_field_names()


@cache
def _irrelevant(workflow: type[Workflow]) -> frozenset[str]:
    """Return the fields of a class that are marked as not changing the result."""
    return frozenset(
        name
        for name, field in workflow.model_fields.items()
        if any(isinstance(marker, NotIdentity) for marker in field.metadata)
    )


def _in_order(upstream: Mapping[str, Sequence[str]]) -> list[str]:
    """Return workflow names, each after those it waits for, else in the order of the file."""
    ordered: dict[str, None] = {}
    for root in upstream:
        stack = [(root, iter(upstream[root]))]
        while stack:
            name, following = stack[-1]
            waiting = next((other for other in following if other not in ordered), None)
            if waiting is None:
                ordered[name] = None
                stack.pop()
            else:
                stack.append((waiting, iter(upstream[waiting])))
    return list(ordered)
