"""Campaign -> tasks: sweeps and ``for_each`` unfolded, references resolved, workflows built and expanded. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from socm_like.campaign import Campaign
from socm_like.contract import RESULT
from socm_like.document import KeyPath
from socm_like.entry import Entry
from socm_like.errors import CampaignError, Fault, listed, suggest
from socm_like.faults import in_order
from socm_like.identity import FileDigests
from socm_like.pairing import Instance
from socm_like.recipe import TaskMaker
from socm_like.references import OutputReference, output_references
from socm_like.resources import Machine
from socm_like.shared_sweeps import NO_GROUPS
from socm_like.sizing import Predict, nothing_known
from socm_like.sweeps import Sweeps
from socm_like.task import Task
from socm_like.unfold import Known, Table, TableError, table_defaults
from socm_like.variations import Variations


@dataclass(frozen=True, slots=True)
class Resolved:
    """The tasks of a campaign."""

    tasks: tuple[Task, ...]
    """Each after the tasks it depends on."""
    notes: tuple[str, ...]
    """What one should know of its sweeps: what was taken out, and why."""


def resolve(
    campaign: Campaign, store: Path, machine: Machine, digests: FileDigests, predict: Predict = nothing_known
) -> Resolved:
    """Return the tasks of a campaign; ``store`` is an absolute path, ``predict`` says what a task will need.

    Raises CampaignError with every fault of the campaign.
    """
    return _Resolution(campaign, store, machine, digests, predict).resolve()


@dataclass
class _Resolution:
    campaign: Campaign
    store: Path
    machine: Machine
    digests: FileDigests
    predict: Predict
    faults: list[Fault] = field(default_factory=list)
    contents: dict[Path, str] = field(default_factory=dict)
    """Input file -> its content's digest; a file counts as it was when first met."""

    def __post_init__(self) -> None:
        campaign = self.campaign
        self.faults.extend(campaign.faults)
        self.around_store = {self.store, *self.store.parents}
        self.sweeps = Sweeps(campaign)
        maker = TaskMaker(campaign.registry, str(self.store), self.machine, self._digest, self.predict)
        self.known = Known(campaign, maker)

    def resolve(self) -> Resolved:
        self._collect_expected()
        for name in _in_order(self.campaign.upstream):
            variations = self.sweeps.of(name)
            if variations is None:
                self._check(name)
            found = () if variations is None or name in self.campaign.driven else self._unfold(name, variations)
            self.known.add(name, list(found))
        self.sweeps.check_groups()
        for key, message in self.sweeps.problems:
            self.faults.append(Fault(self.campaign.document.where(key), message))
        tasks = self.known.tasks
        self._check_folders(tasks)
        if self.faults:
            raise CampaignError(in_order(self.faults))
        return Resolved(tasks, tuple(self.sweeps.notes()))

    def _fault(self, key: KeyPath, name: str, message: str) -> None:
        self.faults.append(Fault(self.campaign.document.where(key), f"campaign.{name}: {message}"))

    def _unfold(self, name: str, variations: Variations) -> Iterator[Instance]:
        """Yield the tasks of one workflow; at the first one that is wrong, its faults are noted, and that is all."""
        try:
            yield from Table(self.known, self.campaign.entries[name], variations).unfold()
        except TableError as error:
            for key, of, message in error.problems:
                self._fault(key, of, message)

    def _check(self, name: str) -> None:
        """Note what is wrong with a table besides its sweeps."""
        entry = self.campaign.entries[name]
        variations = Variations(entry, self.campaign.registry[entry.kind], NO_GROUPS)
        try:
            Table(self.known, entry, variations).check()
        except TableError as error:
            for key, of, message in error.problems:
                self._fault(key, of, message)

    def _collect_expected(self) -> None:
        """Note which files of each workflow others refer to: they are part of its contract."""
        for entry in self.campaign.entries.values():
            for key, reference in output_references(dict(entry.texts)):
                if reference.problem or not reference.path:
                    continue
                for name in self.campaign.members(reference.workflow):
                    self._expect(entry, key, reference, name)

    def _expect(self, entry: Entry, key: KeyPath, reference: OutputReference, name: str) -> None:
        """Expect a file of a workflow that declares none; of one that does, only what it declares can be had."""
        source = self.campaign.entries[name]
        stated = source.values.get("outputs")
        defaults = table_defaults(self.campaign.registry[source.kind])["outputs"]
        declared = {**defaults, **stated} if isinstance(stated, dict) else defaults
        declared = {output: path.rstrip("/") for output, path in declared.items() if isinstance(path, str)}
        metrics = source.values.get("metrics")
        files = {*declared.values(), RESULT, *([metrics] if isinstance(metrics, str) and metrics else [])}
        if reference.path in declared or reference.path in files:
            return
        if declared and not any(reference.path.startswith(f"{path}/") for path in declared.values()):
            allowed = {*declared, *files}
            there = f"it declares: {listed(allowed)}{suggest(reference.path, allowed)}"
            self._fault(entry.where(key), entry.name, f"{reference}: {name} leaves no such file; {there}")
        self.known.expected.setdefault(name, {})[reference.path] = reference.path

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
                self._fault(self.campaign.entries[task.workflow].where(()), task.workflow, problem)


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
