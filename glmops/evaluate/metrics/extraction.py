"""Triples and keywords: what the answer holds of what was expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from glmops.evaluate.metrics.generation import text_parts
from glmops.evaluate.metrics.parts import Pairs, Parts, T, readable
from glmops.evaluate.reading import Triple, parse_keywords, parse_triples
from glmops.evaluate.repair import repair_triples

Fact = tuple[str, str, str]
"""Subject, predicate and object."""


def true_triples(text: str, where: str) -> frozenset[Triple]:
    return readable(parse_triples(text), text, where, "a fenced ```json list of triples")


def true_keywords(text: str, where: str) -> frozenset[str]:
    return readable(parse_keywords(text) or None, text, where, "keywords, separated by commas")


def triples(pairs: Pairs) -> Iterator[Parts]:
    truths = pairs.truths(true_triples)
    for truth, answer, text in zip(truths, pairs.predictions, text_parts(pairs), strict=True):
        found = parse_triples(answer)
        repaired = found is None and repair_triples(answer) is not None
        answered = found or frozenset()
        yield {
            **_overlap(truth, answered),
            "partial-f1": (2 * partial_matches(truth, answered), float(len(truth) + len(answered))),
            "json-valid": (float(found is not None), 1.0),
            "json-repaired": (float(repaired), 1.0),
            **text,
        }


def keywords(pairs: Pairs) -> Iterator[Parts]:
    truths = pairs.truths(true_keywords)
    pairs.on_rows(len(truths))
    for truth, answer in zip(truths, pairs.predictions, strict=True):
        yield _overlap(truth, parse_keywords(answer))


def _overlap(truth: frozenset[T], answered: frozenset[T]) -> Parts:
    matched = len(truth & answered)
    return {
        "f1": (2.0 * matched, float(len(truth) + len(answered))),
        "precision": (float(matched), float(len(answered))),
        "recall": (float(matched), float(len(truth))),
    }


def partial_matches(truth: frozenset[Triple], answered: frozenset[Triple]) -> float:
    """What ``answered`` earns, types left aside, if each triple is paired with at most one other.

    A pair with the same subject, predicate and object earns 1, one that shares two of the three
    1/2. Of all ways to pair them it is the best one: equal pairs first (no other pairing can earn
    more), then as many halves as can be had at once.
    """
    expected, given = (Counter(triple[:3] for triple in side) for side in (truth, answered))
    same = expected & given
    left = list((expected - same).elements()), list((given - same).elements())
    return float(same.total()) + (_most_pairs(*left) / 2 if all(left) else 0.0)


def _most_pairs(expected: Sequence[Fact], given: Sequence[Fact]) -> int:
    """The most pairs of facts with two equal fields, each fact in one pair at most."""
    places: dict[tuple[int, str, str], list[int]] = {}
    for place, fact in enumerate(given):
        for field in range(3):
            places.setdefault(_without(fact, field), []).append(place)
    edges = [
        (row, column)
        for row, fact in enumerate(expected)
        for column in {p for field in range(3) for p in places.get(_without(fact, field), ())}
    ]
    if not edges:
        return 0
    import numpy as np
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    rows, columns = zip(*edges, strict=True)
    shape = (len(expected), len(given))
    graph = csr_array((np.ones(len(edges), dtype=np.int8), (rows, columns)), shape=shape)
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())


def _without(fact: Fact, field: int) -> tuple[int, str, str]:
    first, second = (text for place, text in enumerate(fact) if place != field)
    return field, first, second
