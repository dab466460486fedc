"""What a metric would be on other test rows like these: seeded percentile bootstrap over rows.

A metric's value is ``sum(numerator) / sum(denominator)``, so rows can be drawn again without
knowing what the metric means. Array axes: N rows, D draws, K arrays resampled together.
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

DRAWS = 2000
SEED = 20_240_601
"""Fixed: the same scores must give the same verdict on every machine and in every year."""
PERCENTILES = (2.5, 97.5)
"""The ends of the 95 % interval."""
CELLS = 2_000_000
"""Row numbers drawn at a time: bounds memory at 16 MB however large the test set is."""


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


def value_interval(column: Column) -> tuple[float, float]:
    """The 95 % interval of a metric's value."""
    return _interval(_ratio_draws([column])[0])


def difference_interval(mine: Column, theirs: Column) -> tuple[float, float]:
    """The 95 % interval of ``mine − theirs``: paired, so both must hold the same rows."""
    if mine.ids != theirs.ids:
        raise ValueError("a paired comparison needs the same rows on both sides")
    mine_D, theirs_D = _ratio_draws([mine, theirs])
    return _interval(mine_D - theirs_D)


def _column(rows: Mapping[str, tuple[float, float]]) -> Column:
    ids = tuple(sorted(rows))
    pairs_N2 = np.array([rows[id] for id in ids], dtype=np.float64)
    return Column(ids, pairs_N2[:, 0].copy(), pairs_N2[:, 1].copy())


def _ratio_draws(same_rows: Sequence[Column]) -> Floats:
    """Each column's value on D draws, as (number of columns, D). All columns see the same draws."""
    table_KN = np.stack([a for c in same_rows for a in (c.numerator_N, c.denominator_N)])
    sums_KD = _sum_draws(table_KN)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums_KD[0::2] / sums_KD[1::2])


def _sum_draws(table_KN: Floats) -> Floats:
    random = np.random.default_rng(SEED)
    rows = table_KN.shape[1]
    step = max(1, CELLS // rows)
    sums_KD = np.empty((table_KN.shape[0], DRAWS))
    for start in range(0, DRAWS, step):
        stop = min(start + step, DRAWS)
        picks_DN = random.integers(0, rows, size=(stop - start, rows))
        for sums_D, values_N in zip(sums_KD, table_KN, strict=True):
            sums_D[start:stop] = values_N[picks_DN].sum(axis=1)
    return sums_KD


def _interval(values_D: Floats) -> tuple[float, float]:
    """Draws without a value (an empty denominator) are left out; none left gives NaN."""
    known = values_D[np.isfinite(values_D)]
    if not known.size:
        return math.nan, math.nan
    low, high = np.percentile(known, PERCENTILES)
    return float(low), float(high)
