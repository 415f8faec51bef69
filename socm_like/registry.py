"""Kinds: from installed entry points, from plug-in files in Python or TOML, from ``registered_workflows``.

An entry point of the group ``socm_like.workflows`` is named like the kind and imported when the kind is first
asked for. Nothing is registered by importing a class; whatever cannot be loaded is an error that names it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Self

from socm_like.declared_kind import declare_kind
from socm_like.document import Document, read_document
from socm_like.errors import CampaignError, Fault, PluginError, listed, suggest
from socm_like.workflow import Workflow

GROUP = "socm_like.workflows"


class Registry:
    """Kind -> Workflow class. Adding one class twice is fine, two classes under one kind is an error."""

    def __init__(self) -> None:
        self._classes: dict[str, type[Workflow]] = {}
        self._entry_points: dict[str, EntryPoint] = {}

    @classmethod
    def load(cls, plugins: Sequence[Path] = ()) -> Self:
        """Return the installed kinds and those of the plug-in files.

        Raises PluginError naming the plug-in that cannot be loaded, CampaignError for a wrong ``[kind.x]`` table.
        """
        registry = cls()
        registry._add_installed()
        loaded = {Path(inspect.getfile(module)): module for module in map(_import_file, _python(plugins))}
        for kind, workflow in registered_workflows._classes.items():
            module = sys.modules.get(workflow.__module__)
            if not workflow.__module__.startswith(_PREFIX) or module in loaded.values():
                registry[kind] = workflow
        for module in loaded.values():
            for workflow in _workflows_defined_in(module):
                registry[workflow.kind] = workflow
        for path in plugins:
            if path.suffix == ".toml":
                registry.declare(_read_kinds(path))
        return registry

    def declare(self, document: Document) -> None:
        """Register the kinds that the ``[kind.x]`` tables of a document describe.

        Raises CampaignError with every fault of every table.
        """
        faults: list[Fault] = []
        for kind in document.data.get("kind", {}):
            try:
                self[kind] = declare_kind(kind, document)
            except CampaignError as error:
                faults.extend(error.faults)
        if faults:
            raise CampaignError(faults)

    def __setitem__(self, kind: str, workflow: type[Workflow]) -> None:
        """Register a class under a kind.

        Raises PluginError when another class has the kind already; both modules are named.
        """
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

    def _add_installed(self) -> None:
        for entry_point in entry_points(group=GROUP):
            present = self._entry_points.get(entry_point.name)
            if present is not None and present.value != entry_point.value:
                raise PluginError(
                    f"two packages claim the kind {entry_point.name!r}: {present.value} and {entry_point.value}; "
                    "uninstall one of them"
                )
            self._entry_points[entry_point.name] = entry_point


registered_workflows = Registry()
"""Where a plug-in may put its classes by hand: ``registered_workflows["my-custom"] = MyCustomWorkflow``."""

_PREFIX = "socm_plugin_"


def _python(plugins: Sequence[Path]) -> Iterator[Path]:
    for path in plugins:
        if path.suffix == ".py":
            yield path
        elif path.suffix != ".toml":
            raise PluginError(f"plug-in {path}: a plug-in is a .py or a .toml file")


def _import_file(path: Path) -> ModuleType:
    """Import one file by path; the same file with the same content is imported once per process."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PluginError(f"plug-in {path}: {error.strerror}") from error
    name = f"{_PREFIX}{path.stem}_{hashlib.sha256(str(path.resolve()).encode() + content).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise PluginError(f"plug-in {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PluginError(f"plug-in {path} cannot be imported: {_blame(error, path)}") from error
    return module


def _blame(error: BaseException, path: Path) -> str:
    """Return the error with the last line of the plug-in that led to it."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path.resolve()):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{type(error).__name__}: {error}" + (f" (line {line})" if line else "")


def _workflows_defined_in(module: ModuleType) -> Iterator[type[Workflow]]:
    for name, value in vars(module).items():
        is_workflow = inspect.isclass(value) and issubclass(value, Workflow) and value.__module__ == module.__name__
        if is_workflow and not name.startswith("_") and not inspect.isabstract(value):
            yield value


def _load_entry_point(entry_point: EntryPoint) -> type[Workflow]:
    try:
        workflow = entry_point.load()
    except Exception as error:
        raise PluginError(
            f"kind {entry_point.name!r}: {entry_point.value} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not (inspect.isclass(workflow) and issubclass(workflow, Workflow)):
        raise PluginError(f"kind {entry_point.name!r}: {entry_point.value} is not a Workflow class")
    return workflow


def _read_kinds(path: Path) -> Document:
    document = read_document(path)
    others = set(document.data) - {"kind"}
    if others:
        fault = f"a plug-in file holds [kind.x] tables and nothing else; found: {listed(others)}"
        raise CampaignError([Fault(document.where((min(others),)), fault)])
    return document


def _origin(workflow: type[Workflow]) -> str:
    """Return where a class comes from, as a person would look for it."""
    module = sys.modules.get(workflow.__module__)
    is_plugin = workflow.__module__.startswith(_PREFIX) and module is not None and module.__file__
    return f"{module.__file__ if is_plugin and module else workflow.__module__}:{workflow.__qualname__}"
