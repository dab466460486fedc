"""A few rows of each kind of change, with their texts and where they came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glmops.prepare.diff import Version
from glmops.prepare.diff.changes import KINDS, Changes
from glmops.prepare.diff.facts import collected, scan

if TYPE_CHECKING:
    import polars as pl

EXAMPLES = 3
CHARACTERS = 300
"""Longer texts are shown without their end."""

Place = tuple[str, int]
"""A side and a place in its file."""


def examples(old: Version, new: Version, changes: Changes) -> dict[str, list[dict[str, Any]]]:
    """Kind → its first rows: file, line, side, task, prompt and target.

    Relabelled rows also have ``old_target``, moved ones ``old_sides``.
    """
    shown: dict[str, pl.DataFrame] = {kind: getattr(changes, kind)[:EXAMPLES] for kind in KINDS}
    before = _texts(old, _places(shown["removed"]) + _places(shown["relabelled"], "old_"))
    kinds = [kind for kind in KINDS if kind != "removed"]
    after = _texts(new, [place for kind in kinds for place in _places(shown[kind])])
    found = {
        kind: [(before if kind == "removed" else after)[place] for place in _places(rows)]
        for kind, rows in shown.items()
    }
    relabelled, moved = shown["relabelled"], shown["moved"]
    answers = [before[place]["target"] for place in _places(relabelled, "old_")]
    sides = moved["old_sides"].to_list()
    return {
        **found,
        "relabelled": _with("old_target", answers, found["relabelled"]),
        "moved": _with("old_sides", sides, found["moved"]),
    }


def _places(rows: pl.DataFrame, prefix: str = "") -> list[Place]:
    return list(rows.select(f"{prefix}side", f"{prefix}at").iter_rows())


def _texts(version: Version, places: list[Place]) -> dict[Place, dict[str, Any]]:
    """The rows at these places."""
    import polars as pl

    found: dict[Place, dict[str, Any]] = {}
    for side in dict.fromkeys(side for side, _ in places):
        wanted = [at for other, at in places if other == side]
        rows = scan(version, side).filter(pl.col("at").is_in(wanted))
        prompt = pl.concat_str("head", "body", "cue")
        texts = rows.select(
            "at", "file", "line", "task", prompt=_cut(prompt), target=_cut(pl.col("target"))
        )
        for row in collected(texts, version, side).to_dicts():
            found[side, row.pop("at")] = {**row, "side": side}
    return found


def _cut(text: pl.Expr) -> pl.Expr:
    import polars as pl

    whole = text.str.len_chars() <= CHARACTERS
    return pl.when(whole).then(text).otherwise(text.str.head(CHARACTERS - 1) + "…")


def _with(name: str, values: list[Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, name: value} for row, value in zip(rows, values, strict=True)]
