"""A champion that was scored on other rows, or by other metrics, than the candidate."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

import toy_model
from glmops.errors import RefusedError
from glmops.evaluate import score
from glmops.evaluate.answers import answer
from glmops.promote import approvals, ledger, promotion, registry
from glmops.promote.rescoring import recipe_of
from glmops.recipe import Recipe, load_recipe
from glmops.records import Record, write_table
from glmops.storage import read_json, read_jsonl, write_json
from pipelines.evaluate import evaluate

ROOT = Path(__file__).parents[2]
RULES = {
    "floors": {"classification/accuracy": 0.0},
    "max_regression": {"classification/accuracy": 1.0},
}


@pytest.fixture
def project(workshop):
    """The workshop with a recipe that answers the toy rows, and compares with the champion."""
    path = workshop.root / "recipes" / "demo.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe["evaluate"] |= {"max_new_tokens": 6, "batch_size": 4}
    recipe["promote"] = RULES
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return workshop


def made(project, seed: int, test: list[Record]) -> None:
    """What the stages write for a model of these random weights, evaluated on these rows."""
    layout = project.layout
    lineage = read_json(layout.model / "lineage.json")
    shutil.rmtree(layout.model)
    toy_model.model(seed).save_pretrained(layout.model)
    toy_model.tokenizer().save_pretrained(layout.model)
    toy_model.contract().save(layout.model)
    lineage["contract"] = toy_model.contract().hash()
    write_json(layout.model / "lineage.json", lineage)
    toy_model.write_prepared(layout.prepared)
    write_table(layout.prepared / "test.parquet", test, Record)
    shutil.rmtree(layout.reports("evaluate"))
    evaluate(layout, project.recipe)


def promoted(project) -> str:
    digest = project.register().digest
    approvals.approve(project.root, "demo", digest, actor="alice")
    promotion.promote(project.root, "demo", digest, actor="carol")
    return digest


def accuracy_of(verdict, name: str) -> float:
    return next(getattr(c, name) for c in verdict.checks if c.metric == "classification/accuracy")


OLD, NEW = toy_model.RECORDS[40:44], toy_model.RECORDS[42:48]


def test_a_champion_of_other_rows_answers_the_candidates_once(project) -> None:
    made(project, 1, OLD)
    champion = promoted(project)
    stored = promotion.champion_folder(project.root, "demo")
    made(project, 2, NEW)
    verdict = project.register().verdict
    assert verdict.outcome == "passed"

    # The oracle: the champion's own folder, asked here for the new rows.
    said = answer(stored / "model", NEW, batch_size=4, max_new_tokens=6, threads=1)
    (place,) = (project.root / ".glmops/work/promote/rescored" / champion).iterdir()
    kept = place / "reports" / "demo" / "evaluate"
    assert [row["answer"] for row in read_jsonl(kept / "answers.jsonl")] == [a.answer for a in said]
    expected = score("classification", [a.answer for a in said], [r.target for r in NEW])
    assert accuracy_of(verdict, "champion") == expected["accuracy"]
    check = next(c for c in verdict.checks if c.metric == "classification/accuracy")
    assert check.rows == len(NEW)
    assert check.difference == check.value - check.champion

    # Decided anew under other rules, from what is there: nothing is answered a second time.
    scores = kept / "scores.parquet"
    before = scores.stat().st_mtime_ns
    project.rules(min_rows=2)
    assert accuracy_of(project.register().verdict, "champion") == expected["accuracy"]
    assert scores.stat().st_mtime_ns == before


def test_other_versions_of_the_metrics_answer_nothing_again(project) -> None:
    """The champion's weights are not even a model: only its stored answers can be used."""
    made(project, 1, NEW)
    weights = project.layout.model / "model.safetensors"
    weights.write_bytes(b"no weights")
    card = project.layout.reports("evaluate") / "scorecard.json"
    older = read_json(card)
    accuracy = older["classification"]["accuracy"]
    older["test"]["metrics"] = "0" * 64
    write_json(card, older)
    promoted(project)
    made(project, 2, NEW)
    verdict = project.register().verdict
    assert verdict.outcome == "passed"
    assert accuracy_of(verdict, "champion") == accuracy


def test_a_champion_that_cannot_answer_is_a_refusal_and_no_verdict(project) -> None:
    made(project, 1, OLD)
    (project.layout.model / "model.safetensors").write_bytes(b"no weights")
    promoted(project)
    made(project, 2, NEW)
    before = [entry.kind for entry in ledger.read(project.root)]
    with pytest.raises(RefusedError, match="could not be scored on the candidate's test rows"):
        project.register()
    assert [entry.kind for entry in ledger.read(project.root)] == before


@pytest.mark.parametrize("harm", ["gone", "corrupt"])
def test_a_champion_whose_package_cannot_be_used_is_a_refusal(project, harm: str) -> None:
    champion = promoted(project)
    folder = registry.find_package(project.root, "demo", champion)
    if harm == "gone":
        shutil.rmtree(project.root / "mlartifacts")
    else:
        (folder / "evaluation" / "scores.parquet").write_bytes(b"")
        shutil.rmtree(project.root / "mlartifacts" / "demo")  # no whole copy is left
    project.train("second")
    before = [entry.kind for entry in ledger.read(project.root)]
    with pytest.raises(RefusedError, match="its package cannot be used") as refused:
        project.register()
    assert refused.value.exit_code == 3
    assert [entry.kind for entry in ledger.read(project.root)] == before


def test_rows_that_are_gone_cannot_be_answered(project) -> None:
    """Two candidates on other rows each; the champion of the one has to face the other."""
    first = project.register().digest
    project.train("second", test="b")
    second = project.register().digest
    approvals.approve(project.root, "demo", second, actor="alice")
    promotion.promote(project.root, "demo", second, actor="carol")
    (project.layout.prepared / "train.parquet").unlink()
    with pytest.raises(RefusedError, match="the candidate's rows are not here any more"):
        approvals.approve(project.root, "demo", first, actor="alice")


def test_rules_that_compare_nothing_ask_nothing_of_the_champion(project) -> None:
    project.rules(max_regression={})
    promoted(project)
    project.train("second", test="b")
    assert project.register().verdict.passed
    assert not (project.root / ".glmops/work/promote/rescored").exists()


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml")))
def test_a_manifests_sections_are_a_recipe_again(name: str) -> None:
    recipe = load_recipe(ROOT, name)
    values = recipe.model_dump(mode="json")
    manifest = {"description": values["description"], "sections": values}
    written = recipe_of(manifest, values["evaluate"], recipe.promote)
    assert Recipe.model_validate(written) == recipe
