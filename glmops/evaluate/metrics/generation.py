"""Free text: ROUGE and BLEU of each pair, sacreBLEU of the set, and what an advertisement names."""

from __future__ import annotations

from collections.abc import Iterator

from glmops.evaluate import bleu, texts
from glmops.evaluate.metrics.parts import Pairs, Parts


def generation(pairs: Pairs) -> Iterator[Parts]:
    scored = _scored(pairs)
    whole = bleu.corpus_parts([pair.counts for pair in scored])
    covered = _coverage(pairs)
    for place, pair in enumerate(scored):
        prediction, reference = pairs.predictions[place].strip(), pairs.references[place].strip()
        yield {
            **_named(pair),
            "sacrebleu-zh": (whole[place], 1.0),
            "exact-match": (float(prediction == reference != ""), 1.0),
            **({"attribute-coverage": covered[place]} if covered else {}),
        }


def text_parts(pairs: Pairs) -> Iterator[Parts]:
    """ROUGE and BLEU-4 alone."""
    return map(_named, _scored(pairs))


def _scored(pairs: Pairs) -> list[texts.PairScores]:
    return texts.score_pairs(
        pairs.predictions, pairs.references, processes=pairs.processes, on_rows=pairs.on_rows
    )


def _named(pair: texts.PairScores) -> Parts:
    return {name: (value, 1.0) for name, value in zip(texts.NAMES, pair.values, strict=True)}


def _coverage(pairs: Pairs) -> list[tuple[float, float]] | None:
    """Of each row: attribute values that the answer contains, and all; None if no row has any."""
    asked = [attribute_values(prompt) for prompt in pairs.prompts or ()]
    if not any(asked):
        return None
    answers = ("".join(text.split()).casefold() for text in pairs.predictions)
    return [
        (float(sum(value in answer for value in values)), float(len(values)))
        for answer, values in zip(answers, asked, strict=True)
    ]


def attribute_values(prompt: str) -> list[str]:
    """The different values of a line such as ``类型#裙*颜色#蓝色``: 裙 and 蓝色.

    Every part between the stars must be one name and one value, and there must be two parts: a
    lone # is too common in other texts. Without space and in lower case, as they are looked for.
    """
    for line in prompt.splitlines():
        parts = [part.split("#") for part in line.split("*")]
        if len(parts) > 1 and all(len(part) == 2 and all(map(str.strip, part)) for part in parts):
            return list(dict.fromkeys("".join(value.split()).casefold() for _, value in parts))
    return []
