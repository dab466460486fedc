"""Every raw file of the reference data gives the rows and the oddities that its README counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glmops.prepare import read
from glmops.prepare.check import check
from glmops.prepare.formats import CATEGORIES

pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

Shared = Callable[[str], Path]
PAIR = {"title": 1, "category": 2}
MAPPED = {"columns": PAIR, "template": "headline-category"}
LABELS = {
    "columns": {"title": "label", "category": "label_desc"},
    "template": "headline-category",
}
PREDICTED = {"columns": {"content": "predict", "summary": "labels"}, "template": "ad-text"}
# The two-field derivative of the five-field format.
TWO_FIELDS = {**MAPPED, "separator": "_!_"}
SUBMITTED = {
    "columns": {"id": "uuid", "title": "uuid", "category": "label"},
    "template": "title-bar-category",
}

# (file, format, other settings, rows, refused lines by reason), all as the README says it.
FILES: list[tuple[str, str, dict[str, Any], int, dict[str, int]]] = [
    ("toutiao/toutiao_cat_data_example.txt.gz", "toutiao", {}, 4_999, {}),
    ("toutiao/toutiao_cat_data_example_1k.txt.gz", "toutiao", {}, 1_000, {}),
    ("toutiao/toutiao_cat_data.dev.part.txt.gz", "toutiao", {}, 7_469, {}),
    ("toutiao/toutiao_cat_data.test.part.txt.gz", "toutiao", {}, 7_456, {}),
    ("toutiao/tnews_train.tsv.gz", "table", MAPPED, 53_360, {}),
    ("toutiao/tnews_labels.json", "table", LABELS, 15, {}),
    ("toutiao/toutiao_title_label_test.txt.gz", "table", TWO_FIELDS, 38_270, {}),
    ("adgen/train_5000.gb18030.json.gz", "adgen", {}, 5_000, {}),
    ("adgen/train_5000.utf8.json.gz", "adgen", {}, 5_000, {}),
    ("adgen/train_200.json", "adgen", {}, 200, {}),
    ("adgen/dev_part.json", "adgen", {}, 517, {}),
    ("adgen/dev_part.conversations.json", "conversations", {}, 517, {}),
    ("adgen/faq_train.json", "adgen", {}, 435, {}),
    ("adgen/faq_dev.json", "adgen", {}, 27, {}),
    ("paper/test_part.csv.gz", "paper", {}, 1_643, {}),
    ("paper/testB_part.csv.gz", "paper", {}, 1_226, {}),
    ("paper/train_standin_part.csv.gz", "paper", {}, 1_226, {}),
    ("paper/testB_part.consensus_labels.csv", "table", SUBMITTED, 1_226, {}),
    ("paper/submit_example.csv", "table", SUBMITTED, 2_358, {}),
    ("paper/predictions/xfg_submit.csv", "table", SUBMITTED, 1_226, {}),
    ("paper/predictions/submit_GLM_task1.csv", "table", SUBMITTED, 1_226, {}),
    ("paper/predictions/submit_task1.csv", "table", SUBMITTED, 1_226, {}),
    ("paper/predictions/submit_0.4.csv", "table", SUBMITTED, 1_226, {}),
    ("paper/predictions/submit_epoch3.csv", "table", SUBMITTED, 1_226, {}),
    ("paper/predictions/submit_epoch20.csv", "table", SUBMITTED, 1_226, {}),
    ("paper/predictions/CreativityFair_GLM50.csv", "table", SUBMITTED, 1_226, {}),
    ("mixed/mixed_train_dataset.jsonl", "context-target", {}, 902, {}),
    ("mixed/mixed_dev_part.jsonl", "context-target", {}, 73, {}),
    ("mixed/dataset.jsonl", "context-target", {}, 5, {}),
    ("alpaca/alpaca_zh_demo.json", "alpaca", {}, 1_000, {}),
    ("alpaca/alpaca_en_demo.json", "alpaca", {}, 999, {}),
    ("alpaca/identity.json", "alpaca", {}, 91, {}),
    ("alpaca/self_cognition.json", "alpaca", {}, 80, {}),
    ("alpaca/examples_with_history.json", "alpaca", {}, 2, {}),
    ("alpaca/oaast_sft_zh.json.gz", "alpaca", {}, 689, {}),
    ("alpaca/alpaca_zh_0_3252.json.gz", "alpaca", {}, 3_247, {"'output' is empty": 4}),
    ("alpaca/alpaca_zh_3252_6382.json.gz", "alpaca", {}, 2_982, {}),
    (
        "alpaca/alpaca_zh_6382_9407.json.gz",
        "alpaca",
        {},
        3_022,
        {"'output' is empty": 2, "'instruction' is empty": 1},
    ),
    ("alpaca/alpaca_en_0_3252.json.gz", "alpaca", {}, 3_252, {"'output' is empty": 4}),
    ("alpaca/zh_data_part_00.json.gz", "alpaca", {}, 10_021, {"'output' is empty": 6}),
    ("alpaca/supplement_code.json.gz", "alpaca", {}, 9_057, {}),
    # The one row with an empty output has an empty instruction too, and that is said first.
    ("alpaca/supplement_terms.json", "alpaca", {}, 152, {"'instruction' is empty": 1}),
    ("alpaca/supplement_academic.json", "alpaca", {}, 213, {}),
    ("alpaca/supplement_addition.json", "alpaca", {}, 500, {}),
    ("predictions/relation_ptuning_generated_predictions.txt", "table", PREDICTED, 1_515, {}),
    ("predictions/relation_ptuning_generated_predictions1.txt", "table", PREDICTED, 1_515, {}),
]


@pytest.mark.parametrize(
    ("name", "format", "settings", "rows", "refused"), FILES, ids=[file[0] for file in FILES]
)
def test_every_row_of_a_published_file_is_read_or_refused_by_name(
    shared: Shared,
    name: str,
    format: str,
    settings: dict[str, Any],
    rows: int,
    refused: dict[str, int],
) -> None:
    path = shared(f"data/{name}")
    records, refusals = read(path, format, **settings)
    assert len(records) + len(refusals) == rows
    assert Counter(refusal.reason for refusal in refusals) == refused
    assert all(refusal.file == str(path) and refusal.line > 0 for refusal in refusals)


PARTS = ("prompt", "target")

# What the README lists of each file and `check` counts. "repeated titles" are rows whose title
# another row has; "repeated rows" repeat a whole row.
ODDITIES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    (
        "toutiao/toutiao_cat_data_example.txt.gz",
        "toutiao",
        {},
        {"empty keywords": 2_354, "repeated_texts": 459, "no-break-space": 15, "zero-width": 1},
    ),
    ("toutiao/toutiao_cat_data_example_1k.txt.gz", "toutiao", {}, {"empty keywords": 330}),
    (
        "toutiao/toutiao_cat_data.dev.part.txt.gz",
        "toutiao",
        {},
        {"empty keywords": 2_724, "repeated_texts": 440},
    ),
    (
        "toutiao/toutiao_cat_data.test.part.txt.gz",
        "toutiao",
        {},
        {
            "empty keywords": 2_709,
            "repeated_texts": 454,
            "tab": 2,
            "byte-order-mark": 4,
            "no-break-space": 16,
            "zero-width": 4,
        },
    ),
    (
        "adgen/train_5000.gb18030.json.gz",
        "adgen",
        {},
        {
            "placeholder <UNK>": 1_553,
            "placeholder BRAND": 234,
            "duplicates": 0,
            "encoding": "gb18030",
            # 4,752 different contents in 5,000 rows; shortest and longest of each.
            "repeated_texts": 5_000 - 4_752,
            "characters": [10, 129, 55, 206],
        },
    ),
    ("adgen/train_5000.utf8.json.gz", "adgen", {}, {"encoding": "utf-8", "duplicates": 0}),
    ("adgen/dev_part.json", "adgen", {}, {"duplicates": 1}),
    ("adgen/faq_train.json", "adgen", {}, {"duplicates": 4}),
    ("paper/test_part.csv.gz", "paper", {}, {"html-tag": 5}),
    ("paper/testB_part.csv.gz", "paper", {}, {"unanswered": 1_226, "zero-width": 2}),
    ("alpaca/alpaca_zh_demo.json", "alpaca", {}, {"duplicates": 8, "empty input": 861}),
    ("alpaca/alpaca_en_demo.json", "alpaca", {}, {"duplicates": 14, "empty input": 587}),
    ("alpaca/oaast_sft_zh.json.gz", "alpaca", {}, {"empty input": 689}),
    ("alpaca/alpaca_zh_3252_6382.json.gz", "alpaca", {}, {"duplicates": 1}),
    ("alpaca/alpaca_zh_6382_9407.json.gz", "alpaca", {}, {"absent input": 1}),
    ("alpaca/supplement_addition.json", "alpaca", {}, {"duplicates": 1}),
    (
        "alpaca/supplement_code.json.gz",
        "alpaca",
        {},
        {
            "absent input": 8_084,
            "an empty text as 'history' is read as no history": 973,
        },
    ),
]


@pytest.mark.parametrize(
    ("name", "format", "settings", "listed"), ODDITIES, ids=[file[0] for file in ODDITIES]
)
def test_check_counts_what_the_readme_lists(
    shared: Shared, name: str, format: str, settings: dict[str, Any], listed: dict[str, Any]
) -> None:
    found = check(shared(f"data/{name}"), format, **settings)
    lengths = [
        found["characters"][part][end] for part in ("prompt", "target") for end in ("min", "max")
    ]
    counted = {**found, **found["oddities"], "characters": lengths}
    assert {key: counted[key] for key in listed} == listed
    assert found["rows"] == found["accepted"] + found["refused"]


def test_placeholders_in_braces_and_brackets_are_counted(shared: Shared) -> None:
    for name, wanted in (
        ("identity", {"placeholder {{name}}", "placeholder {{author}}"}),
        ("self_cognition", {"placeholder <NAME>", "placeholder <AUTHOR>"}),
    ):
        found = check(shared(f"data/alpaca/{name}.json"), "alpaca")
        assert wanted <= set(found["oddities"])


def test_both_encodings_of_one_file_give_the_same_rows(shared: Shared) -> None:
    one, _ = read(shared("data/adgen/train_5000.gb18030.json.gz"), "adgen")
    other, _ = read(shared("data/adgen/train_5000.utf8.json.gz"), "adgen")
    assert [(r.id, r.line, r.target) for r in one] == [(r.id, r.line, r.target) for r in other]


def test_the_conversations_are_the_same_rows_as_the_pairs(shared: Shared) -> None:
    pairs, _ = read(shared("data/adgen/dev_part.json"), "adgen")
    turns, _ = read(shared("data/adgen/dev_part.conversations.json"), "conversations")
    assert [(r.body, r.target) for r in turns] == [(r.body, r.target) for r in pairs]


def test_the_labels_of_the_news_rows_are_the_fifteen_categories(shared: Shared) -> None:
    names = set(CATEGORIES.values())
    example = check(shared("data/toutiao/toutiao_cat_data_example.txt.gz"), "toutiao")
    assert names - set(example["labels"]) == {"news_story"}
    tnews = check(shared("data/toutiao/tnews_train.tsv.gz"), "table", **MAPPED)
    assert set(tnews["labels"]) == names - {"stock"} | {"news_stock"}
    assert tnews["duplicates"] == 3_084
    # 547 titles with several labels, and one more once two kinds of blanks are made one.
    assert tnews["conflicts"]["texts"] == 548


@pytest.mark.parametrize(
    ("name", "format", "lines", "reason"),
    [
        ("prompt_response_blank_tail.json", "adgen", 5, "{content: prompt, summary: response}"),
        ("prompt_response_blank_tail.json", "context-target", 5, "got 'prompt', 'response'"),
        ("tiku_prompt_completion.json", "adgen", 29, "{content: prompt, summary: completion}"),
        ("tiku_prompt_completion.json", "alpaca", 29, "got 'prompt', 'completion'"),
        ("two_objects_one_line.json", "adgen", 1, "a second JSON value at character 44"),
    ],
)
def test_every_row_of_a_real_file_in_another_layout_is_named(
    shared: Shared, name: str, format: str, lines: int, reason: str
) -> None:
    records, refusals = read(shared(f"data/bad_inputs/{name}"), format)
    assert records == []
    assert [refusal.line for refusal in refusals] == list(range(1, lines + 1))
    assert all(reason in refusal.reason for refusal in refusals)


def test_the_mapping_that_a_refusal_names_reads_the_file(shared: Shared) -> None:
    columns = {"content": "prompt", "summary": "completion"}
    path = shared("data/bad_inputs/tiku_prompt_completion.json")
    records, refusals = read(path, "table", columns=columns, template="ad-text")
    assert (len(records), refusals) == (29, [])


def test_a_real_csv_with_marks_and_lines_in_its_fields_is_read_by_its_columns(
    shared: Shared,
) -> None:
    columns = {"content": "title", "summary": "content"}
    path = shared("data/bad_inputs/predict_bom_multiline.csv")
    records, refusals = read(path, "table", columns=columns, template="ad-text")
    # Four rows of news; three lines at the end hold separators, and a title or a text alone.
    assert [record.line for record in records][:1] == [2]
    assert len(records) == 4
    assert all("\n" in record.target for record in records[:3])
    assert {refusal.reason for refusal in refusals} == {"'content' is empty", "'summary' is empty"}
