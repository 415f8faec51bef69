"""From the values of one table to a task: the workflow built, what it asks for, its command line, its identity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from socm_like.declared_kind import DeclaredWorkflow
from socm_like.document import KeyPath
from socm_like.errors import SocmError
from socm_like.faults import shown
from socm_like.fields import NotIdentity
from socm_like.identity import canonical, digest, substitute
from socm_like.references import contract_problems, path_inputs, path_problem
from socm_like.registry import RESERVED_KINDS, Registry
from socm_like.resources import Machine, Resources
from socm_like.sizing import Candidate, Predict, Sizer, nothing_known, stated_by_user
from socm_like.task import Task
from socm_like.workflow import EstimateContext, Workflow

_STRUCTURE = {"resources", "depends_on", "for_each", "environment"}
"""Fields that say where and when, not what; the environment counts, merged with the campaign's."""


class RecipeError(SocmError):
    """What is wrong with a table's values: for each problem the key, and a message."""

    def __init__(self, problems: Sequence[tuple[KeyPath, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(message for _, message in self.problems))


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is the same for all tasks that one table makes for one set of ancestors."""

    workflow: str
    """The table's name."""
    kind: str
    values: Mapping[str, Any]
    """The keys of the table; every word that stands for a file is its absolute path."""
    inputs: tuple[Path, ...] = ()
    """The files it names."""
    upstream: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Task it waits for -> its identity and its folder."""
    expected: Mapping[str, str] = field(default_factory=dict)
    """Files of it that others refer to: name -> path in the task's directory."""
    ancestors: Mapping[str, str] = field(default_factory=dict)
    """Workflow -> the one task of it that ``for_each`` led here from."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The campaign's."""
    folder: str = ""
    """Where relative paths start."""

    def to_json(self) -> dict[str, Any]:
        """Return what :func:`recipe_of` makes a recipe of again."""
        return {**asdict(self), "inputs": [str(path) for path in self.inputs]}


def recipe_of(data: Mapping[str, Any]) -> Recipe:
    """Return the recipe that :meth:`Recipe.to_json` wrote."""
    upstream = {name: (identity, folder) for name, (identity, folder) in data["upstream"].items()}
    return Recipe(**{**data, "inputs": tuple(map(Path, data["inputs"])), "upstream": upstream})


class Made(NamedTuple):
    """What tells one task of a table from the others."""

    name: str
    inputs: Iterable[Path] = ()
    """Files that its own parameters name."""
    swept: tuple[str, ...] = ()
    driven: Recipe | None = None
    """How it makes its trials, where it is a search."""
    trial: Task | None = None
    """What one of these trials is like."""


@dataclass
class TaskMaker:
    """Makes tasks; the store is an absolute path."""

    registry: Registry
    store: str
    machine: Machine
    digest_of: Callable[[Path], str]
    predict: Predict = nothing_known

    def __post_init__(self) -> None:
        self._context = EstimateContext(machine=self.machine)
        self._refusals: dict[tuple[Any, ...], tuple[Resources, Sequence[str]]] = {}
        self._frame: tuple[Any, Mapping[str, str], str, str, Recipe] | None = None
        """The text around the fields in the identity made last, what it depends on, and the recipe, to keep its id."""
        self._asked: tuple[Resources, Sequence[str]] = (Resources(), ())
        self._sound: Mapping[str, Any] = {}
        """The environment, outputs and metrics looked at last, if nothing was wrong with them."""
        self._shared: dict[str, Mapping[str, str]] = {}
        self._sizer = Sizer(self.machine, self.store, self.predict)

    def build(self, kind: str, values: Mapping[str, Any]) -> Workflow:
        """Return the workflow of a table. Raises whatever the class raises, ValidationError for wrong values."""
        return self.registry[kind].model_validate(values, context={"from_file": True})

    def make(self, recipe: Recipe, workflow: Workflow, made: Made) -> Task:
        """Return the task of a workflow. Raises RecipeError."""
        kind, facts = type(workflow), _facts(type(workflow))
        problems: list[tuple[KeyPath, str]] = []
        name = recipe.kind if kind is self.registry[recipe.kind] else kind.kind
        step = "estimate"
        try:
            resources, refusals = self._resources(workflow)
            problems += [(("resources",), f"{made.name} can never run: it {reason}") for reason in refusals]
            step = "identity"
            fields = workflow.model_dump(mode="json", exclude=_STRUCTURE)
            inputs = self._inputs(workflow, recipe.inputs, made.inputs)
            own = {**{key: fields[key] for key in facts.own}, **workflow.parameters}
            candidate = Candidate(name, self._sizer.family_of(workflow), own, inputs, resources)
            resources, predicted = self._sizer.sized(workflow, candidate)
            identity = self._identity(workflow, fields, inputs, recipe, made.trial)
            step = "get_command"
            argv = None if kind.runs_python() else workflow.argv(made.name, resources)
            step = "folder"
            folder = workflow.folder(identity)
        except (Exception, SystemExit) as error:
            raise RecipeError([*problems, _blamed(recipe, step, error)]) from error
        task = Task(
            name=made.name,
            workflow=recipe.workflow,
            kind=name,
            id=identity,
            folder=folder,
            dependencies=tuple(recipe.upstream),
            resources=resources,
            argv=argv,
            environment=self._merged("environment", recipe.environment, workflow.environment),
            outputs=self._merged("outputs", recipe.expected, workflow.outputs),
            metrics=workflow.metrics,
            restartable=workflow.restartable or bool(kind.driven),
            parameters=own,
            fields={key: value for key, value in fields.items() if key not in facts.plain or value != facts.plain[key]},
            inputs=inputs,
            ancestors=recipe.ancestors,
            swept=made.swept,
            batch=self._batch(workflow, fields) if kind.batch_over else "",
            search=None if made.driven is None else made.driven.to_json(),
            predicted=predicted,
            stated=stated_by_user(workflow),
            family=candidate.family,
        )
        problems += [*self._contract_problems(workflow), *_problems(kind, task)]
        if problems:
            raise RecipeError(problems)
        return task

    def _contract_problems(self, workflow: Workflow) -> Iterator[tuple[KeyPath, str]]:
        contract = {"environment": workflow.environment, "outputs": workflow.outputs, "metrics": workflow.metrics}
        if contract == self._sound:
            return
        found = list(contract_problems(contract))
        self._sound = {} if found else contract
        for key, problem in found:
            yield key, f"{'.'.join(map(str, key))}: {problem}"

    def _resources(self, workflow: Workflow) -> tuple[Resources, Sequence[str]]:
        """Return what a workflow asks for, and why it can never run here."""
        asked = workflow.estimate(self._context).patched(workflow.resources)
        if asked is self._asked[0]:
            return self._asked
        key = tuple(asked.__dict__.values())
        if key not in self._refusals:
            self._refusals[key] = (asked, self.machine.refusals(asked))
        self._asked = self._refusals[key]
        return self._asked

    def _merged(self, what: str, first: Mapping[str, str], second: Mapping[str, str]) -> Mapping[str, str]:
        """Return two tables in one; tasks whose tables are equal share it, for there may be many."""
        merged = {**first, **second}
        known = self._shared.get(what)
        if known is not None and known == merged:
            return known
        self._shared[what] = merged
        return merged

    def _inputs(self, workflow: Workflow, *named: Iterable[Path]) -> dict[str, str]:
        """Return the sha256 of every file whose content determines the result."""
        files = {*named[0], *named[1], *path_inputs(workflow, self.store), *workflow.files}
        return {str(path): self.digest_of(path) for path in sorted(files)} if files else _NOTHING

    def _identity(
        self,
        workflow: Workflow,
        fields: Mapping[str, Any],
        inputs: Mapping[str, str],
        recipe: Recipe,
        trial: Task | None,
    ) -> str:
        """Return the digest of what determines the result; where things lie is replaced by what they are."""
        irrelevant = _facts(type(workflow)).irrelevant
        counted = {
            name: value for name, value in fields.items() if (value or name not in _EVERY) and name not in irrelevant
        }  # without what every workflow has and this one leaves empty: there may be more of it one day
        key = (id(recipe), type(workflow), inputs, workflow.environment, trial)
        if self._frame is None or self._frame[0] != key:
            self._frame = (key, *self._framed(workflow, inputs, recipe, trial), recipe)
        _, tokens, before, after, _ = self._frame
        text = canonical(substitute(counted, tokens) if tokens else counted)
        return sha256(f"{before}{text}{after}".encode()).hexdigest()

    def _framed(
        self, workflow: Workflow, inputs: Mapping[str, str], recipe: Recipe, trial: Task | None
    ) -> tuple[Mapping[str, str], str, str]:
        """Return what stands for which path, and the canonical JSON of an identity around its fields.

        It is the same for all tasks of a recipe with the same inputs, of which there may be very many.
        """
        tokens = {f"{self.store}/{folder}": f"output:{identity}" for identity, folder in recipe.upstream.values()}
        tokens.update({path: f"sha256:{found}" for path, found in inputs.items()})
        content: dict[str, Any] = {"environment": {**recipe.environment, **workflow.environment}}
        if isinstance(workflow, DeclaredWorkflow):
            content["command"] = workflow.command_template
        if trial is not None:
            content["driven"] = trial.id
        text = canonical(
            {
                **(substitute(content, tokens) if tokens else content),
                "fields": 0,
                "kind": workflow.kind,
                "version": workflow.version,
                "inputs": sorted(identity for identity, _ in recipe.upstream.values()),
                "files": sorted(inputs.values()),  # so that a path missed in a field costs a run, not a stale result
            }
        )
        before, mark, after = text.rpartition('"fields":0')
        return tokens, before + mark[:-1], after

    def _batch(self, workflow: Workflow, fields: Mapping[str, Any]) -> str:
        """Return what tasks that can share one process have in common, as a digest."""
        return digest(
            {
                "kind": workflow.kind,
                "fields": {name: value for name, value in fields.items() if name not in workflow.batch_over},
                "environment": workflow.environment,
                "resources": workflow.resources.model_dump(mode="json"),
            }
        )


_EVERY = frozenset(Workflow.model_fields)
_NOTHING: dict[str, str] = {}
"""Shared by all tasks without inputs."""


@dataclass(frozen=True)
class _Facts:
    """What is known of a class of workflows."""

    own: tuple[str, ...]
    irrelevant: frozenset[str]
    """Fields that are marked as not changing the result."""
    plain: Mapping[str, Any]
    """The fields every workflow has -> the class's default as JSON; a task need not repeat it."""


@cache
def _facts(kind: type[Workflow]) -> _Facts:
    plain = {
        name: kind.model_fields[name].get_default(call_default_factory=True, validated_data={})
        for name in Workflow.model_fields
    }
    return _Facts(
        own=kind.own_field_names(),
        irrelevant=frozenset(
            name
            for name, field in kind.model_fields.items()
            if any(isinstance(marker, NotIdentity) for marker in field.metadata)
        ),
        plain={name: value for name, value in plain.items() if isinstance(value, str | dict)},
    )


def _blamed(recipe: Recipe, step: str, error: BaseException) -> tuple[KeyPath, str]:
    """Return where something went wrong while a task was made, and what."""
    place: KeyPath = ("command",) if step == "get_command" and "command" in recipe.values else ()
    is_told = isinstance(error, ValueError) or (isinstance(error, OSError) and error.filename)
    return place, blame(error) if is_told else f"{recipe.kind}.{step}: {blame(error)}"


def blame(error: BaseException) -> str:
    """Return what went wrong, as a sentence for a fault."""
    if isinstance(error, OSError) and error.filename:
        return f"cannot read {error.filename}: {error.strerror}"
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _are_words(argv: Sequence[Any]) -> bool:
    try:
        return "\0" not in "".join(argv)
    except TypeError:
        return False


def _problems(kind: type[Workflow], task: Task) -> Iterator[tuple[KeyPath, str]]:
    """Yield what is wrong with the words and the folder that a class makes of its fields."""
    if task.argv and not _are_words(task.argv):
        for word in task.argv:
            if not isinstance(word, str) or "\0" in word:
                yield (), f"a command is words of text without NUL, got {shown(word)}"
    if kind.folder is Workflow.folder:
        return
    if not isinstance(task.folder, str) or path_problem(task.folder, "folder") or task.folder.startswith("."):
        yield (), f"{task.kind}.folder returned {shown(task.folder)}, which is no folder inside the store"
    elif task.folder.split("/")[0] in RESERVED_KINDS:
        yield (), f"{task.kind}.folder returned {shown(task.folder)}, which belongs to runs"
