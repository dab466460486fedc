"""A recipe is whole or it is refused by the name of the key at fault."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from glmops.errors import RecipeError
from glmops.recipe import load_params, load_recipe, raw_path

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    (tmp_path / "params.yaml").write_text("recipes:\n  demo: {raw: rows}\n")
    return tmp_path


def rewrite(project: Path, *keys: str, value: Any) -> None:
    path = project / "recipes" / "demo.yaml"
    recipe = yaml.safe_load(path.read_text())
    place = recipe
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True))


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("train", "rank"), 8, "recipes/demo.yaml train.rank: unknown key. Known here: seed,"),
        (("train", "lora", "r"), 8, "train.lora.r: unknown key. Known here: rank, alpha,"),
        (("extra",), {}, "recipes/demo.yaml extra: unknown key. Known here: description,"),
        (("train", "seed"), None, "train.seed: field required. Correct the recipe."),
        (
            ("train", "method"),
            "qlora",
            "train.method: input should be 'lora', 'prefix', 'full' or",
        ),
        (("train", "lora", "rank"), -1, "train.lora.rank: input should be greater than 0, got -1"),
        (("train", "base", "heads"), 3, "train.base: heads must divide hidden_size"),
        (("promote", "floors"), {"keywords/f1": 1}, "the metric 'keywords/f1', whose task is not"),
        (("promote", "beats"), {"triples/f1": "base"}, "to beat base, which is not in evaluate.ba"),
        (
            ("promote", "slices"),
            {"triples/f1": [{"by": "class", "floor": 0.1}]},
            "by class needs a classification metric: triples/f1",
        ),
        (("promote", "slices"), {"triples/f1": [{"by": "length"}]}, "needs a floor, a max_regress"),
    ],
)
def test_a_wrong_recipe_names_the_key_and_the_cure(
    project: Path, keys: tuple[str, ...], value: object, message: str
) -> None:
    rewrite(project, *keys, value=value)
    with pytest.raises(RecipeError) as caught:
        load_recipe(project, "demo")
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["nope", "../demo", "demo.yaml", "", "Demo", "demo;touch x"])
def test_an_unknown_or_hostile_name_lists_the_known_recipes(project: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=r"no such recipe.*Known: .*demo"):
        load_recipe(project, name)


def test_broken_yaml_is_named_by_its_line(project: Path) -> None:
    (project / "recipes" / "demo.yaml").write_text("description: x\nprepare: [1\nencode: 2\n")
    with pytest.raises(RecipeError, match=r"demo\.yaml:\d+: not YAML"):
        load_recipe(project, "demo")


def test_a_recipe_that_params_does_not_list_says_how_to_list_it(project: Path) -> None:
    with pytest.raises(RecipeError, match=r"not listed under recipes, got 'other'. Add `other:"):
        raw_path(project, "other")


def test_a_missing_raw_path_is_named(project: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipes.demo.raw: no such file or folder, got 'rows'"):
        raw_path(project, "demo")


@pytest.mark.parametrize("text", ["recipes: {'a b': {raw: x}}", "recipes: {a: {}}", "recipe: {}"])
def test_a_wrong_params_file_is_refused(project: Path, text: str) -> None:
    (project / "params.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"params\.yaml"):
        load_params(project)
