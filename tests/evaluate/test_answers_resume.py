"""An evaluation that is killed goes on from its finished rows, and ends as an undisturbed one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glmops.errors import MachineError
from glmops.evaluate.answers import answer_with
from glmops.evaluate.engines import Checkpoint, Torch, open_checkpoint
from glmops.evaluate.journal import Journal
from glmops.evaluate.likelihood import label_likelihoods
from glmops.records import Answer, Record

OPTIONS = {"batch_size": 1, "max_new_tokens": 12}


class Counting:
    """The engine, which notes what it is asked and stops like a killed process after a while."""

    def __init__(self, engine: Torch, batches: int = 1000) -> None:
        self.engine, self.left, self.batches = engine, batches, []
        self.rows_at_once, self.require_room = engine.rows_at_once, engine.require_room

    def write(self, prompts: Sequence[Any], *how: Any) -> Any:
        return self._counted(prompts, self.engine.write, *how)

    def weigh(self, prompts: Sequence[Any], *how: Any) -> Any:
        return self._counted(prompts, self.engine.weigh, *how)

    def _counted(self, prompts: Sequence[Any], do: Callable[..., Any], *how: Any) -> Any:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.batches.append(len(prompts))
        return do(prompts, *how)


@pytest.fixture
def opened(checkpoint: Path) -> Checkpoint:
    return open_checkpoint(checkpoint)


def limited(opened: Checkpoint, batches: int = 1000) -> Checkpoint:
    return replace(opened, engine=Counting(opened.engine, batches))


def killed_after(opened: Checkpoint, rows: list[Record], work: Path, batches: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        answer_with(limited(opened, batches), rows, work=work, **OPTIONS)


def gone_on(opened: Checkpoint, rows: list[Record], work: Path) -> tuple[list[Answer], list[int]]:
    again = limited(opened)
    return answer_with(again, rows, work=work, **OPTIONS), again.engine.batches


def test_a_killed_evaluation_goes_on_from_its_finished_rows(
    opened: Checkpoint, rows: list[Record], tmp_path: Path
) -> None:
    undisturbed = answer_with(opened, rows, **OPTIONS)
    killed_after(opened, rows, tmp_path, 3)
    done: list[int] = []
    again = limited(opened)
    answers = answer_with(again, rows, work=tmp_path, on_rows=done.append, **OPTIONS)
    assert answers == undisturbed
    assert again.engine.batches == [1] * 4  # seven rows, three of which were finished
    assert sum(done) == 7
    assert gone_on(opened, rows, tmp_path) == (undisturbed, [])


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_half_a_line_is_written_again(
    opened: Checkpoint, rows: list[Record], tmp_path: Path, cut: int
) -> None:
    killed_after(opened, rows, tmp_path, 3)
    [journal] = tmp_path.iterdir()
    journal.write_bytes(journal.read_bytes()[:-cut])
    answers, batches = gone_on(opened, rows, tmp_path)
    assert answers == answer_with(opened, rows, **OPTIONS)
    assert sum(batches) > 4
    assert len(Journal(journal).read()) == 7


def test_a_batch_of_which_some_rows_are_lost_is_written_again_as_a_whole(
    opened: Checkpoint, rows: list[Record], tmp_path: Path
) -> None:
    options = {**OPTIONS, "batch_size": 4}
    first = limited(opened)
    undisturbed = answer_with(first, rows, work=tmp_path, **options)
    [journal] = tmp_path.iterdir()
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    again = limited(opened)
    assert answer_with(again, rows, work=tmp_path, **options) == undisturbed
    assert again.engine.batches == first.engine.batches[-1:]
    assert again.engine.batches[0] > 1  # else no batch lost a part


@pytest.mark.parametrize("change", ["row", "limit", "checkpoint"])
def test_rows_of_other_inputs_are_not_gone_on_from(
    opened: Checkpoint, rows: list[Record], tmp_path: Path, change: str
) -> None:
    killed_after(opened, rows, tmp_path, 3)
    options = dict(OPTIONS)
    if change == "row":
        rows = [replace(rows[0], body=rows[0].body + "吗"), *rows[1:]]
    elif change == "limit":
        options["max_new_tokens"] = 11
    else:
        import shutil

        folder = tmp_path / "checkpoint"
        shutil.copytree(opened.folder, folder)
        config = json.loads((folder / "generation_config.json").read_text())
        (folder / "generation_config.json").write_text(json.dumps({**config, "note": 1}))
        opened = replace(opened, folder=folder)
    again = limited(opened)
    answer_with(again, rows, work=tmp_path, **options)
    assert sum(again.engine.batches) == len(rows)


def test_killed_likelihoods_go_on_to_equal_numbers(
    opened: Checkpoint, rows: list[Record], train: list[Record], tmp_path: Path
) -> None:
    undisturbed = label_likelihoods(opened, rows, train, batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        label_likelihoods(limited(opened, 2), rows, train, batch_size=1, work=tmp_path)
    again = limited(opened)
    assert label_likelihoods(again, rows, train, batch_size=1, work=tmp_path) == undisturbed
    assert sum(again.engine.batches) == 2  # four rows to classify


def test_a_damaged_journal_is_read_up_to_the_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "rows.jsonl")
    journal.append({3: ["一\u2028\n", True]})
    journal.append({1: ["二", False]})
    whole = journal.read()
    assert whole == {3: ["一\u2028\n", True], 1: ["二", False]}
    for damage in (b"[5, ", b"\0" * 9 + b"\n", b"7\n", b'["x", 1]\n', b"[1, 2, 3]\n"):
        before = journal.path.read_bytes()
        journal.path.write_bytes(before + damage)
        assert journal.read() == whole
        assert journal.path.read_bytes() == before


def test_a_journal_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=r"file/rows\.jsonl: finished rows could not be written"):
        Journal(tmp_path / "file" / "rows.jsonl").append({1: 2})
