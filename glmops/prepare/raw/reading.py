"""One raw source → raw frames and refusals, batch by batch, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from glmops.errors import lookup
from glmops.prepare.formats import FORMATS, Layout
from glmops.prepare.frames import fields_schema, is_blank, split_off, without_controls
from glmops.prepare.raw.columns import Picked, csv_frames, plain_frames
from glmops.prepare.raw.encodings import Encoding, encoding_of
from glmops.prepare.raw.files import RawFile, raw_files
from glmops.prepare.raw.headlines import headline_frames
from glmops.prepare.raw.json_arrays import array_elements
from glmops.prepare.raw.json_lines import plain_rows
from glmops.prepare.raw.kinds import is_array, require_json, require_separated
from glmops.prepare.raw.lines import Lines, line_frames
from glmops.prepare.raw.objects import frame_of, read_histories, unpack_for
from glmops.prepare.raw.opening import BLOCK, PARQUET, head_of, require_text
from glmops.prepare.raw.parquet import parquet_frames
from glmops.prepare.targets import BadRow, parse_json
from glmops.recipe.prepare import SourceSettings

Frames = Iterator[tuple[pl.DataFrame, pl.DataFrame]]


@dataclass(frozen=True, slots=True)
class Opened:
    """What was found out about a file before its rows: told once, before the first batch."""

    file: RawFile
    encoding: str
    """utf-8 or gb18030; parquet for a table that says so itself."""
    unread: tuple[str, ...] = ()
    """Columns that nobody asked for."""


OnFile = Callable[[Opened], None]


def files_of(path: Path | str, source: SourceSettings, root: Path | None) -> list[RawFile]:
    """The files of a source, in sorted order; see ``raw_files``."""
    layout = lookup(FORMATS, source.format, "format")
    return raw_files(Path(path), root, pattern=source.files, suffixes=layout.suffixes)


def read_batches(
    path: Path | str,
    source: SourceSettings,
    *,
    root: Path | None = None,
    on_file: OnFile = lambda opened: None,
) -> Frames:
    """Every raw row of a source, in a raw frame or in a refusal frame (see ``frames``).

    About 16 MB of text are in memory at a time. What all files look like is checked before the
    first of them is read.

    Raises:
        InputError: A path or a whole file cannot be used.
    """
    files = files_of(path, source, root)
    for file in files:
        if not _is_parquet(file, source):
            require_text(file)
    for file in files:
        yield from read_file(file, source, on_file)


def read_file(file: RawFile, source: SourceSettings, on_file: OnFile) -> Frames:
    """The rows of one file; one with a value that its field cannot have is refused."""
    layout = layout_of(source)
    for frame, refused in _frames(file, source, layout, on_file):
        for name, values in layout.allowed.items():
            if name in frame.columns:
                frame, odd = split_off(frame, _other_value(name, values))
                refused = pl.concat([refused, odd]).sort("line")
        yield frame, refused


def _other_value(name: str, values: Sequence[str]) -> pl.Expr:
    """The reason for a field that says something else; an empty one is the template's matter."""
    field = pl.col(name)
    reason = pl.format(f"{name!r} is {{}}, not {' or '.join(values)}", field.str.head(40))
    return pl.when(~field.is_in(list(values)) & ~is_blank(field)).then(reason)


def layout_of(source: SourceSettings) -> Layout:
    """The layout of a source's format; a table's fields are those that are mapped. A history is
    no field: it is not text."""
    layout = lookup(FORMATS, source.format, "format")
    if layout.kind != "table":
        return layout
    key = "id" if "id" in source.columns else None
    fields = tuple(name for name in source.columns if name != "history")
    return replace(layout, fields=fields, key=key, history="history" in source.columns)


