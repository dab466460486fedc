"""data/encoded/NAME → models/NAME: a base, a method on top of it, one checkpoint."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from glmops.errors import GlmopsError
from glmops.models import load_tokenizer
from glmops.recipe import Recipe
from glmops.storage import Layout, read_jsonl, write_json, write_jsonl, write_text
from glmops.train.lean import leave_out
from glmops.train.points import Point
from glmops.train.spool import OFFENDING, PROGRESS, SPOOL, progress, read
from pipelines.process import run, seen_live


def train(layout: Layout, recipe: Recipe) -> str:
    # These import torch and transformers, which `leave_out` has to come before.
    from glmops.train.candidate import Place
    from glmops.train.launch import train_as_launched

    place = Place(layout.root, layout.work("train"), layout.model)
    reports = layout.reports("train")
    (reports / OFFENDING).unlink(missing_ok=True)
    try:
        with seen_live(layout, place.scratch / SPOOL, read):
            trained = train_as_launched(layout.encoded, recipe.train, place)
    except GlmopsError:
        keep_offending(place.scratch, layout.encoded, reports)
        raise
    if trained is None:
        return "took part; the first machine writes what came of it"
    history, metrics = trained
    lines, _ = read(place.scratch / SPOOL)
    points = [asdict(point) for point in history]
    write_text(reports / "history.csv", as_csv([field.name for field in fields(Point)], points))
    # DVC draws one plot of a file.
    write_text(reports / "learning_rate.csv", as_csv(["phase", "step", "learning_rate"], points))
    write_text(reports / "progress.csv", as_csv(PROGRESS, progress(lines)))
    write_json(reports / "metrics.json", metrics)
    shutil.rmtree(place.scratch, ignore_errors=True)
    losses = ", ".join(f"{name} {phase['loss']['dev']:.3f}" for name, phase in metrics.items())
    seconds = sum(phase["seconds"] for phase in metrics.values())
    return f"dev loss {losses}; {seconds:.0f} s"


def as_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def keep_offending(scratch: Path, encoded: Path, reports: Path) -> None:
    """The rows that stopped a run, as text too, where they outlive the next run's scratch."""
    source = scratch / OFFENDING
    if not source.is_file():
        return
    tokenizer = load_tokenizer(encoded / "tokenizer")
    rows = [{**row, "text": tokenizer.decode(row["input_ids"])} for row in read_jsonl(source)]
    write_jsonl(reports / OFFENDING, rows)
    source.unlink()


def _in_own_process(layout: Layout, recipe: Recipe) -> str:
    leave_out(recipe.train, layout.root)
    return train(layout, recipe)


if __name__ == "__main__":
    run("train", _in_own_process)
