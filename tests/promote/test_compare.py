from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import accuracy_score
from typer.testing import CliRunner

from glmops.cli import app
from glmops.errors import InputError, IntegrityError, RecipeError
from glmops.promote import approvals, promotion, registry, tracking
from glmops.promote.compare import BETTER, EQUAL, UNCLEAR, WORSE, compare, word
from glmops.promote.connection import connected, find_experiment, find_run
from glmops.promote.evaluated import read_evaluated
from glmops.promote.naming import named
from glmops.promote.spread import Estimate
from glmops.promote.stored import evaluation_of
from glmops.records import BaselineScore, write_table
from glmops.storage import read_json, read_jsonl, write_json, write_jsonl


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, workshop: Any) -> Any:
    """`glmops compare …` in the project; its document."""
    monkeypatch.chdir(workshop.root)

    def command(*arguments: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, ["compare", *arguments, "--json"], catch_exceptions=False)
        assert done.exit_code == 0
        return json.loads(done.stdout)

    return command


def metric(found: dict[str, Any], name: str) -> list[Any]:
    return next(line["values"] for line in found["metrics"] if line["metric"] == name)


@pytest.fixture
def two_candidates(workshop: Any) -> tuple[str, str]:
    """Digests of a promoted one with 114 of 120 right, and one that the gate refused with 90."""
    first = workshop.register().digest
    approvals.approve(workshop.root, "demo", first, actor="alice")
    promotion.promote(workshop.root, "demo", first, actor="carol")
    workshop.train("second", right=90)
    done = workshop.register()
    assert not done.verdict.passed
    return first, done.digest


def test_a_champion_and_a_refused_candidate_by_their_names(
    workshop: Any, run: Any, two_candidates: tuple[str, str]
) -> None:
    first, second = two_candidates
    found = run("demo", f"demo@{second[:8]}", second[:8])
    assert [m["name"] for m in found["models"]] == [
        f"demo@{d[:12]}" for d in (first, second, second)
    ]
    assert (found["same_test"], found["rows"], found["notes"]) == (True, 240, [])
    old, new, again = metric(found, "classification/accuracy")
    assert new == again
    # What scikit-learn says of the stored answers, and what the scorecard (so `dvc metrics diff`
    # and MLflow) holds.
    rows = read_jsonl(workshop.layout.reports("evaluate") / "answers.jsonl")
    mine = [row for row in rows if row["task"] == "classification"]
    exact = accuracy_score([r["target"] for r in mine], [r["answer"] for r in mine])
    card = read_json(workshop.layout.reports("evaluate") / "scorecard.json")
    assert new["value"] == exact == card["classification"]["accuracy"]
    assert new["says"] == "worse"
    assert new["difference"]["difference"] == pytest.approx((90 - 114) / 120)
    assert new["difference"]["high"] < 0
    assert old["value"] == 114 / 120


def test_what_a_refused_candidate_answered_is_kept_in_mlflow(
    workshop: Any, two_candidates: tuple[str, str]
) -> None:
    evaluated = workshop.layout.reports("evaluate")
    wanted = (evaluated / "answers.jsonl").read_bytes()
    for path in evaluated.iterdir():
        path.unlink()
    kept = evaluation_of(workshop.root, "demo", two_candidates[1])
    assert (kept / "answers.jsonl").read_bytes() == wanted
    (kept / "answers.jsonl").write_bytes(wanted[:-2])
    with pytest.raises(IntegrityError, match=r"answers\.jsonl: its bytes are not"):
        evaluation_of(workshop.root, "demo", two_candidates[1])


def test_the_report_shows_the_champions_answers_beside(
    workshop: Any, two_candidates: tuple[str, str]
) -> None:
    page = (workshop.layout.reports("promote") / "report.html").read_text(encoding="utf-8")
    assert "24 worse" in page  # 114 - 90, the same rows in both
    assert "Worst regressions" in page


