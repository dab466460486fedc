"""The demo recipe as it stands: it must really learn, and the gate must refuse what it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from project import Project, copy_project

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def real_recipe(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_project(tmp_path_factory.mktemp("real") / "project")


def test_the_demo_learns(real_recipe: Project) -> None:
    real_recipe.glmops("run", "demo")
    card = json.loads((real_recipe.root / "reports/demo/evaluate/scorecard.json").read_text())
    assert card["classification"]["accuracy"] >= 0.9
    assert card["classification"]["baselines"]["majority"]["accuracy"] <= 0.3
    assert card["triples"]["f1"] >= 0.6


def test_real_rows_are_refused_with_reasons(
    real_recipe: Project, shared: Callable[[str], Path]
) -> None:
    rows = shared("data/mixed/mixed_train_dataset.jsonl")
    refused = real_recipe.glmops("run", "demo", "--raw", str(rows), code=3)
    assert "triples/f1 is" in refused.stdout
    runs = real_recipe.root / ".glmops" / "runs"
    metrics = json.loads(next(runs.glob("*/reports/demo/prepare/metrics.json")).read_text())
    assert metrics["rows"]["accepted"] == 902  # the data's README: 902 rows, no repeated row
    verdict = json.loads(next(runs.glob("*/reports/demo/promote/verdict.json")).read_text())
    assert verdict["passed"] is False
    (entry,) = json.loads(real_recipe.glmops("status", "demo", "--json").stdout)
    candidates = {c["digest"]: c["verdict"] for c in entry["candidates"]}
    assert list(candidates.values()).count("passed") <= 1  # the sample rows' own candidate
