"""The rows of a step that went wrong, in a file for people: names, tokens, and each one's loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from glmops.storage import write_jsonl
from glmops.train.rows import Row, Rows
from glmops.train.spool import OFFENDING

MOST = 64
"""Rows that are kept; the worst come first."""


class Forward(NamedTuple):
    """One forward: its rows, the loss of each of their predicted tokens, and the places that
    predict them. The tensors stay on the device until somebody looks.
    """

    rows: Sequence[Row]
    losses_BK: torch.Tensor
    places_BK: torch.Tensor

    def row_losses(self) -> list[float]:
        """Nats of each row, summed over its learnt tokens."""
        return [float(loss) for loss in self.losses_BK.float().sum(dim=1).tolist()]


def broken(forwards: Sequence[Forward], step: int, rows: Rows) -> list[dict[str, Any]]:
    """The rows whose own loss is no number; of a pack, the rows inside it."""
    found = []
    for forward in forwards:
        parts = zip(forward.rows, forward.losses_BK, forward.places_BK, strict=True)
        for row, losses_K, places_K in parts:
            bad = ~torch.isfinite(losses_K)
            if bad.any():
                found += _segments_at(row, (places_K[bad] + 1).tolist(), step, rows)
    return found


def worst(forwards: Sequence[Forward], step: int) -> list[dict[str, Any]]:
    """The rows of these forwards, the highest loss first; those of no number before them.

    A pack counts as one row, under the name of its first.
    """
    every = [
        (loss, row)
        for forward in forwards
        for loss, row in zip(forward.row_losses(), forward.rows, strict=True)
    ]
    every.sort(key=lambda pair: -pair[0] if math.isfinite(pair[0]) else -math.inf)
    return [_record(row.name, row.input_ids, row.learnt, step, loss) for loss, row in every[:MOST]]


def save(scratch: Path, found: Sequence[dict[str, Any]]) -> None:
    write_jsonl(scratch / OFFENDING, found[:MOST])


def _segments_at(row: Row, places: list[int], step: int, rows: Rows) -> list[dict[str, Any]]:
    """Each row of a pack that one of these tokens belongs to."""
    names, start, found = _names(row, rows), 0, []
    for name, length in zip(names, row.segments, strict=True):
        here = slice(start, start + length)
        if any(start <= place < start + length for place in places):
            found.append(_record(name, row.input_ids[here], row.learnt[here], step, math.nan))
        start += length
    return found


def _record(name: str, ids: Any, learnt: Any, step: int, loss: float) -> dict[str, Any]:
    return {
        "id": name,
        "step": step,
        "loss": loss if math.isfinite(loss) else None,
        "input_ids": ids.tolist(),
        "learnt": learnt.astype(int).tolist(),
    }


def _names(row: Row, rows: Rows) -> list[str]:
    """The names of the rows in a pack, which carries only its first; found by looking for it."""
    if len(row.segments) == 1:
        return [row.name]
    every = (rows.names(number) for number in range(len(rows)))
    return next(names for names in every if names[0] == row.name)
