"""Which moments of a run are kept: every so many steps, the best, and the last before a stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from glmops.recipe import Best, Train
from glmops.train import ranks
from glmops.train.points import Point


def best_of(points: Sequence[Point], metric: str) -> Point | None:
    """The best point by the dev rows, of equal ones the earliest; None if none was measured."""
    measured = [point for point in points if _badness(point, metric) is not None]
    return min(measured, key=lambda point: _badness(point, metric) or 0.0, default=None)


def is_over(points: Sequence[Point], best: Best | None, max_steps: int) -> bool:
    """Whether a run with these points has ended: by its steps, or because none gets better."""
    if points and points[-1].step >= max_steps:
        return True
    top = best_of(points, best.metric) if best else None
    if best is None or best.patience is None or top is None:
        return False
    later = [p for p in points if p.step > top.step and _badness(p, best.metric) is not None]
    return len(later) >= best.patience


class Keeping(TrainerCallback):
    """Asks for a checkpoint when one is due, keeps the best moment, and ends the run on a signal.

    It comes after History, whose points it reads.

    Args:
        keep_best: Called with the best point so far, as the weights are those of it.
    """

    def __init__(
        self, points: Sequence[Point], settings: Train, keep_best: Callable[[Point], None]
    ) -> None:
        self._points, self._keep_best = points, keep_best
        self._every, self._best = settings.checkpoints.every_steps, settings.best
        self.asked = False
        """Whether somebody asked the run to stop, and it has."""
        self._heard = threading.Event()
        self._interrupts = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the run after its step. A second SIGINT raises at once: under a
        driver, one Ctrl-C comes as both signals."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only a main thread may set handlers
            return
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._hear) for number in numbers}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, signal.SIG_DFL if old is None else old)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt
        self._heard.set()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if self._best is None or "loss" not in logs:
            return
        if best_of(self._points, self._best.metric) is self._points[-1]:
            self._keep_best(self._points[-1])
        if is_over(self._points, self._best, state.max_steps):
            control.should_training_stop = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.asked = ranks.any_of(self._heard.is_set())
        if self.asked:
            control.should_training_stop = True
        if self.asked or state.global_step % self._every == 0:
            control.should_save = True


def _badness(point: Point, metric: str) -> float | None:
    """The smaller, the better."""
    if metric == "dev-exact":
        return None if point.dev_exact is None else -point.dev_exact
    return point.dev_loss
