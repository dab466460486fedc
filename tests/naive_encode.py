"""One row → ids and loss mask, as the contract's words read: the other side of glmops.encode."""

from __future__ import annotations

from typing import Any

from glmops.contract import Contract
from glmops.errors import InputError
from glmops.models.tokenizers import place_prompt, special_ids, text_ids
from glmops.templates import Prompt


def encode_row(
    prompt: Prompt, target: str, contract: Contract, tokenizer: Any
) -> tuple[list[int], list[int], int]:
    """Ids, mask (1 = learnt) and the characters that the body lost; InputError: does not fit."""
    ids, cut, _ = place_prompt(prompt, contract, tokenizer)
    answer = text_ids(target, tokenizer) + special_ids([contract.end], tokenizer)
    if len(answer) > contract.max_answer_tokens:
        raise InputError("row", f"the answer and its end have {len(answer)} tokens", do="")
    return ids + answer, [0] * len(ids) + [1] * len(answer), cut
