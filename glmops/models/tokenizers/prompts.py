"""The one function that turns a prompt into ids, for training and for answering."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from glmops.contract import Contract
from glmops.errors import InputError
from glmops.templates import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class PlacedPrompt(NamedTuple):
    """A prompt as ids, special tokens included; how many characters of its body were cut, and how
    many of its earlier exchanges were left out."""

    ids: list[int]
    cut: int
    turns: int


def text_ids(text: str, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids of text that a user or a data set wrote: ``<sop>`` in it is five characters, not a
    control token."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return ids


def special_ids(tokens: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids of control tokens of a contract.

    Raises:
        InputError: The tokenizer has no such control token.
    """
    vocabulary = tokenizer.get_added_vocab()
    for token in tokens:
        if token not in vocabulary:
            raise InputError(
                "tokenizer",
                "the contract's control token is not in it",
                got=token,
                do="Use the tokenizer that belongs to the contract's model family.",
            )
    return [vocabulary[token] for token in tokens]


def prompt_ids(
    prompt: Prompt, contract: Contract, tokenizer: PreTrainedTokenizerFast, where: object = "prompt"
) -> list[int]:
    """The ids a model is given before it answers: ``place_prompt`` without the account of cuts."""
    return place_prompt(prompt, contract, tokenizer, where).ids


def place_prompt(
    prompt: Prompt, contract: Contract, tokenizer: PreTrainedTokenizerFast, where: object = "prompt"
) -> PlacedPrompt:
    """``before`` prompt ``between`` as at most ``contract.max_prompt_tokens`` ids.

    A prompt that is too long loses its earlier exchanges, the oldest first and each as a whole, and
    only then the end of its body, in whole characters; the rest of the head and the cue stay whole.
    The text is encoded in one piece, cut or not: the ids are those of a text that a user could have
    typed.

    Raises:
        InputError: Head and cue alone do not fit; ``where`` names the row.
    """
    before = special_ids(contract.before, tokenizer)
    between = special_ids(contract.between, tokenizer)
    room = contract.max_prompt_tokens - len(before) - len(between)
    head, keep, gone = prompt.head, len(prompt.body), 0
    while True:
        text = head + prompt.body[:keep] + prompt.cue
        encoded = tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        ids: list[int] = encoded.input_ids
        excess = len(ids) - room
        if excess <= 0:
            return PlacedPrompt([*before, *ids, *between], len(prompt.body) - keep, gone)
        if gone < len(prompt.turns):
            head, gone = head[prompt.turns[gone] :], gone + 1
            continue
        if keep == 0:
            raise InputError(
                where,
                f"the prompt without its body has {len(ids)} tokens, more than the {room} allowed",
                do="Raise encode.max_prompt_tokens, or shorten the instruction and the question.",
            )
        # Where the tokens that are too many begin. Cutting there can change how the last
        # characters merge, hence the loop; it ends because every round cuts a character or more.
        body_end = len(head) + keep
        starts = [start for start, _ in encoded.offset_mapping if start < body_end]
        cut_at = starts[-excess] if excess <= len(starts) else 0
        keep = max(0, min(cut_at - len(head), keep - 1))
