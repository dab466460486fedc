"""Tells the spool (spool.py) how a run goes on: each step's numbers, and lines for people."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from glmops.train import ranks
from glmops.train.spool import SPOOL, append

NAMES = {"grad_norm": "gradient_norm", "loss": "loss", "learning_rate": "learning_rate"}
EVERY_SECONDS = 0.2
"""Between two lines that say no more than that the run goes on."""


class Live(TrainerCallback):
    """Writes the spool. Of several processes only the first does.

    Stands before the callback that measures dev rows, so that this does not count as training time.

    Args:
        measured: What the dev rows gave at this very step; empty where they were not measured.
    """

    def __init__(self, phase: str, scratch: Path, measured: Callable[[], Mapping[str, float]]):
        self._phase, self._measured = phase, measured
        self._path = scratch / SPOOL if ranks.is_first() else None
        self._tokens = self._since = 0
        self._busy = self._mark = self._written = 0.0

    def on_step(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """The forwards of one step of this process; the others have about as many tokens."""
        tokens = sum(len(row.input_ids) for batch in batches for row in batch["rows"])
        self._tokens += tokens * ranks.count()
        self._since += tokens * ranks.count()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._mark = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._count()
        if self._mark - self._written >= EVERY_SECONDS or state.global_step == state.max_steps:
            self._write(state, {})

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" not in logs:  # the summary that Trainer logs after the last step
            return
        dev = {f"dev_{name}": value for name, value in self._measured().items()}
        if not dev:
            self._count()  # a GPU has just been waited for
        values = {mine: logs[its] for its, mine in NAMES.items() if its in logs} | dev
        if self._busy > 0:
            values["tokens_per_second"] = round(self._since / self._busy, 1)
        # JSON knows no other numbers, and MLflow neither.
        self._write(state, {key: each for key, each in values.items() if math.isfinite(each)})
        self._busy, self._since = 0.0, 0
        self._mark = time.perf_counter()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._mark = time.perf_counter()

    def say(self, text: str) -> None:
        self._append({"time": time.time(), "said": text})

    def _count(self) -> None:
        now = time.perf_counter()
        self._busy, self._mark = self._busy + now - self._mark, now

    def _write(self, state: Any, values: dict[str, float]) -> None:
        self._written = self._mark
        line = {
            "time": time.time(),
            "phase": self._phase,
            "step": state.global_step,
            "of": state.max_steps,
            "tokens": self._tokens,
        }
        self._append(line | ({"values": values} if values else {}))

    def _append(self, line: dict[str, Any]) -> None:
        if self._path is not None:
            append(self._path, line)
