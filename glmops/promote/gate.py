"""The gate: stored per-row scores of a candidate and of the champion → a verdict. Pure.

Every metric with a rule is better when higher, and keeps its own scale: accuracy and F1 are
fractions, ROUGE and BLEU run from 0 to 100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from glmops.promote.bootstrap import Column, columns, intervals
from glmops.promote.faults import (
    beat_faults,
    check_faults,
    lacking_rows,
    slice_rule_faults,
)

# What a verdict is made of and shown by, so that callers need one name.
from glmops.promote.verdict import Against as Against
from glmops.promote.verdict import Check as Check
from glmops.promote.verdict import Outcome as Outcome
from glmops.promote.verdict import Verdict as Verdict
from glmops.promote.verdict import show as show
from glmops.promote.verdict import verdict_from_json as verdict_from_json
from glmops.recipe import Promote
from glmops.recipe.promote import SliceRule
from glmops.records import BaselineScore, Score, Slice

Columns = Mapping[str, Column]


class Judged(NamedTuple):
    """What broke a rule, and what too few rows keep from being told, in sentences."""

    refused: list[str]
    short: list[str]


def decide(
    candidate: Sequence[Score],
    champion: Sequence[Score] | None,
    rules: Promote,
    *,
    same_test: bool,
    baselines: Sequence[BaselineScore] = (),
    slices: Sequence[Slice] = (),
) -> Verdict:
    """Judge a candidate's scores by the rules, and against the champion where one stands.

    Args:
        champion: The champion's scores, or None when there is none: no rule then asks for it.
        same_test: Whether both are scores of the same test rows by the same metrics (equal
            hashes). If not, nothing is compared, and a rule that asks for it refuses.
        baselines: What the candidate's evaluation measured beside it.
        slices: Which parts of the test set its rows belong to.
    Raises:
        InputError: A row carries one metric twice.
    """
    mine = columns(candidate)
    theirs = columns(champion) if champion is not None and same_test else None
    against = _against(mine, baselines)
    checks, whole = _whole(mine, theirs, against, rules, slices)
    parts, sliced = _sliced(mine, theirs, rules, slices)
    refused, short = whole.refused + sliced.refused, whole.short + sliced.short
    if champion is not None and not same_test and (compared := compares(rules)):
        refused.append(
            "the champion was scored on another test set, or by other versions of the metrics (the "
            f"hashes differ), so nothing can be compared on {', '.join(compared)}"
        )
    outcome: Outcome = "refused" if refused else "too few rows" if short else "passed"
    reasons = tuple(dict.fromkeys((*refused, *short)))
    asked = [
        replace(each, ok=not beat_faults(each.metric, math.nan, each.baseline, each))
        if rules.beats.get(each.metric) == each.baseline
        else each
        for each in against
    ]
    return Verdict(outcome == "passed", outcome, reasons, tuple(checks), tuple(asked), tuple(parts))


def compares(rules: Promote) -> tuple[str, ...]:
    """The metrics on which a rule asks for the champion's scores."""
    by_slice = [
        metric
        for metric, each in rules.slices.items()
        if any(rule.max_regression is not None for rule in each)
    ]
    return tuple(dict.fromkeys((*rules.max_regression, *by_slice)))


def _whole(
    mine: Columns,
    theirs: Columns | None,
    against: Sequence[Against],
    rules: Promote,
    slices: Sequence[Slice],
) -> tuple[list[Check], Judged]:
    """Every metric over all rows: those with a rule first, then the rest, which no rule judges."""
    found = {(each.metric, each.baseline): each for each in against}
    blank = [
        Check(
            metric, math.nan, math.nan, math.nan, 0,
            rules.floors.get(metric), rules.max_regression.get(metric),
        )
        for metric in dict.fromkeys((*rules.metrics, *mine))
    ]  # fmt: skip
    checks, judged = [], Judged([], [])
    for check in _measured([(check, mine.get(check.metric)) for check in blank], theirs):
        metric = check.metric
        if metric not in rules.metrics:
            checks.append(check)
            continue
        short = lacking_rows(metric, mine, slices, rules.min_rows)
        faults = []
        if not short:
            faults = check_faults(check, metric in mine, compare=theirs is not None)
            if metric in mine and (baseline := rules.beats.get(metric)):
                faults += beat_faults(metric, check.value, baseline, found.get((metric, baseline)))
        checks.append(replace(check, ok=not short and not faults))
        judged.refused.extend(faults)
        judged.short.extend(short)
    return checks, judged


