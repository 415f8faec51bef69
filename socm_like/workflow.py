"""The Workflow contract: subclass it, and one file is a plug-in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, field_validator

from socm_like.errors import PluginError
from socm_like.fields import Model
from socm_like.journal import TaskState
from socm_like.resources import Machine, ResourcePatch, Resources

STEPS = "steps.jsonl"
"""Where a task reports how far it has come: lines of ``{"step": 3, "value": 0.25}`` in its directory."""

Scalar = bool | int | float | str
Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""Names of workflows: a list, or one."""

_PLACEHOLDER = re.compile(r"\{(\{[A-Za-z_][A-Za-z0-9_]*\})\}|(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}")
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Result(Model):
    """What a Python task returns; it becomes ``result.json``."""

    metrics: dict[str, Any] = Field(default_factory=dict)
    """Name -> JSON value; every number in it must be finite, else the task is ``invalid``."""


class EstimateContext(Model):
    """What an estimate may look at."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Trial:
    """One workflow that a search has asked for, and what became of it."""

    task: str
    workflow: Workflow
    state: TaskState
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Empty until it is done."""
    steps: tuple[tuple[int, float], ...] = ()
    """What it has reported so far: step and value."""
    folder: Path | None = None
    """Where its outputs are, once it is done."""
    reason: str = ""
    """Why it did not succeed."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The fields of its kind and its free parameters, as JSON values."""
        return self.workflow.own_fields()


@dataclass(frozen=True, slots=True)
class History:
    """What a search may look at: its own files, and its trials in the order in which it asked for them."""

    directory: Path
    """It exists; what the search keeps there survives crashes and is among its outputs in the end."""
    trials: tuple[Trial, ...]
    make: Callable[[Mapping[str, Any]], Workflow]
    """Returns the driven workflow with these parameters set; raises ValueError where it refuses them."""


class Workflow(Model):
    """One table of a campaign: fields, what it needs, and how it runs.

    A subclass declares its fields and either :meth:`run` (Python) or :meth:`get_command` and
    :meth:`get_arguments` (a program). Everything else has a default.
    """

    kind: ClassVar[str] = ""
    """The registered name; by default the class name without ``Workflow``, in kebab case."""
    version: ClassVar[str] = "1"
    """Part of every task's identity: change it when the same fields give another result."""
    preload: ClassVar[tuple[str, ...]] = ()
    """Modules the warm process imports once, so that a Python task need not."""
    files: ClassVar[tuple[Path, ...]] = ()
    """Files of the kind itself (a script it runs) whose content is part of every task's identity."""
    restartable: ClassVar[bool] = False
    """Whether a new attempt finds the files of the one before and goes on from them."""

    batch_over: ClassVar[tuple[str, ...]] = ()
    """Fields that may differ within a batch; a class that names any has :meth:`run_batch`."""
    driven: ClassVar[str] = ""
    """The field that names the workflow whose tasks are the trials of this one; with it goes :meth:`extend`."""

    executable: str = ""
    """The program to run."""
    subcommand: str = ""
    """The first word after the program."""
    context: str = ""
    """The data context; ``file://`` names a file."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the task."""
    resources: ResourcePatch = ResourcePatch()
    """What overrides the estimate."""
    depends_on: Names = ()
    """Workflows or groups all of whose tasks must succeed first."""
    for_each: Names = ()
    """Makes one task per task of that workflow; of several, per set of tasks with the same ancestors."""
    parameters: dict[str, Scalar] = Field(default_factory=dict)
    """Values for placeholders that are not fields of the kind."""
    outputs: dict[str, str] = Field(default_factory=dict)
    """Files the task leaves: name -> path in its directory; a missing one makes it ``invalid``."""
    metrics: str = ""
    """A JSON file of metrics that the program writes, in the task's directory."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Give the class its default kind; nothing is registered."""
        super().__pydantic_init_subclass__(**kwargs)
        clash = next((name for name in cls.model_fields if name in _NOT_FIELDS), None)
        if clash is not None:
            remedy = f'write {clash}: ClassVar = "..."' if clash in ("kind", "version") else "choose another name"
            raise PluginError(f"{cls.__module__}.{cls.__name__}: {clash!r} cannot be a field; {remedy}")
        if "kind" not in cls.__dict__:
            words = _WORD_START.sub("-", cls.__name__.removesuffix("Workflow"))
            cls.kind = words.strip("_").replace("_", "-").lower()

    @field_validator("parameters")
    @classmethod
    def _are_no_fields(cls, parameters: dict[str, Scalar]) -> dict[str, Scalar]:
        for name in parameters:
            if name in cls.__pydantic_fields__:
                raise ValueError(f"{name!r} is a key of the kind; set it there")
        return parameters

    @classmethod
    def runs_python(cls) -> bool:
        """Whether tasks of this class run in a Python process of ours."""
        return cls.run is not Workflow.run

    def estimate(self, context: EstimateContext) -> Resources:  # noqa: ARG002 - for subclasses
        """Return what the task needs before anything has been measured."""
        return _NOTHING_ASKED

    def expand(self) -> Sequence[Self]:
        """Return the workflows this one stands for, one per task."""
        return (self,)

    def run(self, directory: Path) -> Result:
        """Do the work, writing only inside ``directory``; called in a process of its own."""
        raise NotImplementedError

    @classmethod
    def run_batch(cls, workflows: Sequence[Self], directories: Sequence[Path]) -> Iterator[Result | Exception]:
        """Do the work of several in one process: yield for each, in order, its result or why it failed."""
        raise NotImplementedError

    @classmethod
    def estimate_batch(cls, workflows: Sequence[Self], context: EstimateContext) -> Resources:
        """Return what one process needs for several: as much as all of them, one after the other, on its cores."""
        single = [workflow.estimate(context).patched(workflow.resources) for workflow in workflows]
        memories = [resources.memory for resources in single if resources.memory is not None]
        runtimes = [resources.runtime for resources in single if resources.runtime is not None]
        return single[0].model_copy(
            update={
                "memory": sum(memories) if len(memories) == len(single) else None,
                "runtime": sum(runtimes, timedelta()) if len(runtimes) == len(single) else None,
            }
        )

    def extend(self, history: History) -> Sequence[Workflow]:  # noqa: ARG002 - for subclasses
        """Return the trials to run beside those in flight.

        Called at the start and whenever one has ended; to return nothing while none is in flight ends the search.
        """
        return ()

    def probes(self) -> Sequence[Mapping[str, Any]]:
        """Return parameters like those :meth:`extend` asks for; they are tried on the driven workflow early."""
        return ()

    def stops(self, history: History) -> Sequence[int]:  # noqa: ARG002 - for subclasses
        """Return the indexes of trials in flight that are not worth going on with."""
        return ()

    def get_command(self, **kwargs: Any) -> str | Sequence[str]:  # noqa: ARG002 - for subclasses
        """Return the program: words, or one string split like a shell would.

        Keywords: ``name`` of the task and its ``resources``.
        """
        return (self.executable, *shlex.split(self.subcommand))

    def get_arguments(self, **kwargs: Any) -> str | Sequence[str]:  # noqa: ARG002 - for subclasses
        """Return the program's arguments: words, or one string split like a shell would."""
        return ()

    def argv(self, name: str, resources: Resources) -> tuple[str, ...]:
        """Return the words of the task's command line.

        Raises ValueError when there is no program to run.
        """
        command = self.get_command(name=name, resources=resources)
        words = _words(command)
        if not words or not words[0] or (isinstance(command, str) and command[0].isspace()):
            raise ValueError(f"nothing to run: set executable, or have {type(self).__name__}.get_command return it")
        return (*words, *_words(self.get_arguments(name=name, resources=resources)))

    def folder(self, identity: str) -> str:
        """Return where the task's outputs go, relative to the store."""
        return f"{self.kind}/{identity[:12]}"

    @classmethod
    def own_field_names(cls) -> tuple[str, ...]:
        """Return the names of the fields that the kind adds to those every workflow has."""
        return tuple(name for name in cls.model_fields if name not in Workflow.model_fields)

    def own_fields(self) -> dict[str, Any]:
        """Return the fields of the kind itself, and the free parameters, as JSON values."""
        return {**self.model_dump(mode="json", include=set(self.own_field_names())), **self.parameters}


