"""Pydantic's findings in our words: what was found, what is allowed, what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date, time
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from socm_like.errors import Fault, listed, suggest

Location = tuple[str | int, ...]

_WANTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a table",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a table",
    "path_type": "a path in quotes",
    "string_type": "text in quotes",
    "tuple_type": "a list",
}
"""Pydantic's names of a wrong type -> what to write instead."""


def faults_of(error: ValidationError, model: type[BaseModel], values: Any = None) -> Iterator[tuple[Location, str]]:
    """Yield the key path and the message of every fault in a validation error.

    ``values`` is what was validated: it tells keys from the names of a union's branches, which pydantic puts into
    its locations. The branches of a union have one fault between them.
    """
    wanted: dict[Location, tuple[list[str], Any]] = {}
    others: dict[Location, list[str]] = {}
    for fault in error.errors(include_url=False):
        location = _written(fault["loc"], values, fault["type"])
        if fault["type"] in _WANTED:
            words, _ = wanted.setdefault(location, ([], fault["input"]))
            words.append(_WANTED[fault["type"]])
        elif fault["type"] != "too_short" or not fault["ctx"]["actual_length"] < len(fault["input"]):
            others.setdefault(location, []).append(_message(fault, location, model))
    for location, messages in others.items():
        yield from ((location, message) for message in dict.fromkeys(messages))
    for location, (words, found) in wanted.items():
        rivals = [place for place in (*wanted, *others) if place[: len(location)] == location]
        if rivals == [location]:  # else one branch of a union took the value as far as a fault of its own
            yield location, _prefixed(location, f"write {_either(words)}, got {shown(found)}")


def _written(location: Location, values: Any, kind: str) -> Location:
    """Return the part of a location that stands in the file."""
    if values is None:
        return location
    path: list[str | int] = []
    for index, part in enumerate(location):
        try:
            values = values[part]
        except (LookupError, TypeError):
            if kind != "missing" or index < len(location) - 1:
                continue
        path.append(part)
    return tuple(path)


def _message(fault: Any, location: Location, model: type[BaseModel]) -> str:
    text, last = fault["msg"], str(location[-1]) if location else ""
    match fault["type"]:
        case "extra_forbidden":
            allowed = _keys(model, location[:-1])
            text = f"unknown key {shown(last)}; allowed: {listed(allowed)}{suggest(last, allowed)}"
            return _prefixed(location[:-1], text)
        case "missing":
            return f"the required key {'.'.join(map(str, location))!r} is missing"
        case "value_error" | "assertion_error":
            return _prefixed(location, text.partition(", ")[2])
        case "finite_number":
            text = "write a finite number"
        case "literal_error":
            text = f"write {fault['ctx']['expected']}{_nearest(fault)}"
        case "too_short":
            text = f"write at least {fault['ctx']['min_length']} of them"
        case _:
            text = text[:1].lower() + text[1:]
    return _prefixed(location, f"{text}, got {shown(fault['input'])}")


def _nearest(fault: Any) -> str:
    expected = re.split(r", | or ", fault["ctx"]["expected"])
    return suggest(str(fault["input"]), (word.strip("'") for word in expected))


def _prefixed(location: Location, text: str) -> str:
    key = ".".join(map(str, location))
    return f"{key}: {text}" if key else text


def _either(words: list[str]) -> str:
    """Return ``a, b or c``, each once."""
    *first, last = dict.fromkeys(words)
    return f"{', '.join(first)} or {last}" if first else last


def _keys(model: type[BaseModel], location: Location) -> set[str]:
    """Return the keys allowed at a place inside a model."""
    present: list[Any] = [model]
    for part in location:
        present = [below for annotation in present for below in _below(annotation, part)]
    models = [branch for annotation in present for branch in branches(annotation) if is_model(branch)]
    return {name for inner in models for name in inner.model_fields}


def _below(annotation: Any, part: str | int) -> Iterator[Any]:
    """Yield the types of what may stand under a key, in a model, a table or a list."""
    for branch in branches(annotation):
        if is_model(branch):
            if part in branch.model_fields:
                yield branch.model_fields[part].annotation
        else:
            yield from get_args(branch)[-1:] if get_origin(branch) is dict else get_args(branch)[:1]


def branches(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation allows, one by one."""
    if get_origin(annotation) in (Union, UnionType):
        for branch in get_args(annotation):
            yield from branches(branch)
    elif get_origin(annotation) is Annotated:
        yield from branches(get_args(annotation)[0])
    else:
        yield annotation


def is_model(annotation: Any) -> bool:
    """Whether an annotation is a class of pydantic models."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def shown(value: Any) -> str:
    """Return a value as a TOML file writes it, cut short."""
    match value:
        case bool():
            text = str(value).lower()
        case date() | time():
            text = value.isoformat()
        case tuple():
            text = repr(list(value))
        case _:
            text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def in_order(faults: Iterable[Fault]) -> list[Fault]:
    """Return faults sorted by file and line, each once."""
    return sorted(dict.fromkeys(faults), key=_place)


def _place(fault: Fault) -> tuple[str, int]:
    file, _, line = fault.where.rpartition(":")
    return (file, int(line)) if line.isdecimal() else (fault.where, 0)
