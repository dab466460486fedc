"""Which side of the split a source text falls on: its hash decides, never its place.

Adding, dropping or reordering rows therefore moves no other row, and all rows about one text stay
together: a question about a text of the train split never occurs in dev or test.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glmops.errors import InputError
from glmops.recipe import Split as Shares
from glmops.records import SPLITS, Record, Split


def side_of(group: str, shares: Shares) -> Split:
    """The split of one group: test and dev by share of the hash's range, train is the rest."""
    return SPLITS[sides_of([group], shares)[0]]


def sides_of(groups: Iterable[str], shares: Shares) -> Any:
    """The sides of many groups, as places in SPLITS (numpy, int8)."""
    import numpy as np

    place = places_of(groups, shares.seed)
    sides = np.full(len(place), SPLITS.index("train"), dtype=np.int8)
    sides[place < shares.test + shares.dev] = SPLITS.index("dev")
    sides[place < shares.test] = SPLITS.index("test")
    return sides


def places_of(names: Iterable[str], seed: int | str) -> Any:
    """Where each name's hash lies between 0 and 1 (numpy, float64); equal names lie together.

    The hash is sha256 of the seed, a NUL and the name; its first eight bytes are the place.
    """
    import polars as pl
    import polars_hash  # hashes a column at a time: a quarter of what hashlib takes

    text = pl.Series("text", names, dtype=pl.String).to_frame()
    digest = polars_hash.concat_str(pl.lit(f"{seed}\0"), "text").chash.sha2_256()
    first = digest.str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64)
    return text.select(first).to_series().to_numpy() / 2.0**64


def split(records: Sequence[Record], shares: Shares, where: str) -> dict[Split, list[Record]]:
    """Every record on its side, in the order given.

    Raises:
        InputError: A side stays empty; ``where`` is the raw path to name.
    """
    sides: dict[Split, list[Record]] = {name: [] for name in SPLITS}
    for record, side in zip(
        records, sides_of((record.group for record in records), shares), strict=True
    ):
        sides[SPLITS[side]].append(record)
    counts = {name: len(rows) for name, rows in sides.items()}
    require_all_sides(counts, len({record.group for record in records}), shares, where)
    return sides


def require_all_sides(rows: Mapping[Split, int], groups: int, shares: Shares, where: str) -> None:
    """Refuse a split with an empty side, saying how many texts it takes to fill every side."""
    empty = [name for name in SPLITS if not rows[name]]
    if empty:
        needed = texts_needed(shares)
        raise InputError(
            where,
            f"too few rows: {' and '.join(empty)} would be empty (shares dev {shares.dev}, test "
            f"{shares.test}), and about {needed} different texts are needed to fill every split",
            got=f"{sum(rows.values())} rows about {groups} different texts",
            do="Add rows, or raise prepare.split.dev and prepare.split.test.",
        )


def texts_needed(shares: Shares) -> int:
    """How many groups fill the smallest split with a chance of 99 in 100."""
    smallest = min(shares.dev, shares.test, 1 - shares.dev - shares.test)
    return math.ceil(math.log(0.01) / math.log(1 - smallest))


def copies_of(ids: Sequence[str], weights: Any, seed: int) -> Any:
    """How often each train row is written: its source's weight, the fraction of it by its hash.

    A weight of 0.3 keeps three rows in ten, 2.5 writes each twice and every second once more.
    """
    import numpy as np

    weights = np.asarray(weights, dtype=np.float64)
    whole = np.floor(weights)
    return (whole + (places_of(ids, f"{seed}\0weight") < weights - whole)).astype(np.int64)


def stratification(labels: Mapping[Split, Mapping[str, int]]) -> dict[str, Any]:
    """How evenly the labels lie on the sides: a chi-square test and the label that is furthest off.

    A small p says that the shares of the labels differ more than a split by chance makes them
    differ. ``furthest`` is the largest difference between a label's share of one side and its share
    of all rows.
    """
    from scipy.stats import chi2_contingency

    names = sorted({label for counts in labels.values() for label in counts})
    sides = [name for name in SPLITS if labels.get(name)]
    table = [[labels[side].get(name, 0) for name in names] for side in sides]
    if len(names) < 2 or len(sides) < 2:
        return {}
    total = sum(map(sum, table))
    result = chi2_contingency(table)
    share = [sum(column) / total for column in zip(*table, strict=True)]
    off, side, label = max(
        (abs(count / sum(counts) - share[place]), side, names[place])
        for side, counts in zip(sides, table, strict=True)
        for place, count in enumerate(counts)
    )
    return {
        "chi_square": round(float(result.statistic), 6),
        "degrees_of_freedom": int(result.dof),
        "p": round(float(result.pvalue), 6),
        "furthest": {"split": side, "label": label, "difference": round(off, 6)},
    }
