"""Rows against the contract: special tokens where the family puts them, an end on every answer.

A row whose layout is wrong trains without an error, to a model that never stops or that reads its
prompts as something else. Rows are sampled; each costs microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from glmops.contract import Contract
from glmops.errors import InputError
from glmops.models.tokenizers.prompts import special_ids
from glmops.train.rows import Row, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLED = 500
"""Rows of a set that are looked at: the first, the last and others evenly between them."""


def require_layout(rows: Rows, contract: Contract, tokenizer: Any) -> None:
    """Nothing, if the sampled rows are laid out as ``contract`` says.

    Raises:
        InputError: One is not; names it and what is wrong with it.
    """
    before = np.array(special_ids(contract.before, tokenizer), np.int32)
    between = np.array(special_ids(contract.between, tokenizer), np.int32)
    [end] = special_ids([contract.end], tokenizer)
    for number in _sample(len(rows)):
        for place, (ids, learnt) in enumerate(segments(rows[number])):
            if fault := _fault(ids, learnt, before, between, end, contract):
                name = rows.names(number)[place]
                do = "Run encode again: rows and contract do not belong together."
                raise InputError(f"{rows.path} row {name}", fault, do=do)


def segments(row: Row) -> Iterator[tuple[NDArray[np.int32], NDArray[np.bool_]]]:
    """Ids and learnt tokens of each row in a pack; of a row alone, its own."""
    start = 0
    for length in row.segments:
        yield row.input_ids[start : start + length], row.learnt[start : start + length]
        start += length


def _sample(count: int) -> list[int]:
    return sorted(set(np.linspace(0, count - 1, min(count, SAMPLED)).astype(int).tolist()))


def _fault(
    ids: NDArray[np.int32],
    learnt: NDArray[np.bool_],
    before: NDArray[np.int32],
    between: NDArray[np.int32],
    end: int,
    contract: Contract,
) -> str | None:
    if ids[: len(before)].tolist() != before.tolist():
        return f"does not begin with {' '.join(contract.before)}"
    if not learnt[1:].any():
        return "none of its tokens is learnt"
    first = int(np.argmax(learnt))
    if len(between) and not _stands(between, ids, first if first > len(before) else None):
        return f"has no {' '.join(contract.between)} in front of its answer"
    if ids[-1] != end or not learnt[-1]:
        return f"its answer does not end with a learnt {contract.end}"
    return None


def _stands(wanted: NDArray[np.int32], ids: NDArray[np.int32], until: int | None) -> bool:
    """Whether ``wanted`` ends at ``until``; anywhere, where prompts are learnt too (None)."""
    if until is not None:
        return bool(until >= len(wanted) and (ids[until - len(wanted) : until] == wanted).all())
    windows = np.lib.stride_tricks.sliding_window_view(ids, min(len(wanted), len(ids)))
    return windows.shape[1] == len(wanted) and bool((windows == wanted).all(axis=1).any())
