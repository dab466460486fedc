"""ChatGLM-6B writing: caches, batches, searches, and the steps of generate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache, StaticCache

import toy_chatglm as toy
from glmops.models.chatglm.layout import lay_out


@pytest.fixture(scope="module")
def model() -> Any:
    return toy.random_model(7)


HOWS = {
    "greedy": {},
    "sampled": {"do_sample": True, "temperature": 0.9, "top_k": 20, "top_p": 0.9},
    "beams": {"num_beams": 3},
    "beams, several returns": {"num_beams": 4, "num_return_sequences": 3},
    "sampled, several returns": {"do_sample": True, "top_k": 0, "num_return_sequences": 3},
    "stopping": {"min_new_tokens": 1, "max_new_tokens": 16, "num_beams": 2},
}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
def test_writing_with_a_cache_equals_writing_without(how, cache, attention) -> None:
    """transformers' own search over whole rows, with no cache at all, is the origin."""
    model = toy.random_model(7, attention=attention)
    _, ids_BT, real_BT = toy.batch(model)
    torch.manual_seed(3)
    without = toy.write(model, ids_BT, attention_mask=real_BT, use_cache=False, **how)
    torch.manual_seed(3)
    cached = {"cache_implementation": "static"} if cache == "static" else {}
    assert torch.equal(toy.write(model, ids_BT, attention_mask=real_BT, **cached, **how), without)
    assert len(without) == len(ids_BT) * how.get("num_return_sequences", 1)


@pytest.mark.parametrize("cache", [{}, {"cache_implementation": "static"}], ids=["grows", "static"])
@pytest.mark.parametrize("how", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_a_row_without_padding_is_written_with_a_cache_as_without(how, cache, model) -> None:
    for row in toy.batch(model)[0]:
        without = toy.write(model, row, use_cache=False, **how)
        assert torch.equal(toy.write(model, row, **cache, **how), without)


def test_only_steps_that_must_not_see_something_get_a_mask(model) -> None:
    rows, ids_BT, real_BT = toy.batch(model)
    seen: list[bool] = []
    hook = model.transformer.layers[0].attention.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["attention_mask"] is not None), with_kwargs=True
    )
    try:
        toy.write(model, rows[0])
        toy.write(model, ids_BT, attention_mask=real_BT)
    finally:
        hook.remove()
    assert seen == [True] + [False] * (toy.STEPS - 1) + [True] * toy.STEPS


