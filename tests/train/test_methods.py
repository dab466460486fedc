from __future__ import annotations

from typing import get_args

import pytest
import torch

import toy_model as toy
from glmops.errors import InputError, RecipeError
from glmops.models.small import ARCHITECTURES
from glmops.recipe import Train
from glmops.train.methods import METHODS, merged

LORA = toy.train_settings().lora.model_dump()


def test_the_recipe_and_the_table_know_the_same_methods() -> None:
    assert set(METHODS) == set(get_args(Train.model_fields["method"].annotation))


@pytest.mark.parametrize("method", ["scratch", "full"])
def test_scratch_and_full_train_every_weight(method: str) -> None:
    model = METHODS[method](toy.model().requires_grad_(False), toy.train_settings())
    assert all(each.requires_grad for each in model.parameters())


def test_lora_trains_the_pairs_and_nothing_else() -> None:
    model = METHODS["lora"](toy.model(), toy.train_settings())
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    # rank·(in + out) by hand: q_proj 32→32 and down_proj 48→32, in each of two layers.
    size = sum(each.numel() for each in model.parameters() if each.requires_grad)
    assert size == 2 * 4 * ((32 + 32) + (48 + 32))


def test_a_prefix_trains_its_slots_and_nothing_else() -> None:
    prefix = {"length": 5, "projection": False}
    settings = toy.train_settings(method="prefix", lora=None, prefix=prefix, export="adapter")
    models = [METHODS["prefix"](toy.model(), settings) for _ in range(2)]
    slots, again = ([each for each in model.parameters() if each.requires_grad] for model in models)
    # By hand: 5 slots with a key and a value of 1 head x 16 in each of two layers.
    assert [each.shape for each in slots] == [(5, 2 * 2 * 16)]
    assert torch.equal(slots[0], again[0])  # one seed gives one prefix


@pytest.mark.parametrize("architecture", ["gpt1", "gpt2"])
def test_lora_on_matrices_stored_the_other_way_round_says_nothing(
    architecture: str, recwarn: pytest.WarningsRecorder
) -> None:
    settings = toy.base_settings(architecture=architecture, kv_heads=2, intermediate_size=128)
    model = ARCHITECTURES[architecture](settings, toy.tokenizer(), max_tokens=80, seed=1)
    lora = {**LORA, "targets": ["c_attn"]}
    model = METHODS["lora"](model, toy.train_settings(lora=lora))
    # rank·(in + out) by hand: 32→96 in each of two layers.
    size = sum(each.numel() for each in model.parameters() if each.requires_grad)
    assert size == 2 * 4 * (32 + 96)
    assert not recwarn.list


def test_a_fresh_adapter_changes_nothing_and_one_seed_gives_one_adapter() -> None:
    ids = torch.tensor([[2, 4, 60, 80]])
    first, second = (METHODS["lora"](toy.model(), toy.train_settings()) for _ in range(2))
    with torch.no_grad():
        assert torch.equal(first(input_ids=ids).logits, toy.model()(input_ids=ids).logits)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_merging_keeps_the_answers() -> None:
    ids = torch.tensor([[2, 4, 60, 80]])
    model = METHODS["lora"](toy.model(), toy.train_settings())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
        before = model(input_ids=ids).logits
        plain = merged(model)
        after = plain(input_ids=ids).logits
    assert type(plain).__name__ == "GlmForCausalLM"
    assert not torch.allclose(before, toy.model()(input_ids=ids).logits, atol=1e-2)
    # Logits of about 10² in fp32, summed in another order.
    assert torch.allclose(before, after, rtol=1e-4, atol=1e-3)


def test_a_model_without_an_adapter_is_merged_already() -> None:
    model = toy.model()
    assert merged(model) is model


def test_a_target_that_the_model_lacks_is_refused_with_those_it_has() -> None:
    settings = toy.train_settings(lora={**LORA, "targets": ["q_proj", "query_key_value"]})
    known = "down_proj, gate_up_proj, k_proj, o_proj, q_proj, v_proj"
    with pytest.raises(RecipeError, match=rf"got 'query_key_value'\. Known: {known}\."):
        METHODS["lora"](toy.model(), settings)


def test_a_quantised_model_is_never_merged_into() -> None:
    """The class of bitsandbytes' 4-bit weights is what tells; nothing is computed here."""
    from bitsandbytes.nn import Linear4bit

    model = torch.nn.Sequential(Linear4bit(64, 64, quant_type="nf4"))
    with pytest.raises(InputError, match="merged into full precision only"):
        merged(model)
