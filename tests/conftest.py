"""What all tests share: how Hypothesis searches, and Python programs as real child processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from hypothesis import settings

from socm_like.registry import registered_workflows

settings.register_profile("repository", deadline=None, print_blob=True)
settings.load_profile("repository")

_UNMEASURED = {"test_identity", "test_journal", "test_lock", "test_store"}
"""Files whose child processes meet full disks and interrupts, or are counted: coverage must not work inside them."""

RunPython: TypeAlias = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def run_python() -> RunPython:
    """Return a function that runs a Python program with arguments, and variables, in a process of its own."""

    def run(program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", program, *map(str, arguments)]
        variables = {**os.environ, **environment}
        return subprocess.run(words, capture_output=True, text=True, timeout=60, env=variables)

    return run


@pytest.fixture(scope="module", autouse=True)
def compiled_programs() -> Iterator[None]:
    """Forget what JAX compiled for one file of tests: each program is several maps, and a process may have 65,530."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.fixture(autouse=True)
def kinds_by_hand() -> Iterator[None]:
    """Forget what a test registers by hand: the registry lives as long as the process."""
    before = dict(registered_workflows._classes)
    yield
    registered_workflows._classes = before


@pytest.fixture(autouse=True)
def unmeasured_children(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep coverage out of the child processes of some test files."""
    if request.path.stem in _UNMEASURED:
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
