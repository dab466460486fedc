from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import bootstrap

from glmops.errors import InputError
from glmops.promote.bootstrap import (
    CELLS,
    DRAWS,
    Column,
    columns,
    difference_interval,
    intervals,
    value_interval,
)
from glmops.records import Score


def column(pairs: list[tuple[float, float]], metric: str = "f1"):
    scores = [Score(f"{i:05}", "triples", metric, n, d) for i, (n, d) in enumerate(pairs)]
    return columns(scores)[f"triples/{metric}"]


def rows(seed: int, count: int) -> list[tuple[float, float]]:
    """Rows of a micro F1: 2·matched over predicted + expected."""
    random = np.random.default_rng(seed)
    denominators = random.integers(2, 9, count)
    return [(float(random.integers(0, d + 1)), float(d)) for d in denominators]


def ratio(numerator, denominator, axis=-1):
    return numerator.sum(axis=axis) / denominator.sum(axis=axis)


def test_an_interval_agrees_with_scipys_bootstrap() -> None:
    pairs = rows(1, 150)
    numerator, denominator = np.array(pairs).T
    theirs = bootstrap(
        (numerator, denominator), ratio, paired=True, vectorized=True, method="percentile",
        n_resamples=20_000, rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    low, high = value_interval(column(pairs))
    # Both are random: with 2,000 draws the ends wander by about 3 % of the interval's width.
    tolerance = 0.1 * (theirs.high - theirs.low)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=tolerance)


def test_a_paired_interval_agrees_with_scipys_bootstrap() -> None:
    mine, theirs = rows(1, 150), rows(2, 150)
    flat = (*np.array(mine).T, *np.array(theirs).T)

    def difference(a, b, c, d, axis=-1):
        return ratio(a, b, axis) - ratio(c, d, axis)

    expected = bootstrap(
        flat, difference, paired=True, vectorized=True, method="percentile",
        n_resamples=20_000, rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    found = difference_interval(column(mine), column(theirs))
    tolerance = 0.1 * (expected.high - expected.low)
    assert found == pytest.approx((expected.low, expected.high), abs=tolerance)


def test_an_interval_agrees_with_all_the_draws_there_are() -> None:
    """Four rows have 4^4 = 256 equally likely draws: their percentiles need no randomness."""
    pairs = [(1.0, 1.0), (0.0, 1.0), (1.0, 1.0), (0.0, 1.0)]
    every = [sum(pairs[i][0] for i in draw) / 4 for draw in itertools.product(range(4), repeat=4)]
    # P(0 of 4) = 1/16 > 2.5 %, and the same at the other end: the interval is the whole range.
    assert np.percentile(every, [2.5, 97.5]).tolist() == [0.0, 1.0]
    assert value_interval(column(pairs)) == (0.0, 1.0)


def test_pairing_sees_a_small_difference_that_intervals_of_the_values_hide() -> None:
    """Mine is theirs with 5 of 200 right rows turned wrong; the rows themselves vary a lot."""
    theirs = [(float(i % 2), 1.0) for i in range(200)]
    mine = [(n if i >= 10 else 0.0, d) for i, (n, d) in enumerate(theirs)]
    low, high = difference_interval(column(mine), column(theirs))
    # By hand: the mean of 200 values of which 5 are -1 has σ = sqrt(.025·.975/200) = 0.011.
    assert low == pytest.approx(-0.025 - 1.96 * 0.011, abs=0.004)
    assert high == pytest.approx(-0.025 + 1.96 * 0.011, abs=0.004)
    a, b = value_interval(column(mine)), value_interval(column(theirs))
    assert a[0] < b[0] < a[1] < b[1]  # they overlap


def test_the_same_scores_give_the_same_interval_in_any_order() -> None:
    scores = [Score(f"{i}", "triples", "f1", n, d) for i, (n, d) in enumerate(rows(3, 50))]
    intervals = {value_interval(columns(s)["triples/f1"]) for s in (scores, scores[::-1])}
    assert len(intervals) == 1


def test_a_large_test_set_is_drawn_in_pieces() -> None:
    count = 3000
    assert CELLS // count < DRAWS
    low, high = value_interval(column([(float(i % 10 > 0), 1.0) for i in range(count)]))
    # By hand: 0.9 ± 1.96·sqrt(.9·.1/3000) = 0.9 ± 0.0107.
    assert (low, high) == pytest.approx((0.8893, 0.9107), abs=0.002)


def test_many_intervals_at_once_are_those_of_one_at_a_time() -> None:
    a, b, c = (column(rows(seed, 40)) for seed in (1, 2, 3))
    short = column(rows(4, 9))
    values, differences = intervals([a, short, b], [(a, c), (b, a)])
    assert values == [value_interval(each) for each in (a, short, b)]
    assert differences == [difference_interval(a, c), difference_interval(b, a)]


def test_equal_scores_differ_by_nothing_at_all() -> None:
    """Whatever order a machine sums in: a tie must not look like a gain."""
    random = np.random.default_rng(6)
    some = [column([(float(x), 1.0) for x in random.random(333)]) for _ in range(7)]
    again = [column(list(zip(c.numerator_N.tolist(), [1.0] * 333, strict=True))) for c in some]
    _, differences = intervals([], list(zip(some, again, strict=True)))
    assert set(differences) == {(0.0, 0.0)}


SIZE = 400
ROWS = tuple(f"{n:03}" for n in range(SIZE))
Arrays = tuple[np.ndarray, np.ndarray]


def accuracy(random: np.random.Generator) -> Arrays:
    """85 % of the rows are right."""
    return (random.random(SIZE) < 0.85).astype(float), np.ones(SIZE)


def micro_f1(random: np.random.Generator) -> Arrays:
    """Rows of 1 to 5 expected triples, of which 70 % are matched, as many answered."""
    expected = random.integers(1, 6, SIZE)
    return 2.0 * random.binomial(expected, 0.7), 2.0 * expected


def rouge(random: np.random.Generator) -> Arrays:
    """Rows of skewed values with the mean 100·2/7."""
    return 100 * random.beta(2, 5, SIZE), np.ones(SIZE)


def covered(found: list[tuple[float, float]], truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in found]))


