"""One split from Parquet to ids: chunk by chunk, from the cache, here or in other processes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from glmops.encode.cache import Cache
from glmops.encode.chunks import num_rows, read_chunks
from glmops.encode.examples import ANSWER_TOO_LONG, COLUMNS, batch_encoder
from glmops.encode.lengths import Lengths
from glmops.encode.parallel import Task, Work, in_order, num_workers
from glmops.encode.plan import Plan
from glmops.encode.ragged import Ragged
from glmops.encode.streams import StoredRows, from_bytes, row_batch, stream, to_bytes
from glmops.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

PARALLEL_FROM = 50_000
QUICK_PARALLEL_FROM = 1_000_000
"""Rows from which it pays to start processes, which need a second or two to come up."""


@dataclass(frozen=True, slots=True)
class Job:
    """What both splits share: how to encode, where encoded chunks are kept, where a line (JSON)
    about every row that is left out goes, whom to tell."""

    plan: Plan
    cache: Cache | None
    refused: TextIO
    on_rows: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Split:
    """The encoded rows' ids (an Arrow array) and lengths; how many were left out because the
    ``prompt`` or the ``answer`` did not fit."""

    ids: Any
    lengths: Lengths
    refused_for: dict[str, int]


def encode_split(
    path: Path, name: str, job: Job, *, rows_to: Path | None, tokens_to: Path | None = None
) -> Split:
    """Encode all rows of a Parquet file, in order.

    Args:
        rows_to: An Arrow stream of rows to write.
        tokens_to: A file for the bare ids (int32) of all rows, one after the other.
    Raises:
        InputError: The file cannot be read, or no row of it is left.
    """
    import numpy as np
    import pyarrow as pa

    ids, prompts, rows, cuts, turns = [], [], [], [], []
    reasons: list[str] = []
    with ExitStack() as files:
        write = files.enter_context(stream(rows_to)) if rows_to else None
        tokens = files.enter_context(tokens_to.open("wb")) if tokens_to else None
        for chunk, encoded in _encoded(path, job):
            reasons += _list_refused(chunk, encoded, name, job.refused)
            fits = encoded.column("reason").is_null()
            names, encoded = chunk.column("id").filter(fits), encoded.filter(fits)
            lists = encoded.column("input_ids")
            part = Ragged(lists.flatten().to_numpy(), lists.value_lengths().to_numpy())
            ids.append(names)
            prompts.append(encoded.column("prompt_tokens").to_numpy())
            rows.append(part.lengths)
            cuts.append(encoded.column("cut").to_numpy())
            turns.append(encoded.column("turns").to_numpy())
            if write and len(names):
                write(row_batch(names, part, prompts[-1]))
            if tokens:
                tokens.write(part.values.tobytes())
            job.on_rows(len(chunk))
    if not sum(map(len, ids)):
        first = reasons[0] if reasons else "the split has no rows"
        raise InputError(
            f"{name} split",
            f"no row is left to train on ({first})",
            do="Give more rows, or raise encode.max_prompt_tokens and encode.max_answer_tokens.",
        )
    joined = (np.concatenate(each).astype(np.int64) for each in (prompts, rows, cuts, turns))
    answers = sum(reason.startswith(ANSWER_TOO_LONG) for reason in reasons)
    refused_for = {"answer": answers, "prompt": len(reasons) - answers}
    return Split(pa.concat_arrays(ids), Lengths(*joined), refused_for)


def stored_rows(split: Split, tokens: Path) -> StoredRows:
    """The rows of a split whose ids were written to ``tokens``."""
    import numpy as np

    prompts, rows = split.lengths.prompts, split.lengths.rows
    starts = rows.cumsum() - rows
    return StoredRows(
        ids=split.ids,
        tokens=np.memmap(tokens, np.int32, mode="r"),
        prompts=np.stack([starts, prompts], axis=1),
        answers=np.stack([starts + prompts, rows - prompts], axis=1),
    )


def _encoded(path: Path, job: Job) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Each chunk of the file with what ``batch_encoder`` makes of it."""
    waiting: deque[tuple[pa.RecordBatch, str | None]] = deque()

    def tasks() -> Iterator[Task]:
        for chunk in read_chunks(path):
            texts = to_bytes(chunk.select(COLUMNS))
            key = job.cache.key(texts) if job.cache else ""
            known = job.cache.get(key) if job.cache else None
            waiting.append((chunk, None if known else key))
            yield Task(texts, known)

    few = QUICK_PARALLEL_FROM if job.plan.quick else PARALLEL_FROM
    workers = num_workers() if num_rows(path) >= few else 0
    for result in in_order(_make_work, job.plan, tasks(), workers):
        chunk, new = waiting.popleft()
        if job.cache and new:
            job.cache.put(new, result)
        yield chunk, from_bytes(result)


def _make_work(plan: Plan) -> Work:
    encode = batch_encoder(plan)
    return lambda chunk: to_bytes(encode(from_bytes(chunk)))


def _list_refused(
    chunk: pa.RecordBatch, encoded: pa.RecordBatch, split: str, out: TextIO
) -> Iterator[str]:
    """Write a line about each row that is left out; why it is."""
    reasons = encoded.column("reason")
    if reasons.null_count == len(reasons):
        return
    for row, reason in enumerate(reasons.to_pylist()):
        if reason is not None:
            name, file, line = (chunk.column(each)[row].as_py() for each in ("id", "file", "line"))
            said = {"id": name, "split": split, "file": file, "line": line, "reason": reason}
            out.write(json.dumps(said, ensure_ascii=False) + "\n")
            yield reason
