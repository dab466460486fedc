"""A bake-off as one HTML page that asks the network for nothing."""

from __future__ import annotations

import os
from pathlib import Path

from glmops.pages import FAINT, FIRST, INK, SECOND, drawing, page, plain_axes, svg_of
from glmops.promote.bakeoff.choice import COSTS, frontier
from glmops.promote.bakeoff.methods import Method
from glmops.promote.bakeoff.result import Bakeoff
from glmops.promote.bakeoff.shown import gate_cell
from glmops.promote.bakeoff.trials import Trial
from glmops.promote.bakeoff.units import duration, number, size
from glmops.promote.gate import show

TEMPLATE = "page.html.j2"
AXES = {
    "seconds": ("training time, seconds", 1.0),
    "memory": ("peak memory while training, GB", 1e9),
}
"""Cost → the words on its axis, and what of it is one there."""


def render(result: Bakeoff, root: Path, place: Path) -> str:
    """The page, as text.

    Args:
        root: The project, from which the folders of the runs are named.
        place: The folder that the page will lie in: links start there.
    """
    return page(
        Path(__file__).parent / TEMPLATE,
        {
            "show": show,
            "duration": duration,
            "size": size,
            "number": number,
            "gate": gate_cell,
        },
        result=result,
        figures=figures(result),
        seeds=sorted({t.seed for method in result.methods for t in method.trials}),
        reports={
            trial.folder: _report(trial, result.recipe, root, place) for trial in _all(result)
        },
    )


def figures(result: Bakeoff) -> list[tuple[str, str]]:
    """(title, SVG) for each deciding metric against time and memory, where both are known."""
    found = []
    for metric in result.metrics:
        for cost in AXES:
            known = [m for m in result.methods if m.has(metric) and COSTS[cost](m)]
            if known:
                title = f"{metric} against {AXES[cost][0].partition(',')[0]}"
                front = frontier(result.methods, metric, cost)
                found.append((title, _pareto(known, metric, cost, front)))
    return found


def _pareto(methods: list[Method], metric: str, cost: str, front: list[str]) -> str:
    """A point with its interval for each method; those of the frontier filled and joined."""
    from matplotlib.figure import Figure

    words, one = AXES[cost]
    places = {m.name: ((COSTS[cost](m) or 0.0) / one, m.quality[metric]) for m in methods}
    with drawing():
        figure = Figure(figsize=(5.2, 3.0))
        axes = plain_axes(figure, words, metric)
        joined = sorted(
            (x, quality.value) for name, (x, quality) in places.items() if name in front
        )
        axes.plot(*zip(*joined, strict=True), color=FIRST, linewidth=1.2, drawstyle="steps-post")
        for number, name in enumerate(sorted(places, key=lambda name: places[name][0])):
            x, quality = places[name]
            colour, on_it = (FIRST, True) if name in front else (SECOND, False)
            axes.plot([x, x], [quality.low, quality.high], color=colour, linewidth=1.2)
            axes.plot(
                [x], [quality.value], marker="o", markersize=6, linestyle="",
                color=colour, markerfacecolor=colour if on_it else "none",
            )  # fmt: skip
            # Neighbours that are close have their names on different sides.
            where = (7, -11 if number % 2 else 5)
            axes.annotate(
                name, (x, quality.value), where, textcoords="offset points", color=INK, fontsize=9
            )
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_xlim(*_around([x for x, _ in places.values()]))
        return svg_of(figure)


def _around(costs: list[float]) -> tuple[float, float]:
    """Both ends of an axis, with room for the names; from 0 where that leaves the points apart."""
    span = max(costs) - min(costs)
    low = min(costs) - span / 2
    return (0.0, 1.2 * max(costs)) if low <= 0 or not span else (low, max(costs) + span / 2)


def _all(result: Bakeoff) -> list[Trial]:
    return [trial for method in result.methods for trial in method.trials]


def _report(trial: Trial, recipe: str, root: Path, place: Path) -> str | None:
    """The address of a run's own report, relative to the page; None where there is none."""
    file = root / trial.folder / "reports" / recipe / "promote" / "report.html"
    return Path(os.path.relpath(file, place)).as_posix() if file.is_file() else None
