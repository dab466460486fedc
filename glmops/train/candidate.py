"""The whole train stage: a base, a method on top of it, and the checkpoint that comes out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from glmops.contract import Contract, load_contract
from glmops.errors import lookup
from glmops.models import load
from glmops.models.adapters import with_adapter
from glmops.models.tokenizers import load_tokenizer
from glmops.recipe import PretrainedBase, Train
from glmops.storage import fresh_folder, sha256_json
from glmops.train import peak, ranks
from glmops.train.bases import make_base, open_base, require_fit, require_pinned
from glmops.train.checkpoints import read_finished, save_finished
from glmops.train.export import (
    save_adapter,
    save_beside_base,
    save_checkpoint,
    save_weights,
    weights_hash,
)
from glmops.train.guards.layout import require_layout
from glmops.train.history import Clock
from glmops.train.keeping import best_of
from glmops.train.key import key_of
from glmops.train.loop import Phase, fit
from glmops.train.methods import METHODS, merged
from glmops.train.order import num_steps, plan_of
from glmops.train.points import Point
from glmops.train.rows import Rows, read_rows
from glmops.train.spool import SPOOL, begin, training_key


@dataclass(frozen=True, slots=True)
class Data:
    """What ``encode`` wrote. ``base`` is None where no base is trained."""

    tokenizer: Any
    contract: Contract
    base: Rows | None
    train: Rows
    dev: Rows


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run works: ``root`` is the project, ``scratch`` survives a kill, ``out`` appears
    when it is whole."""

    root: Path
    scratch: Path
    out: Path


def read_encoded(folder: Path) -> Data:
    tokenizer = load_tokenizer(folder / "tokenizer")
    base = folder / "base.arrow"
    size = len(tokenizer)
    return Data(
        tokenizer,
        load_contract(folder),
        read_rows(base, size) if base.is_file() else None,
        read_rows(folder / "train.arrow", size),
        read_rows(folder / "dev.arrow", size),
    )


def phases(data: Data, settings: Train, scratch: Path) -> list[Phase]:
    """The optimisation runs of the stage, in order: the base, where one is trained, and the method.

    They are called `base` and what the method is called.
    """
    found = []
    shared = {
        "family": data.contract.family,
        "pad": data.tokenizer.pad_token_id,
        "model_hash": data.contract.hash(),
    }
    schedule = getattr(settings.base, "schedule", None)
    if schedule is not None and data.base is not None:
        found.append(Phase("base", data.base, data.dev, schedule, scratch=scratch, **shared))
    name = settings.method
    found.append(Phase(name, data.train, data.dev, settings.schedule, scratch=scratch, **shared))
    return found


def total_steps(data: Data, settings: Train) -> int:
    """Optimiser steps of all phases, for a progress bar."""
    processes = settings.launch.processes * settings.launch.nodes
    return sum(
        num_steps(
            plan_of(each.rows.lengths, each.schedule, settings.seed, processes), each.schedule
        )
        for each in phases(data, settings, Path())
    )


def train_candidate(
    data: Data, settings: Train, place: Place, *, on_step: Callable[[], None] = lambda: None
) -> tuple[list[Point], dict[str, Any]]:
    """Make or open the base, train the method on it, and write the checkpoint to ``place.out``.

    The folder depends on ``data`` and ``settings`` alone, to the last byte; time goes into the
    returned numbers, which are what metrics.json holds.

    Returns:
        The history of all phases, and the numbers of each by its name.
    """
    torch.set_num_threads(settings.threads)
    for rows in (data.base, data.train, data.dev):
        if rows is not None:
            require_layout(rows, data.contract, data.tokenizer)
    training = training_key(data.train.path.parent, settings)
    if ranks.is_first():
        begin(place.scratch / SPOOL, training)
    lineage: dict[str, Any] = {
        "training": training,
        "method": settings.method,
        "export": settings.export,
        "contract": data.contract.hash(),
    }
    *before, last = phases(data, settings, place.scratch)
    history: list[Point] = []
    numbers: dict[str, Any] = {}
    if settings.method == "scratch":
        assert not isinstance(settings.base, PretrainedBase)
        base = None
        model = make_base(settings.base, data.tokenizer, data.contract, settings.seed)
        lineage["base"] = {"method": "scratch"}
    else:
        base, points, its_numbers, its_lineage = _base(data, settings, place, before, on_step)
        history += points
        numbers |= its_numbers
        lineage["base"] = its_lineage
        last = replace(last, model_hash=sha256_json([last.model_hash, its_lineage]))
        # ZeRO-3 gives each GPU its part of the weights; whole they may not fit on one.
        model = open_base(base, settings, "cpu" if settings.launch.zero == 3 else "auto")
        require_fit(model, data.tokenizer, data.contract)
    model = lookup(METHODS, settings.method, "train.method")(model, settings)
    points, numbers[last.name] = _run(last, model, settings, on_step)
    with ranks.first_alone() as first:
        if first:
            _export(model, base, data, settings, place, lineage)
    return [*history, *points], numbers


