"""The rows on their sides, without leaks: a text on one side has no copy, or near one, on another.

A text's side is fixed before anything is known about leaks, and a leak never changes it: the later
row is refused. So a row that is added never moves another one (docs/decisions/007).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glmops.prepare.duplicates import NearCopies, later_copies, leaks, near_copies, repeats
from glmops.prepare.gate.refusals import Leaks, leak_refusals, rows_of_texts
from glmops.prepare.spool import Spool
from glmops.recipe import Prepare

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Sided:
    """The rows that are left, each with its ``side`` (a place in SPLITS)."""

    facts: pl.DataFrame
    refused: pl.DataFrame
    """row, file, line, reason, raw: of the rows that leak."""
    repeats: Any
    """Row numbers of exact repeats that are not the leak of another side's row (numpy)."""
    dropped: Any
    """Row numbers of near copies that were dropped (numpy)."""
    near: NearCopies
    leaks: dict[str, int]
    """Rows that leak, by ``text`` and ``near``; refused or, if the recipe says so, kept."""


def place(facts: pl.DataFrame, spool: Spool, section: Prepare, likely: pl.Series) -> Sided:
    """Put every row on its side, and leave out or refuse those that a side must not have.

    Args:
        facts: Of the accepted rows; ``side`` is where each belongs.
        likely: From ``likely_copies``, of these rows or more.
    """
    same = _text_leaks(facts, section)
    kept = facts
    if section.leaks == "refuse":
        kept = _without(facts, same)
    again = repeats(kept)
    repeated = kept["row"].filter(again).to_numpy()
    kept = kept.filter(~again)
    sides, threshold = kept["side"].to_numpy(), section.duplicates.threshold
    near = near_copies(kept, spool, threshold, sides, likely)
    dropped: Leaks = {}
    leaking: Leaks = {}
    if section.duplicates.near == "drop":
        dropped = rows_of_texts(kept, near.rows, later_copies(near.pairs))
    else:
        leaking = rows_of_texts(kept, near.rows, leaks(near.pairs, near.sides))
    counts = {"text": len(same), "near": len(leaking)}
    if section.leaks == "keep":
        same, leaking = {}, {}
    refused = leak_refusals(spool, facts, {**same, **leaking})
    left = _without(kept, {**dropped, **leaking})
    return Sided(left, refused, repeated, _numbers(dropped), near, counts)


def judged_sides(sided: Sided) -> pl.DataFrame:
    """What the gate asks about the rows as they are split: ``id``, ``sides_of_text``,
    ``near_leak``."""
    import numpy as np
    import polars as pl

    facts, near = sided.facts, sided.near
    several = facts.select("text", "side").unique().group_by("text").len().filter(pl.col("len") > 1)
    pairs = np.array([pair[:2] for pair in near.pairs], dtype=np.int64).reshape(-1, 2)
    rows, sides = near.rows[pairs], np.array(near.sides)[pairs]
    here = np.isin(rows, facts["row"].to_numpy()).all(axis=1)
    leaking = rows[here & (sides[:, 0] != sides[:, 1]), 1]
    return facts.select(
        "id",
        (pl.col("text").is_in(several["text"].implode()) + 1).alias("sides_of_text"),
        pl.col("row").is_in(leaking.tolist()).cast(pl.UInt8).alias("near_leak"),
    )


def _text_leaks(facts: pl.DataFrame, section: Prepare) -> Leaks:
    """Rows whose very text is on another side; only sources with a side of their own have some."""
    import polars as pl

    if all(source.side is None for source in section.all_sources):
        return {}
    first = facts.filter(facts["text"].is_first_distinct()).select(
        "text", pl.col("row").alias("partner"), pl.col("side").alias("its")
    )
    across = facts.join(first, on="text", maintain_order="left").filter(
        pl.col("side") != pl.col("its")
    )
    return {row: (partner, None) for row, partner in across.select("row", "partner").iter_rows()}


def _without(facts: pl.DataFrame, rows: Any) -> pl.DataFrame:
    import polars as pl

    return facts.filter(~pl.col("row").is_in(list(rows))) if rows else facts


def _numbers(rows: Any) -> Any:
    import numpy as np

    return np.array(sorted(rows), dtype=np.int64)
