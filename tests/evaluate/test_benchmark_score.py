"""The benchmark of the text metrics compares what it says it compares. No time is asserted."""

from __future__ import annotations

import warnings
from pathlib import Path

from benchmarks import score
from toy_texts import drawn


def test_both_sides_of_the_benchmark_give_the_same_values(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    score.write_pairs(path, [f"{a}好{b}" for a, b in drawn(20, seed=12)], 30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in the sources of jieba and rouge-chinese
        official = score.one_side(path, 0)
    assert official["values"] == score.one_side(path, 1)["values"]


def test_a_difference_would_be_seen(tmp_path: Path) -> None:
    hashes = set()
    for number in (2, 3):
        path = tmp_path / f"{number}.json"
        score.write_pairs(path, ["今天天气很好", "我们去公园散步"], number)
        hashes.add(score.one_side(path, 1)["values"])
    assert len(hashes) == 2
