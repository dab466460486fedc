"""Small ChatGLM-6B models for tests: the reference checkpoint, and random ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

REFERENCE = "reference/chatglm-v1"
Find = Callable[[str], Path]
STEPS = 8
SAME = {"atol": 1e-4, "rtol": 0.0}  # logits below 30, of which float32 keeps six or seven digits


def settings(**changes: Any) -> dict[str, Any]:
    """Attributes of a ChatGLMConfig small enough for one second."""
    values = {
        "vocab_size": 48,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": 128,
        "pad_token_id": 3,
        "mask_token_id": 40,
        "gmask_token_id": 41,
        "bos_token_id": 42,
        "eos_token_id": 43,
    }
    return {**values, **changes}


def random_model(seed: int, *, attention: str = "sdpa", **changes: Any) -> Any:
    """Weights so wide that attention is not flat, and that blocks outweigh what is carried past
    them (seven times their input): the answers then differ from prompt to prompt."""
    from glmops.models.chatglm.configuration import ChatGLMConfig
    from glmops.models.chatglm.modeling import ChatGLMForCausalLM

    torch.manual_seed(seed)
    config = ChatGLMConfig(attn_implementation=attention, **settings(**changes))
    model = ChatGLMForCausalLM(config)
    wide = {"query_key_value": 1.5, "dense": 8.0, "dense_h_to_4h": 2.0, "dense_4h_to_h": 8.0}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            module = name.split(".")[-2]
            if "layernorm" in module:
                weight.add_(torch.randn_like(weight) * 0.2)
            elif weight.dim() == 1:
                weight.copy_(torch.randn_like(weight) * 0.3)
            else:
                spread = wide.get(module, 1.0) / (weight.shape[1] ** 0.5 if module in wide else 1)
                weight.copy_(torch.randn_like(weight) * spread)
    return model.eval()


def reference_model(shared: Find, *, attention: str = "sdpa", **changes: Any) -> Any:
    """The original-format checkpoint of the reference data in float32, put in tensor by tensor."""
    from glmops.models.chatglm.configuration import ChatGLMConfig
    from glmops.models.chatglm.modeling import ChatGLMForCausalLM

    folder = shared(f"{REFERENCE}/model")
    original = json.loads((folder / "config.json").read_text())
    same = ("vocab_size", "hidden_size", "num_attention_heads", "position_encoding_2d")
    ids = ("pad_token_id", "bos_token_id", "eos_token_id", "mask_token_id", "gmask_token_id")
    config = ChatGLMConfig(
        intermediate_size=original["inner_hidden_size"],
        num_hidden_layers=original["num_layers"],
        max_position_embeddings=original["max_sequence_length"],
        layer_norm_eps=original["layernorm_epsilon"],
        attn_implementation=attention,
        **{name: original[name] for name in same + ids},
        **changes,
    )
    model = ChatGLMForCausalLM(config)
    weights: dict[str, Tensor] = {}
    for shard in sorted(folder.glob("pytorch_model-*.bin")):
        weights |= torch.load(shard, weights_only=True)
    used = {k: v.float() for k, v in weights.items() if not k.endswith("rotary_emb.inv_freq")}
    model.load_state_dict(used, strict=True)
    return model.eval()


def prompt(model: Any, context: int, after: int, *, seed: int, mask: str = "gmask") -> list[int]:
    """``context`` text ids with the mask token among them (at the end: "gmask"), <sop>, ``after``
    text ids. "mask": [MASK] in the middle; "both": both; "early": [gMASK] in the middle."""
    config = model.config
    special = {
        config.pad_token_id,
        config.mask_token_id,
        config.gmask_token_id,
        config.bos_token_id,
        config.eos_token_id,
    }
    plain = torch.tensor([i for i in range(config.vocab_size) if i not in special])
    picks = torch.randint(
        len(plain), (context + after,), generator=torch.Generator().manual_seed(seed)
    )
    ids = plain[picks].tolist()
    middle = context // 2
    if mask == "gmask":
        ids[context - 1] = config.gmask_token_id
    elif mask == "early":
        ids[middle] = config.gmask_token_id
    else:
        ids[middle] = config.mask_token_id
        if mask == "both":
            ids[context - 1] = config.gmask_token_id
    return [*ids[:context], config.bos_token_id, *ids[context:]]


def left_padded(rows: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """ids_BT and mask_BT, 1 = real."""
    width = max(map(len, rows))
    ids = [[pad] * (width - len(row)) + row for row in rows]
    real = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(real)


def batch(model: Any) -> tuple[list[list[int]], Tensor, Tensor]:
    """Rows of unequal length and of every kind of mask token, and the same padded on the left."""
    kinds = [(9, 0, "gmask"), (4, 3, "mask"), (6, 1, "both"), (5, 2, "early")]
    rows = [
        prompt(model, context, after, seed=seed, mask=kind)
        for seed, (context, after, kind) in enumerate(kinds)
    ]
    return rows, *left_padded(rows, model.config.pad_token_id)


def write(model: Any, ids: Tensor | list[int], **how: Any) -> Tensor:
    """New ids only, [rows, STEPS]; nothing stops early unless told."""
    ids_BT = torch.tensor([ids]) if isinstance(ids, list) else ids
    settings = {"do_sample": False, "max_new_tokens": STEPS, "min_new_tokens": STEPS, **how}
    return model.generate(ids_BT, **settings)[:, ids_BT.shape[1] :]
