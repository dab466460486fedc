"""Raw rows become records, or refusals with file, line, reason and the raw text."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from glmops.errors import InputError, RecipeError
from glmops.prepare import FORMATS, read
from glmops.prepare.frames import ROWS
from glmops.prepare.rows import read_rows
from glmops.recipe import SourceSettings

CONTEXT = "Instruction: 作答。\nInput: 是什么？\n\n{}\nAnswer: "


def row(text: str, target: str = '["耳机"]') -> str:
    return json.dumps({"context": CONTEXT.format(text), "target": target}, ensure_ascii=False)


def put(folder: Path, *lines: str | bytes, end: bytes = b"\n") -> Path:
    path = folder / "rows.jsonl"
    raw = [line.encode() if isinstance(line, str) else line for line in lines]
    path.write_bytes(b"".join(line + end for line in raw))
    return path


def test_a_row_becomes_a_record_whose_parts_make_the_context_again(tmp_path: Path) -> None:
    path = put(tmp_path, row("  音质 \u3000 偏干 "))
    (record,), refusals = read(path, "context-target")
    assert refusals == []
    assert record.prompt == CONTEXT.format("  音质 \u3000 偏干 ")
    assert (record.head, record.body, record.cue) == (
        "Instruction: 作答。\nInput: 是什么？\n\n",
        "  音质 \u3000 偏干 ",
        "\nAnswer: ",
    )
    assert (record.group, record.task, record.line) == ("音质 偏干", "classification", 1)
    # The id's origin: sha256 of prompt, NUL and target, straight from hashlib.
    content = (CONTEXT.format("  音质 \u3000 偏干 ") + "\0" + '["耳机"]').encode()
    assert record.id == hashlib.sha256(content).hexdigest()[:16]


def test_an_id_depends_on_the_content_and_not_on_the_place(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, _ = read(put(tmp_path / "a", row("一"), row("二")), "context-target")
    second, _ = read(put(tmp_path / "b", row("零"), row("二"), row("一")), "context-target")
    assert {r.body: r.id for r in first}.items() <= {r.body: r.id for r in second}.items()
    assert len({record.id for record in second}) == 3


def test_the_same_text_under_two_questions_is_one_group(tmp_path: Path) -> None:
    other = row("一").replace("是什么？", "换个问法？\\n再答：")
    records, _ = read(put(tmp_path, row("一"), other), "context-target")
    assert len({record.group for record in records}) == 1
    assert len({record.prompt for record in records}) == 2


def test_a_byte_order_mark_and_carriage_returns_change_nothing(tmp_path: Path) -> None:
    plain, _ = read(put(tmp_path, row("一"), row("二")), "context-target")
    marked, refusals = read(
        put(tmp_path, b"\xef\xbb\xbf" + row("一").encode(), row("二"), end=b"\r\n"),
        "context-target",
    )
    assert marked == plain
    assert refusals == []


def test_a_blank_line_is_no_row_only_at_the_very_end(tmp_path: Path) -> None:
    records, refusals = read(put(tmp_path, row("一"), "   "), "context-target")
    assert (len(records), refusals) == (1, [])
    records, refusals = read(put(tmp_path, row("一"), "", row("二"), " ", ""), "context-target")
    assert len(records) == 2
    assert [(r.line, r.reason) for r in refusals] == [
        (2, "a blank line among the rows"),
        (4, "a blank line among the rows"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"context": "一", "target": "二"', "the line is not JSON"),
        ('{"context": "一", "target": "二",}', "the line is not JSON"),
        ("没有引号", "the line is not JSON (Expecting value at character 1)"),
        (f"{row('一')}{row('二')}", "a second JSON value at character"),
        (f"{row('一')} 完", "more text after its end at character"),
        ('["一", "二"]', "the row is a list, not an object"),
        ('"一"', "the row is text, not an object"),
        ("null", "the row is null, not an object"),
        ('{"context": "一"}', "expected the keys 'context' and 'target', got 'context'"),
        ("{}", "expected the keys 'context' and 'target', got none"),
        ('{"prompt": "一", "target": "二"}', "got 'prompt', 'target'"),
        ('{"context": "一", "target": "二", "id": 3}', "got 'context', 'target', 'id'"),
        ('{"context": "一", "context": "二", "target": "三"}', "the key 'context' stands twice"),
        ('{"cont\\ud800": "一", "target": "二"}', r"got 'cont\ud800', 'target'"),
        ('{"context": 3, "target": "二"}', "'context' is a number, not text"),
        ('{"context": "一", "target": null}', "'target' is null, not text"),
        ('{"context": "一", "target": ["耳机"]}', "'target' is a list, not text"),
        ('{"context": "", "target": "二"}', "'context' is empty"),
        ('{"context": "一", "target": " \\n\u3000"}', "'target' is empty"),
        ('{"context": "一\\u0000", "target": "二"}', "the control character U+0000 at character 2"),
        (
            '{"context": "一", "target": "\\u001b[1m"}',
            "the control character U+001B at character 1",
        ),
        (b'{"context": "\x07", "target": "x"}', "the line is not JSON (Invalid control character"),
        ('{"context": "一\\ud83d", "target": "二"}', "half a character, U+D83D at character 2"),
        (b'{"context": "\xb3\xcc", "target": "x"}', "not valid UTF-8 (byte 0xb3 at position 14)"),
        ('{"context": "一", "target": "[]"}', "the target's JSON list is empty"),
        ('{"context": "一", "target": "```json\\n[1"}', "```json block is not JSON"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_row_is_refused_by_file_line_reason_and_raw_text(
    tmp_path: Path, line: str | bytes, reason: str
) -> None:
    path = put(tmp_path, row("一"), line, row("二"))
    records, (refusal,) = read(path, "context-target")
    assert [record.line for record in records] == [1, 3]
    assert (refusal.file, refusal.line) == (str(path), 2)
    assert reason in refusal.reason
    raw = line if isinstance(line, str) else line.decode("utf-8", "backslashreplace")
    assert refusal.raw == raw


def test_line_breaks_and_tabs_are_text(tmp_path: Path) -> None:
    records, refusals = read(put(tmp_path, row("一\n\t二\r\n三\u2028\u00a0")), "context-target")
    assert len(records) == 1
    assert refusals == []


def test_repeated_rows_are_all_read(tmp_path: Path) -> None:
    records, _ = read(put(tmp_path, row("一"), row("一")), "context-target")
    assert [record.line for record in records] == [1, 2]
    assert len({record.id for record in records}) == 1


HEADLINES = [
    "6551_!_101_!_news_culture_!_京城的博物馆_!_保利,博物馆",
    "6552_!_114_!_stock_!_收盘　涨了\t三点_!_",
]


def lines(folder: Path, *rows: object, name: str = "rows.jsonl") -> Path:
    path = folder / name
    texts = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def test_a_headline_is_asked_for_its_category_and_keeps_its_own_id(tmp_path: Path) -> None:
    (first, second), refusals = read(lines(tmp_path, *HEADLINES), "toutiao")
    assert refusals == []
    head, cue = "下面是一条新闻标题，请说出它属于哪个类别。\n标题：", "\n类别："
    assert (first.prompt, first.target) == (f"{head}京城的博物馆{cue}", "news_culture")
    assert (first.id, first.task, first.group) == ("6551", "classification", "京城的博物馆")
    assert (second.body, second.group) == ("收盘　涨了\t三点", "收盘 涨了 三点")


def test_another_template_asks_the_same_rows_for_something_else(tmp_path: Path) -> None:
    path = lines(tmp_path, *HEADLINES)
    (record,), (refusal,) = read(path, "toutiao", template="headline-keywords")
    assert (record.task, record.target) == ("keywords", "保利,博物馆")
    # Two tasks of one headline are two rows, so their ids must differ.
    assert record.id == "6551:headline-keywords"
    # No keywords is no answer, and an empty answer is nothing to learn.
    assert (refusal.line, refusal.reason, refusal.raw) == (2, "'keywords' is empty", HEADLINES[1])
    with pytest.raises(RecipeError, match="it needs the field 'content', and the format toutiao"):
        read(path, "toutiao", template="ad-text")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("6553_!_101_!_news_culture_!_题", "expected 5 fields split by '_!_', got 4"),
        ("6553_!_101_!_news_culture_!_题_!_词_!_", "expected 5 fields split by '_!_', got 6"),
        ("x1_!_101_!_news_culture_!_题_!_", "the id x1 is not a number"),
        ("_!_101_!_news_culture_!_题_!_", "the id  is not a number"),
        ("6553_!_文化_!_news_culture_!_题_!_", "the category code 文化 is not a number"),
        ("6553_!_101_!_news_tech_!_题_!_", "the category code 101 means news_culture, and the"),
        ("6553_!_101_!__!_题_!_", "'category' is empty"),
        ("6553_!_101_!_news_culture_!_ \u3000_!_", "'title' is empty"),
        ("6553_!_101_!_news_culture_!_题\x00_!_", "'title' holds the control character U+0000 at"),
        ("6553_!_101_!_news_culture_!_题\x85_!_", "'title' holds the control character U+0085 at"),
        ("", "a blank line among the rows"),
    ],
)
def test_a_bad_headline_is_refused_and_the_next_is_read(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = lines(tmp_path, HEADLINES[0], line, HEADLINES[1])
    records, (refusal,) = read(path, "toutiao")
    assert [record.line for record in records] == [1, 3]
    assert refusal.reason.startswith(reason)
    assert (refusal.line, refusal.raw) == (2, line)


def test_few_lines_of_another_width_are_bad_rows_and_many_are_another_format(
    tmp_path: Path,
) -> None:
    _, refusals = read(lines(tmp_path, "题_!_1", "题_!_2"), "toutiao")
    assert [refusal.line for refusal in refusals] == [1, 2]
    with pytest.raises(InputError, match="its lines have 2 fields split by '_!_'"):
        read(lines(tmp_path, "题_!_1", "题_!_2", "题_!_3"), "toutiao")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "一", "output": "二", "history": "三"}, "'history' is text, not a list"),
        (
            {"instruction": "一", "output": "二", "history": {}},
            "is an object, not a list",
        ),
        (
            {"instruction": "一", "output": "二", "history": [["三"]]},
            "'history': item 1 is a list of 1, not a [question, answer] pair",
        ),
        (
            {"instruction": "一", "output": "二", "history": [["三", "四"], "五"]},
            "'history': item 2 is text, not a [question, answer] pair",
        ),
        (
            {"instruction": "一", "output": "二", "history": [["三", ""]]},
            "'history': item 1 holds empty text in place of a text",
        ),
        (
            {"instruction": "一", "output": "二", "history": [["三", "\x07"]]},
            "'history' holds the control character U+0007 at character 1",
        ),
        ({"instruction": "一", "input": "二"}, "expected the keys 'instruction' and 'output'"),
        ({"instruction": "一", "output": "二", "system": "三"}, "got 'instruction', 'output', 'sy"),
        ({"instruction": "", "output": "二"}, "'instruction' is empty"),
        ({"instruction": "一", "output": " "}, "'output' is empty"),
        ({"instruction": "一", "input": 3, "output": "二"}, "'input' is a number, not text"),
        (
            {"prompt": "一", "response": "二"},
            "got 'prompt', 'response' (other names are read with format table and columns "
            "{instruction: prompt, output: response})",
        ),
    ],
)
def test_a_bad_instruction_row_is_refused(
    tmp_path: Path, row: dict[str, object], reason: str
) -> None:
    good = {"instruction": "一", "input": "", "output": "二"}
    records, (refusal,) = read(lines(tmp_path, good, row, good), "alpaca")
    assert [record.line for record in records] == [1, 3]
    assert reason in refusal.reason
    assert json.loads(refusal.raw) == row


def test_the_last_three_exchanges_of_a_history_stand_in_the_prompt(tmp_path: Path) -> None:
    history = [[f"问{n}", f"答{n}"] for n in range(5)]
    row = {"instruction": "一", "input": "", "output": "二", "history": history}
    (record,), _ = read(lines(tmp_path, row), "alpaca")
    earlier = "".join(f"问：问{n}\n答：答{n}\n" for n in (2, 3, 4))
    assert (record.prompt, record.group) == (f"{earlier}问：一\n答：", "一")


def test_an_empty_text_as_history_is_repaired_and_said(tmp_path: Path) -> None:
    rows = [{"instruction": "一", "output": "二", "history": history} for history in ("", [], None)]
    batches = list(read_rows(lines(tmp_path, *rows), SourceSettings(format="alpaca")))
    assert [batch.rows["head"].to_list() for batch in batches] == [["问："] * 3]
    repairs = [text for batch in batches for text in batch.raw["repair"]]
    assert repairs == ["an empty text as 'history' is read as no history", None, None]


def turn(role: str, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


@pytest.mark.parametrize("key", ["conversations", "messages"])
def test_a_conversation_ends_with_the_answer(tmp_path: Path, key: str) -> None:
    turns = [
        turn("system", "守则"),
        turn("user", "一"), turn("assistant", "二"),
        turn("user", "三"), turn("assistant", "四"),
    ]  # fmt: skip
    (record, other), refusals = read(
        lines(tmp_path, {key: turns}, {key: turns[1:3]}), "conversations"
    )
    assert refusals == []
    assert (record.prompt, record.target) == ("问：一\n答：二\n问：守则\n三\n答：", "四")
    assert (other.prompt, other.target) == ("问：一\n答：", "二")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"conversations": []}, "'conversations' is empty, not a list of turns"),
        ({"messages": "x"}, "'messages' is text, not a list of turns"),
        ({"messages": [], "tools": []}, "expected the one key 'conversations' or 'messages'"),
        ({"messages": [turn("system", "x")]}, "does not end with an answer of 'assistant'"),
        ({"messages": [turn("user", "x")]}, "does not end with an answer of 'assistant'"),
        ({"messages": [turn("assistant", "x")]}, "'assistant' speaks where 'user' should"),
        ({"messages": [turn("user", "x"), turn("user", "y")]}, "'user' speaks where 'assistant'"),
        ({"messages": [turn("tool", "x")]}, "the role of turn 1 is 'tool', not user or assistant"),
        (
            {"messages": [turn("user", "x"), turn("system", "y")]},
            "the role of turn 2 is 'system', not user or assistant",
        ),
        (
            {"messages": [turn("user", ""), turn("assistant", "x")]},
            "turn 1 is empty text",
        ),
        ({"messages": [turn("user", "x"), turn("assistant", None)]}, "turn 2 is null, not text"),
        ({"messages": [{"from": "human", "value": "x"}]}, "turn 1 must have 'role' and 'content'"),
        ({"messages": [3]}, "turn 1 must have 'role' and 'content', got a number"),
    ],
)
def test_a_conversation_of_another_shape_is_refused(
    tmp_path: Path, row: dict[str, object], reason: str
) -> None:
    good = {"messages": [turn("user", "一"), turn("assistant", "二")]}
    records, (refusal,) = read(lines(tmp_path, good, row), "conversations")
    assert len(records) == 1
    assert (refusal.line, reason in refusal.reason) == (2, True), refusal.reason


def test_a_source_knows_its_files_index_and_weight(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        lines(tmp_path, *HEADLINES, name=name)
    source = SourceSettings(format="toutiao", files="[ab].txt", weight=2.5)
    opened = []
    (one, other) = read_rows(tmp_path, source, index=3, on_file=opened.append)
    assert [seen.file.path.name for seen in opened] == ["a.txt", "b.txt"]
    rows = pl.concat([one.rows, other.rows])
    assert rows.columns == list(ROWS)
    assert rows["source"].to_list() == [3] * 4
    assert rows["weight"].to_list() == [2.5] * 4
    assert rows["template"].to_list() == ["headline-category"] * 4
    assert (one.read, other.read) == (2, 2)


def test_every_raw_row_is_in_the_rows_or_in_the_refusals(tmp_path: Path) -> None:
    path = lines(tmp_path, HEADLINES[0], "x", "", HEADLINES[1], "7_!_101_!_news_culture_!__!_")
    (batch,) = read_rows(path, SourceSettings(format="toutiao"))
    assert batch.rows["line"].to_list() == batch.raw["line"].to_list() == [1, 4]
    assert batch.refusals["line"].to_list() == [2, 3, 5]
    assert batch.read == 5


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"Known: {', '.join(sorted(FORMATS))}"):
        read(put(tmp_path, row("一")), "xml")


def test_reading_loads_no_heavy_library() -> None:
    code = "import sys, glmops.prepare; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "glmops.prepare.formats" in loaded
    assert not loaded & {"great_expectations", "pandas", "polars", "pyarrow", "torch"}


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        # Counts as the data's own README gives them: 500 + 402, 73 and 5 rows, none repeated.
        ("mixed_train_dataset.jsonl", {"triples": 500, "classification": 402}),
        ("mixed_dev_part.jsonl", {"triples": 38, "classification": 35}),
        ("dataset.jsonl", {"triples": 5}),
    ],
)
def test_every_published_row_is_read(
    shared: Callable[[str], Path], name: str, tasks: dict[str, int]
) -> None:
    records, refusals = read(shared(f"data/mixed/{name}"), "context-target")
    assert refusals == []
    assert Counter(record.task for record in records) == tasks
    assert len({record.id for record in records}) == len(records)
