"""The gate's verdict and the report of 20,000 rows, with a champion beside the candidate.

    python -m benchmarks.report                    about a minute, most of it to make the rows

Half of the rows are headlines with 15 classes, their likelihoods included, and half advertisements;
the candidate is right a little more often than the champion. Both are scored and written by the
evaluate stage's own code. Timed is what `glmops run` does after it: the verdict (scores read, rules
judged) and the report (all files read, the page rendered and written). The first round is that of a
process that just began.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from glmops.prepare import read
from glmops.promote.gate import decide
from glmops.promote.package import Package, evaluation
from glmops.promote.report import render
from glmops.promote.verdict import Verdict
from glmops.recipe import Promote
from glmops.records import Answer, LabelLikelihood, Record
from glmops.storage import Layout, read_json, write_text
from pipelines.evaluate import publish

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
RULES = {
    "floors": {"classification/accuracy": 0.8, "generation/rouge-l": 5.0},
    "max_regression": {"classification/accuracy": 0.01, "generation/rouge-l": 0.5},
    "approvals": 1,
}
GOAL = 3.0


def records(rows: int) -> list[Record]:
    """The samples' rows, over again with other ids until they are enough."""
    made: list[Record] = []
    for format_ in ("toutiao", "adgen"):
        some, _ = read(SAMPLES / format_, format_)
        for number in range(rows // 2):
            made.append(replace(some[number % len(some)], id=f"{format_}-{number:06}"))
    return made


def evaluate(root: Path, asked: Sequence[Record], right: float, seed: int) -> Layout:
    """An evaluated model that is right on such a share of the classes."""
    chance = random.Random(seed)
    texts = [row.target for row in asked if row.task == "generation"]
    labels = sorted({row.target for row in asked if row.task == "classification"})
    answers, likelihoods = [], []
    for row in asked:
        said = row.target
        if chance.random() > right:
            said = chance.choice(labels if row.task == "classification" else texts)
        answers.append(Answer(row.id, row.task, row.prompt, row.target, said, True))
        if row.task == "classification":
            likelihoods += [
                LabelLikelihood(row.id, label, -chance.random() - 3 * (label != said))
                for label in labels
            ]
    layout = Layout(root, "candidate")
    publish(layout, asked, asked, answers, likelihoods, {}, processes=4)
    return layout


def judge(layout: Layout, champion: Path) -> Verdict:
    mine, theirs = evaluation(layout.reports("evaluate")), evaluation(champion)
    return decide(
        mine.scores,
        theirs.scores,
        Promote.model_validate(RULES),
        same_test=True,
        baselines=mine.baselines,
        slices=mine.slices,
    )


def report(layout: Layout, champion: Path, verdict: Verdict) -> int:
    """Write the page; returns its length in bytes."""
    card = read_json(layout.reports("evaluate") / "scorecard.json")
    manifest: dict[str, Any] = {"recipe": layout.name, "description": "", "contract": {}}
    manifest |= {part: {} for part in ("base", "overrides", "sections", "data", "files")}
    manifest |= {"scorecard": card, "test": card["test"]}
    history = [
        {"phase": "lora", "step": str(step), "loss": f"{9 / step}"} for step in range(1, 300)
    ]
    package = Package("a" * 64, manifest)
    page = render(layout, package, verdict, "b" * 64, history, (), champion)
    write_text(layout.reports("promote") / "report.html", page)
    return len(page.encode())


def main(arguments: Sequence[str] | None = None) -> list[float]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(arguments)
    rows = records(asked.rows)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        mine = evaluate(Path(folder, "mine"), rows, 0.86, 1)
        theirs = evaluate(Path(folder, "theirs"), rows, 0.84, 2).reports("evaluate")
        for _ in range(asked.rounds):
            start = time.perf_counter()
            verdict = judge(mine, theirs)
            judged = time.perf_counter()
            size = report(mine, theirs, verdict)
            seconds.append(time.perf_counter() - judged)
            said = "reached" if seconds[-1] < GOAL else "missed"
            sys.stdout.write(
                f"{len(rows)} rows: verdict {judged - start:.2f} s, report {seconds[-1]:.2f} s "
                f"(goal {GOAL:.0f} s: {said}), {size / 1e3:.0f} kB\n"
            )
    return seconds


if __name__ == "__main__":
    main()
