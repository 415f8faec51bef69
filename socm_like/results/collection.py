"""Garbage collection of a store: what may go, decided as a value; and taking it away while runs come and go.

An artifact is first renamed to a hidden name, then the runs are looked at once more: a run that began meanwhile and
still saw it gets it back. A run that began later does not find it, and computes it again.
"""

from __future__ import annotations

import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from os import DirEntry, scandir
from pathlib import Path
from uuid import uuid4

from socm_like.errors import RunHeldError, StoreError
from socm_like.journal import store_errors
from socm_like.results.artifacts import Artifact, ArtifactState, find_artifacts
from socm_like.results.usage import Usage, UsageReader, parents
from socm_like.store import RunDirectory, RunLock, read_holder

BATCH = 500
"""Artifacts taken away between two looks at the runs."""
LOOK = 0.02
"""Seconds that a look at the runs is good for when empty folders are removed."""
PATIENCE = 5.0
"""Seconds that a run which is just starting gets to write its plan."""


class Kept(StrEnum):
    """Why an artifact stays, the strongest reason first."""

    LIVE = "live"
    """A live run refers to it."""
    YOUNG = "young"
    """It is younger than the limit."""
    RECENT = "recent"
    """A run younger than the limit refers to it."""
    HOLDS = "holds"
    """It holds another that stays."""
    OTHER_KIND = "other_kind"
    """Nobody asked for this kind to be collected."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is to be collected."""

    limit: float
    """Seconds of age above which an artifact may go."""
    now: float
    """Seconds since the epoch."""
    kind: str | None = None
    """Only this kind; all when None."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What goes, and what stays for which reason."""

    removed: tuple[Artifact, ...]
    kept: Mapping[str, Kept]
    """By folder."""

    @property
    def roots(self) -> tuple[Artifact, ...]:
        """What goes and is in nothing else that goes."""
        folders = {artifact.folder for artifact in self.removed}
        return tuple(artifact for artifact in self.removed if artifact.inside not in folders)

    @property
    def freed(self) -> int:
        """Bytes of what goes."""
        return sum(artifact.size for artifact in self.removed)

    @property
    def counts(self) -> Counter[Kept]:
        """How many stay for each reason; other kinds are not counted."""
        return Counter(reason for reason in self.kept.values() if reason is not Kept.OTHER_KIND)


@dataclass(frozen=True, slots=True)
class Collection:
    """What a gc has done."""

    decision: Decision
    problems: tuple[str, ...] = ()
    """One sentence per artifact that could not be removed, or why it stopped early."""


def decide(artifacts: Sequence[Artifact], usage: Usage, rule: Rule) -> Decision:
    """Return what goes; an artifact never goes without all that is in it."""
    kept: dict[str, Kept] = {}
    for artifact in artifacts:
        reason = _reason_to_keep(artifact, usage, rule)
        if reason is not None:
            kept[artifact.folder] = reason
    around = {artifact.folder: artifact.inside for artifact in artifacts}
    for folder in list(kept):
        while folder := around.get(folder, ""):
            kept.setdefault(folder, Kept.HOLDS)
    removed = tuple(artifact for artifact in artifacts if artifact.folder not in kept)
    return Decision(removed, kept)


def _reason_to_keep(artifact: Artifact, usage: Usage, rule: Rule) -> Kept | None:
    if artifact.state is ArtifactState.COLLECTED:
        return None
    if rule.kind is not None and artifact.kind != rule.kind:
        return Kept.OTHER_KIND
    users = artifact.users(usage)
    if any(run.is_live for run in users) or usage.holds_live_folders(artifact.folder):
        return Kept.LIVE
    if rule.now - artifact.touched <= rule.limit:
        return Kept.YOUNG
    if any(rule.now - run.news <= rule.limit for run in users):
        return Kept.RECENT
    return None


def survey(store: Path, rule: Rule) -> tuple[tuple[Artifact, ...], Decision]:
    """Return all artifacts of a store and what would be collected now; removes nothing.

    Raises StoreError when a run cannot be read: nobody can tell what it refers to.
    """
    return _survey(store, UsageReader(store), rule)


def _survey(store: Path, reader: UsageReader, rule: Rule) -> tuple[tuple[Artifact, ...], Decision]:
    usage = _readable_usage(reader)
    artifacts = find_artifacts(store, usage.planned)
    return artifacts, decide(artifacts, usage, rule)


def collect(store: Path, rule: Rule, reader: UsageReader | None = None) -> Collection:
    """Remove what :func:`decide` lets go, and the folders of kinds that this leaves empty.

    ``reader`` tells who uses what, time and again; by default it is the store's own.

    Raises StoreError when a run cannot be read, RunHeldError when another process collects in this store; nothing
    has been removed then.
    """
    with _sole_collector(store) as lock:
        reader = reader or UsageReader(store)
        artifacts, decision = _survey(store, reader, rule)
        collector = _Collector(store, reader, rule=rule, lock=lock, artifacts=artifacts, decision=decision)
        try:
            for first in range(0, len(decision.roots), BATCH):
                collector.collect(decision.roots[first : first + BATCH])
            collector.remove_empty_folders()
        except (StoreError, RunHeldError) as error:
            collector.problems.append(f"stopped: {error}")
        gone = {artifact.folder for artifact in collector.removed}
        kept = {folder: reason for folder, reason in collector.kept.items() if folder not in gone}
        return Collection(Decision(tuple(collector.removed), kept), tuple(collector.problems))


