"""Rotation and attention of ChatGLM-6B.

Axes: B rows, T new tokens, K keys (cached and new), H heads, D width of a head, A position axes
(2, or 1 where positions are one-dimensional), F frequencies of one axis.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from glmops.models.chatglm.configuration import ChatGLMConfig

BASE = 10000.0


def rotation(positions: Tensor, config: ChatGLMConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin, each [B, T, 1, 1, A, F], shaped to multiply queries and keys together.

    Args:
        positions: [B, 2, T], or [B, T] where positions are one-dimensional.
        dtype: What the model computes in.
    """
    axes = 2 if config.position_encoding_2d else 1
    width = config.head_dim // axes
    exponents_F = torch.arange(0, width, 2, device=positions.device, dtype=torch.float64) / width
    # The original rounds its frequencies to float16 in every precision: the weights expect that.
    # From float64 every machine rounds to the same one; float32 powers differ in the last bit.
    frequencies_F = (BASE**-exponents_F).half()
    positions_BTA = (
        positions.transpose(1, 2) if config.position_encoding_2d else positions.unsqueeze(-1)
    )
    # In half precision the original's whole table of angles is float16, and the published weights
    # were trained with it. bfloat16, which tells no position from the next beyond 256, takes the
    # same angles, and turns in float32, for a fifth less error in the logits (reference data).
    turning = torch.float32 if dtype == torch.bfloat16 else dtype
    precise = torch.float16 if dtype in (torch.float16, torch.bfloat16) else dtype
    angles_BTAF = positions_BTA[..., None].to(precise) * frequencies_F.to(precise)
    angles = angles_BTAF.to(torch.promote_types(turning, torch.float32))[:, :, None, None]
    return angles.cos().to(turning), angles.sin().to(turning)


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the last axis of [B, T, H, 2, D]: an equal part per position axis, in each of which the
    first and the second half are the two coordinates that turn."""
    left, right = heads.view(*heads.shape[:-1], cos.shape[-2], 2, cos.shape[-1]).unbind(-2)
    turned = torch.stack((left * cos - right * sin, right * cos + left * sin), dim=-2)
    return turned.flatten(-3).to(heads.dtype)


class ChatGLMAttention(nn.Module):
    """Attention over one fused projection, whose rows are query, key and value head by head.

    ``layer_idx``, ``is_causal`` and ``num_key_value_groups`` are what transformers' attention
    functions (and our prefix's) read. False, because without a mask every key is visible.
    """

    is_causal = False
    num_key_value_groups = 1

    def __init__(self, config: ChatGLMConfig, layer_idx: int) -> None:
        super().__init__()
        self.config, self.layer_idx = config, layer_idx
        self.head_dim = config.head_dim
        # The original divides queries by (layer_idx + 1) and multiplies the scores by it again in
        # float32, to keep float16 scores finite. Under a float32 softmax that cancels, so the fused
        # kernels, which add up in float32, need only the plain scale.
        self.scaling = 1 / math.sqrt(config.head_dim)
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        states_BTE: Tensor,
        *,
        cos_sin: tuple[Tensor, Tensor],
        attention_mask: Tensor | None,
        past_key_values: Cache | None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        fused = self.query_key_value(states_BTE)
        mixed_BTH3D = fused.view(*fused.shape[:-1], -1, 3, self.head_dim)
        turned_BTH2D = rotate(mixed_BTH3D[..., :2, :], *cos_sin)
        query_BHTD, key_BHKD = (part.transpose(1, 2) for part in turned_BTH2D.unbind(-2))
        value_BHKD = mixed_BTH3D[..., 2, :].transpose(1, 2)
        if past_key_values is not None:
            key_BHKD, value_BHKD = past_key_values.update(key_BHKD, value_BHKD, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention
        )
        mixed_BTHD, weights = attend(
            self,
            query_BHTD,
            key_BHKD,
            value_BHKD,
            attention_mask,
            dropout=0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.dense(mixed_BTHD.flatten(2)), weights


def eager_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """The original's order of steps, scores kept: mixed_BTHD and the weights [B, H, T, K].

    Args:
        attention_mask: Added to the scores: 0 where a key is visible, very low where it is not.
    """
    layer = int(module.layer_idx) + 1  # see ChatGLMAttention: here the detour keeps float16 finite
    scores_BHTK = torch.matmul(query * (scaling / layer), key.transpose(2, 3)).float() * layer
    if attention_mask is not None:
        scores_BHTK = scores_BHTK + attention_mask
    weights_BHTK = scores_BHTK.softmax(-1).to(query.dtype)
    return torch.matmul(weights_BHTK, value).transpose(1, 2).contiguous(), weights_BHTK
