"""What ``generate`` needs to know about ChatGLM-6B: a step's mask and positions follow from the
whole row so far, not from its newest token.

Axes: B rows, T tokens of the whole rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin
from transformers.cache_utils import Cache

from glmops.errors import InputError
from glmops.models.chatglm.layout import Layout, lay_out, visible

GENERATE = "ChatGLM generate"


class ChatGLMGeneration(GenerationMixin):
    """``generate`` with 2-D positions and a bidirectional context.

    Without ``attention_mask`` every token is real, pad tokens too, as in the original and in
    ``forward``: transformers' usual guess from the pad id is not made.
    """

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        is_first_iteration: bool | None = False,
        mask_token_first: bool | Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Arguments of the next ``forward``: the last ``next_sequence_length`` tokens (None: all).

        Raises:
            InputError: The rows or what the cache holds of them cannot be gone on from.
        """
        if self.device.type != "meta":
            input_ids = input_ids.to(self.device)
        length = input_ids.shape[1]
        new = length if next_sequence_length is None else next_sequence_length
        if is_first_iteration:
            _require_whole_rows(past_key_values, length, new, attention_mask, position_ids)
        layout = lay_out(
            input_ids,
            attention_mask,
            self.config,
            mask_token_first=mask_token_first,
            check=bool(is_first_iteration),
        )
        if is_first_iteration:
            _require_whole_context(layout, length - new)
        width = length
        if past_key_values is not None:
            width = past_key_values.get_mask_sizes(new, 0)[0]
        # One new token sees the whole row: without padding or free places nothing is hidden.
        everything = new == 1 and attention_mask is None and width == length
        positions = layout.positions if position_ids is None else position_ids.to(self.device)
        return {
            "input_ids": input_ids[:, -new:].clone(memory_format=torch.contiguous_format),
            "attention_mask": None if everything else visible(layout, new, width),
            "position_ids": positions[..., -new:].clone(memory_format=torch.contiguous_format),
            "past_key_values": past_key_values,
            **{name: value for name, value in kwargs.items() if name != "labels"},
        }

    def _prepare_attention_mask_for_generation(
        self, inputs_tensor: Tensor, generation_config: Any, model_kwargs: dict[str, Any]
    ) -> Tensor:
        return torch.ones(inputs_tensor.shape[:2], dtype=torch.long, device=inputs_tensor.device)

    def _prepare_position_ids_for_generation(
        self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]
    ) -> None:
        """None: every step builds its own."""

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Tensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        # transformers takes the second axis of three-dimensional positions for the batch.
        positions = model_kwargs.pop("position_ids", None)
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **model_kwargs
        )
        if positions is not None:
            model_kwargs["position_ids"] = positions.repeat_interleave(expand_size, dim=0)
        return input_ids, model_kwargs

    def _update_model_kwargs_for_generation(
        self,
        outputs: Any,
        model_kwargs: dict[str, Any],
        is_encoder_decoder: bool = False,
        num_new_tokens: int = 1,
    ) -> dict[str, Any]:
        # Given positions go on as in the original: the position stays, the block position counts.
        positions = model_kwargs.pop("position_ids", None)
        model_kwargs = super()._update_model_kwargs_for_generation(
            outputs, model_kwargs, is_encoder_decoder, num_new_tokens
        )
        if positions is not None:
            steps = torch.arange(1, num_new_tokens + 1, device=positions.device)
            added = positions[..., -1:] + torch.stack((torch.zeros_like(steps), steps))
            model_kwargs["position_ids"] = torch.cat((positions, added), dim=-1)
        return model_kwargs


def _require_whole_rows(
    cache: Cache | None,
    length: int,
    new: int,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
) -> None:
    past = 0 if cache is None else int(cache.get_seq_length())
    if past + new != length:
        raise InputError(
            GENERATE,
            f"the cache holds {past} tokens and {new} are new, but input_ids has another length",
            got=length,
            do="Give the ids of the whole row, cached ones included, and no prefill_chunk_size.",
        )
    if attention_mask is not None and int(attention_mask.max()) > 1:
        raise InputError(
            "attention_mask",
            "packed rows cannot be written on",
            got=f"segment {int(attention_mask.max())}",
            do="Give one prompt per row, padded on the left: 0 = padding, 1 = real.",
        )
    if position_ids is not None and tuple(position_ids.shape[1:]) != (2, length):
        raise InputError(
            "position_ids",
            f"their shape is not [rows, 2, {length}]",
            got=list(position_ids.shape),
            do="Leave position_ids out: generate builds them from input_ids.",
        )


def _require_whole_context(layout: Layout, past: int) -> None:
    """Cached keys of a context are those of that context: one that grew makes them wrong."""
    if past and bool(layout.context_BT[:, past:].any()):
        raise InputError(
            GENERATE,
            "the cache ends before the first <sop>, and its keys depend on the whole context",
            do="Start from an empty cache.",
        )
