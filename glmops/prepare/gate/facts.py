"""Facts: what the gate judges about each row, as small numbers instead of texts.

The texts of a batch go back to disk; what stays in memory for the whole set is these columns, about
70 bytes a row. A fact that names a fault is 0 for a good row, so that one kind of rule fits all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glmops.prepare.formats import CATEGORIES, FORMATS
from glmops.prepare.gate.answers import Vocabulary, answer_facts
from glmops.prepare.split import sides_of
from glmops.recipe import Prepare, SourceSettings
from glmops.records import SPLITS, TASKS
from glmops.templates import TEMPLATES

if TYPE_CHECKING:
    import polars as pl

CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}]"
PLACEHOLDER = r"<[A-Z][A-Z_]+>|\{\{[^{}\\]*\}\}|(?-u:\b)BRAND"
POINTER = "version https://git-lfs"
FORMAT_LABELS = {
    "toutiao": tuple(CATEGORIES.values()),
    "paper": FORMATS["paper"].allowed["label"],
}
"""The labels that a format itself declares, whatever the recipe says."""
FORMAT_IDS = {"toutiao": r"^\d+(:|$)", "paper": r"^\S+$"}
"""What the ids look like that a format's own files carry (here with the template behind it)."""
_ODDITIES = {
    "no-break-space": "\u00a0",
    "zero-width": "[\u200b-\u200f\u2060]",
    "byte-order-mark": "\ufeff",
    "replacement-character": "\ufffd",
    "tab": "\t",
    "html-tag": r"</?[a-z][a-z0-9]*(\s[^<>]*)?/?>",
}
_LATE = r"(?s)^\s*[^\s`].*```json"
"""An answer that begins with words and has its JSON block behind them."""
_SUSPECT = "[\u00a0\u200b-\u200f\u2060\ufeff\ufffd\t<{]|BRAND"
"""Holds for every text that has one of these oddities, and is quicker than asking for each."""


def facts_of(
    rows: pl.DataFrame,
    section: Prepare,
    source: SourceSettings,
    vocabulary: Vocabulary,
    *,
    answers: bool = True,
) -> pl.DataFrame:
    """The facts of a batch of row frames from one source; see the columns below.

    Args:
        answers: False: a row with an empty target is one to predict, not one to refuse.
    """
    import polars as pl

    allowed = FORMAT_LABELS.get(source.format) if _answers_with_label(rows, source) else None
    shape = FORMAT_IDS.get(source.format)
    files = {name: vocabulary.file(name) for name in rows["file"].unique(maintain_order=True)}
    column, no = pl.col, pl.lit(False)
    blank = column("target").str.strip_chars() == ""
    prompt = (column("head"), column("body"), column("cue"))
    return rows.select(
        column("task").cast(pl.Enum(TASKS)),
        column("source").cast(pl.UInt16),
        column("file").replace_strict(files, return_dtype=pl.UInt32),
        column("id").hash().alias("id"),
        pl.struct(*prompt, "target").hash().alias("content"),
        # The text as the split sees it (white space collapsed), and the question about it.
        pl.struct("head", "group", "cue").hash().alias("question"),
        column("group").hash().alias("text"),
        pl.Series("side", _sides(rows, section, source), dtype=pl.Int8),
        _prompt_characters(rows).alias("prompt_characters"),
        # An empty answer has a rule of its own.
        pl.when(~blank).then(column("target").str.len_chars()).alias("target_characters"),
        _flag(column("group") == "").alias("empty_text"),
        _flag(blank if answers else no).alias("empty_answer"),
        _flag(_holds(rows, CONTROL)).alias("control_character"),
        _flag(_holds(rows, PLACEHOLDER)).alias("placeholder"),
        _flag(column("body").str.starts_with(POINTER)).alias("lfs_pointer"),
        _flag(~column("id").str.contains(shape) if shape else no).alias("odd_id"),
    ).with_columns(answer_facts(rows, section.labels, allowed, vocabulary))


def oddities(raw: pl.DataFrame) -> dict[str, int]:
    """What is strange in the fields of a raw frame, though nothing is refused for it.

    Name → how often it occurs; ``placeholder <UNK>`` and its like count the rows.
    """
    import polars as pl

    fields = text_fields(raw)
    texts = raw.select(pl.concat_str(fields, separator="\n", ignore_nulls=True).alias("text"))
    suspect = texts.filter(pl.col("text").str.contains(_SUSPECT))
    counts = suspect.select(
        pl.col("text").str.count_matches(pattern).sum().alias(name)
        for name, pattern in _ODDITIES.items()
    )
    found = {name: int(count) for name, count in counts.row(0, named=True).items() if count}
    placeholders = suspect.select(pl.col("text").str.extract_all(PLACEHOLDER).list.unique())
    named = placeholders["text"].explode(empty_as_null=False).value_counts()
    found |= {f"placeholder {name}": count for name, count in named.iter_rows()}
    # A field that is empty and one that is not there at all are two things.
    empty = raw.select(pl.col(name).str.strip_chars() == "" for name in fields).sum()
    absent = raw.select(pl.col(name).is_null() for name in fields).sum()
    for what, counts in (("empty", empty), ("absent", absent)):
        found |= {f"{what} {name}": int(n) for name, n in counts.row(0, named=True).items() if n}
    if "target" in raw.columns and (
        rows := raw.filter(pl.col("target").str.contains(_LATE)).height
    ):
        found["prose before a json block"] = rows
    if "history" in raw.columns and (rows := raw.filter(pl.col("history").list.len() > 0).height):
        found["rows with a history"] = rows
    return found


def text_fields(raw: pl.DataFrame) -> list[str]:
    """The fields of a raw frame that are text."""
    import polars as pl

    from glmops.prepare.frames import PLACE

    return [name for name, kind in raw.schema.items() if kind == pl.String and name not in PLACE]


def _sides(rows: pl.DataFrame, section: Prepare, source: SourceSettings) -> Any:
    """Each row's side, as a place in SPLITS: its source's, or that of its text's hash."""
    if source.side is not None:
        return [SPLITS.index(source.side)] * rows.height
    return sides_of(rows["group"], section.split)


def _answers_with_label(rows: pl.DataFrame, source: SourceSettings) -> bool:
    """Whether the template answers with the format's label alone."""
    names = rows["template"].unique().to_list()
    return all(TEMPLATES[name].answer in ("{category}", "{label}") for name in names)


def _prompt_characters(rows: pl.DataFrame) -> Any:
    """Null for templates without a prompt: rows that are learnt as a whole have no shortest one."""
    import polars as pl

    made = {name: TEMPLATES[name] for name in rows["template"].unique()}
    bare = [name for name, t in made.items() if not (t.head or t.body or t.cue or t.pattern)]
    length = pl.sum_horizontal(pl.col("head", "body", "cue").str.len_chars()).cast(pl.UInt32)
    return pl.when(~pl.col("template").is_in(bare)).then(length) if bare else length


def _holds(rows: pl.DataFrame, pattern: str) -> Any:
    """Whether a row holds the pattern; head and cue are mostly one text for all rows."""
    import polars as pl

    columns = ["body", "target"]
    columns += [name for name in ("head", "cue") if rows[name].unique().str.contains(pattern).any()]
    return pl.any_horizontal(pl.col(columns).str.contains(pattern))


def _flag(condition: Any) -> Any:
    import polars as pl

    return condition.cast(pl.UInt8)
