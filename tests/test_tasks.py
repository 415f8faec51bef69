"""Campaign -> tasks: identities, references, expansions, ``for_each``; whatever a plug-in does wrong is a fault."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from socm_like.campaign import load_campaign
from socm_like.errors import CampaignError
from socm_like.identity import FileDigests
from socm_like.registry import Registry
from socm_like.resources import Machine
from socm_like.tasks import Task, resolve

MACHINE = Machine(name="small", cores=(0, 1), memory=8 * 2**30, gpus=("0",))

PLUGIN = '''\
from pathlib import Path
from typing import Annotated, ClassVar

from socm_like import NotIdentity, Resources, Result, Workflow

TEMPLATE = Path(__file__).parent / "template.txt"


class Split(Workflow):
    """One task per split."""

    executable: str = "split"
    nsplits: int = 3
    split: int = -1
    scale: float = 1.0
    progress: Annotated[bool, NotIdentity()] = False
    outputs: dict[str, str] = {"map": "map.fits"}

    def expand(self):
        if self.split >= 0:
            return [self]
        return [self.model_copy(update={"split": split}) for split in range(self.nsplits)]

    def get_arguments(self, **kwargs):
        return ["--split", str(self.split), "--scale", str(self.scale)]


class Half(Split):
    """Two tasks for each of its source."""

    map: Path
    nsplits: int = 2

    def get_arguments(self, **kwargs):
        return [str(self.map), str(self.split)]


class Timed(Workflow):
    """A Python task with a file of its own."""

    version: ClassVar[str] = "1"
    template: Path = TEMPLATE
    other: Path = Path("relative.txt")
    flag: int | float | None = None

    def estimate(self, context):
        return Resources(memory=1000, threads=2)

    def run(self, directory):
        return Result()
'''


def write(folder: Path, text: str, name: str = "campaign.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def resolved(path: Path, *settings: str, store: Path | None = None) -> dict[str, Task]:
    campaign = load_campaign(path, settings)
    return {task.name: task for task in resolve(campaign, store or path.parent / "runs", MACHINE, FileDigests())}


def faults(path: Path, *settings: str) -> list[str]:
    with pytest.raises(CampaignError) as caught:
        resolved(path, *settings)
    return [str(fault).replace(f"{path.parent}/", "") for fault in caught.value.faults]


def with_plugin(folder: Path, text: str, plugin: str = PLUGIN) -> Path:
    write(folder, plugin, "plug.py")
    write(folder, "template", "template.txt")
    return write(folder, f'[campaign]\nname = "test"\nplugins = ["plug.py"]\n{text}')


# --- identity --------------------------------------------------------------------------------------------------------

GOLDEN = """\
[campaign]
name = "golden"
plugins = ["plug.py"]
[environment]
LANG = "C"
[campaign.plain]
kind = "command"
command = ["echo", "hello"]
[campaign.full]
kind = "command"
command = ["python", "script.py", "--in=output://plain/out.txt", "{alpha}"]
inputs = ["data.txt"]
outputs = { result = "result.txt" }
metrics = "metrics.json"
parameters = { alpha = 0.5, flag = true, name = "größe", count = 3 }
environment = { OMP_NUM_THREADS = "2" }
[campaign.declared]
kind = "smooth"
map = "output://full/result"
[campaign.split]
kind = "split"
[campaign.timed]
kind = "timed"
flag = 1
[kind.smooth]
version = "3"
command = ["python", "script.py", "{map}", "{fwhm}"]
fields.fwhm = { type = "float", default = 5, unit = "arcmin" }
fields.map = { type = "path" }
outputs.map = "smoothed.fits"
"""

VECTORS: Mapping[str, str] = {}


def golden(folder: Path) -> Path:
    write(folder, "print()\n", "script.py")
    write(folder, "1 2 3\n", "data.txt")
    write(folder, "template", "template.txt")
    write(folder, PLUGIN, "plug.py")
    return write(folder, GOLDEN)


def test_identities_are_these_and_stay_these(tmp_path: Path) -> None:
    """A change here makes every stored result of every user worthless: raise a version on purpose instead."""
    assert {name: task.id for name, task in resolved(golden(tmp_path)).items()} == VECTORS
