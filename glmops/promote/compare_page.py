"""A comparison for people: a table for the terminal, and a page in the look of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from glmops.pages import page
from glmops.promote.changes import Tally, changes, extremes, tallies
from glmops.promote.compare import BETTER, UNCLEAR, WORSE, Cell, Comparison, Line
from glmops.promote.evaluated import Evaluated
from glmops.promote.numbers import reach_of
from glmops.promote.report import FILTERS, side_by_side, signed
from glmops.promote.verdict import show

TEMPLATE = "compare.html.j2"
CHANGES = 6
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
COLOURS = {BETTER: "green", WORSE: "red"}


def render(found: Comparison) -> str:
    """The page, as text; it asks the network for nothing."""
    tasks: dict[str, list[tuple[Line, float]]] = {}
    for line in found.lines:
        tasks.setdefault(line.metric.partition("/")[0], []).append((line, _reach(line)))
    first = found.models[0]
    return page(
        Path(__file__).parent / TEMPLATE,
        FILTERS,
        found=found,
        names=[model.name for model in found.models],
        tasks=tasks,
        pairs=[_pair(first, other) for other in found.models[1:] if first.speaks and other.speaks],
    )


def table(found: Comparison) -> RenderableType:
    """One table for each task: a metric's models below each other, each with its lead over A."""
    keys = [
        f"[bold]{letter}[/bold]  {escape(model.name)}"
        for letter, model in zip(LETTERS, found.models, strict=False)
    ]
    notes = [f"[yellow]note[/yellow]  {escape(note)}" for note in found.notes]
    tasks: dict[str, list[Line]] = {}
    for line in found.lines:
        tasks.setdefault(line.metric.partition("/")[0], []).append(line)
    last = (
        "[dim]Differences are from A on the same rows, with 95 % intervals. Better, worse: the "
        "interval lies on one side of 0. ↓: less is better.[/dim]"
    )
    return Group(*keys, *notes, *(_of_task(task, lines) for task, lines in tasks.items()), last)


def _of_task(task: str, lines: Sequence[Line]) -> Table:
    title = f"{task}, {max(line.rows for line in lines):,} rows"
    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("metric", "", "value", "difference", ""):
        made.add_column(heading, justify="right" if heading in ("value", "difference") else "left")
    for line in lines:
        for number, cell in enumerate(line.cells):
            name = f"{escape(line.metric.partition('/')[2])}{' ↓' if line.smaller else ''}"
            made.add_row("" if number else name, LETTERS[number], *_shown(cell))
    return made


def _shown(cell: Cell | None) -> tuple[str, str, str]:
    if cell is None:
        return "–", "", ""
    if cell.difference is None:
        return show(cell.value.value), "", ""
    value, low, high = (signed(number) for number in cell.difference)
    colour = COLOURS.get(cell.says, "dim")
    says = "unclear" if cell.says == UNCLEAR else cell.says
    difference = f"[{colour}]{value} ({low} to {high})[/{colour}]"
    return show(cell.value.value), difference, f"[{colour}]{says}[/{colour}]"


def _reach(line: Line) -> float:
    ends = [e for cell in line.cells if cell and cell.difference for e in cell.difference[1:]]
    return reach_of([end for end in ends if math.isfinite(end)], line.top)


def _pair(first: Evaluated, other: Evaluated) -> dict[str, Any]:
    changed = changes(other, first)
    worst, best = extremes(changed, CHANGES)
    counted: list[Tally] = tallies(changed)
    return {
        "first": first.name,
        "other": other.name,
        "tallies": counted,
        "worst": [side_by_side(change) for change in worst],
        "best": [side_by_side(change) for change in best],
    }
