from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from glmops.promote import package
from glmops.promote.confusion import confusion
from glmops.promote.curves import training_curves
from glmops.promote.evaluated import read_evaluated
from glmops.promote.gate import decide
from glmops.promote.report import render
from glmops.records import Score, read_table, write_table
from glmops.storage import write_json, write_jsonl


class Page(HTMLParser):
    """The page's elements and its text, as a browser would read them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.style = ""
        self.within_texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        if self.tags and self.tags[-1][0] == "pre" and not self.closed:
            self.within_texts.append(tag)
        self.closed = False
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.closed = True

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "style" and not self.style:
            self.style = data
        else:
            self.text += data


@pytest.fixture
def page(workshop) -> Page:
    """The report of a candidate that falls short by accuracy alone: 100 of 120 rows right."""
    workshop.train("weak", right=100)
    return Page(rendered(workshop, **{"train.seed": 2}))


def rendered(workshop, **overrides) -> str:
    """The page that registering would write, without MLflow."""
    layout, recipe = workshop.layout, workshop.recipe
    made = package.manifest_of(layout, package.sections_of(recipe), overrides=overrides)
    scores = read_table(layout.reports("evaluate") / "scores.parquet", Score)
    verdict = decide(scores, None, recipe.promote, same_test=True)
    history = [{"phase": "lora", "step": str(s), "loss": f"{3 / s}"} for s in range(1, 9)]
    return render(layout, made, verdict, None, history)


def test_the_verdict_the_warning_and_the_shortfall_come_first(page: Page) -> None:
    order = [
        "Refused: the gate's rules are not met.",
        "This proves the pipeline, not a model",
        "classification/accuracy is 0.8333",  # 100 / 120
        "0.0667 short",  # 0.9 - 0.8333
        "Intervals hold",
    ]
    places = [re.sub(r"\s", " ", page.text).find(part) for part in order]
    assert -1 not in places
    assert places == sorted(places)


def test_the_page_says_what_was_changed_and_what_it_is(page: Page) -> None:
    for part in ("train.seed = 2", "b" * 64, "rows › accepted", "800", "majority"):
        assert part in page.text


def test_the_page_asks_the_network_for_nothing(page: Page) -> None:
    assert {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object"} == set()
    addresses = [
        value
        for _, attributes in page.tags
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "srcset", "action", "data")
    ]
    assert all(value.startswith("#") or value == "verdict.json" for value in addresses)
    assert "--accent" in page.style
    assert "url(" not in page.style
    assert "@import" not in page.style


def test_what_a_model_wrote_is_text_and_never_markup(page: Page) -> None:
    assert "<script>x</script>" in page.text  # the answer of every triples row
    assert "句子 t" in page.text
    assert "<b>&" in page.text
    assert page.within_texts == []


def test_eight_wrong_and_eight_random_answers_are_shown(page: Page) -> None:
    assert [tag for tag, _ in page.tags].count("article") == 16
    wrong = page.text[page.text.index("Wrong answers") : page.text.index("drawn at random")]
    assert len(re.findall(r"(classification|triples)\s+(wrong|f1 0\.9000)", wrong)) == 8


def test_the_page_is_the_same_every_time(workshop) -> None:
    assert rendered(workshop) == rendered(workshop)


def test_a_page_without_some_reports_still_stands(workshop) -> None:
    (workshop.layout.reports("evaluate") / "confusion.csv").unlink()
    (workshop.layout.reports("prepare") / "metrics.json").unlink()
    page = Page(rendered(workshop))
    assert "Passed: every rule of the gate holds." in page.text
    assert "expected against answered" not in page.text


def test_a_hostile_label_and_description_are_escaped(workshop) -> None:
    path = workshop.root / "recipes" / "demo.yaml"
    text = path.read_text(encoding="utf-8").replace("This proves", "<img src=x onerror=y> This")
    path.write_text(text, encoding="utf-8")
    table = workshop.layout.reports("evaluate") / "confusion.csv"
    table.write_text('expected,answered\n水果,"</table><svg onload=z>"\n', encoding="utf-8")
    counts = workshop.layout.reports("prepare") / "metrics.json"
    write_json(counts, {"files": {"<kbd>a.jsonl</kbd>": 3}})
    page = Page(rendered(workshop))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"img", "kbd"}
    assert not any("onload" in attributes for _, attributes in page.tags)
    for part in ("<img src=x onerror=y>", "</table><svg onload=z>", "<kbd>a.jsonl</kbd>"):
        assert part in page.text


def test_each_phase_of_training_has_its_curves_in_the_pages_colours() -> None:
    rows = [
        {
            "step": str(s),
            "phase": phase,
            "loss": f"{3 / s}",
            "learning_rate": "0.001",
            "dev_loss": "1.0" if s == 5 else "",
        }
        for phase in ("base", "lora")
        for s in range(1, 10)
    ]
    speeds = [{"step": "9", "phase": "lora", "tokens_per_second": "5000.0"}]
    curves = training_curves(rows, speeds)
    assert [title for title, _ in curves] == [
        "base: loss", "base: learning rate",
        "lora: loss", "lora: learning rate", "lora: tokens per second",
    ]  # fmt: skip
    for _, svg in curves:
        assert svg.startswith("<svg")
        assert "var(--accent)" in svg
        assert not re.search(r"#0[1-4]0[1-4]0[1-4]", svg)
        assert "<style" not in svg
    assert training_curves([], []) == []


def test_rare_labels_share_one_line(tmp_path: Path) -> None:
    pairs = [(f"label{i:02}", f"label{i:02}") for i in range(30) for _ in range(40 - i)]
    pairs += [("label00", "an invention"), ("label29", "label00")]
    path = tmp_path / "confusion.csv"
    path.write_text(
        "expected,answered\n" + "".join(f"{e},{a}\n" for e, a in pairs), encoding="utf-8"
    )
    table = confusion(path)
    assert table is not None
    assert len(table["answered"]) == len(table["rows"]) == 12
    assert table["answered"][-1] == "(others)"
    assert sum(row["total"] for row in table["rows"]) == len(pairs)
    assert table["rows"][0]["cells"][0] == (40, True, 98)  # 40 of 41
    assert table["rows"][-1]["cells"][0][:2] == (1, False)


def test_a_row_is_right_wrong_or_in_between(tmp_path: Path) -> None:
    scores = [
        Score("a", "classification", "accuracy", 1, 1),
        Score("b", "classification", "accuracy", 0, 1),
        Score("c", "triples", "f1", 4, 6),
        Score("d", "triples", "f1", 0, 0),  # nothing expected, nothing answered
        Score("e", "generation", "rouge-l", 34.5, 1),
        Score("e", "generation", "bleu-4", 3.5, 1),
    ]
    write_table(tmp_path / "scores.parquet", scores, Score)
    write_jsonl(tmp_path / "answers.jsonl", [{"id": id} for id in "abcde"])
    write_json(tmp_path / "scorecard.json", {})
    marks = read_evaluated(tmp_path, "").marks()
    assert {id: (mark.right, mark.text) for id, mark in marks.items()} == {
        "a": (True, "right"),
        "b": (False, "wrong"),
        "c": (False, "f1 0.6667"),
        "d": (True, "right"),
        "e": (False, "rouge-l 34.50"),
    }
    assert marks["e"].quality == pytest.approx(0.345)
