"""Texts as rows of TF-IDF weights of their runs of one to three characters.

Equal to scikit-learn's ``TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)``
but for the order of its columns, at a fifth of the time: an n-gram is one integer (three characters
of 21 bits each), so that counting is sorting.
Array axes: N texts, C all their characters in a line, G places of n-grams, U different n-grams,
V n-grams that are known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST = 3
FEW_TEXTS = 50
_SPACE = re.compile(r"\s\s+")
_BITS = 21
"""Enough for any character of Unicode; three of them fit into 63 bits."""

Keys = NDArray[np.uint64]
Sparse = Any
"""scipy.sparse.csr_array, which has no types that a strict check could use."""


@dataclass(frozen=True, slots=True, eq=False)
class Ngrams:
    """The n-grams that texts are weighed by, in order, and how rare each is."""

    keys_V: Keys
    idf_V: NDArray[np.float64]

    def weigh(self, texts: Sequence[str]) -> Sparse:
        """A row of length 1 per text (0 for a text without a known n-gram), as N × V."""
        text_G, key_G = _occurrences(texts)
        there_U, inverse_G = np.unique(key_G, return_inverse=True)
        place_U = np.searchsorted(self.keys_V, there_U).clip(max=len(self.keys_V) - 1)
        known_G = (self.keys_V[place_U] == there_U)[inverse_G]
        places_G = place_U[inverse_G[known_G]]
        return self._weights(_count(text_G[known_G], places_G, (len(texts), len(self.keys_V))))

    def _weights(self, counts: Sparse) -> Sparse:
        from scipy.sparse import csr_array

        weight = (1 + np.log(counts.data.astype(np.float64))) * self.idf_V[counts.indices]
        rows = counts.shape[0]
        row = np.repeat(np.arange(rows), np.diff(counts.indptr))
        length_N = np.sqrt(np.bincount(row, weight**2, minlength=rows))
        return csr_array((weight / length_N[row], counts.indices, counts.indptr), counts.shape)


def learn(texts: Sequence[str], *, most_texts: float = 1.0) -> tuple[Ngrams, Sparse] | None:
    """The n-grams of ``texts``, and the texts weighed by them; None where there is no n-gram.

    Args:
        most_texts: An n-gram in more than this share of the texts, and in more than 50 of them, is
            left out: it weighs little, and finds everything.
    """
    text_G, key_G = _occurrences(texts)
    keys_V, place_G = np.unique(key_G, return_inverse=True)
    counts = _count(text_G, place_G, (len(texts), len(keys_V)))
    texts_V = np.bincount(counts.indices, minlength=len(keys_V))
    kept_V = texts_V <= max(most_texts * len(texts), FEW_TEXTS)
    if not kept_V.any():
        return None
    known = Ngrams(keys_V[kept_V], np.log((1 + len(texts)) / (1 + texts_V[kept_V])) + 1)
    return known, known._weights(counts if kept_V.all() else counts[:, np.flatnonzero(kept_V)])


def _count(text_G: NDArray[Any], place_G: NDArray[Any], shape: tuple[int, int]) -> Sparse:
    """How often each text holds each n-gram."""
    from scipy.sparse import csr_array

    # 32 bits, because liblinear reads no longer ones.
    where = text_G.astype(np.int32), place_G.astype(np.int32)
    counts = csr_array((np.ones(len(place_G), dtype=np.float32), where), shape=shape)
    counts.sum_duplicates()
    return counts


def _occurrences(texts: Sequence[str]) -> tuple[NDArray[np.int32], Keys]:
    """(text, n-gram) of each place where an n-gram stands."""
    clean = [_SPACE.sub(" ", text.lower()) for text in texts]
    sizes_N = np.array([len(text) for text in clean], dtype=np.int64)
    joined = "".join(clean).encode("utf-32-le", "surrogatepass")
    # From 1 on: 0 is no character, so that a shorter run is no longer one that ends in it.
    char_C = np.frombuffer(joined, dtype="<u4").astype(np.uint64) + np.uint64(1)
    text_C = np.repeat(np.arange(len(clean), dtype=np.int32), sizes_N)
    left_C = np.repeat(np.cumsum(sizes_N), sizes_N) - np.arange(len(char_C))
    texts_of, keys = [], []
    key_C = np.zeros_like(char_C)
    for length in range(LONGEST):
        shifted_C = np.zeros_like(char_C)
        shifted_C[: max(len(char_C) - length, 0)] = char_C[length:]
        key_C = key_C | shifted_C << np.uint64(_BITS * (LONGEST - 1 - length))
        fits_C = left_C > length
        keys.append(key_C[fits_C])
        texts_of.append(text_C[fits_C])
    return np.concatenate(texts_of), np.concatenate(keys)
