"""Kinds written in TOML: a ``[kind.x]`` table becomes a pydantic Workflow class like any other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)

from socm_like.document import Document, KeyPath
from socm_like.errors import CampaignError, Fault, listed, suggest
from socm_like.faults import Location, faults_of, shown
from socm_like.fields import Bytes, Duration, Model, NotIdentity, Query
from socm_like.references import Resolver, contract_problems, output_references, split_words
from socm_like.resources import ResourcePatch, Resources
from socm_like.workflow import EstimateContext, Workflow, fill, placeholders

_TYPES: Mapping[str, Any] = {
    "bool": Annotated[bool, Field(strict=True)],
    "int": Annotated[int, Field(strict=True)],
    "float": Annotated[float, Field(strict=True)],
    "str": str,
    "path": Path,
    "size": Bytes,
    "duration": Duration,
    "query": Query,
}
_NAMES = (*_TYPES, *(f"list[{name}]" for name in _TYPES))
_NUMBERS = ("int", "float")
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MEASURE = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*")


def _as_words(command: Any) -> Any:
    return tuple(split_words(command)) if isinstance(command, str) else command


class FieldTable(Model):
    """``fields.x`` of a ``[kind.y]`` table."""

    type: str = "str"
    unit: str = ""
    """Written in the documentation; a value may repeat it (``"5 arcmin"``) and may not state another."""
    default: Any = None
    doc: str = ""
    choices: tuple[bool | int | float | str, ...] = ()
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    identity: bool = True
    """False for what does not change the result: verbosity, progress."""


class KindTable(Model):
    """A ``[kind.x]`` table."""

    command: Annotated[tuple[str, ...], BeforeValidator(_as_words)] = Field(min_length=1)
    doc: str = ""
    version: str = "1"
    fields: dict[str, FieldTable] = Field(default={})
    outputs: dict[str, str] = Field(default={})
    metrics: str = ""
    environment: dict[str, str] = Field(default={})
    resources: ResourcePatch = Field(default=ResourcePatch())
    restartable: bool = False


class DeclaredWorkflow(Workflow):
    """Base of the kinds written in TOML."""

    model_config = ConfigDict(protected_namespaces=())

    command_template: ClassVar[tuple[str, ...]] = ()
    """The words of the command, files made absolute; part of every task's identity."""
    declared_resources: ClassVar[ResourcePatch] = ResourcePatch()
    declared_in: ClassVar[Path] = Path()
    """The file of the table."""

    def estimate(self, context: EstimateContext) -> Resources:  # noqa: ARG002 - the same on every machine
        """Return what the ``[kind.x]`` table states."""
        return Resources().patched(self.declared_resources)

    def get_command(self, **kwargs: Any) -> Sequence[str]:  # noqa: ARG002 - part of the contract
        """Return the command of the table with every placeholder filled."""
        return fill(self.command_template, self.own_fields())


def declare_kind(kind: str, document: Document) -> type[Workflow]:
    """Return the Workflow class that the ``[kind.x]`` table of a document describes.

    Raises CampaignError with every fault of the table.
    """
    declaration = _Declaration(kind, document)
    declared = declaration.table()
    definitions: Any = {name: declaration.field(name, field) for name, field in declared.fields.items()}
    command, environment, files = declaration.words(declared)
    if declaration.faults:
        raise CampaignError(declaration.faults)
    workflow = create_model(
        kind,
        __base__=DeclaredWorkflow,
        __doc__=declared.doc or f"Run {declared.command[0]}.",
        outputs=(dict[str, str], Field(default=declared.outputs)),
        metrics=(str, Field(default=declared.metrics)),
        environment=(dict[str, str], Field(default=environment)),
        **definitions,
    )
    workflow.kind = kind
    workflow.version = declared.version
    workflow.restartable = declared.restartable
    workflow.files = files
    workflow.command_template = command
    workflow.declared_resources = declared.resources
    workflow.declared_in = document.path
    return workflow


