"""Every example of README.rst and docs/ does what the page says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n((?:   :\w+:.*\n)*)\n((?:(?:   .*)?\n)+)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    language: str
    caption: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for match in _BLOCK.finditer(page.read_text() + "\n"):
        caption = re.search(r":caption: (\S+)", match[2])
        yield Block(match[1], caption[1] if caption else "", dedent(match[3]).strip() + "\n")


def shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
    return subprocess.run(
        line, shell=True, cwd=folder, capture_output=True, text=True, timeout=180, check=False, env=environment
    )


def follow(page: Path, folder: Path) -> int:
    """Write the page's files and type its commands; return how many were typed."""
    typed = 0
    for block in blocks(page):
        if block.caption:
            (folder / block.caption).write_text(block.text)
        elif block.language == "console":
            typed += _type(block.text, folder)
    return typed


def _type(text: str, folder: Path) -> int:
    typed, shown = 0, ""
    for line in text.splitlines():
        if line.startswith("$ "):
            typed += 1
            command, _, comment = line[2:].partition("  # exit status ")
            answer = shell(folder, command)
            shown = answer.stdout + answer.stderr
            assert answer.returncode == int(comment or 0), f"{line}\n{shown}"
        else:
            pattern = ".*".join(re.escape(part) for part in line.strip().split("…"))
            assert any(re.fullmatch(pattern, output.strip()) for output in shown.splitlines()), f"{line!r} in\n{shown}"
    return typed


def test_readme_does_what_it_says(tmp_path: Path) -> None:
    assert follow(ROOT / "README.rst", tmp_path) == 4


def test_readme_names_targets_that_make_knows(tmp_path: Path) -> None:
    named = re.findall(r"^    make (\w+)", (ROOT / "README.rst").read_text(), re.MULTILINE)
    assert named == ["demo", "test"]
    for target in named:
        assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_tutorial_does_what_it_says(tmp_path: Path) -> None:
    assert follow(ROOT / "docs/tutorial.rst", tmp_path) == 16


def test_estimates_page_does_what_it_says(tmp_path: Path) -> None:
    assert follow(ROOT / "docs/estimates.rst", tmp_path) == 4


def test_campaign_file_page_shows_campaigns_without_faults(tmp_path: Path) -> None:
    whole, group, crossed, shared, schedule, policy = (block.text for block in blocks(ROOT / "docs/campaign-file.rst"))
    (tmp_path / "my_kinds.py").write_text("")
    (tmp_path / "my_tools.toml").write_text("")
    (tmp_path / "make_map.py").write_text("")
    (tmp_path / "campaign.toml").write_text(whole.replace("cores = 8 ", "cores = 2 ").replace("8 GiB", "1 GiB"))
    assert shell(tmp_path, "campaign check").stdout == "campaign.toml: fine; 1 workflow, 1 task\n"
    (tmp_path / "group.toml").write_text(f'[campaign]\nname = "group"\n{group}')
    assert shell(tmp_path, "campaign check group.toml").stdout == "group.toml: fine; 2 workflows, 2 tasks\n"
    (tmp_path / "night.toml").write_text(f"{schedule}[campaign.a]\nkind = 'command'\ncommand = 'true'\n")
    assert shell(tmp_path, "campaign check night.toml").stdout == "night.toml: fine; 1 workflow, 1 task\n"
    (tmp_path / "urgent.toml").write_text(f'[campaign]\nname = "urgent"\n{group}{policy}')
    assert shell(tmp_path, "campaign check urgent.toml").stdout == "urgent.toml: fine; 2 workflows, 2 tasks\n"
    (tmp_path / "crossed.toml").write_text(f'[campaign]\nname = "crossed"\n{crossed}')
    assert shell(tmp_path, "campaign check crossed.toml").stdout == "crossed.toml: fine; 2 workflows, 14 tasks\n"
    (tmp_path / "shared.toml").write_text(f'[campaign]\nname = "shared"\n{shared}')
    assert shell(tmp_path, "campaign check shared.toml").stdout == "shared.toml: fine; 4 workflows, 22 tasks\n"


def test_kinds_of_the_workflows_page_run(tmp_path: Path) -> None:
    custom, summing, squaring = (
        block.text for block in blocks(ROOT / "docs/workflows.rst") if block.language == "python"
    )
    declared = next(block.text for block in blocks(ROOT / "docs/workflows.rst") if "[kind." in block.text)
    (tmp_path / "custom.py").write_text(custom)
    (tmp_path / "summing.py").write_text(summing)
    (tmp_path / "squaring.py").write_text(squaring)
    (tmp_path / "numbers.txt").write_text("1 2 3.5")
    (tmp_path / "smooth").write_text("#!/bin/sh\ncp $3 $4\n")
    (tmp_path / "smooth").chmod(0o755)
    (tmp_path / "campaign.toml").write_text(
        f"""
[campaign]
plugins = ["custom.py", "summing.py", "squaring.py"]
[campaign.my-custom]
executable = "echo"
custom_param = "x"
[campaign.sum]
data = "numbers.txt"
outputs = {{ total = "sum.txt" }}
[campaign.square]
sweep.number = [1.5, 2.0, 3.0]
[campaign.smooth-map]
map = "output://sum/total"
environment = {{ PATH = "{tmp_path}:/usr/bin:/bin" }}
{declared}"""
    )
    answer = shell(tmp_path, "campaign submit")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert shell(tmp_path, "campaign logs my-custom --out").stdout == "--param x --threshold 0.5\n"
    squares = [
        row["metrics"] for row in json.loads(shell(tmp_path, "campaign results --workflow square --json").stdout)
    ]
    assert squares == [{"square": 2.25}, {"square": 4.0}, {"square": 9.0}]
    assert '"sum": 6.5' in shell(tmp_path, "campaign results --json").stdout


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.rst")))
def test_commands_a_page_names_exist(page: str) -> None:
    commands = set(re.findall(r"``campaign (\w+)", (ROOT / "docs" / page).read_text()))
    known = set(re.findall(r"^  (\w+) ", shell(ROOT, "campaign --help").stdout, re.MULTILINE))
    assert commands <= known
