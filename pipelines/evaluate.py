"""evaluate: models/NAME answers the held-out rows; answers, scores, scorecard and confusion."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict

from glmops.evaluate.answers import answer
from glmops.evaluate.scorecard import confusion, headline, score_rows, scorecard
from glmops.recipe import Recipe
from glmops.records import Record, Score, read_table, write_table
from glmops.storage import Layout, write_json, write_jsonl, write_text
from pipelines.process import progress, run


def evaluate(layout: Layout, recipe: Recipe) -> str:
    section = recipe.evaluate
    records = read_table(layout.prepared / f"{section.split}.parquet", Record)
    train = read_table(layout.prepared / "train.parquet", Record)
    with progress("answering", len(records)) as advance:
        answers = answer(
            layout.model,
            records,
            batch_size=section.batch_size,
            max_new_tokens=section.max_new_tokens,
            threads=section.threads,
            on_rows=advance,
        )
    with progress("scoring", len(answers)) as advance:
        scores = score_rows(answers, train, on_rows=advance)
    card = scorecard(answers, scores)

    reports = layout.reports("evaluate")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows([("expected", "answered"), *confusion(answers, train)])
    write_jsonl(reports / "answers.jsonl", map(asdict, answers))
    write_table(reports / "scores.parquet", scores, Score)
    write_text(reports / "confusion.csv", table.getvalue())
    write_json(reports / "scorecard.json", card)
    return headline(card)


if __name__ == "__main__":
    run("evaluate", evaluate)
