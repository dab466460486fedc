"""What `glmops score` says of answers that somebody else made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from glmops.errors import InputError
from glmops.evaluate.metrics import METRICS, Parts, measure, total
from glmops.evaluate.metrics.labels import class_table, true_label
from glmops.evaluate.pairing import Paired
from glmops.evaluate.reading import parse_label

OF_ROWS = (
    *("accuracy", "unparsable", "outside-labels"),
    *("json-valid", "json-repaired", "exact-match"),
)
"""Metrics that are a share of the rows."""
NAMED = 5
"""Labels outside the references that a note names."""


def judge(
    task: str,
    pairs: Paired,
    *,
    processes: int = 1,
    on_rows: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """The document: rows, exact matches, metrics, counts of rows, classes and notes.

    ``counts`` has the rows behind each metric that is a share of rows.

    Raises:
        InputError: A reference is no answer of the task, or every one is empty.
    """
    if not any(reference.strip() for reference in pairs.references):
        raise InputError(pairs.names[0], "every reference is empty", do="Give the true answers.")
    rows = list(
        measure(
            task,
            pairs.predictions,
            pairs.references,
            names=pairs.names,
            prompts=pairs.prompts,
            processes=processes,
            on_rows=on_rows,
        )
    )
    both = zip(pairs.predictions, pairs.references, strict=True)
    document: dict[str, Any] = {
        "task": task,
        "rows": len(rows),
        "exact_match": sum(a.strip() == b.strip() != "" for a, b in both),
        "metrics": total(rows),
        "counts": dict(_counts(rows)),
        "version": METRICS[task].version,
        "notes": [*pairs.notes, *_notes(task, pairs)],
    }
    if task == "classification":
        document["classes"] = class_table(*_labels(pairs))
    return document


def _counts(rows: list[Parts]) -> Iterator[tuple[str, int]]:
    for metric in rows[0]:
        if metric in OF_ROWS:
            yield metric, int(sum(row[metric][0] for row in rows))


def _labels(pairs: Paired) -> tuple[list[str], list[str | None]]:
    named = zip(pairs.references, pairs.names, strict=True)
    return [true_label(*each) for each in named], [parse_label(text) for text in pairs.predictions]


def _notes(task: str, pairs: Paired) -> Iterator[str]:
    empty = [
        sum(not text.strip() for text in side) for side in (pairs.predictions, pairs.references)
    ]
    if empty[0]:
        yield f"{_rows(empty[0], 'prediction is', 'predictions are')} empty and counted as wrong"
    if empty[1]:
        yield f"{_rows(empty[1], 'reference is', 'references are')} empty: nothing matches there"
    if len(pairs.references) == 1:
        yield "one row: too few to tell"
    if task != "classification":
        return
    expected, answered = _labels(pairs)
    if len(pairs.references) > 1 and len(set(expected)) == 1:
        yield f"one class: every reference is {expected[0]!r}, and so would any constant answer be"
    outside = Counter(label for label in answered if label is not None and label not in expected)
    if outside:
        most = ", ".join(f"{label} ({n})" for label, n in outside.most_common(NAMED))
        more = f" and {len(outside) - NAMED} more" if len(outside) > NAMED else ""
        yield f"labels that no reference has, counted as wrong: {most}{more}"


def _rows(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def summary(document: dict[str, Any]) -> list[str]:
    """The document as lines for people."""
    rows, exact = document["rows"], document["exact_match"]
    lines = [f"{document['task']}, {rows} rows ({document['version']})"]
    values = {"exact-match": exact / rows, **document["metrics"]}
    counts = {"exact-match": exact, **document["counts"]}
    width = max(map(len, values))
    for metric, value in values.items():
        of = f"   {counts[metric]} of {rows}" if metric in counts else ""
        lines.append(f"  {metric:<{width}}  {value:8.4f}{of}")
    if "classes" in document:
        lines += ["", *_class_lines(document["classes"])]
    return [*lines, *(f"note: {note}" for note in document["notes"])]


def _class_lines(classes: dict[str, dict[str, Any]]) -> Iterator[str]:
    columns = ("rows", "answered", "precision", "recall", "f1")
    yield "  ".join(f"{name:>9}" for name in columns) + "  label"
    for label, row in classes.items():
        shown = (
            f"{row[name]:9.4f}" if name in columns[2:] else f"{row[name]:9}" for name in columns
        )
        yield "  ".join(shown) + f"  {label}"
