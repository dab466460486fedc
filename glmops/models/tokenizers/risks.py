"""Find the strings for which the quick Rust tokenizer is not, or may not be, exact.

A few searches over the whole batch at once, under 1 µs for a headline: a batch without such strings
pays no more than that.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

# Characters that stand alone: no entry of SentencePiece's NFKC tables joins one of them to the
# character before it, and none is part of a longer grapheme cluster. For a text of these the Rust
# normaliser and SentencePiece agree (tests/models/test_tokenizers_risks.py checks both halves).
# Left out: controls, U+2581 (which means a space), combining marks, joiners, Korean jamo, flags,
# skin tones, ligatures (which spell repetitions that no search here sees), other scripts.
SAFE_RANGES = (
    "\t\n -~\xa0-\xac\xae-\u02ff\u0370-\u0377\u037a-\u037f\u0384-\u0482\u048a-\u052f\u1e00-\u1f15"
    "\u2000-\u200a\u2010-\u2027\u2030-\u205f\u2070-\u2071\u2074-\u208e\u20a0-\u20bf\u2100-\u218b"
    "\u2190-\u2426\u2440-\u244a\u2460-\u2580\u2582-\u2b73\u2e80-\u2e99\u2e9b-\u2ef3\u2f00-\u2fd5"
    "\u3000-\u3029\u3030-\u303f\u3041-\u3096\u309d-\u30ff\u3105-\u312f\u3190-\u31e3\u31f0-\u4dbf"
    "\u4e00-\ua48c\uac00-\ud7a3\ue000-\ufa6d\ufa70-\ufad9\ufe10-\ufe19\ufe30-\ufe52"
    "\ufe54-\ufe66\ufe68-\ufe6b\uff01-\uff9d\uffe0-\uffe6"
    "\U0001f300-\U0001f3fa\U0001f400-\U0001faff\U00020000-\U0002fa1d\U00030000-\U0003134a"
)
_SEPARATOR = "\0"  # not safe itself, and no part of a run
LONGEST_UNIT = 4  # characters; longer units were in no tie of 311,971 real texts


class Found(NamedTuple):
    """Indexes of texts; one text may be in several sets."""

    unsafe: set[int]  # Rust may lose text
    lined: set[int]  # white space other than single spaces between words
    spaced: set[int]  # runs of spaces
    repetitive: set[int]  # "看看看": equal scores are possible


class Risks(NamedTuple):
    """What to look for, for one vocabulary."""

    notable: re.Pattern[str]  # one character: unsafe, or one of ``lined``
    lined: frozenset[str]
    expanding: re.Pattern[str]  # one character that is written as several equal ones: "…"
    folded: np.ndarray  # code of a character below U+10000 → code of what it is normalised to

    def find(self, texts: Sequence[str]) -> Found:
        joined = _SEPARATOR.join(["", *texts, ""])
        starts = list(accumulate((len(text) + 1 for text in texts), initial=1))

        def owners(places: Iterable[int]) -> set[int]:
            return {bisect_right(starts, place) - 1 for place in places}

        notable = [match.start() for match in self.notable.finditer(joined)]
        unsafe = owners(place for place in notable if joined[place] not in self.lined)
        if joined.count(_SEPARATOR) > len(texts) + 1:  # some text has a NUL of its own
            unsafe |= {index for index, text in enumerate(texts) if _SEPARATOR in text}
        lined = owners(place for place in notable if joined[place] in self.lined)
        lined |= owners(place + 1 for place in _places(joined, f"{_SEPARATOR} "))
        lined |= owners(_places(joined, f" {_SEPARATOR}"))
        repetitive = owners(match.start() for match in self.expanding.finditer(joined))
        repetitive |= owners(self._repetitions(joined))
        return Found(unsafe, lined, owners(_places(joined, "  ")), repetitive)

    def _repetitions(self, text: str) -> Iterable[int]:
        """Places from which up to ``LONGEST_UNIT`` characters stand three times in a row."""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        codes = np.where(codes < len(self.folded), self.folded[codes % len(self.folded)], codes)
        places: list[int] = []
        for unit in range(1, LONGEST_UNIT + 1):
            # Three times the unit: each of 2 × unit characters equals the one a unit further on.
            equal = np.flatnonzero((codes[:-unit] == codes[unit:]) & (codes[:-unit] != 0))
            length = 2 * unit - 1
            if len(equal) > length:
                found = equal[length:] - equal[:-length] == length
                places += equal[:-length][found].tolist()
        return places


def _places(text: str, run: str) -> Iterable[int]:
    place = text.find(run)
    while place >= 0:
        yield place
        place = text.find(run, place + 1)


def risks(spellings: Iterable[tuple[str, str]]) -> Risks:
    """The searches for a normalisation.

    Args:
        spellings: (character, what it is normalised to) of characters that change.
    """
    folded = np.arange(0x10000, dtype=np.uint32)
    lined, expanding = {"\n", "\t"}, set[str]()
    for character, written in spellings:
        if " " in written:
            lined.add(character)
        elif len(written) == 1:
            folded[ord(character)] = ord(written)
        elif len(set(written)) == 1:
            expanding.add(character)
    return Risks(
        notable=re.compile(f"[^{_SEPARATOR}{_without(lined)}]"),
        lined=frozenset(lined),
        expanding=re.compile(f"[{''.join(sorted(expanding))}]" if expanding else r"(?!)"),
        folded=folded,
    )


def _without(characters: set[str]) -> str:
    """The safe ranges, as the inside of a character class, without some characters."""
    holes = sorted(map(ord, characters))
    ranges = re.findall(r"(.)-(.)|(.)", SAFE_RANGES, re.DOTALL)
    written = []
    for first, last, alone in ranges:
        start, end = ord(first or alone), ord(last or alone)
        for hole in [*holes, 0x110000]:
            if start <= min(hole - 1, end):
                written.append(f"{re.escape(chr(start))}-{re.escape(chr(min(hole - 1, end)))}")
            start = max(start, hole + 1)
    return "".join(written)
