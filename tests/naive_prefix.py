"""GlmForCausalLM with a prefix, written out token by token and head by head: the oracle.

From ARCHITECTURE.md 2.2, 2.3 and 2.6 of the reference data; no cache, no mask, no batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def naive_logits(model: Any, ids: list[int], slots_PW: Tensor) -> Tensor:
    """logits_TV of one row. ``slots_PW``: a row per slot, [key 0, value 0, key 1, …] × heads."""
    config, weights = model.config, dict(model.named_parameters())
    states = [weights["model.embed_tokens.weight"][token] for token in ids]
    for layer in range(config.num_hidden_layers):
        own = {
            name.removeprefix(f"model.layers.{layer}."): each
            for name, each in weights.items()
            if name.startswith(f"model.layers.{layer}.")
        }
        normal = [_norm(x, own["input_layernorm.weight"], config) for x in states]
        mixed = _attention(normal, own, config, slots_PW, layer)
        states = [x + y for x, y in zip(states, mixed, strict=True)]
        normal = [_norm(x, own["post_attention_layernorm.weight"], config) for x in states]
        for place, x in enumerate(normal):
            gate, up = (own["mlp.gate_up_proj.weight"] @ x).chunk(2)
            states[place] = states[place] + own["mlp.down_proj.weight"] @ (
                gate * torch.sigmoid(gate) * up
            )
    final = [_norm(x, weights["model.norm.weight"], config) for x in states]
    return torch.stack([weights["lm_head.weight"] @ x for x in final])


def _norm(x: Tensor, weight: Tensor, config: Any) -> Tensor:
    return weight * x / torch.sqrt((x * x).mean() + config.rms_norm_eps)


def _attention(
    states: list[Tensor], own: dict[str, Tensor], config: Any, slots_PW: Tensor, layer: int
) -> list[Tensor]:
    width, groups = config.head_dim, config.num_key_value_heads
    share = config.num_attention_heads // groups

    def project(name: str, x: Tensor) -> Tensor:
        made = own[f"self_attn.{name}_proj.weight"] @ x
        return made + own.get(f"self_attn.{name}_proj.bias", torch.zeros_like(made))

    outputs = []
    for now, x in enumerate(states):
        heads = []
        for head in range(config.num_attention_heads):
            group = head // share
            query = _turn(project("q", x)[head * width : (head + 1) * width], now, config)
            part = slice(group * width, (group + 1) * width)
            keys, values = [], []
            for slot in slots_PW:
                at = 2 * layer * groups * width
                keys.append(slot[at : at + groups * width][part])
                values.append(slot[at + groups * width : at + 2 * groups * width][part])
            for then in range(now + 1):
                keys.append(_turn(project("k", states[then])[part], then, config))
                values.append(project("v", states[then])[part])
            scores = torch.stack([query @ key / width**0.5 for key in keys])
            shares = torch.exp(scores - scores.max())
            shares = shares / shares.sum()
            heads.append(sum(share * value for share, value in zip(shares, values, strict=True)))
        outputs.append(own["self_attn.o_proj.weight"] @ torch.cat(heads))
    return outputs


def _turn(vector: Tensor, position: int, config: Any) -> Tensor:
    """Pairs (2j, 2j+1) of the first half turn by position · 10000^(-2j/rotary width)."""
    turned, rotary = vector.clone(), vector.shape[0] // 2
    for j in range(rotary // 2):
        angle = torch.tensor(position * 10000 ** (-2 * j / rotary))
        x, y = vector[2 * j], vector[2 * j + 1]
        turned[2 * j] = x * torch.cos(angle) - y * torch.sin(angle)
        turned[2 * j + 1] = y * torch.cos(angle) + x * torch.sin(angle)
    return turned
