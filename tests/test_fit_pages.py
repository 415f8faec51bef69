"""The two pages of NLSQ that this replaces: every block of code runs, with only its imports changed.

The pages are in data/, as they were: the README of NLSQ's workflow examples and its API page.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from socm_workflows.fit import WorkflowConfig, fit

DATA = Path(__file__).parent / "data"
GUIDE = Path(__file__).parents[1] / "docs" / "fitting.rst"
README, API = DATA / "nlsq_workflow_readme.txt", DATA / "nlsq_workflow_api.txt"


def blocks_of(path: Path, language: str) -> list[str]:
    """Return the blocks of a language, of Markdown and of reStructuredText."""
    text = path.read_text(encoding="utf-8")
    fenced = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    directed = re.findall(rf"^\.\. code-block:: {language}\n\n((?:(?: {{3}}.*)?\n)+)", text, re.MULTILINE)
    return [*fenced, *map(textwrap.dedent, directed)]


CODE = [(path, block) for path in (README, API) for block in blocks_of(path, "python")]


def decay(x: Any, a: Any, b: Any, c: Any) -> Any:
    return a * jnp.exp(-b * x) + c


def surroundings() -> dict[str, Any]:
    """Return what the blocks of the README leave to the reader."""
    x = np.linspace(0, 10, 2_000)
    y = 2.0 * np.exp(-0.5 * x) + 0.3 + np.random.default_rng(0).normal(0, 0.05, x.size)
    return {"model": decay, "x": x, "y": y, "p0": [2.5, 0.6, 0.2], "bounds": ([0, 0, -1], [10, 5, 1])}


def test_all_blocks_are_found() -> None:
    assert [path.name for path, _ in CODE].count(README.name) == 6
    assert [path.name for path, _ in CODE].count(API.name) == 1


@pytest.mark.parametrize(("path", "block"), CODE, ids=[f"{path.stem}-{n}" for n, (path, _) in enumerate(CODE)])
def test_a_block_runs_with_only_its_imports_changed(
    path: Path, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.sub(r"^from nlsq[\w.]* import", "from socm_workflows.fit import", block, flags=re.MULTILINE)
    names = surroundings()
    exec(compile(code, path.name, "exec"), names)  # the pages are ours to run
    if "popt" in names:
        np.testing.assert_allclose(names["popt"], [2, 0.5, 0.3], atol=0.05)
        assert np.all(np.isfinite(names["pcov"]))


def test_the_yaml_file_of_the_page_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nlsq.yaml").write_text(blocks_of(API, "yaml")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    result = fit(**fit_arguments())
    assert result.settings.goal == "robust"
    assert result.multistart_diagnostics["n_starts_evaluated"] == 5
    assert result.settings.tolerances == (1e-10, 1e-10, 1e-10)
    assert result.settings.budget.available_gb <= 16


def test_the_environment_is_stronger_than_the_file_and_arguments_than_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nlsq.yaml").write_text(blocks_of(API, "yaml")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NLSQ_WORKFLOW_GOAL", "global")
    monkeypatch.setenv("NLSQ_MEMORY_LIMIT_GB", "0.5")
    assert fit(**fit_arguments()).settings.n_starts == 20
    assert fit(**fit_arguments()).settings.budget.available_gb == 0.5
    stronger = fit(**fit_arguments(), goal="fast", memory_limit_gb=1.0)
    assert (stronger.settings.n_starts, stronger.settings.budget.available_gb) == (1, 1.0)


def fit_arguments() -> dict[str, Any]:
    return {**surroundings(), "workflow": "auto"}


def test_the_environment_asks_for_checkpoints_where_data_are_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLSQ_CHECKPOINT_DIR", str(tmp_path))
    monkeypatch.setenv("NLSQ_ENABLE_CHECKPOINTING", "1")
    result = fit(**{**surroundings(), "workflow": "streaming"})
    assert result.strategy == "streaming_checkpoint"
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_words_of_the_page_may_be_given_as_a_configuration() -> None:
    config = WorkflowConfig(goal="quality", gtol=1e-10, n_starts=3)
    assert fit(**surroundings(), **config).settings.n_starts == 3


def test_the_guide_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = blocks_of(GUIDE, "python")
    for block in blocks:
        exec(compile(block, GUIDE.name, "exec"), names)
        np.testing.assert_allclose(names["popt"], [2.5, 1.3, 0.5], atol=0.05)
    assert len(blocks) == 4
    assert names["result"].converged
    assert (tmp_path / "fit.log").read_text(encoding="utf-8").startswith("iteration 0  ")
