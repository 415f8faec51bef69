"""Which workflow waits for which, by the names they write; names that are not there and cycles are problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from socm_like.document import KeyPath
from socm_like.entry import SWEEP, Entry
from socm_like.errors import listed, suggest
from socm_like.reads import Reads
from socm_like.references import cycles, names_in
from socm_like.registry import Registry


@dataclass(frozen=True)
class Edges:
    """The edges between the workflows of a campaign."""

    upstream: Mapping[str, tuple[str, ...]]
    """Workflow -> the workflows it waits for, in the order it names them; without cycles."""
    driven: Mapping[str, str]
    """Workflow without tasks of its own -> the search that makes tasks of it."""
    problems: tuple[tuple[KeyPath, str], ...]
    """The place in the document, and what is wrong there."""


def find_edges(
    entries: Mapping[str, Entry],
    unbuilt: Mapping[str, Entry],
    groups: Mapping[str, tuple[str, ...]],
    registry: Registry,
) -> Edges:
    """Return the edges between workflows; ``unbuilt`` have faults of their own, and to name them is not wrong."""
    return _Finder(entries, unbuilt, groups, registry).find()


@dataclass
class _Finder:
    entries: Mapping[str, Entry]
    unbuilt: Mapping[str, Entry]
    groups: Mapping[str, tuple[str, ...]]
    registry: Registry
    driven: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[KeyPath, str]] = field(default_factory=list)
    comparisons: int = 0
    """Names compared with a wrong one so far: a suggestion costs 30 us for each name there is."""

    def find(self) -> Edges:
        edges: dict[str, dict[str, KeyPath]] = {name: {} for name in self.entries}
        searches = {entry.name: list(self._searched(entry)) for entry in self.entries.values()}
        for entry in (*self.entries.values(), *self.unbuilt.values()):
            driven = searches.get(entry.name, [])
            for key, target, problem in (*driven, *self._named(entry)):
                is_driven = bool(driven) and key == driven[0][0]
                problem = problem or self._wrong_target(key, target, is_driven=is_driven)  # noqa: PLW2901
                if problem:
                    self.problems.append((entry.where(key), f"campaign.{entry.name}: {problem}"))
                    continue
                for member in (target,) if target in self.entries else self.groups.get(target, ()):
                    edges.get(entry.name, {}).setdefault(member, key)
        self._cut_cycles(edges)
        return Edges({name: tuple(found) for name, found in edges.items()}, self.driven, tuple(self.problems))

    def _named(self, entry: Entry) -> Iterator[tuple[KeyPath, str, str]]:
        """Yield what a table names; of the sweeps that it shares, what it reads."""
        reads = None
        for key, target, problem in names_in(entry.texts):
            if str(key[0]).startswith(SWEEP) and key[0] != SWEEP + entry.name and entry.kind in self.registry:
                reads = reads or Reads(self.registry[entry.kind], entry.values)
                if not reads.may_read(key[1:]):
                    continue
            yield key, target, problem

    def _searched(self, entry: Entry) -> Iterator[tuple[KeyPath, str, str]]:
        """Yield the workflow that a search drives, which must be one that can be driven; note that it is."""
        name = self.registry[entry.kind].driven
        target = entry.values.get(name) if name else None
        if not isinstance(target, str):  # missing or of a wrong type: validation tells
            return
        problem, driven = "", self.entries.get(target)
        if driven is not None and (driven.sweeps or driven.values.get("for_each")):
            what = "sweep" if driven.sweeps else "for_each"
            problem = f"{name} names {target!r}, which has a {what} of its own; put it on the search instead"
        elif driven is not None and self.registry[driven.kind].driven:
            problem = f"{name} names {target!r}, which is a search itself"
        elif driven is not None:
            self.driven.setdefault(target, entry.name)
        yield (name,), target, problem

    def _cut_cycles(self, edges: dict[str, dict[str, KeyPath]]) -> None:
        for cycle in list(cycles(edges)):
            first, second = cycle[:2]
            place = self.entries[first].where(edges[first].get(second, ()))
            self.problems.append((place, f"workflows wait for each other: {' -> '.join(cycle)}"))
        for first, second in [cycle[-2:] for cycle in cycles(edges)]:
            edges[first].pop(second, None)

    def _wrong_target(self, key: KeyPath, target: str, *, is_driven: bool) -> str:
        """Return what is wrong with naming ``target`` under ``key``, or an empty string."""
        is_single = is_driven or key[0] == "for_each"
        if target in self.driven and not is_driven:
            search = self.driven[target]
            return f"{key[0]} names {target!r}, whose only tasks are trials of {search!r}; name {search!r} instead"
        if target in self.entries or target in self.unbuilt or (target in self.groups and not is_single):
            return ""
        if target in self.groups:
            return f"{key[0]} takes one workflow; {target!r} is a group of {listed(self.groups[target])}"
        if any(target.startswith(f"{name}.") for name in self.unbuilt):
            return ""
        known = {*self.entries, *self.unbuilt, *(() if is_single else self.groups)}
        self.comparisons += len(known)
        there = f"there are: {listed(known)}{suggest(target, known)}" if self.comparisons < 100_000 else "see above"
        return f"{key[0]} names {target!r}, which this campaign does not define; {there}"
