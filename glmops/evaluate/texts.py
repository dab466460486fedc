"""Chinese ROUGE and BLEU-4 of pairs of texts, as the official ChatGLM script computes them.

Source: THUDM/ChatGLM-6B/ptuning/main.py@401bf3a, compute_metrics: rouge-chinese on jieba words,
nltk sentence_bleu on characters with smoothing method 3, each times 100, rounded to 4 decimals.
Differs in: where that script raises (an empty or blank text on either side) all four values are 0.
The values are its own; the three libraries are read, or computed again, in a fraction of the time.
"""

from __future__ import annotations

import itertools
import multiprocessing
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from glmops.errors import MachineError
from glmops.evaluate import bleu
from glmops.evaluate.words import words

VERSION = "chatglm-6b-ptuning-1"
NAMES = ("rouge-1", "rouge-2", "rouge-l", "bleu-4")
PORTION = 500
"""Pairs that a process gets at once."""
ALONE = 2_000
"""Up to so many pairs it costs more to start processes that each read the dictionary."""

# rouge-chinese's own marks of a sentence's end (cut_sent): the patterns are applied in this order.
_ENDS = (
    (re.compile(r"([。！？\?])([^”’])"), r"\1\n\2"),
    (re.compile(r"(\.{6})([^”’])"), r"\1\n\2"),
    (re.compile(r"(\…{2})([^”’])"), r"\1\n\2"),
    (re.compile(r"([。！？\?][”’])([^，。！？\?])"), r"\1\n\2"),
)
_UNUSUAL = re.compile(r"\s|\.{6}")


class PairScores(NamedTuple):
    """One pair: its four values on the 0-100 scale, and what it adds to the set's sacreBLEU."""

    values: tuple[float, float, float, float]
    counts: bleu.Counts


def text_scores(prediction: str, reference: str) -> dict[str, float]:
    """rouge-1, rouge-2 and rouge-l (F) and bleu-4 on the 0-100 scale, rounded to 4 decimals."""
    return dict(zip(NAMES, score_pair(prediction, reference).values, strict=True))


def score_pairs(
    predictions: Sequence[str],
    references: Sequence[str],
    *,
    processes: int = 1,
    on_rows: Callable[[int], None] | None = None,
) -> list[PairScores]:
    """The scores of every pair, in order, the same for any number of processes.

    Args:
        on_rows: Called with the number of pairs just scored.
    Raises:
        MachineError: A scoring process died.
    """
    if processes == 1 or len(predictions) <= ALONE:
        portions = _portions(predictions, references, map)
        return [pair for portion in _told(portions, on_rows) for pair in portion]
    # A fresh process each, and no fork: torch's threads may be running in this one.
    fresh = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, mp_context=fresh) as pool:
            portions = _portions(predictions, references, pool.map)
            return [pair for portion in _told(portions, on_rows) for pair in portion]
    except BrokenProcessPool:
        raise MachineError(
            "score texts",
            "a scoring process died, perhaps for want of memory",
            got=f"{processes} processes",
            do="Use fewer processes (threads in the evaluate section).",
        ) from None


def _portions(
    predictions: Sequence[str],
    references: Sequence[str],
    spread: Callable[..., Iterator[list[PairScores]]],
) -> Iterator[list[PairScores]]:
    starts = range(0, len(predictions), PORTION)
    sides = ([side[i : i + PORTION] for i in starts] for side in (predictions, references))
    return spread(_score_portion, *sides)


def _told(
    portions: Iterator[list[PairScores]], on_rows: Callable[[int], None] | None
) -> Iterator[list[PairScores]]:
    for portion in portions:
        yield portion
        if on_rows:
            on_rows(len(portion))


def _score_portion(predictions: Sequence[str], references: Sequence[str]) -> list[PairScores]:
    return [score_pair(*pair) for pair in zip(predictions, references, strict=True)]


def score_pair(prediction: str, reference: str) -> PairScores:
    by_characters = bleu.count(prediction, reference)
    by_tokens = by_characters
    if not (bleu.only_chinese(prediction) and bleu.only_chinese(reference)):
        by_tokens = bleu.count_tokens(bleu.tokens(prediction), bleu.tokens(reference))
    if not prediction.strip() or not reference.strip():
        return PairScores((0.0,) * 4, by_tokens)
    hypothesis, truth = rouge_words(prediction), rouge_words(reference)
    fractions = (
        _overlap(set(hypothesis), set(truth)),
        _overlap(set(itertools.pairwise(hypothesis)), set(itertools.pairwise(truth))),
        _f(_common_length(hypothesis, truth), len(hypothesis), len(truth)),
        bleu.sentence(by_characters),
    )
    one, two, long, characters = (round(fraction * 100, 4) for fraction in fractions)
    return PairScores((one, two, long, characters), by_tokens)


def rouge_words(text: str) -> list[str]:
    """The words as rouge-chinese sees them: per sentence, inner space collapsed."""
    cut = words(text)
    if _UNUSUAL.search(text) is None:
        return cut  # then only spaces between words were added, and are taken away again
    joined = " ".join(cut)
    for end, parted in _ENDS:
        joined = end.sub(parted, joined)
    sentences = [" ".join(part.split()) for part in joined.rstrip().split("\n") if part]
    return [word for sentence in sentences for word in sentence.split(" ")]


def _overlap(predicted: set[object], expected: set[object]) -> float:
    return _f(len(predicted & expected), len(predicted), len(expected))


def _f(common: int, predicted: int, expected: int) -> float:
    """rouge-chinese's own F, with its small number against a division by zero."""
    precision = common / predicted if predicted else 0.0
    recall = common / expected if expected else 0.0
    return 2.0 * ((precision * recall) / (precision + recall + 1e-8))


def _common_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, one row of the table held in one integer.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited", figure 2.
    """
    places: dict[str, int] = {}
    for index, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << index
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        step = row & places.get(word, 0)
        row = (row + step | row - step) & full
    return len(a) - row.bit_count()
