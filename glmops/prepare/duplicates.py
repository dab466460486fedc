"""Rows against rows: exact repeats, ids used twice, one text under two labels, near copies, leaks.

All of it works on the facts of the whole set, so that the answer does not depend on the batches.
Whatever must give way is the later row: rows that are added at the end never push an old one out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glmops.prepare.near import Pair, Texts, have_candidates, near_pairs
from glmops.prepare.spool import Spool

if TYPE_CHECKING:
    import polars as pl


def related(facts: pl.DataFrame) -> pl.DataFrame:
    """The facts with ``rows_of_id`` (different rows under a row's id) and ``labels_of_text``.

    ``labels_of_text`` counts the different labels of a classification row's text and question; 0
    for rows of other tasks. Labels in another order are the same.
    """
    import polars as pl

    labelled = facts.filter(pl.col("label").is_not_null())
    return (
        facts.pipe(_with_count, facts, "id", "content", "rows_of_id")
        .pipe(_with_count, labelled, "question", "label", "labels_of_text")
        .with_columns(
            pl.when(pl.col("label").is_not_null())
            .then("labels_of_text")
            .otherwise(0)
            .cast(pl.UInt32)
        )
    )


def _with_count(
    facts: pl.DataFrame, among: pl.DataFrame, key: str, value: str, name: str
) -> pl.DataFrame:
    """``facts`` with the number of different ``value`` per ``key``; mostly that is 1 everywhere."""
    import polars as pl

    several = (
        among.select(key, value).unique().group_by(key).len(name=name).filter(pl.col(name) > 1)
    )
    if several.is_empty():
        return facts.with_columns(pl.lit(1, pl.UInt32).alias(name))
    counted = facts.join(several, on=key, how="left", maintain_order="left")
    return counted.with_columns(pl.col(name).fill_null(1).cast(pl.UInt32))


def repeats(facts: pl.DataFrame) -> Any:
    """For each row, whether an earlier one has the same prompt and target (numpy, bool)."""
    return (~facts["content"].is_first_distinct()).to_numpy()


@dataclass(frozen=True, slots=True)
class NearCopies:
    """Which texts are near copies. A text is named by the row (of the facts) that it first has."""

    rows: Any
    """Text number → its first row (numpy)."""
    sides: list[int]
    """Text number → its side."""
    pairs: list[Pair]

    @property
    def texts(self) -> int:
        """How many texts are near copies of an earlier one."""
        return len({pair.second for pair in self.pairs})


def likely_copies(facts: pl.DataFrame, spool: Spool, threshold: float) -> pl.Series:
    """The texts (hashes, as in ``facts``) that may have a near copy among those of ``facts``.

    It holds for fewer rows, too, so it can be found while the gate still decides which are kept.
    """
    chosen = facts.filter((facts["empty_text"] == 0) & facts["text"].is_first_distinct())
    texts = _texts_of(spool, chosen["row"].to_numpy())
    return chosen["text"].filter(have_candidates(texts, threshold))


def near_copies(
    facts: pl.DataFrame, spool: Spool, threshold: float, sides: Any, likely: pl.Series
) -> NearCopies:
    """The near copies among the texts of ``facts`` (its column ``row`` counts the spool's rows).

    Args:
        sides: The side of each row of ``facts``, as numbers.
        likely: What ``likely_copies`` said of these rows, or of more.
    """
    first = facts["text"].is_first_distinct()
    chosen = facts.filter(first)
    rows, flags = chosen["row"].to_numpy(), chosen["text"].is_in(likely.implode()).to_numpy()
    sided = sides[first.to_numpy()].tolist()
    return NearCopies(rows, sided, near_pairs(_texts_of(spool, rows), flags, threshold, sided))


def _texts_of(spool: Spool, rows: Any) -> Texts:
    def texts() -> Iterator[pl.Series]:
        return (batch["group"] for batch in spool.read(["group"], rows))

    return texts


def later_copies(pairs: Sequence[Pair]) -> dict[int, Pair]:
    """The texts that go when near copies are dropped, each with the kept text that it is like."""
    gone: dict[int, Pair] = {}
    for pair in pairs:  # in the order of the later text, so the earlier one is decided
        if pair.second not in gone and pair.first not in gone:
            gone[pair.second] = pair
    return gone


def leaks(pairs: Sequence[Pair], sides: Sequence[int]) -> dict[int, Pair]:
    """The texts to refuse: a kept, earlier text on another side is nearly the same."""
    gone: dict[int, Pair] = {}
    for pair in pairs:
        across = sides[pair.first] != sides[pair.second]
        if across and pair.second not in gone and pair.first not in gone:
            gone[pair.second] = pair
    return gone
