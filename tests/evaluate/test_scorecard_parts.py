"""What stands below a task's metrics on the scorecard: likelihoods, turns, attributes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from glmops.errors import InputError
from glmops.evaluate.metrics import OF_A_SET
from glmops.evaluate.scorecard import calibration_bins, score_rows, scorecard
from glmops.records import Answer, LabelLikelihood, Record

LABELS = ("水果", "衣服", "酒店")


def written(rows: list[Record], texts: list[str]) -> list[Answer]:
    return [
        Answer(row.id, row.task, row.prompt, row.target, text, True)
        for row, text in zip(rows, texts, strict=True)
    ]


@pytest.fixture
def answers(rows: list[Record]) -> list[Answer]:
    chosen = [row for row in rows if row.task == "classification"]
    return written(chosen, ["水果", "水果", "水果", "衣服"])


@pytest.fixture
def likelihoods(answers: list[Answer]) -> list[LabelLikelihood]:
    """The likeliest label is the written one, but for the last row: 酒店, which is right."""
    likely = ["水果", "水果", "水果", "酒店"]
    return [
        LabelLikelihood(row.id, label, -0.5 if label == first else -2.0)
        for row, first in zip(answers, likely, strict=True)
        for label in LABELS
    ]


def test_likelihoods_add_their_metrics_and_the_calibration_error_to_the_card(
    answers: list[Answer], likelihoods: list[LabelLikelihood], train: list[Record]
) -> None:
    scores = score_rows(answers, train, likelihoods=likelihoods)
    card = scorecard(answers, scores, likelihoods=likelihoods)["classification"]
    # expected 水果 衣服 水果 酒店: three of four by likelihood, two by what was written.
    assert (card["accuracy"], card["likelihood-accuracy"]) == (0.5, 0.75)
    assert card["agreement"] == 0.75
    (bin_,) = calibration_bins(answers, likelihoods)
    confidence = math.exp(-0.5) / (math.exp(-0.5) + 2 * math.exp(-2))  # in every row: 0.691
    assert (bin_.range, bin_.rows, bin_.accuracy) == ("0.6-0.7", 4, 0.75)
    assert bin_.confidence == pytest.approx(confidence)
    assert card["ece"] == pytest.approx(0.75 - confidence)
    assert "ece" not in {row.metric for row in scores}
    plain = scorecard(answers, score_rows(answers, train))["classification"]
    assert set(card) - set(plain) == {
        *("ece", "agreement", "auc", "likelihood-accuracy", "likelihood-macro-f1")
    }
    assert calibration_bins(answers, []) == []


def test_a_row_without_likelihoods_is_refused_where_others_have_them(
    answers: list[Answer], likelihoods: list[LabelLikelihood], train: list[Record]
) -> None:
    with pytest.raises(InputError, match=f"row {answers[-1].id}: the row has no label likelihoods"):
        score_rows(answers, train, likelihoods=likelihoods[:-3])


def test_rows_of_several_turns_are_also_scored_by_the_number_of_earlier_turns(
    rows: list[Record], train: list[Record]
) -> None:
    chosen = [
        replace(row, task="generation", turns=turns, target="今天天气很好")
        for row, turns in zip(rows, ["", "3", "3,4", "7", "", "5,5", "1"], strict=True)
    ]
    texts = ["今天天气很好", "", "今天天气很好", "今天天气很好", "xyz", "", "今天天气很好"]
    answers = written(chosen, texts)
    scores = score_rows(answers, train)
    card = scorecard(answers, scores, records=chosen)["generation"]
    # no earlier turn: rows 1 and 5; one: 2, 4 and 7; two: 3 and 6.
    turns = card["turns"]
    assert {key: (turn["rows"], turn["exact-match"]) for key, turn in turns.items()} == {
        "0": (2, 1 / 2),
        "1": (3, 2 / 3),
        "2": (2, 1 / 2),
    }
    assert turns["1"]["bleu-4"] == pytest.approx(200 / 3)
    assert not OF_A_SET & set(turns["1"])
    alone = [replace(row, turns="") for row in chosen]
    assert "turns" not in scorecard(answers, scores, records=alone)["generation"]


def test_attributes_are_those_of_the_prompt(rows: list[Record]) -> None:
    (row, *_) = rows
    advert = replace(row, task="generation", body="\n类型#裙*颜色#蓝色\n", target="蓝色的裙子")
    answers = written([advert], ["一条蓝色的"])
    assert scorecard(answers, score_rows(answers, []))["generation"]["attribute-coverage"] == 0.5
