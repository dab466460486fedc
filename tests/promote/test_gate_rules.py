"""Rules that look beside the model (baselines) and inside the test set (slices)."""

from __future__ import annotations

import json
import math

import pytest

from glmops.evaluate.metrics import OF_A_SET
from glmops.promote.gate import decide, verdict_from_json
from glmops.promote.package import evaluation
from glmops.promote.registry import find_package
from glmops.recipe import Promote
from glmops.records import BaselineScore, Score, Slice, Task, write_table

ACCURACY = "classification/accuracy"


def accuracy(right: set[int], rows: int = 100) -> list[Score]:
    return [
        Score(f"r{i:04}", "classification", "accuracy", float(i in right), 1.0) for i in range(rows)
    ]


def baseline(name: str, scores: list[Score]) -> list[BaselineScore]:
    return [BaselineScore(s.id, s.task, s.metric, s.numerator, s.denominator, name) for s in scores]


def classes(*names: str, rows: int = 100) -> list[Slice]:
    """Row after row of these classes in turn."""
    return [Slice(f"r{i:04}", "class", names[i % len(names)]) for i in range(rows)]


def judged(candidate, champion=None, *, baselines=(), parts=(), **rules):
    policy = Promote(**{"floors": {ACCURACY: 0.0}, **rules})
    return decide(
        candidate, champion, policy, same_test=True, baselines=baselines, slices=parts
    )  # fmt: skip


FIRST = set(range(90))


def test_a_model_that_beats_the_baseline_on_the_same_rows_passes() -> None:
    beside = baseline("linear", accuracy(set(range(70))))
    verdict = judged(accuracy(FIRST), baselines=beside, beats={ACCURACY: "linear"})
    assert verdict.passed
    (against,) = verdict.baselines
    assert (against.baseline, against.value, against.ok) == ("linear", 0.7, True)
    # By hand: 20 of 100 rows gained, none lost: 0.2 ± 1.96·sqrt(.2·.8/100) = 0.12 to 0.28.
    assert against.difference == pytest.approx(0.2)
    assert against.difference_low == pytest.approx(0.12, abs=0.015)
    assert against.difference_high == pytest.approx(0.28, abs=0.015)


@pytest.mark.parametrize("right", [set(range(89)), FIRST, set(range(95))])
def test_a_gain_that_could_be_chance_a_tie_and_a_loss_are_refused(right: set[int]) -> None:
    """One row better of a hundred: a third of all draws has no such row."""
    beside = baseline("linear", accuracy(right))
    verdict = judged(accuracy(FIRST), baselines=beside, beats={ACCURACY: "linear"})
    assert verdict.outcome == "refused"
    assert "and the baseline linear has" in verdict.reasons[0]
    assert verdict.reasons[0].endswith("is not above 0")
    assert (verdict.checks[0].ok, verdict.baselines[0].ok) == (False, False)


def test_ties_of_every_row_beat_nothing_even_with_values_that_binary_rounds() -> None:
    scores = [Score(f"{i}", "generation", "rouge-l", 100 * i / 7, 1.0) for i in range(77)]
    rules = {"floors": {"generation/rouge-l": 0.0}, "beats": {"generation/rouge-l": "nearest"}}
    assert not judged(scores, baselines=baseline("nearest", scores), **rules).passed


@pytest.mark.parametrize("beside", [[], baseline("majority", accuracy(set()))])
def test_a_baseline_that_was_not_scored_is_not_beaten(beside) -> None:
    verdict = judged(accuracy(FIRST), baselines=beside, beats={ACCURACY: "linear"})
    assert verdict.reasons == (
        f"{ACCURACY} must beat the baseline linear, which has no score of it",
    )


def test_a_baseline_without_a_number_is_not_beaten() -> None:
    broken = [Score("r0000", "classification", "accuracy", math.nan, 1.0), *accuracy(set())[1:]]
    verdict = judged(
        accuracy(FIRST), baselines=baseline("linear", broken), beats={ACCURACY: "linear"}
    )
    assert "baseline linear is not a finite number" in verdict.reasons[0]


def test_baselines_that_no_rule_names_are_shown_and_not_judged() -> None:
    beside = baseline("linear", accuracy(set(range(100)))) + baseline("majority", accuracy(set()))
    verdict = judged(accuracy(FIRST), baselines=beside)
    assert verdict.passed
    assert [(a.baseline, a.ok) for a in verdict.baselines] == [("linear", None), ("majority", None)]


def by_class(**rule) -> dict:
    return {"slices": {ACCURACY: ({"by": "class", **rule},)}}


def test_every_slice_has_to_reach_its_floor() -> None:
    """90 of 100 are right, but of the 50 rows of b only 40."""
    right = set(range(100)) - {2 * i + 1 for i in range(10)}
    parts = classes("a", "b")
    assert judged(accuracy(right), parts=parts, **by_class(floor=0.8)).passed
    verdict = judged(accuracy(right), parts=parts, **by_class(floor=0.81))
    assert verdict.outcome == "refused"
    (reason,) = verdict.reasons
    assert reason.startswith(f"{ACCURACY} in class b is 0.8000 (95 % interval 0.")
    assert reason.endswith("50 rows), the floor is 0.8100: 0.0100 short")
    assert [(s.by, s.part, s.rows, s.value, s.ok) for s in verdict.slices] == [
        ("class", "a", 50, 1.0, True),
        ("class", "b", 50, 0.8, False),
    ]
    assert verdict.checks[0].ok


