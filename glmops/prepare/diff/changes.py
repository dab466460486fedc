"""Which rows were added, removed, relabelled or moved, from the facts of two sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glmops.records import SPLITS

if TYPE_CHECKING:
    import polars as pl

NAMED_ANSWERS = 20
KINDS = ("added", "removed", "relabelled", "moved")


@dataclass(frozen=True, slots=True)
class Changes:
    """Frames of facts. ``added``, ``relabelled`` and ``moved`` are rows of the new set, ``removed``
    of the old one. Relabelled rows also have ``old_side``, ``old_at`` and ``old_label``, moved ones
    ``old_sides``: where their source text stood, such as "test"."""

    added: pl.DataFrame
    removed: pl.DataFrame
    relabelled: pl.DataFrame
    moved: pl.DataFrame
    counts: dict[str, int]

    def by(self, column: str) -> dict[str, dict[str, int]]:
        """Value of the column → how many rows of each kind it has, for values that have some."""
        found: dict[str, dict[str, int]] = {}
        for kind in KINDS:
            rows: pl.DataFrame = getattr(self, kind)
            for value, count in rows.group_by(column).len().sort(column).iter_rows():
                found.setdefault(str(value), dict.fromkeys(KINDS, 0))[kind] = count
        return dict(sorted(found.items()))

    @property
    def moves(self) -> list[dict[str, Any]]:
        """From which side to which, and how many rows."""
        counted = self.moved.group_by("old_sides", "side").len("rows")
        named = counted.sort("rows", "old_sides", "side", descending=[True, False, False])
        return named.rename({"old_sides": "old", "side": "new"}).to_dicts()

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The most frequent changes from one label to another, where both are labels."""
        import polars as pl

        labels = pl.col("old_label").cast(pl.String).alias("old"), pl.col("label").cast(pl.String)
        pairs = self.relabelled.select(*labels).drop_nulls().rename({"label": "new"})
        counted = pairs.group_by("old", "new").len("rows")
        return counted.sort("rows", "old", "new", descending=[True, False, False])[
            :NAMED_ANSWERS
        ].to_dicts()


def compare(old: pl.DataFrame, new: pl.DataFrame) -> Changes:
    """What became of each row.

    A row that is gone and one that came with the same prompt are one relabelled row.
    """
    import polars as pl

    gone = old.join(new.select("row"), on="row", how="anti", maintain_order="left")
    came = new.join(old.select("row"), on="row", how="anti", maintain_order="left")
    # A prompt may have several answers: the first that came replaces the first that is gone.
    place = pl.int_range(pl.len()).over("question").alias("place")
    gone, came = gone.with_columns(place), came.with_columns(place)
    pair = ["question", "place"]
    before = gone.select(
        *pair, old_side=pl.col("side"), old_at=pl.col("at"), old_label=pl.col("label")
    )
    relabelled = came.join(before, on=pair, how="inner", maintain_order="left")
    added = came.join(gone.select(pair), on=pair, how="anti", maintain_order="left")
    removed = gone.join(came.select(pair), on=pair, how="anti", maintain_order="left")
    moved = _moved(old, new)
    counts = {
        "kept": new.height - came.height,
        "added": added.height,
        "removed": removed.height,
        "relabelled": relabelled.height,
        "moved": moved.height,
        "reweighted": _reweighted(old, new),
        "added_about_old_texts": added.join(old.select("text"), on="text", how="semi").height,
    }
    return Changes(added, removed, relabelled, moved, counts)


def _moved(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Rows of the new set on a side where their source text was not, though it was on another.

    A text may have been on several sides if the recipe keeps leaks; each is one bit.
    """
    import polars as pl

    bit = pl.lit(1, pl.UInt8) * 2 ** pl.col("side").to_physical().cast(pl.UInt8)
    bits = old.lazy().group_by("text").agg(bit.cast(pl.UInt8).bitwise_or().alias("before"))
    there = new.lazy().join(bits, on="text", how="inner", maintain_order="left")
    moved = there.filter((pl.col("before") & bit.cast(pl.UInt8)) == 0).collect()
    names = {
        mask: " and ".join(side for place, side in enumerate(SPLITS) if mask >> place & 1)
        for mask in range(1, 2 ** len(SPLITS))
    }
    return moved.with_columns(
        old_sides=pl.col("before").replace_strict(names, return_dtype=pl.String)
    )


def _reweighted(old: pl.DataFrame, new: pl.DataFrame) -> int:
    """Rows of both sets that stand in train more or less often than before."""
    import polars as pl

    if old["copies"].max() == new["copies"].max() == 1:
        return 0
    both = new.select("row", "copies").join(old.select("row", before="copies"), on="row")
    return both.filter(pl.col("copies") != pl.col("before")).height
