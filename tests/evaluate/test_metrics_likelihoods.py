"""What label likelihoods are worth: scikit-learn's AUC, and sums worked by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from glmops.errors import InputError
from glmops.evaluate.metrics import measure, total
from glmops.evaluate.metrics.likelihoods import (
    auc_parts,
    calibration,
    ece,
    likeliest,
    probabilities,
)

LABELS = ["书籍", "水果", "衣服", "酒店"]


def rows_of(dice: random.Random, number: int) -> tuple[list[str], list[dict[str, float]]]:
    """Labels, and log probabilities that lean towards them; rounded, so that there are ties."""
    expected = [*LABELS, *dice.choices(LABELS, k=number)]
    weighed = [
        {each: round(dice.gauss(-3 + 1.5 * (each == label), 1), 1) for each in LABELS}
        for label in expected
    ]
    return expected, weighed


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_that_of_scikit_learn_one_label_against_the_rest(seed: int) -> None:
    expected, weighed = rows_of(random.Random(seed), 30 + 10 * seed)
    parts = auc_parts(expected, weighed)
    assert parts is not None
    scores = [[row[label] for label in LABELS] for row in map(probabilities, weighed)]
    theirs = roc_auc_score(expected, scores, multi_class="ovr", average="macro", labels=LABELS)
    assert sum(parts) / len(parts) == pytest.approx(theirs, abs=1e-12)


def test_the_parts_of_auc_follow_a_leave_one_out_to_first_order() -> None:
    expected, weighed = rows_of(random.Random(9), 400)
    parts = auc_parts(expected, weighed)
    assert parts is not None
    for row in range(10, 400, 80):
        rest = [place for place in range(len(expected)) if place != row]
        without = auc_parts([expected[i] for i in rest], [weighed[i] for i in rest])
        assert without is not None
        assert sum(parts[i] for i in rest) / len(rest) == pytest.approx(np.mean(without), abs=2e-5)


def test_a_label_that_all_or_no_rows_expect_has_no_auc() -> None:
    weighed = [{"a": -1.0, "b": -2.0}, {"a": -2.0, "b": -1.0}]
    assert auc_parts(["a", "a"], weighed) is None
    # c is expected and was never taught: for a and b its row is one of the rest.
    assert auc_parts(["c", "b"], weighed) == [1.0, 1.0]
    got = total(measure("classification", ["a", "a"], ["a", "a"], likelihoods=weighed))
    assert "auc" not in got
    assert (got["accuracy"], got["likelihood-accuracy"], got["agreement"]) == (1.0, 0.5, 0.5)


def test_the_likeliest_label_is_scored_like_a_written_one() -> None:
    weighed = [{"a": -1.0, "b": -2.0}, {"a": -1.0, "b": -1.0}, {"a": -9.0, "b": -1.0}]
    got = total(measure("classification", ["a", "[", "a"], ["a", "b", "b"], likelihoods=weighed))
    # likeliest a, a (of equals the first in order), b: right in rows 1 and 3; F1 of a and b 2/3.
    assert got["likelihood-accuracy"] == pytest.approx(2 / 3)
    assert got["likelihood-macro-f1"] == pytest.approx(2 / 3)
    assert got["agreement"] == pytest.approx(1 / 3)
    # a: its row against two, one tied to it: 1.5 of 2 is wrong only for the tie. b likewise, by
    # probabilities .27 .5 .9997 of rows a, b, b: both b rows are above.
    assert got["auc"] == pytest.approx((1.0 + 1.0) / 2)


def test_calibration_is_the_distance_of_confidence_and_accuracy() -> None:
    sure, unsure = (
        {"a": math.log(0.9), "b": math.log(0.1)},
        {"a": math.log(0.6), "b": math.log(0.4)},
    )
    expected, rows = ["a", "a", "b", "a"], [sure, sure, sure, unsure]
    bins = calibration(expected, rows)
    assert [(each.range, each.rows) for each in bins] == [("0.5-0.6", 1), ("0.8-0.9", 3)]
    assert [each.confidence for each in bins] == pytest.approx([0.6, 0.9])
    assert [each.accuracy for each in bins] == pytest.approx([1.0, 2 / 3])
    assert ece(bins) == pytest.approx((1 * 0.4 + 3 * (0.9 - 2 / 3)) / 4)


def test_likelihoods_of_any_size_are_probabilities_that_sum_to_one() -> None:
    assert probabilities({"a": -5000.0, "b": -5000.0}) == {"a": 0.5, "b": 0.5}
    assert probabilities({"a": -1.0, "b": -math.inf}) == {"a": 1.0, "b": 0.0}
    assert likeliest({"b": -1.0, "a": -1.0}) == "a"


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ({"a": -1.0}, "every row needs .*none of 'b'"),
        ({"a": -1.0, "b": -1.0, "c": -2.0}, "every row needs .*none of 'c'"),
        ({"a": -1.0, "b": math.nan}, "the likelihood of 'b' is no number, got nan"),
    ],
)
def test_a_row_without_a_number_for_every_label_is_refused(
    second: dict[str, float], what: str
) -> None:
    weighed = [{"a": -1.0, "b": -2.0}, second]
    with pytest.raises(InputError, match=rf"^references\[1\]: {what}"):
        list(measure("classification", ["a", "b"], ["a", "b"], likelihoods=weighed))
