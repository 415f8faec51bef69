"""Words of a campaign file that stand for files: ``output://workflow/path``, ``file://path``, paths, outputs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from os.path import exists, isfile, join, normpath
from pathlib import Path
from typing import Any, get_args, get_origin

from socm_like.document import KeyPath
from socm_like.errors import suggest
from socm_like.faults import branches, is_model, shown
from socm_like.fields import FileWords
from socm_like.workflow import Workflow, placeholders

OUTPUT = "output://"
FILE = "file://"

OWN_FILES = ("task.json", "result.json", "error.json")
"""What we ourselves write into the directory of a task."""


@dataclass(frozen=True, slots=True)
class OutputReference:
    """``output://workflow/path``, found at the end of a word; ``prefix`` is what stands before it."""

    prefix: str
    workflow: str
    path: str

    def __str__(self) -> str:
        return f"{OUTPUT}{self.workflow}/{self.path}" if self.path else f"{OUTPUT}{self.workflow}"

    @property
    def problem(self) -> str:
        """What is wrong with the words of it, or an empty string."""
        if not self.workflow:
            return f"{self} names no workflow; write output://workflow/path"
        if OUTPUT in self.path or FILE in self.prefix or FILE in self.path:
            return f"{self.prefix}{self} holds several references; a word holds one, at its end"
        return path_problem(self.path, "path") if self.path else ""


def output_reference(word: str) -> OutputReference | None:
    """Return the reference at the end of a word, if it holds one."""
    prefix, found, rest = word.partition(OUTPUT)
    if not found:
        return None
    workflow, _, path = rest.partition("/")
    return OutputReference(prefix, workflow, path.rstrip("/") or path)


