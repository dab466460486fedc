from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import toy_model as toy
from glmops.errors import GlmopsError
from glmops.models.small import small_glm
from glmops.recipe import Schedule
from glmops.train.batches import IGNORED, Row
from glmops.train.candidate import Data
from glmops.train.loop import LOG_EVERY, Point, fit, mean_loss, num_steps


def _fit(model: Any, rows: list[Row], dev: list[Row], **changes: Any) -> list[Point]:
    schedule = Schedule.model_validate(toy.schedule(**changes.pop("schedule", {})))
    return fit(model, rows, dev, schedule, phase="base", seed=1, pad=0, **changes)


def _fresh() -> Any:
    return small_glm(toy.base_settings(), toy.tokenizer(), max_tokens=80, seed=1)


@pytest.mark.parametrize(
    ("rows", "epochs", "expected"),
    # Batches of 8: 20 rows are 3 batches an epoch, 16 are 2; a part of an epoch is rounded up.
    [(20, 1, 3), (20, 4, 12), (16, 2, 4), (20, 0.2, 1), (20, 0.5, 2), (1, 1, 1)],
)
def test_steps_are_epochs_times_batches(rows: int, epochs: float, expected: int) -> None:
    assert num_steps(rows, Schedule.model_validate(toy.schedule(epochs=epochs))) == expected


def test_training_lowers_the_loss_on_rows_it_has_not_seen(data: Data) -> None:
    model = _fresh()
    before = mean_loss(model, data.dev, 0)
    _fit(model, data.train, data.dev, schedule={"epochs": 10})
    # A fresh model is near the uniform guess, ln V nats.
    assert before == pytest.approx(math.log(len(data.tokenizer)), abs=0.2)
    assert mean_loss(model, data.dev, 0) < before - 1


def test_each_epoch_ends_with_the_dev_loss_and_each_step_is_reported(data: Data) -> None:
    model, steps = _fresh(), []
    history = _fit(
        model, data.train, data.dev, schedule={"epochs": 4}, on_step=lambda: steps.append(1)
    )
    assert len(steps) == 20  # 40 rows in batches of 8, four times
    assert LOG_EVERY == 10
    assert [p.step for p in history] == [5, 10, 15, 20]
    assert [p.epoch for p in history if p.dev_loss is not None] == [1, 2, 3, 4]
    assert history[-1].dev_loss == pytest.approx(mean_loss(model, data.dev, 0), rel=1e-6)


def test_the_learning_rate_rises_to_the_recipes_and_falls_to_zero(data: Data) -> None:
    schedule = {"epochs": 5, "batch_size": 1, "warmup_fraction": 0.1, "learning_rate": 0.004}
    history = _fit(_fresh(), data.train, data.dev, schedule=schedule)
    # 200 steps, 20 of them warm-up: linear from 0, then half a cosine. A point carries the rate of
    # the step just taken, which counts the steps before it.
    for point in history:
        done = point.step - 1
        wave = (1 + math.cos(math.pi * (done - 20) / 180)) / 2
        assert point.learning_rate == pytest.approx(0.004 * min(done / 20, wave), abs=1e-9)


def test_the_mean_loss_weighs_every_learnt_token_alike(data: Data) -> None:
    model = toy.model()
    rows = data.train[:3]
    total, learnt = 0.0, 0
    with torch.no_grad():
        for row in rows:  # the oracle: row by row, unpadded, from the definition
            chances = model(input_ids=torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
            for place, label in enumerate(row["labels"]):
                if label != IGNORED:
                    total -= float(chances[place - 1, label])
                    learnt += 1
    assert mean_loss(model, rows, 0) == pytest.approx(total / learnt, rel=1e-5)


def test_measuring_leaves_the_model_in_the_mode_it_had(data: Data) -> None:
    model = _fresh().train()
    mean_loss(model, data.dev, 0)
    assert model.training


def test_a_loss_that_is_no_number_stops_the_run(data: Data) -> None:
    model = _fresh()
    model.get_input_embeddings().weight.data[4] = math.nan
    with pytest.raises(GlmopsError, match=r"train base step 5: the loss is no longer a number"):
        _fit(model, data.train, data.dev)


def test_a_loss_of_exactly_zero_stops_the_run() -> None:
    # One token over and over, with an embedding so long that the model is certain of it: by hand,
    # its logit is 32·100 and every other one 0, so that softmax underflows to exactly 1.
    model = _fresh()
    weights = model.get_input_embeddings().weight.data
    weights.zero_()
    weights[7] = 100.0
    row: Row = {"input_ids": [7] * 6, "labels": [7] * 6}
    with pytest.raises(GlmopsError, match=r"train base step 1: the loss is exactly 0"):
        _fit(model, [row] * 4, [row])


def test_training_says_nothing(data: Data, capfd: pytest.CaptureFixture[str]) -> None:
    _fit(_fresh(), data.train, data.dev)
    assert capfd.readouterr() == ("", "")
