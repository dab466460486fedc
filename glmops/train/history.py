"""Collects the points of a run, and measures the dev rows where they are due."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback

from glmops.train.points import Point

LOG_EVERY = 10
"""Optimiser steps between two points of the history."""


class Clock(TrainerCallback):
    """The steps that this process itself took, not those it found done, and their seconds."""

    def __init__(self) -> None:
        self.steps, self.seconds = 0, 0.0
        self._first, self._start = 0, 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._first, self._start = state.global_step, time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps = state.global_step - self._first
        self.seconds = time.perf_counter() - self._start


class History(TrainerCallback):
    """Collects the points and measures the dev rows. State of the run: it survives a resume.

    ``measure`` gives ``loss`` and ``exact`` of the model it is called with.
    """

    def __init__(
        self,
        phase: str,
        measure: Callable[[Any], dict[str, float]],
        *,
        measure_every: int | None,
        on_step: Callable[[], None],
    ) -> None:
        self.points: list[Point] = []
        self.step = 0
        self._phase, self._measure, self._every, self._on_step = (
            phase, measure, measure_every, on_step,
        )  # fmt: skip
        self.measured: dict[str, float] = {}
        """The dev rows at this very step; empty where they were not measured."""

    def go_on(self, points: Sequence[Point], step: int) -> None:
        """Take over what an interrupted run had until ``step``."""
        self.points[:] = points
        for _ in range(step):
            self._on_step()

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        self._on_step()
        self.step = state.global_step
        step, last = state.global_step, state.global_step == state.max_steps
        epoch_ends = float(state.epoch).is_integer()
        due = epoch_ends if self._every is None else step % self._every == 0
        self.measured = self._measure(model) if due or last else {}
        control.should_log = bool(self.measured) or epoch_ends or step % LOG_EVERY == 0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" not in logs:  # the summary that Trainer logs after the last step
            return
        self.points.append(
            Point(
                step=state.global_step,
                phase=self._phase,
                epoch=round(state.epoch, 4),
                loss=logs["loss"],
                learning_rate=logs["learning_rate"],
                dev_loss=self.measured.get("loss"),
                dev_exact=self.measured.get("exact"),
            )
        )