@contextmanager
def _sole_collector(store: Path) -> Iterator[RunLock]:
    """Hold the lock of the store's collectors: one must not finish what another may still put back."""
    place = RunDirectory(store / ".cache" / "gc")
    with store_errors(place.path):
        place.path.mkdir(parents=True, exist_ok=True)
    lock = RunLock(place)
    try:
        lock.acquire()
    except RunHeldError as error:
        holder = read_holder(place) or "another process"
        raise RunHeldError(f"{holder} collects in {store} just now; try again when it has finished") from error
    try:
        yield lock
    finally:
        lock.release()


def _readable_usage(reader: UsageReader) -> Usage:
    """Return the usage, complete for certain.

    Raises StoreError naming each run that cannot be read, or one that does not get beyond its start.
    """
    deadline = time.monotonic() + PATIENCE
    while (usage := reader.read()).starting and time.monotonic() < deadline:
        time.sleep(0.05)
    problems = list(usage.problems)
    if usage.starting:
        problems.append(f"{usage.starting} is just starting and has no plan yet; try again in a moment")
    if problems:
        raise StoreError("\n".join([*problems, "nothing may be removed while nobody can tell what that run needs"]))
    return usage


class _Collector:
    """One gc at work: what has gone, what stays, what went wrong."""

    def __init__(
        self,
        store: Path,
        reader: UsageReader,
        *,
        rule: Rule,
        lock: RunLock,
        artifacts: Sequence[Artifact],
        decision: Decision,
    ) -> None:
        self._store = store
        self._reader = reader
        self._rule = rule
        self._lock = lock
        self.kept = dict(decision.kept)
        self.removed: list[Artifact] = []
        self.problems: list[str] = []
        self._within: dict[str, list[Artifact]] = {}
        """Folder -> the artifacts right in it."""
        for artifact in artifacts:
            self._within.setdefault(artifact.inside, []).append(artifact)

    def collect(self, roots: Iterable[Artifact]) -> None:
        """Take artifacts away, with all that is in them, if they still may go.

        Raises StoreError when the runs cannot be read any more; what was taken is put back then.
        """
        hidden: dict[str, Path] = {}
        for root in self._still_free(roots):
            path = self._taken(root)
            if path is not None:
                hidden[root.folder] = path
        taken = [root for root in roots if root.folder in hidden]
        free: list[Artifact] = []
        try:
            free = self._still_free(taken)
        finally:
            free_folders = {root.folder for root in free}
            for root in taken:
                if root.folder not in free_folders:
                    self._put_back(root, hidden[root.folder])
        for root in free:
            self._lock.sign()
            self._delete(root, hidden[root.folder])

    def _still_free(self, roots: Iterable[Artifact]) -> list[Artifact]:
        """Return those of which nothing is needed by the runs there are at this moment."""
        self._lock.sign()
        usage = _readable_usage(self._reader)
        free = []
        for root in roots:
            kept = decide(self._with_inner(root), usage, self._rule).kept
            self.kept.update(kept)
            if root.folder not in kept:
                free.append(root)
        return free

    def _with_inner(self, root: Artifact) -> list[Artifact]:
        whole = [root]
        for artifact in whole:
            whole.extend(self._within.get(artifact.folder, ()))
        return whole

    def _taken(self, root: Artifact) -> Path | None:
        """Give an artifact a hidden name and return it; None when it has changed or gone, or cannot be renamed."""
        path = self._store / root.folder
        if root.state is ArtifactState.COLLECTED:
            return path
        try:
            if path.lstat().st_mtime > root.touched:
                self.kept[root.folder] = Kept.YOUNG
                return None
            return path.rename(path.with_name(f".{path.name}.{uuid4().hex[:16]}.gc"))
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problems.append(f"{path} cannot be removed: {error.strerror}")
            return None

    def _put_back(self, root: Artifact, hidden: Path) -> None:
        """Return an artifact to its place; if a new result is there by now, the old one is not needed."""
        try:
            hidden.rename(self._store / root.folder)
        except OSError:
            self._delete(root, hidden)

    def _delete(self, root: Artifact, hidden: Path) -> None:
        try:
            _make_writable(str(hidden))
            shutil.rmtree(hidden)
        except OSError as error:
            if hidden.exists():
                self.problems.append(f"{hidden} cannot be removed whole: {error.strerror}; the next gc tries again")
                return
        self.removed.extend(self._with_inner(root))

    def remove_empty_folders(self) -> None:
        """Remove the folders of kinds that have become empty, unless a live run is about to write there."""
        folders = {folder for root in self.removed if not root.inside for folder in parents(root.folder)}
        looked_at = -inf
        for folder in sorted(folders, key=len, reverse=True):
            path = self._store / folder
            with suppress(OSError):  # something has come in, or another took it away
                if any(path.iterdir()):
                    continue
                if time.monotonic() - looked_at > LOOK:
                    usage, looked_at = _readable_usage(self._reader), time.monotonic()
                if not usage.holds_live_folders(folder):
                    path.rmdir()


def _make_writable(folder: str) -> None:
    """Let the owner enter and change every folder below one; links are not followed."""
    waiting: list[str | DirEntry[str]] = [folder]
    while waiting:
        place = waiting.pop()
        path = place if isinstance(place, str) else place.path
        mode = (Path(path).lstat() if isinstance(place, str) else place.stat(follow_symlinks=False)).st_mode
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            Path(path).chmod(stat.S_IMODE(mode) | stat.S_IRWXU)
        with scandir(path) as entries:
            waiting.extend(entry for entry in entries if entry.is_dir(follow_symlinks=False))
