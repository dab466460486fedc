"""One run of a bake-off: whether it ended, how its answers scored, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glmops.errors import InputError
from glmops.promote.bootstrap import Column, columns
from glmops.records import Score, read_table
from glmops.storage import Layout, read_json

FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Made:
    """What the stages of one run left.

    Attributes:
        columns: ``task/metric`` → its rows.
        test: Hashes of the test rows and of the metrics' versions.
        seconds: Of the method's training, without its base's and without loading.
        peak_bytes: The most that the training process held meanwhile: of a GPU, where there is one.
        size_bytes: Of the checkpoint: what has to be kept to use it, but for a base of the user's.
    """

    columns: Mapping[str, Column]
    test: Mapping[str, Any]
    seconds: float | None
    peak_bytes: int | None
    trainable: int
    parameters: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Trial:
    """One method with one seed.

    Attributes:
        settings: What the run changed against the recipe, as given to ``-S``.
        state: The gate's outcome, or ``failed``.
        reasons: The gate's, or why the run failed.
        folder: Where it ran, relative to the project.
        made: None where it failed.
    """

    method: str
    seed: int
    settings: tuple[str, ...]
    state: str
    reasons: tuple[str, ...]
    folder: str
    digest: str | None = None
    made: Made | None = None


def read_made(layout: Layout, method: str) -> Made:
    """The outputs of a run that ended.

    Raises:
        InputError: A file is missing, or train/metrics.json has no such method.
    """
    file = layout.reports("train") / "metrics.json"
    phases = read_json(file)
    if method not in phases:
        raise InputError(file, "no such training in it", got=method, do="Run the recipe again.")
    numbers = phases[method]
    evaluated = layout.reports("evaluate")
    return Made(
        columns=columns(read_table(evaluated / "scores.parquet", Score)),
        test=read_json(evaluated / "scorecard.json")["test"],
        seconds=_seconds(numbers),
        peak_bytes=numbers.get("peak_bytes"),
        trainable=numbers["parameters"]["trainable"],
        parameters=numbers["parameters"]["total"],
        size_bytes=sum(f.stat().st_size for f in layout.model.rglob("*") if f.is_file()),
    )


def require_one_test(trials: Sequence[Trial]) -> None:
    """
    Raises:
        InputError: Two runs were scored on other rows, or by other metrics.
    """
    ended = [trial for trial in trials if trial.made]
    for trial in ended[1:]:
        if trial.made and ended[0].made and trial.made.test != ended[0].made.test:
            raise InputError(
                trial.folder,
                f"its test rows or metrics are not those of {ended[0].folder}",
                do="Let the rows be while a bake-off runs, and give the command again.",
            )


def _seconds(numbers: Mapping[str, Any]) -> float | None:
    """A training that was interrupted counted only its last part: its speed tells the whole."""
    speed, tokens = numbers["tokens_per_second"], numbers["tokens"]
    counted = float(numbers["seconds"])
    if not speed:
        return None
    # The speed is a rounded number: where it could be that of the seconds counted, these stand.
    if tokens / (speed + 0.5) - 0.05 <= counted <= tokens / (speed - 0.5) + 0.05:
        return counted
    return round(float(tokens / speed), 1)
