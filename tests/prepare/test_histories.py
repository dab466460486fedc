"""A history in a table: JSON text in a CSV cell, a list in JSON and Parquet; or a named refusal."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glmops.errors import InputError, RecipeError
from glmops.prepare import read
from glmops.prepare.check import check
from glmops.records import Record, Refusal

COLUMNS = {"instruction": "问", "output": "答", "history": "前文"}
PAST = [["你好。", "您好。"], ["“一”？", '{"a": 1}\n好。']]
ROWS: list[tuple[str, str, Any]] = [("再见。", "再见！", PAST), ("几点？", "三点。", None)]
HEAD = '问：你好。\n答：您好。\n问：“一”？\n答：{"a": 1}\n好。\n问：'


def table(path: Path, columns: dict[str, Any] | None = None) -> tuple[list[Record], list[Refusal]]:
    return read(path, "table", columns=columns or COLUMNS, template="instruction")


def write(folder: Path, name: str, rows: list[tuple[str, str, Any]]) -> Path:
    """The rows in the layout that a file of this name has."""
    path = folder / name
    objects = [dict(zip(COLUMNS.values(), row, strict=True)) for row in rows]
    if path.suffix == ".parquet":
        kinds = (pa.string(), pa.string(), pa.list_(pa.list_(pa.string())))
        cells = [
            pa.array(column, kind)
            for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)
        ]
        pq.write_table(pa.table(cells, list(COLUMNS.values())), path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            cells = csv.writer(file)
            cells.writerow(COLUMNS.values())
            for question, answer, past in rows:
                text = past if isinstance(past, str) else json.dumps(past, ensure_ascii=False)
                cells.writerow((question, answer, "" if past is None else text))
    elif path.suffix == ".tsv":
        lines = ["\t".join(COLUMNS.values())]
        lines += [f"{q}\t{a}\t{json.dumps(p) if p else ''}" for q, a, p in rows]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(each) + "\n" for each in objects))
    else:
        path.write_text(json.dumps(objects))
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet"])
def test_a_history_in_a_table_is_read_alike_in_every_layout(tmp_path: Path, name: str) -> None:
    records, refusals = table(write(tmp_path, name, ROWS))
    assert refusals == []
    assert [(r.head, r.body, r.target) for r in records] == [
        (HEAD, "再见。", "再见！"),
        ("问：", "几点？", "三点。"),
    ]
    # 问：你好。\n答：您好。\n are 12 characters, and the second exchange has the head's others.
    assert [r.turns for r in records] == [f"12,{len(HEAD) - 12 - 2}", ""]


@pytest.mark.parametrize(
    ("past", "reason"),
    [
        ('["你好", "您好"]', "'history': item 1 is text, not a [question, answer] pair"),
        ('[["你好"]]', "'history': item 1 is a list of 1, not a [question, answer] pair"),
        ('[["你好", ""]]', "'history': item 1 holds empty text in place of a text"),
        ('[["a", "b"], ["\\u0007", "c"]]', "'history' holds the control character U+0007"),
        ('{"你好": "您好"}', "'history' is an object, not a list of [question, answer] pairs"),
        ("你好。您好。", "the history is not JSON"),
        ("[[", "the history is not JSON"),
        ("7", "'history' is a number, not a list of [question, answer] pairs"),
    ],
)
def test_a_cell_that_is_no_history_is_refused_by_line_and_reason(
    tmp_path: Path, past: str, reason: str
) -> None:
    path = write(tmp_path, "a.csv", [ROWS[0], ("坏", "行", past), ROWS[1]])
    records, (refusal,) = table(path)
    assert len(records) == 2
    assert reason in refusal.reason
    assert refusal.line == 3


def test_a_text_or_nothing_in_place_of_a_list_is_refused_in_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"问": "一", "答": "二", "前文": "你好"}, {"问": "一", "答": "二"}]
    good = {"问": "三", "答": "四", "前文": []}
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, good]))
    (record,), refusals = table(path)
    assert record.head == "问："
    assert [(each.line, each.reason) for each in refusals] == [
        (1, "'history' is text, not a list of [question, answer] pairs"),
        (2, "there is no key '前文', only '问', '答'"),
    ]


def test_a_parquet_column_that_can_be_no_history_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"问": ["一"], "答": ["二"], "前文": [1.5]}), path)
    with pytest.raises(InputError, match="the column '前文' holds neither text nor"):
        table(path)
    pq.write_table(pa.table({"问": ["一"], "答": ["二"], "前文": [[{"q": "a", "a": "b"}]]}), path)
    _, (refusal,) = table(path)
    assert refusal.reason == "'history': item 1 is an object, not a [question, answer] pair"


def test_a_template_without_exchanges_has_no_history(tmp_path: Path) -> None:
    columns = {"content": "问", "summary": "答", "history": "前文"}
    with pytest.raises(RecipeError, match="the template ad-text has no field history"):
        read(write(tmp_path, "a.csv", ROWS), "table", columns=columns, template="ad-text")


def test_the_gate_passes_rows_with_histories(tmp_path: Path) -> None:
    path = write(tmp_path, "a.parquet", ROWS)
    found = check(path, "table", columns=COLUMNS, template="instruction")
    assert (found["accepted"], found["refused"]) == (2, 0)
