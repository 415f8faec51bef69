"""From the command line to a plan: what ``check``, ``plan``, ``submit`` and ``graph`` have in common."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from socm_like.campaign import Campaign, load_campaign
from socm_like.errors import StoreError, UsageError, suggest
from socm_like.identity import FileDigests, digest_cache
from socm_like.machine_file import LOCAL
from socm_like.plan import Plan, make_plan, read_plan
from socm_like.resources import Machine, detect_machine
from socm_like.store import RunDirectory, find_run
from socm_like.units import format_size

_UNKNOWN = Machine(name="unknown", cores=tuple(range(10**5)), memory=2**60, gpus=("0",) * 10**4)
"""In the place of a machine that nobody knows, which is a fault of its own: anything may fit there."""


def load(file: Path, settings: Sequence[str]) -> Campaign:
    """Return a campaign file, read; see :func:`load_campaign`."""
    with _no_collection():
        return load_campaign(file, settings)


def plan_loaded(campaign: Campaign, store: Path | None, machine: Machine | None = None) -> tuple[Plan, FileDigests]:
    """Return the plan of a campaign for its machine, or for another, and the digests it took of the inputs.

    Writes nothing.

    Raises CampaignError with every fault.
    """
    with _no_collection():
        place = store_of(campaign, store)
        digests = FileDigests(digest_cache(place))
        return make_plan(campaign, place, machine or _machine_of(campaign), digests), digests


def plan_campaign(file: Path, settings: Sequence[str], store: Path | None) -> tuple[Plan, FileDigests]:
    """Return the plan of a campaign file, as :func:`plan_loaded` does."""
    return plan_loaded(load(file, settings), store)


def plan_run(file: Path, settings: Sequence[str], store: Path | None) -> tuple[Plan, FileDigests]:
    """Return the plan of a campaign file that is to be run from here, as :func:`plan_loaded` does.

    Raises UsageError also where its machine is not this one.
    """
    campaign = load(file, settings)
    return plan_loaded(campaign, store, _machine_to_run_on(campaign))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the cycle collector out: everything made here lives on, and looking through 10,000 tasks takes time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _machine_of(campaign: Campaign) -> Machine:
    """Return what the tasks of a campaign are sized for: this machine, or all of another one."""
    if campaign.machine is not None:
        return campaign.machine.as_one()
    return detect_machine() if campaign.settings.resource == LOCAL else _UNKNOWN


def _machine_to_run_on(campaign: Campaign) -> Machine:
    """Return this machine, or as much of it as the campaign's machine has."""
    file = campaign.machine
    if file is None:
        return _machine_of(campaign)
    remedy = "or run it here: --set campaign.resource=local"
    if file.scheduler != "local":
        raise UsageError(
            f"{file.name} runs jobs through Slurm, which this version plans for (campaign plan) but cannot submit to; "
            + remedy.removeprefix("or ")
        )
    wanted, here = file.as_one(), detect_machine()
    for what, asked, found in (
        ("cores", len(wanted.cores), len(here.cores)),
        ("GPUs", len(wanted.gpus), len(here.gpus)),
    ):
        if asked > found:
            raise UsageError(f"{file.name} has {asked} {what}, this machine {found}; submit it there, {remedy}")
    if wanted.memory > here.memory:
        sizes = f"{format_size(wanted.memory)} of memory, this machine {format_size(here.memory)}"
        raise UsageError(f"{file.name} has {sizes}; submit it there, {remedy}")
    cores, gpus = here.cores[: len(wanted.cores)], here.gpus[: len(wanted.gpus)]
    return wanted.model_copy(update={"cores": cores, "gpus": gpus, "gpu_memory": here.gpu_memory})


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
