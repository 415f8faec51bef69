"""campaign.toml -> Campaign: settings, and one entry per workflow table, checked as far as text goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError

from socm_like.document import Document, KeyPath, read_document
from socm_like.errors import CampaignError, Fault, PluginError, listed, suggest
from socm_like.faults import faults_of
from socm_like.fields import Bytes, Duration, Model
from socm_like.references import output_references
from socm_like.registry import Registry
from socm_like.workflow import Workflow

RESERVED = ("resources", "environment", "parameters", "outputs")
"""Sub-tables every workflow may have; any other sub-table that is no field makes its parent a group."""

_ELSEWHERE = {
    "execution_schema": "the executor is [execution] executor",
    "requested_resources": "the cap is [execution] cores",
    "policy": "priorities follow the critical path",
    "resources": "the cap is [execution] cores and memory",
}
"""Keys of SOCM campaigns and what took their place."""


class Settings(Model):
    """The scalar keys of ``[campaign]``."""

    name: str = Field(default="", max_length=100)
    doc: str = ""
    deadline: Duration | None = None
    resource: str = "local"
    plugins: tuple[str, ...] = ()
    store: str | None = None


class Execution(Model):
    """``[execution]``: how tasks are run."""

    executor: Literal["local"] = "local"
    cores: PositiveInt | None = None
    """Cores to use at the most."""
    memory: Bytes | None = None
    """Memory to use at the most."""
    retries: NonNegativeInt = 0
    """New attempts after a plain failure."""
    lost_retries: NonNegativeInt = 2
    """New attempts after ``lost`` or ``node_fail``."""
    grace: Duration = Field(default="10 s", validate_default=True)
    """Time between SIGTERM and SIGKILL."""


@dataclass(frozen=True)
class Entry:
    """One workflow table, its group's keys merged in."""

    name: str
    kind: str
    values: Mapping[str, Any]
    key: KeyPath
    """Where its table stands."""
    origins: Mapping[str, KeyPath]
    """Where each key was written: its own table or a group's."""

    def where(self, key: KeyPath) -> KeyPath:
        """Return the place in the document of a key of this table."""
        return (*self.origins[str(key[0])], *key[1:]) if key and key[0] in self.origins else (*self.key, *key)


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
    faults: tuple[Fault, ...]
    """What is wrong so far; building the tasks adds what only the built workflows show, and raises all."""

    @property
    def name(self) -> str:
        """The campaign's name: the setting, else the name of the folder the file is in."""
        return self.settings.name or self.document.path.resolve().parent.name

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
    registry: Registry = field(default_factory=Registry)

    def load(self) -> Campaign:
        data = self.document.data
        allowed = ("campaign", "execution", "environment", "kind")
        for key in data:
            if key not in allowed:
                self._fault((key,), f"unknown table {key!r}; allowed: {listed(allowed)}{suggest(key, allowed)}")
        table = data.get("campaign")
        if not isinstance(table, dict):
            self._fault(("campaign",), "a campaign file needs a [campaign] table; see: campaign init")
            raise CampaignError(self.faults)
        scalars = {key: value for key, value in table.items() if not isinstance(value, dict)}
        settings = self._settings(scalars)
        plugins = tuple(self.document.path.parent / plugin for plugin in settings.plugins)
        self._load_kinds(plugins)
        tables = {key: value for key, value in table.items() if isinstance(value, dict)}
        for name, value in tables.items():
            self._walk((name,), value, {}, {})
        if not tables:
            self._fault(("campaign",), "no workflow: add a table such as [campaign.first] with a kind")
        upstream = self._upstream()
        execution = self._model(Execution, ("execution",), data.get("execution", {}))
        environment = self._environment(data.get("environment", {}))
        return Campaign(
            self.document, settings, execution, environment, tuple(path.resolve() for path in plugins),
            self.registry, self.entries, self.groups, upstream, tuple(self.faults),
        )  # fmt: skip

    def _fault(self, key: KeyPath, message: str) -> None:
        self.faults.append(Fault(self.document.where(key), message))

    def _model(self, model: type[_M], base: KeyPath, values: Any) -> _M:
        try:
            return model.model_validate(values, context={"from_file": True})
        except ValidationError as error:
            wrong = list(faults_of(error, model))
            for key, message in wrong:
                self._fault((*base, *key), f"{'.'.join(map(str, base))}: {message}")
            if not isinstance(values, dict) or any(not key for key, _ in wrong):
                return model()
            names = {key[0] for key, _ in wrong}
            return self._model(model, base, {key: value for key, value in values.items() if key not in names})

    def _settings(self, scalars: dict[str, Any]) -> Settings:
        for key in [key for key in scalars if key in _ELSEWHERE]:
            self._fault(("campaign", key), f"campaign: {key!r} is not used here; {_ELSEWHERE[key]}")
            del scalars[key]
        settings = self._model(Settings, ("campaign",), scalars)
        if settings.resource != "local":
            self._fault(("campaign", "resource"), f"unknown resource {settings.resource!r}; allowed: local")
        name = scalars.get("name")
        if isinstance(name, str) and (not name.strip() or "/" in name or not name.isprintable() or name[0] == "."):
            self._fault(("campaign", "name"), f"{name!r} cannot name a folder: no '/', no leading '.', not empty")
        return settings

    def _environment(self, values: Any) -> Mapping[str, str]:
        if isinstance(values, dict) and all(isinstance(value, str) for value in values.values()):
            return values
        wrong = [key for key, value in values.items() if not isinstance(value, str)] if isinstance(values, dict) else []
        for key in wrong:
            self._fault(("environment", key), f"environment.{key}: write text in quotes, got {values[key]!r}")
        if not wrong:
            self._fault(("environment",), f'environment: write a table of NAME = "text", got {values!r}')
        return {}

    def _load_kinds(self, plugins: Sequence[Path]) -> None:
        try:
            self.registry = Registry.load(plugins)
        except PluginError as error:
            self._fault(("campaign", "plugins"), str(error))
            self.registry = Registry.load()
        except CampaignError as error:
            self.faults.extend(error.faults)
            self.registry = Registry.load()
        try:
            self.registry.declare(self.document)
        except CampaignError as error:
            self.faults.extend(error.faults)
        except PluginError as error:
            self._fault(("kind",), str(error))

    def _walk(
        self, names: tuple[str, ...], table: dict[str, Any], shared: dict[str, Any], origins: dict[str, KeyPath]
    ) -> tuple[str, ...]:
        """Add the workflows of one table; return their names."""
        key, name = ("campaign", *names), ".".join(names)
        if "/" in names[-1] or not names[-1].isprintable() or not names[-1].strip() or len(names[-1]) > 100:
            self._fault(
                key, f"{names[-1]!r} cannot name a workflow: printable text without '/', 100 characters at most"
            )
            return ()
        kind = table.get("kind", shared.get("kind", name))
        fields = self._fields(kind, key)
        children = {
            child: value
            for child, value in table.items()
            if isinstance(value, dict) and child not in RESERVED and child not in fields
        }
        own = {child: value for child, value in table.items() if child not in children}
        for child in self._misspelt(children, fields, key, name):
            del children[child]
        merged = _merge(shared, own)
        origins = {**origins, **{child: (*key, child) for child in own}}
        if children:
            self.groups[name] = ()
            members = [self._walk((*names, child), value, merged, origins) for child, value in children.items()]
            self.groups[name] = tuple(member for group in members for member in group)
            return self.groups[name]
        if not isinstance(kind, str) or kind not in self.registry:
            self._unknown_kind(kind, name, key, "kind" in merged, origins)
            return ()
        if not fields:  # its class could not be imported, which has been reported
            return ()
        values = {child: value for child, value in merged.items() if child != "kind"}
        if "depends" in values:
            values.setdefault("depends_on", values.pop("depends"))
            origins["depends_on"] = origins["depends"]
        if isinstance(values.get("depends_on"), str):
            values["depends_on"] = [values["depends_on"]]
        self.entries[name] = Entry(name, kind, values, key, origins)
        return (name,)

    def _fields(self, kind: Any, key: KeyPath) -> set[str]:
        if not isinstance(kind, str) or kind not in self.registry:
            return set()
        try:
            return {*self.registry[kind].model_fields, "kind", "depends"}
        except PluginError as error:
            self._fault(key, str(error))
            return set()

    def _misspelt(self, children: Mapping[str, Any], fields: set[str], key: KeyPath, name: str) -> list[str]:
        """Report sub-tables that are a slip of the pen rather than members of a group; return their names."""
        allowed = {*RESERVED, *(fields - set(Workflow.model_fields))} if fields else set()
        slips = [child for child, table in children.items() if suggest(child, allowed) and "kind" not in table]
        for child in slips:
            message = f"campaign.{name}: unknown table {child!r}; allowed: {listed(allowed)}{suggest(child, allowed)}"
            self._fault((*key, child), message)
        return slips

    def _unknown_kind(
        self, kind: Any, name: str, key: KeyPath, is_stated: bool, origins: Mapping[str, KeyPath]
    ) -> None:
        known = f"known kinds: {listed(self.registry)}{suggest(str(kind), self.registry)}"
        if is_stated:
            self._fault(origins.get("kind", key), f"campaign.{name}: unknown kind {kind!r}; {known}")
        else:
            self._fault(key, f'campaign.{name}: no kind: set kind = "..." or name the table after one; {known}')

    def _upstream(self) -> dict[str, tuple[str, ...]]:
        """Return the edges between workflows; report names that are not there, and cycles."""
        upstream: dict[str, tuple[str, ...]] = {}
        for name, entry in self.entries.items():
            found: dict[str, None] = {}
            for key, target in _names_in(entry):
                problem = self._wrong_target(key, target)
                if problem:
                    self._fault(entry.where(key), f"campaign.{name}: {problem}")
                    continue
                members = (target,) if target in self.entries else self.groups[target]
                found.update(dict.fromkeys(members))
            upstream[name] = tuple(found)
        while cycle := _cycle(upstream):
            entry = self.entries[cycle[0]]
            self._fault(entry.where(("depends_on",)), f"workflows wait for each other: {' -> '.join(cycle)}")
            upstream[cycle[0]] = tuple(name for name in upstream[cycle[0]] if name != cycle[1])
        return upstream

    def _wrong_target(self, key: KeyPath, target: str) -> str:
        """Return what is wrong with naming ``target`` under ``key``, or an empty string."""
        known = {*self.entries} if key[0] == "for_each" else {*self.entries, *self.groups}
        if target in known:
            return ""
        if target in self.groups:
            return f"for_each takes one workflow; {target!r} is a group of {listed(self.groups[target])}"
        there = f"there are: {listed(known)}{suggest(target, known)}"
        return f"{key[0]} names {target!r}, which this campaign does not define; {there}"


