"""The three frames between raw bytes and Parquet, and the few expressions that all readers share.

raw frame: ``file``, ``line`` (Int64, from 1: where the row starts), ``raw`` (its text), ``repair``
(what was mended in it, or null), then one String column per field; ``history`` is
List(Struct{question, answer}). refusal frame: ``file, line, reason, raw``. row frame: ROWS.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from glmops.prepare.targets import BadRow

HISTORY = pl.List(pl.Struct({"question": pl.String, "answer": pl.String}))
PLACE = {"file": pl.String, "line": pl.Int64, "raw": pl.String, "repair": pl.String}
REFUSALS = {"file": pl.String, "line": pl.Int64, "reason": pl.String, "raw": pl.String}
ROWS = {
    **dict.fromkeys(
        ("id", "task", "template", "head", "body", "cue", "target", "group"), pl.String
    ),
    "file": pl.String,
    "line": pl.Int64,
    "source": pl.Int64,
    "weight": pl.Float64,
    "turns": pl.String,
}

# What Python's str.split() takes for white space, so that a group is the same in both.
_SPACE = (
    r"\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
)
# Line feed, tab and carriage return are text; so is everything from U+00A0 on.
_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}]"
_UNWANTED = (
    (re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"), "the control character"),
    # JSON can spell half a surrogate pair; UTF-8 cannot hold it.
    (re.compile(r"[\ud800-\udfff]"), "half a character,"),
)


def fields_schema(fields: Sequence[str], *, history: bool = False) -> dict[str, pl.DataType]:
    """The columns of a raw frame."""
    names: dict[str, pl.DataType] = {name: pl.String() for name in (*PLACE, *fields)}
    names["line"] = pl.Int64()
    return {**names, "history": HISTORY} if history else names


def is_blank(text: pl.Expr) -> pl.Expr:
    """Whether a text holds nothing but white space."""
    return ~text.str.contains(f"[^{_SPACE}]")


def normalised(text: pl.Expr) -> pl.Expr:
    """Every run of white space as one space, none at the ends: ``" ".join(text.split())``."""
    return text.str.replace_all(f"[{_SPACE}]+", " ").str.strip_chars(" ")


def split_off(frame: pl.DataFrame, reason: pl.Expr) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows without a reason, and a refusal for each row with one."""
    judged = frame.with_columns(reason.cast(pl.String).alias("reason"))
    if judged["reason"].null_count() == judged.height:
        return frame, pl.DataFrame(schema=REFUSALS)
    bad = judged["reason"].is_not_null()
    return judged.filter(~bad).drop("reason"), judged.filter(bad).select(*REFUSALS)


def refusal(file: str, line: int, reason: str, raw: str) -> pl.DataFrame:
    """A refusal frame of one row."""
    return pl.DataFrame([[file], [line], [reason], [raw]], schema=REFUSALS)


def require_text(field: str, value: object) -> None:
    """Refuse what no field of text may hold.

    Raises:
        BadRow: It holds a control character or half a character.
    """
    if not isinstance(value, str):
        return
    for pattern, what in _UNWANTED:
        if found := pattern.search(value):
            place = f"U+{ord(found[0]):04X} at character {found.start() + 1}"
            raise BadRow(f"{field!r} holds {what} {place}")


def without_controls(
    frame: pl.DataFrame, fields: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows whose fields hold no control character, and refusals that name where one is."""
    texts = [pl.col(field).str.contains(_CONTROL).fill_null(False) for field in fields]
    odd = frame.select(pl.any_horizontal(texts).alias("odd"))["odd"]
    if not odd.any():
        return frame, pl.DataFrame(schema=REFUSALS)
    bad = frame.filter(odd)
    reasons = [_fault(fields, values) for values in bad.select(fields).iter_rows()]
    return frame.filter(~odd), bad.with_columns(pl.Series("reason", reasons)).select(*REFUSALS)


def _fault(fields: Sequence[str], values: Sequence[object]) -> str | None:
    for field, value in zip(fields, values, strict=True):
        try:
            require_text(field, value)
        except BadRow as bad:
            return str(bad)
    return None
