"""In which scripts texts are written, by code point: exact, and no guess about the language."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

SCRIPTS = ("han", "latin", "kana", "hangul", "other letters", "digits", "punctuation", "space")
"""Every character belongs to one of them or to "other" (controls, unassigned code points)."""
OTHER = "other"
CLASSES = (*SCRIPTS, OTHER)
LETTERS = SCRIPTS[:5]
"""A text's main script is the one of these with the most characters."""
NONE = "no letters"

# Unicode's own properties. The two long-vowel marks belong to no script, but to kana they do.
_PATTERNS = (
    r"\p{Han}",
    r"\p{Latin}",
    r"[\p{Hiragana}\p{Katakana}ーｰ]",
    r"\p{Hangul}",
    r"\p{L}|\p{M}",
    r"\p{N}",
    r"\p{P}|\p{S}",
    r"\s|\p{Z}",
)
_UNKNOWN = 255
_PORTION = 5_000


def count_scripts(texts: Any) -> tuple[Any, Any]:
    """Characters by class of CLASSES, and texts by main script (LETTERS, then none of them).

    Args:
        texts: A polars series of String.
    Returns:
        Two numpy arrays of int64: [len(CLASSES)] and [len(LETTERS) + 1].
    """
    import numpy as np

    characters, mains = np.zeros(len(CLASSES), np.int64), np.zeros(len(LETTERS) + 1, np.int64)
    for start in range(0, len(texts), _PORTION):
        more, main = _counted(texts[start : start + _PORTION])
        characters, mains = characters + more, mains + main
    return characters, mains


def _counted(texts: Any) -> tuple[Any, Any]:
    import numpy as np

    joined = texts.str.join("").item()
    classes = _classes(np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32))
    characters = np.bincount(classes, minlength=len(CLASSES))
    ends = np.cumsum(texts.str.len_chars().to_numpy(), dtype=np.int64)
    of_text = np.stack([_per_text(classes == place, ends) for place in range(len(LETTERS))])
    main = np.where(of_text.max(axis=0) > 0, of_text.argmax(axis=0), len(LETTERS))
    return characters, np.bincount(main, minlength=len(LETTERS) + 1)


def named(counts: Iterable[int], names: Iterable[str]) -> dict[str, int]:
    """The counts that are not 0, by name."""
    return {name: int(count) for name, count in zip(names, counts, strict=True) if count}


def _per_text(hits: Any, ends: Any) -> Any:
    """How many hits each text has; ``ends``: where each text ends among the characters."""
    import numpy as np

    if not hits.any():
        return np.zeros(len(ends), dtype=np.int64)
    until = np.concatenate([np.zeros(1, np.int64), np.cumsum(hits, dtype=np.int64)])[ends]
    return np.diff(until, prepend=0)


def _classes(points: Any) -> Any:
    """Code points → places in CLASSES (numpy, uint8); the first pattern that holds decides."""
    import numpy as np
    import polars as pl

    table = _table()
    classes = table[points]
    if not (new := classes == _UNKNOWN).any():
        return classes
    found = np.unique(points[new])
    characters = pl.Series([chr(point) for point in found.tolist()])
    table[found] = len(SCRIPTS)
    for place in reversed(range(len(_PATTERNS))):
        table[found[characters.str.contains(_PATTERNS[place]).to_numpy()]] = place
    return table[points]


@cache
def _table() -> Any:
    """Code point → place in CLASSES, filled as texts have them: few of all that there are."""
    import numpy as np

    return np.full(0x110000, _UNKNOWN, dtype=np.uint8)
