"""Laws of a prefix on small random models of every family.

Where no other origin is named, a row alone and without a cache is the oracle.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import toy_chatglm
import toy_prefix as toy
from deviations import note
from glmops.errors import InputError
from naive_prefix import naive_logits

CLOSE = 2e-4  # float32, other order of summing; logits of these models are around 10


@pytest.fixture(params=toy.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def _alone(model: Any, row: list[int]) -> Tensor:
    return toy.logits(model, input_ids=torch.tensor([row]), use_cache=False)[0]


def _by_hand(model: Any, row: list[int], count: int) -> list[int]:
    ids = list(row)
    for _ in range(count):
        ids.append(int(_alone(model, ids)[-1].argmax()))
    return ids[len(row) :]


def _loss(model: Any, row: list[int]) -> Tensor:
    return model(input_ids=torch.tensor([row]), labels=torch.tensor([row]), use_cache=False).loss


def _gradients(model: Any, row: list[int]) -> list[Tensor]:
    model.zero_grad()
    _loss(model, row).backward()
    return [each.grad.clone() for each in toy.encoder(model).parameters()]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_prefix_equals_keys_and_values_put_in_front_by_hand(attention, bias) -> None:
    model = toy.attached(
        toy.small("glm", attention=attention, attention_bias=bias, num_hidden_layers=2)
    )
    [row] = toy.rows(model, (6,))
    with torch.no_grad():
        expected_TV = naive_logits(model, row, toy.encoder(model).embedding.weight)
    note(
        "glm",
        "logits against loops, with a prefix",
        toy.far(_alone(model, row), expected_TV),
        CLOSE,
    )


@pytest.mark.parametrize("projection", [False, True])
def test_rows_of_a_left_padded_batch_equal_the_rows_alone(family, projection) -> None:
    model = toy.attached(toy.small(family), projection=projection)
    rows = toy.rows(model, (9, 6, 12))
    logits_BTV = toy.logits(model, **toy.left_padded(rows))
    assert logits_BTV.isfinite().all()
    for row, logits_TV in zip(rows, logits_BTV, strict=True):
        off = toy.far(logits_TV[-len(row) :], _alone(model, row))
        assert off <= CLOSE
    plain = toy.small(family)
    assert toy.far(_alone(model, rows[0]), _alone(plain, rows[0])) > 0.1  # the prefix does count


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_answers_of_a_padded_batch_equal_those_without_cache_or_neighbours(family, cache) -> None:
    model = toy.attached(toy.small(family), projection=True)
    rows = toy.rows(model, (9, 6, 12))
    options = {} if cache == "dynamic" else {"cache_implementation": cache}
    batch = toy.left_padded(rows)
    ids_BT = model.generate(**batch, max_new_tokens=6, do_sample=False, **options)
    written = ids_BT[:, batch["input_ids"].shape[1] :].tolist()
    assert written == [_by_hand(model, row, 6) for row in rows]
    assert len({tuple(each) for each in written}) > 1  # else the above proves little


def test_beams_and_returns_are_the_best_of_all_continuations(family) -> None:
    """With as many beams as there are tokens, two tokens of beam search are exhaustive."""
    model = toy.attached(toy.small(family))
    [row] = toy.rows(model, (7,))
    written = model.generate(
        torch.tensor([row]),
        attention_mask=torch.ones(1, len(row), dtype=torch.long),
        max_new_tokens=2,
        num_beams=toy.VOCABULARY,
        num_return_sequences=3,
        do_sample=False,
    )
    first_V = _alone(model, row)[-1].log_softmax(-1)
    rows = [[*row, token] for token in range(toy.VOCABULARY)]
    second_VV = torch.stack([_alone(model, each)[-1].log_softmax(-1) for each in rows])
    best = (first_V[:, None] + second_VV).flatten().topk(3).indices
    expected = [[int(i) // toy.VOCABULARY, int(i) % toy.VOCABULARY] for i in best]
    assert written[:, len(row) :].tolist() == expected


def test_packed_rows_equal_separate_rows() -> None:
    glm, rows = toy.attached(toy.small("glm")), [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15]]
    ids = torch.tensor([[token for row in rows for token in row]])
    positions = torch.tensor([[i for row in rows for i in range(len(row))]])
    owner = torch.tensor([number for number, row in enumerate(rows) for _ in row])
    mask = ((owner[:, None] == owner) & torch.ones(11, 11).tril().bool())[None, None]
    for given in ({}, {"attention_mask": mask}):
        packed = toy.logits(glm, input_ids=ids, position_ids=positions, use_cache=False, **given)[0]
        _compare_packed(glm, rows, packed)


def test_packed_chatglm_rows_equal_separate_rows() -> None:
    model = toy.attached(toy.small("chatglm-6b"))
    rows = toy.rows(model, (8, 6, 11))
    segments = torch.tensor([[n for n, row in enumerate(rows, 1) for _ in row]])
    ids = torch.tensor([[token for row in rows for token in row]])
    _compare_packed(model, rows, toy.logits(model, input_ids=ids, attention_mask=segments)[0])


def _compare_packed(model: Any, rows: list[list[int]], packed_TV: Tensor) -> None:
    for row, logits_TV in zip(rows, packed_TV.split([len(row) for row in rows]), strict=True):
        off = toy.far(logits_TV, _alone(model, row))
        assert off <= CLOSE


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("other_forwards", [False, True])
def test_gradient_checkpointing_changes_no_gradient(family, dropout, other_forwards) -> None:
    model = toy.attached(toy.small(family), projection=True, dropout=dropout).train()
    for module in model.modules():  # GPT-2 has dropout of its own, and recomputes none of ours
        if isinstance(module, torch.nn.Dropout) and module is not toy.encoder(model).dropout:
            module.p = 0.0
    [row], [other] = toy.rows(model, (9,)), toy.rows(model, (6,), seed=9)
    torch.manual_seed(1)
    expected = _gradients(model, row)
    model.activation_checkpointing_enable()
    torch.manual_seed(1)
    model.zero_grad()
    loss = _loss(model, row)
    if other_forwards:
        _loss(model, other)
        model.eval()
        _alone(model, other)
        model.train()
    loss.backward()
    for own, each in zip(toy.encoder(model).parameters(), expected, strict=True):
        assert each.abs().max() > 0
        off = toy.far(own.grad, each) / each.abs().max().item()
        assert off <= 1e-5


def test_reentrant_checkpointing_is_refused() -> None:
    model = toy.attached(toy.small("glm"), projection=True).train()
    model.activation_checkpointing_enable({"use_reentrant": True})
    with pytest.raises(InputError, match="its reentrant form cannot train a prefix"):
        _loss(model, [5, 6, 7])


def test_only_the_prefix_is_trained(family) -> None:
    model = toy.attached(toy.small(family))
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    _loss(model, toy.rows(model, (8,))[0]).backward()
    optimizer.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {f"{model.base_model_prefix}.prefix_encoder.embedding.weight"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("projection", [False, True])
def test_the_encoder_stays_float32_on_a_half_precision_base(family, dtype, projection) -> None:
    model = toy.attached(toy.small(family).to(dtype), projection=projection)
    exact = toy.attached(toy.small(family), projection=projection)
    [row] = toy.rows(model, (9,))
    gradients = _gradients(model, row)
    assert all(each.dtype == torch.float32 and each.isfinite().all() for each in gradients)
    assert {each.dtype for each in toy.encoder(model).state_dict().values()} == {torch.float32}
    half, whole = _alone(model, row).float().flatten(), _alone(exact, row).flatten()
    # reference/README.md: cosine to the float32 logits 0.983 in bfloat16 for ChatGLM-6B
    assert torch.nn.functional.cosine_similarity(half, whole, dim=0) > 0.97
    written = model.generate(torch.tensor([row]), max_new_tokens=3, do_sample=False)
    assert written.shape == (1, len(row) + 3)


def test_dropout_differs_from_row_to_row_and_is_off_when_evaluating() -> None:
    model = toy.attached(toy.small("glm"), dropout=0.5)
    batch = torch.tensor([[5, 6, 7], [5, 6, 7]])
    still = toy.logits(model, input_ids=batch)
    assert torch.equal(still[0], still[1])
    model.train()
    moving = toy.logits(model, input_ids=batch)
    assert toy.far(moving[0], moving[1]) > 0.01
    kv_NBHPD = toy.encoder(model)(2, torch.float32)
    kept = kv_NBHPD != 0  # inverted dropout: what is kept is divided by 1 - p
    whole = toy.encoder(model).eval()(2, torch.float32).expand_as(kv_NBHPD)
    assert torch.equal(kv_NBHPD[kept], 2 * whole[kept])
    assert 0.4 < kept.float().mean() < 0.6


def test_the_projection_runs_once_for_an_answer() -> None:
    model = toy.attached(toy.small("glm"), projection=True)
    runs: list[int] = []
    toy.encoder(model).trans.register_forward_hook(lambda *_: runs.append(1))
    model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=8, do_sample=False)
    assert len(runs) == 1


@pytest.mark.parametrize("change", ["step", "load", "in place", "behind torch's back"])
def test_a_changed_encoder_is_seen_by_the_next_answer(change) -> None:
    model = toy.attached(toy.small("glm"), projection=True)
    other = toy.attached(toy.small("glm"), projection=True, seed=8)
    weights = toy.encoder(other).state_dict()
    row = [5, 6, 7, 8, 9, 10]
    first = _written(model, row)
    if change == "step":
        optimizer = torch.optim.SGD(toy.encoder(model).parameters(), lr=30.0)
        _loss(model, row).backward()
        _written(model, row)  # an evaluation between backward and step
        optimizer.step()
        weights = {k: v.clone() for k, v in toy.encoder(model).state_dict().items()}
    elif change == "load":
        toy.encoder(model).load_state_dict(weights)
    else:
        for name, each in toy.encoder(model).named_parameters():
            with torch.no_grad():
                (each if change == "in place" else each.data).copy_(weights[name])
    fresh = toy.attached(toy.small("glm"), projection=True)
    toy.encoder(fresh).load_state_dict(weights)
    second = _written(model, row)
    assert second == _written(fresh, row) != first


def _written(model: Any, row: list[int]) -> list[int]:
    ids = torch.tensor([row])
    return model.generate(ids, max_new_tokens=8, do_sample=False)[0].tolist()


def test_one_seed_gives_one_start_and_leaves_torchs_generator_alone() -> None:
    state = torch.get_rng_state()
    one, other = (toy.attached(toy.small("glm", 5), seed=4) for _ in range(2))
    torch.set_rng_state(state)
    toy.attached(toy.small("glm", 5), seed=4)
    torch.manual_seed(5)
    base = toy.small("glm", 5)
    before = torch.get_rng_state()
    toy.attached(base, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(toy.encoder(one).embedding.weight, toy.encoder(other).embedding.weight)


def test_a_copy_of_a_model_has_a_prefix_of_its_own() -> None:
    model = toy.attached(toy.small("glm"))
    other = copy.deepcopy(model)
    before = _alone(model, [5, 6, 7])
    torch.nn.init.zeros_(toy.encoder(other).embedding.weight)
    assert torch.equal(_alone(model, [5, 6, 7]), before)
    assert not torch.equal(_alone(other, [5, 6, 7]), before)


def test_a_model_that_shares_the_configuration_gets_no_prefix() -> None:
    plain = toy.small("glm")
    before = _alone(plain, [5, 6, 7])
    other = type(plain)(plain.config)
    other.config = other.model.config = plain.config
    toy.attached(other)
    assert plain.config._attn_implementation == "prefix_sdpa"
    assert torch.equal(_alone(plain, [5, 6, 7]), before)


# peft 0.21 still asks transformers 5.23 by the old name of activation checkpointing.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_a_model_takes_one_prefix_and_nothing_before_it() -> None:
    from peft import LoraConfig, get_peft_model

    model = toy.attached(toy.small("glm"))
    with pytest.raises(InputError, match="it has a prefix already"):
        toy.attached(model)
    with pytest.raises(InputError, match=r"PeftModel.*: not a bare transformers model"):
        toy.attached(get_peft_model(toy.small("glm"), LoraConfig(target_modules=["q_proj"])))


def test_a_model_whose_attention_cannot_be_reached_is_refused_and_left_as_it_was() -> None:
    from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

    sizes = {"vocab_size": 8, "n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 8}
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**sizes))
    with pytest.raises(InputError, match="its attention cannot be given a prefix"):
        toy.attached(model)
    assert all(each.requires_grad for each in model.parameters())
    glm = toy.small("glm")
    glm.config._attn_implementation_internal = "flex_attention"
    with pytest.raises(InputError, match=r"cannot be given a prefix, got 'flex_attention'\. Load"):
        toy.attached(glm)
    for wrong in ({"length": 0}, {"dropout": 1.0}):
        with pytest.raises(InputError, match="needs a length of at least 1 and a dropout in"):
            toy.attached(toy.small("glm"), **wrong)


def test_an_answer_without_the_prefix_is_never_given() -> None:
    model = toy.attached(toy.small("glm"))
    model.set_attn_implementation("sdpa")
    with pytest.raises(
        InputError, match=r"3 layers did not attend to it, got 'layers \[0, 1, 2\]'"
    ):
        _alone(model, [5, 6, 7])


def test_a_blocked_query_sees_the_prefix_and_spoils_no_gradient(family) -> None:
    model = toy.attached(toy.small(family))
    batch = toy.left_padded(toy.rows(model, (6, 12)))
    out = model(**batch, labels=batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100))
    out.loss.backward()
    assert out.logits.isfinite().all()
    assert toy.encoder(model).embedding.weight.grad.isfinite().all()


def test_prefix_tuning_learns_a_row_by_heart() -> None:
    model = toy.attached(toy.small("chatglm-6b"), length=8, dropout=0.0).train()
    row = toy_chatglm.prompt(model, 6, 5, seed=2)
    optimizer = torch.optim.AdamW(toy.encoder(model).parameters(), lr=0.1)
    first = _loss(model, row).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = _loss(model, row)
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 4


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("family", ["chatglm-6b", "glm"])
def test_a_prefix_learns_on_a_quantised_base(family, quantization, tmp_path) -> None:
    """Half a batch of steps, an answer, and more steps: nf4 on a CPU once could not do the last."""
    from transformers import AutoModelForCausalLM

    from glmops.models.chatglm import register
    from glmops.models.quantization import bitsandbytes_config, settle

    register()
    sizes = {"hidden_size": 64, "intermediate_size": 128}
    sizes |= {"head_dim": 16} if family == "glm" else {}
    toy.small(family, **sizes).save_pretrained(str(tmp_path))
    model = settle(
        AutoModelForCausalLM.from_pretrained(
            str(tmp_path),
            quantization_config=bitsandbytes_config(quantization, torch.bfloat16),
            device_map={"": "cpu"},
            dtype=torch.bfloat16,
        )
    )
    toy.attached(model, projection=True, dropout=0.0)
    trained = [each for each in model.parameters() if each.requires_grad]
    assert {each.dtype for each in trained} == {torch.float32}
    optimizer = torch.optim.AdamW(trained, lr=0.02)
    [row] = toy.rows(model, (9,))
    losses = []
    for step in range(8):
        if step == 4:
            model.eval()
            assert _alone(model, row).isfinite().all()
            model.train()
        loss = _loss(model, row)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
