"""Refusals by reason: what differs from row to row is left out where it would hide the pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glmops.prepare.card.shown import cut

if TYPE_CHECKING:
    import polars as pl

KINDS = 30
_ALIKE = 3
"""So many reasons of one pattern are given in their own words."""
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_PLACE = r"[^\s()]+:\d+"
_SHARE = r"\d+\.\d+"
_NUMBER = r"\d+"


def by_reason(refusals: pl.DataFrame) -> dict[str, Any]:
    """``rows``, ``kinds`` (reason, rows, file, line and raw text of the first) and ``others``.

    Args:
        refusals: file, line, reason, raw; sorted by file and line.
    """
    import polars as pl

    said = pl.col("reason").str.replace_all(_PLACE, "FILE:LINE").str.replace_all(_SHARE, "N.N")
    pattern = pl.col("said").str.replace_all(_QUOTED, "'…'").str.replace_all(_NUMBER, "N")
    few = pl.col("said").n_unique().over("pattern") <= _ALIKE
    kind = pl.when(few).then("said").otherwise("pattern").alias("kind")
    named = refusals.with_columns(said.alias("said")).with_columns(pattern.alias("pattern"))
    first = [pl.col(name).first() for name in ("reason", "file", "line", "raw")]
    kinds = (
        named.with_columns(kind)
        .group_by("kind", maintain_order=True)
        .agg(pl.len().alias("rows"), *first)
        .sort("rows", "kind", descending=[True, False])
    )
    return {
        "rows": refusals.height,
        "kinds": [_kind(row) for row in kinds.head(KINDS).iter_rows(named=True)],
        "others": int(kinds[KINDS:]["rows"].sum()),
    }


def _kind(row: dict[str, Any]) -> dict[str, Any]:
    """``first_reason`` is given where the reason is a pattern."""
    said = {"reason": cut(row["kind"]), "rows": row["rows"], "file": row["file"]}
    if row["reason"] != row["kind"]:
        said["first_reason"] = cut(row["reason"])
    return {**said, "line": row["line"], "raw": cut(row["raw"])}
