"""The whole train stage: a base, a method on top of it, and the checkpoint that comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from glmops.contract import Contract, load_contract
from glmops.errors import lookup
from glmops.models.small import small_glm
from glmops.models.tokenizers import load_tokenizer
from glmops.recipe import Schedule, Train
from glmops.train.batches import Row, read_rows
from glmops.train.export import save_checkpoint, weights_hash
from glmops.train.loop import Point, fit, mean_loss, num_steps
from glmops.train.methods import METHODS, merged


@dataclass(frozen=True, slots=True)
class Data:
    """What ``encode`` wrote, in memory."""

    tokenizer: Any
    contract: Contract
    base: list[Row]
    train: list[Row]
    dev: list[Row]


@dataclass(frozen=True, slots=True)
class Phase:
    """One optimisation run of the stage: base first, then the method on top of it."""

    name: str
    method: str
    rows: Sequence[Row]
    schedule: Schedule


def read_encoded(folder: Path) -> Data:
    tokenizer = load_tokenizer(folder / "tokenizer")
    contract = load_contract(folder)
    base, train, dev = (
        read_rows(folder / f"{name}.arrow", len(tokenizer)) for name in ("base", "train", "dev")
    )
    return Data(tokenizer, contract, base, train, dev)


def total_steps(data: Data, settings: Train) -> int:
    """Optimiser steps of both phases, for a progress bar."""
    return num_steps(len(data.base), settings.base.schedule) + num_steps(
        len(data.train), settings.schedule
    )


def train_candidate(
    data: Data, settings: Train, folder: Path, *, on_step: Callable[[], None] = lambda: None
) -> tuple[list[Point], dict[str, Any]]:
    """Make the base, fine-tune it, and write the merged checkpoint to ``folder``.

    The folder depends on ``data`` and ``settings`` alone, to the last byte; time goes into the
    returned numbers, which are what metrics.json holds.

    Returns:
        The history of both phases, and the numbers.
    """
    torch.set_num_threads(settings.threads)
    limit = data.contract.max_prompt_tokens + data.contract.max_answer_tokens
    model = small_glm(settings.base, data.tokenizer, max_tokens=limit, seed=settings.seed)
    base = Phase("base", settings.base.method, data.base, settings.base.schedule)
    model, base_history, base_numbers = _run(base, model, data, settings, on_step)
    lineage = {
        "base": {"method": settings.base.method, "sha256": weights_hash(model)},
        "method": settings.method,
        "export": settings.export,
        "contract": data.contract.hash(),
    }
    tuned = Phase("lora", settings.method, data.train, settings.schedule)
    model, history, numbers = _run(tuned, model, data, settings, on_step)
    save_checkpoint(folder, model, data.tokenizer, data.contract, lineage)
    return [*base_history, *history], {"base": base_numbers, "lora": numbers}


def _run(
    phase: Phase, model: Any, data: Data, settings: Train, on_step: Callable[[], None]
) -> tuple[Any, list[Point], dict[str, Any]]:
    """One phase: the plain model that came out of it, its history and its numbers."""
    model = lookup(METHODS, phase.method, "train.method")(model, settings)
    parameters = [(each.numel(), each.requires_grad) for each in model.parameters()]
    start = time.perf_counter()
    history = fit(
        model,
        phase.rows,
        data.dev,
        phase.schedule,
        phase=phase.name,
        seed=settings.seed,
        pad=data.tokenizer.pad_token_id,
        on_step=on_step,
    )
    seconds = time.perf_counter() - start
    tokens = round(sum(len(row["input_ids"]) for row in phase.rows) * phase.schedule.epochs)
    model = merged(model)
    numbers = {
        "loss": {
            "train": history[-1].loss,
            "dev": mean_loss(model, data.dev, data.tokenizer.pad_token_id),
        },
        "steps": history[-1].step,
        "tokens": tokens,
        "parameters": {
            "trainable": sum(size for size, trained in parameters if trained),
            "total": sum(size for size, _ in parameters),
        },
        "seconds": round(seconds, 1),
        "tokens_per_second": round(tokens / seconds),
    }
    return model, history, numbers
