"""Near copies: texts that share most of their runs of three characters.

MinHash (rensa) says which texts may have a near copy at all; only those few are then compared
shingle by shingle, so that a reported similarity is exact. A pair can be missed, with less than one
chance in a hundred at the threshold and less above it; a pair that is reported is never wrong.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

Texts = Callable[[], Iterable[Any]]
"""Gives the same texts, in the same order, as polars series of non-empty Strings, when called."""

SHINGLE = 3
"""Characters a shingle. Two are too common in English text, four too long for a headline."""
_PERMUTATIONS = 32
_SEED = 7
_MISSED = 0.01
_GAP = "\0" * (SHINGLE - 1)
"""Stands behind every text: no shingle reaches into the next one, and short texts have one too."""
_PORTION = 20_000
_HELD = 1 << 25
"""Shingles that are hashed before the first digest: 256 MB. Of more, some texts at a time."""
_ALL_PAIRS = 40
"""Members of one bucket that are compared each with each; in a larger one, see _bucket_pairs."""


class Pair(NamedTuple):
    """Two texts, by their number in order, ``first`` < ``second``, and their Jaccard similarity."""

    first: int
    second: int
    similarity: float


def have_candidates(texts: Texts, threshold: float) -> Any:
    """For each text, whether any other may be ``threshold`` alike (numpy, bool).

    What is said of some texts holds for fewer of them, too: a text with no candidate among all has
    none among a part. So this can be asked before it is known which rows are kept.
    """
    import numpy as np
    import rensa

    bands, rows = band_shape(threshold)
    matrix = _digests(texts(), bands * rows)
    # rensa refines nothing here: the threshold only checks that the bands suit it.
    index = rensa.RMinHashLSH(threshold=0.5, num_perm=bands * rows, num_bands=bands)
    return np.array(index.query_duplicate_flags_matrix_one_shot(matrix), dtype=bool)


def near_pairs(
    texts: Texts, flags: Any, threshold: float, sides: Sequence[int] | None = None
) -> list[Pair]:
    """The pairs of texts at least ``threshold`` alike, in the order of their later text.

    Compared without regard to case, width and the amount of white space. Memory: about 150 bytes a
    text, whatever its length.

    Args:
        flags: For each text, what ``have_candidates`` said of it.
        sides: The split side of each text. Used only where very many texts look alike: there each
            is at least compared with the first one of every side.
    """
    import numpy as np

    if not flags.any():
        return []
    numbers = np.flatnonzero(flags)
    shingles = _shingles_of(texts, flags)
    named = sides or [0] * len(flags)
    bands, rows = band_shape(threshold)
    pairs = _candidates(shingles, bands, rows, [named[number] for number in numbers.tolist()])
    found = (
        Pair(int(numbers[a]), int(numbers[b]), alike)
        for a, b in pairs
        if (alike := _jaccard(shingles[a], shingles[b])) >= threshold
    )
    return sorted(found, key=lambda pair: (pair.second, pair.first))


def band_shape(threshold: float) -> tuple[int, int]:
    """Bands and rows a band: the most selective ones that miss a pair at most once in a hundred."""
    for rows in range(_PERMUTATIONS, 1, -1):
        bands = _PERMUTATIONS // rows
        if (1 - threshold**rows) ** bands <= _MISSED:
            return bands, rows
    return _PERMUTATIONS, 1


def _shingles_of(texts: Texts, flags: Any) -> list[Any]:
    """The sorted different shingles of the flagged texts, an array a text."""
    import numpy as np
    import polars as pl

    found: list[Any] = []
    start = 0
    for batch in texts():
        wanted = pl.Series(flags[start : start + len(batch)])
        found += [np.unique(each) for each in _split(_portions([batch.filter(wanted)]))]
        start += len(batch)
    return found


def _candidates(
    shingles: Sequence[Any], bands: int, rows: int, sides: Sequence[int]
) -> set[tuple[int, int]]:
    """Pairs of places in ``shingles`` that share a band."""
    import numpy as np
    import rensa

    digests = np.array(
        rensa.RMinHash.digest_matrix_from_token_hash_sets(shingles, bands * rows, _SEED).to_rows(),
        dtype=np.uint32,
    )
    pairs: set[tuple[int, int]] = set()
    for band in range(bands):
        part = np.ascontiguousarray(digests[:, band * rows : (band + 1) * rows])
        keys = part.view(np.dtype((np.void, part.dtype.itemsize * rows))).ravel()
        order = np.argsort(keys, kind="stable")
        ends = np.flatnonzero(keys[order][1:] != keys[order][:-1]) + 1
        for bucket in np.split(order, ends):
            if len(bucket) > 1:
                pairs.update(_bucket_pairs(bucket.tolist(), sides))
    return pairs


def _bucket_pairs(bucket: list[int], sides: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Each with each; of very many, each with the one before it and the first of every side."""
    if len(bucket) <= _ALL_PAIRS:
        yield from itertools.combinations(bucket, 2)
        return
    yield from itertools.pairwise(bucket)
    first: dict[int, int] = {}
    for member in bucket:
        yield from ((head, member) for head in first.values())
        first.setdefault(sides[member], member)


