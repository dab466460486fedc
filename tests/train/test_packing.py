"""A pack equals its rows, and no other call of the model does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import toy_batches as toy
from glmops.errors import RecipeError
from glmops.models.prefix import attach_prefix
from glmops.train.batches import PACKABLE, collate_for, require_packable

LENGTHS = (9, 14, 6, 11)
PER_TOKEN = 1e-6
"""Nats: what a learnt token of a pack may differ by from the same token of its row alone."""


def _batch(architecture: str) -> tuple[list[Any], dict[str, Any]]:
    rows = toy.rows(LENGTHS)
    packs = [toy.pack(rows[:3]), toy.pack(rows[3:])]  # of unequal length: one of them is padded
    return rows, collate_for(toy.family(architecture), pad=0, packed=True)(packs)


def _gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _alone(model: Any, rows: list[Any]) -> torch.Tensor:
    return torch.cat([toy.nats_alone(model, row) for row in rows])


@pytest.mark.parametrize("architecture", ["glm", "chatglm", "gpt2"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_pack_equals_its_rows(architecture: str, attention: str) -> None:
    model = toy.model(architecture)
    model.set_attn_implementation(attention)
    require_packable(model)
    rows, batch = _batch(architecture)
    together, alone = toy.nats(model, batch), _alone(model, rows)
    assert alone.std() > 0.5  # rows that are all alike would prove nothing
    torch.testing.assert_close(together, alone, atol=PER_TOKEN, rtol=PER_TOKEN)
    packed = _gradients(model, toy.nats(model, batch).sum())
    for name, gradient in _gradients(model, _alone(model, rows).sum()).items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(packed[name], gradient, atol=1e-5 * scale, rtol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "wrong"),
    [
        ("glm", {"attention_mask": torch.ones(2, sum(LENGTHS[:3]), dtype=torch.long)}),
        ("gpt2", {"attention_mask": torch.ones(2, sum(LENGTHS[:3]), dtype=torch.long)}),
        ("glm", {"use_cache": True}),
        ("gpt2", {"use_cache": True}),
        ("glm", {"position_ids": None}),
        ("gpt2", {"position_ids": None}),
        ("chatglm", {"attention_mask": torch.ones(2, sum(LENGTHS[:3]), dtype=torch.long)}),
        ("chatglm", {"attention_mask": None}),
    ],
)
def test_any_other_call_lets_rows_see_each_other(architecture: str, wrong: dict[str, Any]) -> None:
    # Nothing warns of it: what the collator leaves out and sets is what keeps rows apart.
    model = toy.model(architecture)
    rows, batch = _batch(architecture)
    with torch.no_grad():
        alone = _alone(model, rows)
        right, mixed = toy.nats(model, batch), toy.nats(model, {**batch, **wrong})
    assert (right - alone).abs().max() < 10 * PER_TOKEN
    assert (mixed - alone).abs().max() > 1e4 * PER_TOKEN


@pytest.mark.parametrize("kind", [kind for kind in PACKABLE if kind != "chatglm-6b"])
def test_every_model_type_that_takes_packs_keeps_their_rows_apart(kind: str) -> None:
    sizes = {
        "vocab_size": len(toy.toy.tokenizer()),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 96,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
    }
    grouped = {} if kind == "gpt2" else {"num_key_value_heads": 1, "head_dim": 16}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **grouped)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(6)
        rows, batch = _batch(kind)
        alone, mixed = _alone(model, rows), toy.nats(model, {**batch, "position_ids": None})
        torch.testing.assert_close(toy.nats(model, batch), alone, atol=1e-5, rtol=1e-5)
    assert (mixed - alone).abs().max() > 0.1


def test_gpt1_is_refused_because_its_rows_would_see_each_other() -> None:
    model = toy.model("gpt1")
    rows, batch = _batch("gpt1")
    with torch.no_grad():
        assert (toy.nats(model, batch) - _alone(model, rows)).abs().max() > 0.1
    with pytest.raises(RecipeError, match=r"encode.packing: the rows of a pack would see"):
        require_packable(model)


@pytest.mark.parametrize("architecture", ["glm", "chatglm", "gpt2"])
def test_a_prefix_is_seen_by_every_row_of_a_pack_as_by_the_row_alone(architecture: str) -> None:
    model = toy.model(architecture)
    rows, batch = _batch(architecture)
    with torch.no_grad():
        without = toy.nats(model, batch)
    attach_prefix(model, length=5, projection=False, dropout=0.0, seed=1)
    require_packable(model)
    together, alone = toy.nats(model, batch), _alone(model, rows)
    torch.testing.assert_close(together, alone, atol=PER_TOKEN, rtol=PER_TOKEN)
    assert (together - without).abs().max() > 0.01
    [(name, packed)] = _gradients(model, together.sum()).items()
    expected = _gradients(model, _alone(model, rows).sum())[name]
    torch.testing.assert_close(packed, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-4)
