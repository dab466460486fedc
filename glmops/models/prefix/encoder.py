"""The prefix encoder: P trained slots, each with a key and a value for every layer.

Axes: N = 2·layers (key 0, value 0, key 1, …), B batch, H key/value heads, P prefix length,
D head size. No rotation is applied to a prefix key and no position is shifted by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from glmops.errors import InputError

# The families whose published encoder projects from vectors as wide as a hidden state; the
# others (ChatGLM2 on, and all that never had an official one) project from whole slots.
NARROW_PROJECTION = ("chatglm-6b",)


@dataclass(frozen=True, slots=True)
class PrefixShape:
    """What a prefix must know of its base. ``width`` is the size of one slot."""

    model_type: str
    layers: int
    kv_heads: int
    head_dim: int
    hidden: int

    @property
    def width(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_dim


def shape_of(config: Any) -> PrefixShape:
    """The shape of a prefix for the model that a transformers configuration describes.

    Raises:
        InputError: It is no decoder with one kind of attention in all its layers.
    """
    config = config.get_text_config()
    where = f"a prefix for model_type {config.model_type!r}"
    if config.is_encoder_decoder or getattr(config, "add_cross_attention", False):
        raise InputError(where, "the model attends across two sequences", do="Use a causal LM.")
    try:
        heads, hidden = config.num_attention_heads, config.hidden_size
        return PrefixShape(
            model_type=config.model_type,
            layers=config.num_hidden_layers,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or hidden // heads,
            hidden=hidden,
        )
    except AttributeError as error:
        raise InputError(
            where, f"the configuration lacks a size ({error})", do="Use LoRA on this model."
        ) from None


class PrefixEncoder(nn.Module):
    """The official encoder, in float32 whatever the base computes in.

    Parameter names and shapes are the published ones: ``embedding.weight`` alone, or with
    ``trans.0`` and ``trans.2`` around a tanh. They start from torch's defaults, as published.

    Source: ARCHITECTURE.md 1.7 and 2.6 of the reference data, held by tests/models.
    """

    def __init__(self, shape: PrefixShape, length: int, projection: bool, dropout: float) -> None:
        super().__init__()
        self.shape, self.length, self.projection = shape, length, projection
        self.dropout = nn.Dropout(dropout)
        self._reusable: tuple[Any, torch.Tensor] | None = None
        narrow = projection and shape.model_type in NARROW_PROJECTION
        width_in = shape.hidden if narrow else shape.width
        self.embedding = nn.Embedding(length, width_in, dtype=torch.float32)
        if projection:
            self.trans = nn.Sequential(
                nn.Linear(width_in, shape.hidden, dtype=torch.float32),
                nn.Tanh(),
                nn.Linear(shape.hidden, shape.width, dtype=torch.float32),
            )

    def forward(self, batch: int, dtype: torch.dtype, *, continues: bool = False) -> torch.Tensor:
        """Keys and values as kv_NBHPD; B is 1 unless dropout makes the rows differ.

        Args:
            batch: Rows of the forward: each gets a dropout pattern of its own, as published.
            dtype: What the base computes in.
            continues: The forward adds a token to rows that were begun before. Only then may
                the values of the last forward serve again, so that the projection is not run
                for each new token.
        """
        if torch.is_grad_enabled() or self.training:
            self._reusable = None
        elif continues and self._reusable is not None and self._reusable[0] == self._state(dtype):
            return self._reusable[1]
        with torch.autocast(self.embedding.weight.device.type, enabled=False):
            slots = self.embedding.weight
            if self.projection:
                slots = self.trans(slots)
        if not torch.is_grad_enabled():
            slots = slots.detach()  # a view of a parameter claims a gradient even here
        shape = self.shape
        kv = slots.to(dtype).view(1, self.length, 2 * shape.layers, shape.kv_heads, shape.head_dim)
        if self.training and self.dropout.p > 0:
            kv = self.dropout(kv.expand(batch, -1, -1, -1, -1))
        kv_NBHPD = kv.permute(2, 0, 3, 1, 4)
        if not (torch.is_grad_enabled() or self.training):
            self._reusable = (self._state(dtype), kv_NBHPD)
        return kv_NBHPD

    def _state(self, dtype: torch.dtype) -> tuple[Any, ...]:
        """Changes with every in-place change of a parameter, move to a device, or new dtype."""
        # Parameters made in inference mode count no changes; they cannot be trained either.
        return (
            dtype,
            *(
                (p.data_ptr(), p.device, -1 if p.is_inference() else p._version)
                for p in self.parameters()
            ),
        )
