"""`glmops new`: a recipe that loads, from the user's own rows, or nothing at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from glmops.errors import InputError, RecipeError
from glmops.prepare.start import start_recipe
from glmops.recipe import load_params, load_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    shutil.copytree(ROOT / "recipes", place / "recipes")
    (place / "params.yaml").write_text("# kept\nrecipes:\n  demo: {raw: data/samples/mixed}\n")
    return place


def rows(path: Path, texts: int, target: str = '["水果"]') -> Path:
    lines = [{"context": f"第{i}句", "target": target if i % 3 else '["书"]'} for i in range(texts)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines))
    return path


def test_the_rows_decide_tasks_floors_shares_and_epochs(root: Path, tmp_path: Path) -> None:
    made = start_recipe(
        root, "mine", format="context-target", raw=rows(tmp_path / "mine.jsonl", 90)
    )
    assert (made.rows, made.summary) == (90, "90 classification")
    recipe = load_recipe(root, "mine")
    assert recipe.prepare.tasks == ("classification",)
    # 60 of 90 rows are 水果: the most frequent label's share, two digits, rounded down.
    assert recipe.promote.floors == {"classification/accuracy": 0.66}
    assert recipe.train.schedule.epochs * 90 >= 500 * recipe.train.schedule.batch_size
    assert load_params(root).recipes["mine"].raw == "data/raw/mine"
    assert (root / "data/raw/mine/mine.jsonl").resolve() == tmp_path / "mine.jsonl"
    assert (root / "params.yaml").read_text().startswith("# kept\n")


def test_rows_inside_the_project_are_named_where_they_lie(root: Path) -> None:
    (root / "data").mkdir()
    start_recipe(root, "mine", format="context-target", raw=rows(root / "data" / "r.jsonl", 90))
    assert load_params(root).recipes["mine"].raw == "data/r.jsonl"


@pytest.mark.parametrize(
    ("name", "format", "texts", "target", "kind", "message"),
    [
        ("demo", "context-target", 90, '["a"]', RecipeError, "already taken"),
        ("My Rows", "context-target", 90, '["a"]', RecipeError, "lower-case letters"),
        ("mine", "csv", 90, '["a"]', RecipeError, "Known: adgen"),
        ("mine", "context-target", 5, '["a"]', InputError, "too few different texts"),
        ("mine", "context-target", 90, '["a"', InputError, r"rows\.jsonl:2: .* 60 refused rows"),
    ],
)
def test_what_cannot_become_a_recipe_writes_nothing(
    name: str,
    format: str,
    texts: int,
    target: str,
    kind: type[Exception],
    message: str,
    root: Path,
    tmp_path: Path,
) -> None:
    before = (root / "params.yaml").read_bytes(), sorted(root.rglob("*"))
    with pytest.raises(kind, match=message):
        start_recipe(root, name, format=format, raw=rows(tmp_path / "rows.jsonl", texts, target))
    assert ((root / "params.yaml").read_bytes(), sorted(root.rglob("*"))) == before
