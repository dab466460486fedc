"""Files of predictions and references: every shape that is read, every fault that is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glmops.errors import InputError, RecipeError
from glmops.evaluate.pairing import Paired, pair_files


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def pair(task: str, a: Path, b: Path | None = None, **fields: str) -> Paired:
    return pair_files(task, a, b, fields)


@pytest.mark.parametrize(
    "rows",
    [
        [{"labels": "a", "predict": "b"}, {"labels": "c", "predict": "d"}],
        [{"prompt": "p", "predict": p, "label": r} for r, p in ("ab", "cd")],
        [{"id": 1, "task": "generation", "prompt": "p", "target": t, "answer": a, "finished": True}
         for t, a in ("ab", "cd")],
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["lines", "list", "document", "bom"])
def test_one_file_with_both_columns_is_read_in_every_shape(
    tmp_path: Path, rows: list[dict], shape: str
) -> None:
    if rows[0].get("id"):
        rows[1]["id"] = 2
    path = lines(tmp_path / "generated_predictions.txt", *rows)
    if shape == "list":
        path.write_text(json.dumps(rows, indent=1))
    if shape == "document":
        path = tmp_path / "pairs.json"
        path.write_text(json.dumps({"version": 1, "pairs": rows}))
    if shape == "bom":
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    got = pair("generation", path)
    assert (got.predictions, got.references) == (["b", "d"], ["a", "c"])


def test_a_text_file_has_one_answer_a_line_and_an_empty_line_is_an_empty_answer(
    tmp_path: Path,
) -> None:
    a, b = tmp_path / "a.txt", tmp_path / "b.txt"
    a.write_text('["水果"]\n\n衣服\n')
    b.write_text("水果\n酒店\n衣服\n")
    got = pair("classification", a, b)
    assert got.predictions == ['["水果"]', "", "衣服"]
    assert got.names == [f"{b}:{number}" for number in (1, 2, 3)]


def test_rows_meet_by_id_in_whatever_order(tmp_path: Path) -> None:
    a = lines(tmp_path / "a.jsonl", {"id": 2, "answer": "b"}, {"id": 1, "answer": "a"})
    b = lines(tmp_path / "b.jsonl", {"id": "1", "target": "A"}, {"id": "2", "target": "B"})
    got = pair("generation", a, b)
    assert (got.predictions, got.references) == (["a", "b"], ["A", "B"])
    assert got.notes == ["the files differ in order: their rows are paired by id"]


def test_without_ids_the_order_counts_and_is_said(tmp_path: Path) -> None:
    a = lines(tmp_path / "a.jsonl", {"output": "a"}, {"output": None})
    b = lines(tmp_path / "b.jsonl", {"output": "A"}, {"output": 3})
    got = pair("generation", a, b)
    assert (got.predictions, got.references) == (["a", ""], ["A", "3"])
    assert "paired by their order" in got.notes[0]


def test_lists_are_written_as_an_answer_of_the_task(tmp_path: Path) -> None:
    fact = {"subject": "a", "predicate": "b", "object": "c"}
    for task, value, text in (
        ("triples", [fact], f"```json\n[{json.dumps(fact)}]\n```"),
        ("classification", ["水果"], '["水果"]'),
        ("keywords", ["a", "b"], "a, b"),
    ):
        path = lines(tmp_path / "both.jsonl", {"predict": value, "label": value})
        assert pair(task, path).references == [text]


def test_a_field_is_found_by_its_given_name(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", {"mine": "a", "yours": "b", "predict": "c"})
    got = pair("generation", path, prediction="mine", reference="yours")
    assert (got.predictions, got.references) == (["a"], ["b"])
    with pytest.raises(InputError, match=r"x.jsonl:1: no field for the prediction, got 'theirs'"):
        pair("generation", path, prediction="theirs")
    with pytest.raises(RecipeError, match=r"unknown role, got 'predictoin'\. Known: prediction"):
        pair("generation", path, predictoin="mine")


def test_only_rows_of_the_task_are_scored_and_the_others_are_counted(tmp_path: Path) -> None:
    rows = [{"task": t, "answer": "a", "target": "b"} for t in ("keywords", "triples", "keywords")]
    path = lines(tmp_path / "answers.jsonl", *rows)
    got = pair("keywords", path)
    assert (len(got.references), got.notes) == (2, ["1 rows of other tasks are left out"])
    with pytest.raises(InputError, match="no row of the task generation, got 'keywords, triples'"):
        pair("generation", path)


BAD = {
    "different length": ([{"p": "a"}, {"p": "b"}], [{"r": "a"}], "as many .*, got '?2 and 1"),
    "id twice": (
        [{"id": 1, "p": "a"}, {"id": 1, "p": "b"}],
        [{"id": 1, "r": "a"}, {"id": 2, "r": "b"}],
        r"a.jsonl:2: the id occurs twice, got '1'. It is the id of .*a.jsonl:1 too",
    ),
    "id of no answer": (
        [{"id": 1, "p": "a"}], [{"id": 1, "r": "a"}, {"id": 2, "r": "b"}],
        r"b.jsonl:2: 1 ids have no prediction, got '2'",
    ),
    "id of no reference": (
        [{"id": 1, "p": "a"}, {"id": 2, "p": "a"}], [{"id": 1, "r": "a"}],
        r"a.jsonl:2: 1 ids have no reference, got '2'",
    ),
    "no id": ([{"id": 1, "p": "a"}, {"p": "b"}], [{"id": 1, "r": "a"}], "the row has no id"),
    "no text": ([{"p": {"x": 1}}], [{"r": "a"}], "a.jsonl:1: the prediction is no text"),
    "null": ([{"p": "a"}], [{"r": None}], "b.jsonl:1: the reference is no text"),
    "another shape": ([{"p": "a"}, ["b"]], [{"r": "a"}], "a.jsonl:2: expected an object"),
    "another field": ([{"p": "a"}, {"q": "b"}], [{"r": "a"}] * 2, "a.jsonl:2: the row has no"),
    "several fields": ([{"predict": "a", "prediction": "b"}], [{"r": "a"}], "several fields"),
    "no field": ([{"u": "a", "v": "b"}], [{"r": "a"}], "no field that is .*, got 'u, v'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_files_that_do_not_fit_are_refused_by_place(tmp_path: Path, name: str) -> None:
    first, second, what = BAD[name]
    a, b = lines(tmp_path / "a.jsonl", *first), lines(tmp_path / "b.jsonl", *second)
    with pytest.raises(InputError, match=what):
        pair("generation", a, b)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "no such file"),
        (b"", "the file holds no rows"),
        (b"\xef\xbb\xbf \n", "the file holds no rows"),
        ("水果".encode("gb18030"), "not UTF-8"),
        (b'{"predict": "a", "label": "b"}\n\n{"predict": "a", "label": "b"}\n', ":2: expected one"),
        (b'{"predict": "a", "label": "b"}\n{"pred', ":2: expected one JSON"),
        (b"[" * 100_000, ":1: expected one JSON"),
        (b'"a"\n"b"\n', "no field that is the reference, got 'a bare text'"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, content: bytes | None, what: str
) -> None:
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=what):
        pair("generation", path)
