"""The report's rows: what was lost and gained against the champion, in whole and by slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glmops.promote.changes import changes, extremes, tallies, weakest
from glmops.promote.evaluated import Evaluated, common_rows, read_columns, read_evaluated
from glmops.promote.numbers import reach_of
from glmops.promote.report import around, at, signed
from glmops.promote.slices import slice_tables
from glmops.promote.spread import estimates, within
from glmops.promote.verdict import Check
from glmops.records import BaselineScore, Score, Slice, write_table
from glmops.storage import write_json, write_jsonl


def evaluated(
    folder: Path, right: dict[str, float], name: str = "one", **prompts: str
) -> Evaluated:
    """Classification rows by id, each as right as it says."""
    rows = [
        {
            "id": id, "task": "classification", "prompt": prompts.get(id, f"读{id}"),
            "target": "是", "answer": "是" if value else "否", "finished": True,
        }
        for id, value in right.items()
    ]  # fmt: skip
    scores = [Score(id, "classification", "accuracy", value, 1.0) for id, value in right.items()]
    write_jsonl(folder / "answers.jsonl", rows)
    write_table(folder / "scores.parquet", scores, Score)
    write_table(
        folder / "slices.parquet",
        [Slice(id, "length", "17-32" if id < "c" else "9-16") for id in right],
        Slice,
    )
    card = {"classification": {"rows": len(rows)}, "test": {"rows": len(rows), "sha256": "x"}}
    write_json(folder / "scorecard.json", card)
    return read_evaluated(folder, name)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Evaluated, Evaluated]:
    """Mine loses b and gains c; row d was asked in other words; e is mine alone."""
    mine = evaluated(tmp_path / "mine", {"a": 1, "b": 0, "c": 1, "d": 1, "e": 0})
    theirs = evaluated(tmp_path / "theirs", {"a": 1, "b": 1, "c": 0, "d": 0}, d="读别的")
    return mine, theirs


def test_only_rows_that_were_asked_alike_are_compared(two: Any) -> None:
    assert common_rows(*two) == {"a", "b", "c"}
    assert [change.row["id"] for change in changes(*two)] == ["a", "b", "c"]


def test_what_was_lost_and_gained_is_counted_and_shown(two: Any) -> None:
    changed = changes(*two)
    assert tallies(changed) == [("classification", 1, 1, 1)]
    worst, best = extremes(changed, 5)
    assert [c.row["id"] for c in worst] == ["b"]
    assert [c.row["id"] for c in best] == ["c"]
    assert [answer["answer"] for answer in worst[0].answers] == ["否", "是"]


def test_the_worst_regressions_come_first(tmp_path: Path) -> None:
    mine = evaluated(tmp_path / "mine", {"a": 0.5, "b": 0.0, "c": 0.9, "d": 1.0})
    theirs = evaluated(tmp_path / "theirs", dict.fromkeys("abcd", 1.0))
    worst, best = extremes(changes(mine, theirs), 2)
    assert [(c.row["id"], c.gain) for c in worst] == [("b", -1.0), ("a", -0.5)]
    assert best == []


def test_every_task_has_its_share_of_the_weakest_rows() -> None:
    wrong = [
        {"id": f"{t}{i}", "task": t}
        for t, n in (("classification", 90), ("triples", 3))
        for i in range(n)
    ]
    chosen = [row["task"] for row in weakest(wrong, {}, 8)]
    assert chosen == ["classification"] * 5 + ["triples"] * 3


def test_slices_are_in_the_order_of_their_ranges_and_have_the_values_of_their_rows(
    two: Any,
) -> None:
    mine, theirs = two
    (table,) = slice_tables(mine, theirs, common_rows(mine, theirs), ())
    assert [part.value for part in table.parts] == ["9-16", "17-32"]
    short, long = table.parts
    assert (short.rows, long.rows) == (3, 2)
    assert short.mine.value == pytest.approx(2 / 3)  # c and d of c, d, e
    assert long.mine.value == 1 / 2
    # Of the rows that both were asked alike: c alone in the one, a and b in the other.
    assert (short.theirs, short.difference.value) == (0.0, 1.0)
    assert (long.theirs, long.difference.value) == (1.0, -0.5)


def test_slices_that_the_gate_judged_are_shown_as_it_saw_them(two: Any) -> None:
    judged = [
        Check("classification/accuracy", 0.25, 0.1, 0.4, 9, by="length", part="33-64", ok=False)
    ]
    (table,) = slice_tables(two[0], None, set(), judged)
    assert [(part.value, part.rows, part.ok) for part in table.parts] == [("33-64", 9, False)]


def test_a_slice_is_the_rows_alone(two: Any) -> None:
    column = two[0].columns["classification/accuracy"]
    part = within(column, {"a", "b"})
    assert part.value() == column.only({"a", "b"}).value() == 0.5
    values, differences = estimates({"one": part}, {"none": (part, part)})
    assert values["one"].low <= 0.5 <= values["one"].high
    assert differences["none"] == (0.0, 0.0, 0.0)


def test_baselines_are_read_apart_from_each_other(tmp_path: Path) -> None:
    rows = [
        BaselineScore("a", "classification", "accuracy", value, 1.0, name)
        for name, value in (("majority", 0.0), ("linear", 1.0))
    ]
    write_table(tmp_path / "baselines.parquet", rows, BaselineScore)
    found = read_columns(tmp_path / "baselines.parquet")
    assert {name: c["classification/accuracy"].value() for name, c in found.items()} == {
        "majority": 0.0,
        "linear": 1.0,
    }


def test_places_on_a_scale() -> None:
    assert [at(value, 1.0) for value in (0.25, 7.0, -1.0, None, float("nan"))] == [25, 100, 0, 0, 0]
    assert [around(value, 0.2) for value in (-0.2, 0.0, 0.1)] == [0, 50, 75]
    assert [signed(value) for value in (0.5, -0.5, 0.0, None)] == [
        "+0.5000",
        "−0.5000",
        "0.0000",
        "–",
    ]
    assert [reach_of([-b, b / 2], 1.0) for b in (0.03, 0.2, 4.1)] == pytest.approx([0.05, 0.2, 5])
    assert reach_of([], 100.0) == 1.0