def test_a_slice_may_not_fall_behind_the_champion_while_the_whole_does_not() -> None:
    """The candidate trades 8 rows of b for 8 of a: the whole stays as it was."""
    a, b = [2 * i for i in range(50)], [2 * i + 1 for i in range(50)]
    mine, theirs = accuracy(set(a) | set(b[8:])), accuracy(set(b) | set(a[8:]))
    rules = {**by_class(max_regression=0.05), "max_regression": {ACCURACY: 0.1}}
    verdict = judged(mine, theirs, parts=classes("a", "b"), **rules)
    assert [check.ok for check in verdict.checks] == [True]
    assert [part.ok for part in verdict.slices] == [True, False]
    (reason,) = verdict.reasons
    assert reason.startswith(f"{ACCURACY} in class b is 0.8400, the champion has 1.0000")
    assert judged(mine, None, parts=classes("a", "b"), **rules).passed  # no champion, no loss


def test_a_slice_of_too_few_rows_is_shown_and_not_judged() -> None:
    parts = [*classes("a", rows=71), *[Slice(f"r{i:04}", "class", "b") for i in range(71, 100)]]
    verdict = judged(accuracy(set(range(71))), parts=parts, **by_class(floor=0.9, min_rows=30))
    assert verdict.passed
    assert [(s.part, s.rows, s.value, s.ok) for s in verdict.slices] == [
        ("a", 71, 1.0, True),
        ("b", 29, 0.0, None),
    ]


def test_where_every_slice_has_too_few_rows_the_gate_cannot_tell() -> None:
    verdict = judged(accuracy(FIRST), parts=classes(*"abcd"), **by_class(floor=0.1))
    assert verdict.outcome == "too few rows"
    assert verdict.reasons == (f"{ACCURACY} by class: no slice has 30 test rows: too few to tell",)
    assert len(verdict.slices) == 4


def test_a_rule_about_slices_that_nobody_stored_is_refused() -> None:
    verdict = judged(accuracy(FIRST), **by_class(floor=0.1))
    assert verdict.outcome == "refused"
    assert "says of no such row which class it has" in verdict.reasons[0]


@pytest.mark.parametrize("name", sorted(OF_A_SET))
def test_a_metric_of_a_whole_set_has_no_slices(name: str) -> None:
    scores = [Score(f"r{i:04}", "classification", name, 0.9, 1.0) for i in range(100)]
    rules = {"slices": {f"classification/{name}": ({"by": "class", "floor": 0.1},)}}
    verdict = judged([*accuracy(FIRST), *scores], parts=classes("a", "b"), **rules)
    assert verdict.outcome == "refused"
    assert "it is measured on a whole set and has no slices" in verdict.reasons[0]


def test_ranges_of_length_stand_in_the_order_of_their_numbers() -> None:
    names = ("129-256", "17-32", "65-128")
    parts = [Slice(f"r{i:04}", "length", names[i % 3]) for i in range(100)]
    rules = {"slices": {ACCURACY: ({"by": "length", "floor": 0.5},)}}
    verdict = judged(accuracy(FIRST), parts=parts, **rules)
    assert [part.part for part in verdict.slices] == ["17-32", "65-128", "129-256"]


def test_one_row_tells_nothing() -> None:
    verdict = judged(accuracy({0}, rows=1))
    assert verdict.outcome == "too few rows"
    assert verdict.reasons == ("classification: 1 test row, an interval needs 2: too few to tell",)


def test_rows_of_one_class_do_not_show_that_classes_are_told_apart() -> None:
    verdict = judged(accuracy(set(range(100))), parts=classes("a"))
    assert verdict.outcome == "too few rows"
    assert "every test row is of the class a" in verdict.reasons[0]
    task: Task = "triples"
    triples = [Score(f"t{i}", task, "f1", 1.0, 1.0) for i in range(9)]
    assert judged(triples, parts=classes("a"), floors={"triples/f1": 0.5}).passed


def test_a_verdict_with_baselines_and_slices_survives_being_stored() -> None:
    verdict = judged(
        accuracy(FIRST),
        accuracy(FIRST),
        baselines=baseline("linear", accuracy(set())),
        parts=classes("a", "b"),
        **by_class(floor=0.5, max_regression=0.1),
    )
    stored = json.loads(json.dumps(verdict.as_json(), allow_nan=False))
    assert verdict_from_json(stored) == verdict
    older = {key: stored[key] for key in ("passed", "outcome", "reasons", "checks")}
    assert verdict_from_json(older).slices == ()


def test_a_registration_reads_baselines_and_slices_and_packs_them(workshop) -> None:
    """Of the workshop's 120 rows 114 are right: all but the last six."""
    folder = workshop.layout.reports("evaluate")
    beside = [
        BaselineScore(f"c{i:03}", "classification", "accuracy", float(i < 60), 1.0, "linear")
        for i in range(120)
    ]
    parts = [Slice(f"c{i:03}", "class", "ab"[i % 2]) for i in range(120)]
    write_table(folder / "baselines.parquet", beside, BaselineScore)
    write_table(folder / "slices.parquet", parts, Slice)
    workshop.rules(beats={ACCURACY: "linear"}, slices={ACCURACY: [{"by": "class", "floor": 0.95}]})
    done = workshop.register()
    assert done.verdict.passed
    assert done.verdict.baselines[0].difference == pytest.approx(54 / 120)
    assert [(s.part, s.rows, s.value) for s in done.verdict.slices] == [
        ("a", 60, 57 / 60),
        ("b", 60, 57 / 60),
    ]
    stored = find_package(workshop.root, "demo", done.digest) / "evaluation"
    assert evaluation(stored)[1:] == (beside, parts)
    workshop.rules(beats={ACCURACY: "majority"})
    assert workshop.register().verdict.reasons == (
        f"{ACCURACY} must beat the baseline majority, which has no score of it",
    )
