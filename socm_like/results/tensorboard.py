"""One folder per run for TensorBoard: a link to each task that has written event files."""

from __future__ import annotations

from collections.abc import Mapping, Set
from os import DirEntry, scandir
from os.path import relpath
from pathlib import Path
from uuid import uuid4

from socm_like.errors import StoreError
from socm_like.journal import store_errors
from socm_like.store import RunDirectory, file_name

EVENTS = "events.out.tfevents."
"""What the names of TensorBoard's event files begin with."""


def update_links(run: RunDirectory) -> Path | None:
    """Return the run's ``tb`` folder with a relative link per task that has event files; None where none has.

    Links are replaced whole, and only those to nothing are removed: several processes may do this at once.
    Raises StoreError when the plan is damaged or the run's folder cannot be written.
    """
    place = run.path / "tb"
    wanted = _folders_with_events(run)
    if wanted:
        with store_errors(place):
            place.mkdir(exist_ok=True)
            for task, folder in wanted.items():
                _link(place / file_name(task), relpath(folder, place))
    _remove_dangling(place)
    return place if wanted else None


def _folders_with_events(run: RunDirectory) -> Mapping[str, str]:
    """Return the folder of each task that has event files: its result's, or that of its attempt."""
    plan = run.read_plan()
    try:
        tasks = {str(task["name"]): str(task["folder"]) for task in plan["tasks"]}
    except (KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise StoreError(f"{run.plan}: damaged ({problem}); submit the campaign again to write it anew") from error
    others = {f"{run.store}/{folder}" for folder in tasks.values()}
    found = {}
    for task, folder in tasks.items():
        for place in (f"{run.store}/{folder}", run.partial(folder)):
            if _has_events(place, others):
                found[task] = place
                break
    return found


def _has_events(folder: str, others: Set[str]) -> bool:
    """Whether an event file lies anywhere in a folder, but for the folders of other tasks."""
    waiting: list[str | DirEntry[str]] = [folder]
    while waiting:
        try:
            with scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith(EVENTS) and entry.is_file():
                        return True
                    if entry.is_dir(follow_symlinks=False) and entry.path not in others:
                        waiting.append(entry)
        except OSError:  # not there, moved this moment, or not ours to read
            continue
    return False


def _link(path: Path, target: str) -> None:
    if path.is_symlink() and str(path.readlink()) == target:
        return
    temporary = path.parent.with_name(f".tb.{uuid4().hex[:16]}.tmp")
    temporary.symlink_to(target)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _remove_dangling(place: Path) -> None:
    if not place.is_dir():
        return
    with store_errors(place):
        for path in place.iterdir():
            if path.is_symlink() and not path.exists():
                path.unlink(missing_ok=True)
