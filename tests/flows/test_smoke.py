"""`--smoke`: a recipe of its own name, derived from the other, in a copy of the user's tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.workspace import Workspace, opened, planned, smoke_of
from glmops.errors import RecipeError
from glmops.recipe import Recipe, load_params, load_recipe, parse, recipe_values, smoked
from glmops.recipe.smoke import smoke_raw, smoke_values
from glmops.storage import sha256_tree
from toy_project import ROOT, edit, git


@pytest.fixture
def sampled(toy: Path) -> Path:
    """A toy project with sample rows of the demo's format and a recipe that is not listed."""
    (toy / "data" / "samples" / "mixed").mkdir()
    (toy / "data" / "samples" / "mixed" / "rows.txt").write_text("三\n")
    unlisted = (ROOT / "recipes" / "multitask-ptuning.yaml").read_text(encoding="utf-8")
    (toy / "recipes" / "multitask-ptuning.yaml").write_text(unlisted, encoding="utf-8")
    return toy


def opened_for(root: Path, name: str, *settings: str, raw: str | None = None) -> Workspace:
    with opened(planned(root, smoke_of(root, name), settings, raw)) as here:
        return here


def test_a_smoke_run_is_elsewhere_under_its_own_name(sampled: Path) -> None:
    recipes, status = sha256_tree(sampled / "recipes"), git(sampled, "status", "--porcelain")
    params = (sampled / "params.yaml").read_bytes()
    here = opened_for(sampled, "multitask-ptuning")
    assert here.name == here.key == "multitask-ptuning-smoke"
    assert here.path == sampled / ".glmops" / "runs" / "multitask-ptuning-smoke"
    assert here.recorded == {}
    assert sha256_tree(sampled / "recipes") == recipes
    assert git(sampled, "status", "--porcelain") == status
    assert (sampled / "params.yaml").read_bytes() == params
    # Neither listing nor rows nor base of the user's are needed.
    assert load_params(here.path).recipes[here.name].raw == "data/samples/mixed"
    assert load_recipe(here.path, here.name) == load_recipe(sampled, here.name)
    assert (here.path / "data" / "samples" / "mixed" / "rows.txt").read_text() == "三\n"


def test_settings_and_rows_of_ones_own_are_another_smoke_run(sampled: Path) -> None:
    plain = opened_for(sampled, "demo")
    here = opened_for(sampled, "demo", "train.seed=7", raw=str(sampled / "data" / "samples"))
    assert here.path != plain.path
    assert here.key.startswith("demo-smoke-")
    assert load_recipe(here.path, "demo-smoke").train.seed == 7
    assert here.recorded == {"train.seed": 7, "raw": "samples"}
    assert load_params(here.path).recipes["demo-smoke"].raw == "data/raw/demo-smoke"


def test_the_name_with_the_ending_means_the_same_run(sampled: Path) -> None:
    assert smoke_of(sampled, "demo") == smoke_of(sampled, "demo-smoke") == "demo-smoke"
    assert smoked(sampled, "demo-smoke") == "demo"
    assert smoked(sampled, "demo") is smoked(sampled, "nope-smoke") is None


def test_a_file_of_that_name_is_the_users_own_recipe(sampled: Path) -> None:
    text = (sampled / "recipes" / "demo.yaml").read_text(encoding="utf-8")
    (sampled / "recipes" / "demo-smoke.yaml").write_text(text, encoding="utf-8")
    assert load_recipe(sampled, "demo-smoke") == load_recipe(sampled, "demo")
    with pytest.raises(RecipeError, match=r"demo-smoke\.yaml: has the name of the smoke run of"):
        smoke_of(sampled, "demo")


def test_a_fault_of_the_recipe_is_named_in_its_own_file(sampled: Path) -> None:
    edit(sampled / "recipes" / "demo.yaml", "rank: 64", "rank: many")
    with pytest.raises(RecipeError, match=r"recipes/demo\.yaml train\.lora\.rank"):
        smoke_of(sampled, "demo")


def test_an_unlisted_recipe_says_how_to_list_it_and_how_to_try_it(sampled: Path) -> None:
    said = r"Add `multitask-ptuning: \{raw: PATH\}` there.*`glmops run multitask-ptuning --smoke`"
    with pytest.raises(RecipeError, match=said):
        planned(sampled, "multitask-ptuning", (), None)


def test_a_format_without_samples_asks_for_rows() -> None:
    table = {
        "format": "table", "columns": {"title": "t", "category": "c"},
        "template": "headline-category",
    }  # fmt: skip
    values = recipe_values(ROOT, "toutiao-gpt2")
    values["prepare"] = {**values["prepare"], **table}
    made = smoke_values("mine", values)
    prepare = parse(Recipe, made, "mine").prepare
    assert prepare.columns == table["columns"]
    with pytest.raises(RecipeError, match=r"no sample rows of this format, got 'table'.*--raw"):
        smoke_raw("mine", prepare)


def test_sources_of_several_formats_read_the_samples_of_each() -> None:
    values = recipe_values(ROOT, "adgen-lora")
    values["prepare"]["sources"] = [
        {"format": "adgen", "files": "*a*", "side": "train", "weight": 2.0},
        {"format": "alpaca", "files": "*b*"},
    ]
    made: dict[str, Any] = smoke_values("mine", values)
    assert made["prepare"]["sources"] == [
        {"format": "adgen", "files": "adgen/*"},
        {"format": "alpaca", "files": "alpaca/*"},
    ]


def test_making_a_recipe_small_changes_nothing_of_the_recipe_itself() -> None:
    values = recipe_values(ROOT, "adgen-full")
    before = repr(values)
    smoke_values("adgen-full", values)
    assert repr(values) == before


def test_a_run_elsewhere_finds_the_users_base_checkpoint(toy: Path) -> None:
    text = (ROOT / "recipes" / "adgen-lora.yaml").read_text(encoding="utf-8")
    (toy / "recipes" / "adgen-lora.yaml").write_text(text, encoding="utf-8")
    base = toy / "models" / "base" / "chatglm-6b"
    base.mkdir(parents=True)
    (base / "config.json").write_text("{}")
    for _ in range(2):
        plan = planned(toy, "adgen-lora", ["train.seed=2"], str(toy / "data" / "samples"))
        with opened(plan) as here:
            found = here.path / "models" / "base" / "chatglm-6b"
            assert found.resolve() == base.resolve()
