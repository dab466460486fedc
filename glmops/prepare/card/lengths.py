"""Lengths in characters: exact percentiles, a histogram, and how many rows are over usual limits.

All of it comes from a frame of (length, rows), which is small however many rows there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

PARTS = ("prompt", "target")
LIMITS = (64, 128, 256, 300, 400, 512, 1024, 2048, 4096)
"""Usual lengths to cut at (in tokens; a Chinese token is 1 to 2 characters); 64 as in the published
AdvertiseGen recipe, 400 and 300 as in the published multi-task one."""
BINS = 40
_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def lengths_of(facts: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """For prompt and target: ``rows, min, p50, p90, p99, max, mean, over, histogram``.

    A percentile is the smallest length that so many of the rows do not exceed. ``over`` says how
    many rows are longer than each of LIMITS, as far as there are any. A row without a prompt, or
    without a target, has the length 0.
    """
    return {part: _lengths(facts, f"{part}_characters") for part in PARTS} if len(facts) else {}


def _lengths(facts: pl.DataFrame, column: str) -> dict[str, Any]:
    import numpy as np

    counted = facts.group_by(facts[column].fill_null(0)).len().sort(column)
    values, rows = (counted[name].to_numpy().astype(np.int64) for name in (column, "len"))
    until, total = np.cumsum(rows), int(rows.sum())
    shares = {
        name: int(values[np.searchsorted(until, share * total - 1e-9)])
        for name, share in _SHARES.items()
    }
    over = {limit: int(rows[values > limit].sum()) for limit in LIMITS}
    return {
        "rows": total,
        "min": int(values[0]),
        **shares,
        "max": int(values[-1]),
        "mean": round(float((values * rows).sum() / total), 2),
        "over": {str(limit): count for limit, count in over.items() if count},
        "histogram": _histogram(values, rows, shares["p99"]),
    }


def _histogram(values: Any, rows: Any, most: int) -> dict[str, Any]:
    """Bins of ``width`` characters from ``start``; ``longer``: rows behind the last bin.

    The bins end behind the 99th percentile: a few very long rows would make all others one bar.
    """
    import numpy as np

    start = int(values[0])
    width = -(-(most - start + 1) // BINS)
    bins = -(-(most - start + 1) // width)
    places = np.minimum((values - start) // width, bins)
    counts = np.bincount(places, weights=rows, minlength=bins + 1).astype(np.int64).tolist()
    return {"start": start, "width": width, "rows": counts[:bins], "longer": counts[bins]}
