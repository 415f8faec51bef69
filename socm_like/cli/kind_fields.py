"""What a kind's fields are, in words: type, unit, limits, default, and the text the author wrote."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.fields import FieldInfo

from socm_like.declared_kind import DeclaredWorkflow
from socm_like.errors import PluginError
from socm_like.fields import Bytes, Duration, NotIdentity, Query
from socm_like.units import format_size, format_span
from socm_like.workflow import Workflow

_SIZE, _SPAN, _QUERY = (get_args(alias)[1] for alias in (Bytes, Duration, Query))
"""What marks a field as a size, a time span or an SQL condition: the first validator of its type."""

_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
    NoneType: "none",
    Any: "anything",
}


@dataclass(frozen=True, slots=True)
class FieldDescription:
    """One field of a kind, ready to print."""

    name: str
    type: str
    unit: str
    limits: str
    default: str
    is_required: bool
    doc: str


def describe_fields(workflow: type[Workflow]) -> tuple[Sequence[FieldDescription], Sequence[FieldDescription]]:
    """Return the fields of the kind itself, and those every workflow has."""
    docs = field_docs(workflow)
    described = {name: _described(name, field, docs.get(name, "")) for name, field in workflow.model_fields.items()}
    own = workflow.own_field_names()
    return [described[name] for name in own], [described[name] for name in Workflow.model_fields]


def schema_of(kind: str, workflow: type[Workflow]) -> dict[str, Any]:
    """Return the JSON schema of a kind, with ``kind``, ``version`` and every field's text in it.

    Raises PluginError when a field has a type that JSON cannot express.
    """
    try:
        schema = workflow.model_json_schema()
    except PydanticInvalidForJsonSchema as error:
        raise PluginError(f"kind {kind!r} has no JSON schema: {error.message}") from error
    for name, doc in field_docs(workflow).items():
        schema["properties"][name].setdefault("description", doc)
    return {"kind": kind, "version": workflow.version, **schema}


def field_docs(workflow: type[BaseModel]) -> dict[str, str]:
    """Return the text of each field: its ``Field(description=...)``, else the docstring below it."""
    docs: dict[str, str] = {}
    for ancestor in reversed(workflow.__mro__):
        if issubclass(ancestor, BaseModel) and ancestor is not BaseModel:
            docs.update(_docstrings(ancestor))
    for name, field in workflow.model_fields.items():
        if field.description:
            docs[name] = field.description
    return {name: doc for name, doc in docs.items() if name in workflow.model_fields}


def first_line(workflow: type[Workflow]) -> str:
    """Return the first line of a class's docstring; a subclass does not inherit one."""
    return (workflow.__doc__ or "(not described)").strip().split("\n")[0]


def origin_of(workflow: type[Workflow]) -> str:
    """Return where a class comes from, as a person would look for it."""
    if issubclass(workflow, DeclaredWorkflow):
        return f"the table [kind.{workflow.kind}]"
    module = sys.modules.get(workflow.__module__)
    is_plugin = module is not None and module.__spec__ is not None and module.__name__.startswith("socm_plugin_")
    return str(module.__file__) if is_plugin and module else workflow.__module__


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the string literals that stand below the fields of a class in its source."""
    try:
        tree = ast.parse(dedent(inspect.getsource(model)))
    except (OSError, TypeError):  # made by create_model: there is no source
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    docs = {}
    for field, text in pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                docs[name] = inspect.cleandoc(doc)
    return docs


def _described(name: str, field: FieldInfo, doc: str) -> FieldDescription:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    is_aside = any(isinstance(marker, NotIdentity) for marker in field.metadata)
    return FieldDescription(
        name=name,
        type=type_words(field.annotation, field.metadata),
        unit=str(extra.get("unit", "")),
        limits=_limits(field.metadata),
        default="" if field.is_required() else _default(field),
        is_required=field.is_required(),
        doc=f"{doc}\nDoes not count for the identity.".strip() if is_aside else doc,
    )


def type_words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Return a type in words: ``list of number``, ``one of "a", "b"``, ``size ("8 GiB")``."""
    for marker, words in ((_SIZE, 'size ("8 GiB")'), (_SPAN, 'time span ("20 min")'), (_QUERY, "SQL condition")):
        if marker in metadata:
            return words
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_words(arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(type_words(part) for part in arguments if part is not NoneType))
    if origin is Literal:
        return "one of " + ", ".join(json.dumps(choice) for choice in arguments)
    if origin is dict:
        return f"table of {type_words(arguments[1])}"
    if origin is tuple and Ellipsis not in arguments:
        return f"[{', '.join(type_words(part) for part in arguments)}]"
    if origin in (tuple, list, set, frozenset):
        return "list of " + ", ".join(type_words(part) for part in arguments if part is not Ellipsis)
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return f"table with {', '.join(annotation.model_fields)}"
    return _WORDS.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _limits(metadata: Sequence[Any]) -> str:
    if _SIZE in metadata or _SPAN in metadata:
        return ""
    parts = []
    for marker in metadata:
        match marker:
            case Gt():
                parts.append(f"> {marker.gt}")
            case Ge():
                parts.append(f">= {marker.ge}")
            case Lt():
                parts.append(f"< {marker.lt}")
            case Le():
                parts.append(f"<= {marker.le}")
            case MinLen() if marker.min_length > 1:
                parts.append(f"at least {marker.min_length} long")
            case MinLen():
                parts.append("not empty")
            case MaxLen():
                parts.append(f"at most {marker.max_length} long")
    return ", ".join(parts)


def _default(field: FieldInfo) -> str:
    """Return a default as a campaign file would write it."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, timedelta):
        return json.dumps(format_span(value.total_seconds()))
    if _SIZE in field.metadata and isinstance(value, int):
        return json.dumps(format_size(value))
    return "none" if value is None else json.dumps(value, default=str, ensure_ascii=False)
