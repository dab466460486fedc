"""Many numbers, each with its 95 % interval, asked for by name and computed together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from glmops.promote.bootstrap import Column, intervals

Key = TypeVar("Key", bound=Hashable)
Pair = tuple[Column, Column]


class Estimate(NamedTuple):
    """A number and its 95 % interval; NaN where it does not exist."""

    value: float
    low: float
    high: float


def estimates(
    values: Mapping[Key, Column], pairs: Mapping[Key, Pair]
) -> tuple[dict[Key, Estimate], dict[Key, Estimate]]:
    """The columns' values, and the paired differences (first − second) of columns of equal rows."""
    of_values, of_pairs = intervals(list(values.values()), list(pairs.values()))
    return (
        {
            key: Estimate(column.value(), *interval)
            for (key, column), interval in zip(values.items(), of_values, strict=True)
        },
        {
            key: Estimate(a.value() - b.value(), *interval)
            for (key, (a, b)), interval in zip(pairs.items(), of_pairs, strict=True)
        },
    )


def within(column: Column, wanted: set[str]) -> Column:
    """The column with every row outside of ``wanted`` weighing nothing: a slice of the same rows.

    Not ``Column.only``: all slices share one set of draws like this, and a slice's size varies from
    draw to draw, as it would in new test rows.
    """
    keep = np.fromiter((id in wanted for id in column.ids), dtype=np.float64, count=len(column.ids))
    return Column(column.ids, column.numerator_N * keep, column.denominator_N * keep)
