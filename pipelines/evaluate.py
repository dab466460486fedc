"""evaluate: models/NAME answers the held-out rows; answers, scores, scorecard and confusion.

Answers are kept as they are made, below .glmops/work, until all outputs are written: DVC deletes
those before it runs the stage, and a killed one goes on from what it has.
"""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import asdict

from glmops.evaluate.answers import answer_with, require_records
from glmops.evaluate.engines import open_checkpoint
from glmops.evaluate.likelihood import label_likelihoods
from glmops.evaluate.scorecard import confusion, headline, score_rows, scorecard
from glmops.recipe import Recipe
from glmops.records import LabelLikelihood, Record, Score, read_table, write_table
from glmops.storage import Layout, write_json, write_jsonl, write_text
from pipelines.process import progress, run


def evaluate(layout: Layout, recipe: Recipe) -> str:
    section = recipe.evaluate
    records = read_table(layout.prepared / f"{section.split}.parquet", Record)
    train = read_table(layout.prepared / "train.parquet", Record)
    require_records(layout.model, records)
    work = layout.work("evaluate")
    model = open_checkpoint(layout.model, engine=section.engine, threads=section.threads)
    with progress("answering", len(records)) as advance:
        answers = answer_with(
            model,
            records,
            batch_size=section.batch_size,
            max_new_tokens=section.max_new_tokens,
            work=work,
            on_rows=advance,
        )
    likelihoods: list[LabelLikelihood] = []
    if section.label_likelihood:
        to_classify = sum(record.task == "classification" for record in records)
        with progress("weighing labels", to_classify) as advance:
            likelihoods = label_likelihoods(
                model, records, train, batch_size=section.batch_size, work=work, on_rows=advance
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
    write_table(reports / "likelihoods.parquet", likelihoods, LabelLikelihood)
    write_text(reports / "confusion.csv", table.getvalue())
    write_json(reports / "scorecard.json", card)
    shutil.rmtree(work, ignore_errors=True)
    return headline(card)


if __name__ == "__main__":
    run("evaluate", evaluate)
