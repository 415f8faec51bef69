"""Pydantic's findings in our words: what was found, what is allowed, what was probably meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from socm_like.errors import listed, suggest


def faults_of(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the key path and the message of every fault in a validation error."""
    for fault in error.errors(include_url=False):
        location = fault["loc"]
        key = ".".join(str(part) for part in location)
        match fault["type"]:
            case "extra_forbidden":
                allowed = _keys(model, location[:-1])
                last = str(location[-1])
                yield location, f"unknown key {last!r}; allowed: {listed(allowed)}{suggest(last, allowed)}"
            case "missing":
                yield location, f"the required key {key!r} is missing"
            case "value_error":
                yield (
                    location,
                    f"{key}: {fault['msg'].removeprefix('Value error, ')}"
                    if key
                    else fault["msg"].removeprefix("Value error, "),
                )
            case _:
                message = fault["msg"][0].lower() + fault["msg"][1:]
                yield location, f"{key}: {message}, got {_shown(fault['input'])}"


def _keys(model: type[BaseModel], location: tuple[str | int, ...]) -> set[str]:
    """Return the keys allowed at a place inside a model."""
    present: Any = model
    for part in location:
        field = (
            present.model_fields.get(str(part))
            if isinstance(present, type) and issubclass(present, BaseModel)
            else None
        )
        if field is None:
            return set()
        present = field.annotation
    if isinstance(present, type) and issubclass(present, BaseModel):
        return set(present.model_fields)
    return set()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
