"""Kinds: from installed entry points, from plug-in files in Python or TOML, from ``registered_workflows``.

An entry point of the group ``socm_like.workflows`` is named like the kind and imported when the kind is first
asked for. Nothing is registered by importing a class; whatever cannot be loaded is an error that names it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import CodeType, ModuleType
from typing import Self

from socm_like.declared_kind import DeclaredWorkflow, declare_kind
from socm_like.document import Document, read_document
from socm_like.errors import CampaignError, Fault, PluginError, listed, suggest
from socm_like.faults import shown
from socm_like.workflow import Workflow

GROUP = "socm_like.workflows"

RESERVED_KINDS = ("campaigns",)
"""Folders of the store that hold something else than tasks."""

_KIND = re.compile(r"[^\W_][\w.-]{0,59}")


class Registry:
    """Kind -> Workflow class. Adding one class twice is fine, two classes under one kind is an error."""

    def __init__(self) -> None:
        self.faulty: set[str] = set()
        """Kinds whose ``[kind.x]`` table is wrong, which has been reported."""
        self._classes: dict[str, type[Workflow]] = {}
        self._entry_points: dict[str, EntryPoint] = {}
        self._documents: set[Path] = set()

    @classmethod
    def load(cls, plugins: Sequence[Path] = ()) -> Self:
        """Return the installed kinds and those of the plug-in files.

        Raises PluginError naming the plug-in that cannot be loaded, CampaignError for a wrong ``[kind.x]`` table.
        """
        registry = cls()
        problems = registry.add_installed()
        for path in plugins:
            problems += registry.add_plugin(path)
        if problems:
            raise PluginError("\n".join(problems))
        return registry

    def add_installed(self) -> list[str]:
        """Add the kinds of installed packages, and those that imported modules put into ``registered_workflows``.

        Returns what is wrong: two of them claim one kind.
        """
        problems = []
        for entry_point in entry_points(group=GROUP):
            present = self._entry_points.setdefault(entry_point.name, entry_point)
            if present.value != entry_point.value:
                problems.append(
                    f"two packages claim the kind {entry_point.name!r}: {present.value} and {entry_point.value}; "
                    "uninstall one of them"
                )
        return problems + self._add(registered_workflows._classes.items())

    def add_plugin(self, path: Path) -> list[str]:
        """Add the kinds of one plug-in file; return why it, or a kind of it, cannot be added.

        Raises CampaignError for wrong ``[kind.x]`` tables of a TOML file; the kinds that are right are there.
        """
        if path.suffix not in (".py", ".toml"):
            return [f"plug-in {path}: a plug-in is a .py or a .toml file"]
        if problem := _unreadable(path):
            return [problem]
        if path.suffix == ".toml":
            if path.absolute() not in self._documents:
                self._documents.add(path.absolute())
                self._declare_file(path)
            return []
        try:
            module, by_hand = _import_file(path)
        except PluginError as error:
            return [str(error)]
        defined = ((workflow.kind, workflow) for workflow in _workflows_defined_in(module))
        return self._add([*by_hand.items(), *defined])

    def _declare_file(self, path: Path) -> None:
        document = read_document(path)
        faults = list(document.faults)
        for key in document.data:
            if key != "kind":
                faults.append(Fault(document.where((key,)), f"{key!r}: a plug-in holds [kind.x] tables, nothing else"))
        try:
            self.declare(document)
        except CampaignError as error:
            faults.extend(error.faults)
        if faults:
            raise CampaignError(faults)

    def declare(self, document: Document) -> None:
        """Register the kinds that the ``[kind.x]`` tables of a document describe.

        Raises CampaignError with every fault of every table; the kinds that are right are there.
        """
        tables = document.data.get("kind", {})
        if not isinstance(tables, dict):
            raise CampaignError([Fault(document.where(("kind",)), f"write tables [kind.name], got {shown(tables)}")])
        faults: list[Fault] = []
        for kind in tables:
            try:
                self[kind] = declare_kind(kind, document)
            except CampaignError as error:
                faults.extend(error.faults)
                self.faulty.add(kind)
            except PluginError as error:
                faults.append(Fault(document.where(("kind", kind)), str(error)))
        if faults:
            raise CampaignError(faults)

    def _add(self, classes: Iterable[tuple[str, type[Workflow]]]) -> list[str]:
        """Register classes under their kinds; return what is wrong with those that cannot be."""
        problems = []
        for kind, workflow in classes:
            try:
                self[kind] = workflow
            except PluginError as error:
                problems.append(str(error))
        return problems

    def __setitem__(self, kind: str, workflow: type[Workflow]) -> None:
        """Register a class under a kind.

        Raises PluginError when another class has the kind already (both modules are named), when the kind cannot
        name a folder, or when it is no class of workflows.
        """
        if not (inspect.isclass(workflow) and issubclass(workflow, Workflow)):
            raise PluginError(f"the kind {kind!r} must be a subclass of socm_like.Workflow, got {shown(workflow)}")
        if not (isinstance(kind, str) and _KIND.fullmatch(kind)) or kind in RESERVED_KINDS:
            raise PluginError(
                f"{_origin(workflow)}: {kind!r} cannot name a kind; use letters, digits, '-', '_' and '.', "
                f"a letter or digit first, 60 at most, and not {' or '.join(RESERVED_KINDS)}"
            )
        present = self._classes.get(kind)
        if present is None and kind in self._entry_points:
            present = self[kind]
        if present is not None and present is not workflow:
            raise PluginError(
                f"two classes claim the kind {kind!r}: {_origin(present)} and {_origin(workflow)}; rename one of them"
            )
        self._classes[kind] = workflow

    def __getitem__(self, kind: str) -> type[Workflow]:
        """Return the class of a kind.

        Raises PluginError when there is none, or when its entry point cannot be imported.
        """
        if kind in self._classes:
            return self._classes[kind]
        if kind not in self._entry_points:
            raise PluginError(f"unknown kind {kind!r}; known kinds: {listed(self)}{suggest(kind, self)}")
        workflow = _load_entry_point(self._entry_points[kind])
        self._classes[kind] = workflow
        return workflow

    def __contains__(self, kind: str) -> bool:
        return kind in self._classes or kind in self._entry_points

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._classes, *self._entry_points}))


registered_workflows = Registry()
"""Where a plug-in may put its classes by hand: ``registered_workflows["my-custom"] = MyCustomWorkflow``."""

_PREFIX = "socm_plugin_"


_BY_HAND = "__registered_workflows__"
"""Attribute of a plug-in's module: what it put into ``registered_workflows``."""