class _Declaration:
    """One ``[kind.x]`` table on its way to a class, and what is wrong with it."""

    def __init__(self, kind: str, document: Document) -> None:
        self.kind = kind
        self.document = document
        self.values = document.data["kind"][kind]
        self.faults: list[Fault] = []

    def fault(self, key: KeyPath, message: str) -> None:
        self.faults.append(Fault(self.document.where(("kind", self.kind, *key)), f"kind.{self.kind}: {message}"))

    def table(self) -> KindTable:
        """Return what is right of the table. Raises CampaignError when nothing is."""
        try:
            return KindTable.model_validate(self.values, context={"from_file": True})
        except ValidationError as error:
            wrong = list(faults_of(error, KindTable, self.values))
        for key, message in wrong:
            self.fault(key, message)
        if not isinstance(self.values, dict):
            raise CampaignError(self.faults)
        right = {"command": ["?"], **_without(self.values, {key[:2] for key, _ in wrong})}
        return KindTable.model_validate(right, context={"from_file": True})

    def words(self, declared: KindTable) -> tuple[tuple[str, ...], dict[str, str], tuple[Path, ...]]:
        """Return command and variables with files beside the TOML file made absolute, and those files."""
        contract = declared.model_dump(include={"environment", "outputs", "metrics"})
        resolver = self._resolver()
        command = resolver.value(list(declared.command), ("command",), "word")
        environment = resolver.value(declared.environment, ("environment",), "text")
        for key, problem in (*resolver.problems, *contract_problems(contract)):
            self.fault(key, f"{'.'.join(map(str, key))}: {problem}")
        for key, reference in output_references({"command": list(declared.command), **contract}):
            self.fault(key, f"{reference}: a kind knows no workflow; make it a field and let the campaign fill it")
        fields = self.values.get("fields", {})
        for name in placeholders(command):
            if isinstance(fields, dict) and name not in fields:
                known = f"fields are: {listed(fields)}{suggest(name, fields)}"
                self.fault(("command",), f"nothing fills {{{name}}}; {known}")
        return tuple(command), environment, tuple(sorted(resolver.inputs))

    def field(self, name: str, field: FieldTable) -> tuple[Any, Any]:
        """Return the pydantic definition of a field; what is wrong with it is noted."""
        problem = _wrong_name(name) or _wrong_type(field)
        if problem:
            self.fault(("fields", name), f"fields.{name}: {problem}")
            return Any, None
        annotation = self._annotation(name, field)
        default = ... if field.default is None else self._default(name, field, annotation)
        if not field.identity:
            annotation = Annotated[annotation, NotIdentity()]
        extra: dict[str, Any] = {"unit": field.unit} if field.unit else {}
        if field.choices and not field.type.startswith("list["):
            extra["enum"] = list(field.choices)
        return annotation, Field(default, description=field.doc or None, json_schema_extra=extra or None)

    def _annotation(self, name: str, field: FieldTable) -> Any:
        """Return the type of a field: unit, bounds and choices are those of an item where it is a list."""
        kind = field.type.removeprefix("list[").removesuffix("]")
        bounds = field.model_dump(include={"gt", "ge", "lt", "le"}, exclude_none=True)
        item: Any = _TYPES[kind]
        if bounds:
            item = Annotated[item, Field(**bounds)]
        if field.unit:
            item = Annotated[item, BeforeValidator(_unit_reader(field.unit))]
        if field.choices:
            choices = {choice: self._valid(("fields", name, "choices"), item, choice) for choice in field.choices}
            enum = Field(json_schema_extra={"enum": list(field.choices)})
            item = Annotated[item, WrapValidator(_chooser(choices)), enum]
        return item if kind == field.type else tuple[item, ...]

    def _default(self, name: str, field: FieldTable, annotation: Any) -> Any:
        default, key = field.default, ("fields", name, "default")
        if field.type in ("path", "list[path]"):
            resolver = self._resolver()
            default = resolver.value(default, key, "path")
            for place, problem in resolver.problems:
                self.fault(place, f"{'.'.join(map(str, place))}: {problem}")
        return self._valid(key, annotation, default)

    def _valid(self, key: KeyPath, annotation: Any, value: Any) -> Any:
        """Return a value as a field of that type would hold it."""
        name = ".".join(map(str, key))
        holder = create_model("Holder", __base__=Model, **{name: (annotation, ...)})  # type: ignore[call-overload]
        try:
            return getattr(holder.model_validate({name: value}, context={"from_file": True}), name)
        except ValidationError as error:
            for place, message in faults_of(error, holder, {name: value}):
                self.fault((*key, *place[1:]), message)
            return value

    def _resolver(self) -> Resolver:
        return Resolver(str(self.document.folder), lambda reference: [str(reference)])


def _without(values: Mapping[str, Any], lost: set[Location]) -> dict[str, Any]:
    """Return a table without some of its keys, and its sub-tables without some of theirs."""
    left = {}
    for name, value in values.items():
        inner = {key[1] for key in lost if key[0] == name and len(key) > 1}
        if (name,) not in lost and (not inner or isinstance(value, dict)):
            left[name] = {key: item for key, item in value.items() if key not in inner} if inner else value
    return left


def _wrong_name(name: str) -> str:
    if hasattr(DeclaredWorkflow, name) or name in DeclaredWorkflow.model_fields or name == "depends":
        return "this is a name every workflow has; choose another"
    if not _FIELD_NAME.fullmatch(name):
        return f"{name!r} cannot be a field; use letters, digits and underscores, a letter first"
    return ""


def _wrong_type(field: FieldTable) -> str:
    """Return why type, unit, bounds and choices cannot go together, or an empty string."""
    if field.type not in _NAMES:
        return f"unknown type {field.type!r}; allowed: {listed(_NAMES)}{suggest(field.type, _NAMES)}"
    is_number = field.type.removeprefix("list[").removesuffix("]") in _NUMBERS
    if field.choices and field.type in ("path", "list[path]"):
        return "choices are not for paths"
    stated = [name for name in ("unit", "gt", "ge", "lt", "le") if getattr(field, name) not in (None, "")]
    if stated and not is_number:
        return f"{stated[0]} is for numbers (int, float), not for {field.type}"
    return ""


def _chooser(choices: Mapping[Any, Any]) -> Callable[[Any, ValidatorFunctionWrapHandler], Any]:
    """Return what accepts one of the choices; they map from what is written to what it means."""

    def choose(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        found = handler(value)
        if found in choices.values():
            return found
        near = (
            suggest(value, (choice for choice in choices if isinstance(choice, str))) if isinstance(value, str) else ""
        )
        raise ValueError(f"choose one of {', '.join(map(shown, choices))}; got {shown(value)}{near}")

    return choose


def _unit_reader(unit: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        """Accept a bare number in the unit, or a number that repeats the unit."""
        if not isinstance(value, str):
            return value
        measure = _MEASURE.fullmatch(value)
        if measure is None or measure[2] != unit:
            raise ValueError(f'the unit is {unit}: write a number, or "5 {unit}", got {value!r}')
        number = float(measure[1])
        return int(number) if number.is_integer() else number

    return read
