"""What each metric means, and how a set of answers becomes numbers.

    task            metric          means                                                      scale
    classification  accuracy        the answer reads as the expected label; of several labels  0-1
                                    all must be right, in any order
                    macro-f1        mean over labels of that label's F1; every label that is   0-1
                                    expected or answered counts, and "unparsable" is a label
                                    that no row expects
                    unparsable      share of answers that do not read as a label               0-1
                    outside-labels  share of answers that read as a label nobody taught        0-1
                    majority        accuracy of always answering the commonest taught label    0-1
    triples         f1              2 matched / (answered + expected), over all rows at once;  0-1
                                    a triple matches when subject, predicate, object and both
                                    types are the same characters
                    precision       matched / answered                                         0-1
                    recall          matched / expected                                         0-1
                    json-valid      share of answers that read as a fenced list of triples     0-1
    keywords        f1, precision,  as for triples; keywords match without case and spacing      0-1
                    recall
    generation      rouge-1, -2     F of the word pairs and words both texts share (jieba)     0-100
    and triples     rouge-l         F of the longest common subsequence of words               0-100
                    bleu-4          BLEU of 1 to 4 characters, smoothing method 3              0-100

An answer that cannot be read is wrong: it matches nothing, and counts. Where the official script
for the last four raises (an empty or blank text), they are 0. A share of nothing (the precision of
no triples at all) is 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from glmops.errors import InputError, lookup
from glmops.evaluate import texts
from glmops.evaluate.reading import Triple, parse_keywords, parse_label, parse_triples

Parts = dict[str, tuple[float, float]]
"""One row: metric → numerator and denominator. Over rows, a metric is sum / sum."""

T = TypeVar("T")


class Pairs(NamedTuple):
    """Answers and truths of one task, row by row, and what to call each row in an error."""

    predictions: Sequence[str]
    references: Sequence[str]
    names: Sequence[str]
    labels: Collection[str] | None
    """Labels that the model was taught; without them, those of the references."""

    def truths(self, read: Callable[[str, str], T]) -> list[T]:
        return [read(text, name) for text, name in zip(self.references, self.names, strict=True)]


def true_label(text: str, where: str) -> str:
    """The label of a target. One that cannot be read would make every answer to it wrong."""
    return _readable(parse_label(text), text, where, 'a label, bare or as ["label"]')


def true_triples(text: str, where: str) -> frozenset[Triple]:
    return _readable(parse_triples(text), text, where, "a fenced ```json list of triples")


def true_keywords(text: str, where: str) -> frozenset[str]:
    return _readable(parse_keywords(text) or None, text, where, "keywords, separated by commas")


def classification(pairs: Pairs) -> Iterator[Parts]:
    expected = pairs.truths(true_label)
    answered = [parse_label(text) for text in pairs.predictions]
    known = set(expected if pairs.labels is None else pairs.labels)
    macro = macro_f1_parts(expected, answered)
    for label, answer, part in zip(expected, answered, macro, strict=True):
        yield {
            "accuracy": (float(answer == label), 1.0),
            "macro-f1": (part, 1.0),
            "unparsable": (float(answer is None), 1.0),
            "outside-labels": (float(answer is not None and answer not in known), 1.0),
        }


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


def triples(pairs: Pairs) -> Iterator[Parts]:
    truths = pairs.truths(true_triples)
    for truth, answer, text in zip(truths, pairs.predictions, generation(pairs), strict=True):
        found = parse_triples(answer)
        valid = {"json-valid": (float(found is not None), 1.0)}
        yield {**_overlap(truth, found or frozenset()), **valid, **text}


def keywords(pairs: Pairs) -> Iterator[Parts]:
    for truth, answer in zip(pairs.truths(true_keywords), pairs.predictions, strict=True):
        yield _overlap(truth, parse_keywords(answer))


def _overlap(truth: frozenset[T], answered: frozenset[T]) -> Parts:
    matched = len(truth & answered)
    return {
        "f1": (2.0 * matched, float(len(truth) + len(answered))),
        "precision": (float(matched), float(len(answered))),
        "recall": (float(matched), float(len(truth))),
    }


def generation(pairs: Pairs) -> Iterator[Parts]:
    for prediction, reference in zip(pairs.predictions, pairs.references, strict=True):
        scores = texts.text_scores(prediction, reference)
        yield {name: (value, 1.0) for name, value in scores.items()}


class Metrics(NamedTuple):
    """How the rows of a task are scored. ``version`` changes whenever a value could."""

    rows: Callable[[Pairs], Iterator[Parts]]
    version: str
    headline: str


METRICS: dict[str, Metrics] = {
    "classification": Metrics(classification, "classification-1", "accuracy"),
    "triples": Metrics(triples, f"triples-1 {texts.VERSION}", "f1"),
    "keywords": Metrics(keywords, "keywords-1", "f1"),
    "generation": Metrics(generation, texts.VERSION, "rouge-l"),
}


def score(
    task: str,
    predictions: Sequence[str],
    references: Sequence[str],
    *,
    labels: Collection[str] | None = None,
) -> dict[str, float]:
    """Every metric of ``task`` over the pairs.

    Args:
        labels: The labels a classifier was taught; without them, those of the references.
    Raises:
        InputError: No rows, different lengths, or a reference that is no answer of this task.
        RecipeError: An unknown task.
    """
    return total(measure(task, predictions, references, labels=labels))


def measure(
    task: str,
    predictions: Sequence[str],
    references: Sequence[str],
    *,
    labels: Collection[str] | None = None,
    names: Sequence[str] | None = None,
) -> Iterator[Parts]:
    """The parts of every row, in order, as they are computed. Raises as `score` does."""
    metrics = lookup(METRICS, task, "score task")
    if len(predictions) != len(references) or not references:
        raise InputError(
            f"score {task}",
            "expected as many predictions as references, and at least one",
            got=f"{len(predictions)} and {len(references)}",
            do="Give one prediction per reference.",
        )
    names = names or [f"references[{index}]" for index in range(len(references))]
    return metrics.rows(Pairs(predictions, references, names, labels))


def total(rows: Iterable[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """Sum of numerators over sum of denominators, per metric; 0 over nothing."""
    columns: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for metric, part in row.items():
            columns.setdefault(metric, []).append(part)
    return {metric: ratio(parts) for metric, parts in columns.items()}


def ratio(parts: Sequence[tuple[float, float]]) -> float:
    whole = math.fsum(denominator for _, denominator in parts)
    return math.fsum(numerator for numerator, _ in parts) / whole if whole else 0.0


def _readable(value: T | None, text: str, where: str, form: str) -> T:
    if value is None:
        raise InputError(where, f"expected {form}", got=text, do="Repair the row's target.")
    return value
