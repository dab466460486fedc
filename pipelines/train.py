"""data/encoded/NAME → models/NAME: a base, a method on top of it, one merged checkpoint."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields

from glmops.recipe import Recipe
from glmops.storage import Layout, write_json, write_text
from glmops.train.candidate import read_encoded, total_steps, train_candidate
from glmops.train.loop import Point
from pipelines.process import progress, run


def train(layout: Layout, recipe: Recipe) -> str:
    data = read_encoded(layout.encoded)
    with progress("train", total_steps(data, recipe.train)) as advance:
        history, metrics = train_candidate(
            data, recipe.train, layout.model, on_step=lambda: advance(1)
        )
    write_text(layout.reports("train") / "history.csv", as_csv(history))
    write_json(layout.reports("train") / "metrics.json", metrics)
    losses = ", ".join(f"{name} {phase['loss']['dev']:.3f}" for name, phase in metrics.items())
    seconds = sum(phase["seconds"] for phase in metrics.values())
    return f"dev loss {losses}; {seconds:.0f} s"


def as_csv(history: Sequence[Point]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Point)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(point) for point in history)
    return text.getvalue()


if __name__ == "__main__":
    run("train", train)
