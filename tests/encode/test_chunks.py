from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import toy_model as toy
from glmops.encode import chunks
from glmops.encode.chunks import num_rows, read_chunks, templates_of
from glmops.errors import InputError
from glmops.records import Record, write_table

ROWS = [toy.record(number) for number in range(500)]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "FEWEST", 8)
    monkeypatch.setattr(chunks, "BORDER", 32)
    monkeypatch.setattr(chunks, "MOST", 128)


def _chunks(folder: Path, rows: list[Record]) -> list[list[str]]:
    write_table(folder / "rows.parquet", rows, Record)
    return [chunk.column("id").to_pylist() for chunk in read_chunks(folder / "rows.parquet")]


def test_chunks_are_all_rows_in_order_however_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _chunks(tmp_path, ROWS)
    assert [name for chunk in made for name in chunk] == [row.id for row in ROWS]
    assert all(8 <= len(chunk) <= 128 for chunk in made[:-1])
    assert len(made) > 4
    assert num_rows(tmp_path / "rows.parquet") == len(ROWS)
    for portion in (1, 7, 100):
        monkeypatch.setattr(chunks, "READ_ROWS", portion)
        assert _chunks(tmp_path, ROWS) == made


@pytest.mark.parametrize("place", [0, 250, 499])
def test_a_row_more_moves_only_the_borders_near_it(tmp_path: Path, place: int) -> None:
    before = _chunks(tmp_path, ROWS)
    after = _chunks(tmp_path, [*ROWS[:place], replace(ROWS[0], id="new"), *ROWS[place:]])
    changed = [chunk for chunk in after if chunk not in before]
    assert 1 <= len(changed) <= 2


def test_long_texts_make_short_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "TEXT", 30_000)
    long = [replace(row, body="长" * 3000) for row in ROWS[:10]]  # some 9 kB each
    assert [len(chunk) for chunk in _chunks(tmp_path, long)] == [4, 4, 2]


def test_no_rows_give_no_chunks(tmp_path: Path) -> None:
    assert _chunks(tmp_path, []) == []
    with pytest.raises(InputError, match=r"rows\.parquet: has no rows"):
        templates_of(tmp_path / "rows.parquet")


def test_rows_without_a_template_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "rows.parquet", [replace(ROWS[0], template="")], Record)
    with pytest.raises(InputError, match="a row of it names no template"):
        templates_of(tmp_path / "rows.parquet")


def test_a_file_that_prepare_did_not_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    with pytest.raises(InputError, match=r"rows\.parquet: no such file"):
        list(read_chunks(file))
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"rows\.parquet: not Parquet"):
        list(read_chunks(file))
    pq.write_table(pa.table({"id": ["1"], "head": [""]}), file)
    with pytest.raises(InputError, match=r"has no such column, got 'body'"):
        list(read_chunks(file))
