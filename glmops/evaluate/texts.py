"""Chinese ROUGE and BLEU-4 of one pair of texts, as the official ChatGLM script computes them.

Source: THUDM/ChatGLM-6B/ptuning/main.py@401bf3a, compute_metrics: rouge-chinese on jieba words,
nltk sentence_bleu on characters with smoothing method 3, each times 100, rounded to 4 decimals.
Differs in: where that script raises (an empty or blank text on either side) all four values are 0.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

VERSION = "chatglm-6b-ptuning-1"
NAMES = ("rouge-1", "rouge-2", "rouge-l", "bleu-4")


def text_scores(prediction: str, reference: str) -> dict[str, float]:
    """rouge-1, rouge-2 and rouge-l (F) and bleu-4 on the 0-100 scale, rounded to 4 decimals."""
    if not prediction.strip() or not reference.strip():
        return dict.fromkeys(NAMES, 0.0)
    rouge, cut, bleu = _tools()
    hypothesis, truth = " ".join(cut(prediction)), " ".join(cut(reference))
    found = rouge.get_scores(hypothesis, truth)[0]
    fractions = {name: found[name]["f"] for name in ("rouge-1", "rouge-2")}
    fractions["rouge-l"] = _rouge_l(_words(rouge, hypothesis), _words(rouge, truth))
    fractions["bleu-4"] = bleu([list(reference)], list(prediction))
    return {name: round(fractions[name] * 100, 4) for name in NAMES}


def _words(rouge: Any, text: str) -> list[str]:
    """The words as rouge-chinese sees them: per sentence, inner space collapsed."""
    sentences = [" ".join(part.split()) for part in rouge.cut_sent(text) if part]
    return [word for sentence in sentences for word in sentence.split(" ")]


def _rouge_l(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """F of the longest common subsequence, with rouge-chinese's own formula.

    The package fills a dictionary of m*n cells for it, nine tenths of the whole scoring time.
    """
    common = _common_length(prediction, reference)
    precision, recall = common / len(prediction), common / len(reference)
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


@functools.cache
def _tools() -> tuple[Any, Callable[[str], Sequence[str]], Callable[..., float]]:
    """The three libraries, loaded on first use (nltk alone takes 1.5 s)."""
    with warnings.catch_warnings():
        # Old escapes in the sources of jieba and rouge-chinese warn where no bytecode is cached.
        warnings.simplefilter("ignore")
        import jieba
        from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
        from rouge_chinese import Rouge
    # jieba would log to stderr and share one cache file in the temp folder with every process and
    # user of the machine. A tokenizer of our own, filled here, does neither (0.6 s).
    words = jieba.Tokenizer()
    words.FREQ, words.total = words.gen_pfdict(words.get_dict_file())
    words.initialized = True
    bleu = functools.partial(sentence_bleu, smoothing_function=SmoothingFunction().method3)
    return Rouge(metrics=["rouge-1", "rouge-2"]), words.lcut, bleu
