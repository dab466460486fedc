from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import toy_batches as toy
from glmops.errors import InputError
from glmops.train.rows import Row, read_rows

VOCABULARY = 10


def _row(ids: list[int], mask: list[int], segments: tuple[int, ...] = ()) -> Row:
    learnt = np.array(mask, bool)
    return Row("row-0", np.array(ids, np.int32), learnt, segments or (len(ids),))


def test_rows_are_what_was_written_whatever_record_batch_they_are_in(tmp_path: Path) -> None:
    written = [replace(row, name=f"row-{n}") for n, row in enumerate(toy.rows(range(6, 30)))]
    parts = [written[:5], [], written[5:6], written[6:]]
    rows = read_rows(toy.write(tmp_path / "rows.arrow", parts), 400)
    assert len(rows) == len(written)
    assert rows.lengths.tolist() == [len(row.input_ids) for row in written]
    for index in np.random.default_rng(0).permutation(len(written)).tolist():
        found, expected = rows[index], written[index]
        assert found.input_ids.tolist() == expected.input_ids.tolist()
        assert found.learnt.dtype == bool
        assert found.learnt.tolist() == expected.learnt.tolist()
        assert (found.name, found.segments) == (expected.name, expected.segments)
        assert rows.names(index) == [expected.name]


def test_packs_keep_their_segments_and_names(tmp_path: Path) -> None:
    packs = [toy.pack(toy.rows(lengths)) for lengths in ((6, 9), (7,), (8, 6, 10))]
    rows = read_rows(toy.write(tmp_path / "p.arrow", [packs[:1], packs[1:]], packed=True), 400)
    assert rows.packed
    assert [rows[n].segments for n in range(3)] == [(6, 9), (7,), (8, 6, 10)]
    assert rows[2].name == "row-0.0"
    assert rows.names(2) == ["row-0.0", "row-0.1", "row-0.2"]


@pytest.mark.parametrize("index", [-1, 4, 10**9])
def test_only_a_row_that_does_not_exist_is_out_of_range(tmp_path: Path, index: int) -> None:
    rows = read_rows(toy.write(tmp_path / "rows.arrow", [toy.rows([6, 7, 8, 9])]), 400)
    assert len(list(rows)) == 4  # Python iterates by asking until it hears that there is no more
    with pytest.raises(IndexError, match=rf"rows.arrow has rows 0 to 3, got {index}"):
        rows[index]


def test_tokens_are_answers_prompts_or_the_first_of_a_row(tmp_path: Path) -> None:
    plain = [_row([1, 2, 3, 4], [0, 0, 1, 1]), _row([5, 6], [1, 1])]
    rows = read_rows(toy.write(tmp_path / "rows.arrow", [plain]), VOCABULARY)
    # By hand: 3, 4 and 6 are answers that something stands before; 2 is a prompt's; 1 and 5 begin.
    assert (rows.num_tokens, rows.num_learnt, rows.num_prompt) == (6, 3, 1)
    pack = [_row([1, 2, 3, 4, 5, 6], [0, 0, 1, 1, 1, 1], (4, 2))]
    packed = read_rows(toy.write(tmp_path / "packs.arrow", [pack], packed=True), VOCABULARY)
    assert (packed.num_tokens, packed.num_learnt, packed.num_prompt) == (6, 3, 1)


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        ([5, 10], [0, 1], r"row row-0: a token id is outside the vocabulary of 10, got 10"),
        ([5, -1], [0, 1], r"outside the vocabulary of 10, got -1"),
        ([5, 6], [0, 0], r"row row-0: none of its 2 tokens is learnt"),
        ([5, 6], [1, 0], r"none of its 2 tokens is learnt"),  # nothing stands before the first one
        ([], [], r"none of its 0 tokens is learnt"),
        ([5, 6, 7], [0, 1], r"input_ids, loss_mask and segments are not of one length"),
    ],
)
def test_a_row_that_would_train_to_nonsense_is_refused(
    tmp_path: Path, ids: list[int], mask: list[int], message: str
) -> None:
    good = replace(_row([5, 6], [0, 1]), name="good")
    path = toy.write(tmp_path / "rows.arrow", [[good], [good, _row(ids, mask), good]])
    with pytest.raises(InputError, match=message):
        read_rows(path, VOCABULARY)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ((4, 2), r"row row-0.1: none of its 2 tokens is learnt"),
        ((6, 1), r"row row-0.0: its input_ids, loss_mask and segments are not of one length"),
    ],
)
def test_a_pack_is_refused_for_one_of_its_rows(
    tmp_path: Path, segments: tuple[int, ...], message: str
) -> None:
    pack = _row([1, 2, 3, 4, 5, 6], [0, 0, 1, 1, 1, 0], segments)
    with pytest.raises(InputError, match=message):
        read_rows(toy.write(tmp_path / "packs.arrow", [[pack]], packed=True), VOCABULARY)


@pytest.mark.parametrize(
    ("ids", "mask", "kind", "message"),
    [
        ([1, 2], [0, 2], pa.int8(), r"loss_mask holds other numbers than 0 and 1"),
        ([1, None], [0, 1], pa.int8(), r"not a stream of encoded rows"),
        ([1, 2], [0, None], pa.int8(), r"not a stream of encoded rows"),
        ([1, 2], [False, True], pa.bool_(), r"not a stream of encoded rows"),
        (["a", "b"], [0, 1], pa.int8(), r"not a stream of encoded rows"),
    ],
)
def test_a_list_of_anything_but_whole_numbers_is_refused(
    tmp_path: Path, ids: list[Any], mask: list[Any], kind: pa.DataType, message: str
) -> None:
    masks = pa.array([mask], pa.list_(kind))
    table = pa.table({"id": ["a"], "input_ids": [ids], "loss_mask": masks})
    path = tmp_path / "rows.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    with pytest.raises(InputError, match=message):
        read_rows(path, VOCABULARY)


def test_a_file_that_is_no_stream_of_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file"):
        read_rows(tmp_path / "absent.arrow", 10)
    with pytest.raises(InputError, match=r"has no rows"):
        read_rows(toy.write(tmp_path / "empty.arrow", []), 10)
    (tmp_path / "text.arrow").write_text("not arrow at all, and long enough to be read")
    with pytest.raises(InputError, match=r"not a stream of encoded rows"):
        read_rows(tmp_path / "text.arrow", 10)


@pytest.mark.parametrize("kept", [0.5, 0.99, -8])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, kept: float) -> None:
    # Without its last 8 bytes Arrow still reads it: a cut between two batches looks the same.
    path = toy.write(tmp_path / "rows.arrow", [toy.rows([6] * 50)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept if kept < 0 else kept * len(whole))])
    with pytest.raises(InputError, match=r"not a stream of encoded rows|its end is cut off"):
        read_rows(path, 400)
