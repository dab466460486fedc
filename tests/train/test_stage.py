"""The train stage as a process runs it: its files, and MLflow beside it."""

from __future__ import annotations

import csv
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import toy_model as toy
from glmops.errors import RecipeError
from glmops.promote.adoption import TRAINING
from glmops.recipe import load_recipe
from glmops.storage import Layout, read_json, read_jsonl, sha256_tree
from pipelines import process
from pipelines.train import train

ROOT = Path(__file__).parents[2]


def _run(encoded: Path, root: Path, **changes: Any) -> tuple[Layout, str]:
    layout = Layout(root, "demo")
    if not layout.encoded.exists():
        shutil.copytree(encoded, layout.encoded)
    recipe = load_recipe(ROOT, "demo")
    return layout, train(layout, recipe.model_copy(update={"train": toy.train_settings(**changes)}))


def _rows(layout: Layout, name: str) -> list[dict[str, str]]:
    with (layout.reports("train") / name).open() as file:
        return list(csv.DictReader(file))


def test_the_stage_writes_the_model_the_history_and_the_numbers(
    encoded: Path, tmp_path: Path
) -> None:
    layout, said = _run(encoded, tmp_path)
    history = _rows(layout, "history.csv")
    columns = "step phase epoch loss learning_rate dev_loss dev_exact"
    assert list(history[0]) == columns.split()
    assert [row["phase"] for row in history] == ["base", "lora"]
    metrics = read_json(layout.reports("train") / "metrics.json")
    assert float(history[-1]["loss"]) == metrics["lora"]["loss"]["train"]
    assert (layout.model / "model.safetensors").is_file()
    assert f"lora {metrics['lora']['loss']['dev']:.3f}" in said
    for name, column in (
        ("learning_rate.csv", "learning_rate"), ("progress.csv", "tokens_per_second"),
    ):  # fmt: skip
        plotted = _rows(layout, name)
        assert [row["phase"] for row in plotted] == ["base", "lora"]
        assert all(float(row[column]) > 0 for row in plotted)
    assert not layout.work("train").exists()
    assert not (tmp_path / "mlflow.db").exists(), "a training of seconds starts no MLflow"


def test_the_rows_that_stopped_a_run_are_kept_as_text(encoded: Path, tmp_path: Path) -> None:
    base = toy.base_settings(schedule=None).model_dump()
    much = toy.schedule(learning_rate=5.0, epochs=20, warmup_fraction=0.0)
    with pytest.raises(RecipeError, match="the loss explodes"):
        _run(encoded, tmp_path, method="scratch", lora=None, base=base, schedule=much)
    layout = Layout(tmp_path, "demo")
    kept = read_jsonl(layout.reports("train") / "offending.jsonl")
    assert kept
    assert all("天我看见了" in row["text"] for row in kept)
    _run(encoded, tmp_path)
    assert not (layout.reports("train") / "offending.jsonl").exists()


def test_mlflow_sees_a_training_while_it_runs_and_keeps_it(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLMOPS_TRACKING_URI", raising=False)
    monkeypatch.setattr(process, "LIVE_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(process, "LAST_LINES_SECONDS", 120.0)
    layout, _ = _run(encoded, tmp_path)
    lineage = read_json(layout.model / "lineage.json")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        [(_run_id, status)] = database.execute("SELECT run_uuid, status FROM runs").fetchall()
        tags = dict(database.execute("SELECT key, value FROM tags").fetchall())
        points = database.execute("SELECT key, step, value FROM metrics").fetchall()
    assert status == "FINISHED"
    assert tags[TRAINING] == lineage["training"]
    seen = {(key, step): value for key, step, value in points}
    assert len(seen) == len(points)
    for row in _rows(layout, "history.csv"):
        assert seen[f"{row['phase']}/loss", int(row["step"])] == float(row["loss"])


def test_an_mlflow_that_is_down_changes_nothing(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = _run(encoded, tmp_path / "plain")
    monkeypatch.setenv("GLMOPS_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(process, "LIVE_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(process, "LAST_LINES_SECONDS", 1.0)
    down, _ = _run(encoded, tmp_path / "down")
    assert sha256_tree(down.model) == sha256_tree(plain.model)
    history = "history.csv"
    assert _rows(down, history) == _rows(plain, history)
