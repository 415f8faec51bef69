"""One workflow table -> its tasks: read once per set of ancestors and parameters, built, expanded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from os.path import normpath
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from socm_like.campaign import Campaign
from socm_like.document import KeyPath
from socm_like.entry import Entry
from socm_like.errors import SocmError
from socm_like.faults import faults_of, shown
from socm_like.labels import LONGEST, cut, labels_of
from socm_like.pairing import Index, Instance, Reading, TooManyError, readings
from socm_like.reads import Place, changed, is_written, resolved
from socm_like.recipe import Made, Recipe, RecipeError, TaskMaker, blame
from socm_like.references import OUTPUT, OutputReference, Resolver, contract_problems, names_in, output_references
from socm_like.shared_sweeps import NO_GROUPS
from socm_like.sweep import MOST, SweepError
from socm_like.sweeps import swept_keys
from socm_like.task import Task
from socm_like.trials import trial_task, trial_workflow
from socm_like.variations import Variation, Variations
from socm_like.workflow import Workflow

Upstream = dict[str, tuple[str, str]]
"""Task -> its identity and its folder."""
Swept = tuple[Any, frozenset[Path], Upstream]
"""A value of a sweep, the input files it names, and the tasks whose outputs it names."""

_NO_FILES: frozenset[Path] = frozenset()
_MAY_NAME_FILES = frozenset((str, list, dict))


class TableError(SocmError):
    """What is wrong with a table: for each problem the place in the document, the workflow's name, and a message."""

    def __init__(self, problems: Iterable[tuple[KeyPath, str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(message for _, _, message in self.problems))


@dataclass
class Known:
    """What there is so far: the tasks of the workflows that others may refer to."""

    campaign: Campaign
    maker: TaskMaker
    expected: dict[str, dict[str, str]] = field(default_factory=dict)
    """Workflow -> files of it that others refer to."""
    _instances: dict[str, Sequence[Instance]] = field(default_factory=dict)
    _indexes: dict[str, Index] = field(default_factory=dict)

    def add(self, name: str, instances: Sequence[Instance]) -> None:
        """Note the tasks of a workflow."""
        self._instances[name] = instances
        self._indexes[name] = Index(name, instances)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks, in the order in which they were added."""
        return tuple(instance.task for instances in self._instances.values() for instance in instances)

    def is_whole(self, name: str) -> bool:
        """Whether all workflows that a name stands for have their tasks; one without has faults of its own."""
        members = self.campaign.members(name)
        return bool(members) and all(self._instances.get(member) for member in members)

    def sources(self, entry: Entry) -> list[tuple[str, Sequence[Instance]]]:
        """Return the workflows that ``for_each`` names, with their tasks; one without tasks has faults of its own."""
        return [(name, found) for name in _names(entry, "for_each") if (found := self._instances.get(name))]

    def targets(self, name: str, reading: Reading) -> list[Instance]:
        """Return the tasks that a name stands for: those that agree with a reading in all that both have."""
        found: list[Instance] = []
        for member in self.campaign.members(name):
            if member in reading.bound:
                found.append(reading.bound[member])
            elif member in self._indexes:
                found.extend(self._indexes[member].matching(reading.bound, reading.shared))
        return found

    def upstream(self, entry: Entry, reading: Reading, swept: Collection[str] = ()) -> dict[str, tuple[str, str]]:
        """Return the tasks that a table waits for: those it refers to, and all of those it depends on.

        Without those of the workflows that only its sweeps name: each set has its own.
        """
        gathered = {member for name in _names(entry, "depends_on") for member in self.campaign.members(name)}
        found: dict[str, tuple[str, str]] = {}
        for name in self.campaign.upstream[entry.name]:
            if name in swept:
                continue
            if name in self.campaign.driven:
                found.update(self.upstream(self.campaign.entries[name], reading))
                continue
            gathers = name in gathered and name not in reading.bound
            for instance in self._instances.get(name, ()) if gathers else self.targets(name, reading):
                found[instance.task.name] = (instance.task.id, instance.task.folder)
        return found


class Table:
    """Makes the tasks of one workflow table."""

    def __init__(self, known: Known, entry: Entry, variations: Variations) -> None:
        self._known = known
        self._entry = entry
        self._kind = known.campaign.registry[entry.kind]
        self._variations = variations
        self._swept = swept_keys(variations.layers)
        self._names = variations.names
        self._labels: set[str] = set()
        self._cut_names: set[str] = set()
        self._places: dict[str, Place | None] = {}
        self._last: tuple[Any, Reading, Recipe] | None = None
        """The recipe made last, what it depended on, and the reading, which must live as long."""
        self._recipe_problems: list[tuple[KeyPath, str]] = []
        """What is wrong with the words of the recipe made last."""
        self._refers = bool(known.campaign.upstream[entry.name])
        self._swept_workflows = self._named_by_sweeps_only()
        self._resolved: dict[tuple[str, str], Swept] = {}
        self._unmatched: set[OutputReference] = set()
        """References for which no task was found, though there are tasks."""
        self._is_incomplete = variations.ancestors is None or not all(map(known.is_whole, _names(entry, "for_each")))
        """Whether a workflow of its ``for_each`` is wrong: what depends on its tasks cannot be told."""

    def unfold(self) -> Iterator[Instance]:
        """Yield the tasks. Raises TableError with what is wrong with the first that is wrong."""
        sources = self._known.sources(self._entry)
        try:
            rows = readings(sources)
        except TooManyError as error:
            raise self._error([(("for_each",), f"for_each: {error}")]) from error
        if self._is_incomplete:
            rows = [replace(row, given={**self._variations.any_given(), **row.given}) for row in rows[:1]]
        is_empty = True
        try:
            if sum(self._variations.least_number(row.shared) for row in rows) > MOST:
                self._fail([((), f"more than {MOST} tasks; make fewer, or several campaigns")])
            for reading in rows:
                for variation in self._variations.sets(reading.shared, reading.given):
                    is_empty = False
                    yield from self._instances(reading, variation)
            if is_empty and any(self._variations.tally.exclusions.values()):
                raise self._variations.tally.nothing_left()
        except SweepError as error:  # an expression has no value for some combination
            if self._is_incomplete:
                return
            key = self._entry.sweeps[-1].key
            raise TableError(
                ((*key, *place), self._entry.name, f"sweep: {message}") for place, message in error.faults
            ) from error
        if is_empty:
            names = " and ".join(name for name, _ in sources)
            self._fail([(("for_each",), f"for_each: {names} have no tasks that belong together")])

    def check(self) -> None:
        """Raise TableError with what is wrong with the keys as they are written, whatever the sweeps do."""
        self._is_incomplete = True
        recipe = self.recipe(Reading())
        found = list(self._recipe_problems)
        try:
            self._known.maker.build(recipe.kind, recipe.values)
        except ValidationError as error:
            found += faults_of(error, self._kind, recipe.values)
        except (Exception, SystemExit):  # noqa: BLE001 - the class may miss what the sweep would give
            pass
        self._fail([(key, message) for key, message in found if is_written(key, self._entry.values)])

    def recipe(self, reading: Reading) -> Recipe:
        """Return what is the same for all tasks with the same ancestors and shared parameters."""
        key = (id(reading.bound), tuple(reading.shared.items()) if self._refers else ())
        if self._last is not None and self._last[0] == key:
            return self._last[2]
        resolver = Resolver(str(self._known.campaign.document.folder), self._paths(reading))
        values = resolver.resolve(self._kind, self._entry.values)
        for name, default in table_defaults(self._kind).items():
            if isinstance(values.get(name, {}), dict) and (default or name in values):
                values[name] = {**default, **values.get(name, {})}
        unmatched = [
            (key, f"there is no task of {reference.workflow} for {','.join(reading.parts) or 'this set'}")
            for key, reference in output_references(dict(self._entry.values))
            if reference in self._unmatched
        ]
        self._unmatched.clear()
        problems = [*resolver.problems, *unmatched, *contract_problems(values)]
        self._recipe_problems = [(key, f"{'.'.join(map(str, key))}: {message}") for key, message in problems]
        recipe = Recipe(
            workflow=self._entry.name,
            kind=self._entry.kind,
            values=values,
            inputs=tuple(sorted(resolver.inputs)),
            upstream=self._known.upstream(self._entry, reading, self._swept_workflows),
            environment=self._known.campaign.environment,
            folder=str(self._known.campaign.document.folder),
            expected=self._known.expected.get(self._entry.name, {}),
            ancestors={name: instance.task.name for name, instance in reading.bound.items()},
        )
        self._last = (key, reading, recipe)
        return recipe

    def _built(self, recipe: Recipe, values: Mapping[str, Any]) -> Workflow:
        """Return the workflow of a table with these values in place of its own. Raises TableError with all faults."""
        values = {**recipe.values, **values}
        problems = self._recipe_problems
        try:
            workflow = self._known.maker.build(recipe.kind, values)
        except ValidationError as error:
            raise self._error([*problems, *faults_of(error, self._kind, values)]) from error
        except (Exception, SystemExit) as error:
            problem = f"{self._entry.kind} cannot be built: {blame(error)}"
            raise self._error([*problems, ((), problem)]) from error
        self._fail(problems)
        return workflow

    def _instances(self, reading: Reading, variation: Variation) -> Iterator[Instance]:
        """Yield the tasks of one parameter set: one, unless the kind expands."""
        if variation.shared:
            reading = replace(reading, shared={**reading.shared, **variation.shared})
        recipe = self.recipe(reading)
        values, files, upstream = self._swept_values(recipe.values, reading, variation)
        if upstream:
            recipe = replace(recipe, upstream={**recipe.upstream, **upstream})
        workflow = self._built(recipe, values)
        search = (self._search(workflow, reading) or ()) if self._kind.driven else ()
        given = {**reading.given, **variation.values} if reading.given else variation.values
        problems: list[tuple[KeyPath, str, str]] = []
        for member, own_label in self._expand(workflow):
            parts = tuple(part for part in (*reading.parts, variation.label, own_label) if part)
            if ",".join(parts) in self._labels:
                parts = (*parts, str(len(self._labels)))
            label = ",".join(parts)
            self._labels.add(label)
            name = self._name(label)
            try:
                task = self._known.maker.make(recipe, member, Made(name, files, self._names, *search))
            except RecipeError as error:
                problems.extend(self._error(error.problems).problems)
            else:
                yield Instance(task, parts, reading.bound, reading.shared, given)
        if problems:
            raise TableError(problems)

    def _name(self, label: str) -> str:
        """Return a name that no other task has: of very many long labels, two that are cut may look alike."""
        name = f"{self._entry.name}[{cut(label)}]" if label else self._entry.name
        if len(label) > LONGEST:
            digits = 8
            while name in self._cut_names:
                digits *= 2
                name = f"{self._entry.name}[{cut(label, digits)}]"
            self._cut_names.add(name)
        return name

    def _swept_values(
        self, values: Mapping[str, Any], reading: Reading, variation: Variation
    ) -> tuple[dict[str, Any], frozenset[Path], Upstream]:
        """Return the keys of the table that a parameter set changes, and the files and tasks that the set names."""
        places: list[tuple[Place, Any]] = []
        files = _NO_FILES
        upstream: Upstream = {}
        given = self._variations.of_ancestors(reading.given) if reading.given else ()
        for name, value in (*given, *variation.values.items()):
            if name not in self._places:
                self._places[name] = self._variations.place(name)
            place = self._places[name]
            if place is None:
                continue
            if type(value) in _MAY_NAME_FILES:
                value, named, tasks = self._word(name, place[0], value, reading)  # noqa: PLW2901 - the same value, resolved
                files = files | named if named else files
                upstream = {**upstream, **tasks} if tasks else upstream
            places.append((place, value))
        return changed(values, places), files, upstream

    def _word(self, name: str, field: str, value: Any, reading: Reading) -> Swept:
        """Return a swept value with the files in it made absolute, these files, and the tasks that leave them."""
        text = repr(value)
        key = (name, text)
        if key in self._resolved:
            return self._resolved[key]
        folder = str(self._known.campaign.document.folder)
        found, files, problems = resolved(self._kind, field, value, folder, self._paths(reading))
        problems += [f"{reference}: there is no such task for this set" for reference in self._unmatched]
        self._unmatched.clear()
        self._fail([((name,), f"{name}: {problem}") for problem in problems])
        if OUTPUT in text:
            names = [reference.workflow for _, reference in output_references(value)]
            tasks = [instance.task for one in names for instance in self._known.targets(one, reading)]
            return found, files, {task.name: (task.id, task.folder) for task in tasks}
        self._resolved[key] = (found, files, {})
        return self._resolved[key]

    def _named_by_sweeps_only(self) -> frozenset[str]:
        """Return the workflows that only the sweeps of the table refer to."""
        campaign, entry = self._known.campaign, self._entry
        fixed = {member for _, name, _ in names_in(entry.values) for member in campaign.members(name)}
        swept = {
            member
            for sweep in entry.sweeps
            for _, reference in output_references(sweep.table)
            for member in campaign.members(reference.workflow)
        }
        return frozenset(swept - fixed)

    def _paths(self, reading: Reading) -> Callable[[OutputReference], Sequence[str]]:
        store = self._known.maker.store

        def paths(reference: OutputReference) -> Sequence[str]:
            targets = [] if reference.problem else self._known.targets(reference.workflow, reading)
            if self._is_incomplete:
                targets = targets[:1]
            if not targets:
                if self._known.is_whole(reference.workflow):
                    self._unmatched.add(reference)
                return [f"/unresolved/{reference.workflow}/{reference.path}"]
            folders = [(f"{store}/{instance.task.folder}", instance.task.outputs) for instance in targets]
            if not reference.path:
                return [folder for folder, _ in folders]
            return [f"{folder}/{normpath(outputs.get(reference.path, reference.path))}" for folder, outputs in folders]

        return paths

    def _search(self, workflow: Workflow, reading: Reading) -> tuple[Recipe, Task] | None:
        """Return how a search makes its trials, and what one of them is like."""
        name = getattr(workflow, self._kind.driven)
        entry = self._known.campaign.entries.get(name)
        if entry is None or name not in self._known.campaign.driven:
            return None  # a fault of the edges
        driven = self._known.campaign.registry[entry.kind]
        table = Table(self._known, entry, Variations(entry, driven, NO_GROUPS))
        recipe = table.recipe(reading)
        tasks = []
        for parameters in workflow.probes() or ({},):
            try:
                trial = trial_workflow(recipe, self._known.maker, parameters)
                tasks.append(trial_task(recipe, self._known.maker, trial, name=name, swept=()))
            except (RecipeError, ValueError) as error:
                raise self._error([((), f"{name} refuses {shown(dict(parameters))}: {error}")]) from error
        return recipe, tasks[0]

    def _expand(self, workflow: Workflow) -> list[tuple[Workflow, str]]:
        """Return the workflows that one stands for, each with its label."""
        try:
            members = list(workflow.expand())
            if not members:
                raise ValueError("there is no task in it")
            for member in members:
                if type(member) is not self._kind:
                    self._check_kind(member)
            return list(zip(members, labels_of(members), strict=True))
        except (Exception, SystemExit) as error:
            raise self._error([((), f"{self._entry.kind} cannot be expanded: {blame(error)}")]) from error

    def _check_kind(self, member: Any) -> None:
        registry = self._known.campaign.registry
        if not isinstance(member, Workflow) or member.kind not in registry or registry[member.kind] is not type(member):
            found = f"a {type(member).__name__}" if isinstance(member, Workflow) else shown(member)
            raise ValueError(f"{found} is no workflow of a registered kind")

    def _fail(self, problems: Sequence[tuple[KeyPath, str]]) -> None:
        if problems:
            raise self._error(problems)

    def _error(self, problems: Iterable[tuple[KeyPath, str]]) -> TableError:
        """Return the error that these problems of the table are; of a swept value, its sweep is the place."""
        return TableError((self._place(key), self._entry.name, message) for key, message in problems)

    def _place(self, key: KeyPath) -> KeyPath:
        names = [".".join(map(str, key[:length])) for length in range(len(key), 0, -1)]
        is_whole = bool(names) and not is_written(key, self._entry.values)
        inside = [name for name in self._swept if is_whole and name.startswith(f"{names[-1]}.")]
        found = next((self._swept[name] for name in (*names, *map(str, key), *inside) if name in self._swept), None)
        return found or self._entry.where(key)


def _names(entry: Entry, key: str) -> list[str]:
    """Return the workflows that a table names under a key; what is no name has faults of its own."""
    names = entry.values.get(key)
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


@cache
def table_defaults(kind: type[Workflow]) -> Mapping[str, Mapping[str, str]]:
    """Return what a kind has in the tables that a campaign adds to, rather than replaces."""
    fields = ((name, kind.model_fields[name]) for name in ("environment", "outputs", "parameters"))
    return {name: field.get_default(call_default_factory=True, validated_data={}) for name, field in fields}
