"""BLEU of a whole set against sacreBLEU itself."""

from __future__ import annotations

import random

import pytest
from sacrebleu.metrics import BLEU

from glmops.evaluate import bleu, score
from glmops.evaluate.metrics import measure
from toy_texts import drawn

PIECES = [
    "水果",
    "很好",
    "，",
    "。",
    "3.5",
    " ",
    "a-b",
    "1-2",
    "“",
    "U.S.",
    "\u3000",
    "ｆ",
    "🙂",
    "é",
]


def whole(predictions: list[str], references: list[str]) -> float:
    return BLEU(tokenize="zh").corpus_score(predictions, [references]).score


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_the_value_of_a_set_is_that_of_sacrebleu(rows: int) -> None:
    dice = random.Random(rows)
    for _ in range(25):
        sides = [
            ["".join(dice.choices(PIECES, k=dice.randint(0, 12))) for _ in range(rows)]
            for _ in range(2)
        ]
        if any(reference.strip() for reference in sides[1]):
            ours = score("generation", *sides)["sacrebleu-zh"]
            assert ours == pytest.approx(whole(*sides), abs=1e-9)


def test_the_tokens_are_those_of_sacrebleu() -> None:
    theirs = BLEU(tokenize="zh").tokenizer
    texts = [text for pair in drawn(300, seed=8) for text in pair]
    # Every character of the first plane, between letters and digits.
    texts += [f"a{chr(code)}1{chr(code)}.5" for code in range(0xD800) if code % 3 == 0]
    for text in texts:
        assert bleu.tokens(text) == theirs(text.rstrip()).split(), repr(text)


def test_the_parts_of_the_rows_follow_a_leave_one_out_to_first_order() -> None:
    dice = random.Random(2)
    references = ["".join(dice.choices(PIECES, k=dice.randint(6, 14))) for _ in range(300)]
    predictions = [text[: dice.randint(3, 20)] + dice.choice(PIECES) for text in references]
    parts = [row["sacrebleu-zh"][0] for row in measure("generation", predictions, references)]
    full = whole(predictions, references)
    for row in range(0, 300, 60):
        rest = [place for place in range(300) if place != row]
        without = whole([predictions[i] for i in rest], [references[i] for i in rest])
        # The pull of one row is some hundredths of a point; what is left is of second order.
        assert sum(parts[i] for i in rest) / 299 == pytest.approx(without, abs=3e-3)
    assert sum(parts) / 300 == pytest.approx(full, abs=1e-9)
