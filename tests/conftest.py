"""What all tests share: how Hypothesis searches, and Python programs as real child processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import settings

settings.register_profile("repository", deadline=None, print_blob=True)
settings.load_profile("repository")

RunPython: TypeAlias = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def run_python() -> RunPython:
    """Return a function that runs a Python program with arguments, and variables, in a process of its own."""

    def run(program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", program, *map(str, arguments)]
        variables = {**os.environ, **environment}
        return subprocess.run(words, capture_output=True, text=True, timeout=60, env=variables)

    return run
