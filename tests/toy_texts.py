"""Texts that are hard to cut, and targets of triples."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

PIECES = [
    "水果", "很好", "。", "！", "\n", " ", "  ", "a", "b.", "……", "”", '{"k": 1}', "？", "......",
    "…", "\r\n", "\u3000", "3.5", "100%", "-", "𠮷", "\u2060", "\u2003", "研究生命起源", "\x85",
    "南京市长江大桥", "他来到了网易杭研大厦", "\x1c", "C++", "的是", "仌佋", "é", "“", "’", "1,000",
]  # fmt: skip


def drawn(number: int, seed: int) -> Iterator[tuple[str, str]]:
    """Pairs of texts of awkward pieces: every mark that any of the three libraries treats apart."""
    dice = random.Random(seed)
    for _ in range(number):
        yield tuple("".join(dice.choices(PIECES, k=dice.randint(1, 30))) for _ in range(2))  # type: ignore[misc]


def triples(*facts: str) -> str:
    """A target in the format of the rows: each character of a fact is one field."""
    keys = ("subject", "predicate", "object", "subject_type", "object_type")
    rows = [dict(zip(keys, fact, strict=False)) for fact in facts]
    return f"```json\n{json.dumps(rows, ensure_ascii=False)}\n```"
