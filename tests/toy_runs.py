"""Training runs of the toy model: in this process, or in another that a test may kill."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import toy_model as toy
from glmops.recipe import Schedule, Train
from glmops.storage import read_json, sha256_tree, write_json

# A forked process is there at once; a new Python would import torch for seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["toy_runs", "glmops.train.candidate"])


def phase(data: Any, scratch: Path, *, dev: Any = None, **schedule: Any) -> Any:
    """A phase over the toy's train rows."""
    from glmops.train.loop import Phase

    return Phase(
        "scratch",
        data.train,
        dev or data.dev,
        Schedule.model_validate(toy.schedule(**schedule)),
        family=data.contract.family,
        pad=data.tokenizer.pad_token_id,
        scratch=scratch,
    )


def fresh_model(**changes: Any) -> Any:
    from glmops.models.small import small_glm

    return small_glm(toy.base_settings(**changes), toy.tokenizer(), max_tokens=80, seed=1)


def killable_settings(**changes: Any) -> Train:
    """Base and LoRA of 10 steps each, with dropout, accumulation and a checkpoint every other
    step."""
    schedule = toy.schedule(epochs=2, batch_size=4, accumulation=2)
    values = {
        "base": toy.base_settings(schedule=schedule).model_dump(),
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.3, "targets": ["q_proj", "down_proj"]},
        "schedule": schedule,
        "checkpoints": {"every_steps": 2, "keep": 2},
        "best": {"metric": "dev-loss", "every_steps": 3},
    }
    return toy.train_settings(**{**values, **changes})


def start(encoded: Path, place: Path, settings: Train) -> tuple[Any, Connection]:
    """A process that trains, and a pipe that gets a word for each of its steps."""
    ours, its = FORKS.Pipe(duplex=False)
    child = FORKS.Process(target=_train, args=(encoded, place, settings.model_dump(), its))
    child.start()
    its.close()
    return child, ours


def signal_to(child: Any, number: int) -> None:
    os.kill(child.pid, number)


def result(place: Path) -> tuple[dict[str, str], Any]:
    """What a run gave: its files, and its record without what the machine adds."""
    record = read_json(place / "record.json")
    for numbers in record["numbers"].values():
        del numbers["seconds"], numbers["tokens_per_second"], numbers["peak_bytes"]
    return sha256_tree(place / "model"), record


def _train(encoded: Path, place: Path, settings: dict[str, Any], steps: Connection) -> None:
    from glmops.train.candidate import Place, read_encoded, train_candidate

    where = Place(place, place / "scratch", place / "model")
    try:
        history, numbers = train_candidate(
            read_encoded(encoded),
            Train.model_validate(settings),
            where,
            on_step=lambda: steps.send(1),
        )
    except KeyboardInterrupt:
        sys.exit(130)
    points = [[getattr(point, name) for name in point.__slots__] for point in history]
    write_json(place / "record.json", {"history": points, "numbers": numbers})
