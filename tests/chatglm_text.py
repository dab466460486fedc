"""ChatGLM-6B's text rules with the SentencePiece library, and strings that are hard for them.

The oracle of the tokenizer's tests: the rules are written from reference/ARCHITECTURE.md 1.9 and
share nothing with glmops but their source; everything after them is the library.
"""

from __future__ import annotations

import random
import re
import unicodedata
from pathlib import Path
from typing import Any

REGISTERED = re.compile(r"<sop>|<eop>|<unk>|<pad>|\[MASK\]")


def with_white_space(text: str) -> str:
    text = text.replace("\n", "<n>").replace("\t", "<|tab|>")
    for count in range(80, 1, -1):
        text = text.replace(" " * count, f"<|blank_{count}|>")
    return text


class Oracle:
    """Ids of a text as the original gives them, without the control tokens behind it."""

    def __init__(self, file: Path, offset: int = 0) -> None:
        import sentencepiece

        self.library = sentencepiece.SentencePieceProcessor(model_file=str(file))
        self.offset = offset

    def ids(self, text: str, *, plain: bool = True) -> list[int]:
        """``plain``: names of control tokens are text; else they are tokens, and white space next
        to them goes."""
        found: list[Any] = []
        place = 0
        for match in [] if plain else REGISTERED.finditer(text):
            found += self._part(text[place : match.start()].rstrip(), place > 0)
            found.append(self.library.piece_to_id(match.group()))
            place = match.end()
        found += self._part(text[place:], place > 0)
        return [token + self.offset for token in found]

    def _part(self, text: str, after_token: bool) -> list[int]:
        return self.library.encode(with_white_space(text.lstrip() if after_token else text))


def _codes(*ranges: tuple[int, int]) -> list[str]:
    return [chr(code) for first, last in ranges for code in range(first, last + 1)]


POOLS = (
    # letters and combining marks; full-width and half-width forms; ligatures and digraphs
    [*_codes((0x300, 0x36F)), *"aeiounAEOU的e"],
    _codes((0xFF01, 0xFFEE)),
    [*_codes((0xFB00, 0xFB06)), *"ǄĳＤŽ…‥℃㎡™½"],
    # CJK compatibility squares and ideographs; Hangul jamo and syllables
    _codes((0x3300, 0x33FF), (0xF900, 0xFA6D), (0x2F800, 0x2F83F)),
    [*_codes((0x1100, 0x11FF), (0x3131, 0x318E)), *"가각힣"],
    # emoji sequences and flags; controls; white space of every kind
    ["👨", "👩", "👧", "\u200d", "🏻", "🏿", "\ufe0f", "❤", "🇨", "🇳", "🙂", "1", "\u20e3"],
    [*_codes((0x00, 0x1F)), "\x7f", "\x85", "\x9f", "\xad"],
    [" ", "  ", "   ", " " * 80, " " * 81, " " * 200, "\t", "\n", "\r", "\r\n", "\u3000", "\xa0"],
    ["\u2003", "\u200b", "\ufeff", "\u2028", "\u2581", "\u2581\u2581", "\ufffd", "\U0010ffff"],
    # names of pieces, whole, broken and full-width
    ["<n>", "<|tab|>", "<|blank_2|>", "<|blank_80|>", "<|blank_81|>", "<n", "|>", "\u0338"],
    ["[gMASK]", "[MASK]", "<sop>", "<eop>", "</s>", "<s>", "<unk>", "<pad>", "<ENC>", "<0x0A>"],
    ["<0x41>", "＜n＞", "［gMASK］", "＜sop＞", "<|user|>", "<image_5>", "\ue000", "\u0378"],
    # repetitions, where segmentations have equal scores; plain text
    [*"看看看磕磕哈哈哈___---==!!!！！…………。。000", "慢慢", "一个"],
    [*"你好世界的是了我", *"abc ABC 123,.?!'\"<>[]{}|"],
    # scripts with marks; odd places of the tables
    _codes((0x900, 0x97F), (0xE00, 0xE5B), (0x600, 0x65F)),
    [*"ゔかｶﾞ", "\u3099", "\u0f73", "\u1e9b\u0323", "\U0001d15e", "\U000e0041"],
)


def nasty(count: int, seed: int) -> list[str]:
    """Strings of up to 24 choices from one to four pools; some decomposed, some with characters
    from anywhere in Unicode behind them."""
    draw = random.Random(seed)
    strings = []
    for _ in range(count):
        pools = draw.sample(POOLS, draw.randint(1, 4))
        text = "".join(draw.choice(draw.choice(pools)) for _ in range(draw.randint(1, 24)))
        if draw.random() < 0.2:
            text = unicodedata.normalize(draw.choice(("NFD", "NFKD", "NFC")), text)
        if draw.random() < 0.1:
            codes = [draw.randrange(0x110000) for _ in range(6)]
            text += "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        strings.append(text)
    return strings
