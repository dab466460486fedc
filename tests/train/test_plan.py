from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import toy_model as toy
from glmops.errors import RecipeError
from glmops.recipe import Recipe, Schedule, load_recipe
from glmops.train.order import plan_of
from glmops.train.plan.advice import advice
from glmops.train.plan.lengths import Forward, Lengths, measured_forward, of_limits, work_of
from glmops.train.plan.live import Ledger
from glmops.train.plan.memory import Demand, predict, sizes_of
from glmops.train.plan.skeleton import architecture_of, num_parameters, published, skeleton
from glmops.train.plan.trace import step
from project import ROOT
from toy_plan import lora, recipe


def test_chatglm_6b_has_as_many_parameters_as_hand_arithmetic_says() -> None:
    vocabulary, width, layers = 130_528, 4096, 28
    linear = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    layer = sum(rows * columns + columns for rows, columns in linear) + 4 * width
    assert vocabulary * width + layers * layer + 2 * width == 6_173_286_400
    assert num_parameters(published("chatglm", "")) == 6_173_286_400


def test_chatglm2_6b_has_as_many_parameters_as_hand_arithmetic_says() -> None:
    width, inner, keys = 4096, 13696, 2 * 128
    attention = (width + 1) * (width + 2 * keys) + width * width
    layer = attention + 3 * width * inner + 2 * width
    expected = 2 * 65_024 * width + 28 * layer + width
    assert num_parameters(published("chatglm2", "")) == expected


def test_the_ledger_knows_the_most_that_was_alive() -> None:
    with FakeTensorMode(), Ledger(vocabulary=7) as ledger:
        first = torch.empty(1000)  # 4,000 bytes
        second = first + 1  # 8,000 with this
        del first
        wide = torch.empty(10, 7)  # 4,280 with this
        del second, wide
        third = torch.empty(500, dtype=torch.float64)  # 4,000 again
    assert third.shape == (500,)
    before, after = ledger.peaks([])
    assert before == {"gradients": 0, "logits": 0, "activations": 8000}
    assert after == {"gradients": 0, "logits": 0, "activations": 4000}


def test_only_what_a_lora_trains_has_gradients_and_moments() -> None:
    made = recipe("chatglm", "chatglm", **lora(rank=3))
    architecture = architecture_of(made, ROOT)
    trained = sizes_of(architecture, made.train, "cpu").trained
    # In each of two layers 64 → 3 → 192.
    assert trained == 2 * 3 * (64 + 3 * 64)
    demand = Demand("lora", made.train, (Forward(4, 32, 8),), Forward(1, 8, 1))
    memory = predict(architecture, [demand], "cpu", 0)
    assert memory.optimizer == 8 * trained
    assert memory.weights == 4 * (num_parameters(architecture) + trained) + _buffers(made)


def _buffers(made: Recipe) -> int:
    model, _ = skeleton(architecture_of(made, ROOT), made.train, layers=2, device="cpu")
    return sum(each.nbytes for each in model.buffers())


@pytest.mark.parametrize("family", ["glm", "chatglm", "gpt1", "gpt2"])
def test_logits_grow_with_the_places_and_not_with_the_row(family: str) -> None:
    layout = {"gpt1": "gpt", "gpt2": "gpt"}.get(family, family)
    made = recipe(family, layout, method="full", lora=None)
    architecture = architecture_of(made, ROOT)

    def logits(tokens: int, places: int) -> int:
        model, _ = skeleton(architecture, made.train, layers=1, device="cpu")
        return step(model, Forward(8, tokens, places), made.train, "cpu")[0]["logits"]

    one = logits(24, 12)
    # float32, 8 rows: at least the logits and their gradient are alive at once.
    assert one >= 2 * 8 * 12 * architecture.config.vocab_size * 4
    assert logits(24, 24) == 2 * one
    assert logits(48, 24) == 2 * one


def test_checkpointing_keeps_less_and_accumulation_keeps_gradients() -> None:
    made = recipe(method="full", lora=None)
    less = made.train.model_copy(update={"gradient_checkpointing": True})
    architecture = architecture_of(made, ROOT)
    forward = Forward(16, 128, 2)

    def parts(settings: Any) -> dict[str, int]:
        model, _ = skeleton(architecture, settings, layers=4, device="cpu")
        return step(model, forward, settings, "cpu")[0]

    assert parts(less)["activations"] < parts(made.train)["activations"] / 2
    schedule = made.train.schedule.model_copy(update={"accumulation": 2})
    twice = parts(made.train.model_copy(update={"schedule": schedule}))
    assert twice["gradients"] >= 4 * num_parameters(architecture)


def test_deeper_models_are_told_from_shallow_ones() -> None:
    """What six layers say of nine is what nine layers are."""
    made = recipe(method="full", lora=None)
    deep = made.train.base.model_copy(update={"layers": 9})
    made = made.model_copy(update={"train": made.train.model_copy(update={"base": deep})})
    architecture = architecture_of(made, ROOT)
    forward = Forward(8, 64, 16)
    demand = Demand("full", made.train, (forward,), Forward(1, 8, 1))
    told = predict(architecture, [demand], "cpu", 0)
    model, _ = skeleton(architecture, made.train, layers=9, device="cpu")
    seen = max(sum(parts.values()) for parts in step(model, forward, made.train, "cpu"))
    moving = told.gradients + told.activations + told.logits
    assert moving == pytest.approx(seen, rel=0.02)


