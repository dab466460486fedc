from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import toy_batches as toy
import toy_model
from glmops.models.small import ARCHITECTURES
from glmops.train.batches import IGNORED, collate_for, loader_for, silenced
from glmops.train.loss import num_learnt, summed_loss
from glmops.train.methods import low_rank
from glmops.train.order import Plan, Sampler
from glmops.train.rows import Row

LENGTHS = (7, 19, 12, 8)
ROW = Row("a", np.array([5, 6, 7, 8], np.int32), np.array([0, 0, 1, 1], bool), (4,))
SHORT = Row("b", np.array([9, 4], np.int32), np.array([1, 1], bool), (2,))


def test_logits_are_made_where_a_rows_learnt_tokens_are_predicted_and_nowhere_else() -> None:
    batch = collate_for("glm", pad=0, packed=False)([ROW, SHORT])
    assert batch.keys() == {"input_ids", "logits_to_keep", "labels"}
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [9, 4, 0, 0]]
    # By hand: 7 follows place 1 and 8 place 2; of the short row only 4 has something before it.
    assert batch["logits_to_keep"].tolist() == [[1, 2], [0, 0]]
    assert batch["labels"].tolist() == [[7, 8], [4, IGNORED]]


def test_a_pack_never_teaches_the_first_token_of_a_row() -> None:
    pack = replace(toy.pack([ROW, SHORT]), learnt=np.ones(6, bool))
    batch = collate_for("glm", pad=0, packed=True)([pack])
    # 9, at place 4, begins the second row: place 3 predicts nothing.
    assert batch["logits_to_keep"].tolist() == [[0, 1, 2, 4]]
    assert batch["labels"].tolist() == [[6, 7, 8, 4]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1]]


def test_chatglm_is_told_rows_and_padding_apart_by_number() -> None:
    batch = collate_for("chatglm", pad=0, packed=True)([toy.pack([SHORT, SHORT]), SHORT])
    assert batch["attention_mask"].tolist() == [[1, 1, 2, 2], [1, 1, 0, 0]]
    assert "position_ids" not in batch


@pytest.mark.parametrize("weight", [0.25, 1.0, 3.0])
def test_prompts_weigh_what_they_are_given_and_are_not_counted(weight: float) -> None:
    batch = collate_for("glm", pad=0, packed=False, prompt_loss=weight)([ROW, SHORT])
    assert batch["labels"].tolist() == [[6, 7, 8], [4, IGNORED, IGNORED]]
    expected = torch.tensor([[weight, 1, 1], [1, 0, 0]])
    torch.testing.assert_close(batch["weights"], expected, atol=1e-7, rtol=0)
    assert num_learnt([batch, batch]) == 6  # 7, 8 and 4, twice; even where prompts weigh as much


TARGETS = {"glm": "down_proj", "chatglm": "query_key_value", "gpt1": "c_attn", "gpt2": "c_attn"}


def _adapted(architecture: str) -> Any:
    """LoRA with the changes of a trained one: a new one changes nothing."""
    lora = {"rank": 2, "alpha": 2, "dropout": 0.0, "targets": [TARGETS[architecture]]}
    model = low_rank(toy.model(architecture), toy_model.train_settings(lora=lora))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_padded_batch_equals_its_rows(architecture: str, adapted: bool) -> None:
    model = _adapted(architecture) if adapted else toy.model(architecture)
    rows = toy.rows(LENGTHS)
    batch = collate_for(toy.family(architecture), pad=0, packed=False)(rows)
    alone = torch.cat([toy.nats_alone(model, row) for row in rows])
    assert alone.std() > 0.5
    torch.testing.assert_close(toy.nats(model, batch), alone, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize(
    ("architecture", "packed"),
    [("glm", False), ("glm", True), ("gpt2", True), ("chatglm", False), ("chatglm", True)],
)
def test_gradient_checkpointing_changes_no_gradient(
    architecture: str, packed: bool, adapted: bool
) -> None:
    rows = toy.rows(LENGTHS)
    some = [toy.pack(rows[:2]), toy.pack(rows[2:])] if packed else rows
    batch = collate_for(toy.family(architecture), pad=0, packed=packed)(some)

    def gradients(checkpointing: bool) -> list[torch.Tensor]:
        model = _adapted(architecture) if adapted else toy.model(architecture)
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        toy.nats(model, batch).sum().backward()
        found = [p.grad for p in model.parameters() if p.requires_grad]
        assert found
        return found

    for plain, again in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(again, plain, atol=1e-6 * float(plain.abs().max()), rtol=0)


@pytest.mark.parametrize("prompt_loss", [0.0, 0.5])
def test_a_process_without_rows_learns_nothing_and_takes_part(prompt_loss: float) -> None:
    model = toy.model("glm")
    collate = collate_for("glm", pad=0, packed=False, prompt_loss=prompt_loss)
    batch = silenced(collate(toy.rows([9])))
    assert num_learnt([batch]) == 0
    logits = model(batch["input_ids"], logits_to_keep=batch["logits_to_keep"]).logits
    summed_loss(logits, batch["labels"], batch.get("weights")).backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_the_loader_gives_each_process_its_share_and_silence_where_it_has_none() -> None:
    rows: Any = toy.rows([9, 9, 9])
    plan = Plan(np.full(3, 9, np.int32), 1, 1, None, processes=2)
    collate = collate_for("glm", pad=0, packed=False)
    first, second = (list(loader_for(rows, Sampler(plan, p), collate)) for p in range(2))
    assert [num_learnt([batch]) for batch in first] == [3, 3]
    assert [num_learnt([batch]) for batch in second] == [3, 0]
