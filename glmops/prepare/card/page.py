"""The card as one HTML page, from its numbers alone. Equal numbers give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmops.pages import FIRST, INK, SECOND, drawing, page, plain_axes, svg_of
from glmops.prepare.card.concerns import share
from glmops.prepare.card.scripts import CLASSES, LETTERS, NONE
from glmops.prepare.card.shown import visible

TEMPLATE = Path(__file__).parent / "card.html.j2"
MOST_LABELS = 40
PARTS = {"prompt": "Prompts", "target": "Answers"}


def card_page(card: Mapping[str, Any], *, docs: bool = False) -> str:
    """The page, as text.

    Args:
        card: What ``numbers.card_of`` gave.
        docs: Whether the Data Docs lie beside the page.
    """
    return page(
        TEMPLATE,
        {"n": lambda count: f"{count:,}", "visible": visible, "share": share},
        card=card,
        docs=docs,
        levels=[c["level"] for c in card["concerns"]],
        labels=label_bars(card["labels"]),
        histograms=[(title, card["lengths"][part], _figure(card["lengths"][part], title))
                    for part, title in PARTS.items() if card["lengths"]],
        scripts=[
            (kind, {name: counts[name] for name in CLASSES if name in counts})
            for kind, counts in card["characters"].items()
        ],
        mains=[(name, card["main_scripts"].get(name, 0)) for name in (*LETTERS, NONE)],
    )  # fmt: skip


def label_bars(labels: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """The labels by falling number of rows, each with its rows and its share (0–1) of each side.

    Bars are drawn relative to ``largest``, the largest of these shares.
    """
    sides = [side for side, counts in labels.items() if counts]
    totals = {side: sum(labels[side].values()) for side in sides}
    names = {label for side in sides for label in labels[side]}
    ranked = sorted(names, key=lambda name: (-sum(labels[s].get(name, 0) for s in sides), name))
    rows: list[dict[str, Any]] = [
        {
            "label": name,
            "sides": [
                (side, labels[side].get(name, 0), labels[side].get(name, 0) / totals[side])
                for side in sides
            ],
        }
        for name in ranked
    ]
    largest = max((part for row in rows for _, _, part in row["sides"]), default=1.0)
    return {
        "sides": sides,
        "totals": totals,
        "rows": rows[:MOST_LABELS],
        "more": rows[MOST_LABELS:],
        "largest": largest,
    }


def _figure(lengths: Mapping[str, Any], title: str) -> str | None:
    """The histogram with its percentiles; None where all rows have one length."""
    if lengths["min"] == lengths["max"]:
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    bins = lengths["histogram"]
    width, rows = bins["width"], bins["rows"]
    edges = [bins["start"] - 0.5 + width * place for place in range(len(rows))]
    with drawing():
        figure = Figure(figsize=(5.2, 2.6))
        axes = plain_axes(figure, "characters", "")
        axes.bar(edges, rows, width=0.92 * width, align="edge", color=FIRST)
        middle, top = (edges[0] + edges[-1]) / 2, max(rows)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(0, 1.3 * top)
        for place, name in enumerate(("p50", "p90", "p99")):
            at = lengths[name]
            axes.axvline(at, color=SECOND, linewidth=1, linestyle=":")
            side = "right" if at > middle else "left"
            said = f" {name} = {lengths[name]} "
            axes.text(at, top * (1.28 - 0.1 * place), said, color=INK, ha=side, va="top")
        return svg_of(figure)
