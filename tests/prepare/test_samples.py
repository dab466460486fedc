"""The demo's rows: made again byte for byte, learnable, and asked twice about some sentences."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest

from glmops.prepare import read
from glmops.prepare.split import split
from glmops.prepare.targets import labels_in, triples_in
from glmops.recipe import load_recipe
from glmops.records import SPLITS, Record

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "data" / "samples"
NAMES = ("classification.jsonl", "triples.jsonl")


@pytest.fixture(scope="module")
def records() -> list[Record]:
    rows, refusals = read(SAMPLES / "mixed", "context-target", root=ROOT)
    assert refusals == []
    return rows


def test_the_generator_writes_the_committed_files_again(tmp_path: Path) -> None:
    place = SAMPLES / "generate_mixed.py"
    spec = importlib.util.spec_from_file_location("generate_mixed", place)
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    generator.main(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (SAMPLES / "mixed" / name).read_bytes()


def test_the_samples_are_small_enough_for_git_and_large_enough_to_learn() -> None:
    for name in NAMES:
        content = (SAMPLES / "mixed" / name).read_bytes()
        assert len(content) < 500_000
        assert 1300 <= content.count(b"\n") <= 1700


def test_no_row_stands_twice(records: list[Record]) -> None:
    assert len({record.id for record in records}) == len(records)


def test_every_split_of_the_demo_holds_every_label_and_relation(records: list[Record]) -> None:
    sides = split(records, load_recipe(ROOT, "demo").prepare.split, "samples")
    labels = {name: Counter[str]() for name in SPLITS}
    relations = {name: Counter[str]() for name in SPLITS}
    for name in SPLITS:
        for record in sides[name]:
            if record.task == "classification":
                labels[name].update(labels_in(record.target))
            else:
                relations[name].update(item["predicate"] for item in triples_in(record.target))
    assert len(labels["train"]) == 8
    assert len(relations["train"]) == 5
    for name in ("dev", "test"):
        assert set(labels[name]) == set(labels["train"])
        assert set(relations[name]) == set(relations["train"])
    assert min(labels["test"].values()) >= 15
    # What always answering the most frequent label would score: far below the gate's floor.
    assert max(labels["test"].values()) / labels["test"].total() < 0.25


def test_the_answer_is_in_the_sentence_and_the_label_is_not(records: list[Record]) -> None:
    for record in records:
        if record.task == "classification":
            assert not any(label in record.body for label in labels_in(record.target))
        for item in triples_in(record.target) if record.task == "triples" else ():
            assert item["object"] in record.body
            assert f"《{item['subject']}》" in record.body


def test_some_sentences_are_asked_about_twice_with_the_same_answer(records: list[Record]) -> None:
    targets: dict[str, set[str]] = {}
    for record in records:
        targets.setdefault(record.group, set()).add(record.target)
    rows = Counter(record.group for record in records)
    assert all(len(answers) == 1 for answers in targets.values())
    assert max(rows.values()) == 2
    assert sum(count == 2 for count in rows.values()) > len(rows) / 5


def test_some_sentences_have_a_second_triple(records: list[Record]) -> None:
    sizes = Counter(len(triples_in(r.target)) for r in records if r.task == "triples")
    assert set(sizes) == {1, 2}
    assert 0.1 < sizes[2] / sizes.total() < 0.3


def test_the_samples_read_as_the_published_layout(records: list[Record]) -> None:
    for record in records:
        assert record.head.startswith("Instruction: ")
        assert "\nInput: " in record.head
        assert record.head.endswith("\n\n")
        assert record.cue == "\nAnswer: "
        if record.task == "triples":
            keys = ["predicate", "object_type", "subject_type", "object", "subject"]
            assert all(list(item) == keys for item in triples_in(record.target))
        else:
            assert json.loads(record.target) == labels_in(record.target)
