from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import toy_model as toy
import toy_runs
from glmops.errors import MachineError, RecipeError
from glmops.models.small import ARCHITECTURES
from glmops.recipe import Train
from glmops.train.batches import collate_for
from glmops.train.candidate import Data
from glmops.train.history import LOG_EVERY
from glmops.train.loop import fit
from glmops.train.loss import measure
from glmops.train.methods import METHODS
from glmops.train.points import Point
from glmops.train.trainer import parts


def _fit(
    data: Data, scratch: Path, *, model: Any = None, settings: Train | None = None, **schedule: Any
) -> tuple[Any, list[Point]]:
    model = model or toy_runs.fresh_model()
    history = fit(model, toy_runs.phase(data, scratch, **schedule), settings or _settings())
    return model, history


def _settings(**changes: Any) -> Train:
    base = toy.base_settings(schedule=None).model_dump()
    return toy.train_settings(**{"method": "scratch", "lora": None, "base": base, **changes})


def _dev_loss(data: Data, model: Any) -> float:
    return measure(model, data.dev, collate_for("glm", pad=0, packed=False))["loss"]


def _weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_training_lowers_the_loss_on_rows_it_has_not_seen(data: Data, tmp_path: Path) -> None:
    before = _dev_loss(data, toy_runs.fresh_model())
    model, _ = _fit(data, tmp_path, epochs=10)
    # A fresh model is near the uniform guess, ln V nats.
    assert before == pytest.approx(math.log(len(data.tokenizer)), abs=0.2)
    assert _dev_loss(data, model) < before - 1


def test_each_epoch_ends_with_the_dev_loss_and_each_step_is_reported(
    data: Data, tmp_path: Path
) -> None:
    model, steps = toy_runs.fresh_model(), []
    phase = toy_runs.phase(data, tmp_path, epochs=4)
    history = fit(model, phase, _settings(), on_step=lambda: steps.append(1))
    assert len(steps) == 20  # 40 rows in batches of 8, four times
    assert LOG_EVERY == 10
    assert [point.step for point in history] == [5, 10, 15, 20]
    assert [point.epoch for point in history if point.dev_loss is not None] == [1, 2, 3, 4]
    assert history[-1].dev_loss == pytest.approx(_dev_loss(data, model), rel=1e-6)


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
def test_the_learning_rate_rises_to_the_recipes_and_falls_as_it_says(
    data: Data, tmp_path: Path, decay: str
) -> None:
    _, history = _fit(
        data, tmp_path, epochs=1, batch_size=1, warmup_fraction=0.1, learning_rate=4e-3, decay=decay
    )
    # 40 steps, 4 of them warm-up: linear from 0, then half a cosine, a line or nothing. A point
    # carries the rate of the step just taken, which counts the steps before it.
    falls = {
        "cosine": lambda part: (1 + math.cos(math.pi * part)) / 2,
        "linear": lambda part: 1 - part,
        "constant": lambda part: 1,
    }
    for point in history:
        done = point.step - 1
        expected = 4e-3 * min(done / 4, falls[decay]((done - 4) / 36))
        assert point.learning_rate == pytest.approx(expected, abs=1e-9)


def test_a_batch_is_cut_between_rows_until_its_parts_are_small_enough() -> None:
    batch = {
        "input_ids": torch.arange(15).view(5, 3),
        "labels": torch.arange(10).view(5, 2),
        "logits_to_keep": torch.tensor([1, 2]),
        "rows": list("abcde"),
    }
    assert [part["rows"] for part in parts(batch, math.inf)] == [list("abcde")]
    cut = list(parts(batch, 8))  # two rows of three tokens each
    assert [part["rows"] for part in cut] == [["a", "b"], ["c", "d"], ["e"]]
    assert torch.cat([part["labels"] for part in cut]).tolist() == batch["labels"].tolist()
    assert all(part["logits_to_keep"].tolist() == [1, 2] for part in cut)
    assert len(list(parts(batch, 1))) == 5


def _refusing(model: Any, most_rows: int, *, in_backward: bool) -> Any:
    """``model``, which runs out of memory with more rows: before it computes, or in the middle of
    the backward pass."""

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    def before(module: Any, arguments: Any, named: dict[str, Any]) -> None:
        if module.training and len(named["input_ids"]) > most_rows:
            fail()

    def middle(module: Any, arguments: Any, output: Any) -> Any:
        model.middle = output[0] if isinstance(output, tuple) else output

    def after(module: Any, arguments: Any, named: dict[str, Any], output: Any) -> None:
        if in_backward and module.training and len(named["input_ids"]) > most_rows:
            model.middle.register_hook(fail)

    if in_backward:
        model.model.layers[0].register_forward_hook(middle)
        model.register_forward_hook(after, with_kwargs=True)
    else:
        model.register_forward_pre_hook(before, with_kwargs=True)
    return model


