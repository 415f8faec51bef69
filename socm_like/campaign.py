"""campaign.toml -> Campaign: settings, and one entry per workflow table, checked as far as text goes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from socm_like.document import Document, KeyPath, dotted, read_document
from socm_like.edges import find_edges
from socm_like.entry import Entry, Origins, SweepTable
from socm_like.errors import CampaignError, Fault, PluginError, UsageError, listed, suggest
from socm_like.faults import faults_of, in_order, shown
from socm_like.fields import Model
from socm_like.machine_file import LOCAL, MachineFile, find_machine
from socm_like.policy import Policy
from socm_like.references import FILE, OUTPUT, environment_problem, split_commands
from socm_like.registry import Registry
from socm_like.settings import Execution, Settings
from socm_like.window import WindowTable
from socm_like.workflow import Workflow

MERGED = ("resources", "environment", "parameters", "outputs")
"""Sub-tables that a group and its members may both have: the keys of both count."""
RESERVED = (*MERGED, "sweep")
"""Sub-tables every workflow may have; any other sub-table that is no field makes its parent a group."""

_ELSEWHERE = {
    "environment": "variables for all tasks go to [environment]",
    "execution_schema": "the executor is [execution] executor",
    "requested_resources": "the cap is [execution] cores",
    "policy": "priorities follow the critical path",
    "resources": "the cap is [execution] cores and memory",
}
"""Keys of SOCM campaigns, and others that one would look for here, and what took their place."""


@dataclass(frozen=True)
class Campaign:
    """One campaign file, loaded; its workflows are not yet built because they may need each other's outputs."""

    document: Document
    settings: Settings
    execution: Execution
    environment: Mapping[str, str]
    plugins: tuple[Path, ...]
    registry: Registry
    entries: Mapping[str, Entry]
    groups: Mapping[str, tuple[str, ...]]
    upstream: Mapping[str, tuple[str, ...]]
    """Workflow -> the workflows it waits for, in the order of the file; without cycles."""
    driven: Mapping[str, str]
    """Workflow without tasks of its own -> the search that makes tasks of it."""
    machine: MachineFile | None
    """Where it is to run; None for this machine."""
    window: WindowTable | None
    """When tasks run by preference."""
    policy: Policy
    """Which tasks come first, how many at once, what all may cost."""
    faults: tuple[Fault, ...]
    """What is wrong so far; building the tasks adds what only the built workflows show, and raises all."""

    @property
    def name(self) -> str:
        """The campaign's name: the setting, else the name of the folder the file is in if that can name a run."""
        folder = self.document.folder.name
        return self.settings.name or (folder if _can_name_folder(folder) else "campaign")

    def members(self, name: str) -> tuple[str, ...]:
        """Return the workflows a name stands for: itself, the members of a group, nothing for a wrong name."""
        return (name,) if name in self.entries else self.groups.get(name, ())


def load_campaign(path: Path, settings: Sequence[str] = ()) -> Campaign:
    """Return the campaign of a file with ``--set`` settings applied; reads, never writes.

    Raises CampaignError when the file is no campaign at all; other faults wait in ``Campaign.faults``, so that
    :func:`socm_like.tasks.resolve` can report all at once.
    """
    return _Loader(read_document(path, settings)).load()


_M = TypeVar("_M", bound=Model)


