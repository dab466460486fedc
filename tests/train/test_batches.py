from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch

import toy_model as toy
from glmops.errors import InputError
from glmops.train.batches import IGNORED, Row, read_rows, right_padded
from glmops.train.candidate import Data


def _write(path: Path, ids: list[list[int]], masks: list[list[int]]) -> Path:
    names = [f"row-{number}" for number in range(len(ids))]
    types = [pa.string(), pa.list_(pa.int32()), pa.list_(pa.int8())]
    columns = [pa.array(v, t) for v, t in zip((names, ids, masks), types, strict=True)]
    table = pa.table(columns, ["id", "input_ids", "loss_mask"])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return path


def test_labels_are_the_ids_where_the_mask_is_one(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.arrow", [[5, 6, 7], [8, 9]], [[0, 1, 1], [1, 1]])
    first, second = read_rows(path, 10)
    assert first == {"input_ids": [5, 6, 7], "labels": [IGNORED, 6, 7]}
    assert second == {"input_ids": [8, 9], "labels": [8, 9]}


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        ([5, 10], [0, 1], r"row row-0: a token id is outside the vocabulary of 10, got 10"),
        ([5, -1], [0, 1], r"outside the vocabulary of 10, got -1"),
        ([5, 6], [0, 0], r"row row-0: none of its 2 tokens is learnt"),
        (
            [5, 6],
            [1, 0],
            r"none of its 2 tokens is learnt",
        ),  # nothing stands before the first token
        ([], [], r"none of its 0 tokens is learnt"),
    ],
)
def test_a_row_that_would_train_to_nonsense_is_refused(
    tmp_path: Path, ids: list[int], mask: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_rows(_write(tmp_path / "rows.arrow", [ids], [mask]), 10)


def test_a_file_that_is_no_stream_of_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file"):
        read_rows(tmp_path / "absent.arrow", 10)
    with pytest.raises(InputError, match=r"has no rows"):
        read_rows(_write(tmp_path / "empty.arrow", [], []), 10)
    (tmp_path / "text.arrow").write_text("not arrow at all, and long enough to be read")
    with pytest.raises(InputError, match=r"not a stream of encoded rows"):
        read_rows(tmp_path / "text.arrow", 10)


def _loss_of_one(model: torch.nn.Module, row: Row) -> tuple[float, int]:
    """The oracle: one unpadded row, all its logits, and the textbook cross entropy."""
    logits = model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False).logits[0]
    chances = logits.log_softmax(-1)
    learnt = [(i, t) for i, t in enumerate(row["labels"]) if t != IGNORED and i > 0]
    return -sum(float(chances[i - 1, t]) for i, t in learnt), len(learnt)


@pytest.mark.parametrize("kind", ["base", "train"])
def test_padding_and_left_out_logits_do_not_change_the_loss(data: Data, kind: str) -> None:
    model, rows = toy.model(), getattr(data, kind)[:7]
    rows[2] = {name: column[:-3] for name, column in rows[2].items()}  # unequal lengths
    rows[2]["labels"][-1] = rows[2]["input_ids"][-1]
    batch = right_padded(0)(rows)
    with torch.no_grad():
        alone = [_loss_of_one(model, row) for row in rows]
        together = float(model(**batch).loss)
    # fp32 sums in another order: 1e-5 of the value.
    expected = sum(loss for loss, _ in alone) / sum(count for _, count in alone)
    assert together == pytest.approx(expected, rel=1e-5)


def test_logits_are_made_only_from_the_token_before_the_first_learnt_one(data: Data) -> None:
    rows = data.train[:4]
    batch = right_padded(0)(rows)
    prompt = min(row["labels"].count(IGNORED) for row in rows)
    assert batch["logits_to_keep"] == batch["input_ids"].shape[1] - prompt + 1
    assert batch["labels"].shape[1] == batch["logits_to_keep"]
