"""Did labels and lengths drift: how far (an effect), and is it more than chance (a test).

Two versions of a set share most of their rows, and a test between them would be fooled by that. So
the rows that came (added or relabelled) are tested against all old rows: were they drawn from the
same pool? Where only rows went, those that went are tested against those that stayed.
How far the whole set moved is said beside it, as an effect alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from glmops.prepare.diff.changes import Changes

if TYPE_CHECKING:
    import polars as pl

CHANCE = 0.01
"""A difference that chance gives more often than this is called chance."""
FEWEST_EXPECTED = 5
"""The chi-square distribution fits when this many rows are expected in every cell; where fewer are,
the p-value is the share of shuffled tables that are as far off."""
SHUFFLES = 1999
MOST_LABELS = 500
"""A test looks at this many labels; the rarer ones count as one."""
FEW_ROWS = 50
EXACT_ROWS = 500
"""Up to here the Kolmogorov-Smirnov p-value is exact; beyond, its limit for many rows."""
SIZES = ((0.02, "by next to nothing"), (0.1, "a little"), (0.25, "clearly"), (1.01, "a lot"))
NAMED_LABELS = 10


def label_drift(old: pl.DataFrame, new: pl.DataFrame, changes: Changes) -> dict[str, Any]:
    """For classification rows: shares of the labels, total variation and a chi-square test.

    ``total_variation`` (0 to 1) is the share of rows that would need another label to make the two
    alike. Empty when neither set has labels.
    """
    before, after = old["label"].drop_nulls(), new["label"].drop_nulls()
    if not len(before) and not len(after):
        return {}
    found: dict[str, Any] = {
        "counts": {"old": _counts(before), "new": _counts(after)},
        **_shift(_counts(before), _counts(after)),
    }
    what, some, rest = _to_test(old, changes)
    counted = _counts(some["label"].drop_nulls()), _counts(rest["label"].drop_nulls())
    if all(counted):
        found["test"] = {"rows": what, **_shift(counted[1], counted[0]), **_chi_square(*counted)}
        found["verdict"] = verdict(found["test"]["total_variation"], found["test"])
    else:
        found["verdict"] = "no rows to test: nothing came and nothing went"
    return found


def length_drift(old: pl.DataFrame, new: pl.DataFrame, changes: Changes) -> dict[str, Any]:
    """Task → prompt and target → medians in characters, and a Kolmogorov-Smirnov test.

    ``distance`` (0 to 1) is the largest difference between the shares of rows up to some length.
    """
    import polars as pl

    what, some, rest = _to_test(old, changes)
    found: dict[str, Any] = {}
    tasks = pl.concat([old["task"], new["task"]]).unique().sort().to_list()
    for task in tasks:
        found[task] = {}
        for part in ("prompt", "target"):
            before, after, one, other = (
                rows.filter(pl.col("task") == task)[f"{part}_characters"]
                for rows in (old, new, some, rest)
            )
            entry: dict[str, Any] = {"median": {"old": _median(before), "new": _median(after)}}
            if len(before) and len(after):
                entry["distance"] = round(_ks(before, after)[0], 6)
            if len(one) and len(other):
                distance, p = _ks(one, other)
                entry["test"] = {
                    "rows": what,
                    "compared": [len(one), len(other)],
                    "median": _median(one),
                    "distance": round(distance, 6),
                    "p": p,
                }
                entry["verdict"] = verdict(distance, entry["test"])
            else:
                entry["verdict"] = "no rows to test: nothing came and nothing went"
            found[task][part] = entry
    return found


def verdict(effect: float, test: Mapping[str, Any]) -> str:
    """Effect and p-value in words: neither is enough alone."""
    rows, p, fewest = f"the {test['rows']} rows", test["p"], min(test["compared"])
    if p is None:
        return f"nothing to test: all of {rows} and of the others have one label"
    if p >= CHANCE:
        few = f", but {fewest} rows show only a large one" if fewest < FEW_ROWS else ""
        return f"no drift shown: chance alone makes {rows} differ so{few}"
    size = next(words for limit, words in SIZES if effect < limit)
    if effect < SIZES[0][0]:
        return f"more than chance, and too little to matter: {rows} differ {size}"
    return f"drift, more than chance: {rows} differ {size}"


def _to_test(old: pl.DataFrame, changes: Changes) -> tuple[str, pl.DataFrame, pl.DataFrame]:
    """What to call the rows to test, those rows, and the rows to test them against."""
    import polars as pl

    names = ["task", "label", "prompt_characters", "target_characters"]
    came = pl.concat([changes.added.select(names), changes.relabelled.select(names)])
    if came.height or not changes.removed.height:
        return "new", came, old
    stayed = old.join(changes.removed.select("row"), on="row", how="anti")
    return "removed", changes.removed, stayed


def _counts(labels: pl.Series) -> dict[str, int]:
    import polars as pl

    counted = labels.cast(pl.String).value_counts(name="rows")
    return dict(counted.sort("rows", labels.name, descending=[True, False]).iter_rows())


def _shift(old: dict[str, int], new: dict[str, int]) -> dict[str, Any]:
    """Total variation between two counts, and the labels whose shares differ most."""
    before, after = max(sum(old.values()), 1), max(sum(new.values()), 1)
    shares = [
        (label, old.get(label, 0) / before, new.get(label, 0) / after)
        for label in sorted({*old, *new})
    ]
    apart = sorted(shares, key=lambda row: -abs(row[2] - row[1]))
    furthest = [
        {"label": label, "old": round(was, 6), "new": round(became, 6)}
        for label, was, became in apart[:NAMED_LABELS]
        if was != became
    ]
    total = sum(abs(became - was) for _, was, became in shares) / 2
    return {"total_variation": round(total, 6), "furthest": furthest}


def _chi_square(one: dict[str, int], other: dict[str, int]) -> dict[str, Any]:
    """Chi-square test of homogeneity; ``p`` is None when there is but one label."""
    import numpy as np
    from scipy.stats import MonteCarloMethod, chi2_contingency
    from scipy.stats.contingency import expected_freq

    def total(label: str) -> int:
        return one.get(label, 0) + other.get(label, 0)

    labels = sorted({*one, *other}, key=lambda label: (-total(label), label))
    table = np.array([[side.get(label, 0) for label in labels] for side in (one, other)])
    if len(labels) > MOST_LABELS:
        rest = table[:, MOST_LABELS - 1 :].sum(axis=1, keepdims=True)
        table = np.hstack([table[:, : MOST_LABELS - 1], rest])
    found: dict[str, Any] = {"compared": table.sum(axis=1).tolist()}
    if len(labels) < 2:
        return {**found, "chi_square": None, "degrees_of_freedom": None, "p": None}
    few = expected_freq(table).min() < FEWEST_EXPECTED
    # A seed of its own: equal sets give equal p-values. Batches keep the shuffled tables small.
    shuffled = MonteCarloMethod(n_resamples=SHUFFLES, rng=np.random.default_rng(0), batch=100)
    # Without Yates' correction: for two labels it would be another test than for three.
    result = chi2_contingency(table, correction=False, method=shuffled if few else None)
    return {
        **found,
        "chi_square": round(float(result.statistic), 6),
        "degrees_of_freedom": table.shape[1] - 1,
        "p": float(result.pvalue),
        "p_from": f"{SHUFFLES} shuffles" if few else "the chi-square distribution",
    }


def _ks(one: pl.Series, other: pl.Series) -> tuple[float, float]:
    """Distance and p-value. Equal lengths are frequent, which makes the p-value too large."""
    from scipy.stats import ks_2samp

    exact = max(len(one), len(other)) <= EXACT_ROWS
    result = ks_2samp(one.to_numpy(), other.to_numpy(), method="exact" if exact else "asymp")
    return float(result.statistic), float(result.pvalue)


def _median(lengths: pl.Series) -> float | None:
    middle = lengths.median()
    return float(middle) if isinstance(middle, int | float) else None
