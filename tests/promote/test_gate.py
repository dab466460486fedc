from __future__ import annotations

import json
import math

import pytest

from glmops.promote.gate import decide, show, verdict_from_json
from glmops.recipe import Promote
from glmops.records import Score


def accuracy(right: int, rows: int, *, prefix: str = "r") -> list[Score]:
    return [
        Score(f"{prefix}{i:04}", "classification", "accuracy", float(i < right), 1.0)
        for i in range(rows)
    ]


def rules(floor: float = 0.9, **more) -> Promote:
    return Promote(floors={"classification/accuracy": floor}, **more)


def same(candidate, champion, policy):
    return decide(candidate, champion, policy, same_test=True)


def test_without_a_champion_the_floors_alone_decide() -> None:
    policy = rules(max_regression={"classification/accuracy": 0.0})
    assert same(accuracy(90, 100), None, policy).outcome == "passed"
    assert same(accuracy(89, 100), None, policy).outcome == "refused"


def test_a_bad_first_model_is_refused_although_no_champion_is_better() -> None:
    verdict = same(accuracy(13, 100), None, rules())
    assert not verdict.passed


def test_a_reason_names_the_metric_its_value_the_floor_and_the_shortfall() -> None:
    (reason,) = same(accuracy(69, 100), None, rules()).reasons
    # 0.9 - 0.69 = 0.21; σ = sqrt(.69·.31/100) = 0.046, so about 0.60 to 0.78.
    assert reason.startswith("classification/accuracy is 0.6900 (95 % interval 0.")
    assert reason.endswith("100 rows), the floor is 0.9000: 0.2100 short")


def test_a_tiny_shortfall_is_not_shown_as_zero() -> None:
    scores = [Score(id, "triples", "f1", 0.6 - 2e-6, 1.0) for id in "ab"]
    (reason,) = same(scores, None, Promote(floors={"triples/f1": 0.6})).reasons
    assert reason.endswith(": 2e-06 short")


def test_a_value_on_the_floor_passes() -> None:
    scores = [Score(f"{i}", "triples", "f1", 0.1, 1.0) for i in range(10)]
    assert same(scores, None, Promote(floors={"triples/f1": 0.1})).passed


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_fails(bad: float) -> None:
    verdict = same(
        [*accuracy(99, 99), Score("z", "classification", "accuracy", bad, 1)], None, rules()
    )
    assert verdict.outcome == "refused"
    assert verdict.reasons == (
        "classification/accuracy is not a finite number; the floor is 0.9000",
    )
    json.dumps(verdict.as_json(), allow_nan=False)


def test_a_metric_that_was_not_computed_fails() -> None:
    policy = Promote(floors={"classification/acuracy": 0.1})
    verdict = same(accuracy(99, 99), None, policy)
    assert verdict.outcome == "refused"
    assert verdict.reasons[0].startswith("classification/acuracy is missing from the scores")


@pytest.mark.parametrize("margin_only", [False, True])
def test_every_metric_with_a_rule_must_exist(margin_only: bool) -> None:
    extra = {"max_regression" if margin_only else "floors": {"triples/f1": 0.1}}
    base = {"floors": {"classification/accuracy": 0.1}}
    policy = (
        Promote(**{**base, **extra})
        if margin_only
        else Promote(floors={**base["floors"], **extra["floors"]})
    )
    lacking = [*accuracy(9, 9), Score("t", "triples", "precision", 1, 1)]
    assert same(lacking, None, policy).outcome == "refused"


def test_too_few_rows_is_its_own_answer() -> None:
    verdict = same(accuracy(29, 29), None, rules(min_rows=30))
    assert (verdict.passed, verdict.outcome) == (False, "too few rows")
    assert "29 test rows, promote.min_rows asks for 30" in verdict.reasons[0]
    assert same(accuracy(30, 30), None, rules(min_rows=30)).passed


def test_no_rows_at_all_are_too_few() -> None:
    assert same([], None, rules()).outcome == "too few rows"


def test_a_metric_that_fails_for_sure_outweighs_one_with_too_few_rows() -> None:
    policy = Promote(floors={"classification/accuracy": 0.9, "triples/f1": 0.5}, min_rows=50)
    scores = [*accuracy(10, 100), Score("t", "triples", "f1", 1, 1)]
    verdict = same(scores, None, policy)
    assert verdict.outcome == "refused"
    assert len(verdict.reasons) == 2


def test_a_candidate_like_the_champion_passes_with_no_margin() -> None:
    policy = rules(max_regression={"classification/accuracy": 0.0})
    (check,) = same(accuracy(95, 100), accuracy(95, 100), policy).checks
    assert (check.difference, check.difference_low, check.difference_high) == (0.0, 0.0, 0.0)
    assert check.ok


