"""`glmops diff` counts what became of each row, and says of drift how far and whether by chance."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from glmops.errors import InputError
from glmops.prepare.diff import Version, diff, is_same
from glmops.prepare.diff.drift import verdict
from glmops.prepare.diff.summary import summary
from glmops.records import SPLITS, Record, write_table

Sided = tuple[str, Record]


def row(text: str, target: str = "体育", side: str = "train", **changes: Any) -> Sided:
    values: dict[str, Any] = {
        "id": text,
        "task": "classification",
        "head": "标题：",
        "body": text,
        "cue": "\n类别：",
        "target": target,
        "group": text,
        "file": "rows.jsonl",
        "line": 1,
        **changes,
    }
    return side, Record(**values)


def texts(count: int, target: str = "体育", *, start: int = 0, side: str = "train") -> list[Sided]:
    """Rows about different texts of one length."""
    return [row(f"第{number:05}条", target, side) for number in range(start, start + count)]


def version(folder: Path, rows: Sequence[Sided]) -> Version:
    for side in SPLITS:
        mine = [record for where, record in rows if where == side]
        write_table(folder / f"{side}.parquet", mine, Record)
    return Version(folder, folder.name)


def compared(folder: Path, old: Sequence[Sided], new: Sequence[Sided]) -> dict[str, Any]:
    found = diff(version(folder / "old", old), version(folder / "new", new))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def counts(found: dict[str, Any]) -> tuple[int, int, int, int, int]:
    names = ("kept", "added", "removed", "relabelled", "moved")
    return tuple(found["rows"][name] for name in names)  # type: ignore[return-value]


def test_the_order_of_rows_is_no_difference(tmp_path: Path) -> None:
    rows = texts(20) + texts(5, start=20, side="test")
    found = compared(tmp_path, rows, [*reversed(rows)])
    assert is_same(found)
    assert counts(found) == (25, 0, 0, 0, 0)
    assert summary(found)[-1] == "The two hold the same rows, on the same sides."


def test_every_row_is_kept_relabelled_added_or_removed(tmp_path: Path) -> None:
    """Against counting with Python's own multisets, prompt by prompt, on random sets."""
    dice = random.Random(7)
    made = {
        name: {
            (f"文{dice.randrange(60)}", dice.choice("甲乙丙丁")) for _ in range(dice.randrange(160))
        }
        for name in ("old", "new")
    }
    kept = relabelled = added = removed = 0
    for text in {text for rows in made.values() for text, _ in rows}:
        old, new = ({label for t, label in made[name] if t == text} for name in ("old", "new"))
        kept += len(old & new)
        pairs = min(len(old - new), len(new - old))
        relabelled += pairs
        added += len(new - old) - pairs
        removed += len(old - new) - pairs
    sides = {
        name: [row(text, label, SPLITS[int(text[1:]) % 3]) for text, label in sorted(rows)]
        for name, rows in made.items()
    }
    found = compared(tmp_path, sides["old"], sides["new"])
    assert counts(found) == (kept, added, removed, relabelled, 0)
    assert min(kept, added, removed, relabelled) > 0
    for column in ("task", "side", "source"):
        parts = found[f"by_{column}"].values()
        for kind in ("added", "removed", "relabelled"):
            assert sum(part[kind] for part in parts) == found["rows"][kind]


def test_a_new_answer_to_an_old_prompt_is_one_relabelled_row(tmp_path: Path) -> None:
    same = texts(5)
    found = compared(tmp_path, [*same, row("甲", "体育")], [*same, row("甲", "财经", line=9)])
    assert counts(found) == (5, 0, 0, 1, 0)
    assert found["relabelled"] == [{"old": "体育", "new": "财经", "rows": 1}]
    (example,) = found["examples"]["relabelled"]
    assert (example["old_target"], example["target"], example["line"]) == ("体育", "财经", 9)
    assert "  relabelled 体育 → 财经: 1" in summary(found)


def test_labels_are_a_set_whatever_their_order(tmp_path: Path) -> None:
    old, new = row("甲", '["水果", "平板"]'), row("甲", '["平板", "水果"]')
    found = compared(tmp_path, [old], [new])
    assert found["labels"]["counts"] == {"old": {"平板 + 水果": 1}, "new": {"平板 + 水果": 1}}


def test_without_a_prompt_another_text_is_another_row(tmp_path: Path) -> None:
    def plain(text: str) -> Sided:
        return row("", text, task="generation", head="", cue="", group=text)

    found = compared(tmp_path, [plain("一"), plain("二")], [plain("二"), plain("三")])
    assert counts(found) == (1, 1, 1, 0, 0)
    assert found["labels"] == {}