@pytest.mark.parametrize(("draw", "truth"), [(accuracy, 0.85), (micro_f1, 0.7), (rouge, 200 / 7)])
def test_a_95_percent_interval_holds_the_truth_in_95_of_100_test_sets(
    draw: Callable[[np.random.Generator], Arrays], truth: float
) -> None:
    random = np.random.default_rng(2024)
    found, _ = intervals([Column(ROWS, *draw(random)) for _ in range(1000)], [])
    # 1,000 sets: the share itself wanders by 2·sqrt(.95·.05/1000) = 1.4 %.
    assert 0.93 <= covered(found, truth) <= 0.97


def test_a_95_percent_interval_of_a_paired_difference_does_so_too() -> None:
    """Both are right on 80 % of the rows alike; of the rest one has 60 % right, the other 40 %."""
    random = np.random.default_rng(7)
    pairs = []
    for _ in range(1000):
        alike, right = random.random(SIZE) < 0.8, random.random(SIZE) < 0.85
        one = np.where(alike, right, random.random(SIZE) < 0.6).astype(float)
        other = np.where(alike, right, random.random(SIZE) < 0.4).astype(float)
        pairs.append((Column(ROWS, one, np.ones(SIZE)), Column(ROWS, other, np.ones(SIZE))))
    _, found = intervals([], pairs)
    assert 0.93 <= covered(found, 0.2 * (0.6 - 0.4)) <= 0.97


def test_no_denominator_is_no_number_and_no_crash() -> None:
    empty = column([(0.0, 0.0), (0.0, 0.0)])
    assert math.isnan(empty.value())
    assert all(math.isnan(end) for end in value_interval(empty))


def test_a_draw_without_a_denominator_is_left_out() -> None:
    assert value_interval(column([(1.0, 2.0), (0.0, 0.0)])) == (0.5, 0.5)


def test_sums_are_exact_so_that_a_value_on_the_floor_is_not_below_it() -> None:
    pairs = [(0.1, 1.0)] * 10
    assert sum(n for n, _ in pairs) / 10 < 0.1  # what a plain sum would say
    assert column(pairs).value() == 0.1


def test_a_row_scored_twice_is_refused_by_name() -> None:
    twice = [Score("r7", "triples", "f1", 1, 2), Score("r7", "triples", "f1", 2, 2)]
    with pytest.raises(InputError, match="scores triples/f1: a row is scored twice, got 'r7'"):
        columns(twice)


def test_a_paired_comparison_of_other_rows_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="same rows"):
        difference_interval(column(rows(1, 3)), column(rows(1, 4)))
