"""CSV, tab-separated text and Parquet: columns by name or place, and quotes that never close."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glmops.errors import InputError, RecipeError
from glmops.prepare import read
from glmops.prepare.raw import opening
from glmops.records import Record, Refusal

HEADER = "uuid,title,author,abstract,Keywords,label"


def put(folder: Path, text: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def papers(folder: Path, *lines: str) -> tuple[list[Record], list[Refusal]]:
    return read(put(folder, "\n".join((HEADER, *lines)) + "\n"), "paper")


def table(path: Path, **settings: Any) -> tuple[list[Record], list[Refusal]]:
    named = {"columns": {"content": "问", "summary": "答"}, "template": "ad-text"}
    return read(path, "table", **{**named, **settings})


def test_a_paper_is_asked_for_its_label_with_its_title_as_the_group(tmp_path: Path) -> None:
    (record,), refusals = papers(tmp_path, 'a7,"A, b",C,"one\n""two""",k1; k2,1')
    assert refusals == []
    assert record.prompt == (
        "Is this a paper of the medical field? Answer 1 for yes and 0 for no.\n"
        'title:A, b,abstract:one\n"two"\nAnswer: '
    )
    assert (record.id, record.target, record.group, record.task, record.line) == (
        "a7", "1", "A, b", "classification", 2,
    )  # fmt: skip


def test_columns_may_stand_in_any_order_and_case_and_more_may_be_there(tmp_path: Path) -> None:
    text = "\ufeffLabel,abstract,venue,uuid,TITLE,Author\r\n0,x,v,1,t,a\r\n"
    (record,), refusals = read(put(tmp_path, text), "paper")
    assert (record.body, record.target, refusals) == ("title:t,abstract:x", "0", [])


def test_papers_without_labels_are_asked_for_keywords_and_else_only_predicted(
    tmp_path: Path,
) -> None:
    text = "uuid,title,author,abstract,keywords\n1,t,a,x,k1; k2\n2,t,a,x,\n"
    (record,), (refusal,) = read(put(tmp_path, text), "paper")
    assert (record.task, record.target, record.template) == ("keywords", "k1; k2", "paper-keywords")
    assert (refusal.line, refusal.reason) == (3, "'keywords' is empty")
    (record,), refusals = read(put(tmp_path, "uuid,title,author,abstract\n1,t,a,x\n"), "paper")
    assert (record.target, record.task, refusals) == ("", "classification", [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,t,a,x,k,2", "'label' is 2, not 0 or 1"),
        ("1,t,a,x,k,", "'label' is empty"),
        ("1, ,a,x,k,1", "'title' is empty"),
        (",t,a,x,k,1", "'uuid' is empty"),
        ("1,t,a,,k,1", "'abstract' is empty"),
        ("1,t,a,x,k", "expected 6 fields, got 5"),
        ("1,t,a,x,k,1,1", "expected 6 fields, got 7"),
        ("1,t,a,x\x07y,k,1", "'abstract' holds the control character U+0007 at character 2"),
        ("1,t,a,x\x00y,k,1", "'abstract' holds the control character U+0000 at character 2"),
        ("", "a blank line among the rows"),
        ('1,"t"s,a,x,k,1', "not CSV (',' expected after '\"')"),
        ("1,t,a,\rx,k,1", "not CSV (new-line character seen in unquoted field"),
    ],
)
def test_a_bad_row_is_refused_and_the_next_is_read(tmp_path: Path, line: str, reason: str) -> None:
    records, (refusal,) = papers(tmp_path, "1,t,a,x,k,1", line, "2,t,a,x,k,0")
    assert [record.line for record in records] == [2, 4]
    assert refusal.line == 3
    assert refusal.reason.startswith(reason)
    assert refusal.raw == line


def test_a_quote_that_is_never_closed_costs_its_own_line_only(tmp_path: Path) -> None:
    good = [f"{n},t,a,x,k,1" for n in range(200)]
    lines = [*good[:50], '50,"never closed,a,x,k,1', *good[51:]]
    records, (refusal,) = papers(tmp_path, *lines)
    assert [record.id for record in records] == [str(n) for n in range(200) if n != 50]
    assert (refusal.line, refusal.raw) == (52, lines[50])
    assert "a quote opened on this line is not closed" in refusal.reason


