"""What a task asks for and is predicted to need: the user's word, else the larger of estimated and learned."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from socm_like.declared_kind import DeclaredWorkflow
from socm_like.fields import FileWords
from socm_like.identity import digest
from socm_like.resources import Machine, Prediction, Resources
from socm_like.workflow import Workflow

_LEARNED = ("memory", "gpu_memory", "runtime")
_FOLDERS = re.compile(r"(?:/[^/\s=,:]+)+/")
"""The folders of an absolute path."""


class Candidate(NamedTuple):
    """What is known of a task before it is decided what it asks for."""

    kind: str
    family: str
    parameters: Mapping[str, Any]
    inputs: Iterable[str]
    """Files, by their absolute paths."""
    resources: Resources
    """What its kind and the user ask for."""


Predict = Callable[[Candidate], Prediction | None]
"""Returns what a task will need, or None where nobody can tell."""


def nothing_known(_task: Candidate) -> Prediction | None:
    """Return None: no task like it has finished."""
    return None


def stated_by_user(workflow: Workflow) -> tuple[str, ...]:
    """Return the names of the resources that the user states."""
    patch = workflow.resources
    return tuple(sorted(patch.model_dump(exclude_none=True))) if patch.model_fields_set else ()


@dataclass
class Sizer:
    """Sizes the tasks of one store on one machine."""

    machine: Machine
    store: str
    predict: Predict
    _families: dict[tuple[type[Workflow], tuple[Any, ...]], str] = field(default_factory=dict)

    def family_of(self, workflow: Workflow) -> str:
        """Return the version of the kind, and where it runs a program as it is written a digest of its words.

        Of files only the names count: where they lie, and what an earlier task left, differs from task to task.
        """
        kind = type(workflow)
        words: tuple[Any, ...] = (workflow.executable, workflow.subcommand)
        if isinstance(workflow, DeclaredWorkflow):
            words += workflow.command_template
        for name in _words_of(kind):
            value = getattr(workflow, name)
            words += tuple(value) if isinstance(value, tuple | list) else (value,)
        key = (kind, words)
        if key not in self._families:
            text = digest([self._without_place(str(word)) for word in words])[:12] if any(words) else ""
            self._families[key] = f"{kind.version} {text}".strip()
        return self._families[key]

    def _without_place(self, word: str) -> str:
        return _FOLDERS.sub("", re.sub(rf"{re.escape(self.store)}/[^\s=,:]*", "output", word))

    def sized(self, workflow: Workflow, task: Candidate) -> tuple[Resources, Prediction | None]:
        """Return what a task asks for, and what it will need by what is known of tasks like it.

        What one task needs alone says nothing about what many need in one process: of kinds that share one, no limit
        is raised.
        """
        predicted = self._capped(self.predict(task))
        if predicted is None or type(workflow).batch_over:
            return task.resources, predicted
        return _raised(task.resources, predicted, workflow), predicted

    def _capped(self, predicted: Prediction | None) -> Prediction | None:
        """Return a prediction that the machine can meet: one alone makes no task impossible."""
        if predicted is None:
            return None
        most, most_on_gpu = self.machine.memory, self.machine.gpu_memory
        less: dict[str, int] = {}
        if predicted.memory is not None and predicted.memory > most:
            less["memory"] = most
        if predicted.gpu_memory is not None and most_on_gpu is not None and predicted.gpu_memory > most_on_gpu:
            less["gpu_memory"] = most_on_gpu
        return predicted.model_copy(update=less) if less else predicted


@cache
def _words_of(kind: type[Workflow]) -> tuple[str, ...]:
    """Return the fields of a kind that are the words of a command line."""
    return tuple(
        name
        for name in kind.own_field_names()
        if any(isinstance(marker, FileWords) for marker in kind.model_fields[name].metadata)
    )


def _raised(asked: Resources, predicted: Prediction, workflow: Workflow) -> Resources:
    """Return a request whose estimated limits are no lower than what was learned; what the user states stands.

    Where nobody states a limit, none is enforced.
    """
    if asked.memory is None and asked.gpu_memory is None and asked.runtime is None:
        return asked
    stated = workflow.resources.model_fields_set
    more = {
        name: learned
        for name in _LEARNED
        if (estimated := getattr(asked, name)) is not None
        and name not in stated
        and (learned := getattr(predicted, name)) is not None
        and learned > estimated
    }
    return asked.model_copy(update=more) if more else asked
