"""The stage as a whole, on a project with a random checkpoint."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from glmops.recipe import Recipe, load_recipe
from glmops.records import Record, Score, read_table, write_table
from glmops.storage import Layout, read_jsonl
from pipelines.evaluate import evaluate

NAMES = ["answers.jsonl", "confusion.csv", "likelihoods.parquet", "scorecard.json", "scores.parquet"]


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


def test_the_stage_writes_its_four_files_and_equal_inputs_give_equal_bytes(
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
