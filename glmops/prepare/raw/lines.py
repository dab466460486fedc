"""The lines of a text file as frames of ``line`` (from 1) and ``raw``, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from glmops.prepare.frames import REFUSALS, is_blank, refusal, split_off
from glmops.prepare.raw.encodings import Encoding, fault_of
from glmops.prepare.raw.files import RawFile
from glmops.prepare.raw.opening import KEPT, LONGEST_LINE, Block, LongLine, blocks

BLANK = "a blank line among the rows"


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of a file as a frame of ``file, line, raw``, and those that were refused.

    ``controls``: whether any of them may hold a control character.
    """

    frame: pl.DataFrame
    refused: pl.DataFrame
    controls: bool


def line_frames(file: RawFile, encoding: Encoding) -> Iterator[Lines]:
    """Every line once, without its line end, in its frame or refused.

    Refused are lines that are no text, that are longer than LONGEST_LINE or that are blank; a
    blank line at the very end of the file is no row.
    """
    for block in blocks(file):
        if isinstance(block, LongLine):
            nothing = pl.DataFrame(schema={"file": pl.String, "line": pl.Int64, "raw": pl.String})
            yield Lines(nothing, long_line(file, block), controls=False)
            continue
        if encoding.clean:
            lines, refused = _clean_lines(block, encoding), pl.DataFrame(schema=REFUSALS)
        else:
            lines, refused = _judged_lines(file, block, encoding)
        lines = lines.select(pl.lit(file.shown).alias("file"), "line", "raw")
        if block.last and lines.height and _is_last_blank(lines, block):
            lines = lines.head(-1)
        raw = pl.col("raw")
        size = raw.str.len_bytes()
        lines, odd = split_off(
            lines,
            pl.when(size > LONGEST_LINE)
            .then(pl.format("{}", size).pipe(_too_long))
            .when(is_blank(raw))
            .then(pl.lit(BLANK)),
        )
        odd = odd.with_columns(raw.str.head(KEPT)) if odd.height else odd
        refused = pl.concat([refused, odd]).sort("line")
        yield Lines(lines, refused, block.may_hold_controls)


def long_line(file: RawFile, line: LongLine) -> pl.DataFrame:
    """The refusal of a line that is too long to be held."""
    start = line.start.decode("utf-8", "replace") + "…"
    reason = pl.select(_too_long(pl.lit(str(line.size)))).item()
    return refusal(file.shown, line.number, reason, start)


def _too_long(size: pl.Expr) -> pl.Expr:
    return pl.format(
        "the line is {} bytes long and at most {} are read: are its line breaks missing?",
        size,
        pl.lit(str(LONGEST_LINE)),
    )


def _clean_lines(block: Block, encoding: Encoding) -> pl.DataFrame:
    if encoding.name == "utf-8":
        text = pl.Series("raw", [block.data], dtype=pl.Binary).cast(pl.String)
    else:
        text = pl.Series("raw", [block.data.decode(encoding.name)])
    lines = text.str.split("\n").explode()
    lines = lines.head(-1) if block.data.endswith(b"\n") else lines
    frame = pl.DataFrame([lines.str.strip_suffix("\r")])
    return frame.with_row_index("line", block.first).with_columns(pl.col("line").cast(pl.Int64))


def _judged_lines(
    file: RawFile, block: Block, encoding: Encoding
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """As _clean_lines, with a look at each line: some of this file's are no text."""
    numbers, texts, refused = [], [], []
    offset = block.offset
    lines = block.data.removesuffix(b"\n").split(b"\n")
    for number, raw in enumerate(lines, start=block.first):
        text = raw.removesuffix(b"\r")
        if reason := fault_of(text, encoding.name, offset):
            shown = text[:LONGEST_LINE].decode("utf-8", "backslashreplace")
            refused.append((file.shown, number, reason, shown))
        else:
            numbers.append(number)
            texts.append(text.decode(encoding.name))
        offset += len(raw) + 1
    frame = pl.DataFrame(
        {"line": numbers, "raw": texts}, schema={"line": pl.Int64, "raw": pl.String}
    )
    return frame, pl.DataFrame(refused, schema=REFUSALS, orient="row")


def _is_last_blank(lines: pl.DataFrame, block: Block) -> bool:
    last = block.first + block.data.removesuffix(b"\n").count(b"\n")
    line, raw = lines.item(-1, "line"), lines.item(-1, "raw")
    return bool(line == last and not raw.strip())
