"""The numbers of a report: each metric beside its floor, the champion and the baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from glmops.promote.evaluated import ROW_METRICS, SMALLER_IS_BETTER, best_of
from glmops.promote.verdict import Against, Check, Verdict
from glmops.records import TASKS


class MetricRow(NamedTuple):
    """One line of a task's table; ``top`` is the end of the metric's scale."""

    name: str
    check: Check
    top: float
    smaller: bool
    """Whether a smaller number is the better one."""
    beside: tuple[Against, ...]
    """What the baselines reach on the same rows."""


class TaskTable(NamedTuple):
    """A task's metrics: the one that says most first, then those with a rule, then the others.

    ``reach`` is the end of the scale of differences, which is the same for all metrics of one top.
    """

    task: str
    rows: int
    metrics: tuple[MetricRow, ...]
    reach: Mapping[float, float]

    @property
    def first(self) -> MetricRow:
        return self.metrics[0]

    @property
    def baselines(self) -> tuple[str, ...]:
        named = (beside.baseline for row in self.metrics for beside in row.beside)
        return tuple(dict.fromkeys(named))


def task_tables(verdict: Verdict) -> list[TaskTable]:
    """Every task that was scored, in their usual order."""
    by_task: dict[str, list[Check]] = {}
    for check in verdict.checks:
        by_task.setdefault(check.metric.partition("/")[0], []).append(check)
    beside: dict[str, tuple[Against, ...]] = {}
    for against in verdict.baselines:
        beside[against.metric] = (*beside.get(against.metric, ()), against)
    known = [task for task in TASKS if task in by_task]
    others = [task for task in by_task if task not in TASKS]
    return [_table(task, by_task[task], beside) for task in (*known, *others)]


def also_measured(scorecard: Mapping[str, Any], verdict: Verdict) -> list[tuple[str, Any]]:
    """Plain numbers of the scorecard that no check holds, such as the calibration error."""
    seen = {check.metric for check in verdict.checks}
    return [
        (f"{task}/{metric}", value)
        for task, values in scorecard.items()
        if task != "test"
        for metric, value in values.items()
        if isinstance(value, int | float)
        if metric != "rows" and f"{task}/{metric}" not in seen
    ]


def reach_of(bounds: Sequence[float], top: float) -> float:
    """The end of a scale around 0 that holds all bounds: 1, 2 or 5 times a power of ten."""
    widest = max((abs(bound) for bound in bounds if math.isfinite(bound)), default=0.0)
    if widest <= 0:
        return top / 100
    power = 10.0 ** math.floor(math.log10(widest))
    return next(step * power for step in (1, 2, 5, 10) if widest <= step * power * (1 + 1e-9))


def _table(
    task: str, checks: Sequence[Check], beside: Mapping[str, tuple[Against, ...]]
) -> TaskTable:
    said_first = f"{task}/{ROW_METRICS[task][0]}" if task in ROW_METRICS else ""
    ordered = sorted(checks, key=lambda c: (c.metric != said_first, c.ok is None))
    rows = tuple(
        MetricRow(
            check.metric.partition("/")[2],
            check,
            best_of(check.metric),
            check.metric.endswith(SMALLER_IS_BETTER),
            beside.get(check.metric, ()),
        )
        for check in ordered
    )
    reach = {}
    for top in {row.top for row in rows}:
        mine = [row.check for row in rows if row.top == top]
        ends = [e for c in mine for e in (c.difference_low, c.difference_high) if e is not None]
        reach[top] = reach_of(ends, top)
    return TaskTable(task, max(check.rows for check in checks), rows, reach)
