"""Settings of equal global batches for one process and for several, and what they wrote."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import toy_model as toy
from glmops.recipe import Train
from glmops.train.candidate import Place

STEPS = 8


def settings(launch: dict[str, Any], **changes: Any) -> Train:
    """LoRA on a random base, eight rows a step: in forwards of four, here or there."""
    schedule = toy.schedule(
        epochs=None,
        max_steps=STEPS,
        batch_size=4,
        accumulation=2 // launch.get("processes", 1),
        learning_rate=0.01,
        weight_decay=0.1,
    )
    values = {
        "base": toy.base_settings(schedule=None).model_dump(),
        "schedule": schedule,
        "best": {"metric": "dev-loss", "every_steps": 1},  # which makes a point of every step
        "checkpoints": {"every_steps": 1, "keep": STEPS},
        "launch": launch,
    }
    return toy.train_settings(**{**values, **changes})


def place(root: Path) -> Place:
    return Place(root, root / "scratch", root / "out")


def weights(root: Path) -> dict[str, torch.Tensor]:
    return load_file(root / "out" / "model.safetensors")


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def forget_after(root: Path, step: int) -> None:
    """As if the run had been killed right after the checkpoint of ``step``."""
    [series] = (root / "scratch" / "checkpoints").iterdir()
    for folder in series.iterdir():
        if folder.is_dir() and int(folder.name.rpartition("-")[2]) > step:
            shutil.rmtree(folder)
