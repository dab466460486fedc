"""What each metric means, and how a set of answers becomes numbers.

    task            metric          means                                                      scale
    classification  accuracy        the answer reads as the expected label; of several labels  0-1
                                    all must be right, in any order
                    macro-f1        mean over labels of that label's F1; every label that is   0-1
                                    expected or answered counts, and "unparsable" is a label
                                    that no row expects
                    weighted-f1     the same mean, each label by its share of expected rows    0-1
                    unparsable      share of answers that do not read as a label               0-1
                    outside-labels  share of answers that read as a label nobody taught        0-1
    with label      likelihood-accuracy, likelihood-macro-f1: of the likeliest taught label    0-1
    likelihoods     agreement       share of rows where both ways give the same label          0-1
                    auc             mean over labels of the area under the ROC curve, one      0-1
                                    label against the rest; absent where every row expects the
                                    same. Scores: probabilities among the taught labels
                    ece             mean distance of confidence and accuracy over ten equal    0-1
                                    bins, by rows; only in the scorecard
    triples         f1              2 matched / (answered + expected), over all rows at once;  0-1
                                    a triple matches when subject, predicate, object and both
                                    types are the same characters
                    precision       matched / answered                                         0-1
                    recall          matched / expected                                         0-1
                    partial-f1      like f1 without the types, and two equal fields of the     0-1
                                    three earn a half; each triple is paired at most once
                    json-valid      share of answers that read as a fenced list of triples     0-1
                    json-repaired   share of answers that do not, but would after repairs: how 0-1
                                    much a more forgiving reader would save. Never counted right
    keywords        f1, precision,  as for triples; keywords match without case and spacing    0-1
                    recall
    generation      rouge-1, -2     F of the word pairs and words both texts share (jieba)     0-100
    and triples     rouge-l         F of the longest common subsequence of words               0-100
                    bleu-4          BLEU of 1 to 4 characters, smoothing method 3              0-100
    generation      sacrebleu-zh    sacreBLEU of the whole set, tokenize="zh"                  0-100
                    exact-match     the answer is the reference, but for space around it       0-1
                    attribute-      share of the values of prompts like 类型#裙*颜色#蓝色 that  0-1
                    coverage        the answer contains; absent without such prompts

An answer that cannot be read is wrong: it matches nothing, and counts. Where the official script
for ROUGE and BLEU-4 raises (an empty or blank text), they are 0. A share of nothing (the precision
of no triples at all) is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from glmops.errors import InputError, lookup
from glmops.evaluate import texts
from glmops.evaluate.metrics.extraction import keywords, triples
from glmops.evaluate.metrics.generation import generation
from glmops.evaluate.metrics.labels import classification, true_label
from glmops.evaluate.metrics.likelihoods import require_whole
from glmops.evaluate.metrics.parts import Pairs, Parts, ratio, total

__all__ = ["METRICS", "OF_A_SET", "Parts", "measure", "ratio", "score", "total", "true_label"]

OF_A_SET = frozenset({"macro-f1", "weighted-f1", "likelihood-macro-f1", "auc", "sacrebleu-zh"})
"""No sums over rows: their rows' parts are first-order, so they say nothing about a small slice."""


class Metrics(NamedTuple):
    """How the rows of a task are scored. ``version`` changes whenever a value could."""

    rows: Callable[[Pairs], Iterator[Parts]]
    version: str
    headline: str


METRICS: dict[str, Metrics] = {
    "classification": Metrics(classification, "classification-2", "accuracy"),
    "triples": Metrics(triples, f"triples-2 {texts.VERSION}", "f1"),
    "keywords": Metrics(keywords, "keywords-1", "f1"),
    "generation": Metrics(generation, f"generation-2 {texts.VERSION}", "rouge-l"),
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
    prompts: Sequence[str] | None = None,
    likelihoods: Sequence[Mapping[str, float]] | None = None,
    processes: int = 1,
    on_rows: Callable[[int], None] | None = None,
) -> Iterator[Parts]:
    """The parts of every row, in order. Raises as `score` does.

    Args:
        names: What to call each row in an error.
        prompts: With them, attribute coverage is measured where they name attributes.
        likelihoods: Of each row, taught label → log probability in nats.
        processes: For the text metrics; no value depends on it.
        on_rows: Called with the number of rows just scored.
    """
    metrics = lookup(METRICS, task, "score task")
    if len(predictions) != len(references) or not references:
        raise InputError(
            f"score {task}",
            "expected as many predictions as references, and at least one",
            got=f"{len(predictions)} and {len(references)}",
            do="Give one prediction per reference.",
        )
    pairs = Pairs(
        predictions,
        references,
        names or [f"references[{index}]" for index in range(len(references))],
        labels,
        prompts,
        likelihoods,
        processes,
    )
    if likelihoods is not None:
        require_whole(likelihoods, pairs.names)
    return metrics.rows(pairs if on_rows is None else pairs._replace(on_rows=on_rows))
