"""ChatGLM-6B written out as slowly and plainly as it can be: the oracle of the native model.

One row at a time, head by head and token by token, in float64, no cache, no mask tensor, no
batch. Written from the statements in reference/ARCHITECTURE.md alone; it shares no code with
glmops and reads nothing but a dict of weights and the sizes below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """What the weights do not say by themselves."""

    heads: int
    layers: int
    eps: float
    two_dimensional: bool
    sop: int
    mask: int
    gmask: int


def doubled(weights: Weights) -> dict[str, Tensor]:
    """The weights in float64, as leaves of their own graph; a tied head stays one tensor."""
    leaves = {
        name: weight.detach().double().requires_grad_()
        for name, weight in weights.items()
        if name != "lm_head.weight"
    }
    return {**leaves, "lm_head.weight": leaves["transformer.word_embeddings.weight"]}


def logits(weights: Weights, sizes: Sizes, ids: Sequence[int]) -> Tensor:
    """[tokens, vocabulary] of one row without padding."""
    start, positions, blocks = places(sizes, ids)
    states = [weights["transformer.word_embeddings.weight"][token] for token in ids]
    for layer in range(sizes.layers):
        at = f"transformer.layers.{layer}"
        normal = [_normalised(weights, f"{at}.input_layernorm", x, sizes.eps) for x in states]
        mixed = _attention(weights, f"{at}.attention", sizes, normal, start, positions, blocks)
        alpha = math.sqrt(2 * 28)
        states = [alpha * a + m for a, m in zip(normal, mixed, strict=True)]
        normal = [
            _normalised(weights, f"{at}.post_attention_layernorm", x, sizes.eps) for x in states
        ]
        states = [alpha * b + _mlp(weights, f"{at}.mlp", b) for b in normal]
    final = [_normalised(weights, "transformer.final_layernorm", x, sizes.eps) for x in states]
    return torch.stack([weights["lm_head.weight"] @ x for x in final])


def losses(row_logits: Tensor, labels: Sequence[int]) -> list[Tensor]:
    """Cross entropy of each label that counts, predicted one place earlier."""
    return [
        row_logits[place].logsumexp(0) - row_logits[place][label]
        for place, label in enumerate(labels[1:])
        if label != -100
    ]


def beams(
    weights: Weights, sizes: Sizes, ids: Sequence[int], width: int, steps: int
) -> list[tuple[float, list[int]]]:
    """The ``width`` best continuations of exactly ``steps`` tokens that a beam search finds, best
    first: (sum of log probabilities, new ids)."""
    alive: list[tuple[float, list[int]]] = [(0.0, [])]
    for _ in range(steps):
        longer = []
        for score, new in alive:
            chances = logits(weights, sizes, [*ids, *new])[-1].log_softmax(0).tolist()
            longer += [(score + chance, [*new, token]) for token, chance in enumerate(chances)]
        alive = sorted(longer, key=lambda each: -each[0])[:width]
    return alive


def places(sizes: Sizes, ids: Sequence[int]) -> tuple[int, list[int], list[int]]:
    """Length of the context, positions, block positions (all 0 where there is one dimension)."""
    ids = list(ids)
    start = ids.index(sizes.sop)
    whole = sizes.gmask in ids
    target = ids.index(sizes.gmask if whole else sizes.mask)
    positions, blocks = [], []
    for index in range(len(ids)):
        if sizes.two_dimensional:
            positions.append(index if index < start else target)
            blocks.append(0 if index < start else index - start + 1)
        else:
            positions.append(index if index < start or whole else target)
            blocks.append(0)
    return start, positions, blocks


def _attention(
    weights: Weights,
    at: str,
    sizes: Sizes,
    states: list[Tensor],
    start: int,
    positions: list[int],
    blocks: list[int],
) -> list[Tensor]:
    hidden = len(states[0])
    width = hidden // sizes.heads
    fused_weight = weights[f"{at}.query_key_value.weight"]
    fused_bias = weights[f"{at}.query_key_value.bias"]
    outputs: list[list[Tensor]] = [[] for _ in states]
    for head in range(sizes.heads):
        first = head * 3 * width
        queries, keys, values = [], [], []
        for token, state in enumerate(states):
            fused = (
                fused_weight[first : first + 3 * width] @ state
                + (fused_bias[first : first + 3 * width])
            )
            turn = (positions[token], blocks[token]) if sizes.two_dimensional else positions[token]
            queries.append(_turned(fused[:width], turn))
            keys.append(_turned(fused[width : 2 * width], turn))
            values.append(fused[2 * width :])
        for token, query in enumerate(queries):
            seen = [other for other in range(len(states)) if other < start or other <= token]
            scores = torch.stack([query @ keys[other] / math.sqrt(width) for other in seen])
            shares = (scores - scores.max()).exp()
            shares = shares / shares.sum()
            outputs[token].append(sum(s * values[o] for s, o in zip(shares, seen, strict=True)))
    dense, bias = weights[f"{at}.dense.weight"], weights[f"{at}.dense.bias"]
    return [dense @ torch.cat(parts) + bias for parts in outputs]


def _turned(vector: Tensor, turn: int | tuple[int, int]) -> Tensor:
    if isinstance(turn, tuple):
        half = len(vector) // 2
        return torch.cat((_turned(vector[:half], turn[0]), _turned(vector[half:], turn[1])))
    quarter = len(vector) // 2
    out = list(vector)
    for pair in range(quarter):
        frequency = float(torch.tensor(10000 ** (-2 * pair / len(vector))).to(torch.float16))
        cos, sin = math.cos(turn * frequency), math.sin(turn * frequency)
        one, two = vector[pair], vector[pair + quarter]
        out[pair] = one * cos - two * sin
        out[pair + quarter] = two * cos + one * sin
    return torch.stack(out)


def _normalised(weights: Weights, at: str, state: Tensor, eps: float) -> Tensor:
    centred = state - state.mean()
    spread = (centred**2).mean()
    return centred / torch.sqrt(spread + eps) * weights[f"{at}.weight"] + weights[f"{at}.bias"]


def _mlp(weights: Weights, at: str, state: Tensor) -> Tensor:
    wide = weights[f"{at}.dense_h_to_4h.weight"] @ state + weights[f"{at}.dense_h_to_4h.bias"]
    inner = 0.7978845608028654 * (wide + 0.044715 * wide**3)
    wide = 0.5 * wide * (1 + torch.tanh(inner))
    return weights[f"{at}.dense_4h_to_h.weight"] @ wide + weights[f"{at}.dense_4h_to_h.bias"]
