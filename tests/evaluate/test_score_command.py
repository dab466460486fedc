"""`glmops score`, as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from glmops.cli import app
from glmops.errors import InputError


def scored(*arguments: object) -> dict:
    done = CliRunner().invoke(app, ["score", *map(str, arguments), "--json"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "right"),
    [("generated_predictions", 655), ("generated_predictions1", 799)],
)
@pytest.mark.parametrize("task", ["classification", "generation"])
def test_the_published_predictions_are_right_as_often_as_their_authors_counted(
    shared: Callable[[str], Path], task: str, name: str, right: int
) -> None:
    found = scored(shared(f"data/predictions/relation_ptuning_{name}.txt"), "--task", task)
    metric = {"classification": "accuracy", "generation": "exact-match"}[task]
    assert (found["rows"], found["exact_match"], found["counts"][metric]) == (1515, right, right)
    assert found["metrics"][metric] == pytest.approx(right / 1515, abs=1e-12)


def test_the_reference_pairs_score_their_official_mean(shared: Callable[[str], Path]) -> None:
    path = shared("reference/metrics/metrics.json")
    official = json.loads(path.read_text(encoding="utf-8"))
    found = scored("--task", "generation", path)
    share = official["n_without_error"] / official["n_pairs"]
    for metric, value in official["averages"].items():
        assert found["metrics"][metric] == pytest.approx(value * share, abs=1e-9)
    empty = sum(not pair["label"].strip() for pair in official["pairs"])
    assert f"{empty} references are empty: nothing matches there" in found["notes"]


def write(path: Path, *rows: tuple[str, str]) -> Path:
    path.write_text("".join(json.dumps({"predict": p, "label": r}) + "\n" for p, r in rows))
    return path


def test_a_label_that_no_reference_has_is_counted_and_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", ("3", "0"), ("1", "1"), ("3", "1"), ("", "0"), ("[", "0"))
    found = scored("--task", "classification", path)
    assert found["counts"] == {"accuracy": 1, "outside-labels": 2, "unparsable": 2}
    assert found["notes"] == [
        "1 prediction is empty and counted as wrong",
        "labels that no reference has, counted as wrong: 3 (2)",
    ]
    assert list(found["classes"]) == ["0", "1"]


def test_one_row_and_one_class_are_said_to_tell_nothing(tmp_path: Path) -> None:
    one = scored("--task", "classification", write(tmp_path / "one.jsonl", ("a", "a")))
    assert one["notes"] == ["one row: too few to tell"]
    same = scored("--task", "classification", write(tmp_path / "x.jsonl", ("a", "a"), ("b", "a")))
    assert same["notes"][0].startswith("one class: every reference is 'a'")
    assert same["metrics"]["accuracy"] == 0.5


def test_empty_references_never_match(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", ("", ""), ("好", "好"))
    found = scored("--task", "generation", path)
    assert (found["exact_match"], found["metrics"]["exact-match"]) == (1, 0.5)
    assert found["metrics"]["bleu-4"] < 50
    for task, rows in (("generation", [("", " ")]), ("classification", [("a", "a"), ("", "")])):
        with pytest.raises(InputError, match=r"x\.jsonl:\d: (every reference is empty|expected a)"):
            scored("--task", task, write(path, *rows))


def test_people_see_every_metric_its_rows_the_classes_and_the_notes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", ("a", "a"), ("", "b"))
    done = CliRunner().invoke(app, ["score", "--task", "classification", str(path)])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "classification, 2 rows (classification-2)"
    assert "  accuracy          0.5000   1 of 2" in lines
    assert any(line.split() == ["1", "0", "0.0000", "0.0000", "0.0000", "b"] for line in lines)
    assert lines[-1] == "note: 1 prediction is empty and counted as wrong"
