from __future__ import annotations

import pytest
import torch

import toy_model as toy
from glmops.errors import InputError, RecipeError
from glmops.train.methods import METHODS, merged

LORA = toy.train_settings().lora.model_dump()


def test_the_recipe_and_the_table_know_the_same_methods() -> None:
    assert set(METHODS) == {"scratch", "lora"}


def test_scratch_trains_every_weight() -> None:
    model = METHODS["scratch"](toy.model().requires_grad_(False), toy.train_settings())
    assert all(each.requires_grad for each in model.parameters())


def test_lora_trains_the_pairs_and_nothing_else() -> None:
    model = METHODS["lora"](toy.model(), toy.train_settings())
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    # rank·(in + out) by hand: q_proj 32→32 and down_proj 48→32, in each of two layers.
    size = sum(each.numel() for each in model.parameters() if each.requires_grad)
    assert size == 2 * 4 * ((32 + 32) + (48 + 32))


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
