"""One row's share of a metric, and how shares become the value of a set."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from glmops.errors import InputError

Parts = dict[str, tuple[float, float]]
"""One row: metric → numerator and denominator. Over rows, a metric is sum / sum."""

T = TypeVar("T")


def _nobody(rows: int) -> None:
    """Nobody asked how far the scoring is."""


class Pairs(NamedTuple):
    """Answers and truths of one task, row by row, and what to call each row in an error."""

    predictions: Sequence[str]
    references: Sequence[str]
    names: Sequence[str]
    labels: Collection[str] | None = None
    """Labels that the model was taught; without them, those of the references."""
    prompts: Sequence[str] | None = None
    likelihoods: Sequence[Mapping[str, float]] | None = None
    """Of each row: taught label → log probability in nats."""
    processes: int = 1
    """For the text metrics; no value depends on it."""
    on_rows: Callable[[int], None] = _nobody

    def truths(self, read: Callable[[str, str], T]) -> list[T]:
        return [read(text, name) for text, name in zip(self.references, self.names, strict=True)]


def total(rows: Iterable[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """Sum of numerators over sum of denominators, per metric; 0 over nothing."""
    columns: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for metric, part in row.items():
            columns.setdefault(metric, []).append(part)
    return {metric: ratio(parts) for metric, parts in columns.items()}


def ratio(parts: Sequence[tuple[float, float]]) -> float:
    whole = math.fsum(denominator for _, denominator in parts)
    return math.fsum(numerator for numerator, _ in parts) / whole if whole else 0.0


def readable(value: T | None, text: str, where: str, form: str) -> T:
    """``value``, which was read from the reference ``text``; None is a fault of the reference."""
    if value is None:
        raise InputError(where, f"expected {form}", got=text, do="Repair the row's target.")
    return value
