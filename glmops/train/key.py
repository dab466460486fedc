"""What a phase of training depends on, as one hash: only for the same inputs does a run go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import glmops.models
import glmops.train
from glmops.storage import sha256_file, sha256_json

if TYPE_CHECKING:
    from glmops.recipe import Schedule, Train
    from glmops.train.loop import Phase

_FREE = {"checkpoints", "launch", "export", "schedule"}
"""Train settings that change no weight, and the schedule, of which each phase has its own."""


def key_of(phase: Phase, settings: Train, processes: int) -> str:
    """Hash of rows, dev rows, schedule, settings, the model before the phase, and our code.

    A step is the same for the same global batch: one process that accumulates four forwards, or
    four processes, can go on with each other's checkpoints.
    """
    inputs = {
        "phase": phase.name,
        "rows": sha256_file(phase.rows.path),
        "dev": sha256_file(phase.dev.path),
        "schedule": _schedule(phase.schedule, processes),
        "settings": _settings(settings),
        "model": phase.model_hash,
        "code": _code(),
    }
    return sha256_json(inputs)


def _schedule(schedule: Schedule, processes: int) -> dict[str, Any]:
    values = schedule.model_dump(mode="json")
    return {**values, "accumulation": schedule.accumulation * processes}


def _settings(settings: Train) -> dict[str, Any]:
    values = settings.model_dump(mode="json", exclude=_FREE)
    values["base"].pop("schedule", None)
    return values


def _code() -> dict[str, str]:
    """The Python files of training and of the models: other code, other weights."""
    folders = [
        Path(file).parent for each in (glmops.models, glmops.train) if (file := each.__file__)
    ]
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return {f"{file.parent.name}/{file.name}": sha256_file(file) for file in files}
