"""Prepared rows in chunks whose borders depend on the rows themselves, not on their numbers.

A row that is added moves the borders near it and no others, so that the chunks before and behind it
are the same as before and can be taken from the token cache.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from glmops.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

READ_ROWS = 16_384

# A chunk ends at a row whose id says so (one in BORDER), but holds FEWEST rows at least, and at
# most MOST rows or TEXT bytes: that is what bounds the memory of every process that encodes.
FEWEST = 4096
BORDER = 4096
MOST = 16_384
TEXT = 16 * 2**20

TEXTS = ("head", "body", "cue", "target")
NAMES = ("id", *TEXTS, "turns", "file", "line")


def read_chunks(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file that ``prepare`` wrote, in order, with the columns NAMES.

    Raises:
        InputError: The file is missing, is not Parquet, or lacks one of the columns.
    """
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in _batches(path, NAMES, READ_ROWS):
        begin = 0
        sizes = _text_bytes(batch)
        for place, name in enumerate(batch.column("id").to_pylist()):
            rows += 1
            size += sizes[place]
            border = rows >= FEWEST and zlib.crc32(name.encode()) % BORDER == 0
            if border or rows == MOST or size >= TEXT:
                waiting.append(batch.slice(begin, place + 1 - begin))
                yield pa.concat_batches(waiting)
                waiting, begin, rows, size = [], place + 1, 0, 0
        if begin < len(batch):
            waiting.append(batch.slice(begin))
    if waiting:
        yield pa.concat_batches(waiting)


def templates_of(path: Path) -> list[str]:
    """The templates of all rows, in order of their names.

    Raises:
        InputError: There is no row, or one names none.
    """
    names: set[str | None] = set()
    for batch in _batches(path, ("template",), READ_ROWS):
        names.update(batch.column("template").unique().to_pylist())
    if not names:
        raise InputError(path, "has no rows", do="Give prepare more rows.")
    if not all(names):
        raise InputError(path, "a row of it names no template", do="Run prepare again.")
    return sorted(map(str, names))


def num_rows(path: Path) -> int:
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def _batches(path: Path, names: tuple[str, ...], rows: int) -> Iterator[pa.RecordBatch]:
    with _opened(path, names) as file:
        yield from file.iter_batches(batch_size=rows, columns=list(names))


def _opened(path: Path, names: tuple[str, ...] = ()) -> pa.parquet.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(path, "no such file", do="Run the stage that writes it.")
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise InputError(path, f"not Parquet ({error})", do="Run prepare again.") from None
    if missing := sorted(set(names) - set(file.schema_arrow.names)):
        raise InputError(path, "has no such column", got=missing[0], do="Run prepare again.")
    return file


def _text_bytes(batch: pa.RecordBatch) -> list[int]:
    """Bytes of all texts of each row."""
    import pyarrow.compute as pc

    total = pc.binary_length(batch.column(TEXTS[0]))
    for name in TEXTS[1:]:
        total = pc.add(total, pc.binary_length(batch.column(name)))
    sizes: list[int] = total.to_pylist()
    return sizes
