"""The parts of a test set: how a candidate does on each class and each range of lengths."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from glmops.promote.bootstrap import Column
from glmops.promote.evaluated import ROW_METRICS, Evaluated, best_of
from glmops.promote.spread import Estimate, estimates, within
from glmops.promote.verdict import Check
from glmops.records import Slice, read_table

MOST = 24
"""Slices of one property that are shown."""
TITLES = {"class": "expected label", "length": "characters of the prompt", "turns": "earlier turns"}


class Part(NamedTuple):
    """One slice: its value, the other model's on the same rows, and the paired difference."""

    value: str
    rows: int
    mine: Estimate
    theirs: float | None
    difference: Estimate | None
    ok: bool | None = None
    """None: no rule asks about it, or it has too few rows to be judged."""
    too_few: bool = False
    floor: float | None = None


class Parts(NamedTuple):
    """The slices of one metric by one property; ``left_out`` are rarer ones that are not shown."""

    metric: str
    by: str
    title: str
    parts: tuple[Part, ...]
    left_out: int

    @property
    def top(self) -> float:
        """The end of the metric's scale."""
        return best_of(self.metric)


def slice_tables(
    mine: Evaluated, theirs: Evaluated | None, common: set[str], judged: Sequence[Check]
) -> list[Parts]:
    """Those that the gate judged, and then each task's by every property that was written.

    Args:
        common: The rows that the two may be compared on.
        judged: The verdict's slices: their numbers are shown as the gate saw them.
    """
    path = mine.folder / "slices.parquet"
    members = _members(read_table(path, Slice) if path.is_file() else ())
    tables = _judged(judged)
    seen = {(table.metric, table.by) for table in tables}
    for task, (name, _) in ROW_METRICS.items():
        metric = f"{task}/{name}"
        column = mine.columns.get(metric)
        if column is None:
            continue
        other = theirs.columns.get(metric) if theirs else None
        for by, slices in members.items():
            here = {value: ids & set(column.ids) for value, ids in slices.items()}
            here = {value: ids for value, ids in here.items() if ids}
            if len(here) > 1 and (metric, by) not in seen:
                shown = _chosen(by, here)
                parts = _parts({value: here[value] for value in shown}, column, other, common)
                title = TITLES.get(by, by)
                tables.append(Parts(metric, by, title, parts, len(here) - len(shown)))
    return tables


def _judged(checks: Sequence[Check]) -> list[Parts]:
    groups: dict[tuple[str, str], list[Part]] = {}
    for check in checks:
        groups.setdefault((check.metric, check.by or ""), []).append(_part(check))
    tables = []
    for (metric, by), parts in groups.items():
        parts.sort(
            key=lambda part: (-part.rows, part.value) if by == "class" else _start(part.value)
        )
        # What broke a rule is shown however small it is.
        shown = [p for i, p in enumerate(parts) if i < MOST or p.ok is False]
        left_out = len(parts) - len(shown)
        tables.append(Parts(metric, by, TITLES.get(by, by), tuple(shown), left_out))
    return tables


def _part(check: Check) -> Part:
    mine = Estimate(check.value, check.low, check.high)
    difference = None
    if check.difference is not None:
        low, high = (
            math.nan if e is None else e for e in (check.difference_low, check.difference_high)
        )
        difference = Estimate(check.difference, low, high)
    return Part(
        check.part or "",
        check.rows,
        mine,
        check.champion,
        difference,
        check.ok,
        check.rows < (check.min_rows or 0),
        check.floor,
    )


def _members(rows: Iterable[Slice]) -> dict[str, dict[str, set[str]]]:
    members: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        members.setdefault(row.by, {}).setdefault(row.value, set()).add(row.id)
    return members


def _chosen(by: str, slices: Mapping[str, set[str]]) -> list[str]:
    """The largest slices: ranges in their order, names from the most frequent down."""
    sizes = Counter({value: len(ids) for value, ids in slices.items()})
    ranked = sorted(sizes, key=lambda value: (-sizes[value], value))[:MOST]
    return ranked if by == "class" else sorted(ranked, key=_start)


def _start(value: str) -> tuple[float, str]:
    """Where a range such as "17-32", "4096+" or "3" begins."""
    found = re.search(r"\d+", value)
    return (float(found[0]) if found else float("inf"), value)


def _parts(
    slices: Mapping[str, set[str]], column: Column, other: Column | None, common: set[str]
) -> tuple[Part, ...]:
    shared = set(column.ids) & set(other.ids) & common if other else set()
    whole = shared == set(column.ids)
    mine = {value: within(column, ids) for value, ids in slices.items()}
    pairs = {}
    if other and shared:
        ours, others = column if whole else column.only(shared), other.only(shared)
        pairs = {
            value: (mine[value] if whole else within(ours, ids), within(others, ids))
            for value, ids in slices.items()
            if ids & shared
        }
    values, differences = estimates(mine, pairs)
    return tuple(
        Part(
            value,
            len(ids),
            values[value],
            pairs[value][1].value() if value in pairs else None,
            differences.get(value),
        )
        for value, ids in slices.items()
    )
