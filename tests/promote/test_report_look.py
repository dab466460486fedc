"""The report in a real browser: what it asks for, what it complains of, how wide it gets."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Browser, browser
from glmops.promote import package
from glmops.promote.compare import compare
from glmops.promote.compare_page import render as render_comparison
from glmops.promote.evaluated import read_evaluated
from glmops.promote.gate import decide
from glmops.promote.report import render
from glmops.records import Score, read_table
from glmops.storage import write_text

HISTORY = [
    {"phase": "lora", "step": str(s), "loss": f"{3 / s}", "learning_rate": "0.001"}
    for s in range(1, 9)
]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def pages(workshop) -> list[Path]:
    """A refused candidate's report beside its champion, and the comparison of the two."""
    layout, recipe = workshop.layout, workshop.recipe
    evaluated, champion = layout.reports("evaluate"), workshop.root / "champion"
    shutil.copytree(evaluated, champion)
    workshop.train("weak", right=100)
    write_text(
        evaluated / "calibration.csv",
        "range,confidence,accuracy,rows\n0.5-0.6,0.55,0.5,20\n0.9-1.0,0.95,0.9,100\n",
    )
    made = package.manifest_of(layout, package.sections_of(recipe), overrides={"train.seed": 2})
    mine, theirs = (
        read_table(folder / "scores.parquet", Score) for folder in (evaluated, champion)
    )
    verdict = decide(mine, theirs, recipe.promote, same_test=True)
    report = layout.reports("promote") / "report.html"
    write_text(report, render(layout, made, verdict, "c" * 64, HISTORY, (), champion))
    models = [read_evaluated(champion, "demo"), read_evaluated(evaluated, "demo@0123456789ab")]
    comparison = workshop.root / "compare.html"
    write_text(comparison, render_comparison(compare(models)))
    return [report, comparison]


@pytest.mark.parametrize("width", [360, 820, 1400])
def test_pages_ask_for_nothing_complain_of_nothing_and_fit_any_width(
    tab: Browser, pages: list[Path], width: int
) -> None:
    for page in pages:
        tab.open(page, width=width)
        assert tab.requested() == [page.resolve().as_uri()]
        assert tab.complaints() == []
        assert tab.value("document.documentElement.scrollWidth") <= width
        assert tab.value("document.querySelectorAll('article').length") > 0


def test_a_row_that_was_lost_shows_both_answers(tab: Browser, pages: list[Path]) -> None:
    tab.open(pages[0])
    lost = tab.value("document.querySelector('#changes article').innerText")
    for part in ("right", "wrong", "champion", "candidate", "expected"):
        assert part in lost


def test_links_within_the_page_lead_somewhere(tab: Browser, pages: list[Path]) -> None:
    for page in pages:
        tab.open(page)
        lost = tab.value(
            "[...document.querySelectorAll('a[href^=\"#\"]')]"
            ".filter(a => !document.querySelector(a.getAttribute('href'))).length"
        )
        assert lost == 0


def test_the_report_prints(tab: Browser, pages: list[Path]) -> None:
    tab.open(pages[0])
    assert tab.pdf().startswith(b"%PDF")
    tab.ask("Emulation.setEmulatedMedia", media="print")
    assert tab.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert tab.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.ask("Emulation.setEmulatedMedia", media="")
