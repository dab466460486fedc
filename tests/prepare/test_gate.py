"""The gate: rows that break a rule are all named, tables that break one stop, faults are ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from glmops.errors import GlmopsError, InputError
from glmops.prepare.examine import judge, settle
from glmops.prepare.gate.suites import Suite
from glmops.prepare.gate.validation import open_gate
from glmops.storage import sha256_tree
from toy_rows import judged, raw_of, refused, row, section

TRIPLE = '```json\n[{"predicate": "作者", "subject": "书", "object": "人"}]\n```'
SHAPED = {"template": "context-target"}
TWO = [row(0), row(1, target="财经")]


def test_good_rows_pass(tmp_path: Path) -> None:
    rows = [*TWO, row(2, task="triples", target=TRIPLE), row(3, task="generation", target="一句")]
    assert refused(judged(tmp_path, rows)) == []


@pytest.mark.parametrize(
    ("change", "settings", "reason"),
    [
        ({"target": " \n"}, {}, "the target is empty"),
        ({"body": " "}, {}, "there is no text to ask about"),
        (
            {"body": "甲\x07乙"},
            {},
            "it holds the control character U+0007 at character 2 of its body",
        ),
        ({"head": "\x00"}, {}, "it holds the control character U+0000 at character 1 of its head"),
        (
            {"body": "version https://git-lfs.github.com/spec/v1"},
            {},
            "the text is a Git LFS pointer in place of the data",
        ),
        ({"task": "keywords"}, {}, "it is a row of task keywords; the recipe has classification"),
        # Head and cue of a toy row have 3 and 4 characters.
        (
            {"body": "长" * 94},
            {"lengths": {"prompt": (1, 100)}},
            "the prompt is longer than 100 characters, got 101",
        ),
        (
            {"target": "长" * 100_001},
            {},
            "the target is longer than 100000 characters, got 100001",
        ),
        (
            {"target": "是"},
            {"lengths": {"target": (2, 9)}},
            "the target is shorter than 2 characters, got 1",
        ),
        (
            {"body": "买<UNK>送包"},
            {"placeholders": "refuse"},
            "it holds the placeholder '<UNK>'",
        ),
        ({"body": "这款BRAND的"}, {"placeholders": "refuse"}, "it holds the placeholder 'BRAND'"),
        (
            {**SHAPED, "target": '["体育", ""]'},
            {},
            "the target's JSON list: item 2 is empty text, not a label",
        ),
        ({**SHAPED, "target": '["体育"'}, {}, "the target's JSON list is not JSON"),
        (
            {"target": "体肓"},
            {"labels": ("体育", "财经", "{x}")},
            "'体肓' has a label that prepare.labels does not declare (体育, 财经, {x})",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_row_that_breaks_a_rule_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], settings: dict[str, Any], reason: str
) -> None:
    bad = row(7, **change)
    found = judged(tmp_path, [TWO[0], bad, TWO[1]], **{"tasks": ("classification",), **settings})
    ((line, said),) = refused(found)
    assert (line, found.refused["file"][0]) == (8, "rows.txt")
    assert said.startswith(reason)
    assert found.refused["raw"][0] == f"{bad['body']}|{bad['target']}"


def test_a_placeholder_is_kept_unless_the_recipe_refuses_it(tmp_path: Path) -> None:
    assert refused(judged(tmp_path, [row(0, body="<UNK>"), TWO[1]])) == []


def test_a_label_may_begin_with_a_bracket_where_the_answer_is_a_column(tmp_path: Path) -> None:
    assert refused(judged(tmp_path, [row(0, target="[其他"), TWO[1]])) == []


def test_triples_must_be_whole(tmp_path: Path) -> None:
    broken = TRIPLE.replace('"subject": "书", ', "")
    rows = [row(0, task="triples", target=TRIPLE), row(1, task="triples", target=broken)]
    ((line, reason),) = refused(judged(tmp_path, rows))
    assert (line, reason) == (2, "the target's ```json block: 'subject' of item 1 is missing")


def test_a_row_that_breaks_two_rules_is_refused_once_with_both_reasons(tmp_path: Path) -> None:
    ((_, reason),) = refused(judged(tmp_path, [*TWO, row(2, target="", body="")]))
    assert reason == "the target is empty; there is no text to ask about"


def test_every_bad_row_is_named_however_many_there_are(tmp_path: Path) -> None:
    # great-expectations' other result formats stop after twenty.
    rows = [row(number, target="" if number % 3 else "体育") for number in range(600)]
    found = refused(judged(tmp_path, rows[:250], rows[250:]))
    assert [line for line, _ in found] == [n + 1 for n in range(600) if n % 3]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "65x"}, "'65x' is no id of the format toutiao"),
        ({"target": "news_stock"}, "'news_stock' is no label of the format toutiao (news_story, "),
    ],
)
def test_a_format_has_rules_of_its_own(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    rows = [row(0, target="stock"), row(1, **{"target": "news_car", **change})]
    ((line, said),) = refused(judged(tmp_path, rows, format="toutiao"))
    assert line == 2
    assert said.startswith(reason)
    # Another template's answers are no labels of the format, and its ids say the template.
    other = [row(0, id="6:headline-keywords", target="足球", template="headline-keywords")]
    assert refused(judged(tmp_path / "other", other, format="toutiao")) == []


def test_an_id_on_two_different_rows_is_refused_across_batches(tmp_path: Path) -> None:
    twice = row(5, id="0", target="财经")
    found = refused(judged(tmp_path, [row(0), row(1)], [twice, row(6)]))
    assert found == [
        (1, "the id '0' stands on 2 different rows: '体育' here, '财经' at rows.txt:6"),
        (6, "the id '0' stands on 2 different rows: '财经' here, '体育' at rows.txt:1"),
    ]


def test_a_repeated_row_is_no_fault_under_its_own_id_or_another(tmp_path: Path) -> None:
    again = [row(0, line=8), row(0, id="9", line=9)]
    made = section()
    raw = raw_of(tmp_path, [[*TWO, *again]], made)
    with open_gate() as gate:
        found = judge(raw, made, gate, "data/raw")
        settled = settle(found, made, gate, "data/raw")
    assert refused(found) == []
    assert settled.repeats.tolist() == [2, 3]
    assert settled.facts["row"].to_list() == [0, 1]


def test_one_text_under_two_labels_is_refused_row_by_row(tmp_path: Path) -> None:
    rows = [row(0), row(1, body="第0条新闻。 ", target="财经"), row(2), row(0, id="3", line=4)]
    found = judged(tmp_path, rows)
    here = "the same text has different labels: '体育' here, '财经' at rows.txt:2"
    there = "the same text has different labels: '财经' here, '体育' at rows.txt:1"
    assert refused(found) == [(1, here), (2, there), (4, here)]
    assert refused(judged(tmp_path / "kept", rows, conflicts="keep")) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"target": '["财经", "体育"]'},  # the other row's labels in another order
        {"target": '["汽车"]', "head": "另一个问题："},
        {"target": "一句", "task": "generation"},
    ],
)
def test_what_is_no_conflict(tmp_path: Path, changes: dict[str, Any]) -> None:
    rows = [row(0, target='["体育", "财经"]'), row(1, **{"body": "第0条新闻。", **changes})]
    assert refused(judged(tmp_path, rows)) == []


def test_two_answers_to_one_text_are_no_conflict_where_texts_are_written(tmp_path: Path) -> None:
    rows = [row(n, body="裙", task="generation", target=f"第{n}段") for n in range(2)]
    assert refused(judged(tmp_path, rows)) == []


def test_a_declared_task_without_rows_stops(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        judged(tmp_path, TWO, tasks=("classification", "triples"))
    said = "prepare.tasks declares classification, triples, but the rows are only of classification"
    assert str(caught.value).startswith(f"data/raw: {said}")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(0, target=""), row(1, target="")], "no usable row is left"),
        ([row(0), row(1)], "every classification row that is left has the same label"),
        ([row(0), row(1, target="财经", body="")], "every classification row that is left has"),
    ],
    ids=["none", "one label", "one label once the bad rows are gone"],
)
def test_what_is_left_must_be_worth_learning(
    tmp_path: Path, rows: list[dict[str, Any]], said: str
) -> None:
    made = section()
    with open_gate() as gate, pytest.raises(InputError, match=f"data/raw: {said}"):
        settle(
            judge(raw_of(tmp_path, [rows], made), made, gate, "data/raw"), made, gate, "data/raw"
        )


def test_a_reader_that_gives_other_columns_is_found_out(tmp_path: Path) -> None:
    made = section()
    raw = replace(raw_of(tmp_path, [TWO], made), columns=("id", "task", "colour"))
    with open_gate() as gate, pytest.raises(InputError, match="other columns than those of a row"):
        judge(raw, made, gate, "data/raw")


@pytest.mark.parametrize("column", ["colour", "label"])
def test_a_rule_that_cannot_be_evaluated_is_a_fault_of_the_gate(column: str) -> None:
    import great_expectations.expectations as gxe

    # There is no such column, and this is no regular expression.
    rule = gxe.ExpectColumnValuesToMatchRegex(column=column, regex="(", meta={"reason": "r"})
    with open_gate() as gate, pytest.raises(GlmopsError, match="could not be evaluated") as caught:
        gate.broken(Suite("faulty", (rule,)), pl.DataFrame({"label": ["a", "b"]}))
    assert not isinstance(caught.value, InputError)
    assert caught.value.exit_code == 1
    assert "suite faulty" in str(caught.value)


def test_the_data_docs_show_every_suite_and_are_equal_for_equal_rows(tmp_path: Path) -> None:
    made = section()
    sites = []
    for name in ("a", "b"):
        raw = raw_of(tmp_path / name, [[*TWO, row(2, target="")]], made)
        with open_gate(tmp_path / f"docs-{name}") as gate:
            judge(raw, made, gate, "data/raw")
        sites.append(sha256_tree(tmp_path / f"docs-{name}"))
    assert sites[0] == sites[1]
    pages = [page for page in sites[0] if page.startswith("validations/")]
    assert {page.split("/")[1] for page in pages} == {
        *("columns", "table", "rows", "task-classification")
    }
    (rows,) = [page for page in pages if page.startswith("validations/rows/")]
    assert "Failed" in (tmp_path / "docs-a" / rows).read_text()
    suite = (tmp_path / "docs-a" / "expectations" / "rows.html").read_text()
    assert "Else refused: the target is empty" in suite
    everything = (page.read_text() for page in (tmp_path / "docs-a").rglob("*.html"))
    assert not any("dataContextId" in page for page in everything)


def test_the_data_docs_of_a_run_that_stops_are_there(tmp_path: Path) -> None:
    made = section(tasks=("classification", "triples"))
    with pytest.raises(InputError), open_gate(tmp_path / "docs") as gate:
        judge(raw_of(tmp_path / "rows", [TWO], made), made, gate, "data/raw")
    assert (tmp_path / "docs" / "index.html").is_file()