def _jaccard(one: Any, other: Any) -> float:
    import numpy as np

    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


def _digests(batches: Iterable[Any], permutations: int) -> Any:
    """rensa's matrix of digests, a row a text."""
    import numpy as np
    import rensa

    portions, kept, held = _portions(batches), [], 0
    for portion in portions:
        kept.append(portion)
        held += len(portion[0])
        if held > _HELD:
            each = _split(itertools.chain(kept, portions))
            return rensa.RMinHash.digest_matrix_from_token_hash_sets(each, permutations, _SEED)
    # All at once, on every core.
    hashes = np.concatenate([hashes for hashes, _ in kept] or [np.empty(0, np.uint64)])
    ends = np.cumsum(np.concatenate([np.zeros(1, np.int64), *(counts for _, counts in kept)]))
    build = rensa.RMinHash.digest_matrix_from_flat_token_hashes
    return build(hashes, ends.astype(np.uint64), permutations, _SEED)


def _portions(batches: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """The hashed shingles of some texts one after the other (uint64), and how many each has."""
    for batch in batches:
        for start in range(0, len(batch), _PORTION):
            yield _hashed(batch[start : start + _PORTION])


def _split(portions: Iterable[tuple[Any, Any]]) -> Iterator[Any]:
    """The hashed shingles of each text."""
    import numpy as np

    for hashes, counts in portions:
        ends = np.cumsum(counts)
        for start, end in zip((ends - counts).tolist(), ends.tolist(), strict=True):
            yield hashes[start:end]


def _hashed(texts: Any) -> tuple[Any, Any]:
    import numpy as np

    joined = texts.str.join(_GAP).item() + _GAP
    points = _folded()[np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32)]
    multiplier = np.uint64(0x9E3779B97F4A7C15)
    hashes = points.astype(np.uint64)
    for step in range(1, SHINGLE):
        hashes[:-step] *= multiplier
        hashes[:-step] += points[step:]
    hashes *= multiplier
    hashes ^= hashes >> np.uint64(32)
    lengths = texts.str.len_chars().to_numpy().astype(np.int64)
    counts = np.maximum(lengths - (SHINGLE - 1), 1)
    ends = np.cumsum(lengths + len(_GAP))
    # What starts in a gap, or reaches into it from a text that is long enough without.
    whole = np.ones(len(hashes), dtype=bool)
    for back in range(1, 2 * len(_GAP) + 1):
        whole[(ends - back)[lengths + len(_GAP) - back >= counts]] = False
    return hashes[whole], counts


@cache
def _folded() -> Any:
    """Code point → code point without case and width (only where one becomes one)."""
    import numpy as np

    table = np.arange(0x110000, dtype=np.uint32)
    for point in range(0x10000):
        folded = unicodedata.normalize("NFKC", chr(point)).lower()
        if len(folded) == 1:
            table[point] = ord(folded)
    return table
