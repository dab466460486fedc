"""Greedy answers in batches: what ``evaluate`` scores and ``serve`` returns, from one function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glmops.errors import InputError
from glmops.models.tokenizers import special_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer, without its stop token. ``finished`` is false when it ran out of tokens."""

    ids: tuple[int, ...]
    text: str
    finished: bool


def generate_batches(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    *,
    stop: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> list[Generated]:
    """The model's most likely continuation of each prompt, in the order of ``prompts``.

    Rows of like length share a batch and are padded on the left, which the mask hides: a row's
    answer does not depend on its neighbours.

    Args:
        prompts: Token ids as ``prompt_ids`` gives them.
        stop: Control tokens that end an answer.
        max_new_tokens: Tokens of one answer, the stop token included.
        on_batch: Called after each batch with the number of rows in it.
    Raises:
        InputError: A prompt is empty or leaves too few positions, or the tokenizer lacks a stop
            token.
    """
    import torch
    from transformers import GenerationConfig

    _require_room(prompts, max_new_tokens, getattr(model.config, "n_positions", None))
    stop_ids = special_ids(stop, tokenizer)
    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=stop_ids,
        pad_token_id=tokenizer.pad_token_id,
    )
    answers: dict[int, Generated] = {}
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    model.eval()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        ids_BT, mask_BT = _left_padded([prompts[i] for i in batch], tokenizer.pad_token_id)
        with torch.inference_mode():
            written_BT = model.generate(
                input_ids=ids_BT.to(model.device),
                attention_mask=mask_BT.to(model.device),
                generation_config=greedy,
            )
        for index, row in zip(batch, written_BT[:, ids_BT.shape[1] :].tolist(), strict=True):
            answers[index] = _until_stop(row, stop_ids, tokenizer)
        if on_batch:
            on_batch(len(batch))
    return [answers[index] for index in range(len(prompts))]


def _require_room(
    prompts: Sequence[Sequence[int]], max_new_tokens: int, positions: int | None
) -> None:
    """``positions`` is the length of a learned table (GPT-1, GPT-2); rotary models have none."""
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise InputError(f"prompt {index + 1}", "has no tokens", do="Give it some text.")
        # The last token of an answer is never read, so it needs no position.
        needed = len(prompt) + max_new_tokens - 1
        if positions and needed > positions:
            raise InputError(
                f"prompt {index + 1}",
                f"with {max_new_tokens} tokens of answer it needs more than the model's "
                f"{positions} positions",
                got=needed,
                do="Shorten the prompt or the answer, or train with a larger max_prompt_tokens.",
            )


def _left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Any, Any]:
    """ids_BT and mask_BT (1 = real); real tokens end at the right edge, where writing goes on."""
    import torch

    width = max(len(row) for row in rows)
    ids_BT = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask_BT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids_BT, mask_BT


def _until_stop(
    row: Sequence[int], stop_ids: Sequence[int], tokenizer: PreTrainedTokenizerFast
) -> Generated:
    """What stands before the first stop token; the padding after it belongs to longer rows."""
    end = next((place for place, token in enumerate(row) if token in stop_ids), len(row))
    ids = tuple(row[:end])
    return Generated(ids, tokenizer.decode(ids, skip_special_tokens=True), end < len(row))