@dataclass
class _Loader:
    document: Document
    faults: list[Fault] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unbuilt: dict[str, Entry] = field(default_factory=dict)
    """Tables whose kind is not known, which has been reported: what names them, or what is in them, is not wrong."""
    registry: Registry = field(default_factory=Registry)
    has_all_kinds: bool = True
    """False when a plug-in could not be read: nobody knows which kinds are in it."""
    fields: dict[str, set[str] | None] = field(default_factory=dict)
    """Kind -> its keys, or None where its class cannot be imported."""
    unloadable: dict[str, str] = field(default_factory=dict)
    """Kind -> why its class cannot be imported, until that is reported."""

    def load(self) -> Campaign:
        data = self.document.data
        self.faults.extend(self.document.faults)
        allowed = ("campaign", "execution", "environment", "kind", "schedule")
        for key in data:
            if key not in allowed:
                self._fault((key,), f"unknown table {key!r}; allowed: {listed(allowed)}{suggest(key, allowed)}")
        table = data.get("campaign")
        if not isinstance(table, dict):
            found = "" if table is None else f", got {shown(table)}"
            self._fault(("campaign",), f"a campaign file needs a [campaign] table{found}; see: campaign init")
        settings, tables = self._settings(table if isinstance(table, dict) else {})
        plugins = tuple(self.document.folder / plugin for plugin in settings.plugins if "\0" not in plugin)
        self._load_kinds(settings)
        for name, value in tables.items():
            self._walk((name,), value, {}, {})
        machine = self._machine(settings.resource)
        edges = find_edges(self.entries, self.unbuilt, self.groups, self.registry)
        for place, message in edges.problems:
            self._fault(place, message)
        execution = self._model(Execution, ("execution",), data.get("execution", {}))
        environment = self._environment(data.get("environment", {}))
        window, policy = self._schedule(data["schedule"]) if "schedule" in data else (None, Policy())
        if not isinstance(table, dict):
            raise CampaignError(in_order(self.faults))
        if not tables:
            self._fault(("campaign",), "no workflow: add a table such as [campaign.first] with a kind")
        return Campaign(
            self.document, settings, execution, environment, plugins,
            self.registry, self.entries, self.groups, edges.upstream, edges.driven,
            machine, window, policy, tuple(self.faults),
        )  # fmt: skip

    def _fault(self, key: KeyPath, message: str) -> None:
        self.faults.append(Fault(self.document.where(key), message))

    def _model(self, model: type[_M], base: KeyPath, values: Any) -> _M:
        try:
            return model.model_validate(values, context={"from_file": True})
        except ValidationError as error:
            wrong = list(faults_of(error, model, values))
            for key, message in wrong:
                self._fault((*base, *key), f"{'.'.join(map(str, base))}: {message}")
            if not isinstance(values, dict):
                return model()
            names = {key[0] for key, _ in wrong}
            return self._model(model, base, {key: value for key, value in values.items() if key not in names})

    def _settings(self, table: Mapping[str, Any]) -> tuple[Settings, dict[str, dict[str, Any]]]:
        """Return the settings, and the tables that hold workflows."""
        scalars, tables = {}, {}
        for key, value in table.items():
            is_table = isinstance(value, dict)
            if key in _ELSEWHERE and not (is_table and "kind" in value):
                self._fault(("campaign", key), f"campaign: {key!r} is not used here; {_ELSEWHERE[key]}")
            elif is_table:
                tables[key] = value
            elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
                self._fault(("campaign", key), f"campaign: write [campaign.{key}], not [[campaign.{key}]]")
                self.unbuilt[key] = Entry(key, "", {}, ("campaign", key), {})
            else:
                scalars[key] = value
        settings = self._model(Settings, ("campaign",), scalars)
        if "name" in settings.model_fields_set and not _can_name_folder(settings.name):
            rule = "use printable text without '/', 200 bytes at most, and no '.' or '-' first"
            self._fault(("campaign", "name"), f"{shown(settings.name)} cannot name a folder; {rule}")
        return settings, tables

    def _machine(self, resource: str) -> MachineFile | None:
        if resource == LOCAL:
            return None
        try:
            return find_machine(resource, self.document.folder)
        except UsageError as error:
            self._fault(("campaign", "resource"), f"campaign: resource: {error}")
        except CampaignError as error:
            self.faults.extend(error.faults)
        return None

    def _schedule(self, table: Any) -> tuple[WindowTable | None, Policy]:
        """Return the two halves of ``[schedule]``; without a key about hours there is no window."""
        if not isinstance(table, dict):
            return self._model(WindowTable, ("schedule",), table), Policy()
        allowed = WindowTable.model_fields | Policy.model_fields
        for key in table.keys() - allowed:
            there = f"allowed: {listed(allowed)}{suggest(key, allowed)}"
            self._fault(("schedule", key), f"schedule: unknown key {key!r}; {there}")
        policy = self._model(Policy, ("schedule",), {key: table[key] for key in table if key in Policy.model_fields})
        known = {*self.entries, *self.groups}
        for what in ("priorities", "concurrency"):
            for name in getattr(policy, what).keys() - known - self.unbuilt.keys():
                problem = f"no workflow or group {name!r}; there are: {listed(known)}{suggest(name, known)}"
                self._fault(("schedule", what, name), f"schedule: {what}: {problem}")
        hours = {key: table[key] for key in table if key in WindowTable.model_fields}
        return self._model(WindowTable, ("schedule",), hours) if hours or not table else None, policy

    def _environment(self, values: Any) -> Mapping[str, str]:
        if not isinstance(values, dict):
            self._fault(("environment",), f'environment: write a table of NAME = "text", got {shown(values)}')
            return {}
        for name, value in values.items():
            problem = environment_problem(name, value)
            if isinstance(value, str) and (OUTPUT in value or FILE in value):
                problem = f"{value!r} stands for a file of one workflow; write it in [campaign.x.environment]"
            if problem:
                self._fault(("environment", name), f"environment.{name}: {problem}")
        return values

    def _load_kinds(self, settings: Settings) -> None:
        for problem in self.registry.add_installed():
            self._fault(("campaign",), problem)
        for index, plugin in enumerate(settings.plugins):
            faulty = len(self.registry.faulty)
            try:
                problems = self.registry.add_plugin(self.document.path.parent / plugin)
            except CampaignError as error:
                self.faults.extend(error.faults)
                self.has_all_kinds &= len(self.registry.faulty) > faulty
            else:
                self.has_all_kinds &= not problems
                for problem in problems:
                    self._fault(("campaign", "plugins", index), problem)
        try:
            self.registry.declare(self.document)
        except CampaignError as error:
            self.faults.extend(error.faults)

    def _walk(
        self, names: tuple[str, ...], table: Mapping[str, Any], shared: Mapping[str, Any], origins: Origins
    ) -> tuple[str, ...]:
        """Add the workflows of one table; return their names."""
        key, name = ("campaign", *names), ".".join(names)
        if problem := _name_problem(names[-1]):
            self._fault(key, problem)
        if name in self.entries or name in self.groups or name in self.unbuilt:
            self._fault(key, f"two tables are named {name!r}, in quotes and nested; rename one of them")
            return ()
        kind = table.get("kind", shared.get("kind", name))
        fields = self._fields(kind)
        own, children = self._sort_keys(table, fields or set(), key, name)
        merged, origins = self._inherit(shared, own, origins, key)
        sweeps = merged.get("sweep", ())
        values = {name: value for name, value in merged.items() if name != "sweep"}
        if fields is None and ("kind" in merged or not children):
            self.unbuilt[name] = Entry(name, "", values, key, origins, sweeps)
            self._report_kind(kind, self.unbuilt[name])
            children = {child: value for child, value in children.items() if "kind" in value}
        elif not children:
            self._add(Entry(name, kind, values, key, origins, sweeps))
            return (name,)
        members = [self._walk((*names, child), value, merged, origins) for child, value in children.items()]
        if name not in self.unbuilt:
            self.groups[name] = tuple(member for group in members for member in group)
        return self.groups.get(name, ())

    def _fields(self, kind: Any) -> set[str] | None:
        """Return the keys of a kind, or None where there is no such kind or its class cannot be imported."""
        if not isinstance(kind, str) or kind not in self.registry:
            return None
        if kind not in self.fields:
            try:
                self.fields[kind] = {*self.registry[kind].model_fields, "kind", "depends"}
            except PluginError as error:
                self.fields[kind] = None
                self.unloadable[kind] = str(error)
        return self.fields[kind]

    def _sort_keys(
        self, table: Mapping[str, Any], fields: set[str], key: KeyPath, name: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a table's own keys, and its sub-tables that hold workflows; a slip of the pen is neither."""
        own, children = {}, {}
        allowed = {*RESERVED, *(fields - {*Workflow.model_fields, "kind", "depends"})}
        for child, value in table.items():
            is_kind = f"{name}.{child}" in self.registry
            if not isinstance(value, dict) or child in RESERVED or child in fields or (child == "kind" and not is_kind):
                own[child] = value
                continue
            is_workflow = is_kind or "kind" in value or fields & value.keys()
            if is_workflow or any(isinstance(inner, dict) for inner in value.values()) or not _is_slip(child, allowed):
                children[child] = value
                continue
            there = f"allowed: {listed(allowed)}{suggest(child, allowed)}"
            self._fault((*key, child), f"campaign.{name}: unknown table {child!r}; {there}")
        return own, children

    def _inherit(
        self, shared: Mapping[str, Any], own: dict[str, Any], origins: Origins, key: KeyPath
    ) -> tuple[dict[str, Any], Origins]:
        """Return the group's keys with the table's own over them, and where each was written."""
        places: dict[KeyPath, KeyPath] = {(name,): (*key, name) for name in own}
        if "depends" in own:
            if "depends_on" in own:
                self._fault((*key, "depends"), f"{dotted(key)}: depends is short for depends_on; write one of them")
            own["depends_on"] = own.pop("depends")
            places["depends_on",] = (*key, "depends")
        merged = {**shared, **own}
        if "sweep" in own:
            merged["sweep"] = (*shared.get("sweep", ()), *self._sweep(own["sweep"], (*key, "sweep")))
        for name in MERGED:
            if isinstance(own.get(name), dict):
                places.update({(name, inner): (*key, name, inner) for inner in own[name]})
                if isinstance(shared.get(name), dict):
                    merged[name] = {**shared[name], **own[name]}
        return merged, {**origins, **places}

    def _sweep(self, table: Any, key: KeyPath) -> tuple[SweepTable, ...]:
        if isinstance(table, dict):
            return (SweepTable(dotted(key[1:-1]), table, key),)
        self._fault(key, f"{dotted(key)}: write a table of parameters and their values, got {shown(table)}")
        return (SweepTable(dotted(key[1:-1]), None, key),)

    def _add(self, entry: Entry) -> None:
        """Add a workflow, its command lines split into words."""
        values, problems = split_commands(self.registry[entry.kind], entry.values)
        for name, problem in problems.items():
            self._fault(entry.where((name,)), f"campaign.{entry.name}: {name}: {problem}")
        values.pop("kind", None)
        for name in ("depends_on", "for_each"):
            if isinstance(values.get(name), str):
                values[name] = [values[name]]
        self.entries[entry.name] = replace(entry, values=values)

    def _report_kind(self, kind: Any, entry: Entry) -> None:
        """Report why a table's kind is not known, unless that has been said."""
        place = entry.where(("kind",))
        if not isinstance(kind, str):
            self._fault(place, f"campaign.{entry.name}: kind: write text in quotes, got {shown(kind)}")
        elif kind in self.registry:
            if message := self.unloadable.pop(kind, ""):
                self._fault(place, message)
        elif kind not in self.registry.faulty and (self.has_all_kinds or suggest(kind, self.registry)):
            known = f"known kinds: {listed(self.registry)}{suggest(kind, self.registry)}"
            is_stated = "kind" in entry.values
            problem = f"unknown kind {kind!r}" if is_stated else 'no kind: set kind = "..." or name the table after one'
            self._fault(place, f"campaign.{entry.name}: {problem}; {known}")


def _is_slip(name: str, allowed: Collection[str]) -> bool:
    """Whether the name of a table looks like one of the allowed ones; short words are near too many names."""
    near = get_close_matches(name, allowed, n=1, cutoff=0.6)
    return bool(near) and (near[0] != "sweep" or bool(get_close_matches(name, near, cutoff=0.8)))


def _name_problem(name: str) -> str:
    """Return why a text cannot name a workflow, or an empty string."""
    if len(name) > 100:
        return f"{shown(name)} cannot name a workflow: it has {len(name)} characters, 100 at most"
    if not name.strip() or not name.isprintable() or set(name) & set("/[]"):
        return f"{name!r} cannot name a workflow: write printable text without '/', '[' and ']'"
    return ""


def _can_name_folder(name: str) -> bool:
    is_short = len(name.encode("utf-8", "replace")) <= 200  # 255 bytes are the limit of most file systems
    return is_short and bool(name.strip()) and name.isprintable() and "/" not in name and name[0] not in ".-"
