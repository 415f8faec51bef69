"""What finished tasks teach about others: at planning, and while a run goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from socm_like.estimate import LATEST, Family
from socm_like.measurements import InputSizes, Measurement, fields_of, read_measurements
from socm_like.resources import Prediction
from socm_like.sizes import runtime_of
from socm_like.sizing import Candidate
from socm_like.task import Task

NEWS = 10
"""Tasks that must have finished before a family is learned anew, at the least."""
GROWTH = 1.5
"""How many times the tasks it was learned from last there must be; of 10,000 tasks it is learned 17 times."""
SURPRISE = math.log(1.1)
"""What was expected within this is no reason to learn."""
NOTICED = 0.1
"""Seconds: the order of tasks that take less does not matter."""

_Key = tuple[str, str]
"""Kind and family."""


class Experience:
    """What finished tasks teach; a family is learned when it is first asked about."""

    def __init__(self, measurements: Iterable[Measurement] = ()) -> None:
        """Take measurements, the latest last."""
        self._lessons: dict[_Key, list[Measurement]] = {}
        self._families: dict[_Key, Family | None] = {}
        self._sizes = InputSizes()
        for measurement in measurements:
            self.add(measurement)

    def add(self, measurement: Measurement) -> None:
        """Take in a further measurement; it counts when its family is learned the next time."""
        if measurement.is_lesson:
            self._lessons.setdefault((measurement.kind, measurement.family), []).append(measurement)

    @property
    def lessons(self) -> Mapping[_Key, Sequence[Measurement]]:
        """The measurements that something is learned from, by kind and family."""
        return self._lessons

    def family(self, kind: str, family: str) -> Family | None:
        """Return what was learned of a family, or None where there is nothing to predict from."""
        key = (kind, family)
        if key not in self._families:
            lessons = self._lessons.get(key, [])[-LATEST:]
            learned = Family([(lesson.fields, lesson.needs) for lesson in lessons])
            self._families[key] = None if learned.is_empty else learned
        return self._families[key]

    def learn_anew(self, kind: str, family: str) -> None:
        """Let a family be learned again when it is asked about next."""
        self._families.pop((kind, family), None)

    def predict(self, task: Candidate) -> Prediction | None:
        """Return what a task will need, or None where too few tasks like it have finished."""
        learned = self.family(task.kind, task.family)
        if learned is None:
            return None
        size = self._sizes.of(task.inputs)
        return learned.predict(fields_of(task.parameters, size, task.resources.cores, task.resources.gpus))

    def typical_seconds(self, task: Task) -> float | None:
        """Return how long a task will take, half of those like it longer; None as of :meth:`predict`."""
        learned = self.family(task.kind, task.family)
        if learned is None:
            return None
        size = self._sizes.of(task.inputs)
        return learned.typical_seconds(fields_of(task.parameters, size, task.resources.cores, task.resources.gpus))


def experience_of(store: Path, kinds: Collection[str]) -> Experience:
    """Return what the finished tasks in a store teach about tasks of these kinds."""
    found = read_measurements(store, kinds)
    return Experience(measurement for several in found.values() for measurement in several)


class Foresight:
    """How long the tasks of a run are expected to take, brought up to date by those that finish."""

    def __init__(self, open_experience: Callable[[], Experience]) -> None:
        """Take what reads the records of the store, the tasks that have just finished among them; asked once."""
        self._open = open_experience
        self._opened: Experience | None = None
        self._expected: dict[str, float] = {}
        self._counts: dict[_Key, int] = {}
        """Lessons when a family was learned last."""
        self._surprises: dict[_Key, list[tuple[float, float]]] = {}
        """Of those that finished since: the logarithm of used over expected, and the seconds between."""

    def seconds_of(self, task: Task) -> float:
        """Return how long a task is expected to take."""
        return self._expected.get(task.name) or runtime_of(task)

    def take(self, task: Task, measurement: Measurement) -> None:
        """Take in what a task used that has finished."""
        used = measurement.needs.seconds
        if not measurement.is_lesson or not used:
            return
        key = (task.kind, task.family)
        self._counts.setdefault(key, 0)
        if self._opened is not None:
            self._opened.add(measurement)
        expected = self.seconds_of(task)
        self._surprises.setdefault(key, []).append((abs(math.log(used / expected)), abs(used - expected)))

    def update(self, waiting: Iterable[Task]) -> bool:
        """Learn from the news where there is enough of it; return whether other times are expected now.

        ``waiting`` are the tasks that have not started. A user's word stands.
        """
        due = {key for key, surprises in self._surprises.items() if self._is_due(key, surprises)}
        if not due:
            return False
        experience = self._opened = self._opened or self._open()
        for key in due:
            self._counts[key] += len(self._surprises.pop(key))
            experience.learn_anew(*key)
        is_changed = False
        for task in waiting:
            if (task.kind, task.family) not in due or "runtime" in task.stated:
                continue
            seconds = experience.typical_seconds(task)
            if seconds is not None and seconds != self.seconds_of(task):
                self._expected[task.name] = seconds
                is_changed = True
        return is_changed

    def _is_due(self, key: _Key, surprises: Sequence[tuple[float, float]]) -> bool:
        """Whether enough tasks have finished that took notably longer or shorter than expected."""
        if len(surprises) < max(NEWS, (GROWTH - 1) * self._counts[key]):
            return False
        is_surprise = median(ratio for ratio, _ in surprises) > SURPRISE
        if is_surprise and median(seconds for _, seconds in surprises) > NOTICED:
            return True
        self._counts[key] += len(surprises)  # all as expected
        self._surprises[key] = []
        return False
