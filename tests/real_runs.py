"""Running the real command and looking at what came of it; shared by the tests of whole campaigns."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CAMPAIGN = [sys.executable, "-m", "socm_like.cli"]


def campaign(
    folder: Path, *words: str, text: str | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run ``campaign`` in a folder, after writing ``campaign.toml`` there where its text is given."""
    if text is not None:
        (folder / "campaign.toml").write_text(text)
    return subprocess.run([*CAMPAIGN, *words], cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start ``campaign submit`` in a folder, unseen."""
    return subprocess.Popen([*CAMPAIGN, "submit"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def status(folder: Path) -> dict[str, Any]:
    """Return what ``campaign status --json`` says of the latest run."""
    answer: dict[str, Any] = json.loads(campaign(folder, "status", "--json").stdout)
    return answer


def states(folder: Path) -> dict[str, str]:
    """Return the state of each task."""
    return {task["task"]: task["state"] for task in status(folder)["tasks"]}


def reasons(folder: Path) -> dict[str, str]:
    """Return the reason of each task's state."""
    return {task["task"]: task["reason"] for task in status(folder)["tasks"]}


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for something another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
