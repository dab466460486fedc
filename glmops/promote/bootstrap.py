"""What a metric would be on other test rows like these: seeded percentile bootstrap over rows.

A metric's value is ``sum(numerator) / sum(denominator)``, so rows can be drawn again without
knowing what the metric means. Array axes: N rows, D draws, C columns, K their 2 C arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glmops.errors import InputError
from glmops.records import Score

Floats = NDArray[np.float64]
Interval = tuple[float, float]

DRAWS = 2000
SEED = 20_240_601
"""Fixed: the same scores must give the same verdict on every machine and in every year."""
PERCENTILES = (2.5, 97.5)
"""The ends of the 95 % interval."""
CELLS = 2_000_000
"""Row numbers drawn at a time: bounds memory at 50 MB however large the test set is."""
DIGITS = 12
"""Decimals of an interval's ends."""


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One metric's rows, ordered by row id."""

    ids: tuple[str, ...]
    numerator_N: Floats
    denominator_N: Floats

    def value(self) -> float:
        """The exactly rounded ratio of sums; NaN where it does not exist."""
        if not (np.isfinite(self.numerator_N).all() and np.isfinite(self.denominator_N).all()):
            return math.nan
        bottom = math.fsum(self.denominator_N)
        return math.fsum(self.numerator_N) / bottom if bottom else math.nan

    def only(self, wanted: set[str]) -> Column:
        """The rows whose id is in ``wanted``."""
        keep = np.array([id in wanted for id in self.ids], dtype=bool)
        ids = tuple(id for id in self.ids if id in wanted)
        return Column(ids, self.numerator_N[keep], self.denominator_N[keep])


def columns(scores: Sequence[Score]) -> dict[str, Column]:
    """``task/metric`` → its rows.

    Raises:
        InputError: A row carries one metric twice.
    """
    rows: dict[str, dict[str, tuple[float, float]]] = {}
    for score in scores:
        metric = f"{score.task}/{score.metric}"
        row = rows.setdefault(metric, {})
        if score.id in row:
            raise InputError(
                f"scores {metric}", "a row is scored twice", got=score.id, do="Run evaluate again."
            )
        row[score.id] = (score.numerator, score.denominator)
    return {metric: _column(pairs) for metric, pairs in rows.items()}


def value_interval(column: Column) -> Interval:
    """The 95 % interval of a metric's value."""
    return intervals([column], [])[0][0]


def difference_interval(mine: Column, theirs: Column) -> Interval:
    """The 95 % interval of ``mine − theirs``: paired, so both must hold the same rows."""
    return intervals([], [(mine, theirs)])[1][0]


def intervals(
    values: Sequence[Column], pairs: Sequence[tuple[Column, Column]]
) -> tuple[list[Interval], list[Interval]]:
    """95 % intervals of many values and paired differences at once.

    All that is measured on the same rows shares its draws, which are most of the work: the twenty
    metrics of a model, its champion and its baselines cost little more than one.

    Args:
        pairs: Mine and theirs: both must hold the same rows.
    """
    if any(mine.ids != theirs.ids for mine, theirs in pairs):
        raise ValueError("a paired comparison needs the same rows on both sides")
    together: dict[tuple[str, ...], dict[int, Column]] = {}
    for column in (*values, *(side for pair in pairs for side in pair)):
        together.setdefault(column.ids, {})[id(column)] = column
    drawn: dict[int, Floats] = {}
    for same_rows in together.values():
        ratios_CD = _ratio_draws(list(same_rows.values()))
        drawn.update(zip(same_rows, ratios_CD, strict=True))
    return (
        [_interval(drawn[id(column)]) for column in values],
        [_interval(drawn[id(mine)] - drawn[id(theirs)]) for mine, theirs in pairs],
    )


def _column(rows: Mapping[str, tuple[float, float]]) -> Column:
    ids = tuple(sorted(rows))
    pairs_N2 = np.array([rows[id] for id in ids], dtype=np.float64)
    return Column(ids, pairs_N2[:, 0].copy(), pairs_N2[:, 1].copy())


def _ratio_draws(same_rows: Sequence[Column]) -> Floats:
    """Each column's value on D draws, as (number of columns, D). All columns see the same draws."""
    if not same_rows[0].ids:
        return np.full((len(same_rows), DRAWS), np.nan)
    table_NK = np.stack([a for c in same_rows for a in (c.numerator_N, c.denominator_N)], axis=1)
    # A row that is no number belongs to no draw or to all of them: one of it, and nothing is known.
    with np.errstate(divide="ignore", invalid="ignore"):
        sums_KD = _sum_draws(table_NK)
        return np.asarray(sums_KD[0::2] / sums_KD[1::2])


def _sum_draws(table_NK: Floats) -> Floats:
    random = np.random.default_rng(SEED)
    rows = table_NK.shape[0]
    step = max(1, CELLS // rows)
    sums_KD = np.empty((table_NK.shape[1], DRAWS))
    for start in range(0, DRAWS, step):
        stop = min(start + step, DRAWS)
        # A draw is how often it takes each row; so its sums are one product of matrices.
        picks_DN = random.integers(0, rows, size=(stop - start, rows))
        picks_DN += np.arange(stop - start)[:, None] * rows
        counts = np.bincount(picks_DN.ravel(), minlength=picks_DN.size).astype(np.float64)
        sums_KD[:, start:stop] = (counts.reshape(picks_DN.shape) @ table_NK).T
    return sums_KD


def _interval(values_D: Floats) -> Interval:
    """Draws without a value (an empty denominator) are left out; none left gives NaN."""
    known = values_D[np.isfinite(values_D)]
    if not known.size:
        return math.nan, math.nan
    low, high = np.percentile(known, PERCENTILES)
    # What a machine's own order of summation changes ends here: equal scores differ by 0.0.
    return round(float(low), DIGITS) + 0.0, round(float(high), DIGITS) + 0.0
