"""Every learnt token weighs the same, whatever forward, process or pack it is in."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

import toy_batches as toy
import toy_model
from glmops.recipe import Schedule
from glmops.train.batches import IGNORED, collate_for
from glmops.train.loop import Phase, fit
from glmops.train.loss import measure, measured_together, num_learnt, prompt_weight, summed_loss
from glmops.train.rows import Row, read_rows

LENGTHS = (9, 30, 12, 22, 8, 17, 14, 26)


def _uneven() -> list[Row]:
    """8 rows with 1 to 6 learnt tokens: a mean over rows, or of forwards' means, is another."""
    made = [toy.rows([n], learnt=k % 6 + 1, seed=k)[0] for k, n in enumerate(LENGTHS)]
    return [replace(row, name=f"row-{n}") for n, row in enumerate(made)]


class _Gradients(TrainerCallback):
    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
        self.found = _gradients(model)


def _gradients(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def _one_step(
    tmp_path: Path, rows: list[Row], *, packed: bool = False, prompt_loss: float = 0.0, **how: Any
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], float]:
    """Gradients of one step of fit, the weights after it, and the loss it reported."""
    (tmp_path / "work").mkdir(parents=True)
    file = read_rows(toy.write(tmp_path / "train.arrow", [rows], packed=packed), 400)
    dev = read_rows(toy.write(tmp_path / "dev.arrow", [toy.rows([9])]), 400)
    step = {"epochs": 1, "max_gradient_norm": 1e9, "warmup_fraction": 0.0, **how}
    schedule = Schedule.model_validate(toy_model.schedule(**step))
    settings = toy_model.train_settings(prompt_loss=prompt_loss)
    model, seen = toy.model("glm", wide=2).train(), _Gradients()
    phase = Phase("base", file, dev, schedule, "glm", 0, tmp_path / "work")
    [point] = fit(model, phase, settings, callbacks=[seen])
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    return seen.found, weights, point.loss


def _expected(rows: list[Row], prompt_loss: float = 0.0) -> tuple[dict[str, torch.Tensor], float]:
    """The oracle: rows one by one, from the definition."""
    model = toy.model("glm", wide=2).train()
    loss = torch.cat([toy.nats_alone(model, row) for row in rows]).mean()
    if prompt_loss:
        others = [replace(row, learnt=~row.learnt) for row in rows]
        prompts = torch.cat([toy.nats_alone(model, row) for row in others]).mean()
        loss = loss + prompt_loss * prompts
    loss.backward()
    return _gradients(model), float(loss.detach())


def _same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # float32, summed in another order.
        scale = float(value.abs().max())
        torch.testing.assert_close(found[name], value, atol=2e-6 * scale, rtol=1e-5)


@pytest.mark.parametrize(
    "how",
    [
        {"batch_size": 8},
        {"batch_size": 4, "accumulation": 2},
        {"batch_size": 2, "accumulation": 4},
        {"batch_size": 3, "accumulation": 4},  # forwards of 3, 3 and 2 rows
        {"batch_size": None, "batch_tokens": 60, "accumulation": 8},
    ],
)
@pytest.mark.parametrize("prompt_loss", [0.0, 0.5])
def test_gradients_are_those_of_the_mean_over_learnt_tokens(
    tmp_path: Path, how: dict[str, Any], prompt_loss: float
) -> None:
    rows = _uneven()
    gradients, loss = _expected(rows, prompt_loss)
    found, _, reported = _one_step(tmp_path, rows, prompt_loss=prompt_loss, **how)
    _same(found, gradients)
    assert reported == pytest.approx(loss, rel=1e-5)