def test_the_longest_forward_is_one_that_the_run_makes() -> None:
    rng = np.random.default_rng(3)
    tokens = rng.integers(5, 90, 300).astype(np.int32)
    lengths = Lengths(tokens, tokens // 3, False, "300 encoded rows", 300)
    schedule = Schedule.model_validate(toy.schedule(epochs=2, batch_size=7))
    work = work_of(lengths, schedule, 5, 1)
    plan = plan_of(tokens, schedule, 5)
    forwards = [rows for epoch in (0, 1) for [rows] in plan.epoch(epoch)]
    sizes = [len(rows) * int(tokens[rows].max()) for rows in forwards]
    [longest, *_] = work.longest
    assert longest.rows * longest.tokens == max(sizes)
    assert max(tokens[list(work.numbers)]) == longest.tokens
    assert work.steps == 86  # 2 x ceil(300 / 7)
    assert work.mean_tokens == pytest.approx(np.mean(sizes))
    assert work.shapes == len({(len(rows), int(tokens[rows].max())) for rows in forwards})


def test_dev_rows_are_measured_in_forwards_of_so_many_tokens_and_logits_as_the_loss_takes() -> None:
    tokens = np.full(1000, 64, np.int32)
    dev = Lengths(tokens, tokens // 2, False, "", 1000)
    assert measured_forward(dev, 400) == Forward(8192 // 64, 64, 32)
    # Of ChatGLM-6B's vocabulary: 2**26 logits are 16 rows of 32 places.
    assert measured_forward(dev, 130_528) == Forward(16, 64, 32)


def test_an_advice_that_is_said_to_fit_does() -> None:
    made = recipe("chatglm", "chatglm", **lora())
    architecture = architecture_of(made, ROOT)
    demands = [Demand("lora", made.train, (Forward(32, 200, 100),), Forward(1, 8, 1))]
    now = predict(architecture, demands, "cpu", 0).total
    changes = advice(architecture, demands, "cpu", 0, now // 3)
    assert {each.fits for each in changes} == {True, False}
    smaller = next(each for each in changes if "batch_size 4, accumulation 4" in each.what)
    fewer = [Demand("lora", made.train, (Forward(4, 200, 100),), Forward(1, 8, 1))]
    assert smaller.total == pytest.approx(predict(architecture, fewer, "cpu", 0).total, rel=0.05)
    assert smaller.fits
    assert smaller.total <= now // 3


def test_where_no_change_is_enough_all_together_are_tried() -> None:
    made = recipe("chatglm", "chatglm", **lora())
    architecture = architecture_of(made, ROOT)
    demands = [Demand("lora", made.train, (Forward(32, 200, 100),), Forward(1, 8, 1))]
    changes = advice(architecture, demands, "cpu", 0, 1)
    assert not any(each.fits for each in changes)
    assert changes[-1].total < min(each.total for each in changes[:-1])


def test_zero_divides_what_it_says_it_divides() -> None:
    launch = {"processes": 4, "nodes": 1, "engine": "deepspeed", "zero": 2, "offload": False}
    made = recipe(method="full", lora=None, launch=launch, precision="bfloat16")
    architecture = architecture_of(made, ROOT)
    demand = Demand("full", made.train, (Forward(2, 16, 4),), Forward(1, 8, 1))
    memory = predict(architecture, [demand], "cuda", 0)
    count = num_parameters(architecture)
    # Weights whole and in half; a copy in float32 and two moments, of which a quarter each.
    assert memory.optimizer == 12 * count // 4
    assert 2 * count <= memory.weights < 2.1 * count
    assert memory.gradients == 2 * count // 4


@pytest.mark.parametrize(
    ("precision", "kind", "counted"),
    [("bfloat16", "cpu", True), ("float32", "cpu", False), ("bfloat16", "cuda", False)],
)
def test_only_bfloat16_on_a_cpu_keeps_kernels_for_every_shape(
    precision: str, kind: Literal["cpu", "cuda"], counted: bool
) -> None:
    made = recipe(method="full", lora=None, precision=precision)
    architecture, forward = architecture_of(made, ROOT), Forward(2, 16, 4)

    def kernels(shapes: int) -> int:
        demand = Demand("full", made.train, (forward,), Forward(1, 8, 1), shapes)
        return predict(architecture, [demand], kind, 0).kernels

    assert kernels(20) == 20 * kernels(1)
    assert (kernels(1) > 0) is counted
    # oneDNN keeps 1,024 kernels, whatever the rows are.
    assert kernels(10**6) == kernels(10**5) < 1024 * max(kernels(1), 1)


def test_a_base_that_is_absent_is_taken_as_published_and_said() -> None:
    made = load_recipe(ROOT, "adgen-lora")
    assert architecture_of(made, ROOT / "nowhere").source == "ChatGLM-6B as published"
    assert of_limits(made.encode).tokens.max() == 128
    assert of_limits(made.encode).known is None


def test_a_family_without_published_sizes_needs_its_base() -> None:
    with pytest.raises(RecipeError, match="no checkpoint there"):
        published("gpt", "models/base/mine")