def test_mlflow_has_the_predictions_as_a_table_and_the_numbers_of_the_scorecard(
    workshop: Any, two_candidates: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workshop.root
    # MLflow's own reader of tables looks for runs where its environment says.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.tracking_uri(root))
    with connected(root) as client:
        experiment = find_experiment(client, "demo")
        run = find_run(client, experiment, two_candidates[1], "candidate")
        table = client.load_table(experiment, "predictions.json", [run.info.run_id])
    columns = ["id", "task", "prompt", "target", "answer", "finished"]
    rows = read_jsonl(workshop.layout.reports("evaluate") / "answers.jsonl")
    assert table.to_dict("records") == [{key: row[key] for key in columns} for row in rows]
    assert run.data.metrics["classification/accuracy"] == 90 / 120


def test_folders_and_baselines_are_compared_too(workshop: Any, run: Any) -> None:
    folder = workshop.layout.reports("evaluate")
    ids = [
        row["id"] for row in read_jsonl(folder / "answers.jsonl") if row["task"] == "classification"
    ]
    rows = [
        BaselineScore(i, "classification", "accuracy", float(i < "c060"), 1.0, "linear")
        for i in ids
    ]
    write_table(folder / "baselines.parquet", rows, BaselineScore)
    found = run("reports/demo:linear", "reports/demo", str(workshop.root))
    values = metric(found, "classification/accuracy")
    assert [value["value"] for value in values] == [60 / 120, 114 / 120, 114 / 120]
    assert values[1]["says"] == "better"
    assert metric(found, "triples/f1")[0] is None
    with pytest.raises(InputError, match=r"no such baseline, got 'nearest'\. There is: linear"):
        named(workshop.root, "reports/demo:nearest")


def other_test(workshop: Any, folder: Path) -> Path:
    """The same evaluation on another test set: ten rows are new, ten were asked in other words."""
    source = workshop.layout.reports("evaluate")
    rows = read_jsonl(source / "answers.jsonl")
    for row in rows[:20:2]:
        row["prompt"] += "？"
    write_jsonl(folder / "answers.jsonl", rows)
    card = read_json(source / "scorecard.json")
    card["test"]["sha256"] = "another"
    write_json(folder / "scorecard.json", card)
    (folder / "scores.parquet").write_bytes((source / "scores.parquet").read_bytes())
    return folder


def test_of_different_test_sets_only_the_common_rows_count(workshop: Any, run: Any) -> None:
    folder = other_test(workshop, workshop.root / "other")
    found = run("reports/demo", str(folder))
    assert (found["same_test"], found["rows"]) == (False, 230)
    assert "only the 230 rows that all were asked alike count" in found["notes"][0]
    accuracy = next(m for m in found["metrics"] if m["metric"] == "classification/accuracy")
    assert accuracy["rows"] == 110
    assert accuracy["values"][1]["value"] == (114 - 10) / 110  # the ten changed rows were right


def test_values_by_other_versions_of_the_metrics_have_no_difference(workshop: Any) -> None:
    folder = other_test(workshop, workshop.root / "other")
    card = read_json(folder / "scorecard.json")
    card["test"]["metrics"] = "newer"
    write_json(folder / "scorecard.json", card)
    mine = read_evaluated(workshop.layout.reports("evaluate"), "a")
    found = compare([mine, read_evaluated(folder, "b")])
    assert all(cell.difference is None for line in found.lines for cell in line.cells if cell)
    assert "different versions" in found.notes[1]


def test_a_difference_is_better_only_when_its_interval_says_so() -> None:
    up, down, unclear = (
        Estimate(0.1, 0.05, 0.2),
        Estimate(-0.1, -0.2, -0.05),
        Estimate(0.1, 0.0, 0.2),
    )
    assert [word(False, d) for d in (up, down, unclear)] == [BETTER, WORSE, UNCLEAR]
    assert [word(True, d) for d in (up, down, unclear)] == [WORSE, BETTER, UNCLEAR]
    assert word(False, Estimate(0.0, 0.0, 0.0)) == EQUAL
    assert word(False, Estimate(0.1, float("nan"), float("nan"))) == UNCLEAR


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("demo", "there is no champion yet. Run `glmops run demo` first"),
        ("nothing", "no recipe, digest or folder of this name, got 'nothing'"),
        ("abcdef12", "no recipe has such a digest, got 'abcdef12'"),
        ("demo@abcdef12", "no such digest"),
        ("recipes", "no evaluation there"),
    ],
)
def test_a_name_that_means_nothing_says_so(
    workshop: Any, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(workshop.root)
    with pytest.raises((RecipeError, InputError), match=message):
        named(workshop.root, text)


def test_a_package_that_was_changed_is_not_compared(
    workshop: Any, two_candidates: tuple[str, str]
) -> None:
    place = registry.find_package(workshop.root, "demo", two_candidates[0])
    scores = place / "evaluation" / "scores.parquet"
    scores.write_bytes(scores.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match=r"scores\.parquet: its bytes are not the recorded"):
        evaluation_of(workshop.root, "demo", two_candidates[0])


def test_one_model_alone_is_a_mistake(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workshop.root)
    with pytest.raises(RecipeError, match="expected several models, got 1"):
        CliRunner().invoke(app, ["compare", "reports/demo"], catch_exceptions=False)


def test_people_get_a_table_and_a_page(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workshop.root)
    arguments = ["compare", "reports/demo", str(workshop.root), "--html", "out.html"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "0.9500" in done.stdout  # 114 / 120
    assert "equal" in done.stdout
    assert (workshop.root / "out.html").read_text(encoding="utf-8").startswith("<!doctype html>")
