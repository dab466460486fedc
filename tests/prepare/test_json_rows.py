"""JSON rows: what is cut by the column is what json reads; an array's rows keep their lines."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from glmops.errors import InputError
from glmops.prepare import read
from glmops.prepare.formats import FORMATS
from glmops.prepare.raw import json_arrays
from glmops.prepare.raw.json_lines import plain_rows
from glmops.prepare.raw.objects import unpack_object
from glmops.prepare.targets import BadRow, parse_json

KEYS = {"content": "content", "summary": "summary"}
PIECES = (
    *(
        "类",
        "型#",
        "a",
        " ",
        "，",
        "\u3000",
        "\ufeff",
        "\u2028",
        "😀",
        "\u00a0",
        "\x7f",
        "\x85",
        "{",
        "}",
    ),
    *(",", ":", "'", "\\n", "\\t", "\\r", "\\/", '\\"', "\\\\", "\\u4e2d", "\\ud83d", "\\ude00"),
    *("\\b", "\\f", "\\x", "\\", '"', "\t", "\x01", "\x06", "content", "null", "[1]"),
)
USUAL = (*PIECES[:10], *PIECES[14:18], "\\n", "\\t", "\\r", "\\/", '\\"', "\\\\")
PAIRS = (("content", "summary"), ("summary", "content"))
MARKS = ('{"', '"}', '": "', '", "', '"', "{", "}", ":", ",", " ", "\t", '"content"', '"summary"')


def plain(lines: list[str], **settings: Any) -> dict[str, dict[str, str]]:
    frame = pl.DataFrame(
        {"raw": lines, "line": range(len(lines))}, schema={"raw": pl.String, "line": pl.Int64}
    )
    found, rest = plain_rows(frame, KEYS, exact=True, **settings)
    # Every line is on one side, and both sides keep their order.
    assert sorted([*found["line"], *rest["line"]]) == list(range(len(lines)))
    assert found["line"].is_sorted()
    assert rest["line"].is_sorted()
    return {row["raw"]: row for row in found.select("raw", *KEYS).iter_rows(named=True)}


def strict(line: str) -> dict[str, str] | None:
    """What the strict decoder reads, by json alone; None where it finds a fault."""
    try:
        value = parse_json(line, "the line")
        if set(value) == set(KEYS) and all(isinstance(text, str) for text in value.values()):
            return dict(value)
    except (BadRow, TypeError):
        pass
    return None


def test_a_row_that_is_cut_at_its_quotes_is_the_row_that_json_reads() -> None:
    dice = random.Random(17)
    lines = []
    for _ in range(6000):
        pieces = dice.choice((PIECES, USUAL, USUAL))
        one, other = ("".join(dice.choices(pieces, k=dice.randrange(6))) for _ in range(2))
        first, second = dice.choice((*PAIRS, ("content", "content")))
        line = f'{{"{first}": "{one}", "{second}": "{other}"}}'
        for _ in range(dice.choice((0, 0, 1, 2))):
            place = dice.randrange(len(line) + 1)
            line = line[:place] + dice.choice((*MARKS, *PIECES)) + line[place + dice.randrange(2) :]
        lines.append(line)
    found = plain(lines)
    for line, row in found.items():
        assert strict(line) == {key: row[key] for key in KEYS}, line
    # The property is worth nothing unless many rows are plain, with escapes among them.
    assert len(found) > 1000
    assert sum("\\" in line for line in found) > 300


@pytest.mark.parametrize(
    "line",
    [
        '{"content": "a", "content": "b"}',
        '{"content": "a", "summary": "b", "content": "c"}',
        '{"content": "a", "summary": "b"}{}',
        '{"content": "a", "summary": "b"} x',
        '[{"content": "a", "summary": "b"}]',
        '{"content": "a" "summary": "b"}',
        '{"content": "a", "summary": "b",}',
        '{"content": "a", "summary": 3, "": "b"}',
        '{"content": {"summary": "a"}, "b": "c"}',
        '{"content": "a", "summary": "b\\u0007"}',
        '{"content": "a", "summary": "b\\ud83d"}',
        '{"content": "a\tb", "summary": "b"}',
        '{"content"\\t: "a", "summary": "b"}',
        '{"conten\\u0074": "a", "summary": "b"}',
        '{"content": "a\x01", "summary": "b"}',
        "",
        '"',
    ],
)
def test_what_is_not_plain_is_left_to_the_strict_decoder(line: str) -> None:
    assert plain([line]) == {}


def test_keys_in_any_order_and_optional_ones_absent(tmp_path: Path) -> None:
    rows = [
        {"output": "三", "instruction": "一", "input": "二"},
        {"instruction": "一", "output": "三"},
        {"instruction": "一", "input": "", "output": "三"},
        {"instruction": "一", "input": None, "output": "三"},
        {"instruction": "一", "input": "二", "output": "三", "history": [["四", "五"]]},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    records, refusals = read(path, "alpaca")
    assert refusals == []
    assert [(r.line, r.prompt, r.target) for r in records] == [
        (1, "问：一\n：二\n答：", "三"),
        (2, "问：一\n答：", "三"),
        (3, "问：一\n答：", "三"),
        (4, "问：一\n答：", "三"),
        (5, "问：四\n答：五\n问：一\n：二\n答：", "三"),
    ]


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("indent", [None, 1])
def test_lines_and_arrays_of_the_same_rows_are_the_same_records(
    tmp_path: Path, ascii_only: bool, indent: int | None
) -> None:
    dice = random.Random(19)
    nice = [piece for piece in PIECES if not piece.startswith("\\") and piece >= " "]
    rows = [
        {key: "".join(dice.choices(nice[:10], k=5)) + f'{n}\n\t"\\/' for key in KEYS}
        for n in range(200)
    ]
    for row in rows:
        for key in KEYS:
            row[key] = row[key].replace("\x7f", "").replace("\x85", "")
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    dumped = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    one.write_text("\n".join(dumped), "utf-8", newline="")
    other.write_text(json.dumps(rows, ensure_ascii=ascii_only, indent=indent), "utf-8", newline="")
    (records, bad), (others, other_bad) = read(one, "adgen"), read(other, "adgen")
    assert bad == other_bad == []
    assert [(r.body, r.target) for r in records] == [
        (row["content"], row["summary"]) for row in rows
    ]
    assert [(r.id, r.prompt, r.target) for r in others] == [
        (r.id, r.prompt, r.target) for r in records
    ]
    # With indent 1: "[", then four lines an element ("{", two keys, "}").
    place = (lambda n: 2 + 4 * n) if indent else (lambda n: 1)
    assert [record.line for record in others] == [place(n) for n in range(200)]


def test_an_array_is_read_alike_wherever_its_text_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        '{"content": "一\\n", "summary": "a"}',
        '{"content": "二", "content": "三", "summary": "b"}',
        '{"content": "四", "summary": NaN}',
        "-12.5e3",
        '{"content": "五 ] } , [ {", "summary": "\\"}, {"}',
        "[" * 1200 + "]" * 1200,
        "true",
        '{"content": "六", "summary": "\\ud800"}',
        '{"content": "七", "summary": "c"}',
    ]
    path = tmp_path / "rows.json"
    path.write_text("\n [" + " ,\n\n".join(rows) + "\n]\n ", encoding="utf-8")
    answers = []
    for size in (3, 8, 50, 1 << 20):
        monkeypatch.setattr(json_arrays, "CHUNK", size)
        answers.append(read(path, "adgen"))
    assert all(answer == answers[0] for answer in answers)
    records, refusals = answers[0]
    assert [(r.line, r.target) for r in records] == [(2, "a"), (10, '"}, {'), (18, "c")]
    assert [(r.line, r.reason) for r in refusals] == [
        (4, "the key 'content' stands twice in one object"),
        (6, "the row is not JSON (NaN is no JSON number)"),
        (8, "the row is a number, not an object"),
        (12, "the row is nested too deeply"),
        (14, "the row is true, not an object"),
        (16, "'summary' holds half a character, U+D800 at character 1"),
    ]
    assert [r.raw for r in refusals] == [rows[n] for n in (1, 2, 3, 5, 6, 7)]


@pytest.mark.parametrize(
    ("text", "line", "fault"),
    [
        ('[\n{"content": "a", "summary": "b"},\n]', 3, "a comma stands before the closing ']'"),
        ('[\n{"content": "a", "summary": "b"}\n', 3, "it is never closed"),
        ('[\n{"content": "a", "summary": "b"},\n', 3, "it is never closed"),
        ('[\n{"content": "a"\n "summary": "b"}]', 3, "Expecting ',' delimiter at column"),
        ('[{"content": "a",\n "summary": "b}]', 2, "Unterminated string starting at column"),
        ('[{"content": "a", "summary": "b"}\n{"content": "c"}]', 2, "'{' stands where ',' or ']'"),
        ('[{"content": "a", "summary": "b"}]\n\n[]', 3, "there is more text after its closing"),
        ("[\n\n{\"content\": 'a'}]", 3, "Expecting value at column"),
        ('[{"content": "a", "summary": "b"},\n,{}]', 2, "Expecting value at column"),
    ],
)
def test_an_array_that_is_no_json_names_the_line_of_the_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int, fault: str
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text, encoding="utf-8")
    for size in (1, 4, 1 << 20):
        monkeypatch.setattr(json_arrays, "CHUNK", size)
        with pytest.raises(InputError) as caught:
            read(path, "adgen")
        assert str(caught.value).startswith(f"{path}:{line}: the file is not a JSON array: ")
        assert fault in str(caught.value)


def test_an_element_without_end_is_an_error_before_the_file_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_arrays, "CHUNK", 64)
    monkeypatch.setattr(json_arrays, "LONGEST_LINE", 1000)
    path = tmp_path / "rows.json"
    path.write_text('[{"content": "a", "summary": "b"},\n{"content": "' + "x" * 100_000, "utf-8")
    texts = json_arrays._texts
    read_chunks = []
    monkeypatch.setattr(
        json_arrays, "_texts", lambda *given: (read_chunks.append(t) or t for t in texts(*given))
    )
    with pytest.raises(InputError, match=r"rows\.json:2: .*Unterminated string"):
        read(path, "adgen")
    assert sum(map(len, read_chunks)) < 2000


def test_the_quick_way_through_a_batch_gives_what_one_row_after_the_other_gives(
    tmp_path: Path,
) -> None:
    layout = FORMATS["alpaca"]
    good = {"instruction": "一", "input": "二", "output": "三"}
    kinds: list[dict[str, Any]] = [
        good,
        {"instruction": "一", "output": "三"},
        good | {"input": None},
        good | {"output": 3},
        good | {"output": "\x07"},
        good | {"output": "\ud800"},
        good | {"history": [["a", "b"]]},
        good | {"more": "x"},
        {"instruction": "一"},
    ]
    dice = random.Random(23)
    for number in range(60):
        rows = dice.choices(kinds if number % 2 else kinds[:5], k=4)
        path = tmp_path / "rows.json"
        path.write_text(json.dumps(rows), encoding="utf-8")
        records, refusals = read(path, "alpaca")
        expected = []
        for row in rows:
            try:
                unpack_object(row, layout)
                expected.append("")
            except BadRow as bad:
                expected.append(str(bad))
        assert len(records) == expected.count("")
        assert [r.reason for r in refusals] == [reason for reason in expected if reason]