def test_a_quote_that_swallows_a_quoted_row_is_found_out(tmp_path: Path) -> None:
    records, (refusal,) = papers(
        tmp_path, "1,t,a,x,k,1", '2,t,"a,x,k,1', "3,t,a,x,k,1", '4,"t",a,"x",k,1', '5,t,"b",x,k,0'
    )
    assert [record.id for record in records] == ["1", "3", "4", "5"]
    assert refusal.line == 3


def test_a_bomb_of_open_quotes_is_an_error_with_its_line(tmp_path: Path) -> None:
    lines = [f'{n},"t,a,x,k,1' for n in range(1, 2000, 2)]
    # Each line's quote is closed by the next line's: at once in the wrong place.
    with pytest.raises(InputError, match=r"rows\.csv:\d+: more than 100 lines open a quote"):
        papers(tmp_path, *lines)


def test_a_long_quoted_text_over_many_lines_is_one_row(tmp_path: Path) -> None:
    text = "\n".join(f"line {n}, with a comma" for n in range(500))
    (record, other), refusals = papers(tmp_path, f'1,t,a,"{text}",k,1', "2,t,a,x,k,0")
    assert refusals == []
    assert text in record.body
    # Header, 500 lines of the first row, then the second.
    assert (record.line, other.line) == (2, 502)


def test_rows_are_the_same_wherever_the_file_is_cut_into_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(29)
    texts = ("a", "b,c", 'd"e', "f\ng", "h\r\ni", "，", "", " ", '"', "\n\n")
    for round in range(12):
        rows = [
            [str(n), "t" + dice.choice(texts), "a", "x" + dice.choice(texts), "k", "1"]
            for n in range(12)
        ]
        stream = io.StringIO()
        csv.writer(stream, lineterminator=dice.choice(("\n", "\r\n"))).writerows(rows)
        text = f"{HEADER}\n{stream.getvalue()}"
        if round % 2:  # and one that no writer would write
            place = text.index("\n", dice.randrange(len(HEADER), len(text) - 1)) + 1
            text = f'{text[:place]}x,"open\n{text[place:]}'
        path = put(tmp_path, text)
        answers = []
        for size in (16, 50, 400, 1 << 24):
            monkeypatch.setattr(opening, "BLOCK", size)
            answers.append(read(path, "paper"))
        assert all(answer == answers[-1] for answer in answers)
        if not round % 2:
            assert answers[0][1] == []
            bodies = [f"title:{row[1]},abstract:{row[3]}" for row in rows]
            assert [record.body for record in answers[0][0]] == bodies


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", '问,更多,答\n一,x,二\n"三,三",y,四\n'),
        ("a.tsv", "问\t答\n一\t二\n三,三\t四\n"),
        ("a.jsonl", '{"问": "一", "n": [1], "答": "二"}\n{"答": "四", "问": "三,三"}\n'),
        ("a.json", '[{"问": "一", "答": "二"}, {"答": "四", "问": "三,三", "n": null}]'),
    ],
)
def test_a_table_is_read_by_its_columns_in_every_layout(
    tmp_path: Path, name: str, text: str
) -> None:
    records, refusals = table(put(tmp_path, text, name))
    assert [(r.body, r.target) for r in records] == [("一", "二"), ("三,三", "四")]
    assert refusals == []


def test_tab_separated_text_has_no_quotes(tmp_path: Path) -> None:
    path = put(tmp_path, '"老公"不见面\t娱乐\n"开头\t"教育"\n', "a.tsv")
    columns = {"title": 1, "category": 2}
    records, refusals = table(path, columns=columns, template="headline-category")
    assert [(r.body, r.target) for r in records] == [('"老公"不见面', "娱乐"), ('"开头', '"教育"')]
    assert refusals == []


def test_two_broken_lines_are_never_glued_into_one_row(tmp_path: Path) -> None:
    path = put(tmp_path, "1_!_101_!_news_culture_!_题\n_!_词\n2_!_101_!_news_culture_!_题_!_词\n")
    records, refusals = read(path, "toutiao")
    assert [record.id for record in records] == ["2"]
    assert [(r.line, r.reason) for r in refusals] == [
        (1, "expected 5 fields split by '_!_', got 4"),
        (2, "expected 5 fields split by '_!_', got 2"),
    ]


def test_columns_by_place_read_a_file_without_a_header(tmp_path: Path) -> None:
    for name, text in (
        ("a.csv", "甲,一,x\n乙,二,y\n丙\n"),
        ("a.txt", "甲\t一\tx\n乙\t二\ty\n丙\n"),
    ):
        records, (refusal,) = table(put(tmp_path, text, name), columns={"summary": 1, "content": 2})
        assert [(r.body, r.target, r.line) for r in records] == [("一", "甲", 1), ("二", "乙", 2)]
        assert (refusal.line, "expected 3 fields" in refusal.reason) == (3, True)


