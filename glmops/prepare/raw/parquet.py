"""Parquet → raw frames, batch by batch. A row's line is its number, from 1."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from glmops.errors import InputError
from glmops.prepare.formats import Layout
from glmops.prepare.frames import split_off, without_controls
from glmops.prepare.raw.columns import BATCH, Picked, pick
from glmops.prepare.raw.files import RawFile

if TYPE_CHECKING:
    import pyarrow as pa


def parquet_frames(
    file: RawFile, layout: Layout, columns: Mapping[str, Any]
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame, Picked]]:
    """A Parquet file in batches of rows; ``raw`` is the mapped cells as JSON.

    Raises:
        InputError: It is broken or empty, or a column is absent or holds neither text nor whole
            numbers.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if any(isinstance(place, int) for place in columns.values()):
        what = "the columns of a Parquet file have names, not places"
        raise InputError(file.shown, what, do="Give their names.")
    try:
        with pq.ParquetFile(file.path) as table:
            picked = pick(file, table.schema_arrow.names, layout, columns)
            _require_types(file, table.schema_arrow, columns)
            if not table.metadata.num_rows:
                raise InputError(file.shown, "a table without rows", do="Give it rows.")
            start = 1
            names = list(dict.fromkeys(columns.values()))
            for batch in table.iter_batches(batch_size=BATCH, columns=names):
                cells = _as_text(batch)
                yield *_frame_of(cells, columns, file, start), picked
                start += cells.height
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            file.shown, f"not a whole Parquet file ({error})", do="Write it again."
        ) from None


def _as_text(batch: pa.RecordBatch) -> pl.DataFrame:
    """Every cell as text; a list, which only a history may be, as JSON."""
    import pyarrow.types as kinds

    columns = {
        name: pl.Series(
            [
                None if value is None else json.dumps(value, ensure_ascii=False)
                for value in batch.column(name).to_pylist()
            ],
            dtype=pl.String,
        )
        if kinds.is_nested(batch.schema.field(name).type)
        else pl.Series(pl.from_arrow(batch.column(name))).cast(pl.String)
        for name in batch.schema.names
    }
    return pl.DataFrame(columns)


def _frame_of(
    cells: pl.DataFrame, columns: Mapping[str, Any], file: RawFile, start: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    lines = pl.int_range(start, start + cells.height, dtype=pl.Int64, eager=True).alias("line")
    frame = cells.select(
        pl.lit(file.shown).alias("file"),
        lines,
        pl.struct(pl.all()).struct.json_encode().alias("raw"),
        pl.lit(None, pl.String).alias("repair"),
        *(pl.col(column).alias(field) for field, column in columns.items()),
    )
    empty = [
        pl.when(pl.col(field).is_null()).then(pl.lit(f"{column!r} is null, not text"))
        for field, column in columns.items()
        if field != "history"
    ]
    frame, refused = split_off(frame, pl.coalesce(empty))
    frame, odd = without_controls(frame, list(columns))
    return frame, pl.concat([refused, odd]).sort("line")


def _require_types(file: RawFile, schema: Any, columns: Mapping[str, Any]) -> None:
    import pyarrow.types as kinds

    for field, column in columns.items():
        kind = schema.field(column).type
        if field == "history" and (kinds.is_list(kind) or kinds.is_large_list(kind)):
            continue
        kind = kind.value_type if kinds.is_dictionary(kind) else kind
        text = kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)
        if not text and not kinds.is_integer(kind):
            raise InputError(
                file.shown,
                f"the column {column!r} holds neither text nor whole numbers",
                got=str(kind),
                do="Write it as text.",
            )
