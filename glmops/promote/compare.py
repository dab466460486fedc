"""Models side by side on the same test rows: values, paired differences, and what to make of them.

The first is what the others are measured against. Where all were scored on the same rows the values
are those of their scorecards, of `dvc metrics diff` and of MLflow; where not, only rows that all
were asked alike count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from glmops.promote.bootstrap import Column
from glmops.promote.evaluated import SMALLER_IS_BETTER, Evaluated, best_of, common_rows
from glmops.promote.spread import Estimate, estimates
from glmops.records import TASKS

BETTER, WORSE, UNCLEAR, EQUAL = "better", "worse", "no clear difference", "equal"


class Cell(NamedTuple):
    """One model's value of a metric, and its lead over the first model (None for the first)."""

    value: Estimate
    difference: Estimate | None = None
    says: str = ""


class Line(NamedTuple):
    """One metric; a cell is None where a model was not scored by it."""

    metric: str
    rows: int
    cells: tuple[Cell | None, ...]

    @property
    def top(self) -> float:
        return best_of(self.metric)

    @property
    def smaller(self) -> bool:
        """Whether a smaller number is the better one."""
        return self.metric.endswith(SMALLER_IS_BETTER)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """``common`` are the rows that count; ``notes`` are sentences on what cannot be compared."""

    models: tuple[Evaluated, ...]
    lines: tuple[Line, ...]
    common: frozenset[str]
    same_test: bool
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; a number that does not exist is None."""
        return {
            "models": [
                {"name": m.name, "rows": m.card["test"]["rows"], "test": m.card["test"]}
                for m in self.models
            ],
            "same_test": self.same_test,
            "rows": len(self.common),
            "notes": list(self.notes),
            "metrics": [
                {
                    "metric": line.metric,
                    "rows": line.rows,
                    "values": [_cell(cell) for cell in line.cells],
                }
                for line in self.lines
            ],
        }


def compare(models: Sequence[Evaluated]) -> Comparison:
    """Every metric of every model, the first being the reference."""
    first, *others = models
    same_test = all(_rows_of(m) == _rows_of(first) for m in others)
    same_metrics = all(_metrics_of(m) == _metrics_of(first) for m in others)
    common = common_rows(first, *others)
    notes = []
    if not same_test:
        sizes = ", ".join(f"{m.name} {m.card['test']['rows']:,}" for m in models)
        counted = f"only the {len(common):,} rows that all were asked alike count here"
        none = "they have no row in common, so nothing is compared; each has its own rows' values"
        notes.append(f"The test sets differ ({sizes} rows): {counted if common else none}.")
    if not same_metrics:
        notes.append(
            "The metrics are of different versions: a difference could come from that alone, so "
            "none is shown. Evaluate again by one version to compare."
        )
    lines = _lines(
        models, None if same_test or not common else common, same_metrics and bool(common)
    )
    return Comparison(tuple(models), tuple(lines), frozenset(common), same_test, tuple(notes))


def word(line_smaller: bool, difference: Estimate) -> str:
    """What a difference says: its 95 % interval lies on one side of nothing, or it does not."""
    if difference == (0.0, 0.0, 0.0):
        return EQUAL
    if not (difference.low > 0 or difference.high < 0):
        return UNCLEAR
    return WORSE if (difference.low > 0) == line_smaller else BETTER


def _lines(models: Sequence[Evaluated], only: set[str] | None, paired: bool) -> list[Line]:
    scores = [_scores(model, only) for model in models]
    metrics = _in_order({metric for mine in scores for metric in mine})
    values = {(m, i): mine[m] for i, mine in enumerate(scores) for m in metrics if m in mine}
    pairs: dict[tuple[str, int], tuple[Column, Column]] = {}
    for metric, i in values:
        if paired and i and (metric, 0) in values:
            pair = _same_rows(values[metric, i], values[metric, 0])
            pairs |= {(metric, i): pair} if pair[0].ids else {}
    found, differences = estimates(values, pairs)
    lines = [
        Line(
            metric,
            max(len(mine[metric].ids) for mine in scores if metric in mine),
            tuple(
                _made(metric, found.get((metric, i)), differences.get((metric, i)))
                for i in range(len(models))
            ),
        )
        for metric in metrics
    ]
    return lines + (_unspread(models, set(metrics)) if only is None else [])


def _made(metric: str, value: Estimate | None, difference: Estimate | None) -> Cell | None:
    if value is None or difference is None:
        return Cell(value) if value else None
    return Cell(value, difference, word(metric.endswith(SMALLER_IS_BETTER), difference))


def _scores(model: Evaluated, only: set[str] | None) -> dict[str, Column]:
    if only is None:
        return dict(model.columns)
    kept = {metric: column.only(only) for metric, column in model.columns.items()}
    return {metric: column for metric, column in kept.items() if column.ids}


def _same_rows(one: Column, other: Column) -> tuple[Column, Column]:
    if one.ids == other.ids:
        return one, other
    shared = set(one.ids) & set(other.ids)
    return one.only(shared), other.only(shared)


def _unspread(models: Sequence[Evaluated], seen: set[str]) -> list[Line]:
    """Numbers of whole test sets that are no mean over rows (the calibration error)."""
    plain: dict[str, dict[int, float]] = {}
    for i, model in enumerate(models):
        for task, values in model.card.items():
            for name, value in values.items() if task != "test" else ():
                if (
                    name != "rows"
                    and isinstance(value, int | float)
                    and f"{task}/{name}" not in seen
                ):
                    plain.setdefault(f"{task}/{name}", {})[i] = float(value)
    return [
        Line(
            metric,
            max(m.card.get(metric.partition("/")[0], {}).get("rows", 0) for m in models),
            tuple(
                Cell(Estimate(values[i], math.nan, math.nan)) if i in values else None
                for i in range(len(models))
            ),
        )
        for metric, values in plain.items()
    ]


def _in_order(metrics: set[str]) -> list[str]:
    ranks: Mapping[str, int] = {task: rank for rank, task in enumerate(TASKS)}
    return sorted(metrics, key=lambda m: (ranks.get(m.partition("/")[0], len(ranks)), m))


def _rows_of(model: Evaluated) -> Any:
    return model.card["test"]["sha256"]


def _metrics_of(model: Evaluated) -> Any:
    return model.card["test"].get("metrics")


def _cell(cell: Cell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    plain: dict[str, Any] = _plain(cell.value, "value")
    if cell.difference is not None:
        plain |= {"difference": _plain(cell.difference, "difference"), "says": cell.says}
    return plain


def _plain(estimate: Estimate, name: str) -> dict[str, Any]:
    numbers = zip((name, "low", "high"), estimate, strict=True)
    return {key: number if math.isfinite(number) else None for key, number in numbers}