@pytest.mark.parametrize(
    ("separator", "text"), [(";", 'a;"b;c"\n'), ("|", "a|b;c\n"), ("::", "a::b;c\n")]
)
def test_a_separator_can_be_named(tmp_path: Path, separator: str, text: str) -> None:
    (record,), _ = table(
        put(tmp_path, text), columns={"content": 1, "summary": 2}, separator=separator
    )
    assert (record.body, record.target) == ("a", "b;c")


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        ("问,回\n一,二\n", {}, "no column '答' in the header, which has '问', '回'"),
        ("问,答,问\n一,二,三\n", {}, "the column '问' is there twice"),
        ("一,二\n", {"content": 1, "summary": 5}, "there is no column 5; the first row has 2"),
        ("问,答\n", {}, "a header without rows"),
    ],
)
def test_columns_that_are_not_there_are_an_error_that_says_which_are(
    tmp_path: Path, text: str, columns: dict[str, int], said: str
) -> None:
    named = columns or {"content": "问", "summary": "答"}
    with pytest.raises(InputError, match="rows") as caught:
        table(put(tmp_path, text), columns=named)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"问": "一"}', "there is no key '答', only '问'"),
        ('{"问": "一", "答": null}', "'答' is null, not text"),
        ('{"问": "一", "答": 2.5}', "'答' is a number, not text"),
        ('{"问": "一", "答": ""}', "'summary' is empty"),
        ('{"问": "一", "问": "三", "答": "二"}', "the key '问' stands twice in one object"),
    ],
)
def test_a_row_of_a_json_table_needs_text_under_its_keys(
    tmp_path: Path, row: str, reason: str
) -> None:
    path = put(tmp_path, '{"问": "一", "答": 7}\n' + row + "\n", "a.jsonl")
    (record,), (refusal,) = table(path)
    # A whole number is text, as it stands: labels are often written so.
    assert record.target == "7"
    assert (refusal.line, refusal.reason) == (2, reason)


def test_parquet_is_read_by_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    columns = {
        "问": pa.array(["一", None, "三", "四\x07"]),
        "答": pa.array(["好", "坏", "", "好"]).dictionary_encode(),
        "n": pa.array([1.5, 2, 3, 4]),
        "码": pa.array([1, 2, 3, 4], pa.int8()),
    }
    pq.write_table(pa.table(columns), path)
    records, refusals = table(path)
    assert [(r.body, r.target, r.line) for r in records] == [("一", "好", 1)]
    assert [(r.line, r.reason, r.raw) for r in refusals] == [
        (2, "'问' is null, not text", '{"问":null,"答":"坏"}'),
        (3, "'summary' is empty", '{"问":"三","答":""}'),
        (4, "'content' holds the control character U+0007 at character 2",
         '{"问":"四\\u0007","答":"好"}'),
    ]  # fmt: skip
    records, _ = table(path, columns={"content": "答", "summary": "码"})
    assert [record.target for record in records] == ["1", "2", "4"]
    for columns, said in (
        ({"content": "问", "summary": "n"}, "the column 'n' holds neither text nor whole numbers"),
        ({"content": "问", "summary": "无"}, "no column '无' in the header"),
        ({"content": 1, "summary": 2}, "the columns of a Parquet file have names, not places"),
    ):
        with pytest.raises(InputError) as caught:
            table(path, columns=columns)
        assert said in str(caught.value)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="not a whole Parquet file"):
        table(path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"template": "ad-text"}, "needs columns (field: column) and a template"),
        ({"columns": {"content": "a", "summary": "b"}}, "needs columns (field: column) and a"),
        ({"columns": {"content": "a"}, "template": "ad-text"}, "needs summary among the columns"),
        (
            {"columns": {"content": "a", "summary": 2}, "template": "ad-text"},
            "by name or by position",
        ),
        (
            {"columns": {"content": "a", "summary": "b", "line": "c"}, "template": "ad-text"},
            "has no field line; it has content, summary, id",
        ),
        ({"columns": {"content": 1, "summary": 2}, "template": "none"}, "unknown template 'none'"),
    ],
)
def test_a_table_says_what_its_mapping_lacks(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        read(put(tmp_path, "a,b\n"), "table", **settings)
    assert said in str(caught.value)
