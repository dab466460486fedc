"""ChatGLM-6B in training, on disk, and given what it cannot use."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache

import toy_chatglm as toy
from glmops.errors import InputError
from glmops.models.chatglm import register
from glmops.models.chatglm.configuration import ChatGLMConfig


@pytest.fixture(scope="module")
def model() -> Any:
    return toy.random_model(7)


# --- training ------------------------------------------------------------------------------------


def trained(model: Any, **inputs: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients, in training mode."""
    model.train()
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    return loss.detach(), gradients


def close(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    for name, gradient in one.items():
        scale = max(gradient.abs().max().item(), 1e-3)
        torch.testing.assert_close(two[name], gradient, atol=1e-4 * scale, rtol=0.0, msg=name)


def test_packed_rows_train_like_separate_rows() -> None:
    """Logits, loss and gradients; the first label of a segment is nobody's to predict."""
    model = toy.random_model(7)
    rows, ids_BT, real_BT = toy.batch(model)
    labels = [[-100, *row[1:]] for row in rows]
    labels_BT = toy.left_padded(labels, -100)[0]
    loss, gradients = trained(model, input_ids=ids_BT, attention_mask=real_BT, labels=labels_BT)
    # Two rows in each, padding behind, before and between them, numbers in any order.
    layout = [[(1, 0), (2, 1), (0, 3)], [(0, 1), (5, 2), (0, 4), (2, 3)]]
    pad = model.config.pad_token_id
    packed: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for parts in layout:
        ids, numbers, wanted = [], [], []
        for number, which in parts:
            ids += rows[which] if number else [pad] * which
            wanted += labels[which] if number else [-100] * which
            numbers += [number] * (len(ids) - len(numbers))
        packed["input_ids"].append(ids)
        packed["attention_mask"].append(numbers)
        packed["labels"].append(wanted)
    tensors = {name: torch.tensor(rows_) for name, rows_ in packed.items()}
    packed_loss, packed_gradients = trained(model, **tensors)
    torch.testing.assert_close(packed_loss, loss)
    close(gradients, packed_gradients)
    with torch.no_grad():
        together = model(**tensors).logits[0]
        alone = torch.cat([model(torch.tensor([row])).logits[0] for row in rows[:2]])
    torch.testing.assert_close(together[: len(alone)], alone, **toy.SAME)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(reentrant) -> None:
    model = toy.random_model(7)
    _, ids_BT, real_BT = toy.batch(model)
    inputs = {"input_ids": ids_BT, "attention_mask": real_BT, "labels": ids_BT}
    loss, gradients = trained(model, **inputs)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    runs = []
    for layer in model.transformer.layers:
        layer.attention.register_forward_hook(lambda *_: runs.append(1))
    again_loss, again = trained(model, **inputs)
    assert len(runs) == 2 * model.config.num_hidden_layers, "nothing was computed again"
    torch.testing.assert_close(again_loss, loss)
    close(gradients, again)
    assert model(ids_BT, use_cache=True).past_key_values is None


def test_the_loss_divides_by_the_given_number_of_items() -> None:
    model = toy.random_model(7)
    _, ids_BT, real_BT = toy.batch(model)
    labels_BT = ids_BT.masked_fill(real_BT == 0, -100)
    mean = model(ids_BT, attention_mask=real_BT, labels=labels_BT).loss
    items = int((labels_BT[:, 1:] != -100).sum())
    shared_mean = model(
        ids_BT, attention_mask=real_BT, labels=labels_BT, num_items_in_batch=2 * items
    ).loss
    torch.testing.assert_close(shared_mean, mean / 2)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_blocked_rows_give_no_nan_forward_or_backward(attention) -> None:
    """2-D padding (a whole row of it too), and a given mask whose padding queries see nothing."""
    model = toy.random_model(7, attention=attention)
    _, ids_BT, real_BT = toy.batch(model)
    real_BT[3] = 0
    given = torch.ones(4, 1, ids_BT.shape[1], ids_BT.shape[1], dtype=torch.bool).tril()
    given &= real_BT[:, None, None].bool() & real_BT[:, None, :, None].bool()
    places = torch.zeros(4, 2, ids_BT.shape[1], dtype=torch.long)
    opened = given | ~given.any(-1, keepdim=True)
    logits = []
    for mask in (real_BT, given, opened):
        out = model(ids_BT, attention_mask=mask, position_ids=None if mask is real_BT else places)
        assert out.logits.isfinite().all()
        model.zero_grad()
        out.logits[real_BT.bool()].sum().backward()
        assert all(weight.grad.isfinite().all() for weight in model.parameters())
        logits.append(out.logits)
    assert torch.equal(logits[1], logits[2]), "who may see nothing sees everything"


def test_no_cache_is_filled_while_training(model) -> None:
    _, ids_BT, _ = toy.batch(model)
    training = toy.random_model(7).train()
    assert training(ids_BT).past_key_values is None
    assert model(ids_BT).past_key_values.get_seq_length() == ids_BT.shape[1]


# --- saving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_saved_model_comes_back_whole_through_the_auto_class(dtype, tmp_path) -> None:
    register()
    register()
    model = toy.random_model(7, residual_layers=11, mask_token_first=True).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        stored = set(file.keys())
    assert stored == set(dict(model.named_parameters())), "the tied head is stored once"
    again, found = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype="auto", output_loading_info=True
    )
    assert not any(found.values()), found
    assert type(again) is type(model)
    assert again.dtype == getattr(torch, dtype)
    assert again.lm_head.weight is again.transformer.word_embeddings.weight
    assert again.config.to_diff_dict() | {"architectures": None} == (
        model.config.to_diff_dict() | {"architectures": None}
    )
    _, ids_BT, real_BT = toy.batch(model)
    with torch.no_grad():
        one, two = (each.eval()(ids_BT, attention_mask=real_BT).logits for each in (model, again))
    assert torch.equal(one, two)
    assert torch.equal(
        toy.write(again, ids_BT, attention_mask=real_BT),
        toy.write(model, ids_BT, attention_mask=real_BT),
    )