def output_references(value: Any, key: KeyPath = ()) -> Iterator[tuple[KeyPath, OutputReference]]:
    """Yield every reference in a value with the key path inside the value."""
    if isinstance(value, str):
        if OUTPUT in value and (reference := output_reference(value)) is not None:
            yield key, reference
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from output_references(item, (*key, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from output_references(item, (*key, index))


def names_in(values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield every workflow or group a table names: the key that names it, the name, what is wrong with the words."""
    for where in ("for_each", "depends_on"):
        names = values.get(where, [])
        for index, named in enumerate(names if isinstance(names, list) else []):
            if isinstance(named, str):
                yield (where, index), named, ""
    for name, value in values.items():
        if name not in ("depends_on", "for_each"):
            for key, reference in output_references(value, (name,)):
                yield key, reference.workflow, reference.problem


def cycles(upstream: Mapping[str, Iterable[str]]) -> Iterator[list[str]]:
    """Yield ``a, b, a`` for each edge that closes a cycle; without those edges there is none."""
    finished: set[str] = set()
    for root in upstream:
        path = [root] if root not in finished else []
        stack = [iter(upstream[name]) for name in path]
        on_path = set(path)
        while stack:
            after = next(stack[-1], None)
            if after is None:
                stack.pop()
                finished.add(path[-1])
                on_path.discard(path.pop())
            elif after in on_path:
                yield [*path[path.index(after) :], after]
            elif after not in finished:
                path.append(after)
                on_path.add(after)
                stack.append(iter(upstream[after]))


def split_commands(workflow: type[Workflow], values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a table with each command line that is one string split as a shell would, and what cannot be split."""
    split, problems = dict(values), {}
    for name, value in values.items():
        if isinstance(value, str) and _role(workflow, name) == "word":
            try:
                split[name] = split_words(value)
            except ValueError as error:
                split[name], problems[name] = [value], str(error)
    return split, problems


def split_words(command: str) -> list[str]:
    """Return the words of a command line. Raises ValueError when a quotation is not closed."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ValueError(f"{str(error).lower()} in {shown(command)}") from error


@dataclass(frozen=True, slots=True)
class Resolver:
    """Replaces the words of one table by absolute paths, noting what each path stands for."""

    folder: str
    """Where relative paths start: the folder of the file that wrote them."""
    outputs: Callable[[OutputReference], Sequence[str]]
    """The absolute paths an ``output://`` reference stands for."""
    inputs: set[Path] = field(default_factory=set)
    """Collects the input files that were met."""
    problems: list[tuple[KeyPath, str]] = field(default_factory=list)
    """Collects the words that stand for nothing: a missing file, several outputs where one is wanted."""

    def resolve(self, workflow: type[Workflow], values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the table with every word resolved as far as that goes; command lines have been split."""
        return {name: self.value(value, (name,), *_reading(workflow, name)) for name, value in values.items()}

    def value(self, value: Any, key: KeyPath, role: str, annotation: Any = None) -> Any:
        """Return a value with every word in it resolved, read as the role says: ``path``, ``word`` or ``text``."""
        if isinstance(value, str):
            words = self._word(value, key, role)
            if len(words) > 1:
                hint = f"; take one per task with for_each = {value.partition(OUTPUT)[2].partition('/')[0]!r}"
                self.problems.append((key, f"{value!r} stands for {len(words)} files, this key takes one{hint}"))
            return words[0]
        if isinstance(value, list):
            items: list[Any] = []
            for index, item in enumerate(value):
                if isinstance(item, str):
                    items.extend(self._word(item, (*key, index), role))
                else:
                    items.append(self.value(item, (*key, index), role, _item_type(annotation)))
            return items
        if isinstance(value, dict):
            return {
                name: self.value(item, (*key, name), *_reading_inside(annotation, name, role))
                for name, item in value.items()
            }
        return value

    def _word(self, word: str, key: KeyPath, role: str) -> Sequence[str]:
        if "://" in word:
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

    def _file(self, text: str, key: KeyPath) -> str:
        """Return the absolute path of an input; ``models.py:name`` names something inside the file."""
        path, inside = normpath(join(self.folder, text)), ""
        if ":" in text and not exists(path):
            head, _, tail = path.rpartition(":")
            if isfile(head):
                path, inside = head, f":{tail}"
        if not text:
            self.problems.append((key, "file:// names no file; write file://path"))
        elif not exists(path):
            self.problems.append((key, f"no such file: {path}{_nearest(path)}"))
        else:
            self.inputs.add(Path(path))
        return f"{path}{inside}"


def _nearest(path: str) -> str:
    """Return ``; did you mean 'x'?`` for a file with a similar name in the same folder."""
    folder, _, name = path.rpartition("/")
    try:
        return suggest(name, os.listdir(folder or "/"))
    except (OSError, ValueError):
        return ""


@cache
def _reading(workflow: type[Workflow], name: str) -> tuple[str, Any]:
    """Return how the words of a field are read, and its type if that says more about the words inside."""
    field = workflow.model_fields.get(name)
    if field is None or name in Workflow.model_fields or not _mentions_model(field.annotation):
        return _role(workflow, name), None
    return _role(workflow, name), field.annotation


@cache
def _role(workflow: type[Workflow], name: str) -> str:
    """Return how plain words of a field are read: as a ``path``, as a ``word`` of a command, or as they are."""
    field = workflow.model_fields.get(name)
    if field is None:
        return "text"
    if any(isinstance(marker, FileWords) for marker in field.metadata):
        return "word"
    return "path" if _mentions_path(field.annotation) else "text"


def path_inputs(workflow: Workflow, store: str) -> Iterator[Path]:
    """Yield the files and folders in the path fields of a workflow, defaults included, but for outputs of tasks."""
    for name in _path_fields(type(workflow)):
        value = getattr(workflow, name)
        paths = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,)
        for path in paths:
            if (
                isinstance(path, Path)
                and path.is_absolute()
                and not f"{path}/".startswith(f"{store}/")
                and exists(path)
            ):
                yield path


@cache
def _path_fields(workflow: type[Workflow]) -> tuple[str, ...]:
    return tuple(name for name in workflow.model_fields if _role(workflow, name) == "path")


def _reading_inside(annotation: Any, name: str, role: str) -> tuple[str, Any]:
    """Return the same for a key of a table inside a field: the field of a model, or an item of a plain table."""
    for branch in branches(annotation) if annotation is not None else ():
        if is_model(branch) and name in branch.model_fields:
            inner = branch.model_fields[name].annotation
        elif get_origin(branch) is dict:
            inner = get_args(branch)[1]
        else:
            continue
        return "path" if _mentions_path(inner) else "text", inner
    return role, None


def _item_type(annotation: Any) -> Any:
    return next((get_args(branch)[0] for branch in branches(annotation) if get_args(branch)), None)


def _mentions_model(annotation: Any) -> bool:
    return is_model(annotation) or any(_mentions_model(part) for part in get_args(annotation))


def _mentions_path(annotation: Any) -> bool:
    return annotation is Path or any(_mentions_path(part) for part in get_args(annotation))


def path_problem(path: str, what: str) -> str:
    """Return why a path cannot be that of a file inside a task's directory, or an empty string."""
    if not path.strip("/") or path.startswith("/") or ".." in path.split("/") or "\0" in path:
        return f"the {what} {path!r} is not inside the task's directory; write a relative path without '..'"
    return ""


def environment_problem(name: str, value: Any) -> str:
    """Return why a variable cannot be set, or an empty string."""
    if not isinstance(value, str):
        return f"write text in quotes, got {shown(value)}"
    if not name or "=" in name or "\0" in name + value:
        return "a variable has a name without '=', and no NUL in it"
    return ""


def contract_problems(values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Yield what is wrong with the variables and files of a table that the types of its values do not show."""
    environment, outputs, metrics = values.get("environment"), values.get("outputs"), values.get("metrics")
    for name, value in environment.items() if isinstance(environment, dict) else ():
        if problem := environment_problem(name, value):
            yield ("environment", name), problem
    for name, path in outputs.items() if isinstance(outputs, dict) else ():
        if isinstance(path, str) and (problem := _output_problem(path, "output")):
            yield ("outputs", name), problem
    if isinstance(metrics, str) and metrics and (problem := _output_problem(metrics, "metrics file")):
        yield ("metrics",), problem


def _output_problem(path: str, what: str) -> str:
    if path in OWN_FILES:
        return f"{path} is a file of ours; let the program write another"
    if names := placeholders((path,)):
        return f"nothing fills {{{names[0]}}} here; placeholders are for commands"
    return path_problem(path, what)
