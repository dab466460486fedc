"""A rule and a number → the sentences on what the rule does not allow; none where it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from glmops.promote.bootstrap import Column
from glmops.promote.verdict import Against, Check, show, show_shortfall
from glmops.records import Slice

ROUNDING = 1e-9
"""0.88 − 0.90 is a hair below −0.02 in binary; a rule is not broken by that hair."""
FEWEST_ROWS = 2
"""Of one row every draw is the same: its interval has no width, whatever the row says."""
OF_A_SET = ("macro-f1", "weighted-f1", "auc", "sacrebleu-zh")
"""How names of metrics end whose rows add up to the value of the whole set, and of no slice."""


def check_faults(check: Check, present: bool, *, compare: bool) -> list[str]:
    """What is wrong with a metric: its floor and its margin; ``present`` in the scores at all."""
    floor = "" if check.floor is None else f"; the floor is {show(check.floor)}"
    name = name_of(check)
    if not present:
        return [f"{name} is missing from the scores{floor}"]
    if not math.isfinite(check.value):
        return [f"{name} is not a finite number{floor}"]
    faults = []
    if check.floor is not None and check.value < check.floor - ROUNDING:
        faults.append(
            f"{name} is {show(check.value)} (95 % interval {show(check.low)} to "
            f"{show(check.high)}, {check.rows} rows), the floor is {show(check.floor)}: "
            f"{show_shortfall(check.floor - check.value)} short"
        )
    if check.margin is not None and compare:
        faults += _regression(check, check.margin)
    return faults


def _regression(check: Check, margin: float) -> list[str]:
    name = name_of(check)
    low, high = check.difference_low, check.difference_high
    if check.champion is None or low is None:
        return [f"{name} is {show(check.value)}, but the champion has no score to compare"]
    if not math.isfinite(low):
        return [f"{name}: the difference to the champion is not a finite number"]
    if low >= -margin - ROUNDING:
        return []
    return [
        f"{name} is {show(check.value)}, the champion has {show(check.champion)}: the 95 % "
        f"interval of the difference ({show(low)} to {show(high)}) reaches "
        f"{show_shortfall(-margin - low)} below the allowed {show(-margin)}"
    ]


def beat_faults(metric: str, value: float, baseline: str, against: Against | None) -> list[str]:
    """What keeps a metric from being above a baseline: the whole interval must be."""
    if against is None:
        return [f"{metric} must beat the baseline {baseline}, which has no score of it"]
    low, high = against.difference_low, against.difference_high
    if low is None or not math.isfinite(low):
        return [f"{metric}: the difference to the baseline {baseline} is not a finite number"]
    if low > ROUNDING:
        return []
    return [
        f"{metric} is {show(value)} and the baseline {baseline} has {show(against.value)}: the "
        f"95 % interval of the difference ({show(low)} to {show(high)}) is not above 0"
    ]


def lacking_rows(
    metric: str, mine: Mapping[str, Column], slices: Sequence[Slice], min_rows: int
) -> list[str]:
    """Says so when the rows cannot tell anything: too few, or all of one class.

    A metric that its task's rows lack is no case of that: its task's rows are counted by its other
    metrics.
    """
    task = metric.partition("/")[0]
    if metric in mine:
        ids = set(mine[metric].ids)
    else:
        ids = {id for m, column in mine.items() if m.startswith(f"{task}/") for id in column.ids}
    if len(ids) < min_rows:
        asked = f"promote.min_rows asks for {min_rows}"
        return [f"{task}: {len(ids)} test rows, {asked}: too few to tell"]
    if metric in mine and len(ids) < FEWEST_ROWS:
        return [f"{task}: {len(ids)} test row, an interval needs {FEWEST_ROWS}: too few to tell"]
    classes = {part.value for part in slices if part.by == "class" and part.id in ids}
    if len(classes) == 1:
        only = f"every test row is of the class {classes.pop()}"
        return [f"{task}: {only}, so none shows that classes are told apart: too few to tell"]
    return []


def slice_rule_faults(metric: str, by: str, present: bool, parts: int) -> list[str]:
    """What makes a slice rule as a whole impossible to follow."""
    rule = f"promote.slices {metric} by {by}"
    if metric.endswith(OF_A_SET):
        return [f"{rule}: it is measured on a whole set and has no slices; name another metric"]
    if not present:
        return [f"{metric} is missing from the scores"]
    if not parts:
        return [f"{rule}: the candidate's evaluation says of no such row which {by} it has"]
    return []


def name_of(check: Check) -> str:
    """The metric, and of which slice."""
    return check.metric if check.by is None else f"{check.metric} in {check.by} {check.part}"
