"""Kinds written in TOML: a ``[kind.x]`` table becomes a pydantic Workflow class like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError, create_model

from socm_like.document import Document, KeyPath
from socm_like.errors import CampaignError, Fault, listed, suggest
from socm_like.faults import faults_of
from socm_like.fields import Bytes, Duration, Model, NotIdentity, Query
from socm_like.resources import ResourcePatch, Resources
from socm_like.workflow import EstimateContext, Workflow, fill, placeholders

_TYPES: Mapping[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "path": Path,
    "size": Bytes,
    "duration": Duration,
    "query": Query,
}
_TYPES = {**_TYPES, **{f"list[{name}]": tuple[item, ...] for name, item in _TYPES.items()}}  # type: ignore[valid-type]


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

    command: tuple[str, ...] = Field(min_length=1)
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

    command_template: ClassVar[tuple[str, ...]] = ()
    declared_resources: ClassVar[ResourcePatch] = ResourcePatch()

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
    base: KeyPath = ("kind", kind)
    try:
        declared = KindTable.model_validate(document.data["kind"][kind], context={"from_file": True})
    except ValidationError as error:
        faults = [
            Fault(document.where((*base, *key)), f"kind.{kind}: {text}") for key, text in faults_of(error, KindTable)
        ]
        raise CampaignError(faults) from error
    definitions, faults = _definitions(declared, base, document)
    command, files = _resolve_words(declared.command, document.path.parent)
    unknown = [name for name in placeholders(command) if name not in definitions]
    faults += [
        Fault(
            document.where((*base, "command")),
            f"kind.{kind}: nothing fills {{{name}}}; fields are: {listed(definitions)}{suggest(name, definitions)}",
        )
        for name in unknown
    ]
    if faults:
        raise CampaignError(faults)
    workflow = create_model(
        kind,
        __base__=DeclaredWorkflow,
        __doc__=declared.doc or f"Run {declared.command[0]}.",
        outputs=(dict[str, str], Field(default=declared.outputs)),
        metrics=(str, Field(default=declared.metrics)),
        environment=(dict[str, str], Field(default=declared.environment)),
        **definitions,
    )
    workflow.kind = kind
    workflow.version = declared.version
    workflow.restartable = declared.restartable
    workflow.files = files
    workflow.command_template = command
    workflow.declared_resources = declared.resources
    return workflow


def _resolve_words(command: Sequence[str], folder: Path) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Return the words with files beside the TOML file made absolute, and those files."""
    words, files = [], []
    for word in command:
        path = folder / word.removeprefix("file://")
        if ("." in word or "/" in word) and path.is_file():
            files.append(path.resolve())
            word = str(path.resolve())  # noqa: PLW2901 - the same word, made absolute
        words.append(word)
    return tuple(words), tuple(files)


def _definitions(declared: KindTable, base: KeyPath, document: Document) -> tuple[dict[str, Any], list[Fault]]:
    """Return the pydantic field definitions of a table, and what is wrong with it."""
    definitions, faults = {}, []
    for name, field in declared.fields.items():
        where = document.where((*base, "fields", name))
        if hasattr(Workflow, name) or name in Workflow.model_fields:
            faults.append(Fault(where, f"{name!r} is a name every workflow has; choose another"))
        elif not name.isidentifier():
            faults.append(Fault(where, f"{name!r} cannot be a field: use letters, digits and underscores"))
        elif field.type not in _TYPES:
            faults.append(
                Fault(where, f"unknown type {field.type!r}; allowed: {listed(_TYPES)}{suggest(field.type, _TYPES)}")
            )
        else:
            definitions[name] = _definition(field)
    return definitions, faults


def _definition(field: FieldTable) -> tuple[Any, Any]:
    annotation: Any = Literal[field.choices] if field.choices else _TYPES[field.type]
    if not field.identity:
        annotation = Annotated[annotation, NotIdentity()]
    if field.unit:
        annotation = Annotated[annotation, BeforeValidator(_unit_reader(field.unit))]
    bounds = field.model_dump(include={"gt", "ge", "lt", "le"}, exclude_none=True)
    return annotation, Field(
        ... if field.default is None else field.default,
        description=field.doc or None,
        json_schema_extra={"unit": field.unit} if field.unit else None,
        validate_default=True,
        **bounds,
    )


def _unit_reader(unit: str) -> Any:
    def read(value: Any) -> Any:
        """Accept a bare number in the unit, or a number that repeats the unit."""
        if not isinstance(value, str):
            return value
        number, _, found = value.strip().partition(" ")
        if found.strip() != unit:
            raise ValueError(f'the unit is {unit}: write a number, or "5 {unit}", got {value!r}')
        return float(number)

    return read
