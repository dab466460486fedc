"""Loss and gradients of every step: no number, exactly 0 or exploding stops a run; flat is said.

Every step is seen, but a GPU is not waited for at each: what forwards gave stays on the device, and
is looked at every few steps, so that a run there goes on for at most that many. On a CPU it is
looked at before the weights move. Whoever saves a checkpoint calls ``look`` before.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median, variance
from typing import Any, NamedTuple, NoReturn

import torch
from transformers import TrainerCallback

from glmops.errors import InputError, RecipeError
from glmops.train import ranks
from glmops.train.guards import offending
from glmops.train.guards.offending import Forward
from glmops.train.rows import Row, Rows
from glmops.train.spool import OFFENDING

LOOK_EVERY = 10
"""Steps between two looks where the device works ahead of us."""
ZEROS = 10
"""Steps in a row whose loss is exactly 0. A single small batch can be learnt that well."""
SKIPPED = 30
"""Steps in a row whose gradients overflowed, in float16: its scale is halved after each."""
WINDOW = 20
"""Steps whose median counts as the loss of the moment: one odd batch is no explosion."""
FLAT_WINDOW, FLAT_STEPS = 50, 200
"""The first and the last steps of a run that are compared, and how many lie between at least."""


class _Step(NamedTuple):
    number: int
    loss: torch.Tensor
    norm: torch.Tensor | None
    forwards: Sequence[Forward]


class Sound(TrainerCallback):
    """Stops a run that goes wrong, at the latest LOOK_EVERY steps after it did.

    Args:
        uniform: The loss of a model that takes every token for equally likely, in nats.
        warmup: Steps at the beginning that learn little.
        say: Takes a line for people.
    """

    def __init__(
        self,
        phase: str,
        rows: Rows,
        scratch: Path,
        *,
        uniform: float,
        warmup: int,
        say: Callable[[str], None],
        ahead: bool = False,
        float16: bool = False,
    ) -> None:
        self._phase, self._rows, self._scratch, self._say = phase, rows, scratch, say
        self._uniform, self._warmup = uniform, warmup
        self._every = LOOK_EVERY if ahead else 1
        self._float16 = float16
        self._forwards: list[Forward] = []
        self._losses: list[torch.Tensor] = []
        self._norm: torch.Tensor | None = None
        self._waiting: list[_Step] = []
        self._zeros = self._overflows = 0
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=FLAT_WINDOW)
        self._seen, self._learns = 0, False

    def on_forward(
        self,
        rows: Sequence[Row],
        losses_BK: torch.Tensor,
        places_BK: torch.Tensor,
        loss: torch.Tensor,
    ) -> None:
        """One forward of this process; ``loss`` is its part of the step's mean."""
        self._forwards.append(Forward(rows, losses_BK.detach(), places_BK))
        self._losses.append(loss.detach())

    def forget(self) -> None:
        """The forwards of this step so far, which are made again in smaller parts."""
        self._forwards, self._losses = [], []

    def on_gradient(self, norm: torch.Tensor | float | None) -> None:
        """The norm of the step's gradients over all processes, before it was clipped."""
        self._norm = None if norm is None else torch.as_tensor(norm).detach()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._learns = state.global_step > 0  # the beginning that it would be compared with is gone

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        number = state.global_step + 1
        if not self._losses:
            return
        loss = torch.stack(self._losses).sum()
        self._waiting.append(_Step(number, loss, self._norm, self._forwards))
        self._forwards, self._losses = [], []
        if len(self._waiting) >= self._every:
            self.look()

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.look()  # the loss has just been read, so nothing is left to wait for

    def look(self) -> None:
        """Judge the steps since the last look, in order.

        Raises:
            InputError: A loss or a gradient is no number; the rows are named, and kept in a file.
            RecipeError: The loss is 0 or explodes.
        """
        steps, self._waiting = self._waiting, []
        losses = _means([step.loss for step in steps])
        for step, loss in zip(steps, losses, strict=True):
            self._judge_number(step, loss)
            self._judge_zero(step, loss)
            self._note(loss)
            self._judge_height(step)
            self._judge_flat(step)

    def _judge_number(self, step: _Step, loss: float) -> None:
        norm = math.nan if step.norm is None else float(step.norm)
        overflows = step.norm is not None and not math.isfinite(norm)
        self._overflows = self._overflows + 1 if overflows else 0
        if not math.isfinite(loss):
            mine = offending.broken(step.forwards, step.number, self._rows)
            self._stop_at_rows(step, "the loss is not a number", mine)
        if overflows and self._overflows > (SKIPPED if self._float16 else 0):
            mine = offending.worst(step.forwards, step.number)
            self._stop_at_rows(step, "the loss is a number, but its gradient is not", mine)

    def _judge_zero(self, step: _Step, loss: float) -> None:
        self._zeros = self._zeros + 1 if loss == 0.0 else 0
        if self._zeros < ZEROS:
            return
        self._keep(offending.worst(step.forwards, step.number))
        do = "Check the encoded rows: what counts in the loss may not be the answers."
        if any(self._first):
            do = "The rows are learnt by heart: train fewer epochs, or on more rows."
        what = f"the loss has been exactly 0 for {ZEROS} steps, so nothing is learnt any more"
        raise RecipeError(self._where(step), what, do=do)

    def _note(self, loss: float) -> None:
        self._seen += 1
        if len(self._first) < FLAT_WINDOW:
            self._first.append(loss)
        self._last.append(loss)

    def _judge_height(self, step: _Step) -> None:
        """The median of WINDOW steps far above what guessing costs and the untrained model had, or
        over twice as high as in the first WINDOW."""
        if self._seen < WINDOW:
            return
        now = median(list(self._last)[-WINDOW:])
        limit = max(self._first[0], self._uniform) + 2
        if self._seen >= 2 * WINDOW:
            limit = min(limit, 2 * median(self._first[:WINDOW]) + 1)
        if now <= limit:
            return
        self._keep(offending.worst(step.forwards, step.number))
        raise RecipeError(
            self._where(step),
            f"the loss explodes: it began at {self._first[0]:.2f}",
            got=f"{now:.2f} over the last {WINDOW} steps",
            do="Lower train.schedule.learning_rate to a third, or lengthen the warm-up.",
        )

    def _judge_flat(self, step: _Step) -> None:
        """Said once, where the end of the run so far is not lower than its beginning beyond chance.

        A run that has learnt something may level off: that is where training ends, and no fault.
        """
        ready = self._warmup + FLAT_WINDOW + FLAT_STEPS
        if self._learns or self._seen < ready or self._seen % FLAT_WINDOW:
            return
        began, now = fmean(self._first), fmean(self._last)
        chance = math.sqrt((variance(self._first) + variance(self._last)) / FLAT_WINDOW)
        self._learns = began - now > 2 * chance
        if not self._learns:
            self._learns = True  # said once
            self._say(
                f"{self._where(step)}: the loss is flat, {began:.3f} in the first {FLAT_WINDOW} "
                f"steps and {now:.3f} in the last. A higher learning rate may help, or a larger "
                "rank or prefix; the rows may not say what their answers are."
            )

    def _stop_at_rows(self, step: _Step, what: str, mine: list[dict[str, Any]]) -> NoReturn:
        """Each process knows its own rows: they are put together before anybody stops."""
        found = self._keep(mine)
        names = ", ".join(record["id"] for record in found[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        do = (
            f"Look at those rows ({OFFENDING}, beside the stage's other reports). If they are "
            "as they should be, lower train.schedule.learning_rate, or train in bfloat16."
        )
        rows = f"row{'s' * (len(found) != 1)} {names}{more}"
        raise InputError(self._where(step), f"{what}, at {rows}", do=do)

    def _keep(self, mine: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found = [record for each in ranks.gathered(mine) for record in each]
        if ranks.is_first():
            offending.save(self._scratch, found)
        return found

    def _where(self, step: _Step) -> str:
        return f"train {self._phase} step {step.number}"


def _means(values: Sequence[torch.Tensor]) -> list[float]:
    """Each value's mean over the processes. Waits for the device."""
    if not values:
        return []
    joined = torch.stack(list(values)).float()
    if ranks.count() > 1:
        torch.distributed.all_reduce(joined)
        joined /= ranks.count()
    return [float(value) for value in joined.tolist()]
