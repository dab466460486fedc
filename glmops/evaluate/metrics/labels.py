"""Classification by what the model wrote: shares of rows, F1 over labels, one line per label."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from glmops.evaluate.metrics import likelihoods
from glmops.evaluate.metrics.parts import Pairs, Parts, readable
from glmops.evaluate.reading import parse_label


def true_label(text: str, where: str) -> str:
    """The label of a target. One that cannot be read would make every answer to it wrong."""
    return readable(parse_label(text), text, where, 'a label, bare or as ["label"]')


def classification(pairs: Pairs) -> Iterator[Parts]:
    expected = pairs.truths(true_label)
    answered = [parse_label(text) for text in pairs.predictions]
    known = set(expected if pairs.labels is None else pairs.labels)
    columns = {
        "accuracy": shares(e == a for e, a in zip(expected, answered, strict=True)),
        "macro-f1": macro_f1_parts(expected, answered),
        "weighted-f1": weighted_f1_parts(expected, answered),
        "unparsable": shares(label is None for label in answered),
        "outside-labels": shares(label is not None and label not in known for label in answered),
    }
    if pairs.likelihoods is not None:
        likeliest = [likelihoods.likeliest(row) for row in pairs.likelihoods]
        columns |= {
            "likelihood-accuracy": shares(e == a for e, a in zip(expected, likeliest, strict=True)),
            "likelihood-macro-f1": macro_f1_parts(expected, likeliest),
            "agreement": shares(a == b for a, b in zip(answered, likeliest, strict=True)),
        }
        auc = likelihoods.auc_parts(expected, pairs.likelihoods)
        columns |= {"auc": auc} if auc else {}
    pairs.on_rows(len(expected))
    for row in zip(*columns.values(), strict=True):
        yield {metric: (part, 1.0) for metric, part in zip(columns, row, strict=True)}


def shares(rows: Iterable[bool]) -> list[float]:
    return [float(row) for row in rows]


def macro_f1_parts(expected: Sequence[str], answered: Sequence[str | None]) -> list[float]:
    """Per row a number whose mean over the rows is macro F1.

    Macro F1 is no sum over rows: leaving one out moves the F1 of its two labels. A row's part is
    the whole set's value plus how far this row pulls it (the first-order change), so the mean over
    all rows is exact, and over resampled rows a first-order approximation.
    """
    sizes = Counter[str | None](expected) + Counter(answered)
    hits = Counter[str | None](e for e, a in zip(expected, answered, strict=True) if e == a)
    f1 = {label: 2 * hits[label] / size for label, size in sizes.items()}
    macro = math.fsum(f1.values()) / len(f1)
    scale = len(expected) / len(f1)
    return [
        macro + scale * sum(((e == a) - f1[label]) / sizes[label] for label in (e, a))
        for e, a in zip(expected, answered, strict=True)
    ]


def weighted_f1_parts(expected: Sequence[str], answered: Sequence[str | None]) -> list[float]:
    """Per row a number whose mean over the rows is weighted F1: as for macro F1.

    With a label's shares expected p, answered q and right h, weighted F1 is the sum of 2hp / (p+q).
    Doubling all shares doubles it, so a row's part is the derivative in the direction of the row.
    """
    wanted, given = Counter[str | None](expected), Counter(answered)
    hits = Counter[str | None](e for e, a in zip(expected, answered, strict=True) if e == a)
    sizes = wanted + given
    by_wanted = {k: 2 * hits[k] * given[k] / size**2 for k, size in sizes.items()}
    by_given = {k: -2 * hits[k] * wanted[k] / size**2 for k, size in sizes.items()}
    by_hit = {k: 2 * wanted[k] / size for k, size in sizes.items()}
    return [
        by_wanted[e] + by_given[a] + (by_hit[e] if e == a else 0.0)
        for e, a in zip(expected, answered, strict=True)
    ]


def class_table(
    expected: Sequence[str], answered: Sequence[str | None], taught: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """Each label that is expected or taught, in order: rows, answered, precision, recall, f1."""
    wanted, given = Counter(expected), Counter(answered)
    hits = Counter(e for e, a in zip(expected, answered, strict=True) if e == a)
    return {
        label: {
            "rows": wanted[label],
            "answered": given[label],
            "precision": hits[label] / given[label] if given[label] else 0.0,
            "recall": hits[label] / wanted[label] if wanted[label] else 0.0,
            "f1": 2 * hits[label] / max(wanted[label] + given[label], 1),
        }
        for label in sorted({*expected, *taught})
    }
