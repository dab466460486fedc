"""ChatGLM-6B and GLM written down plainly, on the weights of a loaded model: the other side.

Each forward pass makes a dense float mask and one fp32 score matrix per layer, works out positions
and rotary angles anew in every layer, and gives logits for every token of the row. Nothing is kept
from one pass to the next, so writing a token reads the whole row again. This is how the papers'
formulas read when they are typed in, and no slower on purpose: the matrix products are the same.

Axes: B rows, T tokens, H heads, D width of a head, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

LOW = torch.finfo(torch.float32).min


def glm_logits(model: Any, ids_BT: Tensor) -> Tensor:
    """Logits [B, T, V] of a ``GlmForCausalLM``; no row is padded."""
    config, rows, length = model.config, *ids_BT.shape
    closed_TT = torch.ones(length, length, dtype=torch.bool).triu(1)
    mask_BHTT = torch.zeros(rows, config.num_attention_heads, length, length)
    mask_BHTT = mask_BHTT.masked_fill(closed_TT, LOW)
    states = functional.embedding(ids_BT, model.model.embed_tokens.weight)
    for layer in model.model.layers:
        normal = _rms_norm(states, layer.input_layernorm)
        states = states + _glm_attention(normal, layer.self_attn, mask_BHTT, config)
        normal = _rms_norm(states, layer.post_attention_layernorm)
        gate, up = layer.mlp.gate_up_proj(normal).chunk(2, dim=-1)
        states = states + layer.mlp.down_proj(functional.silu(gate) * up)
    return model.lm_head(_rms_norm(states, model.model.norm))


def _glm_attention(states: Tensor, attention: Any, mask: Tensor, config: Any) -> Tensor:
    rows, length = states.shape[:2]
    width = config.head_dim
    query, key, value = (
        project(states).view(rows, length, -1, width).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    rotary = int(width * config.rope_parameters["partial_rotary_factor"])
    base = config.rope_parameters["rope_theta"]
    frequencies = 1 / base ** (torch.arange(0, rotary, 2).float() / rotary)
    angles = torch.arange(length).float()[:, None] * frequencies
    cos, sin = (table.repeat_interleave(2, -1) for table in (angles.cos(), angles.sin()))

    def turned(heads: Tensor) -> Tensor:
        part, rest = heads[..., :rotary], heads[..., rotary:]
        across = torch.stack((-part[..., 1::2], part[..., 0::2]), dim=-1).flatten(-2)
        return torch.cat((part * cos + across * sin, rest), dim=-1)

    groups = config.num_attention_heads // config.num_key_value_heads
    key, value = (part.repeat_interleave(groups, dim=1) for part in (turned(key), value))
    mixed = _attend(turned(query), key, value, mask, 1 / math.sqrt(width))
    return attention.o_proj(mixed)


def chatglm_logits(model: Any, ids_BT: Tensor) -> Tensor:
    """Logits [B, T, V] of a ``ChatGLMForCausalLM``; no row is padded."""
    config, rows, length = model.config, *ids_BT.shape
    closed_TT = torch.ones(length, length, dtype=torch.bool).triu(1)
    mask_BHTT = torch.zeros(rows, config.num_attention_heads, length, length)
    for row, ids in enumerate(ids_BT.tolist()):
        context = ids.index(config.bos_token_id)
        seen_TT = closed_TT.clone()
        seen_TT[:, :context] = False
        mask_BHTT[row].masked_fill_(seen_TT, LOW)
    states = functional.embedding(ids_BT, model.transformer.word_embeddings.weight)
    alpha = math.sqrt(2 * config.residual_layers)
    for layer in model.transformer.layers:
        normal = layer.input_layernorm(states)
        attended = _chatglm_attention(normal, layer.attention, mask_BHTT, ids_BT, config)
        states = alpha * normal + attended
        normal = layer.post_attention_layernorm(states)
        wide = functional.gelu(layer.mlp.dense_h_to_4h(normal), approximate="tanh")
        states = alpha * normal + layer.mlp.dense_4h_to_h(wide)
    return model.lm_head(model.transformer.final_layernorm(states))


def _chatglm_attention(
    states: Tensor, attention: Any, mask: Tensor, ids_BT: Tensor, config: Any
) -> Tensor:
    rows, length = ids_BT.shape
    heads = config.num_attention_heads
    width = config.hidden_size // heads
    mixed = attention.query_key_value(states).view(rows, length, heads, 3 * width)
    query, key, value = (part.transpose(1, 2) for part in mixed.chunk(3, dim=-1))
    half = width // 2
    frequencies = (1 / 10000 ** (torch.arange(0, half, 2).float() / half)).half().float()
    place_BT, block_BT = _chatglm_positions(ids_BT, config)

    def tables(positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        angles = positions_BT[:, None, :, None].float() * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()

    def turned(part: Tensor, positions_BT: Tensor) -> Tensor:
        cos, sin = tables(positions_BT)
        left, right = part.chunk(2, dim=-1)
        return part * cos + torch.cat((-right, left), dim=-1) * sin

    query, key = (
        torch.cat((turned(part[..., :half], place_BT), turned(part[..., half:], block_BT)), dim=-1)
        for part in (query, key)
    )
    return attention.dense(_attend(query, key, value, mask, 1 / math.sqrt(width)))


def _chatglm_positions(ids_BT: Tensor, config: Any) -> tuple[Tensor, Tensor]:
    length = ids_BT.shape[1]
    places, blocks = [], []
    for ids in ids_BT.tolist():
        context, gmask = ids.index(config.bos_token_id), ids.index(config.gmask_token_id)
        places.append(list(range(context)) + [gmask] * (length - context))
        blocks.append([0] * context + list(range(1, length - context + 1)))
    return torch.tensor(places), torch.tensor(blocks)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """[B, T, H·D], through a score matrix [B, H, T, T] in float32."""
    scores = torch.matmul(query.float(), key.float().transpose(2, 3)) * scale + mask
    mixed = torch.matmul(scores.softmax(-1).to(value.dtype), value)
    return mixed.transpose(1, 2).flatten(2)


def _rms_norm(states: Tensor, norm: Any) -> Tensor:
    scale = torch.rsqrt(states.float().pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
    return norm.weight * (states * scale).to(states.dtype)


LOGITS = {"glm": glm_logits, "chatglm": chatglm_logits}


def loss(kind: str, model: Any, ids_BT: Tensor, labels_BT: Tensor) -> Tensor:
    """Mean cross entropy per learnt token, from the logits of all tokens."""
    logits_BTV = LOGITS[kind](model, ids_BT).float()
    return functional.cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1), labels_BT[:, 1:].flatten(), ignore_index=-100
    )


@torch.no_grad()
def generate(kind: str, model: Any, ids_BT: Tensor, num_tokens: int) -> Tensor:
    """ids_BT with ``num_tokens`` more, each the most likely one, each from the whole row."""
    for _ in range(num_tokens):
        next_B1 = LOGITS[kind](model, ids_BT)[:, -1].argmax(-1, keepdim=True)
        ids_BT = torch.cat((ids_BT, next_B1), dim=1)
    return ids_BT
