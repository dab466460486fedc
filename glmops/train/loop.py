"""One optimisation run by the Hugging Face Trainer: rows, schedule and model in, history out."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from glmops.errors import GlmopsError
from glmops.recipe import Schedule
from glmops.train.batches import IGNORED, Row, right_padded

LOG_EVERY = 10
"""Optimiser steps between two points of the history."""

_EVAL_ROWS = 64


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of training. ``loss`` is the mean per learnt token since the point before it."""

    step: int
    phase: str
    epoch: float
    loss: float
    learning_rate: float
    dev_loss: float | None
    """Mean over the learnt tokens of the dev rows, in nats; measured where an epoch ends."""


def num_steps(num_rows: int, schedule: Schedule) -> int:
    """Optimiser steps of a schedule; the last batch of an epoch may be smaller."""
    return math.ceil(schedule.epochs * math.ceil(num_rows / schedule.batch_size))


def fit(
    model: Any,
    rows: Sequence[Row],
    dev: Sequence[Row],
    schedule: Schedule,
    *,
    phase: str,
    seed: int,
    pad: int,
    on_step: Callable[[], None] = lambda: None,
) -> list[Point]:
    """Train ``model`` in place: AdamW, linear warm-up, cosine to zero, gradients cut at norm 1.

    On the CPU, because the small models that this trains there give equal bytes every time.

    Raises:
        GlmopsError: The loss is not a number, infinite, or exactly 0.
    """
    steps = num_steps(len(rows), schedule)
    history = _History(phase, dev, pad, on_step)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            use_cpu=True,
            seed=seed,
            data_seed=seed,
            max_steps=steps,
            per_device_train_batch_size=schedule.batch_size,
            learning_rate=schedule.learning_rate,
            weight_decay=schedule.weight_decay,
            lr_scheduler_type="cosine",
            warmup_steps=round(steps * schedule.warmup_fraction),
            # Grouping by length saves a third of the padding, but batches of one task each learn so
            # much more slowly (demo: dev loss 0.16 after three epochs, against 0.05) that it loses.
            train_sampling_strategy="random",
            remove_unused_columns=False,
            # Trainer would otherwise average a lost step away and go on.
            logging_nan_inf_filter=False,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=list(rows),
            data_collator=right_padded(pad),
            callbacks=[history],
        )
        trainer.remove_callback(PrinterCallback)
        model.config.use_cache = False  # keys and values are of no use while training
        trainer.train()
        model.config.use_cache = True
    return history.points


def mean_loss(model: Any, rows: Sequence[Row], pad: int) -> float:
    """Mean loss per learnt token, in nats: every token weighs the same, whatever its row."""
    collate = right_padded(pad)
    training = model.training
    model.eval()
    total = 0.0
    learnt = 0
    with torch.no_grad():
        for start in range(0, len(rows), _EVAL_ROWS):
            batch = collate(rows[start : start + _EVAL_ROWS])
            labels = batch.pop("labels")[:, 1:]
            logits = model(**batch, use_cache=False).logits[:, :-1]
            total += torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="sum"
            ).item()
            learnt += int((labels != IGNORED).sum())
    model.train(training)
    return total / learnt


class _History(TrainerCallback):
    """Collects the points, measures the dev rows after each epoch, and stops a broken run."""

    def __init__(
        self, phase: str, dev: Sequence[Row], pad: int, on_step: Callable[[], None]
    ) -> None:
        self.points: list[Point] = []
        self._phase, self._dev, self._pad, self._on_step = phase, dev, pad, on_step
        self._dev_loss: float | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        self._on_step()
        rest = state.global_step % LOG_EVERY
        epoch_ends = float(state.epoch).is_integer() or state.global_step == state.max_steps
        if epoch_ends:
            self._dev_loss = mean_loss(model, self._dev, self._pad)
        control.should_log = epoch_ends or rest == 0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" not in logs:  # the summary that Trainer logs after the last step
            return
        loss = logs["loss"]
        where = f"train {self._phase} step {state.global_step}"
        if not math.isfinite(loss):
            raise GlmopsError(
                where, "the loss is no longer a number", got=loss, do="Lower the learning rate."
            )
        if loss == 0.0:
            raise GlmopsError(
                where,
                "the loss is exactly 0, so nothing is being learnt",
                do="Check the encoded rows: no answer token counts, or the numbers underflow.",
            )
        self.points.append(
            Point(
                step=state.global_step,
                phase=self._phase,
                epoch=round(state.epoch, 4),
                loss=loss,
                learning_rate=logs["learning_rate"],
                dev_loss=self._dev_loss,
            )
        )
        self._dev_loss = None
