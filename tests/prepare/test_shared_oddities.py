"""What the README lists as odd about each raw file is in the card of `check`, and said in words.

The numbers are the README's. Where it speaks of a whole file and a part of it is here, they are
counted again from the part with nothing but the standard library.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from glmops.prepare.check import check, summary

pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

Shared = Callable[[str], Path]
LABELLED = {"columns": {"title": 1, "category": 2}, "template": "headline-category"}
TWO_FIELDS = {**LABELLED, "separator": "_!_"}
NAMES = {"columns": {"title": "label", "category": "label_desc"}, "template": "headline-category"}
SUBMITTED = {"columns": {"title": "uuid", "category": "label"}, "template": "title-bar-category"}
KEYWORDS = {"columns": {"content": "uuid", "summary": "Keywords"}, "template": "ad-text"}


@cache
def checked(path: Path, format: str, settings: str = "{}") -> dict[str, Any]:
    return check(path, format, **json.loads(settings))


def lines_of(path: Path) -> list[str]:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()


# (file, format, settings, what is said of it)
SAID: list[tuple[str, str, dict[str, Any], tuple[str, ...]]] = [
    (
        "toutiao/toutiao_cat_data_example.txt.gz",
        "toutiao",
        {},
        ("Labels that no row has: news_story.", "empty keywords: 2,354", "no-break-space: 15"),
    ),
    (
        "toutiao/toutiao_cat_data_example_1k.txt.gz",
        "toutiao",
        {},
        ("Labels with fewer than 5 rows: stock.", "empty keywords: 330"),
    ),
    ("toutiao/toutiao_cat_data.dev.part.txt.gz", "toutiao", {}, ("no line end behind its last",)),
    (
        "toutiao/toutiao_cat_data.test.part.txt.gz",
        "toutiao",
        {},
        ("no line end behind its last line", "byte-order-mark: 4", "tab: 2", "zero-width: 4"),
    ),
    ("toutiao/tnews_labels.json", "table", NAMES, ("no line end behind its last line",)),
    (
        "toutiao/toutiao_title_label_test.txt.gz",
        "table",
        TWO_FIELDS,
        ("word for word: 3,430 (9.0 %", "stand under several labels: 58, in"),
    ),
    (
        "adgen/train_5000.gb18030.json.gz",
        "adgen",
        {},
        ("is GB18030, not UTF-8; ends all of its 5,000 lines with CRLF", "<UNK> (rows: 1,553)"),
    ),
    ("adgen/train_5000.utf8.json.gz", "adgen", {}, ("<UNK> (rows: 1,553), BRAND (rows: 234)",)),
    ("adgen/train_200.json", "adgen", {}, ("no line end behind its last line",)),
    ("adgen/dev_part.json", "adgen", {}, ("repeat another one word for word: 1 ",)),
    (
        "adgen/faq_train.json",
        "adgen",
        {},
        (
            "Different answers: only 77 in 431",
            "repeat another one word for word: 4 ",
            "html-tag",
            "no line end behind its last line",
        ),
    ),
    (
        "adgen/faq_dev.json",
        "adgen",
        {},
        ("Different answers: only 7 in 27", "no line end behind its last line"),
    ),
    ("paper/test_part.csv.gz", "paper", {}, ("html-tag: 5", "no-break-space: 4")),
    (
        "paper/testB_part.csv.gz",
        "paper",
        {},
        ("to predict and not to learn: 1,226", "byte-order-mark: 4", "zero-width: 2"),
    ),
    ("paper/testB_part.consensus_labels.csv", "table", SUBMITTED, ("not read: votes",)),
    ("paper/predictions/xfg_submit.csv", "table", KEYWORDS, ("only 1 in 1,226",)),
    ("paper/predictions/submit_0.4.csv", "table", SUBMITTED, ("no line end behind its last line",)),
    (
        "paper/predictions/CreativityFair_GLM50.csv",
        "table",
        KEYWORDS,
        ("starts with a byte-order mark", "Replacement characters (U+FFFD): 1."),
    ),
    ("paper/submit_example.csv", "table", SUBMITTED, ("Every label is the same one: 1.",)),
    (
        "mixed/dataset.jsonl",
        "context-target",
        {},
        ("prose before a json block: 1", "no line end behind its last line"),
    ),
    ("alpaca/examples_with_history.json", "alpaca", {}, ("rows with a history: 2",)),
    ("alpaca/oaast_sft_zh.json.gz", "alpaca", {}, ("rows with a history", "empty input: 689")),
    ("alpaca/alpaca_zh_0_3252.json.gz", "alpaca", {}, ("Refused rows: 4 of 3,247",)),
    (
        "alpaca/alpaca_zh_6382_9407.json.gz",
        "alpaca",
        {},
        ("absent input: 1", "Refused rows: 3 of 3,022"),
    ),
    ("alpaca/zh_data_part_00.json.gz", "alpaca", {}, ("word for word: 1 ", "Refused rows: 6 of")),
    (
        "alpaca/supplement_code.json.gz",
        "alpaca",
        {},
        (
            "holds its 9,057 rows on one line",
            "absent input: 8,084",
            "an empty text as 'history' is read as no history: 973",
        ),
    ),
    ("alpaca/supplement_terms.json", "alpaca", {}, ("Refused rows: 1 of 152",)),
]


@pytest.mark.parametrize(("name", "format", "settings", "said"), SAID, ids=[f[0] for f in SAID])
def test_what_the_readme_lists_is_said(
    shared: Shared, name: str, format: str, settings: dict[str, Any], said: tuple[str, ...]
) -> None:
    found = checked(shared(f"data/{name}"), format, json.dumps(settings))
    spoken = "\n".join(summary(found))
    for part in said:
        assert part in spoken
    assert found["card"]["rows"]["read"] == found["rows"]


def test_the_lengths_that_the_readme_counts_are_counted(shared: Shared) -> None:
    adgen = checked(shared("data/adgen/train_5000.utf8.json.gz"), "adgen")["card"]["lengths"]
    assert adgen["target"]["over"]["64"] == 4_897
    mixed = checked(shared("data/mixed/mixed_train_dataset.jsonl"), "context-target")["card"]
    prompt, target = mixed["lengths"]["prompt"], mixed["lengths"]["target"]
    assert (prompt["over"]["400"], prompt["max"]) == (5, 1_636)
    assert (target["over"]["300"], target["max"]) == (117, 1_066)
    assert mixed["splits"]["all"] == {
        "rows": 902, "texts": mixed["splits"]["all"]["texts"], "classification": 402,
        "triples": 500,
    }  # fmt: skip
    assert mixed["labels"]["all"] == {
        "水果": 78, "衣服": 70, "洗浴": 67, "平板": 67, "酒店": 56, "书籍": 29, "电脑": 22,
        "蒙牛": 13,
    }  # fmt: skip
    paper = checked(shared("data/paper/test_part.csv.gz"), "paper")["card"]
    assert paper["longest_fields"]["author"] == 1_217
    assert paper["files"][str(shared("data/paper/test_part.csv.gz"))]["lines"] == 1_644


def test_a_label_that_is_no_class_stands_among_the_labels(shared: Shared) -> None:
    path = shared("data/paper/predictions/submit_GLM_task1.csv")
    found = checked(path, "table", json.dumps(SUBMITTED))
    assert found["labels"]["3"] == 8


def test_a_constant_answer_is_shown_with_its_rows(shared: Shared) -> None:
    path = shared("data/paper/predictions/xfg_submit.csv")
    answers = checked(path, "table", json.dumps(KEYWORDS))["card"]["answers"]
    assert answers == {"different": 1, "most_frequent": [{"answer": "tmp", "rows": 1_226}]}


def test_placeholders_of_a_part_are_those_of_its_lines(shared: Shared) -> None:
    path = shared("data/adgen/dev_part.json")
    rows = [json.loads(line)["summary"] for line in lines_of(path)]
    assert checked(path, "adgen")["card"]["placeholders"] == {
        "<UNK>": sum("<UNK>" in row for row in rows),
        "BRAND": sum("BRAND" in row for row in rows),
    }


def test_repeated_rows_are_those_with_the_same_fields(shared: Shared) -> None:
    path = shared("data/alpaca/supplement_code.json.gz")
    rows = json.loads(gzip.decompress(path.read_bytes()))
    different = {(row["instruction"], row.get("input", ""), row["output"]) for row in rows}
    exact = checked(path, "alpaca")["card"]["duplicates"]["exact"]
    # The README counts 1,150: to it a row with an empty history is another one than without.
    assert exact["rows"] == len(rows) - len(different) == 1_154
    assert len(exact["examples"]) == 5


def test_two_files_are_one_set_and_what_they_share_is_counted(shared: Shared) -> None:
    folder = shared("data/toutiao/toutiao_cat_data_example.txt.gz").parent
    names = ("toutiao_cat_data_example.txt.gz", "toutiao_cat_data_example_1k.txt.gz")
    found = checked(folder / "toutiao_cat_data_example*.txt.gz", "toutiao")
    assert set(found["card"]["files"]) == {str(folder / name) for name in names}
    rows = [line.split("_!_") for name in names for line in lines_of(folder / name)]
    ids = Counter(row[0] for row in rows)
    # The README: ten ids are in both. Of those whose rows differ, all are refused.
    assert sum(count > 1 for count in ids.values()) == 10
    texts: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        texts.setdefault(row[0], set()).add((row[3], row[2]))
    unlike = sum(ids[id] for id, said in texts.items() if len(said) > 1)
    assert found["refused"] == unlike
    assert found["rows"] == 5_999


def test_near_copies_are_alike_in_the_very_rows_that_are_named(shared: Shared) -> None:
    path = shared("data/alpaca/supplement_code.json.gz")
    near = checked(path, "alpaca")["card"]["duplicates"]["near"]
    assert near["texts"] > len(near["examples"]) == 5
    for pair in near["examples"]:
        one, other = (runs(pair[side]["text"]) for side in ("one", "other"))
        if "more characters)" not in pair["one"]["text"] + pair["other"]["text"]:
            assert pair["similarity"] == round(len(one & other) / len(one | other), 4) >= 0.9


def runs(text: str) -> set[str]:
    """Runs of three characters, without regard to case (these texts have no odd width)."""
    return {text[place : place + 3].lower() for place in range(len(text) - 2)}
