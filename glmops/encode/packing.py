"""Whole-set packing: short rows share a training row, none is cut, and each knows its borders.

Best-fit decreasing over all rows of a set: the longest row first, each into the fullest pack that
still has room for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmops.encode.ragged import Ragged

if TYPE_CHECKING:
    from glmops.encode.ragged import Ints


def best_fit(lengths: Ints, capacity: int) -> Ragged:
    """Which rows go together: row numbers per pack, ascending; packs by their first row.

    Needs time in proportion to the rows, and memory for a few numbers per row. Equal lengths give
    equal packs. No length may be above ``capacity`` (ValueError).
    """
    import numpy as np

    if len(lengths) and int(lengths.max()) > capacity:
        raise ValueError(f"a row of {int(lengths.max())} tokens does not fit into {capacity}")
    longest_first = np.argsort(-lengths, kind="stable")
    pack_of = np.empty(len(lengths), np.int64)
    # Packs by the room they have left, and those rooms as the bits of one integer: the smallest
    # room of at least n is then the lowest bit from n on.
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = packs = 0
    for row, length in zip(longest_first.tolist(), lengths[longest_first].tolist(), strict=True):
        if enough := rooms >> length << length:
            room = (enough & -enough).bit_length() - 1
            pack = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room, pack = capacity, packs
            packs += 1
        pack_of[row] = pack
        with_room[room - length].append(pack)
        rooms |= 1 << (room - length)
    return _by_first_row(pack_of, packs)


def _by_first_row(pack_of: Ints, packs: int) -> Ragged:
    """Packs numbered in the order of the search, renumbered by where their first row stands."""
    import numpy as np

    _, first_row = np.unique(pack_of, return_index=True)
    rank = np.empty(packs, np.int64)
    rank[np.argsort(first_row)] = np.arange(packs)
    by_pack = np.argsort(rank[pack_of], kind="stable")
    return Ragged(by_pack.astype(np.int32), np.bincount(rank[pack_of], minlength=packs))


def fill_rate(lengths: Ints, packs: int, capacity: int) -> float:
    """The share of the packs' places that hold a token."""
    return float(lengths.sum()) / (packs * capacity)
