"""The scorecard, from answers written by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from sklearn.metrics import f1_score

from glmops.errors import InputError
from glmops.evaluate import score
from glmops.evaluate.scorecard import confusion, headline, score_rows, scorecard
from glmops.records import Answer, Record

SAID = {  # by line; triples rows have odd lines
    20: '["水果"]', 21: "```json\n[]\n```", 22: '["水果"]', 23: "```json", 24: "[",
    25: '```json\n[{"subject": "少林足球", "predicate": "主演", "object": "周星驰"}]\n```',
    26: "火星",
}  # fmt: skip


@pytest.fixture
def answers(rows: list[Record]) -> list[Answer]:
    return [Answer(row.id, row.task, row.prompt, row.target, SAID[row.line], True) for row in rows]


def test_the_scorecard_says_what_a_reader_counts_by_hand(
    answers: list[Answer], train: list[Record]
) -> None:
    card = scorecard(answers, score_rows(answers, train))
    # expected 水果 衣服 水果 酒店; answered 水果 水果 (unparsable) 火星: one of four is right.
    expected, answered = ["水", "衣", "水", "酒"], ["水", "水", "?", "火"]
    macro, weighted = (
        f1_score(expected, answered, average=average, zero_division=0)
        for average in ("macro", "weighted")
    )
    classes = card["classification"].pop("classes")
    assert card["classification"] == pytest.approx(
        {
            "rows": 4, "accuracy": 1 / 4, "macro-f1": macro, "weighted-f1": weighted,
            "unparsable": 1 / 4, "outside-labels": 1 / 4,
        }
    )  # fmt: skip
    nothing = {"answered": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert classes == {
        "水果": {"rows": 2, "answered": 2, "precision": 1 / 2, "recall": 1 / 2, "f1": 2 / 4},
        "衣服": {"rows": 1, **nothing},
        "酒店": {"rows": 1, **nothing},
    }
    # Three rows expect one triple each; answered: none, unparsable, the right one.
    counted = {key: card["triples"][key] for key in ("rows", "f1", "precision", "recall")}
    assert counted == pytest.approx({"rows": 3, "f1": 2 / 4, "precision": 1.0, "recall": 1 / 3})
    assert card["triples"]["json-valid"] == pytest.approx(2 / 3)
    assert card["test"]["rows"] == 7
    assert set(card) == {"classification", "triples", "test"}
    assert headline(card) == "7 rows: classification accuracy 0.250, triples f1 0.500"


def test_the_scorecard_equals_the_sums_of_the_score_rows_and_the_public_score(
    answers: list[Answer], train: list[Record]
) -> None:
    scores = score_rows(answers, train)
    card = scorecard(answers, scores)
    seen = set()
    for task in ("classification", "triples"):
        for metric in set(card[task]) - {"rows", "classes"}:
            mine = [row for row in scores if (row.task, row.metric) == (task, metric)]
            assert len(mine) == card[task]["rows"]
            whole = sum(row.denominator for row in mine)
            value = sum(row.numerator for row in mine) / whole
            assert card[task][metric] == pytest.approx(value, abs=1e-12)
            seen.add((task, metric))
        rows = [answer for answer in answers if answer.task == task]
        public = score(
            task,
            [a.answer for a in rows],
            [a.target for a in rows],
            labels=["水果", "衣服", "酒店"],
        )
        rest = {key: card[task][key] for key in set(card[task]) - {"rows", "classes"}}
        assert rest == public
    assert seen == {(row.task, row.metric) for row in scores}


def test_scores_follow_the_rows_then_the_names_of_the_metrics(
    answers: list[Answer], train: list[Record]
) -> None:
    scores = score_rows(answers, train)
    place = {answer.id: index for index, answer in enumerate(answers)}
    assert scores == sorted(scores, key=lambda row: (place[row.id], row.metric))
    assert {row.id for row in scores} == set(place)
    assert len({(row.id, row.metric) for row in scores}) == len(scores)


def test_generation_rows_are_scored_and_only_tasks_that_occur_are_on_the_card() -> None:
    answers = [
        Answer("a", "generation", "写一句。", "今天天气很好。", "今天天气很好。", True),
        Answer("b", "generation", "写一句。", "今天天气很好。", "", False),
    ]
    card = scorecard(answers, score_rows(answers, []))
    # A whole match is 100, an empty answer 0. Of the set, half of what was expected is written:
    # every precision is 1, the brevity penalty exp(1 - 14/7).
    names = ("rouge-1", "rouge-2", "rouge-l", "bleu-4")
    whole = {"sacrebleu-zh": 100 * math.exp(-1), "exact-match": 0.5}
    assert card["generation"] == pytest.approx(
        {"rows": 2, **dict.fromkeys(names, 50.0), **whole}, abs=1e-12
    )
    assert set(card) == {"generation", "test"}
    assert headline(card) == "2 rows: generation rouge-l 50.0"


def test_the_hash_of_the_test_moves_with_any_id_prompt_target_or_order_and_no_answer(
    answers: list[Answer], train: list[Record]
) -> None:
    def digest(rows: list[Answer]) -> str:
        return scorecard(rows, score_rows(rows, train))["test"]["sha256"]

    first, *rest = answers
    others = [
        [replace(first, id="other"), *rest],
        [replace(first, prompt="other"), *rest],
        [replace(first, target='["衣服"]'), *rest],
        [*rest, first],
        rest,
    ]
    assert len({digest(rows) for rows in [answers, *others]}) == 6
    assert digest([replace(first, answer="other"), *rest]) == digest(answers)


def test_the_confusion_names_known_labels_and_folds_the_rest_into_two(
    answers: list[Answer], train: list[Record]
) -> None:
    assert confusion(answers, train) == [
        ("水果", "水果"),
        ("衣服", "水果"),
        ("水果", "(unparsable)"),
        ("酒店", "(another label)"),
    ]
    assert confusion([a for a in answers if a.task == "triples"], train) == []
    # An expected label keeps its name although nobody taught it, so a right answer shows as one.
    untaught = replace(answers[0], target="火星", answer='["火星"]')
    assert confusion([untaught], train) == [("火星", "火星")]


def test_without_a_taught_label_every_label_is_outside(
    answers: list[Answer],
) -> None:
    card = scorecard(answers, score_rows(answers, []))["classification"]
    # Three of the four answers read as a label.
    assert card["outside-labels"] == 0.75


def test_a_target_that_is_no_answer_is_refused_with_its_row(
    answers: list[Answer], train: list[Record]
) -> None:
    with pytest.raises(InputError, match="row r20: expected a label"):
        score_rows([replace(answers[0], target="[")], train)
    with pytest.raises(InputError, match="a:1: expected a label"):
        score_rows(answers, [replace(train[0], target="[")])
