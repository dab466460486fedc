"""Raw rows become records, or refusals with file, line, reason and the raw text."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from glmops.errors import RecipeError
from glmops.prepare import FORMATS, read

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
        ('["一", "二"]', "the line is a list, not an object"),
        ('"一"', "the line is text, not an object"),
        ("null", "the line is null, not an object"),
        ('{"context": "一"}', "expected the keys 'context' and 'target', got 'context'"),
        ("{}", "expected the keys 'context' and 'target', got none"),
        ('{"prompt": "一", "target": "二"}', "got 'prompt', 'target'"),
        ('{"context": "一", "target": "二", "id": 3}', "got 'context', 'target', 'id'"),
        ('{"context": "一", "context": "二", "target": "三"}', "the key 'context' stands twice"),
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


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"Known: {', '.join(sorted(FORMATS))}"):
        read(put(tmp_path, row("一")), "xml")


def test_reading_loads_no_heavy_library() -> None:
    code = "import sys, glmops.prepare; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "glmops.prepare.formats" in loaded
    assert not loaded & {"great_expectations", "pandas", "pyarrow", "torch", "transformers"}


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


@pytest.mark.parametrize(
    ("name", "lines", "reason"),
    [
        ("prompt_response_blank_tail.json", 5, "got 'prompt', 'response'"),
        ("tiku_prompt_completion.json", 29, "got 'prompt', 'completion'"),
        ("two_objects_one_line.json", 1, "a second JSON value at character 44"),
    ],
)
def test_every_row_of_a_real_file_in_another_layout_is_named(
    shared: Callable[[str], Path], name: str, lines: int, reason: str
) -> None:
    records, refusals = read(shared(f"data/bad_inputs/{name}"), "context-target")
    assert records == []
    assert [refusal.line for refusal in refusals] == list(range(1, lines + 1))
    assert all(reason in refusal.reason for refusal in refusals)
