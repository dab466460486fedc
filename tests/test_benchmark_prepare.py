"""The prepare benchmark compares two ways to the same rows. No time is asserted."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks import prepare
from glmops.records import SPLITS


@pytest.mark.filterwarnings("ignore::DeprecationWarning:multiprocess")
def test_both_sides_make_the_same_splits(tmp_path: Path) -> None:
    raw = tmp_path / "toutiao.txt"
    prepare.write_raw(raw, 600)
    sizes = []
    for name, side in prepare.SIDES.items():
        out = tmp_path / name
        out.mkdir()
        sizes.append(side(raw, out)())
    assert sizes[0] == sizes[1]
    assert sum(sizes[0].values()) == 600
    for name in SPLITS:
        ours = pq.read_table(tmp_path / "ours" / "ours" / f"{name}.parquet").to_pylist()
        plain = pq.read_table(tmp_path / "plain" / f"{name}.parquet").to_pylist()
        assert [row["id"] for row in ours] == [row["id"] for row in plain]
        assert [row["head"] + row["body"] + row["cue"] for row in ours] == [
            row["prompt"] for row in plain
        ]