def _base(
    data: Data, settings: Train, place: Place, before: list[Phase], on_step: Callable[[], None]
) -> tuple[Path, list[Point], dict[str, Any], dict[str, Any]]:
    """The folder of the base, and how it came about: history, numbers, lineage."""
    if isinstance(settings.base, PretrainedBase):
        folder = require_pinned(settings.base, place.root)
        pinned = {"path": settings.base.path, "sha256": settings.base.sha256}
        return folder, [], {}, {"method": "pretrained", **pinned}
    folder = place.scratch / "base"
    alone = _base_alone(settings)
    key = key_of(before[0], alone, ranks.count()) if before and ranks.is_first() else ""
    [made, *_] = ranks.gathered(read_finished(folder, key) if key else None)
    if made is not None:  # by a run that was interrupted after it
        for _ in range(made["numbers"]["base"]["steps"]):
            on_step()
        history = [Point(**point) for point in made["history"]]
        return folder, history, made["numbers"], made["lineage"]
    model = make_base(settings.base, data.tokenizer, data.contract, settings.seed)
    history, numbers = [], {}
    for phase in before:
        model = METHODS["scratch"](model, alone)
        history, numbers[phase.name] = _run(phase, model, alone, on_step)
    lineage = {"method": "scratch", "sha256": weights_hash(model) if ranks.is_first() else ""}
    with ranks.first_alone() as first:
        if first:
            with fresh_folder(folder) as draft:
                save_weights(draft, model)
                data.tokenizer.save_pretrained(str(draft))
            points = [asdict(point) for point in history]
            record = {"history": points, "numbers": numbers, "lineage": lineage}
            save_finished(folder, key, record)
            shutil.rmtree(place.scratch / "checkpoints" / "base", ignore_errors=True)
    return folder, history, numbers, lineage


def _base_alone(settings: Train) -> Train:
    """What the base depends on: with another method on top it stays the same. Its text is not what
    the dev rows are about, so they do not choose its best moment."""
    of_the_method = {"lora": None, "prefix": None, "quantization": "none", "best": None}
    return settings.model_copy(update={**of_the_method, "method": "scratch", "export": "merged"})


def _run(
    phase: Phase, model: Any, settings: Train, on_step: Callable[[], None]
) -> tuple[list[Point], dict[str, Any]]:
    """One phase: its history and its numbers."""
    parameters = [(each.numel(), each.requires_grad) for each in model.parameters()]
    clock = Clock()
    peak.begin()
    history = fit(model, phase, settings, on_step=on_step, callbacks=[clock])
    steps, tokens = history[-1].step, round(history[-1].epoch * phase.rows.num_tokens)
    best = best_of(history, settings.best.metric) if settings.best else None
    kept = best or history[-1]
    numbers = {
        "loss": {"train": kept.loss, "dev": kept.dev_loss},
        "exact": {"dev": kept.dev_exact},
        "steps": steps,
        "tokens": tokens,
        "parameters": {
            "trainable": sum(size for size, trained in parameters if trained),
            "total": sum(size for size, _ in parameters),
        },
        "seconds": round(clock.seconds, 1),
        "peak_bytes": peak.peak(),
        "tokens_per_second": round(tokens * clock.steps / steps / max(clock.seconds, 1e-9)),
    }
    if settings.best and best:
        value = best.dev_loss if settings.best.metric == "dev-loss" else best.dev_exact
        numbers["best"] = {"step": best.step, "value": value}
    return history, numbers


def _export(
    model: Any,
    base: Path | None,
    data: Data,
    settings: Train,
    place: Place,
    lineage: dict[str, Any],
) -> None:
    """Write the checkpoint: merged weights, or the adapter and where its base is."""
    around = (data.tokenizer, data.contract, lineage)
    if settings.export == "adapter":
        assert base is not None
        lineage |= {"quantization": settings.quantization, "precision": settings.precision}
        own_base = not isinstance(settings.base, PretrainedBase)
        save_beside_base(place.out, model, base, *around, own_base=own_base)
        return
    if settings.quantization != "none":
        assert base is not None
        # Merging into quantised weights would round the adapter away: once more, in full precision.
        adapter = place.scratch / "adapter"
        save_adapter(adapter, model, base)
        full, _ = load(base, device="cpu")  # beside the quantised one no GPU has room for it
        model = with_adapter(full, adapter)
    save_checkpoint(place.out, merged(model), *around)
