"""Names people can read for the tasks of an expansion."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from socm_like.workflow import Workflow

LONGEST = 120
"""Characters of a label, with all that its ancestors contribute."""


def labels_of(members: Sequence[Workflow]) -> list[str]:
    """Return a short distinct label for each workflow of an expansion, made of the fields that differ."""
    if len(members) == 1:
        return [""]
    dumps = [member.own_fields() for member in members]
    keys = [key for key in dumps[0] if any(dump.get(key) != dumps[0][key] for dump in dumps)]
    labels = [",".join(f"{key}={_short(dump.get(key))}" for key in keys) for dump in dumps]
    if len(set(labels)) == len(labels) and all(len(label) <= 100 and label.isprintable() for label in labels):
        return labels
    return [str(index) for index in range(len(members))]


def cut(label: str, digits: int = 8) -> str:
    """Return a label that is not too long for a name; a cut one ends in ``~`` and hex digits of its own hash."""
    if len(label) <= LONGEST:
        return label
    return f"{label[: LONGEST - 1 - digits]}~{hashlib.sha256(label.encode()).hexdigest()[:digits]}"


def _short(value: Any) -> str:
    if isinstance(value, str) and value.startswith("/"):  # a task's name does not depend on where a file lies
        value = value.rpartition("/")[2]
    return f"{value:g}" if isinstance(value, float) else str(value)