def test_a_step_moves_the_weights_alike_however_it_is_cut_and_packed(tmp_path: Path) -> None:
    rows = _uneven()
    ways = {
        "whole": _one_step(tmp_path / "a", rows, batch_size=8),
        "halves": _one_step(tmp_path / "b", rows, batch_size=4, accumulation=2),
        "quarters": _one_step(tmp_path / "c", rows, batch_size=2, accumulation=4),
        "packs": _one_step(
            tmp_path / "d", [toy.pack(rows[:5]), toy.pack(rows[5:])], packed=True, batch_size=2
        ),
    }
    _, whole, _ = ways.pop("whole")
    for gradients, weights, _ in ways.values():
        for name, expected in whole.items():
            # AdamW's first step moves every weight by the learning rate times the gradient's sign:
            # where the gradient itself is rounding, so is the sign.
            sure = gradients[name].abs() > 1e-5 * gradients[name].abs().max()
            torch.testing.assert_close(weights[name][sure], expected[sure], atol=2e-6, rtol=0)
            assert sure.float().mean() > 0.05


def test_the_sum_is_over_labels_that_count_each_times_its_weight() -> None:
    # By hand: softmax of (0, ln 3) is (1/4, 3/4).
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, math.log(3)], [0.0, math.log(3)]]])
    labels = torch.tensor([[1, 0, IGNORED]])
    assert float(summed_loss(logits, labels)) == pytest.approx(math.log(4 / 3) + math.log(4))
    weights = torch.tensor([[1.0, 0.5, 7.0]])
    weighted = math.log(4 / 3) + 0.5 * math.log(4)
    assert float(summed_loss(logits, labels, weights)) == pytest.approx(weighted)
    assert num_learnt([{"labels": labels}, {"labels": labels}]) == 4


def test_all_prompts_together_weigh_what_the_recipe_says(tmp_path: Path) -> None:
    rows = _uneven()
    file = read_rows(toy.write(tmp_path / "rows.arrow", [rows]), 400)
    answers = sum(k % 6 + 1 for k in range(8))
    prompts = sum(LENGTHS) - answers - 8  # nothing predicts the first token of a row
    weight = prompt_weight(file, 0.5)
    assert weight * prompts == pytest.approx(0.5 * answers)
    batch = collate_for("glm", pad=0, packed=False, prompt_loss=weight)(rows)
    assert float(batch["weights"].sum()) == pytest.approx(1.5 * answers, rel=1e-6)


@pytest.mark.parametrize("architecture", ["glm", "chatglm", "gpt1", "gpt2"])
def test_measure_is_the_mean_over_learnt_tokens_and_the_share_of_rows_answered(
    tmp_path: Path, architecture: str
) -> None:
    model, rows = toy.model(architecture), _uneven()
    with torch.no_grad():
        for number in (1, 4, 6):  # three rows whose answers are what the model would write
            ids = torch.from_numpy(rows[number].input_ids).long()
            for place in np.flatnonzero(rows[number].learnt):
                ids[place] = model(ids[None], use_cache=False).logits[0, place - 1].argmax()
            rows[number] = replace(rows[number], input_ids=ids.numpy().astype(np.int32))
        nats = torch.cat([toy.nats_alone(model, row) for row in rows])
    file = read_rows(toy.write(tmp_path / "rows.arrow", [rows[:3], rows[3:]]), 400)
    found = measure(model, file, collate_for(toy.family(architecture), pad=0, packed=False))
    assert found["loss"] == pytest.approx(float(nats.mean()), rel=1e-6)
    assert found["exact"] == 3 / 8


def test_rows_are_measured_each_once_in_forwards_of_bounded_tokens_and_logits() -> None:
    draw = np.random.default_rng(0)
    tokens = draw.integers(2, 900, 500).astype(np.int32)
    places = draw.integers(1, tokens).astype(np.int32)
    batches = measured_together(tokens, places, 10_000)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * tokens[rows].max() <= 8192
        assert len(rows) == 1 or len(rows) * places[rows].max() * 10_000 <= 2**26


def test_measuring_leaves_the_model_in_the_mode_it_had(tmp_path: Path) -> None:
    file = read_rows(toy.write(tmp_path / "rows.arrow", [_uneven()]), 400)
    for training in (True, False):
        model = toy.model("gpt2").train(training)  # which has dropout
        collate = collate_for("glm", pad=0, packed=False)
        assert measure(model, file, collate) == measure(model, file, collate)
        assert model.training is training
