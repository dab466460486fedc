"""Classification by how likely the model finds each taught label: the label, AUC, calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from glmops.errors import InputError

BINS = 10
Likelihoods = Sequence[Mapping[str, float]]
"""Of each row: taught label → log probability in nats."""


class Bin(NamedTuple):
    """The rows whose confidence lies in one tenth: above its lower end, up to its upper one."""

    range: str
    confidence: float
    """Mean over its rows; a well calibrated model is as often right."""
    accuracy: float
    rows: int


def likeliest(row: Mapping[str, float]) -> str:
    """The likeliest label; of equally likely ones the first in order."""
    return min(row, key=lambda label: (-row[label], label))


def probabilities(row: Mapping[str, float]) -> dict[str, float]:
    """How likely each label is if it must be one of them: they sum to 1."""
    top = max(row.values())
    shares = {label: math.exp(value - top) for label, value in row.items()}
    whole = math.fsum(shares.values())
    return {label: share / whole for label, share in shares.items()}


def auc_parts(expected: Sequence[str], rows: Likelihoods) -> list[float] | None:
    """Per row a number whose mean over the rows is macro AUC, one label against the rest.

    A label counts that some rows expect and some do not; None where there is none. A row's part is
    first-order, as in macro F1; for one label it is the row's placement among the others.
    Source: DeLong et al. 1988, "Comparing the areas under two or more correlated receiver
    operating characteristic curves": the structural components V10 and V01.
    """
    import numpy as np

    labels = sorted(rows[0])
    given = [probabilities(row) for row in rows]
    scores = np.array([[row[label] for label in labels] for row in given])
    wanted = np.array(expected)
    parts, counted = np.zeros(len(rows)), 0
    for column, label in enumerate(labels):
        inside = wanted == label
        if inside.all() or not inside.any():
            continue
        ours, others = np.sort(scores[inside, column]), np.sort(scores[~inside, column])
        below, tied = _placed(scores[inside, column], others)
        place = np.empty(len(rows))
        place[inside] = (below + tied / 2) / len(others)
        below, tied = _placed(scores[~inside, column], ours)
        place[~inside] = 1 - (below + tied / 2) / len(ours)
        area = place[inside].mean()
        size = np.where(inside, len(ours), len(others))
        parts += area + (place - area) * len(rows) / size
        counted += 1
    return [float(part) for part in parts / counted] if counted else None


def _placed(values: Any, among: Any) -> tuple[Any, Any]:
    """How many of the sorted ``among`` are below each value, and how many equal it."""
    import numpy as np

    low, high = (np.searchsorted(among, values, side=side) for side in ("left", "right"))
    return low, high - low


def calibration(expected: Sequence[str], rows: Likelihoods) -> list[Bin]:
    """Confidence (the likeliest label's probability) against accuracy; bins with rows only."""
    members: dict[int, list[tuple[float, bool]]] = {}
    for label, row in zip(expected, rows, strict=True):
        said = likeliest(row)
        confidence = probabilities(row)[said]
        place = min(max(math.ceil(confidence * BINS) - 1, 0), BINS - 1)
        members.setdefault(place, []).append((confidence, said == label))
    return [
        Bin(
            f"{place / BINS:.1f}-{(place + 1) / BINS:.1f}",
            math.fsum(confidence for confidence, _ in inside) / len(inside),
            sum(right for _, right in inside) / len(inside),
            len(inside),
        )
        for place, inside in sorted(members.items())
    ]


def ece(bins: Sequence[Bin]) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy, by rows."""
    rows = sum(each.rows for each in bins)
    return math.fsum(each.rows * abs(each.confidence - each.accuracy) for each in bins) / rows


def require_whole(rows: Likelihoods, names: Sequence[str]) -> None:
    """Every row names the same labels, each with a number.

    Raises:
        InputError: A row lacks a label that another has, has none, or a value is no number.
    """
    for row, name in zip(rows, names, strict=True):
        lacking = {label for other in (rows[0], row) for label in other} - (set(row) & set(rows[0]))
        if lacking or not row:
            raise InputError(
                name,
                "every row needs the likelihood of every label",
                got=f"none of {min(lacking)!r}" if lacking else "none at all",
                do="Run evaluate again.",
            )
        broken = [label for label, value in row.items() if math.isnan(value) or value == math.inf]
        if broken:
            raise InputError(
                name,
                f"the likelihood of {broken[0]!r} is no number",
                got=row[broken[0]],
                do="Run evaluate again.",
            )
