"""Sides and leaks: no text, and no near copy of it, on two sides; the later row gives way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from glmops.prepare.duplicates import later_copies, leaks, likely_copies
from glmops.prepare.examine import judge, settle
from glmops.prepare.gate.suites import sides
from glmops.prepare.gate.validation import open_gate
from glmops.prepare.near import Pair
from glmops.prepare.sides import Sided, judged_sides, place
from glmops.prepare.split import side_of
from glmops.records import SPLITS
from toy_rows import raw_of, row, section

LONG = "这是一段足够长的新闻正文，讲的是本地足球队在主场以二比一取胜，球迷们彻夜庆祝，交通中断，警"


def sided(folder: Path, rows: Sequence[dict[str, Any]], **changes: Any) -> Sided:
    made = section(**changes)
    batches: list[list[dict[str, Any]]] = [[each] for each in rows]
    raw = raw_of(folder, batches, made)
    with open_gate() as gate:
        settled = settle(judge(raw, made, gate, "raw"), made, gate, "raw")
    likely = likely_copies(raw.facts, raw.spool, made.duplicates.threshold)
    return place(settled.facts, raw.spool, made, likely)


def on(side: str, number: int = 0) -> str:
    """The ``number``-th ending that puts the long text on a side; such texts are near copies."""
    shares = section().split
    endings = (chr(code) for code in range(0x4E00, 0x9FA5))
    fitting = (each for each in endings if side_of(LONG + each, shares) == side)
    return LONG + [next(fitting) for _ in range(number + 1)][-1]


def rows_on(*wanted: tuple[str, int]) -> list[dict[str, Any]]:
    return [
        row(place, body=on(side, number), target=("体育", "财经")[place % 2])
        for place, (side, number) in enumerate(wanted)
    ]


def left(found: Sided) -> list[int]:
    return found.facts["row"].to_list()


def test_the_later_of_two_near_copies_on_two_sides_is_refused_and_named(tmp_path: Path) -> None:
    rows = [*rows_on(("train", 0), ("test", 0), ("train", 1)), row(3)]
    found = sided(tmp_path, rows)
    # Each has 46 characters and 44 shingles, 43 of them shared: 43 / 45.
    assert found.refused.select("line", "reason").rows() == [
        (2, "leak: this row belongs to test, and a text alike by 0.96 is in train (rows.txt:1)")
    ]
    assert left(found) == [0, 2, 3]
    assert found.leaks == {"text": 0, "near": 1}
    assert found.near.texts == 2


def test_whoever_came_first_stays_whichever_side_it_is_on(tmp_path: Path) -> None:
    found = sided(tmp_path, [*rows_on(("test", 0), ("train", 0)), row(2)])
    assert found.refused["line"].to_list() == [2]
    assert "belongs to train" in found.refused["reason"][0]


def test_leaks_may_be_kept_and_are_counted(tmp_path: Path) -> None:
    found = sided(tmp_path, rows_on(("train", 0), ("test", 0)), leaks="keep")
    assert found.refused.is_empty()
    assert left(found) == [0, 1]
    assert found.leaks == {"text": 0, "near": 1}


def test_dropping_near_copies_leaves_one_and_no_leak(tmp_path: Path) -> None:
    rows = [*rows_on(("train", 0), ("test", 0), ("train", 1)), row(3)]
    found = sided(tmp_path, rows, duplicates={"near": "drop"})
    assert (found.dropped.tolist(), left(found)) == ([1, 2], [0, 3])
    assert found.refused.is_empty()


def test_all_rows_of_a_leaking_text_go(tmp_path: Path) -> None:
    rows = rows_on(("train", 0), ("test", 0), ("test", 0))
    rows[2]["head"] = "另一个问题："
    assert left(sided(tmp_path, [*rows, row(9)])) == [0, 3]


def published(*sides: str | None) -> list[dict[str, Any]]:
    return [{"format": "context-target", "side": side} for side in sides]


def test_a_dev_set_that_is_a_copy_of_train_is_refused_row_by_row(tmp_path: Path) -> None:
    train = [row(n, target=("体育", "财经")[n % 2]) for n in range(4)]
    dev = [{**each, "source": 1, "file": "dev.txt", "id": f"d{each['id']}"} for each in train]
    found = sided(tmp_path, [*train, *dev], sources=published("train", "dev"))
    assert found.refused["file"].to_list() == ["dev.txt"] * 4
    assert found.refused["reason"][2] == (
        "leak: this row belongs to dev, and the same text is in train (rows.txt:3)"
    )
    assert left(found) == [0, 1, 2, 3]
    assert found.leaks == {"text": 4, "near": 0}


def test_rows_of_a_published_split_are_on_their_side(tmp_path: Path) -> None:
    rows = [row(n, source=n % 3, target=("体育", "财经")[n % 2]) for n in range(30)]
    rows = sorted(rows, key=lambda each: each["source"])
    found = sided(tmp_path, rows, sources=published("dev", "test", None))
    shares = section().split
    expected = [("dev", "test", side_of(each["group"], shares))[each["source"]] for each in rows]
    assert [SPLITS[side] for side in found.facts["side"]] == expected


def test_the_gate_finds_what_the_split_may_have_left(tmp_path: Path) -> None:
    kept = sided(tmp_path, rows_on(("train", 0), ("test", 0)), leaks="keep")
    rows = [row(n, source=n, body="同一句", target=("体育", "财经")[n]) for n in range(2)]
    two = sided(
        tmp_path / "two",
        rows,
        sources=published("train", "dev"),
        leaks="keep",
        conflicts="keep",
    )
    with open_gate() as gate:
        (near,) = gate.broken(sides()[0], judged_sides(kept))
    with open_gate() as gate:
        (text,) = gate.broken(sides()[0], judged_sides(two))
    assert (near.fact, text.fact) == ("near_leak", "sides_of_text")


def test_a_new_row_never_pushes_an_old_one_out() -> None:
    # Texts 0 … 5 with their sides; 6 is new and like texts on both sides.
    sides_of_texts = [0, 1, 0, 0, 2, 1, 0]
    old = [Pair(0, 1, 0.9), Pair(1, 2, 0.9), Pair(3, 5, 0.95)]
    new = [*old, Pair(2, 6, 0.9), Pair(4, 6, 0.91)]
    # 1 goes because of 0; 2 stays, as 1 is gone; 5 goes because of 3.
    assert set(leaks(old, sides_of_texts)) == {1, 5}
    assert set(leaks(new, sides_of_texts)) == {1, 5, 6}
    assert set(later_copies(old)) == {1, 5}
    assert set(later_copies(new)) == {1, 5, 6}


@pytest.mark.parametrize("side", SPLITS)
def test_near_copies_on_one_side_are_reported_and_kept(tmp_path: Path, side: str) -> None:
    found = sided(tmp_path, [*rows_on((side, 0), (side, 1)), row(2)])
    assert found.refused.is_empty()
    assert (found.near.texts, left(found)) == (1, [0, 1, 2])
