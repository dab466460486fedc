"""The card as a page: what rows hold is text, nothing is fetched, what is wrong comes first."""

from __future__ import annotations

import html
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from glmops.cli import main
from glmops.prepare.card.page import card_page, label_bars
from glmops.prepare.check import check

pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

NASTY = '</pre><script>alert(1)</script><img src="http://evil.example/x.png" onerror=x>'
TURNED = "前\u202e后\u200b"
ROWS = [
    {"content": NASTY, "summary": "</style><b>粗体</b>"},
    {"content": NASTY, "summary": "</style><b>粗体</b>"},
    {"content": TURNED, "summary": "短"},
    {"content": "长" * 900, "summary": "<UNK>"},
    {"content": "", "summary": "<i>没有内容</i>"},
]


class Page(HTMLParser):
    """Tags with their attributes, and the text outside the style."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.parts: list[str] = []
        self.inside: list[str] = []
        self.feed(source)
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self.inside:
            self.parts.append(data)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("page") / "<u>rows.json"
    path.write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), encoding="utf-8"
    )
    return check(path, "adgen")


def test_what_rows_hold_is_text_and_never_markup(found: dict[str, Any]) -> None:
    source = card_page(found["card"])
    page = Page(source)
    strange = {"script", "img", "i", "u", "link", "iframe"}
    assert not {tag for tag, _ in page.tags} & strange
    assert not any(name.startswith("on") for _, given in page.tags for name in given)
    for text in (NASTY, "</style><b>粗体</b>", "<i>没有内容</i>", "<u>rows.json"):
        assert html.escape(text, quote=True).replace("&quot;", "&#34;") in source
    # A sign that turns the text around it, and one that nobody sees, are named.
    assert "前‹U+202E›后‹U+200B›" in page.text
    assert "\u202e" not in source


def test_the_page_asks_for_nothing_but_the_data_docs_beside_it(found: dict[str, Any]) -> None:
    addresses = {
        value
        for tag, given in Page(card_page(found["card"], docs=True)).tags
        for name, value in given.items()
        if name in ("href", "src", "xlink:href", "action", "data")
    }
    assert {each for each in addresses if each and not each.startswith("#")} == {
        "data_docs/index.html"
    }
    source = card_page(found["card"])
    style = source[source.index("<style>") : source.index("</style>")]
    assert not re.search(r"url\(|@import", style)
    assert "data_docs" not in source


def test_long_texts_are_cut_with_a_mark(found: dict[str, Any]) -> None:
    page = Page(card_page(found["card"]))
    assert "长" * 400 + "… (500 more characters)" in page.text
    assert "长" * 401 not in page.text


def test_the_verdict_and_what_is_wrong_come_before_the_numbers(found: dict[str, Any]) -> None:
    page = Page(card_page(found["card"]))
    order = [
        page.text.index(part)
        for part in (
            "things before a model learns from it",
            "Refused rows: 1 of 5 (20.0 %).",
            "5 rows read",
            "Refused rows, by reason",
            "Duplicates",
            "Lengths, in characters",
            "Where the rows come from",
        )
    ]
    assert order == sorted(order)
    assert found["card"]["refusals"]["kinds"][0]["reason"] == "'content' is empty"


def test_equal_numbers_give_equal_pages(found: dict[str, Any]) -> None:
    assert card_page(found["card"]) == card_page(json.loads(json.dumps(found["card"])))


def test_a_set_that_leaks_is_not_to_be_trained_on(found: dict[str, Any]) -> None:
    card = dict(found["card"])
    card["concerns"] = [{"level": "stop", "what": "leaks"}, *card["concerns"]]
    assert "Do not train on this as it is" in Page(card_page(card)).text


def test_bars_are_shares_of_their_side() -> None:
    bars = label_bars({"train": {"甲": 30, "乙": 10}, "dev": {"乙": 1, "甲": 1}, "test": {}})
    assert bars["sides"] == ["train", "dev"]
    assert bars["largest"] == 0.75
    assert [(row["label"], row["sides"]) for row in bars["rows"]] == [
        ("甲", [("train", 30, 0.75), ("dev", 1, 0.5)]),
        ("乙", [("train", 10, 0.25), ("dev", 1, 0.5)]),
    ]


def test_the_command_writes_the_page_and_json_holds_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, page = tmp_path / "rows.json", tmp_path / "new" / "card.html"
    rows.write_text('{"content": "一", "summary": "二"}\n', encoding="utf-8")
    words = ["glmops", "check", str(rows), "--format", "adgen", "--card", str(page), "--json"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["accepted"], found["refused"]) == (1, 1, 0)
    assert found["card"]["rows"]["read"] == 1
    assert found["card"]["files"][str(rows)]["lines"] == 1
    assert page.read_text(encoding="utf-8") == card_page(found["card"])
    assert "Nothing speaks against these rows." in Page(page.read_text(encoding="utf-8")).text


def test_no_page_is_written_of_a_file_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, page = tmp_path / "rows.json", tmp_path / "card.html"
    rows.write_text("", encoding="utf-8")
    words = ["glmops", "check", str(rows), "--format", "adgen", "--card", str(page), "--json"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "no card is written" in capsys.readouterr().err.replace("\n", " ")
    assert not page.exists()


def test_a_file_of_which_nothing_is_left_has_a_card_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("1_!_2\n3_!_4\n1_!_2_!_3\n", encoding="utf-8")
    card = check(path, "toutiao")["card"]
    assert (card["rows"]["refused"], card["examples"], card["lengths"]) == (3, [], {})
    text = Page(card_page(card)).text
    assert text.index("Do not train on this") < text.index("Refused rows: 3 of 3 (100.0 %).")
