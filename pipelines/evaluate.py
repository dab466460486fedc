"""evaluate: models/NAME answers the held-out rows; answers, scores, scorecard and confusion.

Answers are kept as they are made, below .glmops/work, until all outputs are written: DVC deletes
those before it runs the stage, and a killed one goes on from what it has.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from glmops.evaluate.answers import answer, answer_with, require_records
from glmops.evaluate.baselines import (
    add_to_card,
    base_checkpoint,
    baseline_answers,
    baseline_scores,
)
from glmops.evaluate.engines import open_checkpoint
from glmops.evaluate.likelihood import label_likelihoods
from glmops.evaluate.metrics.likelihoods import Bin
from glmops.evaluate.scorecard import (
    calibration_bins,
    confusion,
    headline,
    score_rows,
    scorecard,
)
from glmops.evaluate.slices import slices_of
from glmops.recipe import Recipe
from glmops.recipe.evaluate import Evaluate
from glmops.records import (
    Answer,
    BaselineScore,
    LabelLikelihood,
    Record,
    Score,
    Slice,
    read_table,
    write_table,
)
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
    del model  # the base may need its memory
    with progress("baselines", len(section.baselines) * len(records)) as advance:
        beside = _beside(layout, section, records, train, advance)
    said = publish(layout, records, train, answers, likelihoods, beside, processes=section.threads)
    shutil.rmtree(work, ignore_errors=True)
    return said


def publish(
    layout: Layout,
    records: Sequence[Record],
    train: Sequence[Record],
    answers: Sequence[Answer],
    likelihoods: Sequence[LabelLikelihood],
    beside: Mapping[str, Sequence[Answer]],
    *,
    processes: int = 1,
) -> str:
    """Score what was answered, and write every file of the stage; returns the line to say.

    Args:
        beside: What each baseline answers.
        processes: For the text metrics; no file depends on it.
    """
    with progress("scoring", len(answers)) as advance:
        scores = score_rows(
            answers, train, likelihoods=likelihoods, processes=processes, on_rows=advance
        )
    baselines = baseline_scores(beside, train, processes=processes)
    card = scorecard(answers, scores, records=records, likelihoods=likelihoods)
    add_to_card(card, baselines)

    reports = layout.reports("evaluate")
    bins = calibration_bins(answers, likelihoods)
    write_jsonl(reports / "answers.jsonl", map(asdict, answers))
    write_table(reports / "scores.parquet", scores, Score)
    write_table(reports / "likelihoods.parquet", likelihoods, LabelLikelihood)
    write_table(reports / "baselines.parquet", baselines, BaselineScore)
    write_table(reports / "slices.parquet", list(slices_of(records)), Slice)
    _write_csv(reports / "confusion.csv", ("expected", "answered"), confusion(answers, train))
    _write_csv(reports / "calibration.csv", Bin._fields, bins)
    write_json(reports / "scorecard.json", card)
    return headline(card)


def _write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([names, *rows])
    write_text(path, table.getvalue())


def _beside(
    layout: Layout,
    section: Evaluate,
    records: Sequence[Record],
    train: Sequence[Record],
    advance: Callable[[float], None],
) -> dict[str, list[Answer]]:
    """What each baseline of the recipe answers, as far as there is one."""
    work, said = layout.work("evaluate"), dict[str, list[Answer]]()
    for name in section.baselines:
        if name != "base":
            said[name] = baseline_answers(name, records, train)
            advance(len(records))
        elif base := base_checkpoint(layout.model, work / "base"):
            said[name] = answer(
                base,
                records,
                batch_size=section.batch_size,
                max_new_tokens=section.max_new_tokens,
                threads=section.threads,
                engine=section.engine,
                work=work,
                on_rows=advance,
            )
    return said


if __name__ == "__main__":
    run("evaluate", evaluate)
