"""BLEU, twice: of one pair of texts by characters, and of a whole set as sacreBLEU counts Chinese.

Source: nltk 3.10 sentence_bleu with SmoothingFunction().method3, and sacrebleu 2.6 corpus BLEU with
tokenize="zh" and its defaults (exponential smoothing, one reference). Differs in nothing but time.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

ORDERS = (1, 2, 3, 4)

# The ranges of sacrebleu's tokenizer_zh, in one class. Two of its own are written with five digits
# behind \u, and so mean U+2001-U+2A6D and U+2F81-U+2FA1; values are to be equal, so they stay.
_CHINESE = (
    "\u3400-\u4db5\u4e00-\u9fbb\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\u2001-\u2a6d"
    "\u2f81-\u2fa1\uff00-\uffef\u2e80-\u2eff\u3000-\u303f\u31c0-\u31ef\u2f00-\u2fdf"
    "\u2ff0-\u2fff\u3100-\u312f\u31a0-\u31bf\ufe10-\ufe1f\ufe30-\ufe4f\u3200-\u33ff"
)
_RUN = re.compile(f"([{_CHINESE}]+)")
_ONLY = re.compile(f"[{_CHINESE}]*")
_SPACE = re.compile(r"\s")
_REST = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


class Counts(NamedTuple):
    """What BLEU needs of a pair of texts, or of a set of pairs: sums of these add up."""

    matched: Sequence[int]
    """Of 1, 2, 3 and 4 tokens in a row: how many the reference holds, each as often as there."""
    written: Sequence[int]
    """All of the prediction's."""
    length: int
    expected: int
    """Tokens of the reference."""


def count(prediction: str, reference: str) -> Counts:
    """Of two texts in which each character is a token."""
    size, matched = len(prediction), []
    starts: Sequence[int] = range(size)
    for order in ORDERS:
        # A run occurs in the reference only where the run that is one shorter does.
        found = [
            (start, run)
            for start in starts
            if (run := prediction[start : start + order]) in reference
        ]
        starts = [start for start, _ in found if start + order < size]
        matched.append(_clipped([run for _, run in found], reference))
    return Counts(matched, [max(size + 1 - order, 0) for order in ORDERS], size, len(reference))


def _clipped(runs: list[str], reference: str) -> int:
    """How many of ``runs`` match, if each matches at most as often as the reference holds it."""
    if len(set(runs)) == len(runs):
        return len(runs)
    return sum(
        1 if often == 1 else min(often, _occurrences(run, reference))
        for run, often in Counter(runs).items()
    )


def _occurrences(run: str, text: str) -> int:
    """Overlapping ones count: 哈哈 occurs twice in 哈哈哈."""
    number, place = 0, text.find(run)
    while place >= 0:
        number, place = number + 1, text.find(run, place + 1)
    return number


def count_tokens(prediction: Sequence[str], reference: Sequence[str]) -> Counts:
    """Of two lists of tokens: each different token becomes one character."""
    letters = {token: chr(n) for n, token in enumerate(dict.fromkeys([*prediction, *reference]))}
    return count(*("".join(map(letters.__getitem__, side)) for side in (prediction, reference)))


def sentence(counts: Counts) -> float:
    """BLEU-4 of one pair, 0-1: an order without a match counts half as much as the one before."""
    if not counts.matched[0]:
        return 0.0
    halvings, logarithms = 1, []
    for matched, written in zip(counts.matched, counts.written, strict=True):
        whole = max(written, 1)
        if matched:
            precision = matched / whole
        else:
            precision = 1 / (2**halvings * whole)
            halvings += 1
        logarithms.append(0.25 * math.log(precision))
    return _brevity(counts) * math.exp(math.fsum(logarithms))


def _brevity(counts: Counts) -> float:
    if counts.length >= counts.expected:
        return 1.0
    return math.exp(1 - counts.expected / counts.length) if counts.length else 0.0


def corpus(total: Counts) -> float:
    """sacreBLEU, 0-100, of the sums over all pairs."""
    if not any(total.matched) or not all(total.written):
        return 0.0
    halvings, logarithms = 0, []
    for matched, written in zip(total.matched, total.written, strict=True):
        halvings += not matched
        precision = 100 * matched / written if matched else 100 / (2**halvings * written)
        logarithms.append(math.log(precision))
    return _brevity(total) * math.exp(sum(logarithms) / len(ORDERS))


def corpus_parts(rows: Sequence[Counts]) -> list[float]:
    """Per row a number whose mean over the rows is `corpus` of them all.

    Corpus BLEU is no sum over rows. A row's part is the whole set's value plus how far this row
    pulls it (the first-order change): over all rows exact, over resampled rows an approximation.
    """
    whole = added(rows)
    value, short = corpus(whole), whole.length < whole.expected
    parts = []
    for row in rows:
        pull = 0.0
        for mine, all_, sent, all_sent in zip(
            row.matched, whole.matched, row.written, whole.written, strict=True
        ):
            if all_:  # a smoothed order is the same for every row
                pull += (mine / all_ - sent / all_sent) / len(ORDERS)
        if short and whole.length:
            drift = row.length * whole.expected / whole.length - row.expected
            pull += drift / whole.length
        parts.append(value + value * pull * len(rows))
    return parts


def added(rows: Iterable[Counts]) -> Counts:
    matched, written, length, expected = [0] * len(ORDERS), [0] * len(ORDERS), 0, 0
    for row in rows:
        for order in range(len(ORDERS)):
            matched[order] += row.matched[order]
            written[order] += row.written[order]
        length += row.length
        expected += row.expected
    return Counts(matched, written, length, expected)


def only_chinese(text: str) -> bool:
    """Every character is a token to sacreBLEU, as it is to the BLEU by characters."""
    return _ONLY.fullmatch(text) is not None and _SPACE.search(text) is None


def tokens(text: str) -> list[str]:
    """sacreBLEU's zh tokens: a Chinese character each, the rest as mteval-v13a splits English."""
    found: list[str] = []
    parts = _RUN.split(text.strip())
    for place, part in enumerate(parts):
        if place % 2:
            found += "".join(part.split())
        elif part:
            # sacreBLEU puts a space around each Chinese character, and its patterns see it.
            before, after = " " * (place > 0), " " * (place + 1 < len(parts))
            found += _english(f"{before}{part}{after}")
    return found


@functools.lru_cache(1 << 14)
def _english(line: str) -> tuple[str, ...]:
    for pattern, spaced in _REST:
        line = pattern.sub(spaced, line)
    return tuple(line.split())
