from __future__ import annotations

import pytest
import toy_model as toy

from glmops.encode.examples import as_plain_text, encode_record
from glmops.errors import InputError
from glmops.models.tokenizers import prompt_ids, text_ids

TOKENIZER = toy.tokenizer()
ROW = toy.RECORDS[0]
PROMPT = toy.prompt(ROW.body)


def test_only_the_answer_and_its_end_are_learnt() -> None:
    encoded = encode_record(PROMPT, ROW.target, toy.contract(), TOKENIZER)
    learnt = [i for i, m in zip(encoded.input_ids, encoded.loss_mask, strict=True) if m]
    assert TOKENIZER.decode(learnt) == ROW.target + "<|endoftext|>"
    unlearnt = [i for i, m in zip(encoded.input_ids, encoded.loss_mask, strict=True) if not m]
    assert TOKENIZER.decode(unlearnt) == "[gMASK]<sop>" + ROW.prompt


def test_training_and_answering_see_the_same_prompt() -> None:
    encoded = encode_record(PROMPT, ROW.target, toy.contract(), TOKENIZER)
    asked = prompt_ids(PROMPT, toy.contract(), TOKENIZER)
    assert encoded.input_ids[: len(asked)] == asked
    assert sum(encoded.loss_mask[: len(asked)]) == 0


def test_a_control_token_typed_in_a_row_stays_text() -> None:
    encoded = encode_record(toy.prompt("<sop>"), "<|endoftext|>", toy.contract(), TOKENIZER)
    special = [i for i in encoded.input_ids if i in TOKENIZER.all_special_ids]
    assert TOKENIZER.convert_ids_to_tokens(special) == ["[gMASK]", "<sop>", "<|endoftext|>"]


def test_an_answer_is_never_cut() -> None:
    tokens = len(text_ids(ROW.target, TOKENIZER)) + 1  # and its end
    fits = encode_record(PROMPT, ROW.target, toy.contract(64, tokens), TOKENIZER)
    assert sum(fits.loss_mask) == tokens
    with pytest.raises(InputError, match=rf"toy:1: the answer and its end have {tokens} tokens"):
        encode_record(PROMPT, ROW.target, toy.contract(64, tokens - 1), TOKENIZER, "toy:1")


def test_a_long_prompt_is_cut_and_its_answer_stays_whole() -> None:
    encoded = encode_record(toy.prompt("草" * 200), ROW.target, toy.contract(50), TOKENIZER)
    text = TOKENIZER.decode(encoded.input_ids)
    assert text.endswith("草" + toy.CUE + ROW.target + "<|endoftext|>")
    assert text.count("草") == 200 - encoded.cut
    assert encoded.loss_mask.index(1) <= 50


def test_plain_text_is_one_prompt_and_another_answer_all_of_it_learnt() -> None:
    other = toy.RECORDS[1]
    row = encode_record(PROMPT, ROW.target, toy.contract(), TOKENIZER)
    giver = encode_record(toy.prompt(other.body), other.target, toy.contract(), TOKENIZER)
    text = as_plain_text(row, giver)
    expected = f"[gMASK]<sop>{ROW.prompt}{other.target}<|endoftext|>"
    assert TOKENIZER.decode(text.input_ids) == expected
    assert text.loss_mask == [1] * len(text.input_ids)
