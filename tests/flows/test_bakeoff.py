"""`glmops bakeoff` as a process: which runs it makes, what it leaves, and how it goes on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flows.bakeoff import bakeoff, planned
from glmops.errors import RecipeError
from glmops.storage import read_json
from toy_bakeoff import bake, scored_project
from toy_project import git

REFUSAL = "data/raw/rows.txt:3: expected 2 fields, got 1. Repair the row."


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    return scored_project(tmp_path / "toy")


def test_a_bake_off_goes_on_after_a_failed_run_and_repeats_no_other(scored: Path) -> None:
    """No server is named: the runs share one. Prefect reads its server's address once in a process,
    so that a second one would not be found."""
    arguments = {"methods": ["lora", "prefix"], "seeds": [1, 2]}
    status, recipe = git(scored, "status", "--porcelain"), scored / "recipes" / "demo.yaml"
    text = recipe.read_bytes()
    first = bake(scored, {"TOY_FAILS": "prefix"}, **arguments)
    assert first.code == 1, first.said
    states = [(run["method"], run["seed"], run["state"]) for run in first.outcome["runs"]]
    assert states == [
        ("lora", 1, "passed"), ("lora", 2, "passed"), ("prefix", 1, "failed"),
        ("prefix", 2, "failed"),
    ]  # fmt: skip
    assert first.outcome["runs"][2]["reasons"] == [REFUSAL]
    assert first.outcome["recommendation"]["method"] == "lora"
    assert first.starts.count("train") == 4
    # The recipe's own method and seed are the recipe's own run; the others are beside it.
    folders = [run["folder"] for run in first.outcome["runs"]]
    assert folders[0] == "."
    assert all(folder.startswith(".glmops/runs/demo-") for folder in folders[1:])
    assert len(set(folders)) == 4

    second = bake(scored, **arguments)
    assert second.code == 0, second.said
    assert second.starts == ["train", "evaluate"] * 2
    # Both answer alike, and prefix took 20 seconds where lora took 30 (tests/toy_bakeoff.py).
    assert second.outcome["recommendation"]["method"] == "prefix"
    assert "lora cannot be told from it" in second.outcome["recommendation"]["sentence"]
    assert second.outcome["frontier"]["triples/f1"]["seconds"] == ["prefix"]

    third = bake(scored, **arguments)
    assert (third.code, third.starts, third.outcome["loaded"]) == (0, [], [])
    assert {**third.outcome, "loaded": 0} == {**second.outcome, "loaded": 0}
    assert recipe.read_bytes() == text
    left = git(scored, "status", "--porcelain").replace("?? dvc.lock\n", "")
    assert left.split("\n") == status.split("\n")

    place = scored / "reports" / "demo" / "bakeoff"
    document = read_json(place / "bakeoff.json")
    assert document == {key: third.outcome[key] for key in document}
    page = Page((place / "bakeoff.html").read_text(encoding="utf-8"))
    assert "Take prefix" in page.text
    assert not page.tags & {"script", "link", "img", "iframe"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"methods": []}, "--methods: names no method"),
        ({"methods": ["lora", "qlora"]}, "unknown method, got 'qlora'"),
        ({"methods": ["lora"], "settings": ["train.seed=3"]}, "what a bake-off sets itself"),
        ({"methods": ["lora"], "settings": ["full:train.seed=3"]}, "does not take part"),
        ({"methods": ["lora"], "settings": ["lora:evaluate.split=dev"]}, "the same for every"),
        ({"methods": ["lora"], "settings": ["lora:train.lora.rang=3"]}, "unknown key"),
        ({"methods": ["lora"], "metrics": ["keywords/f1"]}, "no task of this recipe"),
        ({"methods": ["lora"], "cost": "money"}, "Known: memory, seconds, size"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    scored: Path, arguments: dict[str, Any], said: str
) -> None:
    lines: list[str] = []
    with pytest.raises(RecipeError, match=said):
        bakeoff(scored, "demo", say=lines.append, **arguments)
    assert lines == []
    assert not (scored / ".glmops").exists()


def settings_of(root: Path, settings: Sequence[str]) -> dict[str, list[str]]:
    entries = planned(root, "demo", ["lora", "prefix"], [1], settings)
    return {entry.method: list(entry.settings) for entry in entries}


def test_a_setting_is_for_all_methods_or_for_one(scored: Path) -> None:
    own = settings_of(scored, [])
    assert own["lora"] == []
    found = settings_of(scored, ["prefix:train.prefix.length=4", "train.schedule.epochs=1"])
    assert found["lora"] == ["train.schedule.epochs=1"]
    assert found["prefix"] == [
        *own["prefix"], "train.prefix.length=4", "train.schedule.epochs=1",
    ]  # fmt: skip


def test_the_command_says_what_is_wrong_with_its_words(
    scored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from glmops.cli import main

    monkeypatch.chdir(scored)
    monkeypatch.setattr(
        sys, "argv", ["glmops", "bakeoff", "demo", "--methods", "lora", "--seeds", "a"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--seeds: not whole numbers, got 'a'. Such as --seeds 1,2,3." in capsys.readouterr().err


class Page(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data
