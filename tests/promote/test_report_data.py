"""What the candidate's report says of its data: the card's numbers, and where the pages are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glmops.prepare.check import check
from glmops.promote.report import card_summary, data_pages
from glmops.storage import write_json, write_text

pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

TITLE = "很长的一个标题，讲的是一件没有人想到过的事情，还讲得很仔细"


@pytest.fixture
def prepared(workshop: Any) -> Any:
    """A set with the card of four rows: two that repeat, one near copy, one refused row."""
    rows = [
        {"content": TITLE, "summary": "一"},
        {"content": TITLE, "summary": "一"},
        {"content": TITLE + "！", "summary": "<i>二</i>"},
        {"content": "", "summary": "三"},
    ]
    path = workshop.root / "rows.json"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    folder = workshop.layout.reports("prepare")
    write_json(folder / "card.json", check(path, "adgen")["card"])
    write_text(folder / "card.html", "<title>card</title>")
    write_text(folder / "data_docs" / "index.html", "<title>docs</title>")
    return workshop


def test_the_key_numbers_are_the_cards(prepared: Any) -> None:
    found = card_summary(prepared.layout)
    assert found is not None
    assert found["numbers"] == {
        "rows read": 4,
        "refused": 1,
        "exact repeats": 1,
        "near copies": 1,
        "texts under several labels": 0,
        "leaks": 0,
    }
    assert "Refused rows: 1 of 4 (25.0 %)." in [each["what"] for each in found["concerns"]]


def test_the_links_lead_from_the_report_to_the_pages(prepared: Any) -> None:
    report = prepared.layout.reports("promote") / "report.html"
    pages = data_pages(prepared.layout)
    assert [title for title, _, _ in pages] == ["Data card", "Data Docs"]
    for _, address, place in pages:
        assert (report.parent / address).resolve() == (prepared.root / place).resolve()
        assert (prepared.root / place).is_file()


def test_without_a_card_there_is_no_link_to_one(workshop: Any) -> None:
    assert card_summary(workshop.layout) is None
    assert data_pages(workshop.layout) == []


def test_the_report_shows_them(prepared: Any) -> None:
    from glmops.promote import package
    from glmops.promote.gate import decide
    from glmops.promote.report import render
    from glmops.records import Score, read_table

    prepared.train("weak", right=100)
    layout, recipe = prepared.layout, prepared.recipe
    made = package.manifest_of(layout, package.sections_of(recipe), overrides={})
    scores = read_table(layout.reports("evaluate") / "scores.parquet", Score)
    page = render(layout, made, decide(scores, None, recipe.promote, same_test=True), None, [])
    assert '<a href="../prepare/card.html">Data card</a>' in page
    assert '<a href="../prepare/data_docs/index.html">Data Docs</a>' in page
    assert f"<code>reports/{Path(layout.reports('prepare')).parent.name}/prepare/card.html" in page
    assert "Texts that are near copies of others (alike by 0.9 or more): 1." in page
