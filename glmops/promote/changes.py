"""Where a candidate and another model differ, row by row: what was lost, and what was gained."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from glmops.promote.evaluated import UNMARKED, Evaluated, Mark, common_rows

SHOWN_CHARACTERS = 700
HAIR = 1e-9
"""Two qualities nearer than this are the same."""


class Change(NamedTuple):
    """One row: what both said, and how right each was."""

    row: Mapping[str, Any]
    mine: Mark
    theirs: Mark
    answers: tuple[Mapping[str, Any], Mapping[str, Any]]
    """Mine, theirs."""

    @property
    def gain(self) -> float:
        return self.mine.quality - self.theirs.quality


class Tally(NamedTuple):
    """How many rows of a task became better, worse, or stayed as right as they were."""

    task: str
    better: int
    worse: int
    same: int

    @property
    def rows(self) -> int:
        return self.better + self.worse + self.same


def changes(mine: Evaluated, theirs: Evaluated) -> list[Change]:
    """Every row that both were asked and scored on, in the order of the test set."""
    common = common_rows(mine, theirs)
    ours, others = mine.marks(), theirs.marks()
    return [
        Change(row, ours[id], others[id], (row, theirs.answers[id]))
        for id, row in mine.answers.items()
        if id in common and id in ours and id in others
    ]


def tallies(changed: Iterable[Change]) -> list[Tally]:
    counts: dict[str, Counter[str]] = {}
    for change in changed:
        word = "better" if change.gain > HAIR else "worse" if change.gain < -HAIR else "same"
        counts.setdefault(change.row["task"], Counter())[word] += 1
    return [Tally(task, c["better"], c["worse"], c["same"]) for task, c in counts.items()]


def extremes(changed: Sequence[Change], most: int) -> tuple[list[Change], list[Change]]:
    """(worst regressions, best gains), up to ``most`` of each.

    Rows that lost equally much are drawn with a fixed seed, so that one class does not fill the
    list because its rows stand first.
    """
    mixed = random.Random(0).sample(changed, len(changed))
    worst = sorted((c for c in mixed if c.gain < -HAIR), key=lambda change: change.gain)
    best = sorted((c for c in mixed if c.gain > HAIR), key=lambda change: -change.gain)
    return worst[:most], best[:most]


def sample(answers: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """Up to ``most`` answers, drawn with a fixed seed, in their order in the test set."""
    chosen = random.Random(0).sample(range(len(answers)), min(most, len(answers)))
    return [answers[i] for i in sorted(chosen)]


def weakest(
    wrong: Sequence[Mapping[str, Any]], marks: Mapping[str, Mark], most: int
) -> list[Mapping[str, Any]]:
    """Up to ``most`` of the rows without full marks: as many of each task as there are.

    Hardly a generated text is word for word the expected one, so of those only the tenth that is
    furthest from it is drawn from.
    """
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for row in wrong:
        by_task.setdefault(row["task"], []).append(row)
    if texts := by_task.get("generation"):
        ranked = sorted(texts, key=lambda row: mark_of(marks, row).quality)
        by_task["generation"] = ranked[: max(most, len(texts) // 10)]
    drawn = {task: random.Random(0).sample(rows, len(rows)) for task, rows in by_task.items()}
    turns = max(map(len, drawn.values()), default=0)
    dealt = [rows[turn] for turn in range(turns) for rows in drawn.values() if turn < len(rows)]
    return sorted(dealt[:most], key=lambda row: list(by_task).index(row["task"]))


def mark_of(marks: Mapping[str, Mark], row: Mapping[str, Any]) -> Mark:
    return marks.get(row["id"], UNMARKED)


def shorten(text: str) -> str:
    """What a page shows of a text: its start, and how much more there is."""
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}… ({len(text) - SHOWN_CHARACTERS} more characters)"
