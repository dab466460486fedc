"""rescore: a champion's stored checkpoint on other test rows. No stage: `glmops.promote` starts it.

It runs in a small project of its own (glmops/promote/rescoring.py). With the folder ``stored`` in
it, the rows are those that the champion answered: its answers are scored again, and nothing is
answered.
"""

from __future__ import annotations

from glmops.recipe import Recipe
from glmops.records import Answer, LabelLikelihood, Record, read_table
from glmops.storage import Layout, read_jsonl
from pipelines.evaluate import evaluate, publish
from pipelines.process import run


def rescore(layout: Layout, recipe: Recipe) -> str:
    stored = layout.root / "stored"
    if not stored.is_dir():
        return evaluate(layout, recipe)
    likelihoods = stored / "likelihoods.parquet"
    return publish(
        layout,
        read_table(layout.prepared / f"{recipe.evaluate.split}.parquet", Record),
        read_table(layout.prepared / "train.parquet", Record),
        [Answer(**row) for row in read_jsonl(stored / "answers.jsonl")],
        read_table(likelihoods, LabelLikelihood) if likelihoods.is_file() else [],
        {},
        processes=recipe.evaluate.threads,
    )


if __name__ == "__main__":
    run("rescore", rescore)
