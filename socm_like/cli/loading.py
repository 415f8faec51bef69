"""From the command line to a plan: what ``check``, ``plan``, ``submit`` and ``graph`` have in common."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

from socm_like.campaign import Campaign, load_campaign
from socm_like.errors import StoreError, UsageError, suggest
from socm_like.identity import FileDigests, digest_cache
from socm_like.plan import Plan, make_plan, read_plan
from socm_like.resources import Machine, detect_machine
from socm_like.store import RunDirectory, find_run


def plan_campaign(
    file: Path, settings: Sequence[str], store: Path | None, machine: Machine | None = None
) -> tuple[Plan, FileDigests]:
    """Return the plan of a campaign file, on this machine by default, and the digests it took of the inputs.

    Writes nothing.

    Raises CampaignError with every fault.
    """
    gc.disable()  # everything made here lives on: looking for garbage among 10,000 tasks costs a fifth of the time
    try:
        campaign = load_campaign(file, settings)
        place = store_of(campaign, store)
        digests = FileDigests(digest_cache(place))
        return make_plan(campaign, place, machine or detect_machine(), digests), digests
    finally:
        gc.freeze()
        gc.enable()


def find_plan(store: Path, run: str | None, tasks: Sequence[str]) -> tuple[RunDirectory, Plan]:
    """Return a run and its plan.

    Raises UsageError when there is no such run, or when it has none of the tasks named.
    """
    directory = find_run(store, run)
    try:
        plan = read_plan(directory.read_plan())
    except StoreError as error:
        raise StoreError(f"{directory.path}: {error}") from error
    names = {task.name for task in plan.tasks}
    for task in tasks:
        if task not in names:
            raise UsageError(f"{directory.name} has no task {task!r}{suggest(task, names)}")
    return directory, plan


def store_of(campaign: Campaign, store: Path | None) -> Path:
    """Return the store: the option, else the setting beside the campaign file, else ``./runs``."""
    if store is not None:
        return store
    if campaign.settings.store is not None:
        return (campaign.document.path.absolute().parent / campaign.settings.store).absolute()
    return Path("runs").absolute()
