"""The samples of every format but the demo's: made again, past the gate whole, and learnable."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from glmops.prepare import read
from glmops.prepare.formats import CATEGORIES
from glmops.prepare.stage import prepare
from glmops.recipe import Prepare
from glmops.records import SPLITS, Record, read_table

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "data" / "samples"
FILES = {
    "toutiao": "headlines.txt",
    "adgen": "ads.json",
    "alpaca": "instructions.json",
    "paper": "papers.csv",
    "conversations": "talks.jsonl",
}


def text(name: str) -> str:
    return (SAMPLES / name / FILES[name]).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_the_generator_writes_the_committed_file_again(name: str, tmp_path: Path) -> None:
    place = SAMPLES / f"generate_{name}.py"
    spec = importlib.util.spec_from_file_location(place.stem, place)
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    generator.main(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILES[name]]
    assert (tmp_path / FILES[name]).read_bytes() == (SAMPLES / name / FILES[name]).read_bytes()
    assert (tmp_path / FILES[name]).stat().st_size < 300_000


@pytest.mark.parametrize("name", FILES)
def test_a_sample_passes_the_gate_whole_without_copies_or_leaks(name: str, tmp_path: Path) -> None:
    tasks = ["classification" if name in ("toutiao", "paper") else "generation"]
    section = Prepare(
        format=name,
        tasks=tasks,
        split={"dev": 0.05, "test": 0.15, "seed": 13},
        max_refused={"rows": 0, "share": 0.0},
    )
    found = prepare(SAMPLES / name, section, root=ROOT, folder=tmp_path, work=tmp_path / "work")
    read = found["rows"]["read"]
    assert found["rows"] == {"read": read, "accepted": read, "refused": 0, "duplicates": 0}
    assert 600 <= read <= 1500
    assert found["near_duplicates"]["texts"] == 0
    assert (found["conflicts"]["rows"], found["leaks"]["near"]) == (0, 0)
    rows = {side: read_table(tmp_path / f"{side}.parquet", Record) for side in SPLITS}
    assert len({row.id for side in SPLITS for row in rows[side]}) == read
    assert min(map(len, rows.values())) >= 25
    if tasks == ["classification"]:
        labels = {side: {row.target for row in rows[side]} for side in SPLITS}
        assert labels["train"] == labels["test"]


def test_a_headline_names_its_keywords_and_never_its_category() -> None:
    rows = [line.split("_!_") for line in text("toutiao").splitlines()]
    assert {(row[1], row[2]) for row in rows} == set(CATEGORIES.items())
    assert all(len(row) == 5 and len(row[0]) == 19 for row in rows)
    for _, _, name, title, keywords in rows:
        assert name not in title
        assert all(word in title for word in keywords.split(",") if word)
    # As in real files, where between a third and a half of the rows have none.
    assert 0.35 < sum(not row[4] for row in rows) / len(rows) < 0.55


def test_an_advertisement_says_every_attribute() -> None:
    for line in text("adgen").splitlines():
        row = json.loads(line)
        assert list(row) == ["content", "summary"]
        pairs = [each.split("#") for each in row["content"].split("*")]
        assert pairs[0][0] == "类型"
        assert 5 <= len(pairs) <= 7
        assert all(value in row["summary"] for _, value in pairs)


def test_the_keywords_of_a_paper_stand_in_its_abstract() -> None:
    rows = list(csv.DictReader(text("paper").splitlines()))
    assert list(rows[0]) == ["uuid", "title", "author", "abstract", "Keywords", "label"]
    for row in rows:
        assert all(word in row["abstract"] for word in row["Keywords"].split("; "))
    counts = Counter(row["label"] for row in rows)
    assert set(counts) == {"0", "1"}
    assert min(counts.values()) > 0.4 * counts.total()


def test_some_instructions_have_a_history_and_every_prompt_has_one_answer() -> None:
    rows: list[dict[str, Any]] = json.loads(text("alpaca"))
    past = [len(row["history"]) for row in rows if "history" in row]
    assert set(past) == {1, 2}
    assert 0.15 < len(past) / len(rows) < 0.4
    records, refusals = read(SAMPLES / "alpaca", "alpaca", root=ROOT)
    assert refusals == []
    assert sum(record.turns != "" for record in records) == len(past)
    assert len({record.prompt for record in records}) == len(records)


def test_talks_have_up_to_three_exchanges_and_some_a_system_text() -> None:
    talks = [json.loads(line)["conversations"] for line in text("conversations").splitlines()]
    roles = Counter(tuple(turn["role"] for turn in talk) for talk in talks)
    exchange = ("user", "assistant")
    assert set(roles) == {
        (*system, *exchange * n) for system in ((), ("system",)) for n in (1, 2, 3)
    }


@pytest.mark.parametrize(
    ("name", "template", "task"),
    [("toutiao", "title-bar-category", "classification"), ("paper", "paper-keywords", "keywords")],
)
def test_a_sample_serves_its_formats_other_templates(name: str, template: str, task: str) -> None:
    records, refusals = read(SAMPLES / name, name, root=ROOT, template=template)
    assert refusals == []
    assert {record.task for record in records} == {task}
