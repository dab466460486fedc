"""Files appear whole or not at all, and equal values give equal bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from glmops.errors import InputError
from glmops.records import Record, Refusal, Score, read_table, write_table
from glmops.storage import (
    fresh_folder,
    link_raw,
    project_root,
    read_json,
    sha256_json,
    sha256_tree,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "half\ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_appears_only_when_whole(tmp_path: Path) -> None:
    def fail() -> None:
        with fresh_folder(tmp_path / "out") as draft:
            (draft / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
    with fresh_folder(tmp_path / "out") as draft:
        (draft / "whole").write_text("x")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


def test_equal_values_are_equal_bytes_whatever_the_key_order(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": 1, "y": "赛"})
    write_json(tmp_path / "b", {"y": "赛", "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sha256_json({"x": 1, "y": 2}) == sha256_json({"y": 2, "x": 1})


def test_broken_json_is_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{\n"x": \n}')
    with pytest.raises(InputError, match=r"a\.json:3: not JSON"):
        read_json(tmp_path / "a.json")


def test_a_tree_hash_is_the_sha256_of_each_file(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"abc")
    assert sha256_tree(tmp_path) == {"b/c": hashlib.sha256(b"abc").hexdigest()}


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (Record, [Record("i", "triples", "h", "正文", "c", "t", "g", "f", 3)]),
        (Refusal, [Refusal("f", 1, "bad", "\x00raw")]),
        (Score, [Score("i", "generation", "bleu-4", 1.5, 1.0)]),
        (Score, []),
    ],
)
def test_a_table_reads_back_as_it_was_written(kind: type, rows: list, tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", rows, kind)
    write_table(tmp_path / "u.parquet", rows, kind)
    assert read_table(tmp_path / "t.parquet", kind) == rows
    assert (tmp_path / "t.parquet").read_bytes() == (tmp_path / "u.parquet").read_bytes()


def test_a_table_of_other_rows_is_refused_and_one_without_the_last_fields_is_not(
    tmp_path: Path,
) -> None:
    import pyarrow.parquet as pq

    score = Score("r", "triples", "f1", 1.0, 2.0)
    write_table(tmp_path / "t.parquet", [score], Score)
    with pytest.raises(InputError, match="columns are not those of a Refusal, got 'id, task"):
        read_table(tmp_path / "t.parquet", Refusal)
    row = Record("a", "triples", "h", "b", "c", "t", "g", "f", 1)
    write_table(tmp_path / "old.parquet", [row], Record)
    old = pq.read_table(tmp_path / "old.parquet").select(range(9))
    pq.write_table(old, tmp_path / "old.parquet")
    assert read_table(tmp_path / "old.parquet", Record) == [row]


def test_the_project_is_found_from_below_and_its_absence_is_named(tmp_path: Path) -> None:
    (tmp_path / "p" / "recipes").mkdir(parents=True)
    (tmp_path / "p" / "dvc.yaml").touch()
    assert project_root(tmp_path / "p" / "recipes") == tmp_path / "p"
    with pytest.raises(InputError, match="no glmops project here"):
        project_root(tmp_path)


def test_linked_rows_stay_where_they_are_and_a_new_link_replaces_the_old(tmp_path: Path) -> None:
    for name in ("one.jsonl", "two.jsonl"):
        (tmp_path / name).write_text(name)
        assert link_raw(tmp_path / "p", "mine", tmp_path / name) == "data/raw/mine"
    links = list((tmp_path / "p" / "data" / "raw" / "mine").iterdir())
    assert [link.name for link in links] == ["two.jsonl"]
    assert links[0].read_text() == "two.jsonl"
