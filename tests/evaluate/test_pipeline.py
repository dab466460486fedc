"""The stage as a whole, on a project with a random checkpoint."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glmops.evaluate.engines import Torch
from glmops.recipe import Recipe, load_recipe
from glmops.records import LabelLikelihood, Record, Score, read_table, write_table
from glmops.storage import Layout, read_jsonl
from pipelines import evaluate as stage
from pipelines.evaluate import evaluate

NAMES = [
    "answers.jsonl",
    "baselines.parquet",
    "calibration.csv",
    "confusion.csv",
    "likelihoods.parquet",
    "scorecard.json",
    "scores.parquet",
    "slices.parquet",
]


@pytest.fixture
def recipe() -> Recipe:
    demo = load_recipe(Path(__file__).parents[2], "demo")
    section = demo.evaluate.model_copy(update={"max_new_tokens": 12, "batch_size": 4})
    return demo.model_copy(update={"evaluate": section})


@pytest.fixture
def place(
    tmp_path: Path, checkpoint: Path, train: list[Record]
) -> Callable[[list[Record]], Layout]:
    """A project in which these rows are the test split and the checkpoint is the model."""

    def make(test: list[Record]) -> Layout:
        layout = Layout(tmp_path, "demo")
        write_table(layout.prepared / "train.parquet", train, Record)
        write_table(layout.prepared / "test.parquet", test, Record)
        layout.model.parent.mkdir()
        layout.model.symlink_to(checkpoint)
        return layout

    return make


def test_the_stage_writes_its_files_and_equal_inputs_give_equal_bytes(
    place: Callable[[list[Record]], Layout], recipe: Recipe, rows: list[Record]
) -> None:
    layout = place(rows)
    said = evaluate(layout, recipe)
    reports = layout.reports("evaluate")
    first = {path.name: path.read_bytes() for path in sorted(reports.iterdir())}
    assert list(first) == NAMES
    assert evaluate(layout, recipe) == said
    assert {path.name: path.read_bytes() for path in sorted(reports.iterdir())} == first

    assert [row["id"] for row in read_jsonl(reports / "answers.jsonl")] == [r.id for r in rows]
    assert {row.id for row in read_table(reports / "scores.parquet", Score)} == {r.id for r in rows}
    card = json.loads(first["scorecard.json"])
    accuracy, f1 = card["classification"]["accuracy"], card["triples"]["f1"]
    assert said == f"7 rows: classification accuracy {accuracy:.3f}, triples f1 {f1:.3f}"
    with (reports / "confusion.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["expected", "answered"]
    assert [expected for expected, _ in table[1:]] == ["水果", "衣服", "水果", "酒店"]


def test_the_confusion_file_has_its_header_when_no_row_is_a_classification(
    place: Callable[[list[Record]], Layout], recipe: Recipe, rows: list[Record]
) -> None:
    layout = place([row for row in rows if row.task == "triples"])
    evaluate(layout, recipe)
    assert (layout.reports("evaluate") / "confusion.csv").read_text() == "expected,answered\n"
    card = json.loads((layout.reports("evaluate") / "scorecard.json").read_text())
    assert set(card) == {"triples", "test"}


def test_a_stage_that_is_killed_goes_on_and_ends_in_equal_bytes(
    place: Callable[[list[Record]], Layout],
    recipe: Recipe,
    rows: list[Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = place(rows)
    evaluate(layout, recipe)
    reports, work = layout.reports("evaluate"), layout.work("evaluate")
    whole = {path.name: path.read_bytes() for path in reports.iterdir()}
    assert not work.exists()  # what was kept for a killed stage goes with its success
    shutil.rmtree(reports)  # as DVC does before it runs a stage

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "scorecard", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(layout, recipe)
    assert sorted(path.name.split("-")[0] for path in work.iterdir()) == ["answers", "likelihoods"]
    assert not reports.exists()
    with monkeypatch.context() as patch:
        patch.setattr(Torch, "write", killed)
        patch.setattr(Torch, "weigh", killed)
        evaluate(layout, recipe)
    assert {path.name: path.read_bytes() for path in reports.iterdir()} == whole
    assert not work.exists()


def test_the_likelihoods_have_a_row_per_taught_label_or_an_empty_table(
    place: Callable[[list[Record]], Layout], recipe: Recipe, rows: list[Record]
) -> None:
    layout = place(rows)
    table = layout.reports("evaluate") / "likelihoods.parquet"
    evaluate(layout, recipe)
    weighed = read_table(table, LabelLikelihood)
    to_classify = [row.id for row in rows if row.task == "classification"]
    labels = ["水果", "衣服", "酒店"]
    assert [(w.id, w.label) for w in weighed] == [
        (i, label) for i in to_classify for label in labels
    ]
    assert all(each.log_probability < 0 for each in weighed)
    section = recipe.evaluate.model_copy(update={"label_likelihood": False})
    evaluate(layout, recipe.model_copy(update={"evaluate": section}))
    assert read_table(table, LabelLikelihood) == []
