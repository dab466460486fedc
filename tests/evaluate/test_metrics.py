"""Accuracy and F1 against scikit-learn, triples against sums worked by hand."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from sklearn.metrics import accuracy_score, f1_score

from glmops.errors import InputError, RecipeError
from glmops.evaluate import score
from glmops.evaluate.metrics import METRICS
from glmops.evaluate.metrics.labels import macro_f1_parts, weighted_f1_parts
from glmops.records import TASKS
from toy_texts import triples

LABELS = ["水果", "衣服", "酒店", "书籍", "电脑"]


@pytest.mark.parametrize("seed", range(20))
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(seed: int) -> None:
    dice = random.Random(seed)
    size = dice.randint(1, 60)
    expected = dice.choices(LABELS[: dice.randint(1, 5)], k=size)
    # Right, wrong, never taught (外) and unreadable (None) answers, in seed-dependent shares.
    shares = [dice.random(), dice.random(), dice.random() / 4, dice.random() / 4]
    kinds = dice.choices(range(4), shares, k=size)
    answered = [
        (label, dice.choice(LABELS), "外", None)[kind]
        for label, kind in zip(expected, kinds, strict=True)
    ]
    ours = score(
        "classification",
        ["[" if label is None else f'["{label}"]' for label in answered],
        expected,
        labels=LABELS,
    )
    as_class = ["(unparsable)" if label is None else label for label in answered]
    assert ours == pytest.approx(
        {
            "accuracy": accuracy_score(expected, as_class),
            "macro-f1": f1_score(expected, as_class, average="macro", zero_division=0.0),
            "weighted-f1": f1_score(expected, as_class, average="weighted", zero_division=0.0),
            "unparsable": answered.count(None) / size,
            "outside-labels": answered.count("外") / size,
        },
        abs=1e-12,
    )


@pytest.mark.parametrize(
    ("parts_of", "average"), [(macro_f1_parts, "macro"), (weighted_f1_parts, "weighted")]
)
def test_the_row_parts_of_an_f1_follow_a_leave_one_out_to_first_order(
    parts_of: Callable[[list[str], list[str]], list[float]], average: str
) -> None:
    dice = random.Random(3)
    expected = dice.choices(LABELS, k=400)
    answered = [label if dice.random() < 0.8 else dice.choice(LABELS) for label in expected]
    parts = parts_of(expected, answered)
    for row in range(0, 400, 40):
        rest = [place for place in range(400) if place != row]
        without = f1_score(
            [expected[i] for i in rest], [answered[i] for i in rest], average=average
        )
        estimate = sum(parts[i] for i in rest) / 399
        # The second-order rest of a ratio of sums over about 80 rows per label.
        assert estimate == pytest.approx(without, abs=2e-5)
        assert abs(without - sum(parts) / 400) > 1e-4


def test_labels_outside_the_references_count_as_outside_when_no_labels_are_given() -> None:
    got = score("classification", ["水果", "别的", "[", "衣服"], ["水果", "衣服", "水果", "衣服"])
    # Labels: 水果 F1 2/3 (1 answered, 2 expected), 衣服 2/3, 别的 0, unparsable 0; both labels that
    # are expected are half of the rows.
    assert got == pytest.approx(
        {
            "accuracy": 0.5, "macro-f1": (4 / 3) / 4, "weighted-f1": 2 / 3,
            "unparsable": 0.25, "outside-labels": 0.25,
        }
    )  # fmt: skip


def test_triples_are_counted_over_all_rows_and_only_exact_ones_match() -> None:
    references = [triples("abcAC", "abdAD"), triples("xyz"), triples("pqrPR"), triples()]
    predictions = [
        triples("abcAC", "abdAX", "abcAC"),  # 2 answered: one matches, one has another type
        triples("xyzXZ"),  # types nobody expected: no match
        f"结果：\n{triples('pqrPR')[:-3]}",  # not closed: unparsable, nothing answered
        triples(),
    ]
    got = score("triples", predictions, references)
    # matched 1; answered 2 + 1 + 0 + 0 = 3; expected 2 + 1 + 1 + 0 = 4
    assert got["precision"] == pytest.approx(1 / 3)
    assert got["recall"] == pytest.approx(1 / 4)
    assert got["f1"] == pytest.approx(2 / 7)
    assert got["json-valid"] == pytest.approx(3 / 4)
    assert {"rouge-1", "rouge-2", "rouge-l", "bleu-4"} < set(got)


def test_keywords_are_sets_whatever_separates_them() -> None:
    got = score(
        "keywords", ["Gene  Therapy；RNA,rna, x", "肺癌、"], ["rna, gene therapy", "肺癌，化疗"]
    )
    # answered {gene therapy, rna, x} of {rna, gene therapy}: 2; answered {肺癌} of {肺癌, 化疗}: 1
    assert got == pytest.approx({"precision": 3 / 4, "recall": 3 / 4, "f1": 3 / 4})
    with pytest.raises(InputError, match=r"references\[0\]: expected keywords, .*got ' ，'"):
        score("keywords", ["x"], [" ，"])


def test_the_order_of_triples_and_of_keys_does_not_matter() -> None:
    turned = '```json\n[{"object": "d", "predicate": "b", "subject": "a"}, '
    turned += '{"predicate": "b", "object": "c", "subject": "a"}]\n```'
    got = score("triples", [turned], [triples("abc", "abd")])
    assert (got["f1"], got["precision"], got["recall"]) == (1.0, 1.0, 1.0)


def test_a_share_of_nothing_is_zero() -> None:
    got = score("triples", ["没有"], [triples("abc")])
    assert (got["f1"], got["precision"], got["recall"], got["json-valid"]) == (0.0, 0.0, 0.0, 0.0)
    nothing = score("triples", [triples()], [triples()])
    assert (nothing["f1"], nothing["json-valid"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("task", "target"), [("classification", "水果"), ("triples", triples("abc"))]
)
def test_a_reference_that_is_no_answer_of_its_task_is_refused_by_place(
    task: str, target: str
) -> None:
    with pytest.raises(InputError, match=r"^references\[1\]: expected .*, got '\[\['"):
        score(task, [target] * 2, [target, "[["])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("predictions", "references"), [([], []), (["a"], []), (["a", "b"], ["a"])]
)
def test_no_rows_or_different_numbers_are_refused(
    task: str, predictions: list[str], references: list[str]
) -> None:
    with pytest.raises(InputError, match="as many predictions as references"):
        score(task, predictions, references)


def test_an_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="Known: classification, generation, keywords, triples"):
        score("translation", ["a"], ["a"])
    assert set(METRICS) == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_no_answer_whatever_stops_the_scoring(task: str) -> None:
    nasty = [
        "", "\x00", "[" * 50_000, "```json" + "[" * 50_000, "9" * 10_000, '["\\ud800"]', "null",
        "\u2028", "```json\n[{}]\n```", "𠮷" * 50, "\ufeff", "a\nb\n\nc", " 。 。 ", "……", "\ud800",
    ]  # fmt: skip
    target = triples("abc") if task == "triples" else "水果"
    got = score(task, nasty, [target] * len(nasty))
    # Shared brackets and quotes give a triples answer some ROUGE; nothing else is earned.
    earned = {"classification": "accuracy", "generation": "rouge-1"}.get(task, "f1")
    assert got[earned] == 0.0
    assert got.get("json-valid", 0.0) == 0.0
