"""Loss curves as inline SVG in the colours of the page, so that they are right in the dark too."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence

# Stand-ins that matplotlib can draw with; the page's own colours take their place.
INK, TRAIN, DEV, FAINT = "#010101", "#020202", "#030303", "#040404"
COLOURS = {INK: "var(--muted)", TRAIN: "var(--accent)", DEV: "var(--second)", FAINT: "var(--line)"}


def loss_curves(history: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """(phase, SVG) in the order of training.

    Args:
        history: Rows of history.csv: phase, step, loss and, at some steps, dev_loss.
    """
    phases = dict.fromkeys(row["phase"] for row in history)
    return [(phase, _curve([r for r in history if r["phase"] == phase])) for phase in phases]


def _curve(rows: Sequence[Mapping[str, str]]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "glmops", "font.size": 9}):
        figure = Figure(figsize=(5.2, 2.6))
        axes = figure.add_axes((0.1, 0.19, 0.88, 0.77))  # a tight layout would draw it all twice
        for column, colour, marker in (("loss", TRAIN, ""), ("dev_loss", DEV, "o")):
            points = [(int(r["step"]), float(r[column])) for r in rows if r.get(column)]
            if points:
                label = "train" if column == "loss" else "dev"
                axes.plot(
                    *zip(*points, strict=True),
                    color=colour, label=label, marker=marker, markersize=3.5, linewidth=1.4,
                )  # fmt: skip
        axes.set_xlabel("step", color=INK)
        axes.set_ylabel("loss", color=INK)
        axes.tick_params(colors=INK, length=3)
        axes.grid(color=FAINT, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.legend(frameon=False, labelcolor=INK)
        out = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    return _for_the_page(out.getvalue())


def _for_the_page(svg: str) -> str:
    """Without its XML head and its fixed size; with the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for the whole page
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"font-family: [^;\"]+(;|(?=\"))", "", svg)
    for stand_in, colour in COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return svg
