"""What a more forgiving reader would find in an answer that is no valid list of triples."""

from __future__ import annotations

import re

from glmops.evaluate.reading import FENCE, Triple, parse_triples

_OBJECT = re.compile(r"\{[^{}]*\}")
_QUOTES = str.maketrans({"“": '"', "”": '"', "：": ":", "，": ",", "｛": "{", "｝": "}"})
_SINGLE = re.compile(r"(?<=[{,:\s])'|'(?=\s*[,:}])")
_TRAILING = re.compile(r",\s*\}")


def repair_triples(answer: str) -> frozenset[Triple] | None:
    """The triples of every whole ``{…}`` in ``answer`` that has subject, predicate and object.

    The fence, the brackets around the list and the commas between its objects may be missing, an
    answer may be cut off behind an object, and an object may have single or full-width quotes,
    full-width commas and colons, or a comma too many. None if nothing can be saved. For counting
    only: what is found here is never scored as right.
    """
    found: set[Triple] = set()
    for text in (answer, answer.translate(_QUOTES)):
        for piece in _OBJECT.findall(text):
            for repaired in (piece, _SINGLE.sub('"', _TRAILING.sub("}", piece))):
                found |= parse_triples(f"{FENCE}json\n[{repaired}]\n{FENCE}") or frozenset()
    return frozenset(found) or None
