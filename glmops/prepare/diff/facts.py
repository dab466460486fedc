"""A prepared set as a few numbers a row: texts become 64-bit hashes, so that millions of rows fit.

Among four million rows two different texts share a hash once in two million such comparisons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glmops.errors import InputError
from glmops.prepare.diff import Version
from glmops.prepare.targets import labels_of
from glmops.records import SPLITS, TASKS

if TYPE_CHECKING:
    import polars as pl

NEEDED = ("task", "head", "body", "cue", "target", "group", "file", "line")
MEND = "Make the set again: `dvc repro prepare@NAME`, or `glmops run NAME`."
LABELLED = "classification"


def read_facts(version: Version) -> pl.DataFrame:
    """One line per different row, in the order of the files.

    Columns: ``row`` (prompt and answer), ``question`` (the prompt; the source text where there is
    no prompt), ``text`` (source text), ``side`` and ``task`` (their names), ``source``, ``at``
    (its place in the side's file), ``prompt_characters``, ``target_characters``, ``label`` (the
    labels of a classification row, else null) and ``copies`` (how often the row stands in train).

    Raises:
        InputError: A file is missing, cannot be read, or is no table of prepared rows.
    """
    import polars as pl

    parts = [_read_side(version, side) for side in SPLITS]
    facts = pl.concat(parts)
    if facts["row"].n_unique() == facts.height:
        return facts.with_columns(copies=pl.lit(1, pl.UInt32))
    counted = facts.with_columns(copies=pl.len().over("row"))
    return counted.unique("row", keep="first", maintain_order=True)


def sizes(facts: pl.DataFrame) -> dict[str, Any]:
    """Rows, different source texts, rows per side; rows as often as they are written."""
    import polars as pl

    sides = dict(facts.group_by("side").agg(pl.col("copies").sum()).iter_rows())
    return {
        "rows": facts.height,
        "texts": facts["text"].n_unique(),
        "written": {side: sides.get(side, 0) for side in SPLITS},
    }


def scan(version: Version, side: str) -> pl.LazyFrame:
    """The side's table, its columns checked; ``at`` is the place of each row in it."""
    import polars as pl

    path = version.folder / f"{side}.parquet"
    where = f"{version.where}/{side}.parquet"
    if not path.is_file():
        raise InputError(where, "no such file: the prepared set is not whole", do=MEND)
    try:
        columns = pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(where, error) from error
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        what = f"no table of prepared rows: it has no column {', '.join(missing)}"
        raise InputError(where, what, do=MEND)
    rows = pl.scan_parquet(path, row_index_name="at")
    # Sets from before there were several sources have no such column.
    return rows if "source" in columns else rows.with_columns(source=pl.lit(0, pl.Int64))


def collected(rows: pl.LazyFrame, version: Version, side: str) -> pl.DataFrame:
    """A query on ``scan``, in batches; damage inside the file is the user's to hear of."""
    import polars as pl

    try:
        return rows.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(f"{version.where}/{side}.parquet", error) from error


def _read_side(version: Version, side: str) -> pl.DataFrame:
    import polars as pl
    import polars_hash

    rows = scan(version, side)
    prompt = pl.concat_str("head", "body", "cue")
    texts = rows.select(
        "at",
        "task",
        "source",
        prompt=prompt,
        question_text=pl.when(prompt == "").then("\0" + pl.col("group")).otherwise(prompt),
        row_text=pl.concat_str(prompt, pl.lit("\0"), "target"),
        group="group",
        target="target",
    )
    facts = texts.select(
        polars_hash.col("row_text").nchash.xxh3_64().alias("row"),
        polars_hash.col("question_text").nchash.xxh3_64().alias("question"),
        polars_hash.col("group").nchash.xxh3_64().alias("text"),
        pl.lit(side, pl.Enum(SPLITS)).alias("side"),
        pl.col("task").cast(pl.Enum(TASKS)),
        pl.col("source").cast(pl.UInt16),
        pl.col("at").cast(pl.UInt32),
        pl.col("prompt").str.len_chars().alias("prompt_characters"),
        pl.col("target").str.len_chars().alias("target_characters"),
        pl.when(pl.col("task") == LABELLED)
        .then(polars_hash.col("target").nchash.xxh3_64())
        .alias("answer"),
    )
    return _with_labels(collected(facts, version, side), rows, version, side)


def _with_labels(
    facts: pl.DataFrame, rows: pl.LazyFrame, version: Version, side: str
) -> pl.DataFrame:
    """Labels are few: each different answer is looked at once."""
    import polars as pl
    import polars_hash

    answers = collected(
        rows.filter(pl.col("task") == LABELLED).select("target").unique(), version, side
    )
    named = answers.select(
        polars_hash.col("target").nchash.xxh3_64().alias("answer"),
        pl.Series("label", map(label_of, answers["target"]), pl.String).cast(pl.Categorical),
    )
    return facts.join(named, on="answer", how="left", maintain_order="left").drop("answer")


def label_of(target: str) -> str:
    """A classification answer as one label; several labels count as one set of them."""
    return " + ".join(sorted(set(labels_of(target))))


def _unreadable(where: str, error: Exception) -> InputError:
    said = " ".join(str(error).split())
    return InputError(where, f"cannot be read as Parquet ({said})", do=MEND)