_NOTHING_ASKED = Resources()
_NOT_FIELDS = frozenset(name for name in vars(Workflow) if name not in Workflow.model_fields)


def _words(command: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(command, str):
        return tuple(shlex.split(command))
    return tuple([word if type(word) is str else _text(word) for word in command])


def fill(words: Sequence[str], values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the words with each ``{name}`` replaced by its value; ``{{name}}`` stands for ``{name}``.

    A list fills a word that is nothing but its placeholder with one word per item, and joins with commas inside
    a longer word. Shell variables (``${HOME}``), JSON and all other braces are left alone.
    Raises ValueError naming every placeholder that nobody fills.
    """
    filled: list[str] = []
    try:
        for parts in _parsed(tuple(words)):
            if len(parts) == 1:
                filled.append(parts[0])
            elif len(parts) == 3 and not parts[0] and not parts[2]:
                value = values[parts[1]]
                if isinstance(value, list | tuple):
                    filled.extend(map(_text, value))
                else:
                    filled.append(_text(value))
            else:
                texts = list(parts)
                texts[1::2] = [_text(values[name]) for name in parts[1::2]]
                filled.append("".join(texts))
    except KeyError as error:
        missing = ", ".join(f"{{{name}}}" for name in placeholders(words) if name not in values)
        known = ", ".join(sorted(values)) or "none"
        raise ValueError(f"nothing fills {missing}; set it under parameters, or use one of: {known}") from error
    return tuple(filled)


@lru_cache(maxsize=256)
def _parsed(words: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(map(_parts, words))


def _parts(word: str) -> tuple[str, ...]:
    """Return the text of a word around its placeholders, and their names: text, name, text, name, ..., text."""
    parts, position = [""], 0
    for match in _PLACEHOLDER.finditer(word):
        parts[-1] += word[position : match.start()]
        position = match.end()
        if match[2]:
            parts += [match[2], ""]
        else:
            parts[-1] += match[1]
    parts[-1] += word[position:]
    return tuple(parts)


def placeholders(words: Sequence[str]) -> list[str]:
    """Return the names of all placeholders in the words, sorted."""
    return sorted({match[2] for word in words if "{" in word for match in _PLACEHOLDER.finditer(word) if match[2]})


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(_text(item) for item in value)
    return str(value)
