"""Expected against answered labels, as a table that stays readable with any number of labels."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MOST_LABELS = 12
OTHERS = "(others)"


def confusion(path: Path) -> dict[str, Any] | None:
    """A table of expected × answered labels with counts; None without a classification task.

    The least frequent labels share one line, so that a bad model's inventions stay readable. A cell
    is (count, whether it is right, its share of the row's expected label in percent).
    """
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        pairs = [(row["expected"], row["answered"]) for row in csv.DictReader(file)]
    if not pairs:
        return None
    expected = _labels(Counter(e for e, _ in pairs))
    answered = _labels(Counter(a for _, a in pairs), first=expected)
    counts = Counter((_listed(e, expected), _listed(a, answered)) for e, a in pairs)
    rows = []
    for e in expected:
        total = sum(counts[e, a] for a in answered)
        cells = [(counts[e, a], e == a, round(100 * counts[e, a] / total)) for a in answered]
        rows.append({"label": e, "cells": cells, "total": total})
    return {"answered": answered, "rows": rows}


def _labels(counted: Counter[str], first: Sequence[str] = ()) -> list[str]:
    """The most frequent labels, after those of ``first`` that occur; the rest as one."""
    ranked = [label for label, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))]
    ordered = list(dict.fromkeys([label for label in first if label in counted] + ranked))
    if len(ordered) <= MOST_LABELS:
        return ordered
    return [*ordered[: MOST_LABELS - 1], OTHERS]


def _listed(label: str, labels: Sequence[str]) -> str:
    return label if label in labels else OTHERS
