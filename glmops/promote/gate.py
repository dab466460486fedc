"""The gate: stored per-row scores of a candidate and of the champion → a verdict. Pure.

Every metric with a rule is better when higher, and keeps its own scale: accuracy and F1 are
fractions, ROUGE and BLEU run from 0 to 100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from glmops.promote.bootstrap import Column, columns, difference_interval, value_interval
from glmops.recipe import Promote
from glmops.records import Score

Outcome = Literal["passed", "refused", "too few rows"]

ROUNDING = 1e-9
"""0.88 − 0.90 is a hair below −0.02 in binary; a rule is not broken by that hair."""


@dataclass(frozen=True, slots=True)
class Check:
    """One metric: its value with a 95 % interval, and how it stands to its floor and the champion.

    ``ok`` is None for a metric that no rule names. A number that does not exist is NaN;
    ``champion`` and the differences are None where nothing was compared.
    """

    metric: str
    value: float
    low: float
    high: float
    rows: int
    floor: float | None = None
    margin: float | None = None
    champion: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    ok: bool | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says, why, and every number it looked at."""

    passed: bool
    outcome: Outcome
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; a number that is not finite becomes None."""
        checks = [{key: _finite(value) for key, value in asdict(c).items()} for c in self.checks]
        return {
            "passed": self.passed,
            "outcome": self.outcome,
            "reasons": list(self.reasons),
            "checks": checks,
        }


def decide(
    candidate: Sequence[Score],
    champion: Sequence[Score] | None,
    rules: Promote,
    *,
    same_test: bool,
) -> Verdict:
    """Judge a candidate's scores by the rules, and against the champion where one stands.

    Args:
        champion: The champion's scores, or None when there is none: then floors alone decide.
        same_test: Whether both are scores of the same test rows by the same metrics (equal
            hashes). If not, nothing is compared, and a rule that asks for it refuses.
    Raises:
        InputError: A row carries one metric twice.
    """
    mine = columns(candidate)
    theirs = columns(champion) if champion is not None and same_test else None
    checks: list[Check] = []
    refused: list[str] = []
    short: list[str] = []
    ruled = dict.fromkeys((*rules.floors, *rules.max_regression))
    for metric in ruled:
        check = _measure(metric, mine.get(metric), theirs, rules)
        lacking = _lacking_rows(metric, mine, rules.min_rows)
        faults = [] if lacking else _faults(check, metric in mine, compare=theirs is not None)
        checks.append(replace(check, ok=not lacking and not faults))
        refused += faults
        short += lacking
    checks += [_measure(m, column, theirs, rules) for m, column in mine.items() if m not in ruled]
    if champion is not None and not same_test and rules.max_regression:
        refused.append(
            "the champion was scored on another test set, or by other versions of the metrics (the "
            f"hashes differ), so nothing can be compared on {', '.join(rules.max_regression)}. "
            "Scoring the champion again comes later; until then only rules without "
            "promote.max_regression can pass"
        )
    outcome: Outcome = "refused" if refused else "too few rows" if short else "passed"
    reasons = tuple(dict.fromkeys((*refused, *short)))
    return Verdict(outcome == "passed", outcome, reasons, tuple(checks))


def verdict_from_json(value: Mapping[str, Any]) -> Verdict:
    """The inverse of ``Verdict.as_json``: None stands for NaN in value, low and high."""
    checks = []
    for stored in value["checks"]:
        known: dict[str, Any] = {
            key: math.nan if number is None and key in ("value", "low", "high") else number
            for key, number in stored.items()
        }
        checks.append(Check(**known))
    return Verdict(value["passed"], value["outcome"], tuple(value["reasons"]), tuple(checks))


def show(value: float | None) -> str:
    """A number for people: a metric with four decimals, two from 10 up; a count as it is."""
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, int):
        return str(value)
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _measure(
    metric: str, mine: Column | None, theirs: Mapping[str, Column] | None, rules: Promote
) -> Check:
    floor, margin = rules.floors.get(metric), rules.max_regression.get(metric)
    if mine is None:
        return Check(metric, math.nan, math.nan, math.nan, 0, floor, margin)
    check = Check(metric, mine.value(), *value_interval(mine), len(mine.ids), floor, margin)
    other = theirs.get(metric) if theirs else None
    common = set(mine.ids) & set(other.ids) if other else set()
    if other is None or not common:
        return check
    a, b = mine.only(common), other.only(common)
    low, high = difference_interval(a, b)
    return replace(
        check,
        champion=other.value(),
        difference=a.value() - b.value(),
        difference_low=low,
        difference_high=high,
    )


def _lacking_rows(metric: str, mine: Mapping[str, Column], min_rows: int) -> list[str]:
    """Says so when too few rows can tell anything. A metric that its task's rows lack is no case
    of that: its task's rows are counted by its other metrics."""
    task = metric.partition("/")[0]
    if metric in mine:
        rows = len(mine[metric].ids)
    else:
        rows = len({id for m, c in mine.items() if m.startswith(f"{task}/") for id in c.ids})
    if rows >= min_rows:
        return []
    return [f"{task}: {rows} test rows, promote.min_rows asks for {min_rows}: too few to tell"]


def _faults(check: Check, present: bool, *, compare: bool) -> list[str]:
    floor = "" if check.floor is None else f"; the floor is {show(check.floor)}"
    if not present:
        return [f"{check.metric} is missing from the scores{floor}"]
    if not math.isfinite(check.value):
        return [f"{check.metric} is not a finite number{floor}"]
    faults = []
    if check.floor is not None and check.value < check.floor - ROUNDING:
        faults.append(
            f"{check.metric} is {show(check.value)} (95 % interval {show(check.low)} to "
            f"{show(check.high)}, {check.rows} rows), the floor is {show(check.floor)}: "
            f"{_shortfall(check.floor - check.value)} short"
        )
    if check.margin is not None and compare:
        faults += _regression(check, check.margin)
    return faults


def _regression(check: Check, margin: float) -> list[str]:
    low, high = check.difference_low, check.difference_high
    if check.champion is None or low is None:
        return [f"{check.metric} is {show(check.value)}, but the champion has no score to compare"]
    if not math.isfinite(low):
        return [f"{check.metric}: the difference to the champion is not a finite number"]
    if low >= -margin - ROUNDING:
        return []
    return [
        f"{check.metric} is {show(check.value)}, the champion has {show(check.champion)}: the 95 % "
        f"interval of the difference ({show(low)} to {show(high)}) reaches "
        f"{_shortfall(-margin - low)} below the allowed {show(-margin)}"
    ]


def _shortfall(value: float) -> str:
    """Like ``show``, but never rounds a real shortfall to zero."""
    text = show(value)
    return text if float(text) else f"{value:.1g}"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
