"""Likelihoods of continuations; the oracle is one forward pass for each row and continuation, of
that row alone: no padding, no mask, no tree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import toy_prefix as toy
from glmops.evaluate import weighing
from glmops.evaluate.label_tree import trees_of
from glmops.evaluate.weighing import sees_trees, weigh

CONTINUATIONS = [
    [20, 21, 22, 9],
    [20, 21, 23, 9],
    [20, 9],  # ends where others go on
    [9],  # nothing but the end
    [30, 31, 32, 33, 34, 35, 9],
    [20, 21, 22, 24, 9],
    [30, 9],
    [22, 21, 20, 9],  # the same tokens in another order
]
LENGTHS = (4, 11, 7, 5, 11)


def one_by_one(model: Any, prompts: list[list[int]], continuations: list[list[int]]) -> Tensor:
    weights = torch.empty(len(prompts), len(continuations), dtype=torch.float64)
    for row, prompt in enumerate(prompts):
        for column, ids in enumerate(continuations):
            logits_TV = toy.logits(model, input_ids=torch.tensor([prompt + ids]))[0]
            said = logits_TV.double().log_softmax(-1)[len(prompt) - 1 : -1]
            weights[row, column] = sum(said[place, token] for place, token in enumerate(ids))
    return weights


def gpt1() -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(2)
    config = AutoConfig.for_model(
        "openai-gpt", vocab_size=toy.VOCABULARY, n_positions=32, n_embd=32, n_layer=2, n_head=2
    )
    return AutoModelForCausalLM.from_config(config).eval()


def require_equal(model: Any, prompts: list[list[int]]) -> None:
    expected = one_by_one(model, prompts, CONTINUATIONS)
    assert expected.std() > 0.5  # else equality would say little
    found = weigh(model, prompts, CONTINUATIONS, pad=3)
    # Weights this wide give up to 120 nats, of which float32 keeps six or seven digits.
    assert float((found - expected).abs().max()) < 5e-7 * float(expected.abs().max())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", toy.FAMILIES)
def test_a_tree_gives_what_one_forward_per_row_and_label_gives(family: str, attention: str) -> None:
    model = toy.small(family, attention=attention)
    assert sees_trees(model)
    require_equal(model, toy.rows(model, LENGTHS))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["glm", "glm4", "gpt2", "llama", "qwen2"])
def test_what_prompts_begin_with_alike_is_read_once(family: str, attention: str) -> None:
    model = toy.small(family, attention=attention)
    head = toy.rows(model, (6,), seed=9)[0]
    prompts = [head + row for row in toy.rows(model, LENGTHS)]
    seen: list[tuple[int, ...]] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    weigh(model, prompts, CONTINUATIONS, pad=3)
    hook.remove()
    assert seen == [(1, 6), (len(prompts), max(LENGTHS) + 14)]  # 14 nodes: see the last test
    require_equal(model, prompts)
    require_equal(model, [head, [*head, 5], head])  # the last token of a prompt is never cached
    toy.attached(model)
    require_equal(model, prompts)


def test_a_context_that_is_seen_from_both_sides_is_not_cached() -> None:
    model = toy.small("chatglm-6b")
    require_equal(model, [[5, 6, 7, 8, 9, *row] for row in toy.rows(model, LENGTHS)])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["chatglm-6b", "glm", "gpt2"])
def test_a_prefix_is_seen_by_every_node(family: str, attention: str) -> None:
    model = toy.small(family, attention=attention)
    without = weigh(model, toy.rows(model, LENGTHS), CONTINUATIONS, pad=3)
    toy.attached(model)
    torch.nn.init.normal_(next(toy.encoder(model).parameters()), std=2.0)
    assert sees_trees(model)
    require_equal(model.eval(), toy.rows(model, LENGTHS))
    after = weigh(model, toy.rows(model, LENGTHS), CONTINUATIONS, pad=3)
    assert toy.far(after, without) > 0.1


def test_a_chatglm_of_one_dimensional_positions_is_weighed_too() -> None:
    model = toy.small("chatglm-6b", position_encoding_2d=False)
    require_equal(model, toy.rows(model, LENGTHS))


def test_gpt1_without_a_cache_or_a_mask_of_its_own_sees_trees_and_is_as_before() -> None:
    model = gpt1()
    assert sees_trees(model)
    head = [5, 6, 7, 8, 9, 10]  # alike in all prompts, and yet read with each of them
    prompts = [head + row for row in toy.rows(model, LENGTHS)]
    before = toy.logits(model, input_ids=torch.tensor([prompts[1]]))
    require_equal(model, prompts)
    assert torch.equal(toy.logits(model, input_ids=torch.tensor([prompts[1]])), before)


def test_a_model_of_a_kind_that_is_not_known_reads_whole_rows() -> None:
    model = gpt1()
    model.config.model_type = "unheard-of"
    assert not sees_trees(model)
    require_equal(model, toy.rows(model, LENGTHS))


def test_a_model_that_sees_a_window_only_reads_whole_rows() -> None:
    model = toy.small("mistral", sliding_window=4)
    assert not sees_trees(model)
    require_equal(model, toy.rows(model, LENGTHS))


def test_many_labels_take_several_trees_and_little_room_several_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = toy.small("glm")
    prompts = toy.rows(model, LENGTHS)
    whole = weigh(model, prompts, CONTINUATIONS, pad=3)
    assert len(list(trees_of(CONTINUATIONS, 4))) > 2
    monkeypatch.setattr(weighing, "trees_of", lambda each: trees_of(each, 4))
    monkeypatch.setattr(weighing, "LOGITS_AT_ONCE", {"cpu": 1})
    monkeypatch.setattr(weighing, "NORMALISED_AT_ONCE", 1)
    assert toy.far(weigh(model, prompts, CONTINUATIONS, pad=3), whole) < 2e-5


def test_probabilities_of_all_that_can_follow_sum_to_one() -> None:
    model = toy.small("glm")
    every = [[token] for token in range(toy.VOCABULARY)]
    weights = weigh(model, toy.rows(model, LENGTHS), every, pad=3)
    assert toy.far(weights.exp().sum(-1), torch.ones(len(LENGTHS), dtype=torch.float64)) < 1e-6


def test_what_continuations_begin_with_alike_is_one_node() -> None:
    [tree] = trees_of(CONTINUATIONS)
    # By hand: 20, 20 21, 20 21 22, 20 21 22 24, 20 21 23; 22, 22 21, 22 21 20; 30 and five more.
    assert len(tree.tokens) == 5 + 3 + 6
    assert sorted(tree.continuations) == list(range(len(CONTINUATIONS)))
    for place, path in zip(tree.continuations, tree.paths, strict=True):
        assert [tree.edges[edge][1] for edge in path] == CONTINUATIONS[place]
    for node, line in enumerate(tree.lines, start=1):
        assert line[-1] == node
        assert list(line) == sorted(line)
