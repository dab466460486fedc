"""What a caller may give the model for masks and positions, brought to what attention takes.

Axes: B rows, T new tokens, K keys (cached and new).
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from glmops.errors import InputError
from glmops.models.chatglm.configuration import ChatGLMConfig
from glmops.models.chatglm.layout import Layout, lay_out, visible

FORWARD = "ChatGLM forward"


def mask_and_positions(
    input_ids: Tensor | None,
    shape: tuple[int, int],
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    past_key_values: Cache | None,
    config: ChatGLMConfig,
    mask_token_first: bool | Tensor | None,
) -> tuple[Tensor | None, Tensor]:
    """mask_B1TK (True = may attend; None: every key is visible) and positions.

    Arguments as in ``ChatGLMModel.forward``; ``shape`` is [B, T].

    Raises:
        InputError: They do not fit each other or the ids.
    """
    if position_ids is not None:
        _require_positions(position_ids, shape, config)
    if attention_mask is not None and attention_mask.dim() == 4:
        mask = _open_where_blocked(attention_mask, shape)
        if position_ids is None:
            position_ids = _layout(input_ids, None, config, mask_token_first).positions
        return mask, position_ids
    past = 0 if past_key_values is None else int(past_key_values.get_seq_length())
    if past_key_values is not None and past:
        if position_ids is None:
            raise InputError(
                FORWARD,
                "positions of tokens that follow a filled cache cannot be told from them alone",
                do="Give position_ids, or use generate, which knows the whole row.",
            )
        width = past_key_values.get_mask_sizes(shape[1], 0)[0]
        return _after(past, width, shape, attention_mask, position_ids.device), position_ids
    layout = _layout(input_ids, attention_mask, config, mask_token_first)
    width = None if past_key_values is None else past_key_values.get_mask_sizes(shape[1], 0)[0]
    mask = visible(layout, shape[1], width)
    return mask, layout.positions if position_ids is None else position_ids


def additive(mask_B1TK: Tensor) -> Tensor:
    """The same mask as numbers to add to scores, for attention written out step by step."""
    low = torch.finfo(torch.float32).min
    return torch.zeros_like(mask_B1TK, dtype=torch.float32).masked_fill_(~mask_B1TK, low)


def _layout(
    input_ids: Tensor | None,
    segments_BT: Tensor | None,
    config: ChatGLMConfig,
    mask_token_first: bool | Tensor | None,
) -> Layout:
    if input_ids is None:
        raise InputError(
            FORWARD,
            "mask and positions cannot be told from inputs_embeds",
            do="Give position_ids and a four-dimensional attention_mask with them.",
        )
    return lay_out(input_ids, segments_BT, config, mask_token_first=mask_token_first)


def _open_where_blocked(mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """The given mask, but a token that may attend to nothing attends to everything.

    The original gives such a (padding) token the mean of all values. What it gives matters to
    nobody, but a softmax over nothing is NaN in some kernels and poisons gradients.
    """
    if mask.dtype != torch.bool or mask.shape[0] != shape[0] or mask.shape[2] != shape[1]:
        raise InputError(
            "attention_mask",
            f"four-dimensional, but not bool of shape [{shape[0]}, 1, {shape[1]}, keys]",
            got=f"{mask.dtype} {tuple(mask.shape)}",
            do="Give a bool mask, True = may attend (the original's mean the opposite).",
        )
    return mask | ~mask.any(-1, keepdim=True)


def _require_positions(positions: Tensor, shape: tuple[int, int], config: ChatGLMConfig) -> None:
    wanted = (shape[0], 2, shape[1]) if config.position_encoding_2d else shape
    if tuple(positions.shape) != wanted:
        raise InputError(
            "position_ids",
            f"their shape is not {list(wanted)}",
            got=list(positions.shape),
            do="Leave position_ids out: the model builds them from input_ids.",
        )


def _after(
    past: int, width: int, shape: tuple[int, int], mask_BK: Tensor | None, device: torch.device
) -> Tensor | None:
    """mask_B1TK for tokens that follow ``past`` cached ones: those are all visible but padding."""
    seen = past + shape[1]
    if mask_BK is None and shape[1] == 1 and width == seen:
        return None
    index_K = torch.arange(width, device=device)
    asking_T1 = torch.arange(past, seen, device=device)[:, None]
    mask = (index_K <= asking_T1)[None, None]
    if mask_BK is None:
        return mask.expand(shape[0], 1, -1, -1)
    if tuple(mask_BK.shape) != (shape[0], seen) or int(mask_BK.max()) > 1:
        raise InputError(
            "attention_mask",
            f"after a filled cache it must be 0 and 1 of shape [{shape[0]}, {seen}]",
            got=list(mask_BK.shape),
            do="Give one number for every cached and every new token.",
        )
    real_BK = torch.nn.functional.pad(mask_BK.bool(), (0, width - seen))
    return mask & real_BK[:, None, None] | (index_K == asking_T1)
