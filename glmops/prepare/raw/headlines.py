"""Toutiao's raw headlines, ``id_!_code_!_name_!_title_!_keywords`` a line → raw frames."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from glmops.errors import InputError
from glmops.prepare.formats import CATEGORIES, FORMATS
from glmops.prepare.frames import split_off, without_controls
from glmops.prepare.raw.encodings import Encoding
from glmops.prepare.raw.files import RawFile
from glmops.prepare.raw.lines import line_frames

MARK = "_!_"
FIELDS = FORMATS["toutiao"].fields
_FEW = 3
"""Lines of one other width that make a file of another layout, when no line has the right one."""


def headline_frames(
    file: RawFile, encoding: Encoding
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """The headlines of a file in batches; a line that is cut in two or glued to another is refused.

    Raises:
        InputError: The lines have another number of fields throughout.
    """
    first = True
    for read in line_frames(file, encoding):
        lines = read.frame
        found = pl.col("raw").str.count_matches(MARK, literal=True) + 1
        if first and lines.height:
            _require_layout(file, lines.select(found).to_series())
            first = False
        cut = pl.col("raw").str.split_exact(MARK, len(FIELDS)).alias("cut")
        rows = lines.with_columns(cut).with_columns(
            pl.col("cut").struct.field(f"field_{place}").alias(name)
            for place, name in enumerate((*FIELDS, "more"))
        )
        rows, odd = split_off(rows, _reason(found))
        kept = rows.with_columns(pl.lit(None, pl.String).alias("repair"))
        kept = kept.select("file", "line", "raw", "repair", *FIELDS)
        refused = pl.concat([read.refused, odd])
        if read.controls:
            kept, odd = without_controls(kept, FIELDS)
            refused = pl.concat([refused, odd])
        yield kept, refused.sort("line")


def _reason(found: pl.Expr) -> pl.Expr:
    """Why a line is no headline; null for one that is."""
    code, name = pl.col("code"), pl.col("category")
    meant = code.replace_strict(CATEGORIES, default=None, return_dtype=pl.String)
    cut = pl.col("keywords").is_null() | pl.col("more").is_not_null()
    return (
        pl.when(cut)
        .then(pl.format(f"expected {len(FIELDS)} fields split by {MARK!r}, got {{}}", found))
        .when(~pl.col("id").str.contains("^[0-9]+$"))
        .then(pl.format("the id {} is not a number", pl.col("id").str.head(40)))
        .when(~code.str.contains("^[0-9]+$"))
        .then(pl.format("the category code {} is not a number", code.str.head(40)))
        .when((meant != name) & name.is_in(list(CATEGORIES.values())))
        .then(pl.format("the category code {} means {}, and the line says {}", code, meant, name))
    )


def _require_layout(file: RawFile, widths: pl.Series) -> None:
    """Refuse a file whose lines all have one other number of fields."""
    if widths.len() < _FEW or (widths == len(FIELDS)).any() or widths.n_unique() > 1:
        return
    width = int(widths[0])
    named = f"toutiao has {len(FIELDS)}: {MARK.join(FIELDS)}"
    what = f"its lines have {width} fields split by {MARK!r}, and {named}"
    if width == 2:
        do = (
            "This is the derivative `title_!_label`: read it with "
            "`--format table --separator _!_ --column title=1 --column category=2 "
            "--template headline-category`."
        )
    else:
        do = "Name the file's own format."
    raise InputError(file.shown, what, do=do)
