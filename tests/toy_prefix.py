"""Models for the tests of prefixes and adapters: the two reference bases, and a small one of each
family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import toy_chatglm

Find = Callable[[str], Path]

FOLDERS = {"chatglm-6b": "reference/chatglm-v1", "chatglm2-6b": "reference/chatglm2"}
FAMILIES = ("chatglm-6b", "glm", "glm4", "gpt2", "llama", "qwen2")
VOCABULARY = 48
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 3,
    "bos_token_id": None,
    "eos_token_id": None,
}


def original(folder: Path, attention: str = "sdpa") -> Any:
    """An original-format folder as a native model in float32."""
    from glmops.models.original.opening import open_original
    from glmops.models.original.recognise import recognise

    found = recognise(folder)
    assert found is not None
    opened = open_original(found)
    return opened.model_class.from_pretrained(
        None,
        config=opened.config,
        state_dict=opened.weights,
        dtype=torch.float32,
        attn_implementation=attention,
    ).eval()


def small(family: str, seed: int = 5, *, attention: str = "sdpa", **changes: Any) -> Any:
    """Weights wide enough that neither attention nor the answers are flat."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if family == "chatglm-6b":
        return toy_chatglm.random_model(seed, attention=attention, eos_token_id=None, **changes)
    grouped = {"num_key_value_heads": 2, "intermediate_size": 48, "head_dim": 8}
    if family == "qwen2":
        del grouped["head_dim"]
    sizes = {**SIZES, **({} if family == "gpt2" else grouped), **changes}
    config = AutoConfig.for_model(family, **sizes)
    config._attn_implementation = attention
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name and "ln_" not in name:
                weight.copy_(torch.randn_like(weight) * (0.5 if weight.dim() == 1 else 0.3))
    return model.eval()


def rows(model: Any, lengths: tuple[int, ...], seed: int = 0) -> list[list[int]]:
    """Random prompts; ChatGLM-6B's end in [gMASK] <sop> and two more tokens."""
    if model.config.model_type == "chatglm-6b":
        each = enumerate(lengths)
        return [toy_chatglm.prompt(model, n - 3, 2, seed=seed + i) for i, n in each]
    random = torch.Generator().manual_seed(seed)
    return [torch.randint(4, VOCABULARY, (n,), generator=random).tolist() for n in lengths]


def left_padded(rows: list[list[int]]) -> dict[str, Tensor]:
    ids_BT, mask_BT = toy_chatglm.left_padded(rows, 3)
    return {"input_ids": ids_BT, "attention_mask": mask_BT}


def attached(model: Any, *, length: int = 5, projection: bool = False, **options: Any) -> Any:
    from glmops.models.prefix import attach_prefix

    return attach_prefix(model, length=length, projection=projection, **{"seed": 3, **options})


def encoder(model: Any) -> Any:
    return model.base_model.prefix_encoder


def logits(model: Any, **inputs: Any) -> Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def far(one: Tensor, other: Tensor) -> float:
    """The largest difference; NaN anywhere makes it NaN, which is within no limit."""
    return float((one - other).detach().abs().max())
