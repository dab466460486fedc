"""The guards given numbers of known meaning: what each of them counts, and what it lets pass."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import toy_model as toy
from glmops.contract import Contract
from glmops.errors import GlmopsError, InputError, MachineError, RecipeError
from glmops.storage import read_jsonl
from glmops.train.candidate import Data
from glmops.train.guards import during, room
from glmops.train.guards.before import Ready
from glmops.train.guards.during import Sound
from glmops.train.guards.layout import require_layout
from glmops.train.spool import OFFENDING

UNIFORM = math.log(400)


class Run:
    """Steps of one row each, as a trainer tells a guard of them."""

    def __init__(self, data: Data, scratch: Path, **changes: Any) -> None:
        self.said: list[str] = []
        values = {"uniform": UNIFORM, "warmup": 0, "say": self.said.append, **changes}
        self.sound = Sound("lora", data.train, scratch, **values)
        self.rows, self.step = data.train, 0

    def go(self, losses: Any, norm: float = 1.0) -> None:
        for loss in losses:
            row = self.rows[self.step % len(self.rows)]
            value = torch.tensor(float(loss))
            self.sound.on_forward([row], value.view(1, 1), torch.tensor([[5]]), value)
            self.sound.on_gradient(torch.tensor(norm))
            state = type("State", (), {"global_step": self.step, "max_steps": 10**6})
            self.sound.on_pre_optimizer_step(None, state, None)
            self.step += 1


def noise(mean: float, count: int, spread: float = 0.5, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(mean, spread, count).clip(0.01)


def test_a_loss_of_exactly_zero_stops_after_ten_steps(data: Data, tmp_path: Path) -> None:
    run = Run(data, tmp_path)
    run.go([0.0] * 9 + [0.5] + [0.0] * 9)
    with pytest.raises(RecipeError, match=r"step 20: the loss has been exactly 0 for 10 steps"):
        run.go([0.0])
    assert len(read_jsonl(tmp_path / OFFENDING)) == 1


def test_a_device_that_works_ahead_stops_within_ten_steps_at_the_right_row(
    data: Data, tmp_path: Path
) -> None:
    run = Run(data, tmp_path, ahead=True)
    run.go([1.0, 1.0, math.nan, *[math.nan] * 6])  # after a NaN all that follows is one
    assert run.step == 9
    with pytest.raises(InputError, match=rf"step 3: .*at row {run.rows[2].name}\. "):
        run.go([math.nan])
    assert during.LOOK_EVERY == 10


def test_what_was_not_looked_at_is_looked_at_before_a_checkpoint(
    data: Data, tmp_path: Path
) -> None:
    run = Run(data, tmp_path, ahead=True)
    run.go([1.0, math.inf])
    with pytest.raises(InputError, match="step 2"):
        run.sound.look()


def test_float16_may_overflow_while_its_scale_is_found_and_others_may_not(
    data: Data, tmp_path: Path
) -> None:
    run = Run(data, tmp_path, float16=True)
    run.go([1.0] * 30, norm=math.inf)
    run.go([1.0])
    run.go([1.0] * 30, norm=math.nan)
    with pytest.raises(InputError, match="its gradient is not"):
        run.go([1.0], norm=math.inf)
    with pytest.raises(InputError, match="step 1: the loss is a number, but its gradient is not"):
        Run(data, tmp_path).go([1.0], norm=math.inf)


def test_noise_and_single_bad_batches_are_no_explosion(data: Data, tmp_path: Path) -> None:
    run = Run(data, tmp_path)
    losses = noise(2.0, 400)
    losses[::13] = 40.0
    run.go(losses)
    run.go(noise(0.1, 400, spread=0.3))


@pytest.mark.parametrize(
    ("began", "now"),
    # Twice the loss of the first steps and 1 more; or 2 nats above guessing, whichever is less.
    [(2.0, 5.3), (UNIFORM, UNIFORM + 2.3), (0.05, 1.3)],
)
def test_a_loss_that_rises_for_good_is_an_explosion(
    data: Data, tmp_path: Path, began: float, now: float
) -> None:
    run = Run(data, tmp_path)
    run.go(noise(began, 50, spread=0.01))
    with pytest.raises(RecipeError, match="the loss explodes"):
        run.go(noise(now, during.WINDOW, spread=0.01))


def test_a_flat_loss_is_said_once_and_the_run_goes_on(data: Data, tmp_path: Path) -> None:
    run = Run(data, tmp_path, warmup=20)
    run.go(noise(3.0, 1000))
    [line] = run.said
    assert line.startswith("train lora step 300: the loss is flat, ")  # 20 + 50 + 200, in fifties


def test_a_loss_that_fell_and_then_stays_is_not_flat(data: Data, tmp_path: Path) -> None:
    run = Run(data, tmp_path)
    run.go(noise(3.0, 100))
    run.go(noise(2.5, 900, seed=1))
    assert run.said == []


def test_an_optimiser_that_lacks_a_trained_weight_is_refused() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    whole, part = torch.optim.SGD(model.parameters()), torch.optim.SGD(model[0].parameters())
    Ready("lora").on_train_begin(None, None, None, model=model, optimizer=whole)
    with pytest.raises(GlmopsError, match=r"the optimiser does not know 1\.weight, 1\.bias"):
        Ready("lora").on_train_begin(None, None, None, model=model, optimizer=part)


def _contract(**changes: Any) -> Contract:
    return toy.contract().model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"before": ("<sop>", "[gMASK]")}, r"does not begin with <sop> \[gMASK\]"),
        ({"between": ("<sop>",)}, "has no <sop> in front of its answer"),
        ({"end": "<sop>"}, "its answer does not end with a learnt <sop>"),
    ],
)
def test_rows_of_another_layout_are_refused_by_name(
    data: Data, changes: dict[str, Any], fault: str
) -> None:
    for rows in (data.train, data.dev, data.base):
        require_layout(rows, toy.contract(), data.tokenizer)
    with pytest.raises(InputError, match=rf"train\.arrow row row-0: {fault}"):
        require_layout(data.train, _contract(**changes), data.tokenizer)


def test_what_adamw_needs_beside_the_weights_is_three_numbers_for_each(data: Data) -> None:
    model = torch.nn.Linear(10, 100)  # 1,100 weights of 4 bytes
    settings = toy.train_settings(checkpoints={"every_steps": 5, "keep": 2})
    need = room.rough_need(model, settings)
    assert need.memory == 1100 * 3 * 4
    # Three checkpoints of weights and two moments, and the export.
    assert need.disk == 3 * 1100 * 3 * 4 + 1100 * 4


def test_a_run_that_cannot_fit_is_refused_before_it_begins(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    room.require_room(room.Need(1, 1), tmp_path, model)
    with pytest.raises(MachineError, match=r"need 1048576\.0 GB of disk, got .* free"):
        room.require_room(room.Need(1, 1 << 50), tmp_path, model)
    with pytest.raises(MachineError, match=r"memory of cpu: .* need 1048576\.0 GB beside"):
        room.require_room(room.Need(1 << 50, 1), tmp_path, model)


def test_a_containers_limit_counts_as_the_memory_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_GROUP", tmp_path)
    free = room.memory_free(torch.device("cpu"))
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("4000000\n")
    (tmp_path / "memory.stat").write_text("anon 3000000\ninactive_file 500000\n")
    assert room.memory_free(torch.device("cpu")) == 1_500_000 < free
    (tmp_path / "memory.max").write_text("max\n")
    assert room.memory_free(torch.device("cpu")) > 1_500_000
