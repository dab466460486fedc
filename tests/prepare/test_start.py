"""`glmops new`: a recipe that loads, from the user's own rows, or nothing at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from glmops.cli import app
from glmops.encode.dataset import encode_dataset
from glmops.errors import InputError, RecipeError
from glmops.prepare.stage import prepare
from glmops.prepare.start import Started, start_recipe
from glmops.recipe import Recipe, load_params, load_recipe

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "data" / "samples"


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
    assert recipe.prepare.labels == ("书", "水果")
    assert recipe.train.schedule.epochs * 90 >= 500 * recipe.train.schedule.batch_size
    assert load_params(root).recipes["mine"].raw == "data/raw/mine"
    assert (root / "data/raw/mine/mine.jsonl").resolve() == tmp_path / "mine.jsonl"
    assert (root / "params.yaml").read_text().startswith("# kept\n")


def test_rows_inside_the_project_are_named_where_they_lie(root: Path) -> None:
    (root / "data").mkdir()
    start_recipe(root, "mine", format="context-target", raw=rows(root / "data" / "r.jsonl", 90))
    assert load_params(root).recipes["mine"].raw == "data/r.jsonl"


def prepared(root: Path, name: str, out: Path) -> tuple[Recipe, dict[str, Any]]:
    """What the prepare stage makes of a started recipe."""
    recipe, raw = load_recipe(root, name), root / load_params(root).recipes[name].raw
    out.mkdir()
    work = out / "work"
    return recipe, prepare(raw, recipe.prepare, root=root, folder=out, work=work)


PAPER = {"title": "title", "abstract": "abstract", "keywords": "Keywords"}


@pytest.mark.parametrize(
    ("format", "sample", "settings", "floors"),
    [
        ("toutiao", "toutiao", {}, {"classification/accuracy": 0.07}),
        ("adgen", "adgen", {}, {"generation/bleu-4": 0.0}),
        ("alpaca", "alpaca", {}, {"generation/bleu-4": 0.0}),
        ("paper", "paper", {}, {"classification/accuracy": 0.5}),
        ("conversations", "conversations", {}, {"generation/bleu-4": 0.0}),
        ("context-target", "mixed", {}, {"classification/accuracy": 0.14, "triples/f1": 0.0}),
        ("table", "paper", {"columns": PAPER, "template": "paper-keywords"}, {"keywords/f1": 0.0}),
    ],
)
def test_the_recipe_of_every_format_prepares_and_encodes_every_row(
    format: str,
    sample: str,
    settings: dict[str, Any],
    floors: dict[str, float],
    root: Path,
    tmp_path: Path,
) -> None:
    made = start_recipe(root, "mine", format=format, raw=SAMPLES / sample, **settings)
    recipe, metrics = prepared(root, "mine", tmp_path / "out")
    assert metrics["rows"]["read"] == metrics["rows"]["accepted"] == made.rows
    account = encode_dataset(tmp_path / "out", recipe.encode, root=root, folder=tmp_path / "ids")
    for split in ("train", "dev"):
        assert account.metrics[split]["refused"] == account.metrics[split]["cut-prompts"] == 0
    # The commonest label's share of the generated rows, two digits, rounded down.
    assert recipe.promote.floors == floors
    text = made.path.read_text()
    assert text.startswith(f"# Made by `glmops new` from {made.rows} rows")
    assert "# No row was refused when this was written, so none may be.\n" in text


def noisy(folder: Path) -> tuple[Path, Started]:
    """A file of 90 headlines, two of which contradict each other."""
    path = folder / "rows.txt"
    names = {"103": "news_sports", "107": "news_car"}
    lines = [
        f"{n}_!_{code}_!_{names[code]}_!_第{n}条：{n * n}_!_"
        for n, code in enumerate(["103", "107"] * 45)
    ]
    lines[8] = lines[8].replace("第8条：64", "第7条：49")
    path.write_text("\n".join(lines) + "\n")
    return path, start_recipe(folder / "project", "mine", format="toutiao", raw=path)


def test_refused_rows_are_named_and_as_many_may_be_refused_and_no_more(
    root: Path, tmp_path: Path
) -> None:
    path, made = noisy(tmp_path)
    assert len(made.refused) == 2
    assert f"{path}:8: the same text has different labels" in made.refused[0]
    limit = load_recipe(root, "mine").prepare.max_refused
    assert (limit.rows, limit.share) == (2, 0.022223)  # 2 / 90, rounded up
    assert "# 2 of the 90 rows were refused when this was written" in made.path.read_text()
    _, metrics = prepared(root, "mine", tmp_path / "out")
    assert metrics["rows"]["refused"] == 2
    with path.open("a") as file:
        file.write("91_!_103_!_news_sports_!__!_\n")
    with pytest.raises(InputError, match=r"3 of 91 rows refused.*allows 2"):
        prepared(root, "mine", tmp_path / "again")


def test_a_label_that_was_not_there_is_refused_later(root: Path, tmp_path: Path) -> None:
    path, _ = noisy(tmp_path)
    with path.open("a") as file:
        file.write("91_!_109_!_news_tech_!_新芯片_!_\n")
    with pytest.raises(InputError, match=r"rows\.txt:91: .*news_tech"):
        prepared(root, "mine", tmp_path / "out")


def test_the_command_takes_the_columns_of_a_table(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "dvc.yaml").touch()
    monkeypatch.chdir(root)
    path = tmp_path / "rows.tsv"
    lines = [f"第{n}条：{n * n}\t{'好' if n % 3 else '坏'}" for n in range(90)]
    path.write_text("\n".join(lines) + "\n")
    given = ["new", "mine", "--format", "table", "--raw", str(path)]
    bare = CliRunner().invoke(app, given)
    assert isinstance(bare.exception, RecipeError)
    assert "a table needs a column for each field, and a template" in str(bare.exception)
    columns = ["--column", "title=1", "--column", "category=2", "--template", "headline-category"]
    done = CliRunner().invoke(app, [*given, *columns])
    assert (done.exit_code, done.exception) == (0, None)
    assert "90 rows read: 90 classification" in done.output
    made = load_recipe(root, "mine").prepare
    assert (made.columns, made.labels) == ({"title": 1, "category": 2}, ("坏", "好"))


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
