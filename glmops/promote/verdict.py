"""What the gate says: outcome, reasons, and every number that it looked at. Plain values.

A number that does not exist is NaN; what was not compared is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["passed", "refused", "too few rows"]


@dataclass(frozen=True, slots=True)
class Check:
    """One metric: its value with a 95 % interval, and how it stands to its floor and the champion.

    ``ok`` is None for a metric that no rule names, and for a slice of too few rows to be judged.
    The champion's value is of all its rows, the differences of the rows that both have.
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
    by: str | None = None
    """The property that a slice is of ("class", "length"); None: all test rows."""
    part: str | None = None
    """The slice: a label, or a range such as "17-32"."""
    min_rows: int | None = None
    """Fewer rows than this are shown and not judged; None: all test rows."""


@dataclass(frozen=True, slots=True)
class Against:
    """One metric of one baseline, and how far the candidate is above it on the same rows.

    ``ok`` is None where no rule asks for it.
    """

    metric: str
    baseline: str
    value: float
    low: float
    high: float
    rows: int
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
    """One for each metric, those with a rule first."""
    baselines: tuple[Against, ...] = ()
    """One for each metric of each baseline that was scored."""
    slices: tuple[Check, ...] = ()
    """One for each slice that a rule asks about."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; a number that is not finite becomes None."""
        return {
            "passed": self.passed,
            "outcome": self.outcome,
            "reasons": list(self.reasons),
            "checks": [_plain(check) for check in self.checks],
            "baselines": [_plain(each) for each in self.baselines],
            "slices": [_plain(check) for check in self.slices],
        }


def verdict_from_json(value: Mapping[str, Any]) -> Verdict:
    """The inverse of ``Verdict.as_json``: None stands for NaN in value, low and high.

    A verdict of before there were baselines and slices has neither.
    """
    return Verdict(
        value["passed"],
        value["outcome"],
        tuple(value["reasons"]),
        tuple(Check(**_numbers(stored)) for stored in value["checks"]),
        tuple(Against(**_numbers(stored)) for stored in value.get("baselines", ())),
        tuple(Check(**_numbers(stored)) for stored in value.get("slices", ())),
    )


def show(value: float | None) -> str:
    """A number for people: a metric with four decimals, two from 10 up; a count as it is."""
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, int):
        return str(value)
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def show_shortfall(value: float) -> str:
    """Like ``show``, but never rounds a real shortfall to zero."""
    text = show(value)
    return text if float(text) else f"{value:.1g}"


def _plain(numbers: Check | Against) -> dict[str, Any]:
    return {key: _finite(value) for key, value in asdict(numbers).items()}


def _numbers(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: math.nan if number is None and key in ("value", "low", "high") else number
        for key, number in stored.items()
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
