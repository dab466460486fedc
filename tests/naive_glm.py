"""ChatGLM2/3 and GLM-4 as slowly and plainly as they can be written: the oracle of test_naive_glm.

Loops over positions, heads and pairs of channels in float64, no cache, no batch, no mask tensor.
Written from section 2 of the reference data's ARCHITECTURE.md on the original names; it shares no
line with glmops or transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray


def logits(settings: Mapping[str, Any], tensors: Mapping[str, Array], ids: list[int]) -> Array:
    """[len(ids), padded_vocab_size] of one row that starts at position 0."""
    states = [tensors["transformer.embedding.word_embeddings.weight"][token] for token in ids]
    for layer in range(settings["num_layers"]):
        weights = f"transformer.encoder.layers.{layer}."
        attended = _attention(settings, tensors, weights, states)
        states = [state + more for state, more in zip(states, attended, strict=True)]
        states = [state + _mlp(settings, tensors, weights, state) for state in states]
    last = tensors["transformer.encoder.final_layernorm.weight"]
    head = tensors["transformer.output_layer.weight"]
    return np.stack([head @ _norm(settings, last, state) for state in states])


def _norm(settings: Mapping[str, Any], weight: Array, state: Array) -> Array:
    mean = sum(float(value) ** 2 for value in state) / len(state)
    return weight * state / math.sqrt(mean + settings["layernorm_epsilon"])


def _mlp(
    settings: Mapping[str, Any], tensors: Mapping[str, Array], weights: str, state: Array
) -> Array:
    normed = _norm(settings, tensors[f"{weights}post_attention_layernorm.weight"], state)
    wide = tensors[f"{weights}mlp.dense_h_to_4h.weight"] @ normed
    width = settings["ffn_hidden_size"]
    gated = [
        gate / (1 + math.exp(-gate)) * up
        for gate, up in zip(wide[:width], wide[width:], strict=True)
    ]
    return tensors[f"{weights}mlp.dense_4h_to_h.weight"] @ np.array(gated)


def _attention(
    settings: Mapping[str, Any], tensors: Mapping[str, Array], weights: str, states: list[Array]
) -> list[Array]:
    heads, groups = settings["num_attention_heads"], settings["multi_query_group_num"]
    width = settings["kv_channels"]
    queries, keys, values = [], [], []
    for position, state in enumerate(states):
        normed = _norm(settings, tensors[f"{weights}input_layernorm.weight"], state)
        fused = tensors[f"{weights}self_attention.query_key_value.weight"] @ normed
        if settings["add_qkv_bias"]:
            fused = fused + tensors[f"{weights}self_attention.query_key_value.bias"]
        pieces = [fused[start : start + width] for start in range(0, len(fused), width)]
        queries.append([_turned(settings, piece, position) for piece in pieces[:heads]])
        keys.append([_turned(settings, each, position) for each in pieces[heads : heads + groups]])
        values.append(pieces[heads + groups :])
    outputs = []
    for position in range(len(states)):
        found = []
        for head in range(heads):
            group = head // (heads // groups)
            scores = [
                math.exp(float(queries[position][head] @ keys[past][group]) / math.sqrt(width))
                for past in range(position + 1)
            ]
            found.append(
                sum(score * values[past][group] for past, score in enumerate(scores)) / sum(scores)
            )
        dense = tensors[f"{weights}self_attention.dense.weight"]
        outputs.append(dense @ np.concatenate(found))
    return outputs


def _turned(settings: Mapping[str, Any], vector: Array, position: int) -> Array:
    """The first half of the channels in neighbouring pairs; the second half stays."""
    turned, rotary = vector.copy(), len(vector) // 2
    base = 10000 * settings.get("rope_ratio", 1)
    for pair in range(rotary // 2):
        angle = position * base ** (-2 * pair / rotary)
        first, second = vector[2 * pair], vector[2 * pair + 1]
        turned[2 * pair] = first * math.cos(angle) - second * math.sin(angle)
        turned[2 * pair + 1] = second * math.cos(angle) + first * math.sin(angle)
    return turned
