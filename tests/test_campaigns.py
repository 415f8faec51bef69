"""The shipped examples: all of them can be planned, and the main one does what its README says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from real_runs import campaign
from scipy.special import ellipk

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
        assert {"task", "workflow", "kind", "id", "state", "parameters", "metrics", "started", "ended"} <= set(row)
        assert {"parameters", "standard_errors", "rss", "converged", "reason"} <= set(row["metrics"])
    (certified,) = (row["metrics"] for row in rows if row["task"] == "certify")
    table = campaign(tmp_path, "logs", "certify", "--out").stdout.splitlines()
    digits = {(line.split()[0], line.split()[1]): float(line.split()[2]) for line in table[1:55]}
    assert len(digits) == 54
    assert all(found >= 6 for (_, start), found in digits.items() if start == "2"), certified
    wrong = [row["task"] for row in fits if row["metrics"]["converged"] and digits[_place(row["task"])] < 6]
    assert wrong == []


def test_the_sweep_finds_the_energy_of_onsager_and_the_magnetisation_of_yang(tmp_path: Path) -> None:
    file = CAMPAIGNS / "sweep" / "campaign.toml"
    fields = "campaign.simulate.sweep.field=[0.0, 0.1]"
    answer = campaign(tmp_path, "submit", str(file), "--set", fields, timeout=300)
    assert answer.returncode == 0, answer.stdout + answer.stderr

    rows = json.loads(campaign(tmp_path, "results", "--json", "--workflow", "simulate").stdout)
    assert len(rows) == 9 * 2 + 8 * 2  # a field of 0.1 at the lowest temperature is taken out
    assert len({row["parameters"]["seed"] for row in rows}) == len(rows)
    for row in rows:
        temperature, metrics = row["parameters"]["temperature"], row["metrics"]
        if row["parameters"]["field"] == 0 and abs(temperature - CRITICAL) > 0.2:
            assert metrics["energy"] == pytest.approx(onsager_energy(temperature), abs=0.03)
            if temperature < CRITICAL:
                yang = (1 - math.sinh(2 / temperature) ** -4) ** 0.125
                assert metrics["magnetisation"] == pytest.approx(yang, abs=0.02)
    (heatmap,) = (row for row in json.loads(campaign(tmp_path, "results", "--json").stdout) if row["task"] == "heatmap")
    folder = tmp_path / "runs" / "command" / heatmap["id"][:12]
    assert (folder / "heatmap.svg").read_text().count("<path") > 20
    assert len((folder / "magnetisation.csv").read_text().splitlines()) == 1 + 17

    again = campaign(tmp_path, "submit", str(file), "--set", fields, "--set", "campaign.simulate.sweep.replicates=3")
    assert again.returncode == 0
    counts = json.loads(campaign(tmp_path, "status", "--json").stdout)["counts"]
    assert counts == {"cached": 34, "done": 18}  # a third seed each, and the picture


CRITICAL = 2 / math.log(1 + math.sqrt(2))


def onsager_energy(temperature: float) -> float:
    """Return the energy per spin of the infinite lattice, J = k = 1: Onsager (1944), Phys. Rev. 65, 117, eq. 116."""
    twice = 2 / temperature
    modulus = 2 * math.sinh(twice) / math.cosh(twice) ** 2
    energy: float = -1 / math.tanh(twice) * (1 + 2 / math.pi * (2 * math.tanh(twice) ** 2 - 1) * ellipk(modulus**2))
    return energy


def _place(task: str) -> tuple[str, str]:
    data_set, start = task.split(".")
    return data_set, start.removeprefix("start")