def test_a_loss_within_the_margin_still_fails_when_the_rows_cannot_rule_out_more() -> None:
    """3 of 100 rows lost: -0.03 ± 1.96·sqrt(.03·.97/100) = -0.063 to 0.003; the margin is 0.05."""
    champion, candidate = accuracy(98, 100), accuracy(95, 100)
    policy = rules(max_regression={"classification/accuracy": 0.05})
    verdict = same(candidate, champion, policy)
    assert verdict.outcome == "refused"
    (check,) = verdict.checks
    assert check.difference == pytest.approx(-0.03)
    assert check.difference_low == pytest.approx(-0.063, abs=0.01)
    assert "reaches" in verdict.reasons[0]
    assert "below the allowed -0.0500" in verdict.reasons[0]
    assert same(candidate, champion, rules(max_regression={"classification/accuracy": 0.1})).passed


def test_the_margin_is_kept_to_the_hair() -> None:
    """Every row loses the same: the interval has no width and its end is the difference."""
    champion = [Score(f"{i}", "triples", "f1", 0.90, 1.0) for i in range(20)]
    candidate = [Score(f"{i}", "triples", "f1", 0.88, 1.0) for i in range(20)]
    assert 0.88 - 0.90 < -0.02  # in binary
    for margin, passed in ((0.02, True), (0.0199, False)):
        policy = Promote(floors={"triples/f1": 0.5}, max_regression={"triples/f1": margin})
        assert same(candidate, champion, policy).passed is passed


def test_a_champion_of_another_test_set_is_never_compared() -> None:
    policy = rules(0.5, max_regression={"classification/accuracy": 0.5})
    verdict = decide(accuracy(99, 100), accuracy(10, 100), policy, same_test=False)
    assert verdict.outcome == "refused"
    assert "another test set" in verdict.reasons[0]
    assert verdict.checks[0].champion is None
    assert verdict.checks[0].difference is None


def test_rules_that_compare_nothing_do_not_need_the_champions_test_set() -> None:
    assert decide(accuracy(99, 100), accuracy(10, 100), rules(), same_test=False).passed


@pytest.mark.parametrize(
    "champion", [accuracy(9, 9, prefix="other"), [Score("r0000", "triples", "f1", 1, 1)]]
)
def test_a_champion_with_nothing_to_compare_refuses(champion: list[Score]) -> None:
    policy = rules(max_regression={"classification/accuracy": 0.5})
    verdict = same(accuracy(99, 100), champion, policy)
    assert verdict.outcome == "refused"
    assert "the champion has no score to compare" in verdict.reasons[0]


def test_only_rows_that_both_have_are_compared() -> None:
    candidate = accuracy(50, 100)
    champion = accuracy(50, 50)  # the first fifty, all right on both sides
    policy = rules(0.1, max_regression={"classification/accuracy": 0.0})
    (check,) = same(candidate, champion, policy).checks
    assert check.difference == 0.0


def test_a_metric_keeps_its_own_scale() -> None:
    scores = [Score(f"{i}", "generation", "rouge-l", 34.5, 1.0) for i in range(5)]
    verdict = same(scores, None, Promote(floors={"generation/rouge-l": 40.0}))
    assert verdict.checks[0].value == pytest.approx(34.5)
    assert "is 34.50" in verdict.reasons[0]
    assert "the floor is 40.00: 5.5000 short" in verdict.reasons[0]


def test_a_metric_without_a_rule_is_shown_and_not_judged() -> None:
    scores = [*accuracy(95, 100), Score("r0000", "classification", "unparsable", math.nan, 1)]
    verdict = same(scores, None, rules())
    assert verdict.passed
    assert [(check.metric, check.ok) for check in verdict.checks] == [
        ("classification/accuracy", True),
        ("classification/unparsable", None),
    ]


def test_a_verdict_survives_being_stored() -> None:
    scores = [*accuracy(95, 100), Score("t", "triples", "f1", math.nan, 1)]
    policy = Promote(floors={"classification/accuracy": 0.9, "triples/f1": 0.1})
    verdict = same(scores, accuracy(90, 100), policy)
    stored = json.loads(json.dumps(verdict.as_json(), allow_nan=False))
    assert verdict_from_json(stored).as_json() == verdict.as_json()
    assert math.isnan(verdict_from_json(stored).checks[1].value)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.95, "0.9500"), (34.567, "34.57"), (120, "120"), (None, "–"), (math.nan, "–")],
)
def test_numbers_are_shown_on_their_scale(number: float | None, text: str) -> None:
    assert show(number) == text
