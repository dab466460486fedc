"""Whole files that cannot be read: one clear error each, which says what the file looks like."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from glmops.errors import InputError
from glmops.prepare import read

GOOD = json.dumps({"context": "问", "target": "答"}, ensure_ascii=False)
HEADLINE = "9_!_101_!_news_culture_!_题_!_"


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(path: Path, format: str) -> str:
    with pytest.raises(InputError) as caught:
        read(path, format)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def zipped(content: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("rows.jsonl", content)
    return stream.getvalue()


@pytest.mark.parametrize("format", ["context-target", "toutiao", "paper", "alpaca"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf\n \n", "the file is empty"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
        (bz2.compress(GOOD.encode()), "this is a bzip2 file"),
        (zipped(GOOD), "this is a zip archive"),
        (gzip.compress(zipped(GOOD), mtime=0), "this is a zip archive"),
        (GOOD.encode("utf-16"), "this is UTF-16 text"),
        (bytes(range(256)) * 4, "this is a binary file"),
        (b"PAR1" + bytes(20), "this is a Parquet file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a Git LFS pointer",
        ),
        (b"a,b\r1,2\r3,4\r", "its lines end with carriage returns alone"),
    ],
)
def test_what_is_no_text_gets_one_error_in_every_format(
    tmp_path: Path, content: bytes, said: str, format: str
) -> None:
    assert said in refused(put(tmp_path / "rows", content), format)


@pytest.mark.parametrize(
    ("format", "content", "said"),
    [
        ("adgen", json.dumps(json.loads(GOOD), indent=1), "one JSON document over several lines"),
        ("adgen", "title,content\n", "a CSV header without rows (first line 'title,content')"),
        ("adgen", "title,content\n甲,乙\n", "this looks like a CSV table"),
        ("adgen", "title\tcontent\n甲\t乙\n", "this looks like a CSV table"),
        ("adgen", f"{HEADLINE}\n", "this looks like lines separated by '_!_'"),
        ("alpaca", "就是一段话。\n", "this looks like plain text"),
        ("alpaca", "[]", "an array without rows"),
        ("alpaca", " [ \n ] \n", "an array without rows"),
        ("toutiao", GOOD, "this looks like JSON lines"),
        ("toutiao", f"[{GOOD}]", "this looks like a JSON array"),
        ("toutiao", "uuid,title\n1,二\n", "this looks like a CSV table"),
        ("toutiao", "就是一段话。\n", "this looks like plain text"),
        ("paper", GOOD, "this looks like JSON lines"),
        ("paper", "uuid,title,author,abstract\n", "a header without rows"),
        ("paper", "uuid,title,author,abstract\n\n", "a header without rows"),
    ],
)
def test_a_file_of_another_format_is_named_as_what_it_looks_like(
    tmp_path: Path, format: str, content: str, said: str
) -> None:
    assert said in refused(put(tmp_path / "rows", content), format)


def test_one_odd_first_line_does_not_condemn_the_file(tmp_path: Path) -> None:
    for first in ("{", "not json, at all", '["a"]', "12", '{"context": '):
        path = put(tmp_path / "rows.jsonl", f"{first}\n{GOOD}\n")
        records, (refusal,) = read(path, "context-target")
        assert (len(records), refusal.line) == (1, 1)


def test_a_folder_in_place_of_a_file_is_read_as_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.txt file in this folder, got 'an empty folder'"):
        read(tmp_path, "toutiao")


def test_every_file_is_looked_at_before_the_first_is_read(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", '{"broken"')
    put(tmp_path / "b.jsonl", "version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match=r"b\.jsonl: this is a Git LFS pointer"):
        read(tmp_path, "adgen")


@pytest.mark.parametrize(
    ("name", "format", "said"),
    [
        ("alpaca_zh_9407_12345.broken.json.gz", "alpaca", "gz:14007: the file is not a JSON array"),
        ("alpaca_zh_9407_12345.broken.json.gz", "toutiao", "this looks like a JSON array"),
        ("toutiao_cat_data.lfs_pointer.txt", "toutiao", "Git LFS pointer"),
        ("toutiao_cat_data.lfs_pointer.txt", "paper", "Git LFS pointer"),
        ("predict_bom_multiline.csv", "adgen", "a CSV table (first line 'title,content,')"),
        ("predict_bom_multiline.csv", "paper", "no column 'uuid' and 'author' and 'abstract'"),
        ("predict_bom_multiline.csv", "toutiao", "a CSV table"),
        ("two_objects_one_line.json", "toutiao", "this looks like JSON lines"),
    ],
)
def test_real_broken_files_get_one_error(
    shared: Callable[[str], Path], name: str, format: str, said: str
) -> None:
    message = refused(shared(f"data/bad_inputs/{name}"), format)
    assert said in message
    # It ends with what to do: a sentence of its own.
    assert message.endswith((".", "`"))


def test_the_two_field_derivative_of_toutiao_is_refused_and_says_how_to_read_it(
    shared: Callable[[str], Path],
) -> None:
    path = shared("data/toutiao/toutiao_title_label_test.txt.gz")
    message = refused(path, "toutiao")
    assert "its lines have 2 fields split by '_!_'" in message
    assert "--format table --separator _!_ --column title=1 --column category=2" in message
    records, refusals = read(
        path,
        "table",
        separator="_!_",
        columns={"title": 1, "category": 2},
        template="headline-category",
    )
    # The data's README: 38,270 rows, labels 0 to 14.
    assert (len(records), refusals) == (38_270, [])
    assert {record.target for record in records} == {str(label) for label in range(15)}
