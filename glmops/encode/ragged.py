"""Many rows of tokens as two arrays: all values one after the other, and how many each row has.

A list of lists costs Python some hundred nanoseconds a token; these cost a few.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Tokens = NDArray[np.int32] | NDArray[np.int8]


class Ragged(NamedTuple):
    """``values`` of all rows in order, ``lengths`` of the rows."""

    values: Tokens
    lengths: Ints

    @property
    def starts(self) -> Ints:
        """Where each row begins in ``values``."""
        return self.lengths.cumsum() - self.lengths


def from_lists(rows: Sequence[Sequence[int]]) -> Ragged:
    import numpy as np

    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    values = np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum()))
    return Ragged(values, lengths)


def stacked(first: Ragged, second: Ragged) -> Ragged:
    """The rows of ``first``, then those of ``second``."""
    import numpy as np

    return Ragged(
        np.concatenate([first.values, second.values]),
        np.concatenate([first.lengths, second.lengths]),
    )


def side_by_side(*columns: tuple[Ragged, Ints]) -> Ragged:
    """Row i is, for each ``(rows, chosen)`` in order, row ``chosen[i]`` of ``rows``, joined."""
    import numpy as np

    sizes = np.array([0, *(len(rows.values) for rows, _ in columns)]).cumsum()
    starts = [
        rows.starts[chosen] + size
        for (rows, chosen), size in zip(columns, sizes[:-1].tolist(), strict=True)
    ]
    lengths = np.stack([rows.lengths[chosen] for rows, chosen in columns], axis=1)
    values = np.concatenate([rows.values for rows, _ in columns])
    joined = spans(values, np.stack(starts, axis=1).ravel(), lengths.ravel())
    return Ragged(joined, lengths.sum(axis=1))


def spans(values: Tokens, starts: Ints, lengths: Ints) -> Tokens:
    """``values[start : start + length]`` for every start and length, one after the other."""
    import numpy as np

    before = lengths.cumsum() - lengths
    return values[np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)]


def alternating(lengths: Ints, first: int = 0) -> NDArray[np.int8]:
    """``first``, then the other of 0 and 1, and so on, each as often as ``lengths`` says."""
    import numpy as np

    marks = (np.arange(len(lengths), dtype=np.int8) + first) % 2
    return np.repeat(marks.astype(np.int8), lengths)
