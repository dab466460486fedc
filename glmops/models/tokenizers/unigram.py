"""Exact unigram segmentation and the spans of its pieces, for the few strings that need it.

The Rust library adds scores in double precision, SentencePiece in single precision; where two
segmentations have equal scores ("磕磕" + "磕" and "磕" + "磕磕"), rounding decides. These are
SentencePiece's additions, in its order and precision.

Source: google/sentencepiece 0.2.3, src/unigram_model.cc, Model::EncodeOptimized. Its reward for
USER_DEFINED pieces was read off its scores; older versions give another one, with which a tie
behind a line break can fall the other way.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

from glmops.models.tokenizers.charsmap import Rules, Span, normalize

UNKNOWN_PENALTY = 10.0


class Token(NamedTuple):
    """A piece, its id, and where in the text it stands (characters)."""

    id: int
    piece: str
    span: Span


@dataclass(frozen=True, slots=True)
class Unigram:
    """Pieces that text can become, with scores as SentencePiece adds them."""

    pieces: dict[str, tuple[int, float]]  # text → (id, score)
    longest: dict[str, int]  # first character → length of the longest piece that starts with it
    unknown: float  # score of a character that no piece spells
    bytes: tuple[int, ...]  # ids of <0x00> … <0xFF>


def unigram(pieces: dict[str, tuple[int, float]], lowest: float, byte_ids: list[int]) -> Unigram:
    """``lowest`` is the lowest score of a NORMAL piece."""
    longest: dict[str, int] = defaultdict(int)
    for text in pieces:
        longest[text[0]] = max(longest[text[0]], len(text))
    return Unigram(pieces, dict(longest), _single(lowest - UNKNOWN_PENALTY), tuple(byte_ids))


def segment(text: str, spans: list[Span], rules: Rules, model: Unigram) -> list[Token]:
    """The pieces of ``text`` after normalisation. A character that no piece spells becomes its
    UTF-8 bytes, each with the span of the character."""
    text, spans = normalize(text, spans, rules)
    tokens: list[Token] = []
    for start, end in _best_path(text, model):
        piece = text[start:end]
        span = (spans[start][0], spans[end - 1][1])
        if piece in model.pieces:
            tokens.append(Token(model.pieces[piece][0], piece, span))
        else:
            tokens += [
                Token(model.bytes[byte], f"<0x{byte:02X}>", span) for byte in piece.encode("utf-8")
            ]
    return tokens


def _best_path(text: str, model: Unigram) -> list[Span]:
    """(start, end) of the pieces of the segmentation with the highest score."""
    best = [0.0] * (len(text) + 1)
    came_from = [-1] * (len(text) + 1)
    single = array("f", [0.0])  # what is stored there is rounded to single precision
    for start, character in enumerate(text):
        spelt = False
        for end in range(start + 1, min(start + model.longest.get(character, 0), len(text)) + 1):
            entry = model.pieces.get(text[start:end])
            if entry is not None:
                single[0] = entry[1] + best[start]
                spelt = spelt or end == start + 1
                if came_from[end] < 0 or single[0] > best[end]:
                    best[end], came_from[end] = single[0], start
        if not spelt:
            single[0] = model.unknown + best[start]
            if came_from[start + 1] < 0 or single[0] > best[start + 1]:
                best[start + 1], came_from[start + 1] = single[0], start
    path: list[Span] = []
    end = len(text)
    while end > 0:
        path.append((came_from[end], end))
        end = came_from[end]
    return path[::-1]


def literal_score(literal: str) -> float:
    """The reward that makes a USER_DEFINED piece win over any other way to write it."""
    return _single(0.1 * (len(literal) - 1))


def _single(number: float) -> float:
    return array("f", [number])[0]


def literal_pattern(literals: list[str]) -> re.Pattern[str]:
    """Matches the longest literal at a place; nothing where there are none."""
    return re.compile("|".join(map(re.escape, sorted(literals, key=len, reverse=True))) or r"(?!)")
