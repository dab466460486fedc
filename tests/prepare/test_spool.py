"""The spool: rows come back by number, whatever batches they went in with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from glmops.prepare.spool import Spool, ahead


def filled(folder: Path) -> Spool:
    spool = Spool(folder)
    for rows in (range(4), range(4, 5), range(5, 12)):
        texts = [f"第{number}句" for number in rows]
        spool.add(pl.DataFrame({"body": texts, "id": [str(number) for number in rows]}))
    return spool


@pytest.mark.parametrize("wanted", [None, [0, 3, 4, 11], [5, 6], []])
def test_rows_come_back_by_their_number(tmp_path: Path, wanted: list[int] | None) -> None:
    spool = filled(tmp_path)
    rows = None if wanted is None else np.array(wanted, dtype=np.uint32)
    found = [row for batch in spool.read(["body"], rows) for row in batch.iter_rows()]
    expected = range(12) if wanted is None else wanted
    assert found == [(f"第{number}句", number) for number in expected]
    assert len(spool) == 12


def test_what_is_made_ahead_is_the_same_in_the_same_order() -> None:
    assert list(ahead(iter(range(50)))) == list(range(50))
    assert list(ahead(iter([]))) == []


def test_a_fault_ahead_comes_after_what_was_made_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the third")

    seen = []
    with pytest.raises(ValueError, match="the third"):
        seen.extend(item for item in ahead(items()))
    for item in ahead(iter([1, 2, 3])):  # one that is left early leaves no thread behind
        seen.append(item)
        break
    assert seen[-1] == 1
