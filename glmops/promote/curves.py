"""What training looked like, as inline SVG: loss, learning rate and speed of each phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glmops.pages import FAINT, FIRST, INK, SECOND, drawing, plain_axes, svg_of

Row = Mapping[str, str]


def training_curves(history: Sequence[Row], progress: Sequence[Row]) -> list[tuple[str, str]]:
    """(title, SVG) in the order of training.

    Args:
        history: Rows of history.csv: phase, step, loss, learning_rate and, at some steps, dev_loss.
        progress: Rows of progress.csv: phase, step, tokens_per_second.
    """
    figures = []
    for phase in dict.fromkeys(row["phase"] for row in history):
        mine = [row for row in history if row["phase"] == phase]
        ran = [row for row in progress if row["phase"] == phase]
        for name, rows, columns in (
            ("loss", mine, {"loss": "train", "dev_loss": "dev"}),
            ("learning rate", mine, {"learning_rate": ""}),
            ("tokens per second", ran, {"tokens_per_second": ""}),
        ):
            if any(row.get(column) for row in rows for column in columns):
                figures.append((f"{phase}: {name}", _curve(rows, columns)))
    return figures


def _curve(rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    """One figure; each column by step, under its label."""
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(5.2, 2.6))
        axes = plain_axes(figure, "step", "")  # the caption names it
        styles = ((FIRST, ""), (SECOND, "o"))
        for (column, label), (colour, marker) in zip(columns.items(), styles, strict=False):
            points = [(int(r["step"]), float(r[column])) for r in rows if r.get(column)]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    color=colour, label=label, marker=marker, markersize=3.5, linewidth=1.4,
                )  # fmt: skip
        axes.grid(color=FAINT, linewidth=0.6)
        if any(columns.values()):
            axes.legend(frameon=False, labelcolor=INK)
        else:
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter("{x:,g}")
        return svg_of(figure)
