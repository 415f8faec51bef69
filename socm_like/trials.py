"""A trial of a search: the driven table with parameters put in, made into a task like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from socm_like.faults import faults_of
from socm_like.reads import Place, Reads, changed, resolved
from socm_like.recipe import Made, Recipe, TaskMaker
from socm_like.task import Task
from socm_like.workflow import Workflow


def trial_workflow(recipe: Recipe, maker: TaskMaker, parameters: Mapping[str, Any]) -> Workflow:
    """Return the driven workflow with these parameters set.

    Raises ValueError saying which parameter nothing reads, or which value is refused and why.
    """
    kind = maker.registry[recipe.kind]
    reads = Reads(kind, recipe.values)
    places: list[tuple[Place, Any]] = []
    for name, value in parameters.items():
        place = reads.place(name)
        if place is None:
            raise ValueError(f"{recipe.workflow}: {reads.problem(name)}")
        found, _, problems = resolved(kind, place[0], value, recipe.folder)
        if problems:
            raise ValueError(f"{name}: {problems[0]}")
        places.append((place, found))
    values = {**recipe.values, **changed(recipe.values, places)}
    try:
        return maker.build(recipe.kind, values)
    except ValidationError as error:
        raise ValueError("; ".join(message for _, message in faults_of(error, kind, values))) from error


def trial_task(recipe: Recipe, maker: TaskMaker, workflow: Workflow, *, name: str, swept: tuple[str, ...]) -> Task:
    """Return the task of a trial. Raises RecipeError."""
    return maker.make(recipe, workflow, Made(name, (), swept))
