"""Campaigns of the tests as tasks, without a run: shared by the tests of sweeps and of what they unfold to."""

from __future__ import annotations

from pathlib import Path

import pytest

from socm_like.campaign import load_campaign
from socm_like.errors import CampaignError
from socm_like.identity import FileDigests
from socm_like.resources import Machine
from socm_like.task import Task
from socm_like.tasks import Resolved, resolve

MACHINE = Machine(name="small", cores=(0, 1), memory=8 * 2**30)


def write(folder: Path, text: str, name: str = "campaign.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def planned(folder: Path, text: str, *settings: str) -> Resolved:
    return resolve(load_campaign(write(folder, text), settings), folder / "runs", MACHINE, FileDigests())


def tasks_of(folder: Path, text: str, *settings: str) -> dict[str, Task]:
    return {task.name: task for task in planned(folder, text, *settings).tasks}


def faults(folder: Path, text: str, *settings: str) -> list[str]:
    with pytest.raises(CampaignError) as caught:
        planned(folder, text, *settings)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]


def table(name: str, *words: str, more: str = "") -> str:
    listed = ", ".join(f'"{word}"' for word in words)
    return f'[campaign.{name}]\nkind = "command"\ncommand = [{listed}]\n{more}'
