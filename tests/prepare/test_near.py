"""Near copies: what MinHash finds is compared exactly, and little is missed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations

import polars as pl
import pytest

from glmops.prepare import near
from glmops.prepare.near import band_shape, have_candidates, near_pairs

LETTERS = [chr(0x4E00 + number) for number in range(800)]


def pairs(texts: Sequence[str], threshold: float, batch: int = 7) -> dict[tuple[int, int], float]:
    whole = pl.Series(texts, dtype=pl.String)

    def batches() -> list[pl.Series]:
        return [whole[start : start + batch] for start in range(0, len(whole), batch)]

    found = near_pairs(batches, have_candidates(batches, threshold), threshold)
    assert [(pair.second, pair.first) for pair in found] == sorted(
        (pair.second, pair.first) for pair in found
    )
    return {(pair.first, pair.second): pair.similarity for pair in found}


def jaccard(one: str, other: str) -> float:
    """The definition, over sets of strings: independent of hashes and numpy."""
    a, b = ({text[i : i + 3] for i in range(max(1, len(text) - 2))} for text in (one, other))
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9])
def test_found_pairs_are_those_of_comparing_each_with_each(threshold: float) -> None:
    draw = random.Random(3)
    texts = ["".join(draw.choices(LETTERS, k=draw.randint(1, 90))) for _ in range(120)]
    for original in texts[:80]:
        place = draw.randrange(len(original))
        texts.append(original[:place] + draw.choice(LETTERS) + original[place + 1 :])
    texts = list(dict.fromkeys(texts))
    expected = {
        (a, b): alike
        for a, b in combinations(range(len(texts)), 2)
        if (alike := jaccard(texts[a], texts[b])) >= threshold
    }
    found = pairs(texts, threshold)
    assert len(expected) > 20
    assert all(found[pair] == pytest.approx(expected[pair], abs=1e-12) for pair in found)
    # At the threshold one in a hundred may be missed; the seed is fixed, so is this number.
    assert len(found) >= 0.97 * len(expected)


def test_case_width_and_nothing_else_is_ignored() -> None:
    texts = ["ＡＢＣ手机，真好", "abc手机,真好", "abc手机真好", "好真,机手cba"]
    assert pairs(texts, 1.0) == {(0, 1): 1.0}


def test_texts_shorter_than_a_shingle_are_compared_whole() -> None:
    assert pairs(["好", "好的", "Ｏk", "ok", "的"], 0.9) == {(2, 3): 1.0}


def test_no_texts_and_one_text_have_no_pairs() -> None:
    assert pairs([], 0.9) == {}
    assert pairs(["一个"], 0.9) == {}


def test_of_very_many_alike_each_is_found() -> None:
    # 300 texts that differ in their last two characters: each is like all others.
    common = "".join(random.Random(1).sample(LETTERS, 60))
    texts = [f"{common}{LETTERS[n]}{LETTERS[n + 300]}" for n in range(300)]
    found = pairs(texts, 0.9)
    assert {second for _, second in found} == set(range(1, 300))
    assert len(found) < 300 * 12


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_a_pair_at_the_threshold_is_missed_once_in_a_hundred(threshold: float) -> None:
    bands, rows = band_shape(threshold)
    assert bands * rows <= 32
    # All rows of one of the bands must agree, each with the probability of the similarity.
    assert (1 - threshold**rows) ** bands <= 0.01


def test_more_texts_than_are_held_at_once_give_the_same_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = random.Random(5)
    texts = ["".join(draw.choices(LETTERS[:3], k=9)) for _ in range(200)]
    texts = list(dict.fromkeys(texts))
    at_once = pairs(texts, 0.5)
    monkeypatch.setattr(near, "_HELD", 300)
    monkeypatch.setattr(near, "_PORTION", 7)
    assert pairs(texts, 0.5) == at_once
    assert len(at_once) > 5
