"""Rows as a card shows them: where they stand, and their texts cut with a mark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glmops.prepare.near import Pair
from glmops.prepare.spool import Spool

if TYPE_CHECKING:
    import polars as pl

CHARACTERS = 400
PAIRS = 5
LABELS = 4
_COLUMNS = ("file", "line", "head", "body", "cue", "target", "group")
# What a reader would not see, or what would turn the text around it: shown by name instead.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def cut(text: str) -> str:
    """At most CHARACTERS of a text; what is left out is counted."""
    if len(text) <= CHARACTERS:
        return text
    return f"{text[:CHARACTERS]}… ({len(text) - CHARACTERS} more characters)"


def visible(text: str) -> str:
    """A text in which no character is unseen: ``‹U+200B›`` stands for a zero-width space."""
    return _UNSEEN.sub(lambda match: f"‹U+{ord(match[0]):04X}›", text)


def example(row: dict[str, Any]) -> dict[str, Any]:
    """A row in its parts."""
    parts = {name: cut(row[name]) for name in ("head", "body", "cue", "target")}
    return {"file": row["file"], "line": row["line"], **parts}


def spread(count: int, most: int) -> list[int]:
    """``most`` places out of ``count``, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [place * (count - 1) // (most - 1) for place in range(most)]


def exact_pairs(
    spool: Spool, facts: pl.DataFrame, refused: pl.Series, repeats: Any
) -> list[dict[str, Any]]:
    """Some repeats beside the row that they repeat: its earliest accepted copy.

    Args:
        facts: Of all rows.
        refused: Numbers of rows.
        repeats: Row numbers (numpy, ascending).
    """
    import polars as pl

    some = [int(repeats[place]) for place in spread(len(repeats), PAIRS)]
    chosen = facts.filter(pl.col("row").is_in(some)).select("row", "content")
    copies = facts.filter(pl.col("content").is_in(chosen["content"].implode()))
    copies = copies.filter(~pl.col("row").is_in(refused.implode()))
    first = dict(copies.group_by("content").agg(pl.col("row").min()).iter_rows())
    rows = spool.at(_COLUMNS, [*some, *first.values()])
    return [
        {"row": example(rows[row]), "repeats": _place(rows[first[content]])}
        for row, content in chosen.sort("row").iter_rows()
    ]


def near_pairs(spool: Spool, texts: Any, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Some near copies beside the text that they are like, from the most to the least alike.

    Args:
        texts: Text number → its first row (numpy).
    """
    ranked = sorted(pairs, key=lambda pair: (-pair.similarity, pair.second, pair.first))
    some = [ranked[place] for place in spread(len(ranked), PAIRS)]
    named = [(int(texts[pair.first]), int(texts[pair.second]), pair.similarity) for pair in some]
    rows = spool.at(_COLUMNS, [row for pair in named for row in pair[:2]])
    return [
        {
            "similarity": round(alike, 4),
            "one": {**_place(rows[one]), "text": cut(rows[one]["group"])},
            "other": {**_place(rows[other]), "text": cut(rows[other]["group"])},
        }
        for one, other, alike in named
    ]


def conflicting(spool: Spool, facts: pl.DataFrame) -> list[dict[str, Any]]:
    """Some texts that have several labels, each with a row of each label."""
    import polars as pl

    torn = facts.filter(pl.col("labels_of_text") > 1).select("row", "question", "label")
    torn = torn.unique(["question", "label"], keep="first", maintain_order=True)
    questions = torn["question"].unique(maintain_order=True)
    some = [questions[place] for place in spread(len(questions), PAIRS)]
    rows_of = {
        question: torn.filter(pl.col("question") == question)["row"].to_list() for question in some
    }
    rows = spool.at(_COLUMNS, [row for found in rows_of.values() for row in found[:LABELS]])
    return [
        {
            "text": cut(rows[found[0]]["group"]),
            "answers": [
                {**_place(rows[row]), "answer": cut(rows[row]["target"])} for row in found[:LABELS]
            ],
            "labels": len(found),
        }
        for found in rows_of.values()
    ]


def _place(row: dict[str, Any]) -> dict[str, Any]:
    return {"file": row["file"], "line": row["line"]}