def _frames(file: RawFile, source: SourceSettings, layout: Layout, on_file: OnFile) -> Frames:
    if _is_parquet(file, source):
        yield from _parquet(file, source, layout, on_file)
        return
    head = require_text(file)
    as_json = layout.kind in ("objects", "turns") or (
        layout.kind == "table" and head.lstrip()[:1] in (b"{", b"[")
    )
    if as_json:
        require_json(file, head)
    else:
        require_separated(file, head, layout)
    encoding = encoding_of(file, source.encoding)
    if as_json:
        on_file(Opened(file, encoding.name))
        read = _array if is_array(head) else _json_lines
        yield from read(file, encoding, source, layout)
    elif layout.kind == "lines":
        on_file(Opened(file, encoding.name))
        yield from headline_frames(file, encoding)
    else:
        yield from _table(file, encoding, source, layout, on_file)


def _json_lines(
    file: RawFile, encoding: Encoding, source: SourceSettings, layout: Layout
) -> Frames:
    unpack = unpack_for(layout, source.columns)
    schema = fields_schema(layout.fields, history=layout.history)
    for read in line_frames(file, encoding):
        refused = read.refused
        plain, rest = _plain(read, source, layout)
        if plain is not None and read.controls:  # the decoder looks for them itself
            plain, odd = without_controls(plain, layout.fields)
            refused = pl.concat([refused, odd])
        values = [(line, raw, _value(raw)) for line, raw in rest.select("line", "raw").iter_rows()]
        frame, odd = frame_of(values, unpack, layout, file.shown)
        both = frame if plain is None else pl.concat([plain.match_to_schema(schema), frame])
        yield both.sort("line"), pl.concat([refused, odd]).sort("line")


def _plain(
    read: Lines, source: SourceSettings, layout: Layout
) -> tuple[pl.DataFrame | None, pl.DataFrame]:
    """The rows that need no decoder; a conversation always needs one, and so does a history."""
    lines = read.frame
    if layout.kind == "turns" or "history" in source.columns or not lines.height:
        return None, lines
    missing = [pl.lit(None, pl.String).alias("repair")]
    if layout.history:
        schema = fields_schema((), history=True)
        missing.append(pl.lit(None, schema["history"]).alias("history"))
    exact = layout.kind == "objects"
    keys = {field: str(source.columns.get(field, field)) for field in layout.fields}
    plain, rest = plain_rows(lines, keys, layout.optional, exact=exact, controls=read.controls)
    return plain.with_columns(missing), rest


def _value(raw: str) -> object:
    """What a line holds, or why it holds nothing."""
    try:
        return parse_json(raw, "the line")
    except BadRow as bad:
        return bad


def _array(file: RawFile, encoding: Encoding, source: SourceSettings, layout: Layout) -> Frames:
    unpack = unpack_for(layout, source.columns)
    elements = array_elements(file, encoding)
    while batch := list(_some(elements)):
        yield frame_of(batch, unpack, layout, file.shown)


def _some(elements: Iterator[tuple[int, str, object]]) -> Iterator[tuple[int, str, object]]:
    """The next elements, as many as make about one block of text."""
    room = BLOCK // 2  # characters; most are of more than one byte
    for element in elements:
        yield element
        room -= len(element[1])
        if room <= 0:
            return


def _table(
    file: RawFile, encoding: Encoding, source: SourceSettings, layout: Layout, on_file: OnFile
) -> Frames:
    def tell(picked: Picked) -> None:
        on_file(Opened(file, encoding.name, picked.unread))

    comma = layout.kind == "csv" or file.suffix == ".csv"
    separator = source.separator or ("," if comma else "\t")
    # Tab-separated text has no quoting: a quote in a field is a character of it.
    quoted = len(separator) == 1 and separator != "\t"
    read = csv_frames if quoted else plain_frames
    frames = read(file, encoding, separator, layout, source.columns, tell)
    yield from map(read_histories, frames) if layout.history else frames


def _parquet(file: RawFile, source: SourceSettings, layout: Layout, on_file: OnFile) -> Frames:
    told = False
    for frame, refused, picked in parquet_frames(file, layout, source.columns):
        if not told:
            on_file(Opened(file, "parquet", picked.unread))
            told = True
        yield read_histories((frame, refused)) if layout.history else (frame, refused)


def _is_parquet(file: RawFile, source: SourceSettings) -> bool:
    return source.format == "table" and head_of(file).startswith(PARQUET)
