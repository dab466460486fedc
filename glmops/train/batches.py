"""Encoded rows from Arrow, checked, and as padded batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch

from glmops.errors import InputError

IGNORED = -100
"""The label that torch's cross entropy leaves out."""


class Row(TypedDict):
    """``labels`` repeat ``input_ids`` where the row is learnt and are IGNORED elsewhere."""

    input_ids: list[int]
    labels: list[int]


def read_rows(path: Path, vocabulary: int) -> list[Row]:
    """The rows of an Arrow stream that ``encode`` wrote.

    Raises:
        InputError: No such file, no rows, a row without a learnt token, or an id outside
            ``vocabulary``: each of these trains to nonsense without a word.
    """
    import pyarrow as pa

    if not path.is_file():
        raise InputError(path, "no such file", do="Run the encode stage.")
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_stream(source).read_all()
            columns = [table.column(name).to_pylist() for name in ("id", "input_ids", "loss_mask")]
    except (pa.ArrowInvalid, KeyError) as error:
        raise InputError(
            path, f"not a stream of encoded rows ({error})", do="Run encode again."
        ) from None
    rows = [
        _checked_row(f"{path} row {name}", ids, mask, vocabulary)
        for name, ids, mask in zip(*columns, strict=True)
    ]
    if not rows:
        raise InputError(path, "has no rows", do="Give the encode stage more rows.")
    return rows


def _checked_row(where: str, ids: list[int], mask: list[int], vocabulary: int) -> Row:
    wrong = next((each for each in ids if not 0 <= each < vocabulary), None)
    if wrong is not None:
        raise InputError(
            where,
            f"a token id is outside the vocabulary of {vocabulary}",
            got=wrong,
            do="Run encode again: the rows and the tokenizer do not belong together.",
        )
    # The first token has nothing before it that could predict it, so its label does not count.
    if len(ids) != len(mask) or not any(mask[1:]):
        raise InputError(where, f"none of its {len(ids)} tokens is learnt", do="Run encode again.")
    labels = [token if learnt else IGNORED for token, learnt in zip(ids, mask, strict=True)]
    return {"input_ids": ids, "labels": labels}


def right_padded(pad: int) -> Callable[[Sequence[Row]], dict[str, Any]]:
    """A collator that pads each batch to its own longest row, at the right.

    It gives no attention mask: causal attention never looks to the right, where the padding is,
    and without a mask torch takes its faster path. ``labels`` cover only the last
    ``logits_to_keep`` places, before which nothing is learnt, so that no logits are made there.
    """

    def collate(rows: Sequence[Row]) -> dict[str, Any]:
        width = max(len(row["input_ids"]) for row in rows)
        # The logits that predict the first learnt token stand one place before it.
        keep = width - max(0, min(_first_learnt(row["labels"]) for row in rows) - 1)
        ids_BT = [row["input_ids"] + [pad] * (width - len(row["input_ids"])) for row in rows]
        labels_BT = [row["labels"] + [IGNORED] * (width - len(row["labels"])) for row in rows]
        return {
            "input_ids": torch.tensor(ids_BT),
            "labels": torch.tensor(labels_BT)[:, -keep:],
            "logits_to_keep": keep,
        }

    return collate


def _first_learnt(labels: Sequence[int]) -> int:
    return next(place for place, label in enumerate(labels) if label != IGNORED)
