"""Campaign -> tasks: references resolved, workflows built and expanded, identities computed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from socm_like.campaign import Campaign, Entry
from socm_like.document import KeyPath
from socm_like.errors import CampaignError, Fault, listed, suggest
from socm_like.faults import faults_of
from socm_like.fields import NotIdentity
from socm_like.identity import FileDigests, digest, substitute
from socm_like.references import OutputReference, Resolver, output_references
from socm_like.resources import Machine, Resources
from socm_like.workflow import EstimateContext, Workflow

RESULT = "result.json"

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


@dataclass(frozen=True, slots=True)
class _Instance:
    """A task with what later workflows need to refer to it."""

    task: Task
    label: str
    bound: Mapping[str, _Instance]
    """Workflow -> the one task of it that ``for_each`` led here from."""
    origin: Workflow


def resolve(campaign: Campaign, store: Path, machine: Machine, digests: FileDigests) -> tuple[Task, ...]:
    """Return the tasks of a campaign, each after the tasks it depends on.

    Raises CampaignError with every fault that only the built workflows show.
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

    def __post_init__(self) -> None:
        self.folder = str(self.campaign.document.path.resolve().parent)
        self.context = EstimateContext(machine=self.machine)
        self.faults.extend(self.campaign.faults)

    def resolve(self) -> tuple[Task, ...]:
        self._collect_expected()
        for name in _in_order(self.campaign.upstream):
            entry = self.campaign.entries[name]
            self.instances[name] = list(self._instances_of(entry))
        if self.faults:
            raise CampaignError(sorted(dict.fromkeys(self.faults), key=_place))
        return tuple(instance.task for instances in self.instances.values() for instance in instances)

    def _fault(self, entry: Entry, key: KeyPath, message: str) -> None:
        where = self.campaign.document.where(entry.where(key))
        self.faults.append(Fault(where, f"campaign.{entry.name}: {message}"))

    def _collect_expected(self) -> None:
        """Note which files of each workflow others refer to: they are part of its contract."""
        from_entries = (
            (entry, *item) for entry in self.campaign.entries.values() for item in output_references(entry.values)
        )
        for entry, key, reference in from_entries:
            for name in self.campaign.members(reference.workflow):
                if not reference.path or reference.path == RESULT:
                    continue
                problem = self._wrong_path(name, reference)
                if problem:
                    self._fault(entry, key, problem)
                declared = self._declared(name)
                if reference.path not in declared:
                    self.expected.setdefault(name, {})[reference.path] = reference.path

    def _declared(self, name: str) -> Mapping[str, str]:
        """Return the outputs a workflow declares, from its table or else from its kind."""
        entry = self.campaign.entries[name]
        stated = entry.values.get("outputs")
        field = self.campaign.registry[entry.kind].model_fields["outputs"]
        default: Mapping[str, str] = field.get_default(call_default_factory=True, validated_data={})
        return stated if isinstance(stated, dict) else default

    def _wrong_path(self, name: str, reference: OutputReference) -> str:
        declared = self._declared(name)
        allowed = {*declared, *declared.values(), RESULT}
        if not declared or reference.path in allowed:
            return ""
        there = f"it declares: {listed(allowed)}{suggest(reference.path, allowed)}"
        return f"output://{reference.workflow}/{reference.path}: {name} leaves no such file; {there}"

    def _instances_of(self, entry: Entry) -> Iterator[_Instance]:
        source = entry.values.get("for_each")
        parents = self.instances.get(source, []) if isinstance(source, str) and source else [None]
        for parent in parents:
            bound = {} if parent is None else {**parent.bound, parent.task.workflow: parent}
            built = self._build(entry, bound)
            if built is None:
                return
            workflow, inputs = built
            try:
                members = list(workflow.expand())
            except Exception as error:  # noqa: BLE001 - a plug-in may raise anything; it becomes a fault of its table
                self._fault(entry, (), f"{entry.kind} cannot be expanded: {type(error).__name__}: {error}")
                return
            if not members:
                self._fault(entry, (), f"{entry.kind} expands to no task")
            labels = _labels(members)
            for member, own_label in zip(members, labels, strict=True):
                label = ",".join(part for part in (parent.label if parent else "", own_label) if part)
                task = self._task(entry, member, label, bound, inputs)
                if task is None:
                    return
                yield _Instance(task, label, bound, member)

    def _build(self, entry: Entry, bound: Mapping[str, _Instance]) -> tuple[Workflow, set[Path]] | None:
        kind = self.campaign.registry[entry.kind]

        def outputs(reference: OutputReference) -> Sequence[str]:
            targets = self._targets(reference.workflow, bound)
            if not targets:  # it has faults of its own, which are reported there
                return [f"/unresolved/{reference.workflow}/{reference.path}"]
            return [self._path(instance, reference.path) for instance in targets]

        resolver = Resolver(self.folder, outputs)
        values = resolver.resolve(kind, entry.values)
        for key, problem in resolver.problems:
            self._fault(entry, key, f"{'.'.join(map(str, key))}: {problem}")
        try:
            workflow = kind.model_validate(values, context={"from_file": True})
        except ValidationError as error:
            for key, message in faults_of(error, kind):
                self._fault(entry, key, message)
            return None
        return workflow, resolver.inputs

    def _targets(self, name: str, bound: Mapping[str, _Instance]) -> list[_Instance]:
        """Return the tasks a name stands for: the bound one of a ``for_each`` ancestor, else all."""
        if name in bound:
            return [bound[name]]
        return [instance for member in self.campaign.members(name) for instance in self.instances.get(member, [])]

    def _path(self, instance: _Instance, path: str) -> str:
        folder = self.store / instance.task.folder
        return str(folder / instance.task.outputs.get(path, path)) if path else str(folder)

    def _dependencies(self, entry: Entry, bound: Mapping[str, _Instance]) -> list[_Instance]:
        names = dict.fromkeys(self.campaign.upstream[entry.name])
        found = {
            instance.task.name: instance for name in names for instance in self._targets(name, bound)
        }  # a dict keeps the order and drops repetitions
        return list(found.values())

    def _task(
        self, entry: Entry, workflow: Workflow, label: str, bound: Mapping[str, _Instance], inputs: set[Path]
    ) -> Task | None:
        name = f"{entry.name}[{label}]" if label else entry.name
        dependencies = self._dependencies(entry, bound)
        environment = {**self.campaign.environment, **workflow.environment}
        try:
            resources = workflow.estimate(self.context).patched(workflow.resources)
            argv = None if workflow.runs_python() else workflow.argv(name, resources)
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything; it becomes a fault of its table
            found = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            self._fault(entry, (), found)
            return None
        for reason in self.machine.refusals(resources):
            self._fault(entry, ("resources",), f"{name} can never run: it {reason}")
        fields = workflow.model_dump(mode="json", exclude=_STRUCTURE)
        identity = self._identity(workflow, fields, dependencies, inputs, environment)
        own = _own_field_names(type(workflow))
        return Task(
            name=name,
            workflow=entry.name,
            kind=entry.kind,
            id=identity,
            folder=workflow.folder(identity),
            dependencies=tuple(instance.task.name for instance in dependencies),
            resources=resources,
            argv=argv,
            environment=environment,
            outputs={**self.expected.get(entry.name, {}), **workflow.outputs},
            metrics=workflow.metrics,
            restartable=workflow.restartable,
            parameters={**{key: fields[key] for key in own}, **workflow.parameters},
            fields=fields,
        )

    def _identity(
        self,
        workflow: Workflow,
        fields: Mapping[str, Any],
        dependencies: Sequence[_Instance],
        inputs: set[Path],
        environment: Mapping[str, str],
    ) -> str:
        tokens = {str(self.store / instance.task.folder): f"output:{instance.task.id}" for instance in dependencies}
        tokens.update({str(path): f"sha256:{self.digests.of(path)}" for path in inputs if path.exists()})
        irrelevant = _irrelevant(type(workflow))
        content = {
            "fields": {name: value for name, value in fields.items() if name not in irrelevant},
            "environment": environment,
        }
        return digest(
            {
                **(substitute(content, tokens) if tokens else content),
                "kind": workflow.kind,
                "version": workflow.version,
                "inputs": sorted(instance.task.id for instance in dependencies),
                "files": sorted(self.digests.of(path) for path in workflow.files),
            }
        )


def _place(fault: Fault) -> tuple[str, int]:
    """Return file and line of a fault, to sort by."""
    file, _, line = fault.where.rpartition(":")
    return (file, int(line)) if line.isdigit() else (fault.where, 0)


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


def _labels(members: Sequence[Workflow]) -> list[str]:
    """Return a short distinct label for each workflow of an expansion, made of the fields that differ."""
    if len(members) == 1:
        return [""]
    dumps = [member.own_fields() for member in members]
    keys = [key for key in dumps[0] if any(dump.get(key) != dumps[0][key] for dump in dumps)]
    labels = [",".join(f"{key}={_short(dump.get(key))}" for key in keys) for dump in dumps]
    if len(set(labels)) == len(labels) and all(len(label) <= 100 for label in labels):
        return labels
    return [str(index) for index in range(len(members))]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
