"""Answers → one score per row and metric → the scorecard that the gate and the report read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from glmops.evaluate.metrics import METRICS, Parts, measure, ratio, true_label
from glmops.evaluate.reading import parse_label
from glmops.records import TASKS, Answer, Record, Score, Task
from glmops.storage import sha256_json

UNPARSABLE = "(unparsable)"
OUTSIDE = "(another label)"


def score_rows(
    answers: Sequence[Answer],
    train: Sequence[Record],
    *,
    on_rows: Callable[[int], None] | None = None,
) -> list[Score]:
    """Every metric of every row: rows in the order of ``answers``, metrics by name.

    Args:
        train: What the model was taught on; its labels are the known ones, and the commonest of
            them is what the metric ``majority`` would answer everywhere.
        on_rows: Called with the number of rows just scored.
    Raises:
        InputError: The target of a row that is scored, or a taught label, cannot be read.
    """
    taught = _labels(train)
    parts: dict[int, Parts] = {}
    for task in TASKS:
        places = [place for place, answer in enumerate(answers) if answer.task == task]
        rows = [answers[place] for place in places]
        for place, part in zip(places, _measure(task, rows, taught), strict=True):
            parts[place] = part
            if on_rows:
                on_rows(1)
    return [
        Score(answer.id, answer.task, metric, *parts[place][metric])
        for place, answer in enumerate(answers)
        for metric in sorted(parts[place])
    ]


def _measure(task: Task, rows: Sequence[Answer], taught: Counter[str]) -> Iterator[Parts]:
    if not rows:
        return
    measured = measure(
        task,
        [row.answer for row in rows],
        [row.target for row in rows],
        labels=taught,
        names=[_where(row) for row in rows],
    )
    # Of labels that are equally common the first in order, so that equal data give equal bytes.
    majority = min(taught, key=lambda label: (-taught[label], label), default=None)
    for row, part in zip(rows, measured, strict=True):
        if task == "classification":
            guessed = true_label(row.target, _where(row)) == majority
            part = {**part, "majority": (float(guessed), 1.0)}
        yield part


def scorecard(answers: Sequence[Answer], scores: Iterable[Score]) -> dict[str, dict[str, Any]]:
    """The value of every metric of every task that occurs, and what was measured on.

    ``test.sha256`` is the hash of the ids, prompts and targets of the rows in order, and
    ``test.metrics`` the hash of the metrics' versions: scorecards compare only where both agree.
    """
    columns: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in scores:
        columns.setdefault((row.task, row.metric), []).append((row.numerator, row.denominator))
    rows = Counter(answer.task for answer in answers)
    card: dict[str, dict[str, Any]] = {task: {"rows": rows[task]} for task in TASKS if rows[task]}
    versions = {task: METRICS[task].version for task in card}
    for (task, metric), parts in columns.items():
        card[task][metric] = ratio(parts)
    card["test"] = {
        "rows": len(answers),
        "sha256": sha256_json([[row.id, row.prompt, row.target] for row in answers]),
        "metrics": sha256_json(versions),
    }
    return card


def confusion(answers: Iterable[Answer], train: Iterable[Record]) -> list[tuple[str, str]]:
    """(expected, answered) of every classification row, in order.

    Labels that were neither taught nor expected share one name: a model that makes up words would
    otherwise give the table as many columns as rows. The words themselves are in the answers.
    """
    rows = [answer for answer in answers if answer.task == "classification"]
    expected = [true_label(row.target, _where(row)) for row in rows]
    known = {*_labels(train), *expected}
    answered = [_cell(parse_label(row.answer), known) for row in rows]
    return list(zip(expected, answered, strict=True))


def headline(card: dict[str, dict[str, Any]]) -> str:
    """One line on the scorecard: `450 rows: classification accuracy 0.987, triples f1 0.953`."""
    values = [
        f"{task} {name} {_shown(card[task][name])}"
        for task, (_, _, name) in METRICS.items()
        if task in card
    ]
    return f"{card['test']['rows']} rows: {', '.join(values)}"


def _labels(records: Iterable[Record]) -> Counter[str]:
    rows = (row for row in records if row.task == "classification")
    return Counter(true_label(row.target, _where(row)) for row in rows)


def _where(row: Answer | Record) -> str:
    return f"{row.file}:{row.line}" if isinstance(row, Record) else f"row {row.id}"


def _cell(label: str | None, known: set[str]) -> str:
    if label is None:
        return UNPARSABLE
    return label if label in known else OUTSIDE


def _shown(value: float) -> str:
    """Three digits that say something on either scale: 0.987, 61.6."""
    return f"{value:.3f}" if value <= 1 else f"{value:.1f}"
