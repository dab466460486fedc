"""The split's laws: old rows never move, one text is on one side, shares hold, no side is empty."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from math import erfc, sqrt

import pytest

from glmops.errors import InputError
from glmops.prepare.split import copies_of, side_of, split, stratification, texts_needed
from glmops.recipe import Split as Shares
from glmops.records import Record

SHARES = Shares(dev=0.05, test=0.15, seed=13)


def record(number: int, group: str) -> Record:
    return Record(f"{number:016x}", "classification", "", group, "", '["a"]', group, "f", number)


def many(groups: int) -> list[Record]:
    return [record(number, f"第{number // 2}句") for number in range(2 * groups)]


def test_adding_or_reordering_rows_moves_no_old_text() -> None:
    few = {r.group: side for side, rows in split(many(200), SHARES, "raw").items() for r in rows}
    more = split(many(900)[::-1], SHARES, "raw")
    now = {r.group: side for side, rows in more.items() for r in rows}
    assert few.items() <= now.items()


def test_all_rows_of_one_text_are_on_one_side() -> None:
    sides = split(many(500), SHARES, "raw")
    groups = {side: {r.group for r in rows} for side, rows in sides.items()}
    assert not groups["train"] & groups["dev"]
    assert not groups["train"] & groups["test"]
    assert not groups["dev"] & groups["test"]
    assert sum(len(rows) for rows in sides.values()) == 1000


def test_the_side_is_the_place_of_the_texts_hash_among_the_shares() -> None:
    # The same rule in exact fractions, over the hash's hexadecimal digits.
    for number in range(500):
        group = f"第{number}句"
        digits = hashlib.sha256(b"13\x00" + group.encode()).hexdigest()[:16]
        place = Fraction(int(digits, 16), 16**16)
        expected = "train"
        if place < Fraction("0.20"):
            expected = "dev"
        if place < Fraction("0.15"):
            expected = "test"
        assert side_of(group, SHARES) == expected


def test_shares_are_kept_and_another_seed_splits_otherwise() -> None:
    sides = split(many(4000), SHARES, "raw")
    for side, share in (("test", 0.15), ("dev", 0.05)):
        texts = len({r.group for r in sides[side]})
        # Binomial: within five standard deviations of the share.
        assert abs(texts - 4000 * share) < 5 * sqrt(4000 * share * (1 - share))
    other = split(many(4000), SHARES.model_copy(update={"seed": 14}), "raw")
    assert {r.group for r in other["test"]} != {r.group for r in sides["test"]}


def test_rows_keep_their_order() -> None:
    for rows in split(many(300), SHARES, "raw").values():
        assert [r.line for r in rows] == sorted(r.line for r in rows)


def test_too_few_rows_say_how_many_there_are_and_are_needed() -> None:
    rows = [row for row in many(60) if side_of(row.group, SHARES) != "dev"][:24]
    with pytest.raises(InputError) as caught:
        split(rows, SHARES, "data/raw/mine")
    message = str(caught.value)
    assert message.startswith("data/raw/mine: too few rows: dev would be empty")
    assert "'24 rows about 12 different texts'" in message
    # 0.95 ** 90 < 0.01 < 0.95 ** 89: that many texts leave dev empty once in a hundred.
    assert "about 90 different texts are needed" in message


def test_no_rows_at_all_are_too_few() -> None:
    with pytest.raises(InputError, match="train and dev and test would be empty"):
        split([], SHARES, "raw")


@pytest.mark.parametrize(("dev", "test"), [(0.05, 0.15), (0.2, 0.1), (0.45, 0.45)])
def test_the_texts_needed_fill_the_smallest_side_99_times_in_100(dev: float, test: float) -> None:
    needed, smallest = (
        texts_needed(Shares(dev=dev, test=test, seed=1)),
        min(dev, test, 1 - dev - test),
    )
    assert (1 - smallest) ** needed <= 0.01 < (1 - smallest) ** (needed - 1)


def test_a_weight_keeps_a_share_or_repeats_rows_by_their_hash() -> None:
    ids = [f"{number}" for number in range(4000)]
    assert copies_of(ids, [1.0] * 4000, 3).tolist() == [1] * 4000
    assert copies_of(ids, [3.0] * 4000, 3).tolist() == [3] * 4000
    some = copies_of(ids, [0.25] * 4000, 3)
    more = copies_of(ids, [2.25] * 4000, 3)
    assert set(some.tolist()) == {0, 1}
    assert (more - some == 2).all()
    # Binomial: within five standard deviations of the share.
    assert abs(int(some.sum()) - 1000) < 5 * sqrt(4000 * 0.25 * 0.75)
    # A row's fate is its own: other rows beside it change nothing.
    assert copies_of(ids[1000:], [0.25] * 3000, 3).tolist() == some[1000:].tolist()
    assert copies_of(ids, [0.25] * 4000, 4).tolist() != some.tolist()


def test_an_uneven_split_shows_in_the_chi_square_and_in_the_label_that_is_furthest_off() -> None:
    found = stratification({"train": {"a": 60, "b": 20}, "dev": {}, "test": {"a": 10, "b": 10}})
    # Expected under equal shares (0.7 and 0.3): train 56 and 24, test 14 and 6. The sum of
    # (seen - expected)² / expected is 16/56 + 16/24 + 16/14 + 16/6, less the correction of Yates
    # that is customary for two by two: each 4 becomes 3.5.
    chi_square = sum(3.5**2 / expected for expected in (56, 24, 14, 6))
    assert found["chi_square"] == pytest.approx(chi_square, abs=1e-5)
    assert found["degrees_of_freedom"] == 1
    # P(chi² > x) with one degree of freedom is erfc(sqrt(x / 2)).
    assert found["p"] == pytest.approx(erfc(sqrt(chi_square / 2)), abs=1e-5)
    assert found["furthest"] == {"split": "test", "label": "b", "difference": 0.2}


def test_one_label_or_one_side_has_nothing_to_compare() -> None:
    assert stratification({"train": {"a": 3}, "dev": {"a": 1}, "test": {"a": 1}}) == {}
    assert stratification({"train": {"a": 3, "b": 1}, "dev": {}, "test": {}}) == {}