@pytest.mark.parametrize("in_backward", [False, True])
def test_out_of_memory_halves_the_micro_batch_and_changes_no_step(
    data: Data, tmp_path: Path, in_backward: bool
) -> None:
    refusing = _refusing(toy_runs.fresh_model(), 3, in_backward=in_backward)
    model, history = _fit(data, tmp_path / "a", model=refusing, epochs=2, accumulation=2)
    small, expected = _fit(data, tmp_path / "b", epochs=2, batch_size=2, accumulation=8)
    # The same rows in each step, in other sums: they differ by float32's rounding, which AdamW
    # makes larger where a gradient is next to 0.
    for name, weight in _weights(small).items():
        torch.testing.assert_close(_weights(model)[name], weight, rtol=0, atol=1e-4)
    for point, other in zip(history, expected, strict=True):
        assert point.loss == pytest.approx(other.loss, abs=1e-5)
    said = (tmp_path / "a" / "live.jsonl").read_text("utf-8")
    assert said.count("memory was not enough") == 2
    assert "2 rows and accumulation 8" in said


def test_a_single_row_beyond_the_memory_stops_the_run(data: Data, tmp_path: Path) -> None:
    refusing = _refusing(toy_runs.fresh_model(), 0, in_backward=False)
    with pytest.raises(MachineError, match="even of the smallest micro-batch, got '1 row"):
        _fit(data, tmp_path, model=refusing)


@pytest.mark.parametrize("method", ["scratch", "lora", "prefix"])
def test_gradient_checkpointing_changes_no_weight(data: Data, tmp_path: Path, method: str) -> None:
    trained: list[dict[str, torch.Tensor]] = []
    own = {
        "scratch": {"lora": None},
        "lora": {"lora": {"rank": 2, "alpha": 4, "dropout": 0.2, "targets": ["q_proj"]}},
        "prefix": {"lora": None, "prefix": {"length": 3, "projection": True}, "export": "adapter"},
    }
    base = toy.base_settings(schedule=None).model_dump()
    for on in (False, True):
        settings = toy.train_settings(
            method=method, base=base, gradient_checkpointing=on, **own[method]
        )
        model = METHODS[method](toy_runs.fresh_model(), settings)
        fit(model, toy_runs.phase(data, tmp_path / str(on)), settings)
        trained.append(_weights(model))
    # What is computed again in backward is computed in the same way.
    for name, weight in trained[0].items():
        torch.testing.assert_close(trained[1][name], weight, rtol=0, atol=1e-6)


def test_gradient_checkpointing_is_refused_where_the_architecture_has_none(
    data: Data, tmp_path: Path
) -> None:
    base = toy.base_settings(architecture="gpt1", intermediate_size=128, kv_heads=2, schedule=None)
    model = ARCHITECTURES["gpt1"](base, toy.tokenizer(), max_tokens=80, seed=1)
    with pytest.raises(RecipeError, match=r"^train.gradient_checkpointing: this architecture"):
        _fit(data, tmp_path, model=model, settings=_settings(gradient_checkpointing=True))


def test_float16_is_refused_where_there_is_no_gpu(data: Data, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RecipeError, match=r"^train.precision: training in float16 needs a GPU"):
        _fit(data, tmp_path, settings=_settings(precision="float16"))


def test_bfloat16_trains_float32_weights(data: Data, tmp_path: Path) -> None:
    model, history = _fit(data, tmp_path, settings=_settings(precision="bfloat16"), epochs=4)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert history[-1].loss < history[0].loss


@pytest.mark.parametrize("architecture", ["glm", "gpt2"])
def test_training_says_nothing(
    data: Data, tmp_path: Path, capfd: pytest.CaptureFixture[str], architecture: str
) -> None:
    base = toy.base_settings(architecture=architecture, kv_heads=2, schedule=None)
    model = ARCHITECTURES[architecture](base, toy.tokenizer(), max_tokens=80, seed=1)
    _fit(data, tmp_path, model=model, settings=_settings(checkpoints={"every_steps": 2}))
    assert capfd.readouterr() == ("", "")


def test_a_run_does_not_go_on_from_another_ones_checkpoint(data: Data, tmp_path: Path) -> None:
    settings = _settings(checkpoints={"every_steps": 2})
    fresh, _ = _fit(data, tmp_path / "fresh", settings=settings)
    shared = tmp_path / "shared"
    fit(toy_runs.fresh_model(), replace(toy_runs.phase(data, shared), model_hash="x"), settings)
    model, _ = _fit(data, shared, settings=settings)
    for name, weight in _weights(fresh).items():
        assert torch.equal(_weights(model)[name], weight)
