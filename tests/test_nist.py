"""The NIST campaign: certified digits of all 54 fits, its file against the data, and the judge that certifies."""

from __future__ import annotations

import importlib.util
import json
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from socm_workflows.fit.data import make_sample, read_table
from socm_workflows.fit.loading import load_model
from socm_workflows.fit.solver.solution import solve

FOLDER = Path(__file__).parents[1] / "campaigns" / "nist"


def load_certify() -> ModuleType:
    spec = importlib.util.spec_from_file_location("certify", FOLDER / "certify.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["certify"] = module
    spec.loader.exec_module(module)
    return module


certify = load_certify()
CAMPAIGN: dict[str, Any] = tomllib.loads((FOLDER / "campaign.toml").read_text())["campaign"]
GROUPS: dict[str, Any] = {
    name: table for name, table in CAMPAIGN.items() if isinstance(table, dict) and "data" in table
}
MODELS = {
    table["model"]: load_model(str(FOLDER / table["model"].removeprefix("file://"))) for table in GROUPS.values()
}  # each function once, so that sets with one model and length share one compilation

QUICK = ("Misra1a", "BoxBOD", "MGH17")
ERROR_DIGITS = {"Lanczos1": 3.0}
"""The residuals of Lanczos1 are 1e-13 of y: double precision keeps three digits of them."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in GROUPS]
)
def test_both_starts_reach_the_certified_values(name: str) -> None:
    group = GROUPS[name]
    path = FOLDER / group["data"]
    certificate = certify.read_certificate(path)
    model, names = MODELS[group["model"]]
    table = read_table(path, (*group["x"], group["y"]), skip=group["skip"])
    sample = make_sample(table, predictors=len(group["x"]), response=group.get("response", "identity"))
    for start in certificate.starts:
        fit = solve(model, sample.x, sample.y, start, names=names)
        assert fit.converged, fit.reason
        assert fit.standard_errors is not None
        assert certify.digits(fit.parameters.tolist(), certificate.parameters) >= 8.5
        digits = certify.digits(fit.standard_errors.tolist(), certificate.standard_errors)
        assert digits >= ERROR_DIGITS.get(name, 9.0)


def test_the_campaign_has_every_data_set_with_both_starts() -> None:
    assert {group["data"] for group in GROUPS.values()} == {
        f"data/{path.name}" for path in (FOLDER / "data").glob("*.dat")
    }
    for name, group in GROUPS.items():
        certificate = certify.read_certificate(FOLDER / group["data"])
        for number, start in enumerate(certificate.starts, 1):
            p0 = group[f"start{number}"]["p0"]
            assert tuple(p0) == MODELS[group["model"]][1], name
            assert tuple(p0.values()) == start, name


def test_the_certificate_gathers_every_data_set() -> None:
    assert [word for word in CAMPAIGN["certify"]["command"] if word.startswith("output://")] == [
        f"output://{name}/result.json" for name in GROUPS
    ]


@pytest.mark.parametrize(
    ("found", "certified", "digits"),
    [
        ([1.0, 2.0], [1.0, 2.0], 11.0),
        ([1.001, 2.0], [1.0, 2.0], 3.0),
        ([-1.0], [1.0], 0.0),
        ([5.0], [1.0], 0.0),
        ([None], [1.0], 0.0),
        ([1 + 1e-14], [1.0], 11.0),
    ],
)
def test_digits_are_the_least_log_relative_error(found: Any, certified: list[float], digits: float) -> None:
    np.testing.assert_allclose(certify.digits(found, certified), digits, atol=1e-9)


def made_up_results(folder: Path, **changes: Any) -> list[Path]:
    """Write results with the certified values for two data sets; ``changes`` go to Misra1a start 1."""
    paths = []
    for dataset in ("Misra1a", "BoxBOD"):
        certificate = certify.read_certificate(FOLDER / "data" / f"{dataset}.dat")
        (folder / "data").mkdir(exist_ok=True)
        (folder / "data" / f"{dataset}.dat").write_bytes((FOLDER / "data" / f"{dataset}.dat").read_bytes())
        for number, start in enumerate(certificate.starts, 1):
            metrics = {
                "parameters": dict(zip(("b1", "b2"), certificate.parameters, strict=True)),
                "standard_errors": dict(zip(("b1", "b2"), certificate.standard_errors, strict=True)),
                "rss": certificate.rss,
                "converged": True,
                "iterations": 7,
                "reason": "converged",
            }
            if (dataset, number) == ("Misra1a", 1):
                metrics |= changes
            p0 = dict(zip(("b1", "b2"), start, strict=True))
            path = folder / f"{dataset}{number}.json"
            path.write_text(json.dumps({"metrics": metrics, "parameters": {"data": f"/x/{dataset}.dat", "p0": p0}}))
            paths.append(path)
    return paths


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"parameters": {"b1": 239.0, "b2": 5.5e-4}}, "Misra1a start 1: called converged with 3.55 digits"),
        ({"parameters": {"b1": 1.0, "b2": 1.0}, "converged": False, "reason": "not converged"}, ""),
        ({"standard_errors": {"b1": None, "b2": None}}, ""),
    ],
)
def test_only_a_wrong_answer_that_is_called_converged_fails_from_start_1(
    changes: dict[str, Any], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert certify.main(tmp_path / "data", made_up_results(tmp_path, **changes)) == (1 if fault else 0)
    assert fault in (tmp_path / "certified.txt").read_text()
    assert (tmp_path / "certified.png").read_bytes()[:4] == b"\x89PNG"


def test_a_missing_result_fails_the_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert certify.main(tmp_path / "data", made_up_results(tmp_path)[:-1]) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "",
        "BoxBOD start 2: no result",
        "3 of 3 fits have 6 certified digits or more; 3 have 4 or more in the standard errors; "
        "0 wrong answers are called converged",
    ]
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "fits": 3, "good": 3, "least_digits": 11.0, "wrong_but_converged": 0, "not_converged": 0
    }  # fmt: skip
