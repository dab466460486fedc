"""What a run looked like: a point each few steps, the same for equal inputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of training. ``loss`` is the mean per learnt token since the point before it."""

    step: int
    phase: str
    epoch: float
    loss: float
    learning_rate: float
    dev_loss: float | None
    """Mean over the learnt tokens of the dev rows, in nats; measured where an epoch ends, or as
    often as the recipe says."""
    dev_exact: float | None
    """Share of the dev rows that greedy decoding answers exactly."""
