"""The attempts under way: which tasks share a process, and which of them were asked to end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from socm_like.batch import Key, leader_of
from socm_like.executors.base import Attempt
from socm_like.journal import Event, Record, TaskState


class Flight:
    """The tasks that an executor has, from the launch that was journalled to the end that was observed."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._members: dict[Key, list[str]] = {}
        """The attempt that is a shared process -> the tasks it does."""
        self._endings: dict[str, tuple[TaskState, str]] = {}
        """Task that is to be ended -> what it ends as, and why."""

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __bool__(self) -> bool:
        return bool(self._names)

    @property
    def names(self) -> Sequence[str]:
        """The tasks under way."""
        return list(self._names)

    @property
    def processes(self) -> int:
        """How many attempts the executor has: a batch counts once."""
        return len(self._names) - sum(len(members) - 1 for members in self._members.values())

    def take_up(self, name: str, record: Record) -> Attempt:
        """Take in a task that an earlier session launched; return the attempt that does its work."""
        leader = leader_of(record)
        if leader is not None:
            self._members.setdefault(leader, []).append(name)
        self._names.add(name)
        return Attempt(*(leader or (name, record.attempt)))

    def start(self, leader: Key, names: Collection[str]) -> None:
        """Take in the tasks of one process that is about to be launched."""
        self._names.update(names)
        if len(names) > 1:
            self._members[leader] = list(names)

    def concerned(self, event: Event) -> Sequence[str] | None:
        """Return the tasks whose shared process an event is about, None where it is about a task by itself."""
        key = (event.task, event.attempt)
        return self._members.pop(key, None) if event.state.is_final else self._members.get(key)

    def land(self, name: str) -> None:
        """Let go of a task that has ended."""
        self._names.discard(name)

    def is_unasked(self, event: Event) -> bool:
        """Whether a task was ended that nobody here wanted to end: another of its process was."""
        return event.state is TaskState.CANCELLED and event.task not in self._endings

    def is_to_end(self, name: str) -> bool:
        """Whether a task was asked to end."""
        return name in self._endings

    def as_asked(self, event: Event) -> Event:
        """Return the end of a task as the end that was asked for, where it was cancelled."""
        if event.state not in (TaskState.CANCELLED, TaskState.LOST) or event.task not in self._endings:
            return event
        state, reason = self._endings[event.task]
        return replace(event, state=state, detail={**event.detail, "reason": reason})

    def ask_to_end(
        self, names: Iterable[str], records: Mapping[str, Record], state: TaskState, reason: str
    ) -> list[Attempt]:
        """Note how tasks under way are to end; return the attempts to cancel, with a task the process it shares."""
        attempts: dict[Attempt, None] = {}
        for name in names:
            if name in self._names and name not in self._endings:
                self._endings[name] = (state, reason)
                record = records[name]
                attempts[Attempt(*(leader_of(record) or (name, record.attempt)))] = None
        return list(attempts)

    def forget_request(self, name: str) -> None:
        """Let the next attempt at a task be one that nobody asked to end."""
        self._endings.pop(name, None)
