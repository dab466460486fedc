"""The prepare section of a recipe: one way to name the rows, everything else with a default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glmops.errors import RecipeError
from glmops.prepare.formats import FORMATS, own_template
from glmops.recipe import Prepare, load_recipe, parse
from glmops.recipe.prepare import OWN_TEMPLATES, Format
from glmops.templates import TEMPLATES

ROOT = Path(__file__).parents[2]
NEEDED: dict[str, Any] = {
    "tasks": ["classification"],
    "split": {"dev": 0.1, "test": 0.1, "seed": 1},
    "max_refused": {"rows": 0, "share": 0},
}
MAPPED = {
    "format": "table",
    "columns": {"title": 1, "category": 2},
    "template": "headline-category",
}


def section(**values: Any) -> Prepare:
    return parse(Prepare, {**NEEDED, **values}, "prepare")


def test_the_demo_recipe_says_nothing_new() -> None:
    prepare = load_recipe(ROOT, "demo").prepare
    (source,) = prepare.all_sources
    assert (source.format, source.template, source.encoding) == ("context-target", None, "auto")
    assert prepare.templates == ("context-target",)
    assert (prepare.conflicts, prepare.placeholders, prepare.labels) == ("refuse", "keep", None)


def test_one_format_is_one_source_and_sources_keep_their_order() -> None:
    (source,) = section(**MAPPED, encoding="gb18030").all_sources
    assert (source.columns, source.encoding) == ({"title": 1, "category": 2}, "gb18030")
    several = section(
        encoding="gb18030",
        sources=[
            {"format": "toutiao", "files": "news/*.txt", "weight": 2},
            {"format": "toutiao", "template": "headline-keywords", "encoding": "utf-8"},
        ],
    )
    assert [source.encoding for source in several.all_sources] == ["gb18030", "utf-8"]
    assert several.templates == ("headline-category", "headline-keywords")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "give either format or sources"),
        ({"format": "adgen", "sources": [{"format": "adgen"}]}, "give either format or sources"),
        ({"sources": [{"format": "adgen"}], "template": "ad-text"}, "belong into each of the"),
        ({"format": "table"}, "the format table needs columns (field: column) and a template"),
        ({"format": "adgen", "columns": {"content": "a"}}, "belong to the format table alone"),
        ({"format": "adgen", "template": "ad"}, "unknown template 'ad', known: context-target"),
        ({"sources": [{"format": "adgen", "weight": 0}]}, "sources.0.weight"),
        ({"format": "adgen", "lengths": {"target": [9, 3]}}, "the fewest characters come first"),
        ({"format": "xml"}, "format"),
        ({"format": "adgen", "labels": []}, "labels"),
    ],
)
def test_a_section_that_cannot_be_meant_is_one_line(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        section(**values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_format_has_a_layout_and_its_own_template_has_its_fields() -> None:
    assert set(FORMATS) == set(Format.__args__)
    for name, layout in FORMATS.items():
        if name == "table":
            continue
        template = TEMPLATES[own_template(name, layout.fields)]
        assert own_template(name, layout.fields) == OWN_TEMPLATES[name]
        assert set(template.needed) <= set(layout.fields)
