"""Answers of a real, if random, GLM; the oracle is greedy decoding written out token by token."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from glmops.contract import load_contract
from glmops.errors import InputError
from glmops.evaluate.answers import answer
from glmops.models import load
from glmops.models.tokenizers import prompt_ids
from glmops.records import Record
from glmops.templates import Prompt


def one_token_at_a_time(checkpoint: Path, row: Record, limit: int) -> tuple[str, bool]:
    """The whole sequence again for every token: no cache, no batch, no padding."""
    import torch

    model, tokenizer = load(checkpoint)
    prompt = prompt_ids(Prompt(row.head, row.body, row.cue), load_contract(checkpoint), tokenizer)
    stop = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    written: list[int] = []
    while len(written) < limit:
        with torch.no_grad():
            logits = model(torch.tensor([prompt + written]), use_cache=False).logits
        token = int(logits[0, -1].argmax())
        if token == stop:
            return tokenizer.decode(written, skip_special_tokens=True), True
        written.append(token)
    return tokenizer.decode(written, skip_special_tokens=True), False


def test_every_row_gets_the_greedy_answer_of_its_own_prompt_in_row_order(
    checkpoint: Path, rows: list[Record]
) -> None:
    answers = answer(checkpoint, rows, batch_size=3, max_new_tokens=24)
    expected = [one_token_at_a_time(checkpoint, row, 24) for row in rows]
    assert [(a.answer, a.finished) for a in answers] == expected
    assert [(a.id, a.task, a.prompt, a.target) for a in answers] == [
        (row.id, row.task, row.prompt, row.target) for row in rows
    ]
    # The check would be empty if all answers were one, or none stopped, or all did.
    assert len({text for text, _ in expected}) > 3
    assert {finished for _, finished in expected} == {True, False}


def test_the_batch_size_does_not_change_an_answer(checkpoint: Path, rows: list[Record]) -> None:
    one, all_at_once = (
        answer(checkpoint, rows, batch_size=size, max_new_tokens=12) for size in (1, 100)
    )
    assert one == all_at_once


def test_no_records_are_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no records to answer"):
        answer(tmp_path / "absent", [], batch_size=1, max_new_tokens=1)


def test_a_checkpoint_without_a_contract_or_with_an_unknown_template_is_refused(
    checkpoint: Path, rows: list[Record], tmp_path: Path
) -> None:
    copy = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, copy)
    contract = json.loads((copy / "contract.json").read_text())
    (copy / "contract.json").write_text(json.dumps({**contract, "templates": {"chat": "0"}}))
    with pytest.raises(InputError, match=r"contract\.json: unknown prompt template, got 'chat'"):
        answer(copy, rows, batch_size=1, max_new_tokens=1)
    (copy / "contract.json").unlink()
    with pytest.raises(InputError, match=r"contract\.json: no such file"):
        answer(copy, rows, batch_size=1, max_new_tokens=1)
