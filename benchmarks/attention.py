"""Which attention a model really uses: each call of torch's fused one, by the mask it was given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn import functional


@contextmanager
def attention_calls() -> Iterator[Counter[str]]:
    """Counts torch's fused attention calls by the mask they were given."""
    original, seen = functional.scaled_dot_product_attention, Counter[str]()

    def counted(*arguments: Any, **named: Any) -> Tensor:
        mask = named.get("attn_mask")
        kind = "causal flag" if named.get("is_causal") else "everything visible"
        if mask is not None:
            kind = f"{mask.dtype} mask {list(mask.shape)}".removeprefix("torch.")
        queries = arguments[0].shape[2] if arguments else named["query"].shape[2]
        seen[f"{'one query' if queries == 1 else 'whole row'}: {kind}"] += 1
        return original(*arguments, **named)

    functional.scaled_dot_product_attention = counted
    try:
        yield seen
    finally:
        functional.scaled_dot_product_attention = original
