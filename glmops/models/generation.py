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

    Args:
        prompts: Token ids as ``prompt_ids`` gives them.
        stop: Control tokens that end an answer.
        max_new_tokens: Tokens of one answer, the stop token included.
        batch_size: See ``plan_batches``.
        on_batch: Called after each batch with the number of rows in it.
    Raises:
        InputError: A prompt is empty or leaves too few positions, or the tokenizer lacks a stop
            token.
    """
    require_room(model, prompts, max_new_tokens)
    stop_ids = special_ids(stop, tokenizer)
    answers: dict[int, Generated] = {}
    for batch in plan_batches([len(prompt) for prompt in prompts], max_new_tokens, batch_size):
        some = [prompts[index] for index in batch]
        written = write_batch(model, tokenizer, some, stop_ids, max_new_tokens)
        answers.update(zip(batch, written, strict=True))
        if on_batch:
            on_batch(len(batch))
    return [answers[index] for index in range(len(prompts))]


def plan_batches(
    lengths: Sequence[int], new_tokens: int, batch_size: int, kinds: Sequence[int] | None = None
) -> list[list[int]]:
    """Which rows share a batch: indices of ``lengths``, rows of like length together.

    The longest come first: what does not fit into memory fails at once. ``batch_size`` longest rows
    fill a batch; of shorter ones as many go into one as have no more tokens together, up to four
    times as many (a batch size of 1 stays 1).

    Args:
        lengths: Tokens of each prompt.
        new_tokens: What a row may grow by.
        kinds: A number per row; rows of different kinds never share a batch. For rows whose answers
            differ in length: a batch writes until its longest answer ends.
    """
    if not lengths:
        return []
    budget = batch_size * (max(lengths) + new_tokens)
    most = 4 * batch_size if batch_size > 1 else 1
    kinds = kinds or [0] * len(lengths)
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda each: (kinds[each], -lengths[each])):
        batch = batches[-1] if batches else []
        width = lengths[batch[0]] + new_tokens if batch else 0
        full = len(batch) >= most or (len(batch) + 1) * width > budget
        if not batch or full or kinds[batch[0]] != kinds[index]:
            batches.append(batch := [])
        batch.append(index)
    return batches


def write_batch(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    max_new_tokens: int,
) -> list[Generated]:
    """The answers to prompts of one batch, for which ``require_room`` has seen that there is room.

    They are padded on the left, which the mask hides: an answer does not depend on its neighbours.
    """
    import torch
    from transformers import GenerationConfig

    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(stop_ids),
        pad_token_id=tokenizer.pad_token_id,
    )
    ids_BT, mask_BT = left_padded(prompts, tokenizer.pad_token_id)
    model.eval()
    with torch.inference_mode():
        written_BT = model.generate(
            input_ids=ids_BT.to(model.device),
            attention_mask=mask_BT.to(model.device),
            generation_config=greedy,
        )
    rows = written_BT[:, ids_BT.shape[1] :].tolist()
    return [until_stop(row, stop_ids, tokenizer) for row in rows]


def require_room(model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """Each prompt has tokens, and so many more fit behind it.

    Raises:
        InputError: One has none, or leaves too few positions.
    """
    require_positions(prompts, max_new_tokens, getattr(model.config, "n_positions", None))


def require_positions(
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


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Any, Any]:
    """ids_BT and mask_BT (1 = real); real tokens end at the right edge, where writing goes on."""
    import torch

    width = max(len(row) for row in rows)
    ids_BT = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask_BT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids_BT, mask_BT


def until_stop(
    row: Sequence[int], stop_ids: Sequence[int], tokenizer: PreTrainedTokenizerFast
) -> Generated:
    """What stands before the first stop token; the padding after it belongs to longer rows."""
    end = next((place for place, token in enumerate(row) if token in stop_ids), len(row))
    ids = tuple(row[:end])
    return Generated(ids, tokenizer.decode(ids, skip_special_tokens=True), end < len(row))
