"""ChatGLM-6B of random shapes against the naive implementation in naive_chatglm.py."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

import naive_chatglm as naive
import toy_chatglm as toy
from deviations import note

FAMILY = "chatglm-6b naive"
# Both start from the same float32 weights; ours computes in float32, the naive one in float64.
# Logits stay below 30 and float32 rounds them to 2e-6; a few layers of wide weights make ten to a
# hundred times that of it.
LOGITS, LOSS, GRADIENT = 2e-4, 2e-5, 1e-4


def shape_of(seed: int) -> dict[str, Any]:
    """A random small configuration; every one differs in all that it may differ in."""
    pick = random.Random(seed)
    heads, width = pick.choice([(1, 8), (2, 4), (2, 12), (3, 8), (4, 4), (5, 4)])
    vocabulary = pick.randint(20, 60)
    mask, gmask, sop, eop, pad = pick.sample(range(vocabulary), 5)
    return {
        "vocab_size": vocabulary,
        "hidden_size": heads * width,
        "intermediate_size": pick.randint(5, 40),
        "num_hidden_layers": pick.randint(1, 4),
        "num_attention_heads": heads,
        "layer_norm_eps": pick.choice([1e-5, 1e-3]),
        "position_encoding_2d": seed % 4 != 3,
        "mask_token_id": mask,
        "gmask_token_id": gmask,
        "bos_token_id": sop,
        "eos_token_id": eop,
        "pad_token_id": pad,
        "attention": ["sdpa", "eager"][seed % 2],
    }


def sizes_of(model: Any) -> naive.Sizes:
    config = model.config
    return naive.Sizes(
        heads=config.num_attention_heads,
        layers=config.num_hidden_layers,
        eps=config.layer_norm_eps,
        two_dimensional=config.position_encoding_2d,
        sop=config.bos_token_id,
        mask=config.mask_token_id,
        gmask=config.gmask_token_id,
    )


def rows_of(model: Any, seed: int) -> list[list[int]]:
    """Four rows of unequal length, one of each kind of mask token."""
    pick = random.Random(seed + 1000)
    kinds = ["gmask", "mask", "both", "early"]
    return [
        toy.prompt(model, pick.randint(2, 6), pick.randint(0, 5), seed=seed + place, mask=kind)
        for place, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize("seed", range(10))
def test_logits_and_the_loss_of_padded_rows_equal_the_naive_ones(seed) -> None:
    model = toy.random_model(seed, **shape_of(seed))
    rows = rows_of(model, seed)
    ids_BT, real_BT = toy.left_padded(rows, model.config.pad_token_id)
    labels = [[-100, -100, *row[2:]] for row in rows]  # some are ignored, padding always
    labels_BT = toy.left_padded(labels, -100)[0]
    with torch.no_grad():
        out = model(ids_BT, attention_mask=real_BT, labels=labels_BT)

    weights, sizes, terms = naive.doubled(model.state_dict()), sizes_of(model), []
    for row, row_labels, logits_TV in zip(rows, labels, out.logits, strict=True):
        naive_TV = naive.logits(weights, sizes, row)
        assert naive_TV.abs().max() < 30
        off = (logits_TV[-len(row) :] - naive_TV).abs().max().item()
        note(FAMILY, "logits", off, LOGITS)
        terms += naive.losses(naive_TV, row_labels)
    note(FAMILY, "loss", abs(torch.stack(terms).mean().item() - out.loss.item()), LOSS)


@pytest.mark.parametrize("seed", [0, 2, 4, 6, 8, 3, 7])
def test_in_float64_nothing_but_the_last_digits_differs(seed) -> None:
    """Where no rounding can hide a slightly wrong rule. 3 and 7 have one-dimensional positions."""
    model = toy.random_model(seed, **{**shape_of(seed), "attention": "sdpa"}).double()
    with torch.no_grad():
        for row in rows_of(model, seed):
            naive_TV = naive.logits(naive.doubled(model.state_dict()), sizes_of(model), row)
            off = (model(torch.tensor([row])).logits[0] - naive_TV).abs().max().item()
            note(FAMILY, "logits in float64", off, 1e-11)


@pytest.mark.parametrize("seed", range(10))
def test_gradients_equal_the_naive_ones(seed) -> None:
    model = toy.random_model(seed, **shape_of(seed))
    row = rows_of(model, seed)[seed % 4]
    labels = [-100, *row[1:]]
    model(torch.tensor([row]), labels=torch.tensor([labels])).loss.backward()
    weights = naive.doubled(model.state_dict())
    torch.stack(naive.losses(naive.logits(weights, sizes_of(model), row), labels)).mean().backward()
    for name, weight in model.named_parameters():
        theirs = weights[name].grad
        assert theirs is not None
        # A tensor whose exact gradient is nothing has only rounding to compare.
        scale = max(theirs.abs().max().item(), 1e-3)
        off = (weight.grad - theirs).abs().max().item() / scale
        note(FAMILY, "gradients, of a tensor's maximum", off, GRADIENT)


@pytest.mark.parametrize("seed", range(10))
def test_packed_rows_equal_the_naive_single_rows(seed) -> None:
    model = toy.random_model(seed, **shape_of(seed))
    rows = rows_of(model, seed)
    ids_BT = torch.tensor([[token for row in rows for token in row]])
    segments_BT = torch.tensor([[n + 1 for n, row in enumerate(rows) for _ in row]])
    with torch.no_grad():
        logits_TV = model(ids_BT, attention_mask=segments_BT).logits[0]
        weights = naive.doubled(model.state_dict())
        theirs = torch.cat([naive.logits(weights, sizes_of(model), row) for row in rows])
    note(FAMILY, "logits of packed rows", (logits_TV - theirs).abs().max().item(), LOGITS)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_beams_equal_a_naive_beam_search(seed) -> None:
    model = toy.random_model(seed, **shape_of(seed))
    model.generation_config.eos_token_id = None
    rows = rows_of(model, seed)[:2]
    ids_BT, real_BT = toy.left_padded(rows, model.config.pad_token_id)
    written = model.generate(
        ids_BT,
        attention_mask=real_BT,
        do_sample=False,
        num_beams=3,
        num_return_sequences=3,
        max_new_tokens=3,
    )
    weights = naive.doubled(model.state_dict())
    with torch.no_grad():
        wanted = [
            new
            for row in rows
            for _, new in naive.beams(weights, sizes_of(model), row, width=3, steps=3)
        ]
    assert written[:, ids_BT.shape[1] :].tolist() == wanted
