"""Attention functions that put a prefix in front of a layer's keys and values.

transformers looks its attention function up by name, so ours comes after the KV cache and the
rotation. The cache then holds real tokens only and no position moves: beams, several returns,
static caches and packed rows need no care.

Axes as in encoder.py; T = queries, S = keys without the prefix.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from glmops.errors import InputError

# An attention of transformers → the same with a prefix.
IMPLEMENTATIONS = {"sdpa": "prefix_sdpa", "eager": "prefix_eager"}
ARGUMENT = "glmops_prefix"


@dataclass(slots=True, eq=False)
class PrefixOfForward:
    """The prefix of one forward, the masks widened for it, and the layers that took it."""

    kv_NBHPD: torch.Tensor
    taken: set[int] = field(default_factory=set)
    widened: dict[Any, tuple[Any, torch.Tensor]] = field(default_factory=dict)

    def widen(self, mask: torch.Tensor) -> torch.Tensor:
        """``mask`` (bool: True = open, or float: 0 = open) with P open columns in front.

        Made once, though every layer asks for it. The mask is kept beside its id, so that no
        other tensor can get that id meanwhile.
        """
        if id(mask) not in self.widened:
            columns = (*mask.shape[:-1], self.kv_NBHPD.shape[-2])
            is_bool = mask.dtype == torch.bool
            front = mask.new_ones(columns) if is_bool else mask.new_zeros(columns)
            self.widened[id(mask)] = (mask, torch.cat([front, mask], dim=-1))
        return self.widened[id(mask)][1]

    def causal(self, tokens: int, device: torch.device) -> torch.Tensor:
        """A bool mask [1, 1, T, P+T]: the whole prefix and no later token."""
        if (tokens, device) not in self.widened:
            mask = torch.ones(1, 1, tokens, tokens, dtype=torch.bool, device=device).tril()
            self.widened[tokens, device] = (None, self.widen(mask))
        return self.widened[tokens, device][1]


def register() -> None:
    """Make transformers know the functions below, and build masks for them as for their like."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask, sdpa_mask

    AttentionInterface.register("prefix_sdpa", _prefix_sdpa)
    AttentionMaskInterface.register("prefix_sdpa", sdpa_mask)
    AttentionInterface.register("prefix_eager", _prefix_eager)
    AttentionMaskInterface.register("prefix_eager", eager_mask)


def eager_attention_of(module: Any) -> Callable[..., Any] | None:
    """A registered function is handed everything but the family's own eager one: found by the
    name that transformers' families give it, or that ours does."""
    home = sys.modules[type(module).__module__]
    names = ("eager_attention_forward", "eager_attention")
    return next((getattr(home, name) for name in names if hasattr(home, name)), None)


def _prefix_sdpa(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward as attend

    prefix: PrefixOfForward | None = kwargs.pop(ARGUMENT, None)
    if prefix is None:  # a model without a prefix that shares this one's configuration
        return attend(module, query, key, value, attention_mask, **kwargs)
    causal = kwargs.pop("is_causal", None)
    causal = getattr(module, "is_causal", True) if causal is None else causal
    mask = None if attention_mask is None else prefix.widen(attention_mask)
    if mask is None and causal and (tokens := query.shape[2]) > 1:
        # No mask means causal, and keys past the queries are free room of a static cache.
        key, value, mask = (
            key[:, :, :tokens],
            value[:, :, :tokens],
            prefix.causal(tokens, key.device),
        )
    key, value = _in_front(module, prefix, key, value)
    return attend(module, query, key, value, mask, is_causal=False, **kwargs)


def _prefix_eager(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    attend = eager_attention_of(module)
    prefix: PrefixOfForward | None = kwargs.pop(ARGUMENT, None)
    assert attend is not None  # attach_prefix looked
    if prefix is None:
        return attend(module, query, key, value, attention_mask, **kwargs)
    mask = None if attention_mask is None else prefix.widen(attention_mask)
    if mask is not None and mask.dtype == torch.bool:  # it is going to be added to scores
        low = torch.finfo(query.dtype).min
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, low)
    key, value = _in_front(module, prefix, key, value)
    return attend(module, query, key, value, mask, **kwargs)


def _in_front(
    module: Any, prefix: PrefixOfForward, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """This layer's prefix before ``key`` and ``value`` [B, H, S, D], in their own types."""
    layer, kv_NBHPD = module.layer_idx, prefix.kv_NBHPD
    if kv_NBHPD.requires_grad and not torch.is_grad_enabled():
        raise InputError(
            "gradient checkpointing",
            "its reentrant form cannot train a prefix",
            do="Set gradient_checkpointing_kwargs={'use_reentrant': False}.",
        )
    if (key.shape[1], key.shape[3], value.shape[3]) != (kv_NBHPD.shape[2], *kv_NBHPD.shape[4:] * 2):
        raise InputError(
            f"a prefix on {type(module).__name__}",
            f"layer {layer} has keys and values of another shape",
            got=f"{list(key.shape)} and {list(value.shape)}",
            do="Use LoRA on this model.",
        )
    prefix.taken.add(layer)
    with_prefix = []
    for own, front_BHPD in zip((key, value), kv_NBHPD[2 * layer : 2 * layer + 2], strict=True):
        front = front_BHPD.to(own).expand(own.shape[0], -1, -1, -1)
        with_prefix.append(torch.cat([front, own], dim=2))
    return with_prefix[0], with_prefix[1]
