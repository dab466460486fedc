"""The encoding is found over the whole file, named, and never guessed in silence."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from glmops.errors import InputError
from glmops.prepare import read
from glmops.prepare.raw.encodings import encoding_of
from glmops.prepare.raw.files import RawFile
from glmops.prepare.raw.reading import Opened
from glmops.prepare.rows import read_rows
from glmops.recipe import SourceSettings

TEXTS = ("宽松的阔腿裤", "显瘦、百搭", "镕基𠀀的书", "简约风")


def row(text: str) -> str:
    return json.dumps({"content": text, "summary": f"{text}，好看。"}, ensure_ascii=False)


def put(folder: Path, *lines: bytes, name: str = "rows.jsonl") -> Path:
    (folder / name).write_bytes(b"\n".join(lines) + b"\n")
    return folder / name


def utf8(text: str) -> bytes:
    return row(text).encode()


def gb(text: str) -> bytes:
    return row(text).encode("gb18030")


def named(path: Path, **settings: str) -> str:
    opened: list[Opened] = []
    list(read_rows(path, SourceSettings(format="adgen", **settings), on_file=opened.append))
    (only,) = opened
    return only.encoding


def test_the_same_rows_come_out_of_either_encoding(tmp_path: Path) -> None:
    one = put(tmp_path, *map(utf8, TEXTS), name="a.jsonl")
    other = put(tmp_path, *(gb(text) + b"\r" for text in TEXTS), name="b.jsonl")
    (records, refusals), (others, other_refusals) = read(one, "adgen"), read(other, "adgen")
    assert [(r.id, r.body, r.target) for r in records] == [(r.id, r.body, r.target) for r in others]
    assert [r.body for r in records] == list(TEXTS)
    assert refusals == other_refusals == []
    assert (named(one), named(other)) == ("utf-8", "gb18030")


def test_a_byte_order_mark_says_utf_8_and_is_no_text(tmp_path: Path) -> None:
    path = put(tmp_path, b"\xef\xbb\xbf" + utf8("裤"), utf8("裙"))
    assert [record.body for record in read(path, "adgen")[0]] == ["裤", "裙"]
    assert named(path) == "utf-8"


def test_a_few_broken_lines_of_a_utf_8_file_are_refused_by_line_and_byte(tmp_path: Path) -> None:
    good, bad = [utf8(text) for text in TEXTS], gb("连衣裙")
    records, (refusal,) = read(put(tmp_path, *good[:2], bad, *good[2:]), "adgen")
    assert [record.line for record in records] == [1, 2, 4, 5]
    # 13 bytes of '{"content": "' stand before the first character that is no UTF-8.
    place = len(good[0]) + len(good[1]) + 2 + 13
    assert refusal.line == 3
    assert f"not valid UTF-8 (byte 0x{bad[13]:02x} at position 14)" in refusal.reason
    assert f"byte {place} of the file" in refusal.reason
    assert "a GBK file must be converted first" in refusal.reason
    assert refusal.raw == bad.decode("utf-8", "backslashreplace")


def test_a_utf_8_line_in_a_gb18030_file_is_refused_and_never_read_as_other_characters(
    tmp_path: Path,
) -> None:
    lines = [gb(text * 3) for text in TEXTS * 10]
    lines[7] = '{"content": "甲乙丙丁", "summary": "天地玄黄宇宙"}'.encode()
    assert lines[7].decode("gb18030") != lines[7].decode()  # it can be read as both
    records, (refusal,) = read(put(tmp_path, *lines), "adgen")
    assert len(records) == 39
    assert (refusal.line, refusal.reason[:37]) == (8, "a line in UTF-8 in a GB18030 file, at")
    assert f"byte {sum(len(line) + 1 for line in lines[:7])} of the file" in refusal.reason


def test_a_file_of_half_and_half_is_refused_as_a_whole(tmp_path: Path) -> None:
    path = put(tmp_path, utf8("甲"), *(gb(text * 2) for text in TEXTS))
    with pytest.raises(InputError) as caught:
        read(path, "adgen")
    message = str(caught.value)
    assert message.startswith(
        f"{path}:2: the file mixes encodings: 1 lines are UTF-8 and 4 are not"
    )
    assert f"byte {len(utf8('甲')) + 1 + 13} of the file" in message
    # To name the encoding is the way out: then only the other lines are refused.
    records, refusals = read(path, "adgen", encoding="gb18030")
    assert ([record.line for record in records], len(refusals)) == ([2, 3, 4, 5], 1)
    records, refusals = read(path, "adgen", encoding="utf-8")
    assert ([record.line for record in records], len(refusals)) == ([1], 4)


def test_bytes_that_no_encoding_has_are_named_by_line_and_byte(tmp_path: Path) -> None:
    lines = [gb(text) for text in TEXTS]
    lines[2] = lines[2].replace(b"content", b"con\xff\xfftent")
    with pytest.raises(InputError) as caught:
        read(put(tmp_path, *lines), "adgen")
    place = len(lines[0]) + len(lines[1]) + 2 + lines[2].index(b"\xff")
    assert "rows.jsonl:3: the file is neither UTF-8 nor GB18030" in str(caught.value)
    assert f"byte {place} of the file" in str(caught.value)


def test_western_text_in_one_byte_a_character_is_not_taken_for_chinese(tmp_path: Path) -> None:
    # Latin-1's "é" before a letter is a pair that GB18030 would read as one Chinese character.
    lines = [f'{{"content": "r{n}", "summary": "résumé déjà vu"}}' for n in range(5)]
    path = put(tmp_path, *(line.encode("latin-1") for line in lines))
    with pytest.raises(InputError, match=r"rows\.jsonl:1: "):
        read(path, "adgen")


def test_plain_ascii_is_utf_8(tmp_path: Path) -> None:
    assert named(put(tmp_path, b'{"content": "a", "summary": "b"}')) == "utf-8"


def test_random_chinese_files_are_always_recognised(tmp_path: Path) -> None:
    dice = random.Random(11)
    # GB2312's first level: the 3,755 most frequent characters, rows 16 to 55 of the standard.
    common = [
        bytes((high, low)).decode("gb2312")
        for high in range(0xB0, 0xD8)
        for low in range(0xA1, 0xFF if high < 0xD7 else 0xFA)
    ]
    for _ in range(60):
        texts = ["".join(dice.choices(common, k=dice.randrange(4, 40))) for _ in range(30)]
        for encoding, encode in (("utf-8", utf8), ("gb18030", gb)):
            path = put(tmp_path, *map(encode, texts))
            assert encoding_of(RawFile(path, "rows")).name == encoding
            assert encoding_of(RawFile(path, "rows")).clean


def test_a_declared_encoding_is_held_to(tmp_path: Path) -> None:
    path = put(tmp_path, *map(gb, TEXTS))
    assert named(path, encoding="gb18030") == "gb18030"
    records, refusals = read(path, "adgen", encoding="utf-8")
    assert (records, len(refusals)) == ([], 4)


def test_bad_bytes_inside_a_json_array_and_a_csv_cell_refuse_that_row_alone(
    tmp_path: Path,
) -> None:
    rows = [utf8(text) for text in TEXTS]
    rows[1] = gb("连衣裙")
    whole = b"[\n" + b",\n".join(rows) + b"\n]"
    path = tmp_path / "rows.json"
    path.write_bytes(whole)
    records, (refusal,) = read(path, "adgen")
    assert [record.line for record in records] == [2, 4, 5]
    place = whole.index(rows[1]) + 13
    assert (refusal.line, f"byte {place} of the file" in refusal.reason) == (3, True)
    assert "not valid UTF-8 (byte 0x" in refusal.reason

    lines = ["uuid,title,author,abstract,label", "1,甲,a,乙,1", "2,甲,a,乙,0", "3,甲,a,乙,0"]
    raw = [line.encode() for line in lines]
    raw[2] = lines[2].encode("gb18030")
    table = put(tmp_path, *raw, name="rows.csv")
    records, (refusal,) = read(table, "paper")
    assert [record.line for record in records] == [2, 4]
    place = len(raw[0]) + len(raw[1]) + 2 + 2
    assert (refusal.line, f"byte {place} of the file" in refusal.reason) == (3, True)
