"""The card of a set with every defect: its numbers against the written Parquet, and by hand."""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from glmops.prepare.stage import CARD, CARD_PAGE, prepare
from glmops.recipe import MaxRefused, Prepare, Split
from glmops.records import SPLITS, Record, Refusal, read_table
from glmops.templates import TEMPLATES

pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

CODES = {"news_sports": 103, "news_tech": 109, "stock": 114}
SCRIPT = "<script>alert(1)</script>新机发布"
NEAR = "一条很长的标题讲一件大家都没有想到的事情，而且讲得很仔细也很有趣"


def line(number: int, label: str, title: str) -> str:
    return f"{number}_!_{CODES[label]}_!_{label}_!_{title}_!_"


def plain_lines() -> list[str]:
    """200 different rows of two labels, every seventh with Latin words and kana."""
    rows = []
    for number in range(200):
        words = f"第{number:03}场比赛的消息" + ("，Apple 发布カメラ" if number % 7 == 0 else "")
        rows.append(line(number, "news_tech" if number % 4 == 0 else "news_sports", words))
    return rows


LINES = plain_lines()
DEFECTS = [
    line(900, "news_sports", "第001场比赛的消息"),  # repeats line 2
    line(901, "news_sports", "第001场比赛的消息"),  # and so does this one
    line(902, "stock", "第002场比赛的消息"),  # line 3 says news_sports
    "903_!_103_!_news_sports",
    "904_!_103",
    line(905, "news_tech", NEAR),
    line(906, "news_tech", NEAR + "！"),
    line(907, "news_tech", SCRIPT),
    line(908, "news_tech", "<UNK>手机的\ufffd价格"),
    line(909, "stock", "股市里的新鲜事"),
]


def section(**changes: Any) -> Prepare:
    values: dict[str, Any] = {
        "format": "toutiao",
        "tasks": ("classification",),
        "split": Split(dev=0.1, test=0.2, seed=4),
        "max_refused": MaxRefused(rows=20, share=0.1),
        "leaks": "keep",
    }
    return Prepare(**{**values, **changes})