@pytest.mark.parametrize("how", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_rows_of_a_batch_are_written_on_like_each_alone(how, model) -> None:
    rows, ids_BT, real_BT = toy.batch(model)
    together = toy.write(model, ids_BT, attention_mask=real_BT, **how)
    alone = torch.cat([toy.write(model, row, **how) for row in rows])
    assert torch.equal(together, alone)
    assert len({tuple(row) for row in together.tolist()}) == len(rows), "all rows say the same"


def test_a_left_padded_row_equals_the_row_alone(model) -> None:
    rows, ids_BT, real_BT = toy.batch(model)
    with torch.no_grad():
        together = model(ids_BT, attention_mask=real_BT).logits
        for row, logits_TV in zip(rows, together, strict=True):
            alone_TV = model(torch.tensor([row])).logits[0]
            torch.testing.assert_close(logits_TV[-len(row) :], alone_TV, **toy.SAME)


def test_right_padding_changes_nothing_before_it(model) -> None:
    row = toy.batch(model)[0][1]
    ids_BT = torch.tensor([row + [model.config.pad_token_id] * 4])
    real_BT = torch.tensor([[1] * len(row) + [0] * 4])
    with torch.no_grad():
        alone_BTV = model(torch.tensor([row])).logits
        for mask in (real_BT, None):
            padded_BTV = model(ids_BT, attention_mask=mask).logits[:, : len(row)]
            torch.testing.assert_close(padded_BTV, alone_BTV, **toy.SAME)


def test_a_mask_of_ones_is_no_mask(model) -> None:
    _, ids_BT, _ = toy.batch(model)
    ones_BT = torch.ones_like(ids_BT)
    with torch.no_grad():
        assert torch.equal(model(ids_BT, attention_mask=ones_BT).logits, model(ids_BT).logits)
    assert torch.equal(toy.write(model, ids_BT, attention_mask=ones_BT), toy.write(model, ids_BT))


def test_pad_tokens_without_a_mask_are_context_in_both_forward_and_generate(model) -> None:
    """The original's rule; transformers would guess a mask from the pad id in ``generate`` only."""
    _, ids_BT, real_BT = toy.batch(model)
    with torch.no_grad():
        first = model(ids_BT).logits[:, -1].argmax(-1)
    assert torch.equal(toy.write(model, ids_BT)[:, 0], first)
    assert not torch.equal(
        toy.write(model, ids_BT), toy.write(model, ids_BT, attention_mask=real_BT)
    )


def test_the_mask_token_switch_reaches_every_step_and_every_beam(model) -> None:
    rows, ids_BT, real_BT = toy.batch(model)
    both = [rows[2]]  # has [MASK] and [gMASK]
    first = toy.random_model(7, mask_token_first=True)
    for how in ({}, {"num_beams": 2, "num_return_sequences": 2}):
        wanted = toy.write(first, both[0], **how)
        assert torch.equal(toy.write(model, both[0], mask_token_first=True, **how), wanted)
        assert not torch.equal(toy.write(model, both[0], **how), wanted)
        a_row = torch.tensor([False, False, True, False])
        rows_out = toy.write(model, ids_BT, attention_mask=real_BT, mask_token_first=a_row, **how)
        returns = how.get("num_return_sequences", 1)
        assert torch.equal(rows_out[2 * returns : 3 * returns], wanted)


def test_given_positions_are_kept_in_every_step_and_every_return(model) -> None:
    row = toy.batch(model)[0][1]
    built = torch.tensor([[[0, 1, 2, 3, 2, 2, 2, 2], [0, 0, 0, 0, 1, 2, 3, 4]]])  # by hand
    other = 3 * built  # rotation tells distances only: adding a number would change nothing
    how = {"num_beams": 3, "num_return_sequences": 2, "position_ids": other}
    assert torch.equal(toy.write(model, row, **how), toy.write(model, row, use_cache=False, **how))

    def scores(positions: torch.Tensor | None) -> torch.Tensor:
        scored = {"return_dict_in_generate": True, "output_logits": True, "max_new_tokens": 4}
        ids_BT = torch.tensor([row])
        out = model.generate(ids_BT, do_sample=False, position_ids=positions, **scored)
        return torch.stack(out.logits)

    torch.testing.assert_close(scores(built), scores(None), **toy.SAME)
    assert (scores(other) - scores(None)).abs().max() > 0.1


@pytest.mark.parametrize("cache", [DynamicCache, StaticCache])
def test_steps_by_hand_over_a_cache_equal_the_whole_row(cache, model) -> None:
    row, split = toy.batch(model)[0][1], 6
    ids_BT = torch.tensor([[3, *row]])
    real_BT = torch.tensor([[0] + [1] * len(row)])
    kept = cache(config=model.config, **({"max_cache_len": 16} if cache is StaticCache else {}))
    places = lay_out(ids_BT, real_BT, model.config).positions
    parts = [(0, split), (split, split + 2), (split + 2, split + 3)]
    with torch.no_grad():
        whole = model(ids_BT, attention_mask=real_BT, use_cache=False)
        logits = [
            model(
                ids_BT[:, begin:end],
                attention_mask=real_BT[:, :end],
                position_ids=places[..., begin:end],
                past_key_values=kept,
                use_cache=True,
            ).logits
            for begin, end in parts
        ]
    torch.testing.assert_close(
        torch.cat(logits, 1)[:, 1:], whole.logits[:, 1 : split + 3], **toy.SAME
    )


def test_a_cache_is_gone_on_from_once_its_context_is_whole(model) -> None:
    row = toy.batch(model)[0][0]
    first = model.generate(
        torch.tensor([row]), do_sample=False, max_new_tokens=4, return_dict_in_generate=True
    )
    more = torch.cat((first.sequences, torch.tensor([[5, 6]])), 1)
    fresh = toy.write(model, more)
    assert torch.equal(toy.write(model, more, past_key_values=first.past_key_values), fresh)


def test_the_logits_kept_are_the_last_ones(model) -> None:
    _, ids_BT, real_BT = toy.batch(model)
    with torch.no_grad():
        whole = model(ids_BT, attention_mask=real_BT).logits
        kept = model(ids_BT, attention_mask=real_BT, logits_to_keep=2).logits
        places = model(ids_BT, attention_mask=real_BT, logits_to_keep=torch.tensor([3, 9])).logits
    torch.testing.assert_close(kept, whole[:, -2:], **toy.SAME)
    torch.testing.assert_close(places, whole[:, [3, 9]], **toy.SAME)


def test_eager_and_sdpa_are_one_model(model) -> None:
    _, ids_BT, real_BT = toy.batch(model)
    eager = toy.random_model(7, attention="eager")
    with torch.no_grad():
        one, two = (each(ids_BT, attention_mask=real_BT).logits for each in (model, eager))
    torch.testing.assert_close(one[real_BT.bool()], two[real_BT.bool()], **toy.SAME)
