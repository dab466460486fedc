"""Encoded rows as Arrow streams, which ``datasets.Dataset.from_file`` and ``train`` open as is.

Rows have the columns id, input_ids (list<int32>) and loss_mask (list<int8>, 1 = learnt). Packs have
``ids`` (list<string>) instead of id, and ``segments`` (list<int32>): how many tokens each row has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmops.encode.ragged import Ragged, alternating, spans

if TYPE_CHECKING:
    import pyarrow as pa

    from glmops.encode.ragged import Ints, Tokens

BATCH_TOKENS = 2**20
BATCH_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows whose tokens lie one after the other in a file, and where in it each part of them is.

    ``prompts`` and ``answers`` hold the first place and the number of tokens, shape [rows, 2].
    """

    ids: Any
    tokens: Tokens
    prompts: Ints
    answers: Ints
    prompts_learnt: bool = False

    @property
    def lengths(self) -> Ints:
        lengths: Ints = self.prompts[:, 1] + self.answers[:, 1]
        return lengths


def row_batch(ids: Any, rows: Ragged, prompt_lengths: Ints) -> pa.RecordBatch:
    """Rows of which the prompt is not learnt and the rest is."""
    import numpy as np
    import pyarrow as pa

    parts = np.stack([prompt_lengths, rows.lengths - prompt_lengths], axis=1)
    mask = Ragged(alternating(parts.ravel()), rows.lengths)
    columns = {"id": ids, "input_ids": list_array(rows), "loss_mask": list_array(mask)}
    return pa.record_batch(columns)


def write_rows(path: Path, rows: StoredRows) -> None:
    """One Arrow row per row."""
    import numpy as np

    with stream(path) as write:
        for some in _portions(rows.lengths):
            picked = _pick(rows, some)
            part = Ragged(_tokens(picked), picked.lengths)
            learnt = np.zeros(len(some), np.int64) if rows.prompts_learnt else picked.prompts[:, 1]
            write(row_batch(picked.ids, part, learnt))


def write_packs(path: Path, rows: StoredRows, packs: Ragged) -> None:
    """One Arrow row per pack of rows. No pack's segment learns its first token.

    Nothing stands before that token but another row, which must not predict it.
    """
    import numpy as np
    import pyarrow as pa

    widths = np.add.reduceat(rows.lengths[packs.values], packs.starts)
    with stream(path) as write:
        for some in _portions(widths):
            chosen = spans(packs.values, packs.starts[some], packs.lengths[some])
            picked = _pick(rows, chosen.astype(np.int64))
            lengths = picked.lengths
            mask = alternating(np.stack([picked.prompts[:, 1], picked.answers[:, 1]], 1).ravel())
            if rows.prompts_learnt:
                mask[:] = 1
            mask[lengths.cumsum() - lengths] = 0
            packed = {
                "ids": _grouped(picked.ids, packs.lengths[some]),
                "segments": list_array(Ragged(lengths.astype(np.int32), packs.lengths[some])),
                "input_ids": list_array(Ragged(_tokens(picked), widths[some])),
                "loss_mask": list_array(Ragged(mask, widths[some])),
            }
            write(pa.record_batch(packed))


@contextmanager
def stream(path: Path) -> Iterator[Any]:
    """A function that appends record batches of one schema, the first one's, to a new file."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink:
        opened: list[Any] = []

        def write(batch: pa.RecordBatch) -> None:
            if not opened:
                opened.append(pa.ipc.new_stream(sink, batch.schema))
            opened[0].write_batch(batch)

        yield write
        for each in opened:
            each.close()


def list_array(rows: Ragged) -> Any:
    import pyarrow as pa

    return _grouped(pa.array(rows.values), rows.lengths)


def to_bytes(batch: pa.RecordBatch) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def from_bytes(data: bytes) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.ipc.open_stream(data).read_next_batch()


def _portions(widths: Ints) -> Iterator[Ints]:
    """Row numbers in order, in portions of bounded rows and tokens: the memory of one batch."""
    import numpy as np

    ends = widths.cumsum()
    start = 0
    while start < len(widths):
        before = ends[start] - widths[start]
        fitting = int(np.searchsorted(ends, before + BATCH_TOKENS, side="right"))
        stop = min(max(fitting, start + 1), start + BATCH_ROWS)
        yield np.arange(start, stop)
        start = stop


def _pick(rows: StoredRows, chosen: Ints) -> StoredRows:
    return replace(
        rows,
        ids=rows.ids.take(chosen),
        prompts=rows.prompts[chosen],
        answers=rows.answers[chosen],
    )


def _tokens(rows: StoredRows) -> Tokens:
    """The tokens of all rows: prompt, answer, prompt, answer, …"""
    import numpy as np

    parts = np.stack([rows.prompts, rows.answers], axis=1).reshape(-1, 2)
    return spans(rows.tokens, parts[:, 0], parts[:, 1])


def _grouped(values: Any, lengths: Ints) -> Any:
    import numpy as np
    import pyarrow as pa

    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
