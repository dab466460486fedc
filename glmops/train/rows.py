"""Encoded rows, read from the disk as they are needed: memory does not grow with their tokens."""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from glmops.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


_END = b"\xff\xff\xff\xff\0\0\0\0"
"""How Arrow ends a stream. It takes one without, cut between two batches, for a whole one."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row, or several in one pack.

    ``input_ids`` and ``learnt`` (bool) have shape [T]. ``segments`` are the lengths of the rows of
    a pack, in order; of a row alone, its own. ``name`` is the row's id, or the first of the pack's.
    """

    name: str
    input_ids: NDArray[np.int32]
    learnt: NDArray[np.bool_]
    segments: tuple[int, ...]


class Rows:
    """The rows of one Arrow stream, memory-mapped: a sequence of ``Row``.

    ``lengths`` (int32, [rows]) are tokens. Of all ``num_tokens``, ``num_learnt`` are answers and
    ``num_prompt`` stand before them; the first of a row is neither, as nothing predicts it.
    ``packed`` tells whether a row holds several.
    """

    def __init__(self, path: Path, table: pa.Table) -> None:
        self.path, self._table = path, table
        self.packed = "segments" in table.column_names
        self.batches = [_Batch(each, packed=self.packed) for each in table.to_batches()]
        lengths = [np.diff(each.starts) for each in self.batches]
        self.lengths = np.concatenate([np.zeros(0, np.int32), *lengths]).astype(np.int32)
        self._firsts = np.cumsum([0, *(len(each) for each in lengths)]).tolist()
        self.num_tokens = int(self.lengths.sum(dtype=np.int64))
        self.num_learnt = self.num_prompt = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Row:
        """Row ``index``; its arrays look into the file.

        Raises:
            IndexError: There is no such row. Negative numbers do not count from the end.
        """
        batch, row = self._place(index)
        start, end = batch.starts[row], batch.starts[row + 1]
        if batch.segment_starts is None or batch.segments is None:
            segments: tuple[int, ...] = (int(end - start),)
        else:
            first, last = batch.segment_starts[row], batch.segment_starts[row + 1]
            segments = tuple(batch.segments[first:last].tolist())
        # int8, and 0 or 1, as read_rows has seen to: the same bytes as bool.
        learnt = batch.learnt[start:end].view(np.bool_)
        return Row(batch.name(row), batch.ids[start:end], learnt, segments)

    def names(self, index: int) -> list[str]:
        """The ids of the prepared rows in row ``index``."""
        batch, row = self._place(index)
        value = batch.names[row].as_py()
        return list(value) if self.packed else [value]

    def _place(self, index: int) -> tuple[_Batch, int]:
        if not 0 <= index < len(self.lengths):
            raise IndexError(f"{self.path} has rows 0 to {len(self.lengths) - 1}, got {index}")
        number = bisect_right(self._firsts, index) - 1
        return self.batches[number], index - self._firsts[number]


class _Batch:
    """Arrays over one record batch of the file, without a copy."""

    def __init__(self, batch: pa.RecordBatch, *, packed: bool) -> None:
        self.names = batch.column("ids" if packed else "id")
        self.starts, self.ids = _flat(batch.column("input_ids"))
        self.mask_starts, learnt = _flat(batch.column("loss_mask"))
        self.learnt = learnt.astype(np.int8, copy=False)
        self.segment_starts: NDArray[np.int32] | None = None
        self.segments: NDArray[np.int32] | None = None
        if packed:
            self.segment_starts, self.segments = _flat(batch.column("segments"))

    def name(self, row: int) -> str:
        value = self.names[row]
        return str(value.as_py() if self.segment_starts is None else value[0].as_py())


