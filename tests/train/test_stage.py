from __future__ import annotations

import csv
import shutil
from pathlib import Path

import toy_model as toy
from glmops.recipe import load_recipe
from glmops.storage import Layout, read_json
from pipelines.train import train

ROOT = Path(__file__).parents[2]


def test_the_stage_writes_the_model_the_history_and_the_numbers(
    encoded: Path, tmp_path: Path
) -> None:
    layout = Layout(tmp_path, "demo")
    shutil.copytree(encoded, layout.encoded)
    recipe = load_recipe(ROOT, "demo").model_copy(update={"train": toy.train_settings()})
    said = train(layout, recipe)
    with (layout.reports("train") / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    columns = ["step", "phase", "epoch", "loss", "learning_rate", "dev_loss"]
    assert list(history[0]) == columns
    assert [row["phase"] for row in history] == ["base", "lora"]
    metrics = read_json(layout.reports("train") / "metrics.json")
    assert float(history[-1]["loss"]) == metrics["lora"]["loss"]["train"]
    assert (layout.model / "model.safetensors").is_file()
    assert f"lora {metrics['lora']['loss']['dev']:.3f}" in said
