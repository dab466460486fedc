"""The candidate's report: one HTML page that asks the network for nothing.

It is for the person who has to say yes or no, so the verdict and what fell short come first. Equal
inputs give an equal page: it holds no time and no host.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from glmops.pages import page
from glmops.promote.curves import training_curves
from glmops.promote.gate import Verdict, show
from glmops.promote.package import Package
from glmops.promote.runs import flatten
from glmops.records import Score, read_table
from glmops.storage import Layout, read_json, read_jsonl

TEMPLATE = "report.html.j2"
EXAMPLES = 8
SHOWN_CHARACTERS = 700
MOST_LABELS = 12
ROW_METRICS = {
    "classification": ("accuracy", 1.0),
    "triples": ("f1", 1.0),
    "keywords": ("f1", 1.0),
    "generation": ("rouge-l", 100.0),
}
"""The metric that says how right one row is, and its best value."""
HEADLINES = {
    "passed": "Passed: every rule of the gate holds.",
    "refused": "Refused: the gate's rules are not met.",
    "too few rows": "Too few rows: the gate cannot tell.",
}


class Mark(NamedTuple):
    right: bool
    text: str


UNMARKED = Mark(False, "not scored")


def render(
    layout: Layout,
    package: Package,
    verdict: Verdict,
    champion: str | None,
    history: Sequence[Mapping[str, str]],
    progress: Sequence[Mapping[str, str]] = (),
) -> str:
    """The page, as text.

    Args:
        history: Rows of history.csv, and ``progress`` of progress.csv.
    """
    evaluated = layout.reports("evaluate")
    answers = read_jsonl(evaluated / "answers.jsonl")
    marks = row_marks(read_table(evaluated / "scores.parquet", Score))
    prepared = layout.reports("prepare") / "metrics.json"
    return page(
        Path(__file__).parent / TEMPLATE,
        {"show": show},
        manifest=package.manifest,
        digest=package.digest,
        verdict=verdict,
        headline=HEADLINES[verdict.outcome],
        champion=champion,
        also=_also_measured(package.manifest["scorecard"], verdict),
        curves=training_curves(history, progress),
        confusion=confusion(evaluated / "confusion.csv"),
        wrong=_examples([a for a in answers if not marks.get(a["id"], UNMARKED).right], marks),
        some=_examples(answers, marks),
        data=list(flatten(read_json(prepared) if prepared.is_file() else {}, joint=" › ")),
        card=card_summary(layout),
        pages=data_pages(layout),
        base=list(flatten(package.manifest["base"])),
        overrides=list(flatten(package.manifest["overrides"])),
        settings=list(flatten(package.manifest["sections"])),
    )


def card_summary(layout: Layout) -> dict[str, Any] | None:
    """What the data card says first: its key numbers and its concerns; None without a card."""
    file = layout.reports("prepare") / "card.json"
    if not file.is_file():
        return None
    card = read_json(file)
    numbers = {
        "rows read": card["rows"]["read"],
        "refused": card["rows"]["refused"],
        "exact repeats": card["duplicates"]["exact"]["rows"],
        "near copies": card["duplicates"]["near"]["texts"],
        "texts under several labels": card["conflicts"]["texts"],
        "leaks": card["leaks"]["text"] + card["leaks"]["near"],
    }
    return {"numbers": numbers, "concerns": [c for c in card["concerns"] if c["level"] != "note"]}


def data_pages(layout: Layout) -> list[tuple[str, str, str]]:
    """(title, address, place) of the pages about the data, as far as they are there.

    The address is relative to the report where it lies; a copy of the report elsewhere, such as the
    one in MLflow, does not have the pages beside it, so the place is named in words, too.
    """
    pages = (("Data card", "card.html"), ("Data Docs", "data_docs/index.html"))
    return [
        (title, f"../prepare/{name}", f"reports/{layout.name}/prepare/{name}")
        for title, name in pages
        if (layout.reports("prepare") / name).is_file()
    ]


def row_marks(scores: Iterable[Score]) -> dict[str, Mark]:
    """Row id → how right it is. Nothing expected and nothing answered is right."""
    marks = {}
    for score in scores:
        metric, best = ROW_METRICS[score.task]
        if score.metric == metric:
            value = score.numerator / score.denominator if score.denominator else best
            text = (
                "right" if value >= best else "wrong" if value <= 0 else f"{metric} {show(value)}"
            )
            marks[score.id] = Mark(value >= best, text)
    return marks


def confusion(path: Path) -> dict[str, Any] | None:
    """A table of expected × answered labels with counts; None without a classification task.

    The least frequent labels share one line, so that a bad model's inventions stay readable.
    """
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        pairs = [(row["expected"], row["answered"]) for row in csv.DictReader(file)]
    if not pairs:
        return None
    expected = _labels(Counter(e for e, _ in pairs))
    answered = _labels(Counter(a for _, a in pairs), first=expected)
    counts = Counter((_listed(e, expected), _listed(a, answered)) for e, a in pairs)
    rows = [
        {
            "label": e,
            "cells": [(counts[e, a], e == a) for a in answered],
            "total": sum(counts[e, a] for a in answered),
        }
        for e in expected
    ]
    return {"answered": answered, "rows": rows}


OTHERS = "(others)"


def _labels(counted: Counter[str], first: Sequence[str] = ()) -> list[str]:
    """The most frequent labels, after those of ``first`` that occur; the rest as one."""
    ranked = [label for label, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))]
    ordered = list(dict.fromkeys([label for label in first if label in counted] + ranked))
    if len(ordered) <= MOST_LABELS:
        return ordered
    return [*ordered[: MOST_LABELS - 1], OTHERS]


def _listed(label: str, labels: Sequence[str]) -> str:
    return label if label in labels else OTHERS


def _examples(
    answers: Sequence[Mapping[str, Any]], marks: Mapping[str, Mark]
) -> list[dict[str, Any]]:
    """Up to eight answers, drawn with a fixed seed, in their order in the test set."""
    chosen = random.Random(0).sample(range(len(answers)), min(EXAMPLES, len(answers)))
    return [
        {
            "task": answers[i]["task"],
            "id": answers[i]["id"],
            "mark": marks.get(answers[i]["id"], UNMARKED),
            "finished": answers[i]["finished"],
            **{key: _shorten(answers[i][key]) for key in ("prompt", "target", "answer")},
        }
        for i in sorted(chosen)
    ]


def _also_measured(scorecard: Mapping[str, Any], verdict: Verdict) -> list[tuple[str, Any]]:
    """What the scorecard says of the tasks beyond the table of metrics and its column of rows."""
    seen = {check.metric for check in verdict.checks}
    return [
        (f"{task}/{metric}", value)
        for task, values in scorecard.items()
        if task != "test"
        for metric, value in values.items()
        if metric != "rows" and f"{task}/{metric}" not in seen
    ]


def _shorten(text: str) -> str:
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}… ({len(text) - SHOWN_CHARACTERS} more characters)"
