"""The parts of a test set: which class a row has, and how long its prompt is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from glmops.evaluate.metrics import true_label
from glmops.records import Record, Slice


def slices_of(rows: Iterable[Record]) -> Iterator[Slice]:
    """The slices of each row, in order: "class" (classification rows), then "length".

    Raises:
        InputError: The target of a classification row cannot be read.
    """
    for row in rows:
        if row.task == "classification":
            yield Slice(row.id, "class", true_label(row.target, f"{row.file}:{row.line}"))
        yield Slice(row.id, "length", length_range(len(row.prompt)))


def length_range(characters: int) -> str:
    """The range that a length belongs to, up to a power of two: 17 to 32 are "17-32"."""
    last = 1 << max(characters - 1, 0).bit_length()
    return f"{last // 2 + 1}-{last}" if last > 2 else str(last)
