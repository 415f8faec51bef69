"""The shipped examples: all of them can be planned, and the main one does what its README says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from real_runs import campaign

CAMPAIGNS = Path(__file__).parent.parent / "campaigns"


@pytest.mark.parametrize("file", sorted(CAMPAIGNS.glob("*/campaign.toml")), ids=lambda path: path.parent.name)
def test_every_example_can_be_planned_and_says_what_to_expect(file: Path, tmp_path: Path) -> None:
    assert campaign(tmp_path, "plan", str(file)).returncode == 0
    assert (file.parent / "README.rst").is_file()


@pytest.mark.slow
def test_nist_campaign_reaches_the_certified_values_from_both_starts(tmp_path: Path) -> None:
    answer = campaign(tmp_path, "submit", str(CAMPAIGNS / "nist" / "campaign.toml"), timeout=900)
    assert answer.returncode == 0, answer.stdout + answer.stderr

    rows = json.loads(campaign(tmp_path, "results", "--json").stdout)
    fits = [row for row in rows if row["kind"] == "fit"]
    assert len(fits) == 54
    for row in fits:
        assert set(row) == {"task", "workflow", "kind", "id", "state", "parameters", "metrics", "started", "ended"}
        assert {"parameters", "standard_errors", "rss", "converged", "reason"} <= set(row["metrics"])
    (certified,) = (row["metrics"] for row in rows if row["task"] == "certify")
    table = campaign(tmp_path, "logs", "certify", "--out").stdout.splitlines()
    digits = {(line.split()[0], line.split()[1]): float(line.split()[2]) for line in table[1:55]}
    assert len(digits) == 54
    assert all(found >= 6 for (_, start), found in digits.items() if start == "2"), certified
    wrong = [row["task"] for row in fits if row["metrics"]["converged"] and digits[_place(row["task"])] < 6]
    assert wrong == []


def _place(task: str) -> tuple[str, str]:
    data_set, start = task.split(".")
    return data_set, start.removeprefix("start")
