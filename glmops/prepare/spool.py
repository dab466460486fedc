"""The texts of the rows between reading and writing: on disk, so that memory holds only facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import polars as pl


T = TypeVar("T")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made in another thread while the one before it is used."""
    end: Any = object()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, items, end)
            yield item


@dataclass(slots=True)
class Spool:
    """Row frames in the order in which they came, one file a batch. Rows are counted from 0."""

    folder: Path
    ends: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def add(self, rows: pl.DataFrame) -> None:
        rows.write_ipc(self._file(len(self.ends)), compression="uncompressed")
        self.ends.append(len(self) + len(rows))

    def read(self, columns: Sequence[str], rows: Any = None) -> Iterator[pl.DataFrame]:
        """Some columns of all rows, or of those with the numbers ``rows`` (ascending), in batches.

        A batch has the column ``row`` too.
        """
        import numpy as np
        import polars as pl

        start = 0
        for number, end in enumerate(self.ends):
            if rows is None:
                wanted = np.arange(start, end)
            else:
                first, last = np.searchsorted(rows, (start, end))
                wanted = rows[first:last]
            if len(wanted):
                batch = pl.read_ipc(self._file(number), columns=list(columns))
                if len(wanted) < end - start:
                    batch = batch[wanted - start]
                yield batch.with_columns(pl.Series("row", wanted, dtype=pl.UInt32))
            start = end

    def at(self, columns: Sequence[str], rows: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Some columns of a few rows by their number, ascending."""
        import numpy as np

        wanted = np.array(sorted({int(row) for row in rows}), dtype=np.int64)
        return {
            row.pop("row"): row
            for batch in self.read(columns, wanted)
            for row in batch.iter_rows(named=True)
        }

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06}.arrow"
