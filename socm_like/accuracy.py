"""How good predictions and requests were: per family of tasks and quantity, from the records of finished tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from socm_like.estimate import Family, Learned
from socm_like.experience import Experience
from socm_like.measurements import Measurement, Sizes, sizes_of

_GIB_SECONDS = 2**30 * 3600
"""Byte-seconds of one GiB-hour."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """What was used, over what it was compared with."""

    count: int
    median: float
    exceeded: float
    """Share of the tasks that used more, or would have, had their limit not ended them."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One quantity of one family of tasks."""

    kind: str
    family: str
    quantity: str
    """``memory``, ``gpu_memory`` or ``runtime``."""
    records: int
    """Finished tasks that used some of it."""
    predicted: Ratio | None
    """Against what was predicted before they ran."""
    asked: Ratio | None
    """Against their limits."""
    padding: float
    """What was asked and not used: GiB-hours of memory, core-hours of time."""
    learned: Ratio | None
    """Against what the others would predict now, each task left out in turn."""
    depends_on: tuple[str, ...]
    """Fields that the prediction follows."""
    next: float | None
    """What the next task of the family is predicted to need: bytes, seconds; None where it depends on its fields."""
    program: str = ""
    """The words of the command, of a task that runs one."""


def accuracies(measurements: Sequence[Measurement]) -> Iterator[Accuracy]:
    """Yield how well each quantity of each family was predicted, families in the order of their first task."""
    experience = Experience(measurements)
    families: dict[tuple[str, str], list[Measurement]] = {}
    for measurement in measurements:
        if measurement.shared_by == 1:
            families.setdefault((measurement.kind, measurement.family), []).append(measurement)
    for (kind, name), members in families.items():
        family = experience.family(kind, name)
        for quantity in Sizes._fields:
            found = _accuracy(quantity, members, family)
            if found is not None:
                yield found


def _accuracy(quantity: str, members: Sequence[Measurement], family: Family | None) -> Accuracy | None:
    def of(sizes: Sizes) -> float | None:
        size: float | None = getattr(sizes, quantity)
        return size

    done = [
        each for each in members if each.is_lesson and of(each.used) and not (quantity == "runtime" and each.resumed)
    ]
    if not done:
        return None
    cut = [each for each in members if each.limit == quantity]
    latest = done[-1]
    learned = None if family is None else family.learned(quantity)
    depends_on = () if family is None or learned is None else family.fields_of(learned)
    expected = None if family is None or depends_on else family.predict(latest.fields)
    return Accuracy(
        kind=latest.kind,
        family=latest.family,
        quantity=quantity,
        records=len(done),
        predicted=_ratio(done, cut, lambda each: (of(each.used), of(each.predicted))),
        asked=_ratio(done, cut, lambda each: (of(each.used), of(each.asked))),
        padding=sum(_padding(each, quantity) for each in done),
        learned=None if learned is None else _leave_one_out(learned),
        depends_on=depends_on,
        next=None if expected is None else of(sizes_of(expected)),
        program=_program(latest),
    )


def _ratio(
    done: Sequence[Measurement],
    cut: Sequence[Measurement],
    sizes: Callable[[Measurement], tuple[float | None, float | None]],
) -> Ratio | None:
    """Return what was used over what it is compared with, of the tasks that have both."""
    ratios = [used / other for used, other in map(sizes, done) if used is not None and other]
    ended = sum(1 for each in cut if sizes(each)[1])
    if not ratios:
        return None
    return Ratio(len(ratios), median(ratios), (ended + sum(ratio > 1 for ratio in ratios)) / (ended + len(ratios)))


def _leave_one_out(learned: Learned) -> Ratio:
    exceeded = sum(ratio > 1 + _ROUNDING for ratio in learned.ratios) / len(learned.ratios)
    return Ratio(learned.count, median(learned.ratios), exceeded)


_ROUNDING = 1e-9


def _padding(measurement: Measurement, quantity: str) -> float:
    """Return what one task asked for and did not use: GiB-hours of memory, core-hours of time."""
    asked, used = getattr(measurement.asked, quantity), getattr(measurement.used, quantity)
    if asked is None or used is None or asked <= used:
        return 0.0
    if quantity == "runtime":
        return float(asked - used) * measurement.cores / 3600
    number = max(measurement.gpus, 1) if quantity == "gpu_memory" else 1
    return float(asked - used) * number * (measurement.used.runtime or 0.0) / _GIB_SECONDS


def _program(measurement: Measurement) -> str:
    words = measurement.parameters.get("command", "")
    return " ".join(map(str, words)) if isinstance(words, list | tuple) else str(words)