def test_a_text_on_another_side_is_shouted(tmp_path: Path) -> None:
    old = [*texts(5), row("甲", side="test"), row("乙", side="dev")]
    # 甲 goes whole, 乙 comes back under another question, 丙 is new: only the first two moved.
    new = [*texts(5), row("甲"), row("乙", side="test", head="问："), row("丙")]
    found = compared(tmp_path, old, new)
    assert counts(found) == (6, 2, 1, 0, 2)
    assert found["moved"] == [
        {"old": "dev", "new": "test", "rows": 1},
        {"old": "test", "new": "train", "rows": 1},
    ]
    assert found["rows"]["added_about_old_texts"] == 1
    said = "\n".join(summary(found))
    assert "WARNING: 2 ROWS MOVED to another side of the split: dev → test 1, test → tra" in said
    assert not is_same(found)


def test_a_text_that_was_on_both_sides_moves_to_neither(tmp_path: Path) -> None:
    """As a recipe that keeps leaks has them."""
    old = [row("甲", side="test"), row("甲", side="train", head="问：")]
    found = compared(tmp_path, old, [old[0]])
    assert counts(found) == (1, 0, 1, 0, 0)
    assert "No source text moved" in "\n".join(summary(found))


def test_a_row_counts_once_however_often_its_weight_repeats_it(tmp_path: Path) -> None:
    once, thrice = texts(4), texts(4) + texts(2) + texts(2)
    found = compared(tmp_path, once, thrice)
    assert counts(found) == (4, 0, 0, 0, 0)
    assert found["rows"]["reweighted"] == 2
    assert (found["new"]["rows"], found["new"]["written"]["train"]) == (4, 8)
    assert not is_same(found)


def test_rows_are_counted_by_task_side_and_source(tmp_path: Path) -> None:
    new = [row("甲", "一句话", "dev", task="generation", source=1), row("乙", source=1)]
    found = compared(tmp_path, texts(3), [*texts(2), *new])
    one = dict.fromkeys(("removed", "relabelled", "moved"), 0)
    assert found["by_task"]["generation"] == {"added": 1, **one}
    assert found["by_side"]["dev"] == {"added": 1, **one}
    assert found["by_source"] == {
        "0": {"added": 0, "removed": 1, "relabelled": 0, "moved": 0},
        "1": {"added": 2, **one},
    }
    assert "  source house: 2 added" in summary(found, ["news", "house"])


def test_drift_of_two_labels_is_the_textbook_chi_square(tmp_path: Path) -> None:
    old = texts(60, "体育") + texts(40, "财经", start=60)
    added = texts(10, "体育", start=100) + texts(40, "财经", start=110)
    drift = compared(tmp_path, old, [*old, *added])["labels"]
    # Of the 2 by 2 table [[10, 40], [60, 40]]: N (ad - bc)² over the product of the margins; with
    # one degree of freedom its p-value is erfc(sqrt(x / 2)).
    expected = 150 * (10 * 40 - 40 * 60) ** 2 / (50 * 100 * 70 * 80)
    test = drift["test"]
    assert test["chi_square"] == pytest.approx(expected, abs=1e-6)
    assert test["p"] == pytest.approx(math.erfc(math.sqrt(expected / 2)), rel=1e-9)
    assert (test["degrees_of_freedom"], test["compared"]) == (1, [50, 100])
    assert test["total_variation"] == pytest.approx(0.4)  # 60 % → 20 %
    assert drift["total_variation"] == pytest.approx(0.6 - 70 / 150, abs=1e-6)
    assert drift["verdict"] == "drift, more than chance: the new rows differ a lot"


def test_few_rows_are_tested_by_shuffling(tmp_path: Path) -> None:
    old = texts(1, "体育") + texts(20, "财经", start=1)
    added = texts(3, "体育", start=30) + texts(1, "财经", start=40)
    test = compared(tmp_path, old, [*old, *added])["labels"]["test"]
    # All tables with the margins of [[3, 1], [1, 20]]: x of the 4 体育 rows among the 4 new ones.
    # Those at least as far from the 0.64 expected are x = 3 and x = 4.
    exact = sum(math.comb(4, x) * math.comb(21, 4 - x) for x in (3, 4)) / math.comb(25, 4)
    # A share of 1,999 shuffles: four standard deviations, and one more for the table itself.
    assert test["p"] == pytest.approx(exact, abs=4 * math.sqrt(exact / 2000) + 1 / 2000)
    assert test["p_from"] == "1999 shuffles"