def made(root: Path, **changes: Any) -> dict[str, Any]:
    (root / "data").mkdir(parents=True)
    data = "\r\n".join(LINES[:100] + DEFECTS).encode("gb18030")
    (root / "data" / "a.txt").write_bytes(data)
    (root / "data" / "b.txt").write_text("\n".join(LINES[100:]) + "\n", encoding="utf-8")
    (root / "out").mkdir()
    folder, work = root / "out", root / "work"
    prepare(root / "data", section(**changes), root=root, folder=folder, work=work, name="news")
    found: dict[str, Any] = json.loads((work / CARD).read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    made(folder)
    return folder


@pytest.fixture(scope="module")
def card(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "work" / CARD).read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def sides(root: Path) -> dict[str, list[Record]]:
    return {name: read_table(root / "out" / f"{name}.parquet", Record) for name in SPLITS}


def test_rows_and_labels_of_a_side_are_those_of_its_table(
    card: dict[str, Any], sides: dict[str, list[Record]]
) -> None:
    for name, rows in sides.items():
        assert card["splits"][name] == {
            "rows": len(rows),
            "texts": len({row.group for row in rows}),
            "classification": len(rows),
        }
        assert card["labels"][name] == Counter(row.target for row in rows)
    # By hand: 210 lines; two too short, two in conflict; two repeats; the rest is written.
    assert card["rows"] == {"read": 210, "accepted": 206, "refused": 4, "duplicates": 2}
    assert sum(map(len, sides.values())) == 204


def test_lengths_are_those_of_the_written_rows(
    card: dict[str, Any], sides: dict[str, list[Record]]
) -> None:
    rows = [row for side in sides.values() for row in side]
    for part, lengths in (
        ("prompt", sorted(len(row.prompt) for row in rows)),
        ("target", sorted(len(row.target) for row in rows)),
    ):
        found = card["lengths"][part]
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            assert found[name] == lengths[math.ceil(share * len(lengths)) - 1]
        assert (found["min"], found["max"], found["rows"]) == (lengths[0], lengths[-1], len(rows))
        assert found["mean"] == pytest.approx(sum(lengths) / len(lengths), abs=0.005)
        bins = found["histogram"]
        for place, count in enumerate(bins["rows"]):
            start = bins["start"] + place * bins["width"]
            assert count == sum(start <= each < start + bins["width"] for each in lengths)
        assert sum(bins["rows"]) + bins["longer"] == len(rows)


def script(character: str) -> str:
    """A class by the character's official name: not the way the card goes."""
    name, category = unicodedata.name(character, ""), unicodedata.category(character)
    for start, found in (("CJK UNIFIED", "han"), ("KATAKANA", "kana"), ("LATIN", "latin")):
        if name.startswith(start):
            return found
    return {"N": "digits", "P": "punctuation", "S": "punctuation", "Z": "space"}[category[0]]


def test_scripts_are_counted_character_by_character(
    card: dict[str, Any], sides: dict[str, list[Record]]
) -> None:
    rows = [row for side in sides.values() for row in side]
    for kind, texts in (("text", [r.body for r in rows]), ("answer", [r.target for r in rows])):
        assert card["characters"][kind] == Counter(script(c) for text in texts for c in text)
    # The title with markup in it has more Latin letters than Chinese ones.
    assert card["main_scripts"] == {"han": 203, "latin": 1}


def test_refusals_are_grouped_with_the_first_place_of_each(
    root: Path, card: dict[str, Any]
) -> None:
    kept = read_table(root / "out" / "quarantine.parquet", Refusal)
    assert card["refusals"]["rows"] == len(kept) == 4
    assert card["refusals"]["others"] == 0
    said = {
        (kind["rows"], kind["file"], kind["line"], kind["reason"])
        for kind in card["refusals"]["kinds"]
    }
    here = "the same text has different labels: '{}' here, '{}' at FILE:LINE"
    assert said == {
        (1, "data/a.txt", 3, here.format("news_sports", "stock")),
        (1, "data/a.txt", 103, here.format("stock", "news_sports")),
        (1, "data/a.txt", 104, "expected 5 fields split by '_!_', got 3"),
        (1, "data/a.txt", 105, "expected 5 fields split by '_!_', got 2"),
    }
    (first,) = (kind for kind in card["refusals"]["kinds"] if kind["line"] == 3)
    assert first["first_reason"].endswith("'stock' at data/a.txt:103")
    assert first["raw"] == LINES[2]


def test_duplicates_and_conflicts_are_shown_where_they_stand(card: dict[str, Any]) -> None:
    exact, near = card["duplicates"]["exact"], card["duplicates"]["near"]
    assert exact["rows"] == 2
    assert [(each["row"]["line"], each["repeats"]["line"]) for each in exact["examples"]] == [
        (101, 2),
        (102, 2),
    ]
    assert (near["texts"], near["threshold"], near["dropped"]) == (1, 0.9, 0)
    (pair,) = near["examples"]
    # 33 characters have 31 runs of three; the sign at the end adds one.
    runs = len(NEAR) - 2
    assert pair["similarity"] == round(runs / (runs + 1), 4)
    assert (pair["one"]["text"], pair["other"]["text"]) == (NEAR, NEAR + "！")
    (torn,) = card["conflicts"]["examples"]
    assert torn["text"] == "第002场比赛的消息"
    assert [(a["answer"], a["line"]) for a in torn["answers"]] == [
        ("news_sports", 3),
        ("stock", 103),
    ]


def test_every_file_is_named_with_its_hash_and_what_is_odd_about_it(
    root: Path, card: dict[str, Any]
) -> None:
    for name, file in card["files"].items():
        assert file["sha256"] == hashlib.sha256((root / name).read_bytes()).hexdigest()
    a, b = card["files"]["data/a.txt"], card["files"]["data/b.txt"]
    assert (a["encoding"], a["lines"], a["crlf"], a["final"]) == ("gb18030", 110, 109, False)
    assert (b["encoding"], b["lines"], b["crlf"], b["final"]) == ("utf-8", 100, 0, True)
    assert (a["rows"], a["refused"], a["duplicates"]) == (110, 4, 2)
    assert card["placeholders"] == {"<UNK>": 1}
    assert card["oddities"]["replacement-character"] == 1
    assert card["templates"] == {
        "headline-category": {"hash": TEMPLATES["headline-category"].hash(), "rows": 204}
    }


def test_what_is_wrong_stands_first(card: dict[str, Any]) -> None:
    levels = [each["level"] for each in card["concerns"]]
    assert levels == sorted(levels, key=("stop", "look", "note").index)
    said = "\n".join(each["what"] for each in card["concerns"])
    for part in (
        "Refused rows: 4 of 210 (1.9 %).",
        "Rows that repeat another one word for word: 2 (1.0 % of the good ones)",
        "Texts that stand under several labels: 1, in 2 rows, all refused.",
        "near copies of others (alike by 0.9 or more): 1.",
        "Stand-ins in place of text are left in the rows: <UNK> (rows: 1).",
        "Replacement characters (U+FFFD): 1.",
        "data/a.txt is GB18030, not UTF-8; ends 109 of its 110 lines with CRLF; has no line end",
        "no row has: news_story",
    ):
        assert part in said


def test_examples_are_five_train_rows_as_they_were_written(
    card: dict[str, Any], sides: dict[str, list[Record]]
) -> None:
    rows = {(row.file, row.line): row for row in sides["train"]}
    assert len(card["examples"]) == 5
    ids = []
    for each in card["examples"]:
        row = rows[each["file"], each["line"]]
        assert [each[name] for name in ("head", "body", "cue", "target")] == [
            row.head, row.body, row.cue, row.target,
        ]  # fmt: skip
        ids.append(row.id)
    # Those with the smallest hashes, by hashlib.
    ranked = sorted(
        (row.id for row in sides["train"]),
        key=lambda id: hashlib.sha256(f"card\0{id}".encode()).digest()[:8],
    )
    assert ids == ranked[:5]


def test_the_same_rows_elsewhere_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    made(tmp_path / "another" / "place")
    for name in (CARD, CARD_PAGE):
        one, other = root / "work" / name, tmp_path / "another" / "place" / "work" / name
        assert one.read_bytes() == other.read_bytes()


def test_a_weighted_source_counts_in_train_and_is_described_once(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, lines in (("a.txt", LINES[:100]), ("b.txt", LINES[100:])):
        (tmp_path / "data" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "out").mkdir()
    sources = (
        {"format": "toutiao", "files": "a.txt", "weight": 3.0},
        {"format": "toutiao", "files": "b.txt"},
    )
    prepare(
        tmp_path / "data", section(format=None, sources=sources),
        root=tmp_path, folder=tmp_path / "out", work=tmp_path / "work",
    )  # fmt: skip
    found = json.loads((tmp_path / "work" / CARD).read_text(encoding="utf-8"))
    train = read_table(tmp_path / "out" / "train.parquet", Record)
    assert found["splits"]["train"]["rows"] == len(train) > len({row.id for row in train})
    assert found["labels"]["train"] == Counter(row.target for row in train)
    assert (
        found["lengths"]["prompt"]["rows"] == found["templates"]["headline-category"]["rows"] == 200
    )
    assert [source["weight"] for source in found["sources"]] == [3.0, 1.0]
