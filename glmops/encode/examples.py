"""One record → the ids the model trains on, and which of them it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from glmops.contract import Contract
from glmops.errors import InputError
from glmops.models.tokenizers import place_prompt, special_ids, text_ids
from glmops.templates import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Encoded(NamedTuple):
    """``input_ids`` and ``loss_mask`` of one length; mask 1 = learnt.

    ``cut`` counts the characters that the prompt's body lost.
    """

    input_ids: list[int]
    loss_mask: list[int]
    cut: int


def encode_record(
    prompt: Prompt,
    target: str,
    contract: Contract,
    tokenizer: PreTrainedTokenizerFast,
    where: object = "row",
) -> Encoded:
    """``before`` prompt ``between`` answer ``end``; only the answer and its end are learnt.

    The prompt's ids are those of ``prompt_ids``, which is what the model is given when it answers.

    Raises:
        InputError: The answer does not fit into ``contract.max_answer_tokens`` (it is never cut),
            or the prompt's head and cue do not fit; ``where`` names the row.
    """
    placed = place_prompt(prompt, contract, tokenizer, where)
    answer = [*text_ids(target, tokenizer), *special_ids([contract.end], tokenizer)]
    if len(answer) > contract.max_answer_tokens:
        raise InputError(
            where,
            f"the answer and its end have {len(answer)} tokens, more than the "
            f"{contract.max_answer_tokens} allowed",
            do="Raise encode.max_answer_tokens, or leave the row out.",
        )
    ids = [*placed.ids, *answer]
    return Encoded(ids, [0] * len(placed.ids) + [1] * len(answer), placed.cut)


def as_plain_text(row: Encoded, giver: Encoded) -> Encoded:
    """The prompt of ``row`` with the answer of ``giver``, learnt from the first token on."""
    prompt = row.input_ids[: row.loss_mask.index(1)]
    ids = prompt + giver.input_ids[giver.loss_mask.index(1) :]
    return Encoded(ids, [1] * len(ids), row.cut)
