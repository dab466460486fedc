"""Rows as the authors' own training scripts make them, ids and labels, from the reference data.

The official lengths are 64 source and 64 target tokens. Where we differ on purpose, a test says so:
a row that is too long (the scripts cut the cue and the answer; we cut the body or refuse), and
ChatGLM-6B's ``<sop>``, which the scripts have the model learn (docs/decisions/008).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import toy_tokenizers as tokenizers
from glmops.contract import contract_for
from glmops.encode.examples import batch_encoder
from glmops.encode.plan import make_plan
from glmops.models.tokenizers import special_ids
from glmops.templates import Prompt

LONG = 3  # the row that is longer than both limits; the others are not touched by them
IGNORED = -100
HISTORY = [False, True]


def _reference(family: str, history: bool, shared: Any) -> tuple[list[dict], dict]:
    file = shared(f"{tokenizers.ORIGINAL[family]}/reference.json")
    stored = json.loads(file.read_text(encoding="utf-8"))
    [official] = [
        each["train"] for each in stored["preprocess"] if each["settings"]["history"] == history
    ]
    return stored["preprocess_rows"], official


def _prompt(family: str, row: dict, history: bool) -> Prompt:
    """The official prompts. Source: reference/ARCHITECTURE.md 1.5, 1.10 and 2.5."""
    first, gap = (0, "\n") if family == "chatglm" else (1, "\n\n")
    turns = row["history"] if history else []
    if family == "chatglm" and not history:
        return Prompt("", row["content"], "")
    said = [
        f"[Round {number}]{gap}问：{question}{gap}答：{answer}{gap}"
        for number, (question, answer) in enumerate(turns, first)
    ]
    head = "".join(said) + f"[Round {first + len(turns)}]{gap}问："
    return Prompt(head, row["content"], f"{gap}答：")


def _encoded(
    family: str, history: bool, shared: Any, folder: Path, limits: tuple[int, int]
) -> list[dict]:
    rows, _ = _reference(family, history, shared)
    tokenizer = tokenizers.of_family(family, shared)
    tokenizer.save_pretrained(str(folder))
    contract = contract_for(
        ["instruction"], family, max_prompt_tokens=limits[0], max_answer_tokens=limits[1]
    )
    prompts = [_prompt(family, row, history) for row in rows]
    columns = {name: [getattr(each, name) for each in prompts] for name in Prompt._fields}
    columns["target"] = [row["summary"] for row in rows]
    encode = batch_encoder(make_plan(contract, folder))
    return encode(pa.record_batch(columns)).to_pylist()


def _unpadded(official: dict, row: int, pad: int) -> tuple[list[int], list[int]]:
    ids, labels = official["input_ids"][row], official["labels"][row]
    while ids[-1] == pad and labels[-1] == IGNORED:
        ids, labels = ids[:-1], labels[:-1]
    return ids, labels


@pytest.mark.parametrize("history", HISTORY)
@pytest.mark.parametrize(("family", "pad"), [("chatglm", 3), ("chatglm2", 0)])
def test_rows_within_the_limits_are_the_official_ones(
    family: str, pad: int, history: bool, shared: Any, tmp_path: Path
) -> None:
    rows = _encoded(family, history, shared, tmp_path, (64, 64))
    _, official = _reference(family, history, shared)
    sop = (
        special_ids(["<sop>"], tokenizers.of_family(family, shared)) if family == "chatglm" else []
    )
    for number, row in enumerate(rows):
        if number == LONG:
            continue
        ids, labels = _unpadded(official, number, pad)
        assert row["input_ids"] == ids
        start = row["prompt_tokens"]
        ours = [IGNORED] * start + ids[start:]
        if family == "chatglm":
            # Deliberate: <sop>, the last token of the prompt, is not ours to learn.
            assert [labels[start - 1]] == sop
            labels = [*labels[: start - 1], IGNORED, *labels[start:]]
        assert ours == labels


@pytest.mark.parametrize("family", ["chatglm", "chatglm2"])
def test_an_answer_that_is_too_long_is_refused_where_the_scripts_cut_it(
    family: str, shared: Any, tmp_path: Path
) -> None:
    row = _encoded(family, True, shared, tmp_path, (128, 64))[LONG]
    _, official = _reference(family, True, shared)
    # The script's row is full to its last place: an answer cut in the middle, then its end.
    assert official["labels"][LONG][-1] != IGNORED
    assert row["reason"].startswith("the answer and its end have ")


@pytest.mark.parametrize(("family", "cue"), [("chatglm", "\n答："), ("chatglm2", "\n\n答：")])
def test_a_prompt_that_is_too_long_keeps_the_cue_that_the_scripts_cut_off(
    family: str, cue: str, shared: Any, tmp_path: Path
) -> None:
    limit = 128
    row = _encoded(family, True, shared, tmp_path, (limit, 4096))[LONG]
    tokenizer = tokenizers.of_family(family, shared)
    ids = row["input_ids"][: row["prompt_tokens"]]
    assert limit - 8 < len(ids) <= limit  # the next character of the body had not fitted
    assert row["cut"] > 0
    kept = tokenizer.decode([token for token in ids if token not in tokenizer.added_tokens_decoder])
    # ChatGLM-6B's SentencePiece file makes full-width punctuation ASCII.
    assert kept.replace(":", "：").endswith(cue)
    _, official = _reference(family, True, shared)
    cut = [
        i
        for i, m in zip(official["input_ids"][LONG], official["labels"][LONG], strict=True)
        if m == IGNORED
    ]
    assert not tokenizer.decode(cut).replace(":", "：").endswith(cue)
