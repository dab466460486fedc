"""Answers → one score per row and metric → the scorecard that the gate and the report read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from glmops.errors import InputError
from glmops.evaluate.metrics import METRICS, OF_A_SET, Parts, measure, ratio, true_label
from glmops.evaluate.metrics.labels import class_table
from glmops.evaluate.metrics.likelihoods import Bin, calibration, ece
from glmops.evaluate.reading import parse_label
from glmops.records import TASKS, Answer, LabelLikelihood, Record, Score
from glmops.storage import sha256_json

UNPARSABLE = "(unparsable)"
OUTSIDE = "(another label)"


def score_rows(
    answers: Sequence[Answer],
    train: Iterable[Record],
    *,
    likelihoods: Iterable[LabelLikelihood] = (),
    processes: int = 1,
    on_rows: Callable[[int], None] | None = None,
) -> list[Score]:
    """Every metric of every row: rows in the order of ``answers``, metrics by name.

    Args:
        train: What the model was taught on; its labels are the known ones.
        likelihoods: Of every taught label of every classification row, or none at all.
        processes: For the text metrics; no score depends on it.
        on_rows: Called with the number of rows just scored.
    Raises:
        InputError: The target of a row that is scored, or a taught label, cannot be read, or a row
            has no likelihoods while others do.
    """
    taught, weighed = _labels(train), _by_row(likelihoods)
    parts: dict[int, Parts] = {}
    for task in TASKS:
        places = [place for place, answer in enumerate(answers) if answer.task == task]
        rows = [answers[place] for place in places]
        if not rows:
            continue
        measured = measure(
            task,
            [row.answer for row in rows],
            [row.target for row in rows],
            labels=taught,
            names=[_where(row) for row in rows],
            prompts=[row.prompt for row in rows],
            likelihoods=_of(rows, weighed) if task == "classification" and weighed else None,
            processes=processes,
            on_rows=on_rows,
        )
        parts |= zip(places, measured, strict=True)
    return [
        Score(answer.id, answer.task, metric, *parts[place][metric])
        for place, answer in enumerate(answers)
        for metric in sorted(parts[place])
    ]


def scorecard(
    answers: Sequence[Answer],
    scores: Iterable[Score],
    *,
    records: Iterable[Record] = (),
    likelihoods: Iterable[LabelLikelihood] = (),
) -> dict[str, dict[str, Any]]:
    """The value of every metric of every task that occurs, and what was measured on.

    Under a task's metrics stand ``classes``, one line per expected label, and ``turns``, the values
    by the number of earlier turns, where some row has any; metrics of a whole set are not in there.
    ``test.sha256`` is the hash of the ids, prompts and targets of the rows in order, and
    ``test.metrics`` the hash of the metrics' versions: scorecards compare only where both agree.

    Args:
        records: The rows that were answered; they know their turns.
        likelihoods: As in `score_rows`; with them, ``ece`` is on the card.
    """
    scores = list(scores)
    rows = Counter(answer.task for answer in answers)
    card: dict[str, dict[str, Any]] = {task: {"rows": rows[task]} for task in TASKS if rows[task]}
    versions = {task: METRICS[task].version for task in card}
    for (task, metric), value in _values(scores).items():
        card[task][metric] = value
    if "classification" in card:
        card["classification"]["classes"] = _classes(answers)
        if bins := calibration_bins(answers, likelihoods):
            card["classification"]["ece"] = ece(bins)
    for task, turns in _by_turns(scores, records).items():
        card[task]["turns"] = turns
    card["test"] = {
        "rows": len(answers),
        "sha256": sha256_json([[row.id, row.prompt, row.target] for row in answers]),
        "metrics": sha256_json(versions),
    }
    return card


def calibration_bins(
    answers: Iterable[Answer], likelihoods: Iterable[LabelLikelihood]
) -> list[Bin]:
    """How often the likeliest label is right, by how likely it is; none without likelihoods."""
    weighed = _by_row(likelihoods)
    rows = [answer for answer in answers if answer.task == "classification"]
    if not rows or not weighed:
        return []
    return calibration([true_label(row.target, _where(row)) for row in rows], _of(rows, weighed))


def _values(scores: Iterable[Score]) -> dict[tuple[str, str], float]:
    columns: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in scores:
        columns.setdefault((row.task, row.metric), []).append((row.numerator, row.denominator))
    return {key: ratio(parts) for key, parts in columns.items()}


def _classes(answers: Iterable[Answer]) -> dict[str, dict[str, Any]]:
    rows = [answer for answer in answers if answer.task == "classification"]
    expected = [true_label(row.target, _where(row)) for row in rows]
    return class_table(expected, [parse_label(row.answer) for row in rows])


def _by_turns(scores: Iterable[Score], records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """Task → number of earlier turns → rows and metrics, of tasks with a row that has any."""
    turns = {row.id: len(row.turns.split(",")) if row.turns else 0 for row in records}
    parted: dict[str, dict[int, list[Score]]] = {}
    for row in scores:
        if row.metric not in OF_A_SET and row.id in turns:
            parted.setdefault(row.task, {}).setdefault(turns[row.id], []).append(row)
    return {
        task: {
            str(number): {
                "rows": len({row.id for row in mine}),
                **{metric: value for (_, metric), value in _values(mine).items()},
            }
            for number, mine in sorted(numbers.items())
        }
        for task, numbers in parted.items()
        if any(numbers)
    }


def _by_row(likelihoods: Iterable[LabelLikelihood]) -> dict[str, dict[str, float]]:
    weighed: dict[str, dict[str, float]] = {}
    for each in likelihoods:
        weighed.setdefault(each.id, {})[each.label] = each.log_probability
    return weighed


def _of(
    rows: Iterable[Answer], weighed: Mapping[str, Mapping[str, float]]
) -> list[Mapping[str, float]]:
    rows = list(rows)
    for row in rows:
        if row.id not in weighed:
            what = "the row has no label likelihoods, and other rows have"
            raise InputError(_where(row), what, do="Run evaluate again.")
    return [weighed[row.id] for row in rows]


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
