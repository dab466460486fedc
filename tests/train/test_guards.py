"""Real runs that go wrong: what stops them, which row they name, and what is left."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

import toy_model as toy
from glmops.encode.dataset import encode_dataset
from glmops.errors import GlmopsError, InputError, RecipeError
from glmops.models.small import small_glm
from glmops.storage import read_jsonl
from glmops.train.candidate import Data, phases, read_encoded
from glmops.train.loop import fit
from glmops.train.methods import METHODS
from glmops.train.order import plan_of
from glmops.train.spool import OFFENDING, SPOOL

STEP = 3


class Poison(TrainerCallback):
    """From step STEP on, the vector of one token is not a number."""

    def __init__(self, token: int) -> None:
        self._token = token

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        if state.global_step == STEP - 1:
            model.get_input_embeddings().register_forward_hook(self._spoil)

    def _spoil(self, module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output.masked_fill((inputs[0] == self._token)[..., None], math.nan)


def fresh() -> Any:
    return small_glm(toy.base_settings(), toy.tokenizer(), max_tokens=80, seed=1)


def scratch_settings(**schedule: Any) -> Any:
    base = toy.base_settings(schedule=None).model_dump()
    return toy.train_settings(
        method="scratch", lora=None, base=base, schedule=toy.schedule(**schedule)
    )


def train(data: Data, scratch: Path, settings: Any, *callbacks: TrainerCallback) -> Any:
    [phase] = phases(data, settings, scratch)
    model = METHODS[settings.method](fresh(), settings)
    fit(model, phase, settings, callbacks=callbacks)
    return model


def only_in_one_row(data: Data, name: str) -> int:
    """A token that row ``name`` has and no other row."""
    tokens: dict[int, set[str]] = {}
    for number in range(len(data.train)):
        row, start = data.train[number], 0
        for mine, length in zip(data.train.names(number), row.segments, strict=True):
            for token in row.input_ids[start : start + length].tolist():
                tokens.setdefault(token, set()).add(mine)
            start += length
    return next(token for token, names in sorted(tokens.items()) if names == {name})


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """A prepared set in which row-17 has a word of its own."""
    records = [*toy.TRAIN]
    records[17] = replace(records[17], body="第17天我看见了鷹鷹鷹草地。")
    return toy.write_prepared(tmp_path / "prepared", train=records)


def encoded(prepared: Path, folder: Path, **changes: Any) -> Data:
    encode_dataset(
        prepared,
        toy.encode_settings(base_text="none", **changes),
        root=prepared.parent,
        folder=folder,
    )
    return read_encoded(folder)


def test_a_nan_from_step_k_on_stops_the_run_and_names_its_row(marked: Path, tmp_path: Path) -> None:
    data = encoded(marked, tmp_path / "toy")
    settings = scratch_settings(epochs=3)
    token = only_in_one_row(data, "row-17")
    plan = plan_of(data.train.lengths, settings.schedule, settings.seed)
    steps = [rows for epoch in range(3) for [rows] in plan.epoch(epoch)]
    expected = next(n for n, rows in enumerate(steps, 1) if n >= STEP and 17 in rows)
    with pytest.raises(InputError) as caught:
        train(data, tmp_path / "scratch", settings, Poison(token))
    where = f"train scratch step {expected}: the loss is not a number, at row row-17. "
    assert str(caught.value).startswith(where)
    [kept] = read_jsonl(tmp_path / "scratch" / OFFENDING)
    assert (kept["id"], kept["step"], kept["loss"]) == ("row-17", expected, None)
    assert kept["input_ids"] == data.train[17].input_ids.tolist()


def test_a_nan_in_a_pack_names_the_rows_of_that_pack_alone(marked: Path, tmp_path: Path) -> None:
    """Attention multiplies what it may not see by 0, and 0 times NaN is NaN."""
    data = encoded(marked, tmp_path / "toy", packing="best-fit", pack_tokens=160)
    packs = [data.train.names(number) for number in range(len(data.train))]
    [pack] = [names for names in packs if "row-17" in names]
    assert len(pack) > 1
    token = only_in_one_row(data, "row-17")
    with pytest.raises(InputError, match="the loss is not a number, at rows "):
        train(data, tmp_path / "scratch", scratch_settings(epochs=5, batch_size=2), Poison(token))
    assert [row["id"] for row in read_jsonl(tmp_path / "scratch" / OFFENDING)] == pack


def test_the_weights_have_not_moved_by_a_gradient_that_is_no_number(
    data: Data, tmp_path: Path
) -> None:
    """A backward that overflows while the loss is fine: the square root of 0 has no derivative."""

    class Overflow(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            self.model = model
            if state.global_step == STEP - 1:
                model.get_input_embeddings().register_forward_hook(
                    lambda module, inputs, output: output + (output * 0).abs().sqrt()
                )

    watch, settings = Overflow(), scratch_settings(epochs=2)
    with pytest.raises(InputError, match=rf"step {STEP}: the loss is a number, but its gradient"):
        train(data, tmp_path, settings, watch)
    assert all(torch.isfinite(weight).all() for weight in watch.model.parameters())
    plan = plan_of(data.train.lengths, settings.schedule, settings.seed)
    rows = {data.train[int(number)].name for number in list(plan.epoch(0))[STEP - 1][0]}
    assert {row["id"] for row in read_jsonl(tmp_path / OFFENDING)} == rows


def test_a_learning_rate_that_is_far_too_high_is_called_an_explosion(
    data: Data, tmp_path: Path
) -> None:
    settings = scratch_settings(epochs=20, learning_rate=5.0, warmup_fraction=0.0)
    with pytest.raises(
        RecipeError, match=r"the loss explodes: it began at \d\.\d\d, got"
    ) as caught:
        train(data, tmp_path, settings)
    assert int(re.findall(r"step (\d+)", str(caught.value))[0]) < 60
    assert read_jsonl(tmp_path / OFFENDING)


def test_a_run_that_learns_is_not_spoken_to(data: Data, tmp_path: Path) -> None:
    train(data, tmp_path, scratch_settings(epochs=55, learning_rate=0.003))
    lines = (tmp_path / SPOOL).read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "said" in json.loads(line)]


def test_an_adapter_that_no_gradient_reaches_is_refused_before_it_trains(
    data: Data, tmp_path: Path
) -> None:
    settings = toy.train_settings()
    phase = phases(data, settings, tmp_path)[-1]
    model = METHODS["lora"](fresh(), settings)
    layer = next(each for name, each in model.named_modules() if name.endswith("layers.0"))

    def cut(module: Any, inputs: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        first = first.detach().requires_grad_()
        return (first, *output[1:]) if isinstance(output, tuple) else first

    layer.register_forward_hook(cut)
    with pytest.raises(GlmopsError, match=r"no gradient reaches 2 of 4 .*layers\.0\..*lora_B"):
        fit(model, phase, settings)
    weights = [each for name, each in model.named_parameters() if ".lora_B." in name]
    assert not any(each.any() for each in weights), "LoRA's B is 0 until the first step is made"


def test_a_model_of_which_nothing_is_trained_is_refused(data: Data, tmp_path: Path) -> None:
    settings = scratch_settings()
    [phase] = phases(data, settings, tmp_path)
    model = fresh().requires_grad_(False)
    with pytest.raises(RecipeError, match="no parameter of the model is trained"):
        fit(model, phase, settings)
