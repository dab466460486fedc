"""The candidate's report: one HTML page that asks the network for nothing.

It is for the person who has to say yes or no, so the verdict and what fell short come first. Equal
inputs give an equal page: it holds no time and no host.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glmops.pages import page
from glmops.promote.changes import (
    Change,
    changes,
    extremes,
    mark_of,
    sample,
    shorten,
    tallies,
    weakest,
)
from glmops.promote.confusion import confusion
from glmops.promote.curves import training_curves
from glmops.promote.evaluated import (
    Evaluated,
    Mark,
    common_rows,
    read_evaluated,
)
from glmops.promote.numbers import also_measured, reach_of, task_tables
from glmops.promote.package import Package
from glmops.promote.runs import flatten
from glmops.promote.slices import Parts, slice_tables
from glmops.promote.verdict import Verdict, show
from glmops.storage import Layout, read_json

TEMPLATE = "report.html.j2"
EXAMPLES = 8
CHANGES = 6
HEADLINES = {
    "passed": "Passed: every rule of the gate holds.",
    "refused": "Refused: the gate's rules are not met.",
    "too few rows": "Too few rows: the gate cannot tell.",
}


def render(
    layout: Layout,
    package: Package,
    verdict: Verdict,
    champion: str | None,
    history: Sequence[Mapping[str, str]],
    progress: Sequence[Mapping[str, str]] = (),
    champion_evaluation: Path | None = None,
) -> str:
    """The page, as text.

    Args:
        history: Rows of history.csv, and ``progress`` of progress.csv.
        champion_evaluation: The folder of the champion's answers and scores; without it the page
            has the champion's numbers, and no rows side by side.
    """
    evaluated = layout.reports("evaluate")
    mine = read_evaluated(evaluated, package.digest[:12])
    theirs = None
    if champion and champion_evaluation:
        theirs = read_evaluated(champion_evaluation, champion[:12])
    prepared = layout.reports("prepare") / "metrics.json"
    common = common_rows(mine, theirs) if theirs else set()
    slices = slice_tables(mine, theirs, common, verdict.slices)
    return page(
        Path(__file__).parent / TEMPLATE,
        FILTERS,
        manifest=package.manifest,
        digest=package.digest,
        verdict=verdict,
        headline=HEADLINES[verdict.outcome],
        champion=champion,
        tables=task_tables(verdict),
        also=also_measured(package.manifest["scorecard"], verdict),
        slices=[(table, _reach(table)) for table in slices],
        calibration=calibration(evaluated / "calibration.csv"),
        confusion=confusion(evaluated / "confusion.csv"),
        **_changed(mine, theirs),
        **_answers(mine),
        curves=training_curves(history, progress),
        data=list(flatten(read_json(prepared) if prepared.is_file() else {}, joint=" › ")),
        card=card_summary(layout),
        pages=data_pages(layout),
        base=list(flatten(package.manifest["base"])),
        overrides=list(flatten(package.manifest["overrides"])),
        settings=list(flatten(package.manifest["sections"])),
    )


def card_summary(layout: Layout) -> dict[str, Any] | None:
    """What the data card says first: its key numbers and its concerns; None without a card."""
    file = layout.reports("prepare") / "card.json"
    if not file.is_file():
        return None
    card = read_json(file)
    numbers = {
        "rows read": card["rows"]["read"],
        "refused": card["rows"]["refused"],
        "exact repeats": card["duplicates"]["exact"]["rows"],
        "near copies": card["duplicates"]["near"]["texts"],
        "texts under several labels": card["conflicts"]["texts"],
        "leaks": card["leaks"]["text"] + card["leaks"]["near"],
    }
    return {"numbers": numbers, "concerns": [c for c in card["concerns"] if c["level"] != "note"]}


def data_pages(layout: Layout) -> list[tuple[str, str, str]]:
    """(title, address, place) of the pages about the data, as far as they are there.

    The address is relative to the report where it lies; a copy of the report elsewhere, such as the
    one in MLflow, does not have the pages beside it, so the place is named in words, too.
    """
    pages = (("Data card", "card.html"), ("Data Docs", "data_docs/index.html"))
    return [
        (title, f"../prepare/{name}", f"reports/{layout.name}/prepare/{name}")
        for title, name in pages
        if (layout.reports("prepare") / name).is_file()
    ]


def calibration(path: Path) -> list[dict[str, float]]:
    """The filled bins of calibration.csv; none where nothing was scored by likelihood."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    bins = [{name: float(row[name]) for name in ("confidence", "accuracy", "rows")} for row in rows]
    return [each for each in bins if each["rows"]]


def at(value: float | None, top: float) -> float:
    """Where a value lies on a scale from 0 to ``top``, as a percentage of its length."""
    share = 100 * value / top if value is not None and value == value and top else 0.0
    return round(min(100.0, max(0.0, share)), 2)


def around(value: float | None, reach: float) -> float:
    """Where a difference lies on a scale from ``-reach`` to ``reach``."""
    return at(None if value is None else value + reach, 2 * reach)


def signed(value: float | None) -> str:
    """A difference, with its sign: +0.0100, −0.0100."""
    text = show(value)
    if value is None or text == "–":
        return text
    return f"+{text}" if value > 0 else text.replace("-", "−")


def side_by_side(change: Change) -> dict[str, Any]:
    """One row for the template: what both said, and how right each was."""
    ours, others = change.answers
    return {
        **_example(ours, change.mine),
        "theirs": shorten(others["answer"]),
        "theirs_mark": change.theirs,
        "theirs_finished": others["finished"],
    }


FILTERS = {"show": show, "at": at, "around": around, "signed": signed}


def _reach(table: Parts) -> float:
    ends = [e for part in table.parts if part.difference for e in part.difference[1:]]
    return reach_of(ends, table.top)


def _changed(mine: Evaluated, theirs: Evaluated | None) -> dict[str, Any]:
    """What the page shows of rows that the champion answered, too."""
    if theirs is None:
        return {"tallies": [], "worst": [], "best": [], "compared": False}
    changed = changes(mine, theirs)
    worst, best = extremes(changed, CHANGES)
    return {
        "tallies": tallies(changed),
        "worst": [side_by_side(change) for change in worst],
        "best": [side_by_side(change) for change in best],
        "compared": True,
    }


def _answers(mine: Evaluated) -> dict[str, Any]:
    marks, rows = mine.marks(), list(mine.answers.values())
    wrong = [row for row in rows if not mark_of(marks, row).right]
    return {
        "wrong": [_example(row, mark_of(marks, row)) for row in weakest(wrong, marks, EXAMPLES)],
        "wrong_rows": len(wrong),
        "some": [_example(row, mark_of(marks, row)) for row in sample(rows, EXAMPLES)],
    }


def _example(row: Mapping[str, Any], mark: Mark) -> dict[str, Any]:
    return {
        "task": row["task"],
        "id": row["id"],
        "mark": mark,
        "finished": row["finished"],
        **{key: shorten(row[key]) for key in ("prompt", "target", "answer")},
    }
