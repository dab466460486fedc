"""FORMATS: what each raw format is made of. A new format is an entry here, and its reader.

Light to import: the readers (``reading``) load polars, this page loads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from glmops.errors import RecipeError, lookup
from glmops.recipe.prepare import OWN_TEMPLATES

JSON = (".jsonl", ".json")
SEPARATED = (".csv", ".tsv", ".tab", ".txt")


@dataclass(frozen=True, slots=True)
class Layout:
    """One raw format.

    ``fields`` may hold text; those in ``optional`` may also be absent. ``key`` is the field that
    names a row, if the format has one. ``allowed`` lists the only values that a field may have.
    """

    kind: Literal["lines", "objects", "turns", "csv", "table"]
    fields: tuple[str, ...]
    suffixes: tuple[str, ...]
    optional: tuple[str, ...] = ()
    history: bool = False
    key: str | None = None
    allowed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(name for name in self.fields if name not in self.optional)


FORMATS: dict[str, Layout] = {
    "toutiao": Layout(
        "lines", ("id", "code", "category", "title", "keywords"), (".txt",), key="id"
    ),
    "adgen": Layout("objects", ("content", "summary"), JSON),
    "alpaca": Layout(
        "objects", ("instruction", "input", "output"), JSON, optional=("input",), history=True
    ),
    "paper": Layout(
        "csv",
        ("uuid", "title", "author", "abstract", "keywords", "label"),
        (".csv",),
        optional=("keywords", "label"),
        key="uuid",
        allowed={"label": ("0", "1")},
    ),
    "context-target": Layout("objects", ("context", "target"), JSON),
    "conversations": Layout("turns", ("instruction", "input", "output"), JSON, history=True),
    # Its fields are those that the recipe maps.
    "table": Layout("table", (), (*SEPARATED, *JSON, ".parquet")),
}

# Toutiao's fifteen categories: a row that gives one of these codes another one's name is not what
# it says. (105 and 111 do not occur.)
CATEGORIES = {
    "100": "news_story",
    "101": "news_culture",
    "102": "news_entertainment",
    "103": "news_sports",
    "104": "news_finance",
    "106": "news_house",
    "107": "news_car",
    "108": "news_edu",
    "109": "news_tech",
    "110": "news_military",
    "112": "news_travel",
    "113": "news_world",
    "114": "stock",
    "115": "news_agriculture",
    "116": "news_game",
}


def own_template(format: str, fields: tuple[str, ...]) -> str:
    """The template that rows of a format are read with when none is named.

    Args:
        fields: What the file has: papers without a label are asked for their keywords.
    """
    lookup(FORMATS, format, "format")
    if format == "table":
        raise RecipeError(
            "format table",
            "a table has no prompt of its own",
            do="Name a template (`template:` in the recipe, `--template` on the command line).",
        )
    if format == "paper" and "label" not in fields and "keywords" in fields:
        return "paper-keywords"
    return OWN_TEMPLATES[format]
