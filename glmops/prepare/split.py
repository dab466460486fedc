"""Which side of the split a source text falls on: its hash decides, never its place.

Adding, dropping or reordering rows therefore moves no other row, and all rows about one text stay
together: a question about a text of the train split never occurs in dev or test.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from glmops.errors import InputError
from glmops.recipe import Split as Shares
from glmops.records import SPLITS, Record, Split


def side_of(group: str, shares: Shares) -> Split:
    """The split of one group: test and dev by share of the hash's range, train is the rest."""
    digest = hashlib.sha256(f"{shares.seed}\0{group}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < shares.test:
        return "test"
    return "dev" if place < shares.test + shares.dev else "train"


def split(records: Sequence[Record], shares: Shares, where: str) -> dict[Split, list[Record]]:
    """Every record on its side, in the order given.

    Raises:
        InputError: A side stays empty; ``where`` is the raw path to name.
    """
    sides: dict[Split, list[Record]] = {name: [] for name in SPLITS}
    for record in records:
        sides[side_of(record.group, shares)].append(record)
    empty = [name for name in SPLITS if not sides[name]]
    if empty:
        groups = len({record.group for record in records})
        needed = texts_needed(shares)
        raise InputError(
            where,
            f"too few rows: {' and '.join(empty)} would be empty (shares dev {shares.dev}, test "
            f"{shares.test}), and about {needed} different texts are needed to fill every split",
            got=f"{len(records)} rows about {groups} different texts",
            do="Add rows, or raise prepare.split.dev and prepare.split.test.",
        )
    return sides


def texts_needed(shares: Shares) -> int:
    """How many groups fill the smallest split with a chance of 99 in 100."""
    smallest = min(shares.dev, shares.test, 1 - shares.dev - shares.test)
    return math.ceil(math.log(0.01) / math.log(1 - smallest))