def test_lengths_are_compared_by_the_exact_kolmogorov_smirnov_test(tmp_path: Path) -> None:
    old = [row("长" * n, task="generation", target="答") for n in (1, 2, 3, 4)]
    added = [row("长" * n, task="generation", target="答") for n in (5, 6, 7, 8)]
    drift = compared(tmp_path, old, [*old, *added])["lengths"]["generation"]
    # No overlap: distance 1; of the 70 ways to deal 8 into 4 and 4, two are that far apart.
    assert drift["prompt"]["test"]["distance"] == 1.0
    assert drift["prompt"]["test"]["p"] == pytest.approx(2 / math.comb(8, 4), rel=1e-9)
    # head and cue have 7 characters; the medians of 1..4, 1..8 and 5..8 are 2.5, 4.5 and 6.5.
    assert drift["prompt"]["median"] == {"old": 9.5, "new": 11.5}
    assert drift["prompt"]["test"]["median"] == 13.5
    assert drift["target"]["test"]["distance"] == 0.0
    assert "but 4 rows show only a large one" in drift["prompt"]["verdict"]


def test_where_rows_only_went_they_are_tested_against_those_that_stayed(tmp_path: Path) -> None:
    old = texts(100, "体育") + texts(100, "财经", start=100)
    drift = compared(tmp_path, old, old[:110])["labels"]
    assert drift["test"]["rows"] == "removed"
    assert drift["test"]["compared"] == [90, 110]
    assert drift["verdict"].startswith("drift, more than chance: the removed rows")


def test_more_rows_of_the_same_kind_are_no_drift(tmp_path: Path) -> None:
    rows = [row(f"第{n:05}条", "体育财经"[n % 2 * 2 :][:2]) for n in range(400)]
    drift = compared(tmp_path, rows[:300], rows)["labels"]
    assert drift["verdict"] == "no drift shown: chance alone makes the new rows differ so"


@pytest.mark.parametrize(
    ("effect", "p", "rows", "words"),
    [
        (0.01, 1e-9, 10**6, "more than chance, and too little to matter"),
        (0.30, 1e-9, 10**6, "drift, more than chance: the new rows differ a lot"),
        (0.05, 0.001, 10**4, "drift, more than chance: the new rows differ a little"),
        (0.30, 0.2, 12, "no drift shown: chance alone makes the new rows differ so, but 12 rows"),
        (0.0, None, 12, "nothing to test"),
    ],
)
def test_a_verdict_needs_both_effect_and_chance(
    effect: float, p: float | None, rows: int, words: str
) -> None:
    test = {"rows": "new", "p": p, "compared": [rows, 10**6]}
    assert verdict(effect, test).startswith(words)


def test_equal_sets_give_equal_documents(tmp_path: Path) -> None:
    dice = random.Random(3)
    old = [row(f"文{n}", dice.choice("甲乙丙丁戊")) for n in range(200)]
    new = [row(f"文{n}", dice.choice("甲乙丙丁戊")) for n in range(100, 330)]
    first = compared(tmp_path, old, new)
    assert compared(tmp_path, old, new) == first
    labels = Counter(record.target for _, record in new)
    assert first["labels"]["counts"]["new"] == labels


def test_long_texts_are_shown_without_their_end(tmp_path: Path) -> None:
    found = compared(tmp_path, texts(2), [*texts(2), row("长" * 5000)])
    (example,) = found["examples"]["added"]
    assert len(example["prompt"]) == 300
    assert example["prompt"].endswith("…")
    assert max(map(len, summary(found))) < 200


def test_sets_from_before_there_were_sources_are_read(tmp_path: Path) -> None:
    old, new = version(tmp_path / "old", texts(9)), version(tmp_path / "new", texts(9))
    for side in SPLITS:
        path = old.folder / f"{side}.parquet"
        pl.read_parquet(path).drop("source", "template").write_parquet(path)
    assert is_same(diff(old, new))


def test_an_empty_side_is_a_side(tmp_path: Path) -> None:
    assert counts(compared(tmp_path, [], texts(3))) == (0, 3, 0, 0, 0)
    assert counts(compared(tmp_path / "b", texts(3), [])) == (0, 0, 3, 0, 0)


@pytest.mark.parametrize("damage", ["gone", "cut", "foreign", "inside"])
def test_a_set_that_is_not_whole_is_named(tmp_path: Path, damage: str) -> None:
    old, new = version(tmp_path / "old", texts(300)), version(tmp_path / "new", texts(300))
    path = new.folder / "train.parquet"
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "foreign":
        pl.DataFrame({"prompt": ["a"]}).write_parquet(path)
    else:
        path.write_bytes(whole[:8] + bytes(len(whole) // 2) + whole[8 + len(whole) // 2 :])
    words = {
        "gone": "no such file",
        "cut": "cannot be read as Parquet",
        "foreign": "no table of prepared rows: it has no column task, head",
        "inside": "cannot be read as Parquet",
    }
    with pytest.raises(InputError, match=f"new/train.parquet: {words[damage]}") as refusal:
        diff(old, new)
    assert refusal.value.exit_code == 2
    assert "dvc repro prepare@" in str(refusal.value)
