"""Which tokens a model lets each token see, where it can be told so for each pair of them.

Axes: B rows, P tokens of the padded prompts, N nodes, T = P + N tokens read, K tokens there are to
be seen: the cached ones and T.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from glmops.models.chatglm.layout import lay_out, visible

OWN_LAYOUT = "chatglm-6b"
OWN_MASK = "openai-gpt"
TREE_FAMILIES = (OWN_LAYOUT, OWN_MASK, "glm", "glm4", "gpt2", "llama", "mistral", "qwen2", "qwen3")
"""Model types of which that is known. Any other reads whole rows instead."""
TREE_ATTENTION = ("sdpa", "eager", "prefix_sdpa", "prefix_eager")
UNCACHED = (OWN_LAYOUT, OWN_MASK)
"""What a token of ChatGLM-6B's context gives depends on the tokens behind it, too; GPT-1 has no
cache."""


def sees_trees(model: Any) -> bool:
    """Whether the model can be told for each pair of tokens which sees which."""
    config = model.config
    windowed = getattr(config, "sliding_window", None) or any(
        kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()
    )
    return (
        config.model_type in TREE_FAMILIES
        and config._attn_implementation in TREE_ATTENTION
        and not windowed
    )


def prompt_layout(
    config: Any, ids_BP: Tensor, real_BP: Tensor, depths_N: Tensor
) -> tuple[Tensor, Tensor]:
    """context_BPP (True = sees), and positions of prompts and nodes: [B, T] or [B, 2, T].

    A padding token sees itself: a softmax over nothing would be NaN, and NaN spreads.
    """
    width = ids_BP.shape[1]
    if config.model_type == OWN_LAYOUT:
        # Positions of a longest continuation, from which each node takes that of its depth.
        longest = int(depths_N.max()) if len(depths_N) else 0
        plain_BL = torch.full((len(ids_BP), longest), int(config.pad_token_id or 0))
        whole_BL = torch.cat((ids_BP, plain_BL), 1)
        real_BL = torch.cat((real_BP, torch.ones_like(plain_BL)), 1)
        places = lay_out(whole_BL, real_BL, config).positions
        positions = torch.cat((places[..., :width], places[..., width - 1 + depths_N]), -1)
        return visible(lay_out(ids_BP, real_BP, config), width)[:, 0], positions
    itself_PP = torch.eye(width, dtype=torch.bool)
    causal_PP = torch.ones(width, width, dtype=torch.bool).tril()
    context_BPP = causal_PP & real_BP[:, None, :].bool() | itself_PP
    places_BP = (real_BP.cumsum(-1) - 1).clamp(min=0)
    return context_BPP, torch.cat((places_BP, places_BP[:, -1:] + depths_N), 1)


@contextmanager
def seeing(model: Any, sees_B1TK: Tensor) -> Iterator[dict[str, Tensor]]:
    """What to call the model with, inside the context, for every token to see just these.

    GPT-1 takes no mask but one of padding; that a token sees none behind it stands in a table of
    each layer, whose place the mask takes for so long.
    """
    if model.config.model_type != OWN_MASK:
        yield {"attention_mask": _as_taken(model, sees_B1TK)}
        return
    from transformers.models.openai.modeling_openai import Attention

    layers = [each for each in model.modules() if isinstance(each, Attention)]
    tables = [layer.bias for layer in layers]
    try:
        for layer in layers:
            layer.bias = sees_B1TK.to(layer.bias.dtype)
        # Without one of padding it warns of padding that it takes for text.
        yield {"attention_mask": torch.ones_like(sees_B1TK[:, 0, 0])}
    finally:
        for layer, table in zip(layers, tables, strict=True):
            layer.bias = table


def _as_taken(model: Any, sees_B1TK: Tensor) -> Tensor:
    """The mask as the model's attention takes it: numbers to add where it is written out."""
    config = model.config
    if config._attn_implementation != "eager" or config.model_type == OWN_LAYOUT:
        return sees_B1TK
    low = torch.finfo(model.dtype).min
    return torch.zeros_like(sees_B1TK, dtype=model.dtype).masked_fill_(~sees_B1TK, low)
