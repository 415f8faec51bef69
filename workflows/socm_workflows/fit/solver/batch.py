"""Many fits of one model: which of them share a compiled program, and what becomes of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ParamSpec, TypeVar

from socm_workflows.fit.solver.bulk import describe_many
from socm_workflows.fit.solver.case import Case, check_case
from socm_workflows.fit.solver.formula import ModelFunction
from socm_workflows.fit.solver.lanes import End, Form, forget_programs, minimise_many
from socm_workflows.fit.solver.least_squares import Tolerances
from socm_workflows.fit.solver.pointwise import is_pointwise
from socm_workflows.fit.solver.solution import Solution, solve_case

MOST_LANES = 64
"""From about 32 lanes on, the turn of one lane of 50 points costs the same: 4 us (2 parameters) to 10 us (4)."""
MOST_POINTS = 2**14
"""Points of all lanes together, beyond which more lanes save nothing."""

MOST_PROGRAMS = 16
"""Programs kept at a time; each holds some 15 MB."""

Outcome = Solution | Exception
"""A fit, or what kept it from being made."""


Given = ParamSpec("Given")
Value = TypeVar("Value")


def attempt(function: Callable[Given, Value], *given: Given.args, **named: Given.kwargs) -> Value | Exception:
    """Return what a function returns, or the exception it raises: in a batch one failure is one outcome of many."""
    try:
        return function(*given, **named)
    except Exception as error:  # noqa: BLE001 - a stranger's model, file or disk may raise anything
        return error


class BatchSolver:
    """Solves fits of one model, and remembers which programs have been compiled."""

    def __init__(self, model: ModelFunction, names: Sequence[str], tolerances: Tolerances) -> None:
        self._model = model
        self._names = names
        self._tolerances = tolerances
        self._forms: list[Form] = []
        self._compiled: set[Form] = set()
        self._pointwise: dict[int, bool] = {}
        """By number of predictors."""

    def solve(self, cases: Sequence[Case]) -> list[Outcome]:
        """Return for each case what :func:`solve_case` returns or would raise."""
        outcomes: list[Outcome | None] = [attempt(check_case, self._model, case, self._names) for case in cases]
        groups: dict[Form, list[int]] = defaultdict(list)
        accepted = [index for index, outcome in enumerate(outcomes) if outcome is None and _has_lanes(cases[index])]
        for index in sorted(accepted, key=lambda index: -cases[index].y.size):
            groups[self._form(cases[index], len(accepted))].append(index)
        for form, members in groups.items():
            group = [cases[index] for index in members]
            self._make_room(form)
            with suppress(Exception):  # of a model that bears no vmap, or for want of memory: those left go alone
                for numbers, ends in minimise_many(self._model, group, form, self._tolerances):
                    found = self._describe([group[number] for number in numbers], ends)
                    for number, outcome in zip(numbers, found, strict=True):
                        outcomes[members[number]] = outcome
        return [self._alone(case) if end is None else end for case, end in zip(cases, outcomes, strict=True)]

    def _make_room(self, form: Form) -> None:
        """Forget all programs before there are too many."""
        if form not in self._compiled and len(self._compiled) == MOST_PROGRAMS:
            forget_programs()
            self._compiled.clear()
        self._compiled.add(form)

    def _describe(self, cases: Sequence[Case], ends: End) -> Sequence[Outcome]:
        return describe_many(self._model, cases, ends, names=self._names, tolerances=self._tolerances)

    def _alone(self, case: Case) -> Outcome:
        return attempt(solve_case, self._model, case, names=self._names, tolerances=self._tolerances)

    def _form(self, case: Case, cases: int) -> Form:
        """Return the form for a case: one that there is and that is at most twice as long as needed, else a new one.

        The first is as long as its first case, the longest of the first block, so that data of one length are not
        padded. Later ones have powers of two, so that there are few.
        """
        rows, points = 1 if case.x.ndim == 1 else len(case.x), case.y.size
        of_rows = [form for form in self._forms if form.rows == rows]
        exact = next((form for form in of_rows if form.points == points), None)
        if exact is not None:
            return exact
        if of_rows and self._is_pointwise(rows):
            longer = [form for form in of_rows if points < form.points <= 2 * points]
            if longer:
                return min(longer, key=lambda form: form.points)
            points = power_of_two(points)
        lanes = max(1, min(MOST_LANES, power_of_two(cases), MOST_POINTS // power_of_two(points)))
        self._forms.append(Form(rows, points, lanes))
        return self._forms[-1]

    def _is_pointwise(self, rows: int) -> bool:
        if rows not in self._pointwise:
            self._pointwise[rows] = attempt(is_pointwise, self._model, rows, len(self._names)) is True
        return self._pointwise[rows]


def _has_lanes(case: Case) -> bool:
    """Return whether a case may go into a lane: each point has a sigma of its own."""
    return case.sigma is None or case.sigma.ndim == 1


def power_of_two(number: int) -> int:
    """Return the least power of two that is not below a positive number."""
    return 1 << (number - 1).bit_length()
