"""Whole files: which are read, and one clear error for each that cannot be."""

from __future__ import annotations

import bz2
import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from glmops.errors import InputError
from glmops.prepare.files import hash_of, lines_of, raw_files, require_json_lines

GOOD = json.dumps({"context": "问", "target": "答"}, ensure_ascii=False)


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def require_all(path: Path) -> None:
    for file in raw_files(path):
        require_json_lines(file)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        require_all(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf\n \n", "the file is empty"),
        (gzip.compress(GOOD.encode(), mtime=0), "this is a gzip file"),
        (bz2.compress(GOOD.encode()), "this is a bzip2 file"),
        (GOOD.encode("utf-16"), "this is UTF-16 text"),
        (bytes(range(256)) * 4, "this is a binary file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a Git LFS pointer",
        ),
        (f"[{GOOD}, {GOOD}]", "looks like a JSON array"),
        (f"[\n{GOOD},\n{GOOD}\n]\n", "looks like a JSON array"),
        (json.dumps(json.loads(GOOD), indent=1), "looks like one JSON document over several lines"),
        ("title,content\n", "looks like a CSV header without rows (first line 'title,content')"),
        ("title,content\n甲,乙\n", "looks like a CSV table"),
        ("title\tcontent\n甲\t乙\n", "looks like a CSV table"),
        ("9_!_101_!_文化_!_题_!_\n", "looks like lines separated by '_!_'"),
        ("就是一段话。\n", "looks like plain text"),
    ],
)
def test_a_file_of_another_kind_gets_one_error_that_says_what_it_is(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    path = put(tmp_path / "rows.jsonl", content)
    message = refused(path)
    assert said in message
    assert message.startswith(str(path))
    assert "\n" not in message


def test_an_archive_is_named_as_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rows.jsonl", "w") as archive:
        archive.writestr("rows.jsonl", GOOD)
    assert "this is a zip archive" in refused(tmp_path / "rows.jsonl")


def test_what_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "gone.jsonl")
    assert "no such file or folder" in refused(tmp_path / "none.jsonl")
    assert "a link to nothing" in refused(tmp_path / "link.jsonl")
    # Inside a folder, too: a row file must not vanish in silence.
    assert "a link to nothing" in refused(tmp_path)


def test_a_folder_without_rows_says_what_it_holds(tmp_path: Path) -> None:
    assert "got 'an empty folder'" in refused(tmp_path)
    put(tmp_path / "a.csv", "x,y\n")
    put(tmp_path / "b.txt", "x\n")
    assert "no .jsonl or .json file in this folder, got 'a.csv, b.txt'" in refused(tmp_path)


def test_one_odd_first_line_does_not_condemn_the_file(tmp_path: Path) -> None:
    for first in ("{", "not json, at all", '["a"]', "12", '{"context": '):
        require_all(put(tmp_path / "rows.jsonl", f"{first}\n{GOOD}\n"))


def test_a_folder_is_read_in_sorted_order_through_links_without_hidden_files(
    tmp_path: Path,
) -> None:
    outside = put(tmp_path / "outside" / "deep" / "z.jsonl", GOOD).parents[1]
    folder = tmp_path / "raw"
    for name in ("b.jsonl", "a/2.JSON", "a/1.jsonl", ".hidden.jsonl", ".git/x.jsonl", "notes.md"):
        put(folder / name, GOOD)
    (folder / "c").symlink_to(outside)
    (folder / "aa.jsonl").symlink_to(outside / "deep" / "z.jsonl")
    names = [file.path.relative_to(folder).as_posix() for file in raw_files(folder)]
    assert names == ["a/1.jsonl", "a/2.JSON", "aa.jsonl", "b.jsonl", "c/deep/z.jsonl"]


def test_the_only_file_of_a_folder_is_taken_whatever_its_name(tmp_path: Path) -> None:
    rows = put(tmp_path / "mine" / "rows.txt", GOOD)
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "rows.txt").symlink_to(rows)
    assert [file.path.name for file in raw_files(folder)] == ["rows.txt"]


def test_a_link_in_a_circle_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "raw" / "a.jsonl", GOOD)
    (tmp_path / "raw" / "again").symlink_to(tmp_path / "raw")
    assert "leads back to a folder above it" in refused(tmp_path / "raw")


def test_names_are_relative_to_the_project_and_else_as_given(tmp_path: Path) -> None:
    inside = put(tmp_path / "project" / "data" / "a.jsonl", GOOD)
    outside = put(tmp_path / "b.jsonl", GOOD)
    root = tmp_path / "project"
    assert [file.shown for file in raw_files(inside, root)] == ["data/a.jsonl"]
    assert [file.shown for file in raw_files(inside.parent, root)] == ["data/a.jsonl"]
    assert [file.shown for file in raw_files(outside, root)] == [str(outside)]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    text = "\ufeff一\u2028二\u0085三\r\n\r\n四"
    (file,) = raw_files(put(tmp_path / "rows.jsonl", text))
    lines = list(lines_of(file))
    assert [line.raw.decode() for line in lines] == ["一\u2028二\u0085三", "", "四"]
    assert [(line.number, line.last) for line in lines] == [(1, False), (2, False), (3, True)]


def test_the_raw_hash_follows_bytes_and_names_and_nothing_else(tmp_path: Path) -> None:
    def hashed(name: str, rows: dict[str, str]) -> str:
        for place, content in rows.items():
            put(tmp_path / name / place, content)
        return hash_of(tmp_path / name, raw_files(tmp_path / name))

    first = hashed("one", {"a.jsonl": "1", "b.jsonl": "2"})
    assert first == hashed("elsewhere", {"b.jsonl": "2", "a.jsonl": "1"})
    assert first != hashed("changed", {"a.jsonl": "1", "b.jsonl": "3"})
    assert first != hashed("renamed", {"a.jsonl": "1", "c.jsonl": "2"})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("alpaca_zh_9407_12345.broken.json.gz", "gzip"),
        ("toutiao_cat_data.lfs_pointer.txt", "Git LFS pointer"),
        ("predict_bom_multiline.csv", "CSV"),
    ],
)
def test_real_files_of_another_kind_get_one_error(
    shared: Callable[[str], Path], name: str, said: str
) -> None:
    assert said in refused(shared(f"data/bad_inputs/{name}"))
