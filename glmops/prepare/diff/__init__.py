"""What changed between two prepared sets: rows, labels and lengths. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Version:
    """A prepared set to compare: the folder it can be read from, and what to call it."""

    folder: Path
    where: str


def diff(old: Version, new: Version) -> dict[str, Any]:
    """The difference between two prepared sets, as one JSON-ready dict.

    A row is its prompt and its answer; its place in a file does not matter. ``rows`` counts each
    row once, however often its source's weight repeats it in train:
    old = kept + relabelled + removed, and new = kept + relabelled + added. ``moved`` counts rows of
    the new set whose source text stood on another side of the split before, among all of these.

    Raises:
        InputError: A version is not whole, or is no prepared set.
    """
    from glmops.prepare.diff.changes import compare
    from glmops.prepare.diff.drift import label_drift, length_drift
    from glmops.prepare.diff.examples import examples
    from glmops.prepare.diff.facts import read_facts, sizes

    before, after = read_facts(old), read_facts(new)
    found = compare(before, after)
    return {
        "old": {"where": old.where, **sizes(before)},
        "new": {"where": new.where, **sizes(after)},
        "rows": found.counts,
        "by_task": found.by("task"),
        "by_side": found.by("side"),
        "by_source": found.by("source"),
        "moved": found.moves,
        "relabelled": found.answers,
        "labels": label_drift(before, after, found),
        "lengths": length_drift(before, after, found),
        "examples": examples(old, new, found),
    }


def is_same(found: Mapping[str, Any]) -> bool:
    """Whether the two sets hold the same rows, as often and on the same sides."""
    names = ("added", "removed", "relabelled", "moved", "reweighted")
    return not any(found["rows"][name] for name in names)