def _names_in(entry: Entry) -> list[tuple[KeyPath, str]]:
    """Return every workflow or group an entry names, with the key that names it."""
    depends_on = entry.values.get("depends_on", [])
    names: list[tuple[KeyPath, str]] = []
    if isinstance(depends_on, list):
        names += [(("depends_on", index), name) for index, name in enumerate(depends_on) if isinstance(name, str)]
    for_each = entry.values.get("for_each")
    if isinstance(for_each, str) and for_each:
        names.append((("for_each",), for_each))
    return names + [(key, reference.workflow) for key, reference in output_references(entry.values)]


def _merge(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the group's keys with the table's own over them; the reserved sub-tables merge key by key."""
    merged = {**shared, **own}
    for name in RESERVED:
        if isinstance(shared.get(name), dict) and isinstance(own.get(name), dict):
            merged[name] = {**shared[name], **own[name]}
    return merged


def _cycle(upstream: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one cycle as ``a -> b -> a``, or an empty list."""
    finished: set[str] = set()
    for root in upstream:
        path: list[str] = []
        stack = [(root, iter(upstream[root]))] if root not in finished else []
        on_path = {root}
        path = [root] if stack else []
        while stack:
            node, following = stack[-1]
            after = next((name for name in following if name not in finished), None)
            if after is None:
                finished.add(node)
                on_path.discard(node)
                path.pop()
                stack.pop()
            elif after in on_path:
                return [*path[path.index(after) :], after]
            else:
                stack.append((after, iter(upstream[after])))
                on_path.add(after)
                path.append(after)
    return []