def _flat(lists: Any) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Where each list begins and the last one ends, and all their values one after the other."""
    # Not to_numpy, which imports pandas to see whether it has to do with it.
    starts: NDArray[Any] = np.from_dlpack(lists.offsets)
    values: NDArray[Any] = np.from_dlpack(lists.values)
    if len(starts) and starts[0]:  # a slice of an array keeps what it was cut from
        values, starts = values[starts[0] :], starts - starts[0]
    return starts, values


def read_rows(path: Path, vocabulary: int) -> Rows:
    """The rows of an Arrow stream that ``encode`` wrote.

    Raises:
        InputError: No such file, no rows, a row (of a pack, too) without a learnt token, or an id
            outside ``vocabulary``: each of these trains to nonsense without a word.
    """
    import pyarrow as pa

    if not path.is_file():
        raise InputError(path, "no such file", do="Run the encode stage.")
    try:
        rows = Rows(path, pa.ipc.open_stream(pa.memory_map(str(path))).read_all())
    except (pa.ArrowException, OSError, KeyError, AttributeError) as error:
        raise InputError(
            path, f"not a stream of encoded rows ({error})", do="Run encode again."
        ) from None
    with path.open("rb") as file:
        file.seek(-len(_END), os.SEEK_END)
        if file.read() != _END:
            raise InputError(path, "its end is cut off", do="Run encode again.")
    if not len(rows):
        raise InputError(path, "has no rows", do="Give the encode stage more rows.")
    first = 0
    for batch in rows.batches:
        if count := len(batch.names):
            _check(rows, batch, first, vocabulary)
        first += count
    return rows


def _check(rows: Rows, batch: _Batch, first: int, vocabulary: int) -> None:
    """The rows of one batch, the first of which has the number ``first``; counts their tokens."""
    again, starts = "Run encode again.", batch.starts

    def where(row: int, segment: int = 0) -> str:
        return f"{rows.path} row {rows.names(first + row)[segment]}"

    begins, lengths, owners = _segments(batch)
    in_segments = np.bincount(owners, weights=lengths, minlength=len(starts) - 1)
    tokens, masked = np.diff(starts), np.diff(batch.mask_starts)
    if (unequal := np.flatnonzero((tokens != masked) | (tokens != in_segments))).size:
        what = "its input_ids, loss_mask and segments are not of one length"
        raise InputError(where(int(unequal[0])), what, do=again)
    ids, learnt = batch.ids[: starts[-1]], batch.learnt[: starts[-1]]
    if (wrong := np.flatnonzero((ids < 0) | (ids >= vocabulary))).size:
        raise InputError(
            where(int(np.searchsorted(starts, wrong[0], side="right")) - 1),
            f"a token id is outside the vocabulary of {vocabulary}",
            got=int(ids[wrong[0]]),
            do="Run encode again: the rows and the tokenizer do not belong together.",
        )
    if ((learnt != 0) & (learnt != 1)).any():
        raise InputError(rows.path, "loss_mask holds other numbers than 0 and 1", do=again)
    # The first token has nothing before it that could predict it, so its label does not count.
    counted, ends = np.append(0, learnt.cumsum(dtype=np.int64)), begins + lengths
    taught = counted[ends] - counted[np.minimum(begins + 1, ends)]
    if not taught.all():
        worst = int(np.argmin(taught))
        row = int(owners[worst])
        what = f"none of its {lengths[worst]} tokens is learnt"
        raise InputError(where(row, worst - int(np.searchsorted(owners, row))), what, do=again)
    rows.num_learnt += int(taught.sum())
    rows.num_prompt += len(ids) - len(begins) - int(taught.sum())


def _segments(batch: _Batch) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of each segment of the batch: where it begins, its length, and its row."""
    lengths = np.diff(batch.starts).astype(np.int64)
    owners = np.arange(len(lengths))
    if batch.segment_starts is not None and batch.segments is not None:
        lengths = batch.segments[: batch.segment_starts[-1]].astype(np.int64)
        owners = np.repeat(owners, np.diff(batch.segment_starts))
    return lengths.cumsum() - lengths, lengths, owners