class _PluginLoader(SourceFileLoader):
    """Compiles the file as it is now: a cached one may be older than it looks, and a campaign's folder stays clean."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - importlib's signature
        return self.source_to_code(self.get_data(self.path), self.path)


def _import_file(path: Path) -> tuple[ModuleType, Mapping[str, type[Workflow]]]:
    """Import one file by path; return its module and the kinds it registered by hand.

    The same file with the same content is imported once per process.
    """
    content, file = path.read_bytes(), str(path.resolve())
    key = hashlib.sha256(file.encode() + content).hexdigest()[:12]
    name = f"{_PREFIX}{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}_{key}"
    if name not in sys.modules:
        _execute(name, file, path)
    module = sys.modules[name]
    return module, getattr(module, _BY_HAND)


def _execute(name: str, file: str, path: Path) -> None:
    loader = _PluginLoader(name, file)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader) or ModuleSpec(name, loader))
    before = dict(registered_workflows._classes)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        registered_workflows._classes = before
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PluginError(f"plug-in {path} cannot be imported: {_blame(error, file)}") from error
    after = registered_workflows._classes
    setattr(module, _BY_HAND, {kind: workflow for kind, workflow in after.items() if kind not in before})
    # Another campaign in this process may register other classes under these names.
    registered_workflows._classes = {
        kind: workflow for kind, workflow in after.items() if workflow.__module__ != module.__name__
    }


def _unreadable(path: Path) -> str:
    """Return why a file cannot be read, or an empty string."""
    try:
        path.open("rb").close()
    except FileNotFoundError as error:
        names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        return f"plug-in {path}: {error.strerror}{suggest(path.name, names)}"
    except OSError as error:
        return f"plug-in {path}: {error.strerror}"
    except ValueError as error:  # a NUL in the name
        return f"plug-in {str(path)!r}: {error}"
    return ""


def _blame(error: BaseException, file: str) -> str:
    """Return the error with the last line of the plug-in that led to it."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return _described(error) + (f" (line {line})" if line else "")


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _workflows_defined_in(module: ModuleType) -> Iterator[type[Workflow]]:
    for name, value in vars(module).items():
        is_workflow = inspect.isclass(value) and issubclass(value, Workflow) and value.__module__ == module.__name__
        if is_workflow and not name.startswith("_") and not inspect.isabstract(value):
            yield value


def _load_entry_point(entry_point: EntryPoint) -> type[Workflow]:
    where = f"kind {entry_point.name!r}: {entry_point.value}"
    try:
        workflow = entry_point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"{where} cannot be imported: {_described(error)}") from error
    if not (inspect.isclass(workflow) and issubclass(workflow, Workflow)):
        raise PluginError(f"{where} is not a Workflow class")
    return workflow


def _origin(workflow: type[Workflow]) -> str:
    """Return where a class comes from, as a person would look for it."""
    if issubclass(workflow, DeclaredWorkflow):
        return f"[kind.{workflow.kind}] in {workflow.declared_in}"
    module = sys.modules.get(workflow.__module__)
    is_plugin = workflow.__module__.startswith(_PREFIX) and module is not None and module.__file__
    return f"{module.__file__ if is_plugin and module else workflow.__module__}:{workflow.__qualname__}"
