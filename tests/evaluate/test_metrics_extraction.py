"""Partial triples, repairs and attributes, counted by hand."""

from __future__ import annotations

import itertools
import random

import pytest

from glmops.evaluate import score
from glmops.evaluate.metrics import measure, total
from glmops.evaluate.metrics.extraction import partial_matches
from glmops.evaluate.metrics.generation import attribute_values
from glmops.evaluate.reading import Triple
from glmops.evaluate.repair import repair_triples
from toy_texts import triples


def facts(*texts: str) -> frozenset[Triple]:
    return frozenset(Triple(*text, None, None) for text in texts)


@pytest.mark.parametrize(
    ("truth", "answered", "earned"),
    [
        (["abc"], ["abc"], 1.0),
        (["abc"], ["abx"], 0.5),
        (["abc"], ["axx"], 0.0),
        (["abc"], ["bac"], 0.0),  # the same texts in other fields
        (["abc"], ["abx", "xbc"], 0.5),  # each triple once
        (["abc", "abd"], ["abx", "aby"], 1.0),
        # abd must take xbd, so that abx is left for abc: 1/2 + 1/2.
        (["abc", "abd"], ["abx", "xbd"], 1.0),
        (["abc", "abd"], ["abd"], 1.0),  # whole before half
        ([], ["abc"], 0.0),
    ],
)
def test_a_triple_with_two_equal_fields_earns_a_half(
    truth: list[str], answered: list[str], earned: float
) -> None:
    assert partial_matches(facts(*truth), facts(*answered)) == earned


def test_no_way_to_pair_the_triples_earns_more() -> None:
    def earned(a: str, b: str) -> float:
        return {3: 1.0, 2: 0.5}.get(sum(x == y for x, y in zip(a, b, strict=True)), 0.0)

    dice = random.Random(4)
    for _ in range(200):
        truth, answered = (
            {"".join(dice.choices("ab", k=3)) for _ in range(dice.randint(1, 5))} for _ in range(2)
        )
        few, many = sorted((sorted(truth), sorted(answered)), key=len)
        best = max(
            sum(earned(a, b) for a, b in zip(few, order, strict=False))
            for order in itertools.permutations(many, len(few))
        )
        assert partial_matches(facts(*truth), facts(*answered)) == best


def test_partial_f1_leaves_the_types_aside() -> None:
    got = score("triples", [triples("abcXY", "pqx")], [triples("abcAC", "pqrPR")])
    # exact: none of 2 + 2; partial: 1 for abc, 1/2 for pqr.
    assert got["f1"] == 0.0
    assert got["partial-f1"] == pytest.approx(2 * 1.5 / 4)


ROW = '{"subject": "少林足球", "predicate": "主演", "object": "周星驰"}'


@pytest.mark.parametrize(
    "answer",
    [
        ROW,
        f"[{ROW}]",
        f"```json\n[{ROW}]",
        f'```json\n[{ROW}, {{"subject": "喜剧之',
        f"```json\n[{ROW[:-1]},}}]\n```",
        f"[{ROW}".replace('"', "'"),
        f"[{ROW}]".replace(", ", "，").replace(": ", "：").replace('"', "“"),
    ],
)
def test_an_answer_that_a_repair_would_save_is_counted_and_never_right(answer: str) -> None:
    assert repair_triples(answer) == {Triple("少林足球", "主演", "周星驰", None, None)}
    got = score("triples", [answer], [f"```json\n[{ROW}]\n```"])
    assert (got["json-repaired"], got["json-valid"], got["f1"]) == (1.0, 0.0, 0.0)
    assert got["partial-f1"] == 0.0


@pytest.mark.parametrize(
    "answer", ["", "没有", "[]", '{"subject": "a"}', "{" * 100_000, "{'a': 1}"]
)
def test_what_no_repair_saves_is_not_counted(answer: str) -> None:
    assert repair_triples(answer) is None
    assert score("triples", [answer], [triples("abc")])["json-repaired"] == 0.0


def test_a_valid_answer_needs_no_repair() -> None:
    assert score("triples", [triples("abc")], [triples("abc")])["json-repaired"] == 0.0


def test_coverage_is_the_share_of_all_attribute_values() -> None:
    prompts = ["写广告。\n类型#裙*颜色#蓝色*图案#线条*图案#蓝色\n答：", "你好", "类型#T恤*风格#a b"]
    got = total(
        measure("generation", ["蓝色长裙", "好", "这件t恤 AB"], ["x", "y", "z"], prompts=prompts)
    )
    # 裙, 蓝色 (once) and 线条: two of three are in the text; t恤 and ab: both.
    assert got["attribute-coverage"] == pytest.approx((2 + 2) / (3 + 2))
    without = total(measure("generation", ["好"], ["好"], prompts=["C#*2 是什么"]))
    assert "attribute-coverage" not in without
    assert attribute_values("类型#裙") == attribute_values("a*b#c") == []
