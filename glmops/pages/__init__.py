"""HTML pages that ask the network for nothing: one style, one way to draw, equal bytes every time.

The candidate's report and the data card are such pages. A template finds the style under ``style``;
what rows hold is escaped by the template engine, and a figure is SVG inside the page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Stand-ins that matplotlib can draw with; the page's own colours take their place, so that a figure
# is right in the dark, too.
INK, FIRST, SECOND, FAINT = "#010101", "#020202", "#030303", "#040404"
COLOURS = {
    INK: "var(--muted)",
    FIRST: "var(--accent)",
    SECOND: "var(--second)",
    FAINT: "var(--line)",
}
_STYLE = Path(__file__).parent / "style.css"


def page(template: Path, filters: Mapping[str, Any], **values: Any) -> str:
    """A page as text, from a Jinja template file and what it shows."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    style = _STYLE.read_text(encoding="utf-8")
    return environment.get_template(template.name).render(style=style, **values)


@contextmanager
def drawing() -> Iterator[None]:
    """Figures drawn and saved in here have text as text, and the same names in every run."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "glmops", "font.size": 9}):
        yield


def plain_axes(figure: Any, x: str, y: str) -> Any:
    """Axes in the colours of the page, with two labels."""
    axes = figure.add_axes((0.1, 0.19, 0.88, 0.77))  # a tight layout would draw it all twice
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.tick_params(colors=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    return axes


def svg_of(figure: Any) -> str:
    """A figure without its XML head and its fixed size; with the page's colours and font."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for the whole page
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"font-family: [^;\"]+(;|(?=\"))", "", svg)
    for stand_in, colour in COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return svg
