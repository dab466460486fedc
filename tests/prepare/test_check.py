"""`glmops check`: one document for every file, what is odd counted, exit code 2 for what is bad."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from glmops.cli import main
from glmops.errors import RecipeError
from glmops.prepare.check import check, columns_of

pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

ROWS = [
    "1_!_101_!_news_culture_!_京城的\u00a0博物馆_!_保利,博物馆",
    "2_!_102_!_news_entertainment_!_一部<b>新片</b>_!_",
    "3_!_102_!_news_entertainment_!_一部<b>新片</b>_!_",
    "4_!_103_!_news_sports_!_一部<b>新片</b>_!_",
]


def put(folder: Path, *lines: str, name: str = "rows.txt") -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["glmops", "check", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_the_document_of_a_good_file_counts_what_is_in_it(tmp_path: Path) -> None:
    found = check(put(tmp_path, *ROWS), "toutiao")
    assert {key: found[key] for key in ("rows", "accepted", "refused", "encoding", "refusals")} == {
        "rows": 4, "accepted": 4, "refused": 0, "encoding": "utf-8", "refusals": [],
    }  # fmt: skip
    # Rows 2 and 3 are the same prompt and answer; 4 gives their title another label.
    assert (found["duplicates"], found["repeated_texts"]) == (1, 2)
    assert found["conflicts"] == {"texts": 1, "rows": 3}
    assert found["labels"] == {"news_culture": 1, "news_entertainment": 1, "news_sports": 1}
    assert found["oddities"] == {"no-break-space": 1, "html-tag": 6, "empty keywords": 3}
    head, cue = "下面是一条新闻标题，请说出它属于哪个类别。\n标题：", "\n类别："
    shortest, longest = len("京城的 博物馆"), len("一部<b>新片</b>")
    assert found["characters"]["prompt"] == {
        "min": len(head + cue) + shortest,
        "median": len(head + cue) + longest,
        "max": len(head + cue) + longest,
    }
    assert json.loads(json.dumps(found)) == found


def test_refused_rows_are_named_and_the_command_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(tmp_path, ROWS[0], "5_!_101", ROWS[1], "")
    code, out, _ = command(monkeypatch, capsys, path, "--format", "toutiao")
    assert code == 2
    lines = out.splitlines()
    assert lines[0] == f"{path}:2: expected 5 fields split by '_!_', got 2"
    assert lines[1] == "3 rows, 2 good, 1 refused (utf-8)"
    assert "  labels: news_culture 1, news_entertainment 1" in lines
    assert "  look: Refused rows: 1 of 3 (33.3 %)." in lines
    assert "  note: html-tag: 2" in lines


def test_a_good_file_ends_with_0_and_json_is_all_that_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(tmp_path, "标题\t类", "天气\t生活", name="rows.tsv")
    code, out, _ = command(
        monkeypatch, capsys, path, "--format", "table", "--column", "title=标题",
        "--column", "category=类", "--template", "headline-category", "--json",
    )  # fmt: skip
    assert code == 0
    found = json.loads(out)
    assert (found["rows"], found["labels"]) == (1, {"生活": 1})


@pytest.mark.parametrize(
    ("text", "format", "line", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\n", "toutiao", 0, "Git LFS pointer"),
        ("", "adgen", 0, "the file is empty"),
        ('[{"content": "a", "summary": "b"},\n]', "adgen", 2, "a comma stands before"),
        ("a_!_1\nb_!_2\nc_!_3\n", "toutiao", 0, "its lines have 2 fields"),
        ("uuid,title\n1,2\n", "paper", 1, "no column 'author' and 'abstract'"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_document_too(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    format: str,
    line: int,
    said: str,
) -> None:
    path = tmp_path / "rows"
    path.write_text(text, encoding="utf-8")
    code, out, _ = command(monkeypatch, capsys, path, "--format", format, "--json")
    assert code == 2
    found: dict[str, Any] = json.loads(out)
    assert (found["rows"], found["accepted"], found["refused"]) == (1, 0, 1)
    (refusal,) = found["refusals"]
    assert (refusal["file"], refusal["line"]) == (str(path), line)
    assert said in refusal["reason"]
    # Without --json it is the one line that every fault is.
    code, out, err = command(monkeypatch, capsys, path, "--format", format)
    assert (code, out, said in err.replace("\n", " ")) == (2, "", True)


def test_a_table_without_columns_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--column title=headline --column category=label"):
        check(put(tmp_path, "a,b"), "table")
    with pytest.raises(RecipeError, match="Known: adgen, alpaca, context-target"):
        check(put(tmp_path, "a,b"), "xml")


def test_columns_are_names_or_places() -> None:
    assert columns_of(["title=a=b", "category=2"]) == {"title": "a=b", "category": 2}
    for wrong in (["title"], ["=a"], ["title="], ["title=a", "title=b"]):
        with pytest.raises(RecipeError, match="--column: "):
            columns_of(wrong)


def test_columns_that_nobody_asked_for_are_named(tmp_path: Path) -> None:
    path = put(tmp_path, "uuid,title,author,abstract,label,venue", "1,t,a,x,1,v", name="rows.csv")
    assert check(path, "paper")["files"][str(path)]["unread_columns"] == ["venue"]
