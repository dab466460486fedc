"""LoRA module names of the published GLM code ↔ those of the native models, with equal results.

On ``GlmForCausalLM`` query, key and value projections are apart, and were one matrix: its A serves
all three, and its B is cut by rows. The way back stacks what was trained apart into blocks, of
three times the rank. ChatGLM-6B keeps the published names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from glmops.errors import InputError
from glmops.models.original.lora import Lora, Part

# Published module of a GLM layer → native ones, whose rows it holds in this order.
_QKV = "self_attention.query_key_value"
_GLM = {
    _QKV: ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention.dense": ("self_attn.o_proj",),
    "mlp.dense_h_to_4h": ("mlp.gate_up_proj",),
    "mlp.dense_4h_to_h": ("mlp.down_proj",),
}
_LAYERS = {"native": "model.layers", "original": "transformer.encoder.layers"}


def to_native(lora: Lora, config: Any, where: object) -> Lora:
    """A LoRA by published names → by native names, with equal results.

    Raises:
        InputError: A module is not among those of ``config``, or of another size.
    """
    import torch

    if config.model_type == "chatglm-6b":
        _require_modules(lora, config, where)
        return lora
    sizes, parts = linear_sizes(config), {}
    for module, part in lora.parts.items():
        layer, name = _place(module, _LAYERS["original"], config, _GLM, where)
        rows = [sizes[each][0] for each in _GLM[name]]
        _require_size(part, (sum(rows), sizes[_GLM[name][0]][1]), module, where)
        for each, b_OR in zip(_GLM[name], torch.split(part.b_OR, rows), strict=True):
            parts[f"{_LAYERS['native']}.{layer}.{each}"] = Part(part.a_RI, b_OR, part.alpha)
    return Lora(parts, lora.dropout, lora.rslora)


def to_original(lora: Lora, config: Any, where: object) -> Lora:
    """The way back. Raises as ``to_native`` does."""
    _require_modules(lora, config, where)
    if config.model_type == "chatglm-6b":
        return lora
    sizes, parts = linear_sizes(config), {}
    for layer in range(config.num_hidden_layers):
        for published, native in _GLM.items():
            own = [lora.parts.get(f"{_LAYERS['native']}.{layer}.{each}") for each in native]
            if any(own):
                rows = [sizes[each][0] for each in native]
                parts[f"{_LAYERS['original']}.{layer}.{published}"] = _fused(own, rows, lora.rslora)
    return Lora(parts, lora.dropout, lora.rslora)


def linear_sizes(config: Any) -> dict[str, tuple[int, int]]:
    """Native module of a layer that LoRA may adapt → its (out, in) features."""
    hidden, inner = config.hidden_size, config.intermediate_size
    if config.model_type == "chatglm-6b":
        return {
            "attention.query_key_value": (3 * hidden, hidden),
            "attention.dense": (hidden, hidden),
            "mlp.dense_h_to_4h": (inner, hidden),
            "mlp.dense_4h_to_h": (hidden, inner),
        }
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    return {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_up_proj": (2 * inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def _fused(own: list[Part | None], rows: list[int], rslora: bool) -> Part:
    """One adapter for stacked projections: rank r where all share A, else their ranks together.

    Args:
        own: One entry per projection, None where it was not adapted.
        rows: Output features of each.
    """
    import torch

    present = [part for part in own if part is not None]
    first = present[0]
    same = all(part.alpha == first.alpha and torch.equal(part.a_RI, first.a_RI) for part in present)
    rank = first.rank if same else sum(part.rank for part in present)
    b_OR, row, column = first.b_OR.new_zeros(sum(rows), rank), 0, 0
    scale = first.scale(rslora)
    for part, count in zip(own, rows, strict=True):
        if part is not None:
            b = part.b_OR
            if (ratio := part.scale(rslora) / scale) != 1:
                b = b * ratio
            b_OR[row : row + count, column : column + part.rank] = b
            column += 0 if same else part.rank
        row += count
    if same:
        return Part(first.a_RI, b_OR, first.alpha)
    alpha = scale * (rank**0.5 if rslora else rank)
    return Part(torch.cat([part.a_RI for part in present]), b_OR, alpha)


def _require_modules(lora: Lora, config: Any, where: object) -> None:
    """Every module is one of the native model's, and of its size."""
    sizes = linear_sizes(config)
    first = config.model_type == "chatglm-6b"
    stem = "transformer.layers" if first else _LAYERS["native"]
    for module, part in lora.parts.items():
        _, name = _place(module, stem, config, sizes, where)
        _require_size(part, sizes[name], module, where)


def _place(
    module: str, stem: str, config: Any, known: Mapping[str, object], where: object
) -> tuple[int, str]:
    """(layer, name inside the layer) of a module, or a refusal that names it."""
    found = re.fullmatch(rf"{re.escape(stem)}\.(\d+)\.(.+)", module)
    if not found or found[2] not in known or int(found[1]) >= config.num_hidden_layers:
        raise InputError(
            where,
            f"an adapted module is not in the {config.num_hidden_layers} layers of this base",
            got=module,
            do=f"Known: {stem}.0.{{{', '.join(known)}}}. Give the base it was trained on.",
        )
    return int(found[1]), found[2]


def _require_size(part: Part, size: tuple[int, int], module: str, where: object) -> None:
    if (part.b_OR.shape[0], part.a_RI.shape[1]) != size:
        raise InputError(
            where,
            f"{module} has {size[0]} rows and {size[1]} columns in this base",
            got=f"{part.b_OR.shape[0]} and {part.a_RI.shape[1]}",
            do="Give the base it was trained on.",
        )
