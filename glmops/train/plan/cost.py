"""Time and disk of a run: from what was measured on this machine, or from its operations."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from glmops.recipe import Train
from glmops.train.plan.lengths import Work
from glmops.train.plan.probe import Timed

GPU_RATE = 50e12
"""Operations a second of a GPU that is not at hand: 40 % of the 125e12 of an A10 in half."""
CPU_SHARE = 0.35
"""Of what this CPU does in a matrix product, training a small model reaches about so much."""
WEIGHT_BYTES, MOMENT_BYTES = 4, 8


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of parameters: all, trained ones, those of embedding and head (once where they are
    tied), and those of the head alone."""

    total: int
    trained: int
    embedding: int
    head: int


def seconds_of_step(work: Work, settings: Train, timed: Timed) -> float:
    """Of a mean step, on the straight line through the two forwards that were measured."""
    [longest, *_] = work.longest
    most = longest.rows * longest.tokens
    same = work.typical_tokens >= most or timed.longest <= timed.typical
    if same or len(work.typical) != len(work.numbers):
        forward = timed.longest * work.mean_tokens / most
    else:
        slope = (timed.longest - timed.typical) / (most - work.typical_tokens)
        forward = timed.typical + slope * (work.mean_tokens - work.typical_tokens)
    return max(forward, 0.0) * settings.schedule.accumulation


def estimated_seconds(work: Work, settings: Train, sizes: Sizes, rate: float) -> float:
    """Of a mean step, from its operations: two for each weight and token in a forward, as many for
    the gradient of what comes in, and of what is trained."""
    [longest, *_] = work.longest
    looked = longest.places / longest.tokens
    inner = sizes.total - sizes.embedding
    passes = 3 if settings.gradient_checkpointing else 2
    each = 2 * (inner + looked * sizes.head) * passes + 2 * min(sizes.trained, inner)
    return each * work.mean_tokens * settings.schedule.accumulation / rate


def cpu_rate(threads: int) -> float:
    """Operations a second of this CPU in training, from a matrix product of a tenth of a second."""
    torch.set_num_threads(threads)
    left, right = torch.ones(256, 512), torch.ones(512, 512)
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < 0.1:
        left @ right
        count += 1
    return CPU_SHARE * count * 2 * 256 * 512 * 512 / spent


def disk_bytes(sizes: Sizes, settings: Train, stored: int) -> dict[str, int]:
    """Checkpoints hold trained weights and moments, and a new one is whole before an old one goes.

    Args:
        stored: Bytes of a weight as the exported model has it.
    """
    checkpoint = sizes.trained * (WEIGHT_BYTES + MOMENT_BYTES)
    own_base = settings.base.method == "scratch" and settings.method != "scratch"
    exported = sizes.total * stored
    if settings.export == "adapter":
        exported = sizes.trained * WEIGHT_BYTES + own_base * sizes.total * WEIGHT_BYTES
    return {
        "checkpoints": (settings.checkpoints.keep + 1) * checkpoint,
        "best": sizes.trained * WEIGHT_BYTES if settings.best else 0,
        "base": own_base * sizes.total * WEIGHT_BYTES,
        "model": exported,
    }
