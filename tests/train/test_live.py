"""What a run writes down while it runs, and who may read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import toy_model as toy
from glmops.train.candidate import Data, Place, train_candidate
from glmops.train.spool import PROGRESS, SPOOL, append, begin, progress, read, training_key


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, encoded: Path) -> tuple[list[Any], list[Any]]:
    """The history of a run, and the lines of its spool."""
    from glmops.train.candidate import read_encoded

    root = tmp_path_factory.mktemp("ran")
    place = Place(root, root / "scratch", root / "out")
    settings = toy.train_settings(schedule=toy.schedule(epochs=5))
    history, _ = train_candidate(read_encoded(encoded), settings, place)
    return history, read(place.scratch / SPOOL)[0]


def test_every_point_of_the_history_is_seen_live(ran: tuple[list[Any], list[Any]]) -> None:
    history, lines = ran
    seen = {(line["phase"], line["step"]): line["values"] for line in lines if "values" in line}
    assert list(seen) == [(point.phase, point.step) for point in history]
    for point in history:
        values = seen[point.phase, point.step]
        assert values["loss"] == point.loss
        assert values["learning_rate"] == point.learning_rate
        assert values.get("dev_loss") == point.dev_loss
        assert values["gradient_norm"] > 0


def test_tokens_are_those_of_the_rows_and_speed_is_tokens_by_seconds(
    ran: tuple[list[Any], list[Any]], data: Data
) -> None:
    _, lines = ran
    last = [line for line in lines if line.get("phase") == "lora"][-1]
    # Five epochs see every row five times, and padding is no token.
    assert last["tokens"] == 5 * int(data.train.lengths.sum())
    rows = progress(lines)
    assert [tuple(row) for row in rows] == [PROGRESS] * len(rows)
    took = [line["time"] for line in lines if line.get("phase") == "lora" and "values" in line]
    mine = [row["tokens_per_second"] for row in rows if row["phase"] == "lora"]
    # Each value holds for the 5 steps before it, less what measuring the dev rows took.
    share = last["tokens"] / 5
    for speed, start, end in zip(mine[1:], took, took[1:], strict=False):
        assert speed >= 0.9 * share / (end - start)


def test_equal_inputs_have_one_key_and_every_other_input_another(
    encoded: Path, tmp_path: Path, data: Data
) -> None:
    key = training_key(encoded, toy.train_settings())
    assert key == training_key(encoded, toy.train_settings())
    assert key != training_key(encoded, toy.train_settings(seed=2))
    (tmp_path / "other").mkdir()
    for file in encoded.iterdir():
        if file.is_file():
            (tmp_path / "other" / file.name).write_bytes(file.read_bytes())
    assert key != training_key(tmp_path / "other", toy.train_settings())


def test_a_run_that_goes_on_keeps_its_spool_and_another_starts_anew(tmp_path: Path) -> None:
    spool = tmp_path / SPOOL
    begin(spool, "a")
    append(spool, {"phase": "lora", "step": 1, "time": 1.0})
    with spool.open("a") as file:
        file.write('{"phase": "lo')  # killed
    [first, *_], _ = read(spool)
    begin(spool, "a")
    append(spool, {"phase": "lora", "step": 2, "time": 2.0})
    lines, _ = read(spool)
    assert lines[0] == first
    assert [line["step"] for line in lines[1:]] == [1, 2]
    begin(spool, "b")
    [other], _ = read(spool)
    assert (other["training"], first["training"]) == ("b", "a")
    assert other["attempt"] != first["attempt"]


def test_half_a_line_is_left_until_it_is_whole(tmp_path: Path) -> None:
    spool = tmp_path / SPOOL
    assert read(spool) == ([], 0)
    spool.write_text('{"step": 1}\n{"st')
    lines, offset = read(spool)
    assert (lines, offset) == ([{"step": 1}], len('{"step": 1}\n'))
    with spool.open("a") as file:
        file.write('ep": 2}\n')
    assert read(spool, offset)[0] == [{"step": 2}]