def test_the_names_of_the_weights_are_the_originals(shared) -> None:
    index = shared(f"{toy.REFERENCE}/model/pytorch_model.bin.index.json").read_text()
    model = toy.reference_model(shared)
    named = {name for name in model.state_dict() if f'"{name}"' in index}
    assert named == set(model.state_dict())


# --- bad input -----------------------------------------------------------------------------------


def test_bad_input_is_refused_with_what_to_do(model) -> None:
    row = toy.batch(model)[0][0]
    ids_BT = torch.tensor([row])
    four = torch.ones(1, 1, len(row), len(row))
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "needs input_ids or inputs_embeds"),
        ({"inputs_embeds": torch.zeros(1, 4, 32)}, "cannot be told from inputs_embeds"),
        ({"input_ids": ids_BT, "attention_mask": four}, "not bool of shape"),
        ({"input_ids": ids_BT, "attention_mask": four[..., 1:, :].bool()}, "not bool of shape"),
        ({"input_ids": ids_BT, "position_ids": torch.arange(len(row))[None]}, "position_ids"),
        ({"input_ids": ids_BT[:, :-1]}, "input_ids row 0: no <sop>"),
        ({"input_ids": ids_BT, "attention_mask": torch.ones(1, 3, dtype=torch.long)}, "its shape"),
    ]
    for inputs, says in cases:
        with pytest.raises(InputError, match=re.escape(says)):
            model(**inputs)
    filled = model(ids_BT, use_cache=True).past_key_values
    with pytest.raises(InputError, match="cannot be told from them alone"):
        model(torch.tensor([[5]]), past_key_values=filled)
    with pytest.raises(InputError, match=r"must be 0 and 1 of shape \[1, 11\]"):
        model(
            torch.tensor([[5]]),
            past_key_values=filled,
            position_ids=torch.zeros(1, 2, 1, dtype=torch.long),
            attention_mask=torch.ones(1, 3, dtype=torch.long),
        )


def test_generate_refuses_what_it_cannot_go_on_from(model) -> None:
    row = toy.batch(model)[0][0]
    ids_BT = torch.tensor([row])
    with pytest.raises(InputError, match="no <sop>"):
        toy.write(model, row[:-1])
    with pytest.raises(InputError, match="packed rows"):
        toy.write(model, row + row, attention_mask=torch.tensor([[1] * len(row) + [2] * len(row)]))
    with pytest.raises(InputError, match="no <sop>"):
        toy.write(model, row, prefill_chunk_size=4)
    with pytest.raises(InputError, match="no prefill_chunk_size"):
        toy.write(model, [*row, 5, 6], prefill_chunk_size=len(row))
    with pytest.raises(InputError, match="position_ids"):
        toy.write(model, row, position_ids=torch.arange(len(row))[None])
    inside = DynamicCache(config=model.config)
    five = torch.ones(1, 1, 5, 5, dtype=torch.bool)
    places = torch.zeros(1, 2, 5, dtype=torch.long)
    model(ids_BT[:, :5], attention_mask=five, position_ids=places, past_key_values=inside)
    with pytest.raises(InputError, match="ends before the first <sop>"):
        toy.write(model, row, past_key_values=inside)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 34, "num_attention_heads": 4},
        {"hidden_size": 12},
        {"num_attention_heads": 0},
    ],
)
def test_a_shape_that_cannot_be_rotated_is_refused(changes) -> None:
    with pytest.raises(InputError, match=r"ChatGLMConfig\.hidden_size"):
        ChatGLMConfig(**toy.settings(**changes))