def _sliced(
    mine: Columns, theirs: Columns | None, rules: Promote, slices: Sequence[Slice]
) -> tuple[list[Check], Judged]:
    """Every slice that a rule asks about. Slices of too few rows are shown and not judged; where
    that is all of them, the rule as a whole has too few rows."""
    checks, judged = [], Judged([], [])
    for metric, asked in rules.slices.items():
        for rule in asked:
            parts = _parts(mine.get(metric), rule.by, slices)
            if faults := slice_rule_faults(metric, rule.by, metric in mine, len(parts)):
                judged.refused.extend(faults)
                continue
            blank = [(_blank(metric, rule, part), column) for part, column in parts.items()]
            some = False
            for check in _measured(blank, theirs):
                if check.rows < rule.min_rows:
                    checks.append(check)
                    continue
                some = True
                faults = check_faults(check, True, compare=theirs is not None)
                checks.append(replace(check, ok=not faults))
                judged.refused.extend(faults)
            if not some:
                few = f"no slice has {rule.min_rows} test rows: too few to tell"
                judged.short.append(f"{metric} by {rule.by}: {few}")
    return checks, judged


def _blank(metric: str, rule: SliceRule, part: str) -> Check:
    return Check(
        metric, math.nan, math.nan, math.nan, 0, rule.floor, rule.max_regression,
        by=rule.by, part=part, min_rows=rule.min_rows,
    )  # fmt: skip


def _parts(column: Column | None, by: str, slices: Sequence[Slice]) -> dict[str, Column]:
    """Slice → a metric's rows in it, in the order of the slices' names; ranges by their numbers."""
    if column is None:
        return {}
    own, ids = set(column.ids), dict[str, set[str]]()
    for each in slices:
        if each.by == by and each.id in own:
            ids.setdefault(each.value, set()).add(each.id)
    return {part: column.only(ids[part]) for part in sorted(ids, key=_in_order)}


def _in_order(part: str) -> tuple[int, str]:
    start = part.partition("-")[0]
    return (int(start) if start.isdecimal() else 0, part)


def _measured(blank: Sequence[tuple[Check, Column | None]], theirs: Columns | None) -> list[Check]:
    """The checks with their numbers: value, interval, and the difference to the champion."""
    mine = [(check, column) for check, column in blank if column is not None]
    pairs = [_common(column, (theirs or {}).get(check.metric)) for check, column in mine]
    values, differences = intervals([c for _, c in mine], [pair for pair in pairs if pair])
    left, found = iter(differences), dict[int, Check]()
    for (check, column), (low, high), pair in zip(mine, values, pairs, strict=True):
        numbers = replace(check, value=column.value(), low=low, high=high, rows=len(column.ids))
        if pair and theirs is not None:
            a, b = pair
            low, high = next(left)
            whole = theirs[check.metric]
            numbers = replace(
                numbers,
                champion=(whole if check.by is None else b).value(),
                difference=a.value() - b.value(),
                difference_low=low,
                difference_high=high,
            )
        found[id(check)] = numbers
    return [found.get(id(check), check) for check, _ in blank]


def _against(mine: Columns, baselines: Sequence[BaselineScore]) -> list[Against]:
    """Every metric of every baseline, beside the candidate's on the rows that both have."""
    rows: dict[str, list[Score]] = {}
    for each in baselines:
        score = Score(each.id, each.task, each.metric, each.numerator, each.denominator)
        rows.setdefault(each.baseline, []).append(score)
    scored = [
        (baseline, metric, column)
        for baseline, scores in rows.items()
        for metric, column in columns(scores).items()
    ]
    pairs = [_common(mine.get(metric), column) for _, metric, column in scored]
    values, differences = intervals([c for _, _, c in scored], [pair for pair in pairs if pair])
    left, found = iter(differences), []
    for (baseline, metric, column), (low, high), pair in zip(scored, values, pairs, strict=True):
        against = Against(metric, baseline, column.value(), low, high, len(column.ids))
        if pair:
            low, high = next(left)
            gain = pair[0].value() - pair[1].value()
            against = replace(against, difference=gain, difference_low=low, difference_high=high)
        found.append(against)
    return found


def _common(mine: Column | None, theirs: Column | None) -> tuple[Column, Column] | None:
    """Both metrics on the rows that both have; None without such a row."""
    if mine is None or theirs is None:
        return None
    if mine.ids == theirs.ids:
        return mine, theirs
    ids = set(mine.ids) & set(theirs.ids)
    return (mine.only(ids), theirs.only(ids)) if ids else None
