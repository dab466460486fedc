"""Tables → raw frames: which column is which field, in CSV, tab-separated text and Parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from glmops.errors import InputError
from glmops.prepare.formats import Layout
from glmops.prepare.frames import REFUSALS, fields_schema, split_off, without_controls
from glmops.prepare.raw.encodings import Encoding
from glmops.prepare.raw.files import RawFile
from glmops.prepare.raw.lines import line_frames
from glmops.prepare.raw.tables import Table, csv_tables

BATCH = 50_000
"""Rows of a table that are made into one frame."""

Frames = Iterator[tuple[pl.DataFrame, pl.DataFrame]]


@dataclass(frozen=True, slots=True)
class Picked:
    """Field → place of its column, from 0; the names of the columns that nobody asked for."""

    places: Mapping[str, int]
    header: bool
    unread: tuple[str, ...] = ()


def pick(file: RawFile, first: Sequence[str], layout: Layout, columns: Mapping[str, Any]) -> Picked:
    """Which column is which field.

    Args:
        first: The cells of the first row.
        columns: For a table: field → column name, or place from 1 when there is no header.
    Raises:
        InputError: A column is absent or there twice.
    """
    if layout.kind == "table" and all(isinstance(place, int) for place in columns.values()):
        last = max(columns.values())
        if last > len(first):
            raise InputError(
                f"{file.shown}:1",
                f"there is no column {last}; the first row has {len(first)}",
                do="Correct the columns, or name their separator.",
            )
        return Picked({field: place - 1 for field, place in columns.items()}, header=False)
    names = [name.strip() for name in first]
    if layout.kind == "table":
        wanted, found = dict(columns), names
    else:  # "Keywords" and "keywords" are one field
        wanted, found = {name: name for name in layout.fields}, [name.lower() for name in names]
    missing = [name for field, name in wanted.items() if name not in found]
    missing = [name for name in missing if name not in layout.optional]
    if missing:
        raise _no_such_column(file, missing, names, layout)
    for name in wanted.values():
        if found.count(name) > 1:
            raise InputError(
                f"{file.shown}:1", f"the column {name!r} is there twice", do="Rename one of them."
            )
    places = {field: found.index(name) for field, name in wanted.items() if name in found}
    unread = [name for place, name in enumerate(names) if place not in places.values()]
    return Picked(places, header=True, unread=tuple(unread))


def csv_frames(
    file: RawFile,
    encoding: Encoding,
    separator: str,
    layout: Layout,
    columns: Mapping[str, Any],
    on_columns: Callable[[Picked], None],
) -> Frames:
    """A CSV file in batches of rows."""
    picked: Picked | None = None
    count = 0
    for table in csv_tables(file, encoding, separator):
        if picked is None:
            picked = _picked_from(table, file, layout, columns)
            on_columns(picked)
        count += len(table.lines) + len(table.refused)
        yield _frame_of(table, picked, file)
    if picked is not None and picked.header and not count:
        raise InputError(file.shown, "a header without rows", do="Give it rows, or leave it out.")


def _picked_from(table: Table, file: RawFile, layout: Layout, columns: Mapping[str, Any]) -> Picked:
    """Which column is which field, from the first row, which leaves the table if it is a header."""
    first = min(table.refused, default=None)
    if first is not None and (not table.lines or first[0] < table.lines[0]):
        raise InputError(f"{file.shown}:{first[0]}", first[1], do="Correct the first line.")
    picked = pick(file, table.cells[0], layout, columns)
    if picked.header:
        del table.lines[0], table.raws[0], table.cells[0]
    return picked


def plain_frames(
    file: RawFile,
    encoding: Encoding,
    separator: str,
    layout: Layout,
    columns: Mapping[str, Any],
    on_columns: Callable[[Picked], None],
) -> Frames:
    """Text that is split at every separator, quotes being characters like others."""
    picked: Picked | None = None
    width, count = 0, 0
    for read in line_frames(file, encoding):
        lines, refused = read.frame, read.refused
        if picked is None and lines.height:
            picked = pick(file, lines.item(0, "raw").split(separator), layout, columns)
            on_columns(picked)
            lines = lines.tail(-1) if picked.header else lines
            width = _usual_width(lines, separator, picked)
        if picked is not None and lines.height:
            count += lines.height
            lines, odd = _split(lines, separator, width, picked)
            refused = pl.concat([refused, odd])
            if read.controls:
                lines, odd = without_controls(lines, list(picked.places))
                refused = pl.concat([refused, odd])
            yield lines, refused.sort("line")
        elif refused.height:
            yield lines.clear(), refused
    if picked is not None and picked.header and not count:
        raise InputError(file.shown, "a header without rows", do="Give it rows, or leave it out.")


def _split(
    lines: pl.DataFrame, separator: str, width: int, picked: Picked
) -> tuple[pl.DataFrame, pl.DataFrame]:
    raw = pl.col("raw")
    found = raw.str.count_matches(separator, literal=True) + 1
    reason = pl.when(found != width).then(
        pl.format(f"expected {width} fields split by {separator!r}, got {{}}", found)
    )
    lines, odd = split_off(lines, reason)
    cut = raw.str.split_exact(separator, width - 1).alias("cut")
    fields = [
        pl.col("cut").struct.field(f"field_{place}").alias(field)
        for field, place in picked.places.items()
    ]
    lines = lines.with_columns(cut, pl.lit(None, pl.String).alias("repair"))
    return lines.select("file", "line", "raw", "repair", *fields), odd


def _usual_width(lines: pl.DataFrame, separator: str, picked: Picked) -> int:
    """The number of columns that most of the first rows have."""
    counts = lines.head(1000)["raw"].str.count_matches(separator, literal=True) + 1
    return int(Counter(counts.to_list()).most_common(1)[0][0]) if lines.height else 1


def _frame_of(table: Table, picked: Picked, file: RawFile) -> tuple[pl.DataFrame, pl.DataFrame]:
    count = len(table.lines)
    values: dict[str, Any] = {
        "file": [file.shown] * count,
        "line": table.lines,
        "raw": table.raws,
        "repair": [None] * count,
    }
    for field, place in picked.places.items():
        values[field] = [cells[place] for cells in table.cells]
    frame = pl.DataFrame(values, schema=fields_schema(list(picked.places)))
    bad = [(file.shown, *refused) for refused in table.refused]
    refused = pl.DataFrame(bad, schema=REFUSALS, orient="row")
    if table.controls:
        frame, odd = without_controls(frame, list(picked.places))
        refused = pl.concat([refused, odd])
    return frame, refused.sort("line")


def _no_such_column(
    file: RawFile, missing: Sequence[str], names: Sequence[str], layout: Layout
) -> InputError:
    found = ", ".join(repr(name[:30]) for name in names[:12])
    what = f"no column {' and '.join(map(repr, missing))} in the header, which has {found}"
    if layout.kind == "table":
        do = "Correct the columns, or give their places from 1 if the file has no header."
    else:
        mapping = " ".join(f"--column {field}=NAME" for field in layout.required)
        do = f"Map other names: `--format table {mapping} --template TEMPLATE`."
    return InputError(f"{file.shown}:1", what, do=do)
