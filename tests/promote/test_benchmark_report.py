"""The benchmark of the report runs, on a page of which it knows the size. No time is asserted."""

from __future__ import annotations

from pathlib import Path

from benchmarks import report
from glmops.storage import read_json


def test_the_page_shows_a_candidate_and_its_champion(tmp_path: Path) -> None:
    rows = report.records(240)
    mine = report.evaluate(tmp_path / "mine", rows, 1.0, 1)
    theirs = report.evaluate(tmp_path / "theirs", rows, 0.5, 2).reports("evaluate")
    card = read_json(mine.reports("evaluate") / "scorecard.json")
    # Who is always right is right about all 120 headlines, and writes all 120 texts as they are.
    assert card["classification"]["accuracy"] == 1.0
    assert card["generation"]["rouge-l"] == 100.0
    assert report.report(mine, theirs, report.judge(mine, theirs)) > 20_000
    page = (mine.reports("promote") / "report.html").read_text(encoding="utf-8")
    assert "Passed: every rule of the gate holds." in page


def test_every_round_is_timed() -> None:
    assert len(report.main(["--rows", "40", "--rounds", "2"])) == 2
