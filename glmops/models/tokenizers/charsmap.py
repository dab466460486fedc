"""The exact normalisation of a SentencePiece file, character by character, with its spans.

The Rust ``Precompiled`` normaliser applies the same table, but to grapheme clusters and by their
shortest prefix: of "ｅ" with an accent it keeps the "e" and loses the accent. Strings in which that
can happen are therefore normalised here, as SentencePiece does it: at every place the longest entry
of the table wins, and USER_DEFINED pieces are left alone.

Source: google/sentencepiece, src/normalizer.cc (the rules) and Darts-clone (the table's layout).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

SPACE = "\u2581"  # how a space is written in a vocabulary

Span = tuple[int, int]


class Charsmap:
    """The compiled table: a double array over the UTF-8 bytes of the keys, then the replacements.

    It has some 225,000 entries, so it is walked where it lies instead of being unpacked.

    Raises:
        ValueError: The blob is not such a table.
    """

    def __init__(self, blob: bytes) -> None:
        size = struct.unpack_from("<I", blob)[0] if len(blob) >= 4 else 0
        if blob and (size % 4 or not 0 < size <= len(blob) - 4):
            raise ValueError("the normalisation table is cut short")
        self._units = struct.unpack_from(f"<{size // 4}I", blob, 4) if size else (0,)
        self._texts = blob[4 + size :]
        self._first: dict[str, int | None] = {}

    def longest(self, text: str, place: int) -> tuple[str, int] | None:
        """The replacement of the longest key that ``text`` has at ``place``, and that key's length
        in characters; None where the character stays as it is."""
        character = text[place]
        if character not in self._first:
            self._first[character] = self._step(0, character)
        node = self._first[character]
        found, length = None, 1
        while node is not None:
            unit = self._units[node]
            if unit & 0x100:  # a key ends here
                found = (self._replacement(self._units[node ^ _offset(unit)]), length)
            if place + length == len(text):
                break
            node = self._step(node, text[place + length])
            length += 1
        return found

    def _step(self, node: int, character: str) -> int | None:
        for byte in character.encode("utf-8"):
            child = node ^ _offset(self._units[node]) ^ byte
            # A node carries the byte that leads to it; the top bit would mark a value.
            if child >= len(self._units) or self._units[child] & 0x800000FF != byte:
                return None
            node = child
        return node

    def _replacement(self, unit: int) -> str:
        start = unit & 0x7FFFFFFF
        return self._texts[start : self._texts.index(b"\0", start)].decode("utf-8")


def _offset(unit: int) -> int:
    """How far a node's children lie from it, in the sense of XOR."""
    return (unit >> 10) << ((unit & 0x200) >> 6)


class Rules(NamedTuple):
    """How text becomes what the vocabulary is matched against."""

    charsmap: Charsmap
    literals: re.Pattern[str]  # USER_DEFINED pieces, longest first: taken as they stand
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool


def normalize(text: str, spans: list[Span], rules: Rules) -> tuple[str, list[Span]]:
    """``text`` as SentencePiece matches it (spaces as U+2581), with a span for each character.

    Args:
        spans: For each character of ``text``, where it stands in what the user gave.
    """
    written: list[str] = []
    places: list[Span] = []
    for replacement, start, end in _replacements(text, rules):
        span = (spans[start][0], spans[end - 1][1])
        for character in replacement:
            extra = character == " " and (not written or written[-1] == " ")
            if not (extra and rules.remove_extra_whitespaces):
                written.append(character)
                places.append(span)
    result = "".join(written).replace(" ", SPACE)
    if rules.add_dummy_prefix and result:
        result, places = SPACE + result, [places[0], *places]  # as Rust counts it
    if rules.remove_extra_whitespaces:
        result = result.rstrip(SPACE)
    return result, places[: len(result)]


def _replacements(text: str, rules: Rules) -> Iterator[tuple[str, int, int]]:
    """(what is written, start, end) over all of ``text``."""
    kept = {match.start(): match.end() for match in rules.literals.finditer(text)}
    place = 0
    while place < len(text):
        if place in kept:
            end = kept[place]
            yield text[place:end], place, end
        else:
            replacement, length = rules.charsmap.longest(text, place) or (text[place], 1)
            end = place + length
            yield replacement, place, end
        place = end
