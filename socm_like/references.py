"""Words of a campaign file that stand for files: ``output://workflow/path``, ``file://path``, relative paths."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from os.path import exists, isfile, join, normpath
from pathlib import Path
from typing import Any, get_args

from socm_like.document import KeyPath
from socm_like.fields import FileWords
from socm_like.workflow import Workflow

OUTPUT = "output://"
FILE = "file://"


@dataclass(frozen=True, slots=True)
class OutputReference:
    """``output://workflow/path``, found at the end of a word; ``prefix`` is what stands before it."""

    prefix: str
    workflow: str
    path: str


def output_reference(word: str) -> OutputReference | None:
    """Return the reference at the end of a word, if it holds one."""
    prefix, found, rest = word.partition(OUTPUT)
    if not found:
        return None
    workflow, _, path = rest.partition("/")
    return OutputReference(prefix, workflow, path)


def output_references(value: Any, key: KeyPath = ()) -> Iterator[tuple[KeyPath, OutputReference]]:
    """Yield every reference in a value with the key path inside the value."""
    if isinstance(value, str):
        reference = output_reference(value)
        if reference is not None:
            yield key, reference
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from output_references(item, (*key, name))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from output_references(item, (*key, index))


@dataclass(frozen=True, slots=True)
class Resolver:
    """Replaces the words of one table by absolute paths, noting what each path stands for."""

    folder: str
    """Where relative paths start: the folder of the campaign file."""
    outputs: Callable[[OutputReference], Sequence[str]]
    """The absolute paths an ``output://`` reference stands for."""
    inputs: set[Path] = field(default_factory=set)
    """Collects the input files that were met."""
    problems: list[tuple[KeyPath, str]] = field(default_factory=list)
    """Collects the words that stand for nothing: a missing file, several outputs where one is wanted."""

    def resolve(self, workflow: type[Workflow], values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the table with every word resolved as far as that goes."""
        resolved = {}
        for name, value in values.items():
            role = _role(workflow, name)
            if role == "word" and isinstance(value, str):
                value = self._split(value, name)  # noqa: PLW2901 - one string is split as a shell would
            resolved[name] = self._value(value, (name,), role)
        return resolved

    def _value(self, value: Any, key: KeyPath, role: str) -> Any:
        if isinstance(value, str):
            words = self._word(value, key, role)
            if len(words) != 1:
                self.problems.append((key, f"{value!r} stands for {len(words)} files; this key takes one"))
            return words[0]
        if isinstance(value, list):
            items: list[Any] = []
            for index, item in enumerate(value):
                if isinstance(item, str):
                    items.extend(self._word(item, (*key, index), role))
                else:
                    items.append(self._value(item, (*key, index), role))
            return items
        if isinstance(value, dict):
            return {name: self._value(item, (*key, name), role) for name, item in value.items()}
        return value

    def _word(self, word: str, key: KeyPath, role: str) -> Sequence[str]:
        reference = output_reference(word)
        if reference is not None:
            return [f"{reference.prefix}{path}" for path in self.outputs(reference)]
        prefix, found, rest = word.partition(FILE)
        if found:
            return [f"{prefix}{self._file(rest, key)}"]
        if role == "path" and word:
            return [self._file(word, key)]
        if role == "word" and self._names_file(word, key):
            return [self._file(word, key)]
        return [word]

    def _names_file(self, word: str, key: KeyPath) -> bool:
        """Whether a word of a command names an input; a program by absolute path belongs to the machine, not to us."""
        if key == ("command", 0) and word.startswith("/"):
            return False
        return ("." in word or "/" in word) and isfile(join(self.folder, word))

    def _split(self, command: str, name: str) -> list[str]:
        try:
            return shlex.split(command)
        except ValueError as error:
            self.problems.append(((name,), f"{error} in {command!r}"))
            return [command]

    def _file(self, text: str, key: KeyPath) -> str:
        """Return the absolute path of an input; ``models.py:name`` names something inside the file."""
        path, inside = normpath(join(self.folder, text)), ""
        if ":" in text and not exists(path):
            head, _, tail = path.rpartition(":")
            if isfile(head):
                path, inside = head, f":{tail}"
        if not exists(path):
            self.problems.append((key, f"no such file: {path}"))
        else:
            self.inputs.add(Path(path))
        return f"{path}{inside}"


@cache
def _role(workflow: type[Workflow], name: str) -> str:
    """Return how plain words of a field are read: as a ``path``, as a ``word`` of a command, or as they are."""
    field = workflow.model_fields.get(name)
    if field is None:
        return "text"
    if any(isinstance(marker, FileWords) for marker in field.metadata):
        return "word"
    return "path" if _mentions_path(field.annotation) else "text"


def _mentions_path(annotation: Any) -> bool:
    return annotation is Path or any(_mentions_path(part) for part in get_args(annotation))
